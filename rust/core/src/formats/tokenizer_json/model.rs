//! The `model` object: the large arrays straight into [`Spellings`] and merges, the small fields by name.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::decode::byte_alphabet;
use crate::error::{Error, Result};
use crate::formats::table::SpellingTable;
use crate::formats::{Bpe, Merge, Model, Spellings, Symbols, Unigram, UnigramFlavour, WordLevel, WordPiece};
use crate::ids::TokenId;
use crate::limits::Limits;

use super::fields::wrong;
use super::scan::Scanner;
use super::{merges, small_value};

/// The small fields that some model has; any other must be switched off (see [`super::fields::Fields::only`]).
const SMALL: [&str; 10] = [
    "type",
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
    "unk_id",
    "max_input_chars_per_word",
];

/// Fields that only say how fast the model runs.
const HARMLESS: [&str; 1] = ["cache_capacity"];

/// What the object holds, before its type decides what it means.
#[derive(Default)]
struct Parts {
    small: BTreeMap<&'static str, Value>,
    vocab: Option<Vocab>,
    merges_at: Option<usize>,
    merges: Option<Vec<Merge>>,
}

struct Vocab {
    spellings: Spellings,
    /// The scores of a list of pieces; `None` for an object of ids.
    scores: Option<Vec<f64>>,
    table: SpellingTable,
}

/// A model, and the table of its spellings for whoever resolves tokens next.
pub(super) struct Loaded {
    pub(super) model: Model,
    pub(super) table: SpellingTable,
}

/// Takes the object `model`.
pub(super) fn read(scan: &mut Scanner<'_>, seed: u64, limits: &Limits) -> Result<Loaded> {
    scan.field = "model";
    let mut parts = Parts::default();
    let mut more = scan.open(b'{', b'}')?;
    let mut key = Vec::new();
    while more {
        let name = scan.string(&mut key)?;
        let small = SMALL.iter().find(|small| small.as_bytes() == name);
        let twice = match name {
            b"vocab" => parts.vocab.is_some(),
            b"merges" => parts.merges_at.is_some(),
            _ => small.is_some_and(|small| parts.small.contains_key(small)),
        };
        let path = format!("model.{}", String::from_utf8_lossy(name));
        if twice {
            return Err(Error::format(path, "the field is there twice", "keep one of them"));
        }
        scan.expect(b':', "expected `:`")?;
        match (name, small) {
            (b"vocab", _) => parts.vocab = Some(vocab(scan, seed, limits)?),
            (b"merges", _) => read_merges(scan, &mut parts, limits)?,
            (_, Some(small)) => {
                parts.small.insert(small, small_value(scan, &path, 2)?);
            }
            _ => unknown_field(scan, &path)?,
        }
        more = scan.another(b'}')?;
    }
    scan.field = "tokenizer.json";
    build(scan, parts, limits)
}

/// A field that no model has: passes when it is switched off or harmless.
fn unknown_field(scan: &mut Scanner<'_>, path: &str) -> Result<()> {
    scan.peek();
    let start = scan.pos();
    let glimpse = scan.glimpse();
    scan.skip(2)?;
    // The longest spelling of "off" is `false`; `[]` and `{}` are cut by the glimpse.
    let off = matches!(glimpse.trim_end(), "null" | "false" | "0" | "0.0" | "\"\"");
    let empty = matches!(glimpse.as_bytes().first(), Some(b'[' | b'{')) && scan.pos() - start == 2;
    let harmless = HARMLESS.iter().any(|name| path.strip_prefix("model.") == Some(name));
    if off || empty || harmless {
        return Ok(());
    }
    Err(Error::unsupported(
        path,
        "an unknown field of the model, which might change ids",
        "remove the field if it has no effect",
    ))
}

