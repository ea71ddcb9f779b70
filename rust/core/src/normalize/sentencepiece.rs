//! SentencePiece's own normalizer: the longest rule at every place, from the left; white space folded and marked.
//!
//! [`SpNormalizer::normalize`] follows `normalizer.cc` of SentencePiece 0.2.3 step by step and copies what no rule can
//! touch in runs. One thing differs by choice: see [`SentencePieceNormalizer::keep_invalid`].

use super::charsmap::Charsmap;
use crate::error::Result;
use crate::formats::SentencePieceNormalizer;
use crate::limits::Limits;

/// What a space becomes under `escape_whitespaces`.
const MARK: &[u8] = "▁".as_bytes();
/// What a byte outside UTF-8 becomes unless it is kept.
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

/// What may begin at a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Nothing but itself: it is copied.
    Plain,
    /// Nothing but itself where the next byte is ASCII or the text ends.
    PlainBeforeAscii,
    /// A space that no rule and no protected text begins with.
    Space,
    /// It has to be looked up.
    Lookup,
}

/// A built normalizer: immutable, any bytes are a valid input.
#[derive(Clone, Debug)]
pub struct SpNormalizer {
    charsmap: Option<Charsmap>,
    protected: Protected,
    /// For texts that may be copied byte by byte: well-formed ones, and all of them under `keep_invalid`.
    classes: Box<[Class; 256]>,
    /// For other texts: every byte from 0x80 up is looked up.
    careful: Box<[Class; 256]>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    treat_whitespace_as_suffix: bool,
    keep_invalid: bool,
    space: &'static [u8],
}

/// The range of the original text that a byte of the normalized text came from; empty where it was put in.
pub type Origin = (u32, u32);

impl SpNormalizer {
    /// Builds the normalizer. O(size of its rules) time. Fails when the compiled character map is damaged.
    pub fn new(spec: &SentencePieceNormalizer, limits: &Limits) -> Result<Self> {
        let charsmap = if spec.charsmap.is_empty() { None } else { Some(Charsmap::new(&spec.charsmap, limits)?) };
        let protected = Protected::new(&spec.protected);
        let mut classes = Box::new([Class::Lookup; 256]);
        for byte in 0..=255u8 {
            classes[usize::from(byte)] = class_of(byte, charsmap.as_ref(), &protected);
        }
        let mut careful = classes.clone();
        careful[128..].fill(Class::Lookup);
        Ok(Self {
            charsmap,
            protected,
            classes,
            careful,
            add_dummy_prefix: spec.add_dummy_prefix,
            remove_extra_whitespaces: spec.remove_extra_whitespaces,
            treat_whitespace_as_suffix: spec.treat_whitespace_as_suffix,
            keep_invalid: spec.keep_invalid,
            space: if spec.escape_whitespaces { MARK } else { b" " },
        })
    }

    /// Appends the normalized `text` to `out`, and to `origin` where each appended byte came from.
    ///
    /// O(n · m) time, n = `text.len()`, m = the longest left side of a rule; what no rule touches is copied.
    ///
    /// # Panics
    /// With `origin`, when `text` is 4 GiB or longer.
    pub fn normalize(&self, text: &[u8], out: &mut Vec<u8>, origin: Option<&mut Vec<Origin>>) {
        let mut sink = Sink { start: out.len(), out, origin };
        let mut at = 0;
        if self.remove_extra_whitespaces {
            while let (b" ", len) = self.chunk(&text[at..]) {
                at += len;
            }
        }
        if at == text.len() {
            return;
        }
        if self.add_dummy_prefix && !self.treat_whitespace_as_suffix {
            sink.push(self.space, (at, at));
        }
        let copies = self.keep_invalid || self.charsmap.is_some() || std::str::from_utf8(text).is_ok();
        let classes = if copies { &self.classes } else { &self.careful };
        let mut after_space = self.remove_extra_whitespaces;
        while at < text.len() {
            match classes[usize::from(text[at])] {
                Class::Plain | Class::PlainBeforeAscii => {
                    let len = plain_len(classes, &text[at..]);
                    if len > 0 {
                        sink.copy(text, at, at + len);
                        after_space = false;
                        at += len;
                        continue;
                    }
                }
                Class::Space => {
                    if !after_space {
                        sink.push(self.space, (at, at + 1));
                        after_space = self.remove_extra_whitespaces;
                    }
                    at += 1;
                    continue;
                }
                Class::Lookup => {}
            }
            let (mut piece, len) = self.chunk(&text[at..]);
            if after_space {
                piece = &piece[piece.iter().take_while(|&&b| b == b' ').count()..];
            }
            if !piece.is_empty() {
                for part in piece.chunk_by(|&a, &b| a != b' ' && b != b' ') {
                    sink.push(if part == b" " { self.space } else { part }, (at, at + len));
                }
                after_space = self.remove_extra_whitespaces && piece.ends_with(b" ");
            }
            at += len;
        }
        let mut end = text.len();
        if self.remove_extra_whitespaces {
            end = sink.trim_end(self.space, end);
        }
        if self.add_dummy_prefix && self.treat_whitespace_as_suffix {
            sink.push(self.space, (end, end));
        }
    }

