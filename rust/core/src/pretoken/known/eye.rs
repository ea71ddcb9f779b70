//! Reading forward through text, with or without a record of how far.

use crate::pretoken::classes::{ASCII, Class, Classes, LOWER, NEWLINE, SPACE, UPPER, ascii_classes};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks (with the high bit) the bytes of `word` that are not ASCII letters.
#[inline(always)]
fn not_letters(word: u64) -> u64 {
    let lower = (word & !HIGHS) | (ONES * 0x20);
    // Neither sum carries into the next byte: lower <= 0x7F.
    let from_a = lower + ONES * (0x80 - 0x61);
    let after_z = lower + ONES * (0x80 - 0x7B);
    (!(from_a & !after_z) | word) & HIGHS
}

/// Marks (with the high bit) the bytes of `word` that are not ASCII lower-case letters.
#[inline(always)]
fn not_lowers(word: u64) -> u64 {
    let low = word & !HIGHS;
    let from_a = low + ONES * (0x80 - 0x61);
    let after_z = low + ONES * (0x80 - 0x7B);
    (!(from_a & !after_z) | word) & HIGHS
}

/// What [`Eye::short_word`] needs of a byte that starts no such word.
pub(super) const NEVER: u8 = u8::MAX;

/// The table for [`Eye::short_word`]: `word` are the classes of letters, `front` those that may stand before them;
/// `only` restricts the latter to one byte and `except` takes one out.
pub(super) const fn needs(word: Class, front: Class, only: Option<u8>, except: Option<u8>) -> [u8; 256] {
    let ascii = ascii_classes();
    let mut table = [NEVER; 256];
    let mut b = 0;
    while b < 0x80u8 {
        let allowed = match (only, except) {
            (Some(only), _) => b == only,
            (None, Some(except)) => b != except,
            (None, None) => true,
        };
        if ascii[b as usize] & word != 0 {
            table[b as usize] = 0;
        } else if ascii[b as usize] & front != 0 && ascii[b as usize] & NEWLINE == 0 && allowed {
            table[b as usize] = 1;
        }
        b += 1;
    }
    table
}

/// A place in a text that is looked at; with `TRACK`, it remembers how far.
pub(super) struct Eye<'t, const TRACK: bool> {
    pub(super) text: &'t [u8],
    classes: &'static Classes,
    reach: usize,
}

/// What `\s+` at some place is followed by, and what is in it.
pub(super) struct SpaceRun {
    start: usize,
    /// Where the run ends.
    pub(super) end: usize,
    /// Where its last character starts.
    pub(super) last: usize,
    /// Where its last `[\r\n]` ends; 0 when it has none.
    pub(super) newline_end: usize,
    /// The classes of the character behind it; 0 where the chunk ends.
    pub(super) next: Class,
}

impl SpaceRun {
    /// Where `\s+(?!\S)|\s+` ends, given whether the piece of text ends behind the run.
    #[inline(always)]
    pub(super) fn before_word(&self, text_ends: bool) -> usize {
        if text_ends || self.last == self.start { self.end } else { self.last }
    }

    /// Where `\s*[\r\n]+|\s+(?!\S)|\s+` ends, given whether the piece of text ends behind the run.
    #[inline(always)]
    pub(super) fn lines_or_before_word(&self, text_ends: bool) -> usize {
        if self.newline_end > 0 { self.newline_end } else { self.before_word(text_ends) }
    }
}

impl<'t, const TRACK: bool> Eye<'t, TRACK> {
    #[inline(always)]
    pub(super) fn new(text: &'t [u8], classes: &'static Classes) -> Self {
        Self { text, classes, reach: 0 }
    }

    /// The largest index looked at, plus one; `text.len() + 1` when the end of the text was seen. 0 without `TRACK`.
    #[inline(always)]
    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    #[inline(always)]
    fn note(&mut self, upto: usize) {
        if TRACK && upto > self.reach {
            self.reach = upto;
        }
    }

