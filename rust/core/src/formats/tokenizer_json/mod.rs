//! Reader of Hugging Face's `tokenizer.json`.
//!
//! Strict and in one pass: the vocabulary and the merges go from the bytes of the file into their final arrays, and
//! only the small components become JSON values. What the file says about truncation and padding is ignored, since
//! encoding never truncates or pads. Fields outside the nine known ones are ignored, as `tokenizers` does.
//!
//! Stricter than `tokenizers`, which resolves these silently: duplicate keys and ids, components without a `type`,
//! unknown fields that are switched on, templates that name ids of no token. Dropout is refused: its ids are random.

mod added;
mod components;
mod fields;
mod merges;
mod model;
pub(crate) mod number;
mod post;
mod scan;

use hashbrown::HashSet;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::formats::{AddedToken, Description, Model, Source, Spellings};
use crate::ids::TokenId;
use crate::limits::Limits;

use super::table::seed_of;
use scan::Scanner;

/// The largest small component, in bytes of JSON: a compiled character map has less than one megabyte. A bound, for
/// a JSON value takes up to 16 times the memory of its text.
const COMPONENT_BYTES: usize = 16 << 20;

/// Reads a `tokenizer.json`.
///
/// O(n) time, three hash lookups for each merge. Ids are those that `tokenizers` gives, also where the file's
/// `added_tokens` declare others.
///
/// # Errors
/// [`crate::ErrorKind::Format`] for a file that is malformed or contradicts itself, [`crate::ErrorKind::Unsupported`]
/// for a component that is unknown or not deterministic, [`crate::ErrorKind::Limit`] for one over a bound of `limits`.
pub fn read(data: &[u8], limits: &Limits) -> Result<Description> {
    // Positions inside the file are u32.
    let bound = limits.file_bytes.min(u32::MAX as usize);
    if data.len() > bound {
        return Err(Error::limit("tokenizer.json", data.len(), bound, "file_bytes"));
    }
    if data.starts_with(b"\xEF\xBB\xBF") {
        return Err(Error::format("tokenizer.json", "starts with a byte-order mark", "remove its first three bytes"));
    }
    let mut scan = Scanner::new(data, limits.depth);
    let top = Top::read(&mut scan, data, limits)?;
    scan.finish()?;
    top.describe(limits)
}

/// Takes a value that is small by nature and builds it.
fn small_value(scan: &mut Scanner<'_>, path: &str, depth: usize) -> Result<Value> {
    scan.peek();
    let start = scan.pos();
    scan.skip(depth)?;
    let len = scan.pos() - start;
    if len > COMPONENT_BYTES {
        return Err(Error::unsupported(path, format!("a component of {len} bytes"), ""));
    }
    scan.rewind(start);
    scan.value(depth)
}

/// The fields of the document.
#[derive(Default)]
struct Top {
    added: Vec<AddedToken>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Option<model::Loaded>,
}

impl Top {
    fn read(scan: &mut Scanner<'_>, data: &[u8], limits: &Limits) -> Result<Self> {
        let mut top = Self::default();
        let mut seen = HashSet::new();
        let mut more = scan.open(b'{', b'}')?;
        while more {
            let key = scan.text()?;
            scan.expect(b':', "expected `:`")?;
            match key.as_str() {
                "version" => version(scan)?,
                "added_tokens" => top.added = added::read(scan, limits)?,
                "normalizer" => top.normalizer = small_value(scan, &key, 1)?,
                "pre_tokenizer" => top.pre_tokenizer = small_value(scan, &key, 1)?,
                "post_processor" => top.post_processor = small_value(scan, &key, 1)?,
                "decoder" => top.decoder = small_value(scan, &key, 1)?,
                "model" => top.model = Some(model::read(scan, seed_of(data), limits)?),
                _ => scan.skip(1)?,
            }
            if seen.contains(&key) {
                return Err(Error::format(key, "the field is there twice", "keep one of them"));
            }
            seen.insert(key);
            more = scan.another(b'}')?;
        }
        Ok(top)
    }