/// Takes `merges`, now where the vocabulary is known, else (fields may stand in any order) its place for later.
fn read_merges(scan: &mut Scanner<'_>, parts: &mut Parts, limits: &Limits) -> Result<()> {
    scan.peek();
    parts.merges_at = Some(scan.pos());
    let is_bpe = parts.small.get("type").and_then(Value::as_str) == Some("BPE");
    match &parts.vocab {
        Some(vocab) if is_bpe && parts.small.contains_key("continuing_subword_prefix") => {
            let prefix = string(parts, "continuing_subword_prefix")?.unwrap_or_default();
            let merges = merges::read(scan, &vocab.spellings, &vocab.table, prefix.as_bytes(), limits)?;
            parts.merges = Some(merges);
            Ok(())
        }
        _ => scan.skip(2),
    }
}

/// Takes `vocab`: an object of ids or a list of pieces with their scores.
fn vocab(scan: &mut Scanner<'_>, seed: u64, limits: &Limits) -> Result<Vocab> {
    scan.field = "model.vocab";
    let mut spellings = Spellings::default();
    let mut scores = None;
    match scan.peek() {
        b'{' => object(scan, &mut spellings, limits)?,
        b'[' => scores = Some(pieces(scan, &mut spellings, limits)?),
        _ => {
            let found = format!("{} where an object or an array belongs", scan.glimpse());
            return Err(Error::format("model.vocab", found, ""));
        }
    }
    scan.field = "model";
    let table = SpellingTable::new(&spellings, seed).map_err(|(first, second)| {
        let found =
            format!("the token is there twice, with ids {} and {}", spellings.ids[first], spellings.ids[second]);
        Error::format(entry_path(&spellings, second), found, "keep one of them")
    })?;
    Ok(Vocab { spellings, scores, table })
}

fn entry_path(spellings: &Spellings, entry: usize) -> String {
    format!("model.vocab[{:?}]", String::from_utf8_lossy(spellings.get(entry)))
}

fn object(scan: &mut Scanner<'_>, spellings: &mut Spellings, limits: &Limits) -> Result<()> {
    let mut more = scan.open(b'{', b'}')?;
    while more {
        let start = spellings.bytes.len();
        scan.string_into(&mut spellings.bytes)?;
        let end = spellings.bytes.len();
        let path = || format!("model.vocab[{:?}]", String::from_utf8_lossy(&spellings.bytes[start..end]));
        scan.expect(b':', "expected `:`")?;
        let Some(id) = scan.small_integer() else {
            let found = format!("{} is not a token id", scan.glimpse());
            return Err(Error::format(path(), found, "an id is an integer below 2^32 - 1"));
        };
        check_entry(spellings.ids.len(), end - start, limits, path)?;
        spellings.ends.push(u32::try_from(end).expect("no longer than the file, which is under 4 GiB"));
        spellings.ids.push(id);
        more = scan.another(b'}')?;
    }
    Ok(())
}

fn pieces(scan: &mut Scanner<'_>, spellings: &mut Spellings, limits: &Limits) -> Result<Vec<f64>> {
    let mut scores = Vec::new();
    let mut more = scan.open(b'[', b']')?;
    while more {
        let entry = spellings.ids.len();
        let path = || format!("model.vocab[{entry}]");
        if scan.peek() != b'[' {
            let found = format!("{} where a pair [piece, score] belongs", scan.glimpse());
            return Err(Error::format(path(), found, ""));
        }
        scan.open(b'[', b']')?;
        let start = spellings.bytes.len();
        if !matches!(scan.peek(), b'"' | 0) {
            return Err(Error::format(path(), format!("{} is not a piece", scan.glimpse()), "a piece is a string"));
        }
        scan.string_into(&mut spellings.bytes)?;
        let end = spellings.bytes.len();
        scan.expect(b',', "expected `,` and the score")?;
        if !matches!(scan.peek(), b'-' | b'0'..=b'9' | 0) {
            return Err(Error::format(path(), format!("{} is not a score", scan.glimpse()), "a score is a number"));
        }
        scores.push(scan.float()?);
        scan.expect(b']', "expected `]` after the score")?;
        check_entry(entry, end - start, limits, path)?;
        spellings.ends.push(u32::try_from(end).expect("no longer than the file, which is under 4 GiB"));
        spellings.ids.push(TokenId::try_from(entry).expect("fewer pieces than bytes"));
        more = scan.another(b']')?;
    }
    Ok(scores)
}