    /// The byte at `i`.
    #[inline(always)]
    pub(super) fn byte(&mut self, i: usize) -> Option<u8> {
        self.note(i + 1); // i = text.len() notes the end
        self.text.get(i).copied()
    }

    /// The classes and length of the character at `i`: `(0, 0)` at the end, `(0, 1)` where none is well formed.
    #[inline(always)]
    pub(super) fn at(&mut self, i: usize) -> (Class, usize) {
        match self.text.get(i) {
            None => {
                self.note(i + 1);
                (0, 0)
            }
            Some(&b) if b < 0x80 => {
                self.note(i + 1);
                (ASCII[b as usize], 1)
            }
            Some(_) => self.wide(i),
        }
    }

    /// [`Self::at`] for a byte that is not ASCII.
    #[inline(always)]
    fn wide(&mut self, i: usize) -> (Class, usize) {
        let (class, len) = self.classes.at_wide(self.text, i);
        if TRACK {
            let seen = if class != 0 { i + len } else { self.seen_of_malformed(i) };
            self.note(seen);
        }
        (class, len)
    }

    /// How far one must look to know that no character starts at `i`: over the end when more bytes could make one.
    #[cold]
    fn seen_of_malformed(&self, i: usize) -> usize {
        let rest = &self.text[i..self.text.len().min(i + 4)];
        match std::str::from_utf8(rest) {
            Err(e) if e.valid_up_to() == 0 => match e.error_len() {
                Some(len) => self.text.len().min(i + len + 1),
                None => self.text.len() + 1,
            },
            _ => i + 1,
        }
    }

    /// The end of the word at `pos`, when it is one character and ASCII letters, or letters alone, up to an ASCII
    /// character, within eight bytes; the way most words go.
    ///
    /// `needs` tells for the first byte how many bytes the word must pass: 0 for a letter, 1 for what may stand in front
    /// of one, [`NEVER`] for the rest. That byte takes no part in the end's computation; its test is one branch that can
    /// be guessed, so from word to word only a load and nine operations wait for one another.
    #[inline(always)]
    pub(super) fn short_word(&mut self, pos: usize, needs: &[u8; 256]) -> Option<usize> {
        self.short_run(pos, not_letters, needs)
    }

    /// [`Self::short_word`] with lower-case letters.
    #[inline(always)]
    pub(super) fn short_lower(&mut self, pos: usize, needs: &[u8; 256]) -> Option<usize> {
        self.short_run(pos, not_lowers, needs)
    }

    #[inline(always)]
    fn short_run(&mut self, pos: usize, stops: impl Fn(u64) -> u64, needs: &[u8; 256]) -> Option<usize> {
        let bytes = self.text.get(pos..)?.first_chunk::<8>()?;
        let word = u64::from_le_bytes(*bytes);
        let stops = stops(word) & !0x80;
        let len = (stops.trailing_zeros() / 8) as usize; // 8 without a stop
        // A stop that is not ASCII may be a letter; without any, the word goes on.
        let plain = word & stops & stops.wrapping_neg() == 0;
        if (len < 8) & plain & (len > usize::from(needs[usize::from(bytes[0])])) {
            self.note(pos + len + 1);
            return Some(pos + len);
        }
        None
    }

    /// The end of the run of characters at `i` that `belongs` accepts; it must refuse the empty class.
    #[inline(always)]
    pub(super) fn run(&mut self, mut i: usize, belongs: impl Fn(Class) -> bool) -> usize {
        loop {
            let (class, len) = self.at(i);
            if !belongs(class) {
                return i;
            }
            i += len;
        }
    }

    /// [`Self::run`] for a set that holds all ASCII letters and no other ASCII character.
    #[inline(always)]
    pub(super) fn letters(&mut self, i: usize, belongs: impl Fn(Class) -> bool) -> usize {
        debug_assert!(belongs(UPPER) && belongs(LOWER));
        self.fast_run(i, not_letters, belongs)
    }

