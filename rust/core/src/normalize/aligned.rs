//! Text that remembers which bytes of the original it came from.
//!
//! `tokenizers` calls this `NormalizedString`. A byte of a normalized text belongs to a [`Span`] of original bytes; all
//! bytes of one character have one span. An inserted character has the span of the character before it, a removed one
//! leaves no trace. The offsets of a token are the start of its first byte's span and the end of its last byte's.

use std::borrow::Cow;
use std::ops::Range;

use super::text::{unit, units};

/// A half-open range of original bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Where it starts.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
}

impl Span {
    fn at(base: u32, start: usize, end: usize) -> Self {
        let at = |i: usize| base.saturating_add(u32::try_from(i).unwrap_or(u32::MAX));
        Self { start: at(start), end: at(end) }
    }
}

/// A text with its alignment.
#[derive(Clone, Debug)]
pub struct Aligned<'a> {
    bytes: Cow<'a, [u8]>,
    spans: Map,
    start: u32,
}

/// The spans of the bytes of an [`Aligned`].
#[derive(Clone, Debug)]
enum Map {
    /// Nothing was changed: byte `i` is in the original character around `base + i`.
    Same { base: u32 },
    /// One for each byte.
    Spans(Vec<Span>),
}

impl<'a> Aligned<'a> {
    /// An original text. No allocation.
    ///
    /// Positions are 32 bits wide: those past 4 GiB read as `u32::MAX`. Callers bound the text far below that.
    pub fn from_text(text: &'a [u8]) -> Self {
        Self { bytes: Cow::Borrowed(text), spans: Map::Same { base: 0 }, start: 0 }
    }

    pub(crate) fn from_parts(bytes: Vec<u8>, spans: Vec<Span>, start: u32) -> Self {
        debug_assert_eq!(bytes.len(), spans.len());
        Self { bytes: Cow::Owned(bytes), spans: Map::Spans(spans), start }
    }

    /// The text.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The text; the alignment is dropped.
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        self.bytes
    }

    /// A view of the whole text.
    pub fn view(&self) -> View<'_> {
        let spans = match &self.spans {
            Map::Same { base } => Spans::Same { base: *base },
            Map::Spans(spans) => Spans::Known(spans),
        };
        View { bytes: &self.bytes, spans, start: self.start }
    }

    /// The text between two positions, copied, with its alignment.
    ///
    /// # Panics
    /// When the range is not inside the text.
    pub fn slice(&self, range: Range<usize>) -> Aligned<'static> {
        self.view().slice(range).to_aligned()
    }

    /// The span of every byte. O(n), for tests and debugging.
    pub fn spans(&self) -> Vec<Span> {
        self.view().spans()
    }

    /// Keeps a part of the text in place. Unlike [`View::slice`] the text stays the same part of the original: its
    /// start does not move (`tokenizers` strips so).
    pub(crate) fn trim(mut self, range: Range<usize>) -> Self {
        match &mut self.spans {
            Map::Same { base } => *base = Span::at(*base, range.start, range.end).start,
            Map::Spans(spans) => {
                spans.truncate(range.end);
                spans.drain(..range.start);
            }
        }
        self.bytes = trim(self.bytes, range);
        self
    }
}

/// A part of `bytes`, borrowed where `bytes` is.
pub(crate) fn trim(bytes: Cow<'_, [u8]>, range: Range<usize>) -> Cow<'_, [u8]> {
    match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(range.end);
            bytes.drain(..range.start);
            Cow::Owned(bytes)
        }
    }
}

/// A borrowed part of an [`Aligned`], or of a plain text whose alignment nobody asked for.
#[derive(Clone, Copy, Debug)]
pub struct View<'t> {
    bytes: &'t [u8],
    spans: Spans<'t>,
    /// Where it starts in the original; for a plain text 0 or not 0.
    start: u32,
}

#[derive(Clone, Copy, Debug)]
enum Spans<'t> {
    Unknown,
    Same { base: u32 },
    Known(&'t [Span]),
}

impl<'t> View<'t> {
    /// A text without alignment. `first` says whether it starts where the original starts.
    pub fn plain(bytes: &'t [u8], first: bool) -> Self {
        Self { bytes, spans: Spans::Unknown, start: u32::from(!first) }
    }