#[inline]
fn check_entry(entry: usize, len: usize, limits: &Limits, path: impl Fn() -> String) -> Result<()> {
    if entry >= limits.tokens {
        return Err(Error::limit("model.vocab", entry + 1, limits.tokens, "tokens"));
    }
    if len > limits.token_bytes {
        return Err(Error::limit(path(), len, limits.token_bytes, "token_bytes"));
    }
    Ok(())
}

fn build(scan: &mut Scanner<'_>, mut parts: Parts, limits: &Limits) -> Result<Loaded> {
    let Some(vocab) = parts.vocab.take() else {
        return Err(Error::format("model.vocab", "the field is missing", ""));
    };
    let kind = model_type(&parts, &vocab)?;
    if kind != "BPE" && parts.merges_at.is_some() {
        return Err(Error::unsupported("model.merges", format!("merges in a {kind} model"), "remove them"));
    }
    let named = |parts: &Parts, name: &str| -> Result<Option<TokenId>> {
        let token = string(parts, name)?;
        Ok(token.and_then(|t| vocab.table.get(t.as_bytes(), &vocab.spellings)).map(|e| vocab.spellings.ids[e as usize]))
    };
    let model = match (kind, vocab.scores) {
        ("Unigram", Some(scores)) => {
            let unk = unigram_unk(&parts, vocab.spellings.len())?;
            Model::Unigram(Unigram {
                vocab: vocab.spellings,
                scores,
                unk,
                byte_fallback: boolean(&parts, "byte_fallback")?,
                fuse_unk: true,
                flavour: UnigramFlavour::Tokenizers,
                user_defined: Vec::new(),
                never: Vec::new(),
            })
        }
        ("Unigram", None) => {
            return Err(Error::format("model.vocab", "an object where an array of pieces belongs", ""));
        }
        (_, Some(_)) => return Err(Error::format("model.vocab", "an array where an object of ids belongs", "")),
        ("BPE", None) => {
            dropout(&parts)?;
            let prefix = string(&parts, "continuing_subword_prefix")?.unwrap_or_default().to_owned();
            let merges = match (parts.merges.take(), parts.merges_at) {
                (Some(merges), _) => merges,
                (None, Some(at)) => {
                    let end = scan.pos();
                    scan.rewind(at);
                    let read = merges::read(scan, &vocab.spellings, &vocab.table, prefix.as_bytes(), limits)?;
                    scan.rewind(end);
                    read
                }
                (None, None) => return Err(Error::format("model.merges", "the field is missing", "")),
            };
            let unk = named(&parts, "unk_token")?;
            if let (None, Some(token)) = (unk, string(&parts, "unk_token")?) {
                check_unk_is_idle(token, &vocab.spellings, &vocab.table)?;
            }
            Model::Bpe(Bpe {
                merges,
                symbols: Symbols::Chars,
                unk,
                fuse_unk: boolean(&parts, "fuse_unk")?,
                byte_fallback: boolean(&parts, "byte_fallback")?,
                ignore_merges: boolean(&parts, "ignore_merges")?,
                continuing_subword_prefix: prefix,
                end_of_word_suffix: string(&parts, "end_of_word_suffix")?.unwrap_or_default().to_owned(),
                vocab: vocab.spellings,
                ..Bpe::default()
            })
        }
        ("WordPiece", None) => {
            required_string(&parts, "unk_token")?;
            let unk = named(&parts, "unk_token")?;
            Model::WordPiece(WordPiece {
                unk,
                continuing_subword_prefix: required_string(&parts, "continuing_subword_prefix")?.to_owned(),
                max_input_chars_per_word: word_chars(&parts)?,
                vocab: vocab.spellings,
            })
        }
        _ => {
            required_string(&parts, "unk_token")?;
            let unk = named(&parts, "unk_token")?;
            Model::WordLevel(WordLevel { unk, vocab: vocab.spellings })
        }
    };
    Ok(Loaded { model, table: vocab.table })
}

