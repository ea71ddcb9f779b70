//! Steps that change the text.

use crate::decode::byte_alphabet;
use crate::error::Result;
use crate::formats::description::PrependScheme;
use crate::normalize::sink::push;
use crate::normalize::text::unit;
use crate::normalize::{Span, View};

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// A space before what does not start with one.
    PrefixSpace,
    /// Spaces become marks, and a mark goes in front as the scheme says.
    Metaspace { replacement: char, prepend_scheme: PrependScheme },
    /// Bytes become the characters of GPT-2's alphabet.
    ToAlphabet,
    /// And back; characters outside of the alphabet keep their bytes (there are none).
    FromAlphabet,
}

/// A text in the making. Without alignment `spans` stays empty.
struct Draft<'t> {
    source: View<'t>,
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl<'t> Draft<'t> {
    fn new(source: View<'t>, capacity: usize) -> Self {
        Self { source, bytes: Vec::with_capacity(capacity), spans: Vec::new() }
    }

    /// What was written since belongs to the source's bytes `start..end`.
    fn align(&mut self, start: usize, end: usize) {
        if let Some(span) = self.source.origin(start..end) {
            self.spans.resize(self.bytes.len(), span);
        }
    }

    /// The source's bytes `start..end`, unchanged.
    fn keep(&mut self, start: usize, end: usize) {
        self.bytes.extend_from_slice(&self.source.bytes()[start..end]);
        if self.source.is_aligned() {
            self.spans.extend(self.source.slice(start..end).spans());
        }
    }

    fn view(&self) -> View<'_> {
        if self.source.is_aligned() {
            View::known(&self.bytes, &self.spans, self.source.start())
        } else {
            View::plain(&self.bytes, self.source.starts_text())
        }
    }
}

impl Rewrite {
    /// Calls `emit` with what becomes of `piece`, which is not empty. O(n).
    pub(super) fn apply(self, piece: View<'_>, emit: impl FnOnce(View<'_>) -> Result<()>) -> Result<()> {
        let text = piece.bytes();
        let first_len = unit(text).1;
        match self {
            Self::PrefixSpace if text[0] == b' ' => emit(piece),
            Self::PrefixSpace => {
                let mut draft = Draft::new(piece, text.len() + 1);
                draft.bytes.push(b' ');
                draft.align(0, first_len);
                draft.keep(0, text.len());
                emit(draft.view())
            }
            Self::Metaspace { replacement, prepend_scheme } => {
                let mut mark = [0; 4];
                let mark = replacement.encode_utf8(&mut mark).as_bytes();
                let prepends = match prepend_scheme {
                    PrependScheme::Always => true,
                    PrependScheme::First => piece.starts_text(),
                    PrependScheme::Never => false,
                } && text[0] != b' '
                    && !text.starts_with(mark);
                if !prepends && (mark == b" " || memchr::memchr(b' ', text).is_none()) {
                    return emit(piece);
                }
                let mut draft = Draft::new(piece, text.len() + text.len() / 2 + 4);
                if prepends {
                    draft.bytes.extend_from_slice(mark);
                    draft.align(0, first_len);
                }
                let mut kept = 0;
                for at in memchr::memchr_iter(b' ', text) {
                    draft.keep(kept, at);
                    draft.bytes.extend_from_slice(mark);
                    draft.align(at, at + 1);
                    kept = at + 1;
                }
                draft.keep(kept, text.len());
                emit(draft.view())
            }
            Self::ToAlphabet => {
                let mut draft = Draft::new(piece, text.len() + text.len() / 2);
                let mut at = 0;
                while at < text.len() {
                    let end = at + unit(&text[at..]).1;
                    for &byte in &text[at..end] {
                        push(&mut draft.bytes, byte_alphabet::char_of(byte));
                    }
                    draft.align(at, end);
                    at = end;
                }
                emit(draft.view())
            }
            Self::FromAlphabet => {
                let mut draft = Draft::new(piece, text.len());
                let mut at = 0;
                while at < text.len() {
                    let (c, len) = unit(&text[at..]);
                    match c.and_then(byte_alphabet::byte_of) {
                        Some(byte) => draft.bytes.push(byte),
                        None => draft.bytes.extend_from_slice(&text[at..at + len]),
                    }
                    draft.align(at, at + len);
                    at += len;
                }
                emit(draft.view())
            }
        }
    }
}
