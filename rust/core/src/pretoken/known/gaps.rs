//! Patterns that leave text between their matches: SuperBPE's second stage, BLOOM.

use super::Scanner;
use super::eye::Eye;
use crate::pretoken::classes::{Class, Classes, LETTER, NEWLINE, NUMBER, SIGN, SLASH, SPACE};

/// `\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)`, the matches and what lies between them.
#[derive(Clone, Copy, Debug)]
pub struct SuperBpe {
    classes: &'static Classes,
}

impl SuperBpe {
    pub(super) fn new() -> Self {
        Self { classes: Classes::get() }
    }

    #[inline(always)]
    fn scan<const TRACK: bool>(&self, text: &[u8], pos: usize) -> (usize, usize) {
        let mut eye = Eye::<TRACK>::new(text, self.classes);
        let end = Self::end(&mut eye, pos);
        (end, eye.reach())
    }

    #[inline(always)]
    fn end<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, pos: usize) -> usize {
        let mut at = pos;
        loop {
            let letters = eye.letters(at, |c| c & LETTER != 0);
            if letters > at {
                at = letters;
            }
            let (class, len) = eye.at(at);
            if len == 0 {
                return at;
            }
            if let Some(end) = Self::match_at(eye, at, class, len) {
                return if at > pos { at } else { end };
            }
            at += len;
        }
    }

    /// The end of the match at `i`, where a character of `class` and `len` stands.
    #[inline(always)]
    fn match_at<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, i: usize, class: Class, len: usize) -> Option<usize> {
        if class & NUMBER != 0 {
            return Some(eye.run_at_most(i, NUMBER, 3));
        }
        let space = eye.text[i] == b' ';
        if !space && class & SIGN == 0 {
            return None;
        }
        let start = if space { i + 1 } else { i };
        let (one, one_len) = if space { eye.at(start) } else { (class, len) };
        if space && one & LETTER != 0 {
            return None;
        }
        if one & SIGN != 0 && eye.at(start + one_len).0 & SIGN != 0 {
            let end = eye.run(start, |c| c & SIGN != 0);
            return Some(eye.run(end, |c| c & (NEWLINE | SLASH) != 0));
        }
        if !space {
            return None;
        }
        let mut end = i + 1;
        while eye.byte(end) == Some(b' ') {
            end += 1;
        }
        let (next, _) = eye.at(end);
        if next == 0 || next & SPACE != 0 { Some(end) } else { (end > i + 1).then_some(end - 1) }
    }
}

impl Scanner for SuperBpe {
    #[inline]
    fn next(&self, text: &[u8], pos: usize) -> usize {
        self.scan::<false>(text, pos).0
    }

    #[inline]
    fn next_with_reach(&self, text: &[u8], pos: usize) -> (usize, usize) {
        self.scan::<true>(text, pos)
    }
}

/// ` ?[^(\s|[.,!?…。，、।۔،])]+`, the matches and what lies between them.
///
/// The brackets hold a class inside a class, so `(`, `)` and `|` are among what does not belong to a match.
#[derive(Clone, Copy, Debug)]
pub struct Bloom {
    classes: &'static Classes,
}

impl Bloom {
    pub(super) fn new() -> Self {
        Self { classes: Classes::get() }
    }

    #[inline(always)]
    fn scan<const TRACK: bool>(&self, text: &[u8], pos: usize) -> (usize, usize) {
        let mut eye = Eye::<TRACK>::new(text, self.classes);
        let end = Self::end(&mut eye, pos);
        (end, eye.reach())
    }

    /// Whether the character at `i` belongs to a match, and its length.
    #[inline(always)]
    fn at<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, i: usize) -> (bool, usize) {
        let (class, len) = eye.at(i);
        let belongs = if class & (LETTER | NUMBER) != 0 {
            true
        } else if class & SPACE != 0 || class == 0 {
            false
        } else {
            !matches!(
                &eye.text[i..i + len],
                b"(" | b")" | b"|" | b"." | b"," | b"!" | b"?"
                    | b"\xE2\x80\xA6" // …
                    | b"\xE3\x80\x82" // 。
                    | b"\xEF\xBC\x8C" // ，
                    | b"\xE3\x80\x81" // 、
                    | b"\xE0\xA5\xA4" // ।
                    | b"\xDB\x94" // ۔
                    | b"\xD8\x8C" // ،
            )
        };
        (belongs, len)
    }

    #[inline(always)]
    fn end<const TRACK: bool>(eye: &mut Eye<'_, TRACK>, pos: usize) -> usize {
        let mut at = pos;
        loop {
            let space = eye.byte(at) == Some(b' ');
            let mut end = if space { at + 1 } else { at };
            let start = end;
            if at > pos {
                if Self::at(eye, start).0 || at == eye.text.len() {
                    return at;
                }
            } else {
                loop {
                    let (belongs, len) = Self::at(eye, end);
                    if !belongs {
                        break;
                    }
                    end += len;
                }
                if end > start {
                    return end;
                }
            }
            at += Self::at(eye, at).1;
        }
    }
}

impl Scanner for Bloom {
    #[inline]
    fn next(&self, text: &[u8], pos: usize) -> usize {
        self.scan::<false>(text, pos).0
    }

    #[inline]
    fn next_with_reach(&self, text: &[u8], pos: usize) -> (usize, usize) {
        self.scan::<true>(text, pos)
    }
}