    fn describe(self, limits: &Limits) -> Result<Description> {
        let Some(loaded) = self.model else {
            return Err(Error::format("model", "the field is missing", "a tokenizer.json has a model"));
        };
        let vocab = spellings(&loaded.model);
        let total = vocab.len().saturating_add(self.added.len());
        if total > limits.tokens {
            return Err(Error::limit("added_tokens", total, limits.tokens, "tokens"));
        }
        let owners = Owners::new(vocab, limits.max_id_for(total))?;
        let added_tokens = added::assign(self.added, vocab, &loaded.table, &|id| owners.has(id))?;
        let highest = added_tokens.iter().map(|t| t.id).max().unwrap_or(0);
        if highest > limits.max_id_for(total) {
            let bound = limits.max_id_for(total) as usize;
            return Err(Error::limit("added_tokens", highest as usize, bound, "max_id"));
        }
        let added_ids: HashSet<TokenId> = added_tokens.iter().map(|t| t.id).collect();
        let is_token = |id: TokenId| owners.has(id) || added_ids.contains(&id);
        Ok(Description {
            source: Source::TokenizerJson,
            piece_kinds: Vec::new(),
            normalizer: components::normalizer("normalizer", &self.normalizer, limits)?,
            pre_tokenizer: components::pre_tokenizer("pre_tokenizer", &self.pre_tokenizer, limits)?,
            post_processor: post::read("post_processor", &self.post_processor, &is_token)?,
            decoder: components::decoder("decoder", &self.decoder, limits)?,
            added_tokens,
            model: loaded.model,
            declared_roles: Vec::new(),
            chat_template: None,
        })
    }
}

fn version(scan: &mut Scanner<'_>) -> Result<()> {
    match small_value(scan, "version", 1)? {
        Value::String(v) if v == "1.0" => Ok(()),
        other => Err(Error::unsupported("version", format!("{other} where \"1.0\" is known"), "")),
    }
}

/// The tokens of a model.
pub(crate) fn spellings(model: &Model) -> &Spellings {
    match model {
        Model::Bpe(m) => &m.vocab,
        Model::Unigram(m) => &m.vocab,
        Model::WordPiece(m) => &m.vocab,
        Model::WordLevel(m) => &m.vocab,
        Model::Trie(m) => &m.vocab,
    }
}

/// Which ids the model's vocabulary uses.
struct Owners {
    entry_of: Vec<u32>,
}

impl Owners {
    /// Refuses an id that two spellings share and one over `max_id`.
    fn new(vocab: &Spellings, max_id: TokenId) -> Result<Self> {
        const NONE: u32 = u32::MAX;
        let path = |entry: usize| format!("model.vocab[{:?}]", String::from_utf8_lossy(vocab.get(entry)));
        let highest = vocab.ids.iter().copied().max().unwrap_or(0);
        if highest > max_id {
            let entry = vocab.ids.iter().position(|&id| id == highest).unwrap_or(0);
            return Err(Error::limit(path(entry), highest as usize, max_id as usize, "max_id"));
        }
        let mut entry_of = vec![NONE; highest as usize + 1];
        for (entry, &id) in vocab.ids.iter().enumerate() {
            let owner = &mut entry_of[id as usize];
            if *owner != NONE {
                let other = String::from_utf8_lossy(vocab.get(*owner as usize));
                let found = format!("has the id {id} of {other:?}");
                return Err(Error::format(path(entry), found, "give each token its own id"));
            }
            *owner = u32::try_from(entry).expect("fewer entries than bytes");
        }
        Ok(Self { entry_of })
    }

    fn has(&self, id: TokenId) -> bool {
        self.entry_of.get(id as usize).is_some_and(|&entry| entry != u32::MAX)
    }
}

#[cfg(test)]
mod tests;
