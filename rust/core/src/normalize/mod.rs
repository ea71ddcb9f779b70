//! What happens to a text before it is cut.
//!
//! [`Compiled`] runs a [`Normalizer`] exactly as `tokenizers` 0.23.3 does, in one of two ways: [`Compiled::apply`] for the
//! bytes alone, fast and borrowed where nothing changes, and [`Compiled::apply_aligned`], which also keeps the
//! [`Aligned`] original bytes. Both give the same bytes.
//!
//! Bytes that are not UTF-8 stay as they are. They separate: a mark after them joins nothing before them.
//!
//! # Where `tokenizers` is not followed
//! - Its panics. After an empty match at the start of the text was replaced (`Replace` of `^`), its next normalizer
//!   indexes past the end; here every normalizer sees the whole text.
//! - `Prepend` of nothing is nothing; `tokenizers` moves the first character's alignment to (0, 0).

pub mod aligned;
mod chars;
pub(crate) mod charset;
pub mod charsmap;
mod forms;
mod precompiled;
pub(crate) mod replace;
pub mod sentencepiece;
pub(crate) mod sink;
mod tables;
pub(crate) mod text;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use crate::decode::byte_alphabet;
use crate::error::{Error, Result};
use crate::formats::description::Normalizer;
use crate::limits::Limits;

pub use aligned::{Aligned, Span, View};
use chars::PerChar;
use forms::Form;
use precompiled::Precompiled;
use replace::Replace;
use sentencepiece::SpNormalizer;
use sink::{AlignedSink, PlainSink, Sink};

/// A short text may grow by this much, whatever `Limits.text_growth` says.
const FREE_GROWTH: usize = 1 << 20;

/// A compiled [`Normalizer`].
#[derive(Clone, Debug)]
pub struct Compiled {
    nodes: Vec<Node>,
    growth: usize,
}

/// One normalizer; sequences are flat.
#[derive(Clone, Debug)]
enum Node {
    PerChar(PerChar),
    Form(Form),
    Strip { left: bool, right: bool },
    Replace(Box<Replace>),
    Prepend(String),
    Precompiled(Box<Precompiled>),
    ByteLevel,
    SentencePiece(Box<SpNormalizer>),
}

/// What a node makes of a text.
enum Outcome<T> {
    Same,
    Part(Range<usize>),
    New(T),
}

impl Compiled {
    /// Compiles `normalizer`. O(its size).
    ///
    /// # Errors
    /// A pattern or a character map that cannot be used, nesting over `limits.depth`.
    pub fn new(normalizer: &Normalizer, limits: &Limits) -> Result<Self> {
        let mut nodes = Vec::new();
        flatten(normalizer, limits, 0, &mut nodes)?;
        Ok(Self { nodes, growth: limits.text_growth })
    }

    /// Whether no text is ever changed.
    pub fn is_identity(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether the text ends up in GPT-2's byte alphabet (`ByteLevel` is the last normalizer).
    pub fn ends_in_byte_alphabet(&self) -> bool {
        matches!(self.nodes.last(), Some(Node::ByteLevel))
    }

    /// Whether the first byte of a normalized text, if there is one, always comes from the first character of the text.
    /// Then a text that starts where the original starts does so after normalization, too.
    pub fn keeps_start(&self) -> bool {
        self.nodes.iter().all(Node::keeps_start)
    }

    /// Returns the normalized text; borrowed when it is a part of `text`.
    ///
    /// O(n) per normalizer for n bytes of its input, but for regular expressions with look-around and n log n for n
    /// marks on one character.
    ///
    /// # Errors
    /// A pattern passed `Limits.backtrack_steps`, or the text passed `Limits.text_growth`.
    pub fn apply<'a>(&self, text: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        let bound = self.bound(text.len());
        let mut text = Cow::Borrowed(text);
        for node in &self.nodes {
            text = match node.outcome(&text, |start, source| {
                if let Node::SentencePiece(normalizer) = node {
                    let mut out = Vec::with_capacity(source.len() + source.len() / 8);
                    normalizer.normalize(source, &mut out, None);
                    return if out.len() > bound { Err(over(bound)) } else { Ok(out) };
                }
                let mut sink = PlainSink::new(source.len() + source.len() / 8, bound);
                node.run(source, start, &mut sink)?;
                sink.finish().ok_or_else(|| over(bound))
            })? {
                Outcome::Same => text,
                Outcome::Part(range) => aligned::trim(text, range),
                Outcome::New(bytes) => Cow::Owned(bytes),
            };
        }
        Ok(text)
    }

