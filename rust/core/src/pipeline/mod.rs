//! The whole way from a text to ids: added tokens, normalizer, cuts, model.
//!
//! [`Encoder`] carries out a [`Description`] and agrees with the original id for id. Pipelines of the usual shapes take
//! a short way ([`shape`]): byte-level ones are scanned where they lie, and where spaces only become `▁` the model reads
//! them as that. All others go step by step, and so does the reference.

mod added;
mod decoding;
mod engine;
mod general;
mod incremental;
mod pretokens;
mod reach;
mod runs;
mod shape;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use crate::decode;
use crate::error::{Error, Result};
use crate::formats::{AddedToken, Description, Model, PostProcessor};
use crate::ids::TokenId;
use crate::limits::Limits;
use crate::normalize;
use crate::pretoken::{Known, Scanner, ScannerVisitor, tree};
use crate::vocab::Vocabulary;
use added::{Added, Part};
use decoding::Joining;
use engine::{Counter, Engine, Pool, Scratch, Sink};
use shape::Prefix;

pub use added::Specials;
pub use engine::Cancel;
pub(crate) use engine::{Engine as PieceEngine, Pool as PiecePool, Scratch as PieceScratch};
pub use general::WithOffsets;
pub use incremental::Incremental;
pub use pretokens::Pretokens;
pub(crate) use runs::in_runs;
pub(crate) use shape::{
    always_puts_a_space_first, is_byte_level, is_marked, mark_of, normalizer_steps, puts_a_space_first,
    steps as pre_tokenizer_steps,
};

/// Whether the ids of the post-processor's template go around a text's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The text's ids alone.
    Without,
    /// `add_special_tokens` of `tokenizers`.
    With,
}

/// Ids of many texts in one array: text `i` has `ids[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ragged {
    /// All ids.
    pub ids: Vec<TokenId>,
    /// One more than there are texts.
    pub offsets: Vec<i64>,
}

/// How the text between added tokens is cut.
enum Path {
    /// By a scanner; the model takes raw bytes.
    Scanned(Known),
    /// At places that no merge can bridge, spaces standing for `▁`.
    Marked(Prefix),
    /// Step by step.
    Tree,
}

/// A tokenizer ready to encode and decode. Immutable; calls from many threads do not wait for each other.
pub struct Encoder {
    description: Arc<Description>,
    raw_added: Option<Added>,
    normalized_added: Option<Added>,
    /// Added tokens whose content the normalizer changes, and what it becomes; by id.
    respelt: Vec<(TokenId, Vec<u8>)>,
    normalizer: normalize::Compiled,
    tree: tree::Compiled,
    path: Path,
    engine: Engine,
    decoder: decode::Compiled,
    joining: Joining,
    vocabulary: OnceLock<Arc<Vocabulary>>,
    limits: Limits,
    /// Whether a text has to be aligned for its pretokens to be exact.
    asks_for_start: bool,
    before: Vec<TokenId>,
    after: Vec<TokenId>,
    pool: Pool,
}

/// Largest text of one call: positions inside a pretoken are 32 bits wide.
const MAX_TEXT: usize = u32::MAX as usize - 1;

