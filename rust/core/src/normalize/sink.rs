//! Where normalizers write: plain bytes, or bytes with their alignment.
//!
//! A normalizer says what becomes of the source from the left, in the moves of `tokenizers`: a character stays, is
//! replaced by one, is dropped, or one is inserted. A plain sink only writes; an aligned one follows along the source.

use super::aligned::{Aligned, Span, View};
use super::text::unit;

/// Receives the moves of a normalizer.
pub(crate) trait Sink {
    /// The next `part.len()` bytes of the source stay; they are `part`.
    fn keep(&mut self, part: &[u8]);
    /// The next character becomes `c`.
    fn replace(&mut self, c: char);
    /// `c` appears; it belongs to the character before (in the source).
    fn insert(&mut self, c: char);
    /// `text` appears; it belongs to the character after (in the source).
    fn insert_before_next(&mut self, text: &str);
    /// The next `len` bytes go.
    fn skip(&mut self, len: usize);
    /// The next `count` characters go.
    fn skip_chars(&mut self, count: usize);

    /// `text` appears; it belongs to the character before.
    fn insert_str(&mut self, text: &str) {
        for c in text.chars() {
            self.insert(c);
        }
    }
}

/// Writes bytes.
#[derive(Debug)]
pub(crate) struct PlainSink {
    out: Vec<u8>,
    bound: usize,
    over: bool,
}

impl PlainSink {
    /// Insertions beyond `bound` bytes are left out, and [`Self::finish`] says so.
    pub(crate) fn new(capacity: usize, bound: usize) -> Self {
        Self { out: Vec::with_capacity(capacity), bound, over: false }
    }

    /// The bytes, or `None` when they passed the bound.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        (!self.over).then_some(self.out)
    }

    fn has_room(&mut self) -> bool {
        self.over |= self.out.len() > self.bound;
        !self.over
    }
}

pub(crate) fn push(out: &mut Vec<u8>, c: char) {
    if c.is_ascii() {
        out.push(c as u8);
    } else {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

impl Sink for PlainSink {
    #[inline]
    fn keep(&mut self, part: &[u8]) {
        self.out.extend_from_slice(part);
    }

    #[inline]
    fn replace(&mut self, c: char) {
        push(&mut self.out, c);
    }

    #[inline]
    fn insert(&mut self, c: char) {
        if self.has_room() {
            push(&mut self.out, c);
        }
    }

    fn insert_before_next(&mut self, text: &str) {
        self.insert_str(text);
    }

    fn skip(&mut self, _len: usize) {}

    fn skip_chars(&mut self, _count: usize) {}

    fn insert_str(&mut self, text: &str) {
        if self.has_room() {
            self.out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Writes bytes and their spans.
#[derive(Debug)]
pub(crate) struct AlignedSink<'s> {
    source: View<'s>,
    /// The next source byte.
    at: usize,
    /// The span of the character before `at`.
    before: Span,
    out: PlainSink,
    spans: Vec<Span>,
}

impl<'s> AlignedSink<'s> {
    pub(crate) fn new(source: View<'s>, bound: usize) -> Self {
        // Before the first character there is nothing: tokenizers says (0, 0), counted from the start of the text.
        let before = Span { start: source.start(), end: source.start() };
        let len = source.bytes().len();
        Self { source, at: 0, before, out: PlainSink::new(len, bound), spans: Vec::with_capacity(len) }
    }

    pub(crate) fn finish(self) -> Option<Aligned<'static>> {
        let start = self.source.start();
        let spans = self.spans;
        self.out.finish().map(|bytes| Aligned::from_parts(bytes, spans, start))
    }

    /// Steps over the next character; at the end of the source the last one again.
    fn step(&mut self) -> Span {
        let rest = self.source.bytes().get(self.at..).unwrap_or_default();
        if !rest.is_empty() {
            let len = unit(rest).1;
            self.before = self.source.span_of_unit(self.at, len);
            self.at += len;
        }
        self.before
    }

    fn fill(&mut self, span: Span) {
        self.spans.resize(self.out.out.len(), span);
    }
}

impl Sink for AlignedSink<'_> {
    fn keep(&mut self, part: &[u8]) {
        self.out.keep(part);
        let until = self.spans.len() + part.len();
        while self.spans.len() < until {
            let at = self.at;
            let span = self.step();
            let len = (self.at - at).max(1).min(until - self.spans.len());
            self.spans.resize(self.spans.len() + len, span);
        }
    }

    fn replace(&mut self, c: char) {
        self.out.replace(c);
        let span = self.step();
        self.fill(span);
    }

    fn insert(&mut self, c: char) {
        self.out.insert(c);
        self.fill(self.before);
    }

    fn insert_before_next(&mut self, text: &str) {
        self.out.insert_str(text);
        let (at, before) = (self.at, self.before);
        let span = self.step();
        (self.at, self.before) = (at, before);
        self.fill(span);
    }

    fn skip(&mut self, len: usize) {
        let until = (self.at + len).min(self.source.bytes().len());
        while self.at < until {
            self.step();
        }
    }

    fn skip_chars(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }
}
