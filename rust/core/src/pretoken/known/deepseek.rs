//! The sequences of splits of deepseek-coder and of DeepSeek-V3.

use super::eye::{Eye, NONE, needs};
use super::{Scanner, block};
use crate::pretoken::classes::{
    CODER_CJK, Class, Classes, LETTER, MARK, NEWLINE, NUMBER, NUMERIC, PUNCT, SIGN, SPACE, SYMBOL, V3_CJK,
};

/// `[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+` and single digits, one after the other, all isolated.
///
/// The first three make pieces out of a run of one kind; the last two cut inside any piece, wherever a character of the
/// fourth class meets one that is not, and around every digit. So a piece goes on while kind and class stay the same.
#[derive(Clone, Copy, Debug)]
pub struct DeepSeekCoder {
    classes: &'static Classes,
}

impl DeepSeekCoder {
    const NEEDS: [u8; 256] = needs(LETTER, SPACE, None, None);

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
        let (class, len) = eye.at(pos);
        if class & (NEWLINE | NUMERIC) != 0 {
            return pos + len;
        }
        let cjk = class & CODER_CJK;
        let mut start = pos;
        let mut kind = class & (LETTER | PUNCT);
        if class & SPACE != 0 {
            let (next, _) = eye.at(pos + len);
            kind = next & (LETTER | PUNCT);
            start = pos + len;
            if kind != 0 && next & CODER_CJK != cjk {
                return start;
            }
        }
        if kind & LETTER != 0 {
            return if cjk == 0 {
                eye.letters(start, |c| c & LETTER != 0 && c & CODER_CJK == 0)
            } else {
                eye.run(start, |c| c & LETTER != 0 && c & CODER_CJK != 0)
            };
        }
        if kind & PUNCT != 0 {
            return eye.run(start, |c| c & PUNCT != 0 && c & CODER_CJK == cjk);
        }
        // Nothing matches here: up to where something does, or the class changes.
        let mut at = pos + len;
        loop {
            let (class, len) = eye.at(at);
            let matches = class & (NEWLINE | NUMERIC | LETTER | PUNCT) != 0 || class & CODER_CJK != cjk;
            if len == 0 || matches || (class & SPACE != 0 && eye.at(at + len).0 & (LETTER | PUNCT) != 0) {
                return at;
            }
            at += len;
        }
    }
}

impl Scanner for DeepSeekCoder {
    #[inline]
    fn next(&self, text: &[u8], pos: usize) -> usize {
        self.scan::<false>(text, pos).0
    }

    #[inline]
    fn cuts_ahead(&self, text: &[u8], pos: usize) -> u64 {
        block::coder(text, pos)
    }

    #[inline]
    fn next_with_reach(&self, text: &[u8], pos: usize) -> (usize, usize) {
        self.scan::<true>(text, pos)
    }
}

/// `\p{N}{1,3}`, `[一-龥぀-ゟ゠-ヿ]+` and the pattern [`super::spellings::DEEPSEEK_V3_TEXT`], one after the other, all
/// isolated.
///
/// The first two cut the text into stretches (digits, the class of the second, the rest), and the pattern sees each
/// stretch as a whole text. It leaves controls, format characters and unassigned code points unmatched where no letter
/// follows them; neighbours of that kind are one piece.
#[derive(Clone, Copy, Debug)]
pub struct DeepSeekV3 {
    classes: &'static Classes,
}

impl DeepSeekV3 {
    /// All of ASCII but digits and line ends may stand in front of ASCII letters.
    const NEEDS: [u8; 256] = needs(LETTER, SPACE | SIGN, None, None);

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

    /// The end of the run of `[\p{L}\p{M}]` at `i` inside a stretch with (or without) the class `cjk`.
    #[inline(always)]
    fn word<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, i: usize, cjk: Class) -> usize {
        if cjk == 0 {
            eye.letters(i, |c| c & (LETTER | MARK) != 0 && c & V3_CJK == 0)
        } else {
            eye.run(i, |c| c & (LETTER | MARK) != 0 && c & V3_CJK != 0)
        }
    }

    #[inline(always)]
    fn end<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, pos: usize) -> usize {
        let first = eye.text[pos];
        let (class, len) = eye.at(pos);
        if class & NUMBER != 0 {
            return eye.run_at_most(pos, NUMBER, 3);
        }
        let cjk = class & V3_CJK;
        if class & (LETTER | MARK) != 0 {
            return Self::word(eye, pos, cjk);
        }
        if first < 0x80 && class & (PUNCT | SYMBOL) != 0 {
            let end = Self::ascii_letters(eye, pos + 1);
            if end > pos + 1 {
                return end;
            }
        }
        if class != 0 && class & (NEWLINE | PUNCT | SYMBOL) == 0 {
            let end = Self::word(eye, pos + len, cjk);
            if end > pos + len {
                return end;
            }
        }
        let start = pos + usize::from(first == b' ');
        let sign = |c: Class| c & (PUNCT | SYMBOL) != 0 && c & V3_CJK == cjk;
        if sign(eye.at(start).0) {
            let end = eye.run(start, sign);
            // A line end is no member of the second class: behind one of its stretches another stretch starts.
            return if cjk == 0 { eye.run(end, |c| c & NEWLINE != 0) } else { end };
        }
        if class & SPACE != 0 {
            let run = eye.spaces(pos);
            return run.lines_or_before_word(run.next == 0 || run.next & (NUMBER | V3_CJK) != 0);
        }
        let mut at = pos + len;
        loop {
            let (class, len) = eye.at(at);
            let matches = class & (LETTER | MARK | NUMBER | PUNCT | SYMBOL | SPACE) != 0 || class & V3_CJK != cjk;
            if len == 0 || matches || (class != 0 && Self::starts_word(eye, at + len, cjk)) {
                return at;
            }
            at += len;
        }
    }

    #[inline(always)]
    fn starts_word<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, i: usize, cjk: Class) -> bool {
        let (class, _) = eye.at(i);
        class & (LETTER | MARK) != 0 && class & V3_CJK == cjk
    }

    /// The end of the run of `[A-Za-z]` at `i`.
    #[inline(always)]
    fn ascii_letters<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, mut i: usize) -> usize {
        while eye.byte(i).is_some_and(|b| b.is_ascii_alphabetic()) {
            i += 1;
        }
        i
    }
}

impl Scanner for DeepSeekV3 {
    #[inline]
    fn next(&self, text: &[u8], pos: usize) -> usize {
        self.scan::<false>(text, pos).0
    }

    #[inline]
    fn cuts_ahead(&self, text: &[u8], pos: usize) -> u64 {
        block::lines::<NONE, 3, false, false, true>(text, pos)
    }

    #[inline]
    fn next_with_reach(&self, text: &[u8], pos: usize) -> (usize, usize) {
        self.scan::<true>(text, pos)
    }
}
