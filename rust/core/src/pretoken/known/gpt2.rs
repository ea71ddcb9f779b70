//! GPT-2's pattern, alone and behind `Digits`.

use super::eye::{EXACT, Eye, needs};
use super::{Scanner, block};
use crate::pretoken::classes::{Class, Classes, LATER_NUMBER, LETTER, NUMBER, NUMERIC, SIGN, SPACE};

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
///
/// With `DIGITS`, what the sequence of `Digits { individual_digits: true }` and that pattern does: every numeric
/// character is a piece of its own, and the text before it ends there.
#[derive(Clone, Copy, Debug)]
pub struct Gpt2<const DIGITS: bool> {
    classes: &'static Classes,
}

impl<const DIGITS: bool> Gpt2<DIGITS> {
    const NEEDS: [u8; 256] = needs(LETTER, SPACE, Some(b' '), None);

    pub(super) fn new() -> Self {
        Self { classes: Classes::get() }
    }

    #[inline(always)]
    fn scan<const TRACK: bool>(&self, text: &[u8], pos: usize) -> (usize, usize) {
        let mut eye = Eye::<TRACK>::new(text, self.classes);
        if let Some(end) = eye.short_word(pos, &Self::NEEDS) {
            return (end, eye.reach());
        }
        self.scan_any::<TRACK>(text, pos)
    }

    #[inline(never)]
    fn scan_any<const TRACK: bool>(&self, text: &[u8], pos: usize) -> (usize, usize) {
        let mut eye = Eye::<TRACK>::new(text, self.classes);
        let end = Self::end(&mut eye, pos);
        (end, eye.reach())
    }

    #[inline(always)]
    fn end<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, pos: usize) -> usize {
        let sign: Class = if DIGITS { SIGN & !LATER_NUMBER } else { SIGN };
        let first = eye.text[pos];
        let start = pos + usize::from(first == b' ');
        let (class, len) = eye.at(start);
        if class & LETTER != 0 {
            return eye.letters(start + len, |c| c & LETTER != 0);
        }
        if first == b'\''
            && let Some(end) = eye.contraction::<EXACT>(pos)
        {
            return end;
        }
        if class & sign != 0 {
            return eye.run(start + len, |c| c & sign != 0);
        }
        if DIGITS && class & NUMERIC != 0 {
            return if start > pos { start } else { pos + len };
        }
        if class & NUMBER != 0 {
            return eye.run(start + len, |c| c & NUMBER != 0);
        }
        if start == pos && class & SPACE == 0 {
            return eye.malformed(pos);
        }
        let run = eye.spaces(pos);
        run.before_word(run.next == 0 || (DIGITS && run.next & NUMERIC != 0))
    }
}

impl<const DIGITS: bool> Scanner for Gpt2<DIGITS> {
    #[inline]
    fn next(&self, text: &[u8], pos: usize) -> usize {
        self.scan::<false>(text, pos).0
    }

    #[inline]
    fn cuts_ahead(&self, text: &[u8], pos: usize) -> u64 {
        block::gpt2::<DIGITS>(text, pos)
    }

    #[inline]
    fn next_with_reach(&self, text: &[u8], pos: usize) -> (usize, usize) {
        self.scan::<true>(text, pos)
    }
}