impl Encoder {
    /// Builds the tables. O(size of the description).
    ///
    /// # Errors
    /// `Unsupported` for what cannot be carried out exactly, `Limit` for a pattern over its bounds.
    pub fn new(description: Arc<Description>, limits: &Limits) -> Result<Self> {
        let normalizer = normalize::Compiled::new(&description.normalizer, limits)?;
        // BPE reads bytes and has the alphabet in its table; other models read the alphabet's characters.
        let reads_bytes = matches!(description.model, Model::Bpe(_) | Model::Trie(_));
        let tree = if reads_bytes { tree::Compiled::new } else { tree::Compiled::of_text };
        let tree = tree(&description.pre_tokenizer, limits)?;
        let marked = shape::marked(&description);
        let scanned = crate::pretoken::recognise(&description.pre_tokenizer)
            .filter(|_| reads_bytes || !shape::writes_alphabet(&description.pre_tokenizer));
        let path = match (scanned, marked) {
            (Some(known), _) => Path::Scanned(known),
            (None, Some(prefix)) => Path::Marked(prefix),
            (None, None) => Path::Tree,
        };
        // A normalizer that writes the byte alphabet leaves it in the pretokens: the model reads it as it is.
        let raw_bytes = tree.output() == tree::Output::RawBytes;
        let engine = Engine::new(&description, raw_bytes, matches!(path, Path::Marked(_)), limits)?;
        let (mut raw, mut normalized, mut respelt) = (Vec::new(), Vec::new(), Vec::new());
        for token in &description.added_tokens {
            let content = token.content.as_bytes();
            if token.normalized {
                let pattern = normalizer.apply(content)?.into_owned();
                if pattern.is_empty() && !content.is_empty() {
                    let found = format!(
                        "the normalizer leaves nothing of {:?}, which would be found everywhere",
                        token.content
                    );
                    return Err(Error::unsupported("added_tokens", found, "set its normalized to false"));
                }
                if pattern != content {
                    respelt.push((token.id, pattern.clone()));
                }
                normalized.push((pattern, token.clone()));
            } else {
                raw.push((content.to_vec(), token.clone()));
            }
        }
        respelt.sort_unstable();
        let decoder = decode::Compiled::new(&description.decoder, limits)?;
        let joining = Joining::of(&description);
        let asks_for_start = shape::marks_first(&description) && (!normalizer.is_identity() || tree.needs_alignment());
        let (before, after) = match &description.post_processor {
            PostProcessor::None | PostProcessor::ByteLevel { .. } => (Vec::new(), Vec::new()),
            PostProcessor::Sequence { before, after, .. } | PostProcessor::Template { before, after, .. } => {
                (before.clone(), after.clone())
            }
        };
        Ok(Self {
            raw_added: Added::new(unique(raw))?,
            normalized_added: Added::new(unique(normalized))?,
            respelt,
            description,
            normalizer,
            tree,
            path,
            engine,
            decoder,
            joining,
            vocabulary: OnceLock::new(),
            limits: limits.clone(),
            asks_for_start,
            before,
            after,
            pool: Pool::default(),
        })
    }

    /// What the tokenizer was built from.
    pub fn description(&self) -> &Arc<Description> {
        &self.description
    }

    /// The ids of a text.
    ///
    /// O(n log n) at worst, O(n) for pipelines with a scanner or cuts.
    ///
    /// # Errors
    /// `Limit` for a text of 4 GiB or more, and when a look-around pattern backtracks past its bound.
    pub fn encode(&self, text: &[u8], specials: Specials, template: Template) -> Result<Vec<TokenId>> {
        self.encode_until(text, specials, template, None)
    }

