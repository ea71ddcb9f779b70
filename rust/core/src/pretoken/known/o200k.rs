//! The family of o200k: GPT-4o, Llama 4, Tekken, Kimi.

use super::eye::{Eye, NONE, needs};
use super::{Scanner, block};
use crate::pretoken::classes::{
    CASELESS, Class, Classes, HAN, LETTER, LOWER, MARK, NEWLINE, NUMBER, SIGN, SLASH, SPACE, UPPER,
};

/// `[^\r\n\p{L}\p{N}]?U*L+C?|[^\r\n\p{L}\p{N}]?U+L*C?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
/// with `U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, `L = [\p{Ll}\p{Lm}\p{Lo}\p{M}]` and `C = (?i:'s|'t|'re|'ve|'m|'ll|'d)`.
///
/// `FOLD` is `NONE` where `C` is missing; `DIGITS` is the most digits of a piece. With `KIMI`, `[\p{Han}]+` comes first,
/// `U` and `L` are without it, and `[\r\n/]` is `[\r\n]`.
#[derive(Clone, Copy, Debug)]
pub struct O200k<const FOLD: u8, const DIGITS: usize, const KIMI: bool> {
    classes: &'static Classes,
}

/// What starts somewhere as a word.
enum Word {
    /// `U*L+`, ending here.
    Ends(usize),
    /// `U+`, ending here, and no `U*L+`.
    Capitals(usize),
    None,
}

impl<const FOLD: u8, const DIGITS: usize, const KIMI: bool> O200k<FOLD, DIGITS, KIMI> {
    /// A lower-case letter alone, or a capital or what may stand in front of a word with a lower-case letter behind it.
    const NEEDS: [u8; 256] = needs(LOWER, UPPER | SPACE | SIGN, None, None);

    pub(super) fn new() -> Self {
        Self { classes: Classes::get() }
    }

    #[inline(always)]
    fn scan<const TRACK: bool>(&self, text: &[u8], pos: usize) -> (usize, usize) {
        let mut eye = Eye::<TRACK>::new(text, self.classes);
        if let Some(end) = eye.short_lower(pos, &Self::NEEDS) {
            let end = Self::with_contraction(&mut eye, end);
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
    fn is(class: Class, mask: Class) -> bool {
        class & mask != 0 && !(KIMI && class & HAN != 0)
    }

    /// The word at `i`.
    ///
    /// `U*L+` takes the longest run of `U` and then of `L`. Where no `L` follows, it gives characters of the run back
    /// until the first of them is in `L` too, so it ends behind the run's last character of both sets.
    #[inline(always)]
    fn word<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, i: usize) -> Word {
        let (mut at, mut both_end) = (i, 0);
        loop {
            let (class, len) = eye.at(at);
            if !Self::is(class, UPPER | CASELESS | MARK) {
                return if Self::is(class, LOWER) {
                    Word::Ends(eye.lowers(at, |c| Self::is(c, LOWER | CASELESS | MARK)))
                } else if both_end > 0 {
                    Word::Ends(both_end)
                } else if at > i {
                    Word::Capitals(at)
                } else {
                    Word::None
                };
            }
            at += len;
            if class & (CASELESS | MARK) != 0 {
                both_end = at;
            }
        }
    }

    #[inline(always)]
    fn with_contraction<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, end: usize) -> usize {
        if FOLD == NONE { end } else { eye.contraction::<FOLD>(end).unwrap_or(end) }
    }

    #[inline(always)]
    fn end<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, pos: usize) -> usize {
        let first = eye.text[pos];
        let space = usize::from(first == b' ');
        let (class, len) = eye.at(pos);
        if KIMI && class & HAN != 0 {
            return eye.run(pos, |c| c & HAN != 0);
        }
        // A letter starts a word; anything else but a digit or a line end may stand in front of one.
        let start = if class & LETTER != 0 { pos } else { pos + len };
        if class & (NUMBER | NEWLINE) == 0 && class != 0 {
            match Self::word(eye, start) {
                // A mark in front of capitals: `U*L+` without the optional character takes the mark alone.
                Word::Capitals(_) | Word::None if class & MARK != 0 => {
                    return Self::with_contraction(eye, pos + len);
                }
                Word::Ends(end) | Word::Capitals(end) => return Self::with_contraction(eye, end),
                Word::None => {}
            }
        }
        if class & NUMBER != 0 {
            return eye.run_at_most(pos, NUMBER, DIGITS);
        }
        if class == 0 {
            return eye.malformed(pos);
        }
        if eye.at(pos + space).0 & SIGN != 0 {
            let end = eye.run(pos + space, |c| c & SIGN != 0);
            let tail = if KIMI { NEWLINE } else { NEWLINE | SLASH };
            return eye.run(end, |c| c & tail != 0);
        }
        let run = eye.spaces(pos);
        run.lines_or_before_word(run.next == 0)
    }
}

impl<const FOLD: u8, const DIGITS: usize, const KIMI: bool> Scanner for O200k<FOLD, DIGITS, KIMI> {
    #[inline]
    fn next(&self, text: &[u8], pos: usize) -> usize {
        self.scan::<false>(text, pos).0
    }

    #[inline]
    fn cuts_ahead(&self, text: &[u8], pos: usize) -> u64 {
        if KIMI {
            block::lines::<FOLD, DIGITS, true, false, false>(text, pos)
        } else {
            block::lines::<FOLD, DIGITS, true, true, false>(text, pos)
        }
    }

    #[inline]
    fn next_with_reach(&self, text: &[u8], pos: usize) -> (usize, usize) {
        self.scan::<true>(text, pos)
    }
}
