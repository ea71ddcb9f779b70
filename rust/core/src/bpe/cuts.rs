//! Places in a text that no merge can ever bridge.
//!
//! A boundary between characters `a|b` is such a place when no merge joins a token that ends in `a` with a token that
//! starts with `b`: a merge across the boundary would have to be one of those. Text may therefore be cut there and its
//! parts encoded on their own, with the same ids. Characters are told apart by the byte next to the boundary, and the
//! word mark `▁` by itself, so the test is one bit of a 257 x 257 table.

use super::symbols::byte_token_value;
use crate::decode::byte_alphabet;
use crate::formats::{Bpe, Merge, Symbols as SymbolKind};
use crate::ids::TokenId;

const MARK: usize = 256;
const MARK_CLASS: u16 = 256;
const CLASSES: usize = 257;
const WORDS: usize = CLASSES.div_ceil(64);
const MARK_BYTES: &[u8] = "▁".as_bytes();

/// The table of bridged byte pairs.
pub(crate) struct Cuts {
    bridged: Box<[[u64; WORDS]; CLASSES]>,
    /// Whether a cut may fall inside a character.
    bytes: bool,
    /// Whether a space of the text stands for the mark.
    space_is_mark: bool,
}

impl Cuts {
    /// Derives the table from the merges. `None` when symbols are not known by their bytes (byte tokens or the unknown
    /// token take part in merges).
    pub(crate) fn new(model: &Bpe, byte_level: bool, space_is_mark: bool) -> Option<Self> {
        let raw = model.symbols == SymbolKind::RawBytes;
        let size = model.vocab.ids.iter().max().map_or(0, |&id| id as usize + 1);
        let mut first = vec![u16::MAX; size];
        let mut last = vec![u16::MAX; size];
        for (spelling, id) in model.vocab.iter() {
            if Some(id) == model.unk || (model.byte_fallback && byte_token_value(spelling).is_some()) {
                continue;
            }
            let classes = if raw { raw_classes(spelling) } else { classes_of(spelling, byte_level) };
            if let Some((a, b)) = classes {
                first[id as usize] = a;
                last[id as usize] = b;
            }
        }
        let bridged = Box::new([[0_u64; WORDS]; CLASSES]);
        let mut this = Self { bridged, bytes: raw || byte_level, space_is_mark };
        for merge in &model.merges {
            let known = |classes: &[u16], id: TokenId| classes.get(id as usize).copied().filter(|&c| c != u16::MAX);
            this.bridge(known(&last, merge.left)?, known(&first, merge.right)?);
        }
        Some(this)
    }

    /// The same for a part of the merges; `token` gives the bytes of their tokens as they stand in a pretoken.
    pub(super) fn of_merges<'t>(&self, merges: &[Merge], token: impl Fn(TokenId) -> &'t [u8]) -> Option<Self> {
        let bridged = Box::new([[0_u64; WORDS]; CLASSES]);
        let mut this = Self { bridged, bytes: self.bytes, space_is_mark: self.space_is_mark };
        for merge in merges {
            let (left, right) = (token(merge.left), token(merge.right));
            let (mut a, mut b) = (u16::from(*left.last()?), u16::from(*right.first()?));
            if !self.bytes {
                let is_mark = |byte: u16| self.space_is_mark && byte == u16::from(b' ');
                a = if is_mark(a) || left.ends_with(MARK_BYTES) { MARK_CLASS } else { a };
                b = if is_mark(b) || right.starts_with(MARK_BYTES) { MARK_CLASS } else { b };
            }
            this.bridge(a, b);
        }
        Some(this)
    }

    fn bridge(&mut self, a: u16, b: u16) {
        self.bridged[usize::from(a)][usize::from(b) / 64] |= 1 << (b % 64);
    }

    /// Whether no merge can bridge `text[..at] | text[at..]`; `0 < at < text.len()`.
    ///
    /// Reads at most three bytes on either side.
    #[inline]
    pub(crate) fn is_cut(&self, text: &[u8], at: usize) -> bool {
        let (a, b) = (text[at - 1], text[at]);
        let (mut left, mut right) = (usize::from(a), usize::from(b));
        if !self.bytes {
            if b & 0xC0 == 0x80 {
                return false;
            }
            if self.space_is_mark {
                left = if a == b' ' { MARK } else { left };
                right = if b == b' ' { MARK } else { right };
            }
            if a == MARK_BYTES[2] && text[..at].ends_with(MARK_BYTES) {
                left = MARK;
            }
            if b == MARK_BYTES[0] && text[at..].starts_with(MARK_BYTES) {
                right = MARK;
            }
        }
        self.bridged[left][right / 64] >> (right % 64) & 1 == 0
    }

    /// The first cut after `from`, or the end of the text.
    #[inline]
    pub(crate) fn next(&self, text: &[u8], from: usize) -> usize {
        let mut at = from + 1;
        while at < text.len() && !self.is_cut(text, at) {
            at += 1;
        }
        at.min(text.len())
    }
}

fn raw_classes(spelling: &[u8]) -> Option<(u16, u16)> {
    Some((u16::from(*spelling.first()?), u16::from(*spelling.last()?)))
}

fn classes_of(spelling: &[u8], byte_level: bool) -> Option<(u16, u16)> {
    let text = std::str::from_utf8(spelling).ok()?;
    let (first, last) = (text.chars().next()?, text.chars().next_back()?);
    if byte_level {
        return Some((u16::from(byte_alphabet::byte_of(first)?), u16::from(byte_alphabet::byte_of(last)?)));
    }
    let a = if first == '▁' { MARK_CLASS } else { u16::from(spelling[0]) };
    let b = if last == '▁' { MARK_CLASS } else { u16::from(spelling[spelling.len() - 1]) };
    Some((a, b))
}
