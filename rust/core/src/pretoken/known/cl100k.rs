//! The family of cl100k: Llama 3, Qwen 2 to 3.5, OLMo 2 and others.

use super::eye::{Eye, NONE, needs};
use super::{Scanner, block};
use crate::pretoken::classes::{Class, Classes, LETTER, MARK, NEWLINE, NUMBER, SIGN, SPACE};

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
/// and its relatives.
///
/// `FOLD` says how contractions fold; `DIGITS` is the most digits of a piece; with `MARKS`, letters stand for
/// `[\p{L}\p{M}]`; with `AT_END`, white space that ends the text is one piece whatever it holds (`\s++$` first).
#[derive(Clone, Copy, Debug)]
pub struct Cl100k<const FOLD: u8, const DIGITS: usize, const MARKS: bool, const AT_END: bool> {
    classes: &'static Classes,
}

impl<const FOLD: u8, const DIGITS: usize, const MARKS: bool, const AT_END: bool> Cl100k<FOLD, DIGITS, MARKS, AT_END> {
    const NEEDS: [u8; 256] = needs(LETTER, SPACE | SIGN, None, if FOLD == NONE { None } else { Some(b'\'') });

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
        let word: Class = if MARKS { LETTER | MARK } else { LETTER };
        let sign: Class = SIGN & !word;
        let (class, len) = eye.at(pos);
        if class & word != 0 {
            return eye.letters(pos + len, |c| c & word != 0);
        }
        if class & NUMBER != 0 {
            return eye.run_at_most(pos, NUMBER, DIGITS);
        }
        if class == 0 {
            return eye.malformed(pos);
        }
        if class & NEWLINE == 0 {
            let first = eye.text[pos];
            if FOLD != NONE
                && first == b'\''
                && let Some(end) = eye.contraction::<FOLD>(pos)
            {
                return end;
            }
            let start = pos + len;
            let (next, next_len) = eye.at(start);
            if next & word != 0 {
                return eye.letters(start + next_len, |c| c & word != 0);
            }
            if class & sign != 0 || (first == b' ' && next & sign != 0) {
                let end = eye.run(start, |c| c & sign != 0);
                return eye.run(end, |c| c & NEWLINE != 0);
            }
        }
        let run = eye.spaces(pos);
        if AT_END && run.next == 0 {
            return run.end;
        }
        run.lines_or_before_word(run.next == 0)
    }
}

impl<const FOLD: u8, const DIGITS: usize, const MARKS: bool, const AT_END: bool> Scanner
    for Cl100k<FOLD, DIGITS, MARKS, AT_END>
{
    #[inline]
    fn next(&self, text: &[u8], pos: usize) -> usize {
        self.scan::<false>(text, pos).0
    }

    #[inline]
    fn cuts_ahead(&self, text: &[u8], pos: usize) -> u64 {
        block::lines::<FOLD, DIGITS, false, false, false>(text, pos)
    }

    #[inline]
    fn next_with_reach(&self, text: &[u8], pos: usize) -> (usize, usize) {
        self.scan::<true>(text, pos)
    }
}