/// The declared type, or what `tokenizers` infers for a file from before there was one.
fn model_type(parts: &Parts, vocab: &Vocab) -> Result<&'static str> {
    let has = |name: &str| parts.small.contains_key(name);
    match parts.small.get("type") {
        Some(Value::String(name)) => ["BPE", "WordPiece", "WordLevel", "Unigram"]
            .into_iter()
            .find(|known| known == name)
            .ok_or_else(|| Error::unsupported("model.type", format!("the model {name:?} is unknown"), "")),
        Some(other) => Err(wrong("model.type", other, "a string")),
        None if vocab.scores.is_some() => Ok("Unigram"),
        None if parts.merges_at.is_some() => Ok("BPE"),
        None if has("unk_token") && has("continuing_subword_prefix") && has("max_input_chars_per_word") => {
            Ok("WordPiece")
        }
        None if has("unk_token") => Ok("WordLevel"),
        None => Err(Error::format("model.type", "the field is missing and the others fit no model", "")),
    }
}

fn string<'p>(parts: &'p Parts, name: &str) -> Result<Option<&'p str>> {
    match parts.small.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(other) => Err(wrong(&format!("model.{name}"), other, "a string")),
    }
}

fn required_string<'p>(parts: &'p Parts, name: &str) -> Result<&'p str> {
    string(parts, name)?.ok_or_else(|| Error::format(format!("model.{name}"), "the field is missing", ""))
}

fn boolean(parts: &Parts, name: &str) -> Result<bool> {
    match parts.small.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(b)) => Ok(*b),
        Some(other) => Err(wrong(&format!("model.{name}"), other, "a boolean")),
    }
}

fn word_chars(parts: &Parts) -> Result<usize> {
    let path = "model.max_input_chars_per_word";
    let Some(value) = parts.small.get("max_input_chars_per_word") else {
        return Err(Error::format(path, "the field is missing", ""));
    };
    let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
    size.ok_or_else(|| wrong(path, value, "an unsigned integer"))
}

fn unigram_unk(parts: &Parts, pieces: usize) -> Result<Option<TokenId>> {
    match parts.small.get("unk_id") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let Some(id) = value.as_u64() else {
                return Err(Error::format("model.unk_id", format!("{value} is not a token id"), ""));
            };
            let inside = usize::try_from(id).is_ok_and(|id| id < pieces);
            let id = TokenId::try_from(id).ok().filter(|_| inside);
            let found = || Error::format("model.unk_id", format!("{value} is past the {pieces} pieces"), "");
            id.map(Some).ok_or_else(found)
        }
    }
}

fn dropout(parts: &Parts) -> Result<()> {
    let Some(value) = parts.small.get("dropout").filter(|v| !v.is_null()) else { return Ok(()) };
    match value.as_f64() {
        Some(0.0) => Ok(()),
        Some(p) if p > 0.0 && p <= 1.0 => Err(Error::unsupported(
            "model.dropout",
            format!("{p}: ids would be drawn at random"),
            "set dropout to null for the ids of inference",
        )),
        Some(p) => Err(Error::format("model.dropout", format!("{p} is not a probability"), "")),
        None => Err(wrong("model.dropout", value, "a number")),
    }
}

/// A BPE model that names an unknown token it does not have fails in `tokenizers` at the first unknown character.
/// Where all 256 characters of the byte alphabet are tokens there is none, and the name is idle; else it is an error.
fn check_unk_is_idle(token: &str, vocab: &Spellings, table: &SpellingTable) -> Result<()> {
    let bytes_covered =
        byte_alphabet::CHARS.iter().all(|c| table.get(c.encode_utf8(&mut [0; 4]).as_bytes(), vocab).is_some());
    if bytes_covered {
        return Ok(());
    }
    let found = format!("the token {token:?} is not in model.vocab");
    Err(Error::format("model.unk_token", found, "add it to model.vocab, or set unk_token to null"))
}