    /// [`Encoder::encode`] that stops early when `cancel` is set; the ids are then incomplete, to be dropped.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_until(
        &self,
        text: &[u8],
        specials: Specials,
        template: Template,
        cancel: Option<&Arc<Cancel>>,
    ) -> Result<Vec<TokenId>> {
        let mut scratch = self.pool.take();
        scratch.cancel = cancel.cloned();
        // English gives 3 to 5 bytes a token; a text that gives fewer grows the vector once or twice.
        let mut ids = Vec::with_capacity(text.len() / 4 + 16);
        let done = self.encode_into(text, specials, template, &mut scratch, &mut ids);
        self.pool.give(scratch);
        done.map(|()| ids)
    }

    /// How many ids a text has; keeps none of them. A set `cancel` stops it early, with a count to be dropped.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn count(&self, text: &[u8], specials: Specials, cancel: Option<&Arc<Cancel>>) -> Result<usize> {
        let mut scratch = self.pool.take();
        scratch.cancel = cancel.cloned();
        let mut counter = Counter::default();
        let done = self.encode_into(text, specials, Template::Without, &mut scratch, &mut counter);
        self.pool.give(scratch);
        done.map(|()| counter.0)
    }

    /// The ids of many texts, on up to `threads` threads; the result does not depend on their number.
    ///
    /// # Errors
    /// As [`Encoder::encode`], for the first text that fails; `None` when cancelled.
    pub fn encode_batch(
        &self,
        texts: &[&[u8]],
        specials: Specials,
        template: Template,
        threads: usize,
        cancel: &Arc<Cancel>,
    ) -> Result<Option<Ragged>> {
        let mut parts = in_runs(texts, threads, |texts| self.encode_run(texts, specials, template, cancel));
        if parts.len() == 1 {
            return parts.pop().unwrap_or(Ok(None));
        }
        let mut all = Ragged { ids: Vec::new(), offsets: Vec::with_capacity(texts.len() + 1) };
        all.offsets.push(0);
        for part in parts {
            let Some(part) = part? else { return Ok(None) };
            let base = to_i64(all.ids.len());
            all.offsets.extend(part.offsets[1..].iter().map(|offset| base + offset));
            all.ids.extend_from_slice(&part.ids);
        }
        Ok(Some(all))
    }

    fn encode_run(
        &self,
        texts: &[&[u8]],
        specials: Specials,
        template: Template,
        cancel: &Arc<Cancel>,
    ) -> Result<Option<Ragged>> {
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let mut out = Ragged { ids: Vec::with_capacity(bytes / 4 + 16), offsets: Vec::with_capacity(texts.len() + 1) };
        out.offsets.push(0);
        let mut scratch = self.pool.take();
        scratch.cancel = Some(Arc::clone(cancel));
        for text in texts {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            self.encode_into(text, specials, template, &mut scratch, &mut out.ids)?;
            out.offsets.push(to_i64(out.ids.len()));
        }
        self.pool.give(scratch);
        Ok(Some(out))
    }

    fn encode_into(
        &self,
        text: &[u8],
        specials: Specials,
        template: Template,
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) -> Result<()> {
        if text.len() > MAX_TEXT {
            return Err(Error::value("text", format!("{} bytes", text.len()), "cut it into texts below 4 GiB"));
        }
        if template == Template::With {
            sink.many(&self.before);
        }
        match &self.raw_added {
            None => self.encode_text(text, true, specials, scratch, sink)?,
            Some(added) => added.split(text, specials, |part| match part {
                Part::Text(start, end) => self.encode_text(&text[start..end], start == 0, specials, scratch, sink),
                Part::Token(id, _, _) => {
                    sink.push(id);
                    Ok(())
                }
            })?,
        }
        if template == Template::With {
            sink.many(&self.after);
        }
        Ok(())
    }

    /// Text between added tokens that are searched in raw text.
    fn encode_text(
        &self,
        text: &[u8],
        first: bool,
        specials: Specials,
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) -> Result<()> {
        if let Path::Marked(prefix) = self.path {
            self.encode_marked(text, first, prefix, scratch, sink);
            return Ok(());
        }
        if first && self.asks_for_start {
            // Where the normalized text starts in the original decides: only the aligned way knows it.
            return self.encode_aligned(text, specials, scratch, sink);
        }
        let normalized = self.normalizer.apply(text)?;
        match &self.normalized_added {
            None => self.encode_pretokens(&normalized, first, scratch, sink),
            Some(added) => added.split(&normalized, specials, |part| match part {
                Part::Text(start, end) => {
                    self.encode_pretokens(&normalized[start..end], first && start == 0, scratch, sink)
                }
                Part::Token(id, _, _) => {
                    sink.push(id);
                    Ok(())
                }
            }),
        }
    }

    fn encode_pretokens(&self, text: &[u8], first: bool, scratch: &mut Scratch, sink: &mut impl Sink) -> Result<()> {
        match self.path {
            Path::Scanned(known) => {
                crate::pretoken::with_scanner(known, Scan { text, engine: &self.engine, scratch, sink });
                Ok(())
            }
            Path::Marked(_) | Path::Tree => self.encode_tree(text, first, scratch, sink),
        }
    }

    /// Spaces stand for `▁`; the text is cut where no merge can bridge.
    fn encode_marked(&self, text: &[u8], first: bool, prefix: Prefix, scratch: &mut Scratch, sink: &mut impl Sink) {
        if text.is_empty() {
            return;
        }
        let starts_marked = text[0] == b' ' || text.starts_with("▁".as_bytes());
        let prepend = match prefix {
            Prefix::Never => false,
            Prefix::Always => true,
            Prefix::AlwaysUnlessMarked => !starts_marked,
            Prefix::FirstUnlessMarked => first && !starts_marked,
        };
        let mut at = 0;
        if prepend {
            // The first part again, with a space in front: the cut behind it stays a cut.
            at = self.engine.next_cut(text, 0);
            let mut buffer = std::mem::take(&mut scratch.buffer);
            buffer.clear();
            buffer.push(b' ');
            buffer.extend_from_slice(&text[..at]);
            self.engine.piece(&buffer, 0, buffer.len(), scratch, sink);
            scratch.buffer = buffer;
        }
        while at < text.len() && !scratch.is_cancelled() {
            let end = self.engine.next_cut(text, at);
            self.engine.piece(text, at, end, scratch, sink);
            at = end;
        }
    }

    /// The BPE model, where it is one.
    pub(crate) fn bpe(&self) -> Option<&crate::bpe::BpeEngine> {
        match &self.engine {
            Engine::Bpe(engine) => Some(engine),
            _ => None,
        }
    }

    /// The Unigram model, where it is one.
    pub(crate) fn unigram(&self) -> Option<&crate::unigram::Engine> {
        match &self.engine {
            Engine::Unigram(engine) => Some(engine),
            _ => None,
        }
    }

    /// Whether the model reads spaces as they are and a text is one pretoken.
    pub(crate) fn is_marked(&self) -> bool {
        matches!(self.path, Path::Marked(_))
    }

    /// The ids of a text in which special tokens are ordinary text; without a space that the tokenizer puts in front, if
    /// the text has it already.
    pub(crate) fn encode_as_text(&self, text: &[u8]) -> Result<Vec<TokenId>> {
        let text = match text {
            [b' ', rest @ ..] if shape::always_puts_a_space_first(&self.description) => rest,
            _ => text,
        };
        self.encode(text, Specials::Text, Template::Without)
    }

    /// Whether `ids` are what the tokenizer itself makes of their bytes: `encode(decode(ids)) == ids`.
    pub fn is_canonical(&self, ids: &[TokenId]) -> Result<bool> {
        let bytes = self.decode(ids, false)?;
        Ok(self.encode(&bytes, Specials::Parse, Template::Without)? == ids)
    }
}

/// The loop that nearly all time is spent in: scan a pretoken, look it up, write its ids.
struct Scan<'a, S: Sink> {
    text: &'a [u8],
    engine: &'a Engine,
    scratch: &'a mut Scratch,
    sink: &'a mut S,
}

impl<S: Sink> ScannerVisitor<()> for Scan<'_, S> {
    #[inline]
    fn visit<C: Scanner>(self, scanner: C) {
        let mut at = 0;
        for end in scanner.pieces(self.text) {
            if self.scratch.is_cancelled() {
                return; // what there is so far is dropped
            }
            self.engine.piece(self.text, at, end, self.scratch, self.sink);
            at = end;
        }
    }
}

/// One token for each pattern: the last of equal ones, as in a map.
fn unique(mut patterns: Vec<(Vec<u8>, AddedToken)>) -> Vec<(Vec<u8>, AddedToken)> {
    let mut seen = std::collections::HashSet::new();
    patterns.reverse();
    patterns.retain(|(pattern, _)| seen.insert(pattern.clone()));
    patterns.reverse();
    patterns
}

fn to_i64(n: usize) -> i64 {
    i64::try_from(n).expect("a vector is shorter than 2^63")
}