    /// Returns the normalized text with its alignment. The bytes equal those of [`Self::apply`].
    ///
    /// The spans equal the alignments of `NormalizedString`, in bytes.
    ///
    /// # Errors
    /// Those of [`Self::apply`].
    pub fn apply_aligned<'a>(&self, text: Aligned<'a>) -> Result<Aligned<'a>> {
        let bound = self.bound(text.bytes().len());
        let mut text = text;
        for node in &self.nodes {
            let outcome = node.outcome(text.bytes(), |start, source| {
                if let Node::SentencePiece(normalizer) = node {
                    let aligned = sentencepiece_aligned(normalizer, text.view());
                    return if aligned.bytes().len() > bound { Err(over(bound)) } else { Ok(aligned) };
                }
                let mut sink = AlignedSink::new(text.view(), bound);
                node.run(source, start, &mut sink)?;
                sink.finish().ok_or_else(|| over(bound))
            })?;
            text = match outcome {
                Outcome::Same => text,
                Outcome::Part(range) => text.trim(range),
                Outcome::New(aligned) => aligned,
            };
        }
        Ok(text)
    }

    fn bound(&self, len: usize) -> usize {
        len.saturating_mul(self.growth).saturating_add(FREE_GROWTH)
    }
}

/// The spans that [`SpNormalizer`] reports, through those of its input. What was put in has an empty span.
fn sentencepiece_aligned(normalizer: &SpNormalizer, text: View<'_>) -> Aligned<'static> {
    let (mut bytes, mut origins) = (Vec::new(), Vec::new());
    normalizer.normalize(text.bytes(), &mut bytes, Some(&mut origins));
    let len = text.bytes().len();
    let point = |at: usize| {
        let before = || text.origin(at.saturating_sub(1)..at).map_or(text.start(), |span| span.end);
        let at = text.origin(at..(at + 1).min(len)).map_or_else(before, |span| span.start);
        Span { start: at, end: at }
    };
    let span =
        |&(start, end): &(u32, u32)| text.origin(start as usize..end as usize).unwrap_or_else(|| point(start as usize));
    let spans = origins.iter().map(span).collect();
    Aligned::from_parts(bytes, spans, text.start())
}

fn over(bound: usize) -> Error {
    Error::limit("normalizer", bound.saturating_add(1), bound, "text_growth")
}

fn flatten(normalizer: &Normalizer, limits: &Limits, depth: usize, nodes: &mut Vec<Node>) -> Result<()> {
    if depth > limits.depth {
        return Err(Error::limit("normalizer", depth, limits.depth, "depth"));
    }
    let node = match normalizer {
        Normalizer::Sequence(all) => {
            return all.iter().try_for_each(|normalizer| flatten(normalizer, limits, depth + 1, nodes));
        }
        Normalizer::Nfc => Node::Form(Form { compose: true, compat: false }),
        Normalizer::Nfd => Node::Form(Form { compose: false, compat: false }),
        Normalizer::Nfkc => Node::Form(Form { compose: true, compat: true }),
        Normalizer::Nfkd => Node::Form(Form { compose: false, compat: true }),
        Normalizer::Lowercase => Node::PerChar(PerChar::Lowercase),
        Normalizer::Strip { left, right } => Node::Strip { left: *left, right: *right },
        Normalizer::StripAccents => Node::PerChar(PerChar::StripAccents),
        Normalizer::Replace { pattern, content } => Node::Replace(Box::new(Replace::new(pattern, content, limits)?)),
        Normalizer::Prepend(text) if text.is_empty() => return Ok(()),
        Normalizer::Prepend(text) => Node::Prepend(text.clone()),
        Normalizer::Bert { clean_text, handle_chinese_chars, strip_accents, lowercase } => {
            if *clean_text {
                nodes.push(Node::PerChar(PerChar::BertClean));
            }
            if *handle_chinese_chars {
                nodes.push(Node::PerChar(PerChar::BertCjk));
            }
            if strip_accents.unwrap_or(*lowercase) {
                nodes.push(Node::Form(Form { compose: false, compat: false }));
                nodes.push(Node::PerChar(PerChar::BertAccents));
            }
            if *lowercase {
                nodes.push(Node::PerChar(PerChar::Lowercase));
            }
            return Ok(());
        }
        Normalizer::Precompiled(blob) if blob.is_empty() => return Ok(()),
        Normalizer::Precompiled(blob) => Node::Precompiled(Box::new(Precompiled::new(blob, limits)?)),
        Normalizer::Nmt => Node::PerChar(PerChar::Nmt),
        Normalizer::ByteLevel => Node::ByteLevel,
        Normalizer::SentencePiece(spec) => Node::SentencePiece(Box::new(SpNormalizer::new(spec, limits)?)),
    };
    nodes.push(node);
    Ok(())
}

impl Node {
    fn keeps_start(&self) -> bool {
        match self {
            Self::PerChar(node) => matches!(node, PerChar::Lowercase | PerChar::BertCjk),
            Self::Form(_) | Self::Prepend(_) | Self::ByteLevel => true,
            Self::Strip { left, .. } => !left,
            Self::Replace(replace) => replace.keeps_start(),
            Self::Precompiled(_) | Self::SentencePiece(_) => false,
        }
    }

    /// What becomes of `text`; `rewrite` is given the byte from which on it changes.
    fn outcome<'t, T>(&self, text: &'t [u8], rewrite: impl FnOnce(usize, &'t [u8]) -> Result<T>) -> Result<Outcome<T>> {
        let first = match self {
            Self::PerChar(node) => node.first_change(text),
            Self::Form(form) => form.first_change(text),
            Self::Strip { left, right } => {
                let range = chars::strip(text, *left, *right);
                return Ok(if range == (0..text.len()) { Outcome::Same } else { Outcome::Part(range) });
            }
            Self::Replace(replace) => replace.first_change(text)?,
            Self::Prepend(_) => (!text.is_empty()).then_some(0),
            Self::Precompiled(map) => map.first_change(text),
            Self::ByteLevel => text.iter().position(|b| !matches!(b, b'!'..=b'~')),
            Self::SentencePiece(_) => (!text.is_empty()).then_some(0),
        };
        match first {
            None => Ok(Outcome::Same),
            Some(start) => rewrite(start, text).map(Outcome::New),
        }
    }

    /// Writes what `text` becomes; it stays as it is up to `start`.
    fn run<S: Sink>(&self, text: &[u8], start: usize, sink: &mut S) -> Result<()> {
        // Patterns look around, and a map that drops the first character shifts what follows: they start over.
        let (head, tail) = text.split_at(start);
        match self {
            Self::PerChar(node) => {
                sink.keep(head);
                node.run(tail, sink);
            }
            Self::Form(form) => {
                sink.keep(head);
                form.run(tail, sink);
            }
            // These two are not written move by move.
            Self::Strip { .. } | Self::SentencePiece(_) => sink.keep(text),
            Self::Replace(replace) => replace.run(text, sink)?,
            Self::Prepend(prefix) => {
                sink.insert_before_next(prefix);
                sink.keep(text);
            }
            Self::Precompiled(map) => map.run(text, sink),
            Self::ByteLevel => {
                sink.keep(head);
                for (start, end, _) in text::units(tail) {
                    for (i, &byte) in tail[start..end].iter().enumerate() {
                        if i == 0 {
                            sink.replace(byte_alphabet::char_of(byte));
                        } else {
                            sink.insert(byte_alphabet::char_of(byte));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