    /// [`Self::run`] for a set that holds all ASCII lower-case letters and no other ASCII character.
    #[inline(always)]
    pub(super) fn lowers(&mut self, i: usize, belongs: impl Fn(Class) -> bool) -> usize {
        debug_assert!(!belongs(UPPER) && belongs(LOWER));
        self.fast_run(i, not_lowers, belongs)
    }

    /// [`Self::run`] where `stops` marks the ASCII characters that do not belong, eight bytes at a time.
    #[inline(always)]
    fn fast_run(&mut self, mut i: usize, stops: impl Fn(u64) -> u64, belongs: impl Fn(Class) -> bool) -> usize {
        loop {
            if let Some(word) = self.text.get(i..).and_then(<[u8]>::first_chunk::<8>)
                && word[0] < 0x80
            {
                let word = u64::from_le_bytes(*word);
                let stops = stops(word);
                if stops == 0 {
                    i += 8;
                    continue;
                }
                i += (stops.trailing_zeros() / 8) as usize;
                let stop = stops & stops.wrapping_neg();
                if word & stop == 0 {
                    self.note(i + 1);
                    return i;
                }
            }
            // Characters that are not ASCII, mostly alike: no call for each.
            while let Some((class, len)) = self.classes.at_common(self.text, i) {
                self.note(i + len);
                if !belongs(class) {
                    return i;
                }
                i += len;
            }
            // Rarer ones, or the last bytes of the text.
            loop {
                let (class, len) = self.at(i);
                if !belongs(class) {
                    return i;
                }
                i += len;
                if self.text.get(i).is_some_and(|&b| b < 0x80) {
                    break;
                }
            }
        }
    }

    /// The end of the run of at most `most` characters of `mask` from `i`.
    #[inline(always)]
    pub(super) fn run_at_most(&mut self, mut i: usize, mask: Class, most: usize) -> usize {
        for _ in 0..most {
            let (class, len) = self.at(i);
            if class & mask == 0 {
                break;
            }
            i += len;
        }
        i
    }

    /// The end of the run of bytes at `i` that belong to no character; `i` holds one such byte.
    #[cold]
    pub(super) fn malformed(&mut self, mut i: usize) -> usize {
        loop {
            let (class, len) = self.at(i);
            if class != 0 || len == 0 {
                return i;
            }
            i += len;
        }
    }

    /// The run of `\s` at `i`.
    #[inline(always)]
    pub(super) fn spaces(&mut self, mut i: usize) -> SpaceRun {
        let mut run = SpaceRun { start: i, end: i, last: i, newline_end: 0, next: 0 };
        loop {
            let (class, len) = self.at(i);
            if class & SPACE == 0 {
                run.end = i;
                run.next = class;
                return run;
            }
            run.last = i;
            i += len;
            if class & NEWLINE != 0 {
                run.newline_end = i;
            }
        }
    }

    /// The end of `'s|'t|'re|'ve|'m|'ll|'d` at `i`, `FOLD` saying which other letters count.
    #[inline(always)]
    pub(super) fn contraction<const FOLD: u8>(&mut self, i: usize) -> Option<usize> {
        if self.byte(i)? != b'\'' {
            return None;
        }
        let fold = |b: u8| if FOLD == EXACT { b } else { b | 0x20 };
        let first = self.byte(i + 1)?;
        if FOLD == UNICODE && first == 0xC5 {
            // U+017F folds to s.
            return (self.byte(i + 2)? == 0xBF).then_some(i + 3);
        }
        let second = match fold(first) {
            b's' | b't' | b'm' | b'd' => return Some(i + 2),
            b'r' | b'v' => b'e',
            b'l' => b'l',
            _ => return None,
        };
        (fold(self.byte(i + 2)?) == second).then_some(i + 3)
    }
}

/// Contractions in lower case only.
pub(super) const EXACT: u8 = 0;
/// Contractions in any ASCII case (`'[sS]`).
pub(super) const ANY_ASCII: u8 = 1;
/// Contractions under Unicode case folding (`(?i:'s)`): any ASCII case, and U+017F for `s`.
pub(super) const UNICODE: u8 = 2;
/// No contractions.
pub(super) const NONE: u8 = 3;