    /// The next step from the left: what is written for how many bytes. Nothing, for no bytes, at the end.
    #[inline]
    fn chunk<'a>(&'a self, text: &'a [u8]) -> (&'a [u8], usize) {
        if text.is_empty() {
            return (b"", 0);
        }
        if let Some(len) = self.protected.longest_prefix(text) {
            return (&text[..len], len);
        }
        if let Some((len, by)) = self.charsmap.as_ref().and_then(|map| map.longest_prefix(text)) {
            return (by, len);
        }
        match char_len(text) {
            Some(len) => (&text[..len], len),
            None if self.keep_invalid => (&text[..1], 1),
            None => (REPLACEMENT, 1),
        }
    }
}

fn class_of(byte: u8, charsmap: Option<&Charsmap>, protected: &Protected) -> Class {
    if protected.starts[usize::from(byte)] {
        return Class::Lookup;
    }
    match charsmap {
        None if byte == b' ' => Class::Space,
        None => Class::Plain,
        Some(_) if !byte.is_ascii() => Class::Lookup,
        Some(map) if byte == b' ' => {
            // With é after it, a space that may start a longer rule shows as "not plain".
            if map.plain_ascii_len(b" \xC3") == 1 { Class::Space } else { Class::Lookup }
        }
        Some(map) if map.plain_ascii_len(&[byte, 0xC3]) == 1 => Class::Plain,
        Some(map) if map.plain_ascii_len(&[byte]) == 1 => Class::PlainBeforeAscii,
        Some(_) => Class::Lookup,
    }
}

/// How many bytes at the start of `text` are copied.
#[inline]
fn plain_len(classes: &[Class; 256], text: &[u8]) -> usize {
    let stop = text.iter().position(|&b| !matches!(classes[usize::from(b)], Class::Plain | Class::PlainBeforeAscii));
    let stop = stop.unwrap_or(text.len());
    // Only the last byte of the run can stand before a byte from 0x80 up: those are plain in no map.
    let joins = text.get(stop).is_some_and(|b| !b.is_ascii());
    if joins && stop > 0 && classes[usize::from(text[stop - 1])] == Class::PlainBeforeAscii { stop - 1 } else { stop }
}

/// The length of the character that `text` starts with; `None` for a byte outside well-formed UTF-8.
#[inline]
fn char_len(text: &[u8]) -> Option<usize> {
    let len = match text.first()? {
        0..0x80 => return Some(1),
        0xC2..0xE0 => 2,
        0xE0..0xF0 => 3,
        0xF0..0xF5 => 4,
        _ => return None,
    };
    std::str::from_utf8(text.get(..len)?).ok().map(|_| len)
}

/// The output, with origins where they are asked for.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    origin: Option<&'a mut Vec<Origin>>,
    /// Where this text starts in `out`.
    start: usize,
}

fn span((start, end): (usize, usize)) -> Origin {
    let narrow = |n| u32::try_from(n).expect("an aligned text is under 4 GiB: documented");
    (narrow(start), narrow(end))
}

impl Sink<'_> {
    #[inline]
    fn push(&mut self, bytes: &[u8], from: (usize, usize)) {
        self.out.extend_from_slice(bytes);
        if let Some(origin) = &mut self.origin {
            origin.extend(std::iter::repeat_n(span(from), bytes.len()));
        }
    }

    /// Copies a run of the text; every character comes from itself.
    #[inline]
    fn copy(&mut self, text: &[u8], start: usize, end: usize) {
        self.out.extend_from_slice(&text[start..end]);
        if let Some(origin) = &mut self.origin {
            let mut at = start;
            while at < end {
                let len = char_len(&text[at..end]).unwrap_or(1);
                origin.extend(std::iter::repeat_n(span((at, at + len)), len));
                at += len;
            }
        }
    }

    /// Takes `space` off the end as often as it is there; where the text that is left ends in the original.
    fn trim_end(&mut self, space: &[u8], mut end: usize) -> usize {
        while self.out[self.start..].ends_with(space) {
            self.out.truncate(self.out.len() - space.len());
            if let Some(origin) = &mut self.origin {
                for _ in space {
                    end = origin.pop().map_or(end, |(start, _)| start as usize);
                }
            }
        }
        end
    }
}

/// Texts to be left alone, sorted: the longest one at a place is found by narrowing a range of them byte by byte.
#[derive(Clone, Debug)]
struct Protected {
    texts: Vec<String>,
    /// Whether any starts with the byte.
    starts: Box<[bool; 256]>,
}

impl Protected {
    fn new(texts: &[String]) -> Self {
        let mut texts: Vec<String> = texts.iter().filter(|text| !text.is_empty()).cloned().collect();
        texts.sort_unstable();
        texts.dedup();
        let mut starts = Box::new([false; 256]);
        for text in &texts {
            starts[usize::from(text.as_bytes()[0])] = true;
        }
        Self { texts, starts }
    }

    /// O(m log t) time for a match of m bytes among t texts.
    fn longest_prefix(&self, text: &[u8]) -> Option<usize> {
        if !self.starts[usize::from(*text.first()?)] {
            return None;
        }
        let mut range = &self.texts[..];
        let mut best = None;
        for (i, byte) in text.iter().enumerate() {
            // All of `range` start with text[..i]; at most the first is not longer than that.
            let key = |t: &String| t.as_bytes().get(i).copied();
            let low = range.partition_point(|t| key(t) < Some(*byte));
            range = &range[low..];
            range = &range[..range.partition_point(|t| key(t) <= Some(*byte))];
            match range.first() {
                None => break,
                Some(first) if first.len() == i + 1 => best = Some(i + 1),
                Some(_) => {}
            }
        }
        best
    }
}

#[cfg(test)]
#[path = "sentencepiece_tests.rs"]
mod tests;
