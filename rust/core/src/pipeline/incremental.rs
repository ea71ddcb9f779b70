//! Encoding a text that grows at its end, and shrinks there again.
//!
//! What no further byte can change is committed, with a mark behind each pretoken; only the rest is encoded again. A
//! pretoken is final when the scanner that cut it never saw the end of the text, when no added token can still begin
//! inside it, and, under a composing normalizer, when an unchanged stretch ends before an ASCII character.
//! Pipelines without a streaming form (those that go step by step) are encoded anew each time: exact, and O(n).

use std::sync::Arc;

use super::added::Part;
use super::engine::{Scratch, Sink};
use super::{Encoder, Path, Specials, Template};
use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::pretoken::{Scanner, ScannerVisitor};

/// A place up to which all is final.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Where in the text.
    at: usize,
    /// How many ids lie before it.
    ids: usize,
    /// How much of the text has to be there for this to hold.
    needs: usize,
    /// Whether a text between added tokens starts here.
    fresh: bool,
}

const START: Mark = Mark { at: 0, ids: 0, needs: 0, fresh: true };

/// An encoder of a growing text. [`Incremental::ids`] always equals [`Encoder::encode`] of the text so far.
pub struct Incremental {
    encoder: Arc<Encoder>,
    specials: Specials,
    text: Vec<u8>,
    ids: Vec<TokenId>,
    marks: Vec<Mark>,
}

impl Incremental {
    /// An encoder of the empty text.
    pub fn new(encoder: Arc<Encoder>, specials: Specials) -> Self {
        Self { encoder, specials, text: Vec::new(), ids: Vec::new(), marks: Vec::new() }
    }

    /// How many bytes the text has.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// How many leading ids no further byte can change.
    pub fn stable(&self) -> usize {
        self.ids.len()
    }

    /// Appends bytes. O(bytes + what was not final), for pipelines with a streaming form.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.text.extend_from_slice(bytes);
        if self.encoder.streams() {
            let mut scratch = self.encoder.pool.take();
            self.commit(&mut scratch);
            self.encoder.pool.give(scratch);
        }
        Ok(())
    }

    /// Takes the last `nbytes` bytes away. O(marks undone).
    ///
    /// # Errors
    /// `Value` when the text is shorter.
    pub fn rollback(&mut self, nbytes: usize) -> Result<()> {
        let Some(len) = self.text.len().checked_sub(nbytes) else {
            let found = format!("{nbytes} bytes of a text of {}", self.text.len());
            return Err(Error::value("nbytes", found, "roll back at most the length of the text"));
        };
        self.text.truncate(len);
        let limit = self.open_from();
        while self.marks.last().is_some_and(|mark| mark.needs > len || mark.at > limit) {
            self.marks.pop();
        }
        self.ids.truncate(self.last().ids);
        Ok(())
    }

    /// The ids of the text so far. O(ids + what is not final).
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn ids(&self) -> Result<Vec<TokenId>> {
        if !self.encoder.streams() {
            return self.encoder.encode(&self.text, self.specials, Template::Without);
        }
        let mut scratch = self.encoder.pool.take();
        let mut ids = self.ids.clone();
        let mark = self.last();
        let mut result = Ok(());
        for part in self.parts(mark.at) {
            match part {
                Part::Token(id, _, _) => ids.push(id),
                Part::Text(start, end) => {
                    let text = &self.text[start..end];
                    let fresh = start != mark.at || mark.fresh;
                    result = result.and_then(|()| {
                        self.encoder.encode_rest(text, (fresh, start == 0), self.specials, &mut scratch, &mut ids)
                    });
                }
            }
        }
        self.encoder.pool.give(scratch);
        result.map(|()| ids)
    }

    fn last(&self) -> Mark {
        self.marks.last().copied().unwrap_or(START)
    }

    fn longest(&self) -> usize {
        self.encoder.raw_added.as_ref().map_or(0, |added| added.longest)
    }

    /// Where an added token may still be beginning.
    fn open_from(&self) -> usize {
        self.encoder.raw_added.as_ref().map_or(self.text.len(), |added| added.open_from(&self.text))
    }

    /// The parts of the text from a mark on, in positions of the whole text.
    fn parts(&self, from: usize) -> Vec<Part> {
        let mut parts = Vec::new();
        let rest = &self.text[from..];
        match &self.encoder.raw_added {
            None if rest.is_empty() => {}
            None => parts.push(Part::Text(from, self.text.len())),
            Some(added) => {
                let collected: std::result::Result<(), ()> = added.split(rest, self.specials, |part| {
                    parts.push(match part {
                        Part::Text(start, end) => Part::Text(from + start, from + end),
                        Part::Token(id, start, end) => Part::Token(id, from + start, from + end),
                    });
                    Ok(())
                });
                debug_assert!(collected.is_ok());
            }
        }
        parts
    }

    fn commit(&mut self, scratch: &mut Scratch) {
        let limit = self.open_from();
        let longest = self.longest();
        let len = self.text.len();
        let parts = self.parts(self.last().at);
        for (i, &part) in parts.iter().enumerate() {
            match part {
                Part::Token(id, start, end) => {
                    if start >= limit {
                        return;
                    }
                    self.ids.push(id);
                    let ids = self.ids.len();
                    self.marks.push(Mark { at: end, ids, needs: len.min(end + longest), fresh: true });
                }
                Part::Text(start, end) => {
                    let closed = matches!(parts.get(i + 1), Some(&Part::Token(_, token, _)) if token < limit);
                    let fresh = start != self.last().at || self.last().fresh;
                    if closed {
                        let text = &self.text[start..end];
                        let place = (fresh, start == 0);
                        let done = self.encoder.encode_rest(text, place, self.specials, scratch, &mut self.ids);
                        if done.is_err() {
                            self.ids.truncate(self.last().ids);
                            return;
                        }
                        let ids = self.ids.len();
                        self.marks.push(Mark { at: end, ids, needs: len.min(end + longest), fresh: false });
                    } else {
                        self.commit_open(start, limit, fresh, scratch);
                        return;
                    }
                }
            }
        }
    }

    /// Commits what is final of the text that reaches the end.
    fn commit_open(&mut self, start: usize, limit: usize, fresh: bool, scratch: &mut Scratch) {
        let longest = self.longest();
        let len = self.text.len();
        let encoder = Arc::clone(&self.encoder);
        let text = &self.text[start..];
        let (ids, marks) = (&mut self.ids, &mut self.marks);
        match encoder.path {
            Path::Scanned(known) => {
                let plain = plain_len(&encoder, text);
                let each = |from: usize, end: usize, reach: usize| {
                    if reach > text.len() || start + end > limit || end > plain {
                        return false;
                    }
                    encoder.engine.piece(text, from, end, scratch, ids);
                    let needs = len.min((start + reach).max(start + end + longest));
                    marks.push(Mark { at: start + end, ids: ids.len(), needs, fresh: false });
                    true
                };
                crate::pretoken::with_scanner(known, Walk { text, each });
            }
            Path::Marked(prefix) => {
                let mut at = 0;
                loop {
                    // `next_cut` reads up to three bytes behind a cut.
                    let end = if at < text.len() { encoder.engine.next_cut(text, at) } else { text.len() };
                    if end + 3 > text.len() || start + end > limit {
                        return;
                    }
                    if at == 0 && fresh {
                        encoder.encode_marked(&text[..end], start == 0, prefix, scratch, ids);
                    } else {
                        encoder.engine.piece(text, at, end, scratch, ids);
                    }
                    let needs = len.min(start + end + longest.max(3));
                    marks.push(Mark { at: start + end, ids: ids.len(), needs, fresh: false });
                    at = end;
                }
            }
            Path::Tree => {}
        }
    }
}