    pub(crate) fn known(bytes: &'t [u8], spans: &'t [Span], start: u32) -> Self {
        debug_assert_eq!(bytes.len(), spans.len());
        Self { bytes, spans: Spans::Known(spans), start }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &'t [u8] {
        self.bytes
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it starts where the original starts.
    ///
    /// Exact with an alignment. Without one, a part starts there if it is the head of a text that does.
    #[inline]
    pub fn starts_text(&self) -> bool {
        self.start == 0
    }

    pub(crate) fn start(&self) -> u32 {
        self.start
    }

    /// Where it starts in the original, if it is a part of the original left as it is.
    pub fn unchanged_at(&self) -> Option<u32> {
        match self.spans {
            Spans::Same { base } => Some(base),
            Spans::Unknown | Spans::Known(_) => None,
        }
    }

    /// Whether the alignment is known.
    pub fn is_aligned(&self) -> bool {
        !matches!(self.spans, Spans::Unknown)
    }

    /// A part of it.
    ///
    /// Of an unchanged text, a part has to start and end at characters for its alignment to be right: a character cut
    /// in two is no character any more. The cuts of pre-tokenizers are such.
    ///
    /// # Panics
    /// When the range is not inside.
    #[inline]
    pub fn slice(&self, range: Range<usize>) -> View<'t> {
        let bytes = &self.bytes[range.clone()];
        match self.spans {
            Spans::Unknown => {
                let start = if range.start == 0 { self.start } else { 1 };
                View { bytes, spans: Spans::Unknown, start }
            }
            Spans::Same { base } => {
                let start = Span::at(base, range.start, range.end).start;
                View { bytes, spans: Spans::Same { base: start }, start }
            }
            Spans::Known(spans) => {
                let spans = &spans[range];
                View { bytes, spans: Spans::Known(spans), start: spans.first().map_or(self.start, |s| s.start) }
            }
        }
    }

    /// The original bytes of a part: from the start of the first byte's span to the end of the last byte's. `None` for
    /// an empty part and without alignment. O(1).
    #[inline]
    pub fn origin(&self, range: Range<usize>) -> Option<Span> {
        if range.is_empty() || range.end > self.bytes.len() {
            return None;
        }
        match self.spans {
            Spans::Unknown => None,
            Spans::Same { base } => {
                let first = self.unit_around(range.start);
                let last = self.unit_around(range.end - 1);
                Some(Span::at(base, first.start, last.end))
            }
            Spans::Known(spans) => Some(Span { start: spans[range.start].start, end: spans[range.end - 1].end }),
        }
    }

    /// The span of the unit of `len` bytes that starts at `at`.
    #[inline]
    pub(crate) fn span_of_unit(&self, at: usize, len: usize) -> Span {
        match self.spans {
            Spans::Unknown => Span::at(0, at, at + len),
            Spans::Same { base } => Span::at(base, at, at + len),
            Spans::Known(spans) => spans[at],
        }
    }

    /// The character, or the subpart that is none, around byte `at`.
    fn unit_around(&self, at: usize) -> Range<usize> {
        for back in 0..=at.min(3) {
            let start = at - back;
            // The first byte from the right that is no continuation byte starts whatever is here.
            if self.bytes[start] & 0xC0 != 0x80 {
                let end = start + unit(&self.bytes[start..]).1;
                if at < end {
                    return start..end;
                }
                break;
            }
        }
        at..at + 1
    }

    /// The span of every byte (empty without alignment). O(n).
    pub fn spans(&self) -> Vec<Span> {
        match self.spans {
            Spans::Unknown => Vec::new(),
            Spans::Known(spans) => spans.to_vec(),
            Spans::Same { base } => {
                let mut spans = Vec::with_capacity(self.bytes.len());
                for (start, end, _) in units(self.bytes) {
                    spans.resize(end, Span::at(base, start, end));
                }
                spans
            }
        }
    }

    /// A copy with its own alignment. A plain text counts as an original.
    pub fn to_aligned(&self) -> Aligned<'static> {
        let spans = match self.spans {
            Spans::Unknown => Map::Same { base: 0 },
            Spans::Same { base } => Map::Same { base },
            Spans::Known(spans) => Map::Spans(spans.to_vec()),
        };
        Aligned { bytes: Cow::Owned(self.bytes.to_vec()), spans, start: self.start }
    }
}

impl<'t> From<View<'t>> for Aligned<'t> {
    /// The same text with its alignment; the bytes stay borrowed.
    fn from(view: View<'t>) -> Self {
        let spans = match view.spans {
            Spans::Unknown => Map::Same { base: 0 },
            Spans::Same { base } => Map::Same { base },
            Spans::Known(spans) => Map::Spans(spans.to_vec()),
        };
        Aligned { bytes: Cow::Borrowed(view.bytes), spans, start: view.start }
    }
}