/// How much of `text` the normalizer leaves as it is, whatever follows, up to a place before an ASCII character.
fn plain_len(encoder: &Encoder, text: &[u8]) -> usize {
    if encoder.normalizer.is_identity() {
        return text.len();
    }
    let mut end = text.len();
    while end > 0 {
        // Only a cut before an ASCII character keeps compositions on one side.
        let Some(at) = text[..end].iter().rposition(u8::is_ascii) else { return 0 };
        match encoder.normalizer.apply(&text[..at]) {
            Ok(std::borrow::Cow::Borrowed(_)) => return at,
            _ => end = at / 2,
        }
    }
    0
}

/// Calls `each` with the pretokens and their reach until it says to stop.
struct Walk<'a, F> {
    text: &'a [u8],
    each: F,
}

impl<F: FnMut(usize, usize, usize) -> bool> ScannerVisitor<()> for Walk<'_, F> {
    fn visit<C: Scanner>(mut self, scanner: C) {
        let mut at = 0;
        while at < self.text.len() {
            let (end, reach) = scanner.next_with_reach(self.text, at);
            if !(self.each)(at, end, reach) {
                return;
            }
            at = end;
        }
    }
}

impl Encoder {
    /// Whether pretokens can be committed one by one as the text grows.
    fn streams(&self) -> bool {
        let composing = || {
            super::shape::normalizer_steps(&self.description.normalizer)
                .iter()
                .all(|step| matches!(step, crate::formats::Normalizer::Nfc))
        };
        let context = self.raw_added.as_ref().is_some_and(|added| added.has_context);
        match self.path {
            _ if context || self.normalized_added.is_some() => false,
            Path::Scanned(_) => self.normalizer.is_identity() || composing(),
            Path::Marked(_) => true,
            Path::Tree => false,
        }
    }

    /// Text from a mark on: like [`Encoder::encode_text`], but not at its start unless `fresh`.
    fn encode_rest(
        &self,
        text: &[u8],
        (fresh, first): (bool, bool),
        specials: Specials,
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) -> Result<()> {
        match self.path {
            Path::Marked(_) if !fresh => {
                self.encode_marked(text, false, super::Prefix::Never, scratch, sink);
                Ok(())
            }
            _ => self.encode_text(text, first, specials, scratch, sink),
        }
    }
}
