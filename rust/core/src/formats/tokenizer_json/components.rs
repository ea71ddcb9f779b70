//! Normalizers, pre-tokenizers and decoders.
//!
//! Each component is told by its `type` and by nothing else; `tokenizers` also guesses from the fields of an object
//! without a known type, and such a file is refused here. What is looser than the wheel is said where it happens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::formats::{Decoder, Normalizer, Pattern, PreTokenizer, PrependScheme, SplitBehavior};
use crate::limits::Limits;

use super::fields::{Fields, wrong};

fn unknown(path: &str, what: &str, name: &str) -> Error {
    Error::unsupported(format!("{path}.type"), format!("the {what} {name:?} is unknown"), "")
}

/// The members of a `Sequence`; nesting was bounded when the document was read.
fn sequence<T>(fields: &Fields<'_>, name: &str, read: impl Fn(&str, &Value) -> Result<T>) -> Result<Vec<T>> {
    fields.only(&[name])?;
    let items = fields.array(name)?;
    items.iter().enumerate().map(|(i, item)| read(&format!("{}.{name}[{i}]", fields.path), item)).collect()
}

fn pattern(fields: &Fields<'_>, limits: &Limits) -> Result<Pattern> {
    let path = fields.at("pattern");
    let value = fields.required("pattern")?;
    let Value::Object(map) = value else { return Err(wrong(&path, value, "an object")) };
    let mut entries = map.iter();
    let (Some((kind, Value::String(text))), None) = (entries.next(), entries.next()) else {
        return Err(Error::format(path, "not one of {\"String\": ...} and {\"Regex\": ...}", ""));
    };
    if text.len() > limits.pattern_bytes {
        return Err(Error::limit(path, text.len(), limits.pattern_bytes, "pattern_bytes"));
    }
    match kind.as_str() {
        "String" => Ok(Pattern::Literal(text.clone())),
        "Regex" => Ok(Pattern::Regex(text.clone())),
        other => Err(Error::unsupported(path, format!("the pattern kind {other:?} is unknown"), "")),
    }
}

fn behavior(fields: &Fields<'_>) -> Result<SplitBehavior> {
    Ok(match fields.str("behavior")? {
        "Removed" => SplitBehavior::Removed,
        "Isolated" => SplitBehavior::Isolated,
        "MergedWithPrevious" => SplitBehavior::MergedWithPrevious,
        "MergedWithNext" => SplitBehavior::MergedWithNext,
        "Contiguous" => SplitBehavior::Contiguous,
        other => {
            return Err(Error::unsupported(fields.at("behavior"), format!("the behavior {other:?} is unknown"), ""));
        }
    })
}

/// `Metaspace`, in all its spellings: `prepend_scheme`, or the older `add_prefix_space` alone (`true`: always;
/// `false`: never, which today's wheel refuses and older ones took), with or without `str_rep`.
fn metaspace(fields: &Fields<'_>) -> Result<(char, PrependScheme, bool)> {
    fields.only(&["replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"])?;
    let replacement = fields.char("replacement")?;
    let declared = match fields.optional_str("prepend_scheme")? {
        None => None,
        Some("always") => Some(PrependScheme::Always),
        Some("never") => Some(PrependScheme::Never),
        Some("first") => Some(PrependScheme::First),
        Some(other) => {
            let path = fields.at("prepend_scheme");
            return Err(Error::unsupported(path, format!("the scheme {other:?} is unknown"), ""));
        }
    };
    let scheme = match (declared, fields.optional_bool("add_prefix_space")?) {
        (Some(scheme), Some(false)) if scheme != PrependScheme::Never => {
            return Err(Error::format(
                fields.at("add_prefix_space"),
                "false, against the prepend_scheme beside it",
                "keep prepend_scheme and remove add_prefix_space",
            ));
        }
        (Some(scheme), _) => scheme,
        (None, Some(false)) => PrependScheme::Never,
        (None, _) => PrependScheme::Always,
    };
    Ok((replacement, scheme, fields.optional_bool("split")?.unwrap_or(true)))
}

/// Reads `normalizer`; `null` is nothing.
pub(super) fn normalizer(path: &str, value: &Value, limits: &Limits) -> Result<Normalizer> {
    if value.is_null() {
        return Ok(Normalizer::default());
    }
    let f = Fields::new(path, value)?;
    let plain = |n: Normalizer| f.only(&[]).map(|()| n);
    match f.component()? {
        "Sequence" => Ok(Normalizer::Sequence(sequence(&f, "normalizers", |p, v| member(p, v, limits, normalizer))?)),
        "NFC" => plain(Normalizer::Nfc),
        "NFD" => plain(Normalizer::Nfd),
        "NFKC" => plain(Normalizer::Nfkc),
        "NFKD" => plain(Normalizer::Nfkd),
        "Lowercase" => plain(Normalizer::Lowercase),
        "StripAccents" => plain(Normalizer::StripAccents),
        "Nmt" => plain(Normalizer::Nmt),
        "ByteLevel" => plain(Normalizer::ByteLevel),
        "Strip" => {
            f.only(&["strip_left", "strip_right"])?;
            Ok(Normalizer::Strip { left: f.bool("strip_left")?, right: f.bool("strip_right")? })
        }
        "Replace" => {
            f.only(&["pattern", "content"])?;
            Ok(Normalizer::Replace { pattern: pattern(&f, limits)?, content: f.str("content")?.to_owned() })
        }
        "Prepend" => {
            f.only(&["prepend"])?;
            Ok(Normalizer::Prepend(f.str("prepend")?.to_owned()))
        }
        "BertNormalizer" => {
            f.only(&["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"])?;
            Ok(Normalizer::Bert {
                clean_text: f.bool("clean_text")?,
                handle_chinese_chars: f.bool("handle_chinese_chars")?,
                strip_accents: f.optional_bool("strip_accents")?,
                lowercase: f.bool("lowercase")?,
            })
        }
        "Precompiled" => {
            f.only(&["precompiled_charsmap"])?;
            let text = f.str("precompiled_charsmap")?;
            let map = STANDARD.decode(text).map_err(|e| {
                Error::format(f.at("precompiled_charsmap"), format!("not base64: {e}"), "fetch the file again")
            })?;
            Ok(Normalizer::Precompiled(map))
        }
        other => Err(unknown(path, "normalizer", other)),
    }
}

/// A member of a sequence: never `null`.
fn member<T>(path: &str, value: &Value, limits: &Limits, read: fn(&str, &Value, &Limits) -> Result<T>) -> Result<T> {
    if value.is_null() {
        return Err(wrong(path, value, "an object"));
    }
    read(path, value, limits)
}

/// Reads `pre_tokenizer`; `null` is nothing.
pub(super) fn pre_tokenizer(path: &str, value: &Value, limits: &Limits) -> Result<PreTokenizer> {
    if value.is_null() {
        return Ok(PreTokenizer::default());
    }
    let f = Fields::new(path, value)?;
    let plain = |p: PreTokenizer| f.only(&[]).map(|()| p);
    match f.component()? {
        "Sequence" => {
            let members = sequence(&f, "pretokenizers", |p, v| member(p, v, limits, pre_tokenizer))?;
            Ok(PreTokenizer::Sequence(members))
        }
        "BertPreTokenizer" => plain(PreTokenizer::Bert),
        "Whitespace" => plain(PreTokenizer::Whitespace),
        "WhitespaceSplit" => plain(PreTokenizer::WhitespaceSplit),
        "UnicodeScripts" => plain(PreTokenizer::UnicodeScripts),
        "ByteLevel" => {
            f.only(&["add_prefix_space", "trim_offsets", "use_regex"])?;
            let add_prefix_space = f.bool("add_prefix_space")?;
            let trim_offsets = f.bool("trim_offsets")?;
            let use_regex = optional_true(&f, "use_regex")?;
            Ok(PreTokenizer::ByteLevel { add_prefix_space, use_regex, trim_offsets })
        }
        "Split" => {
            f.only(&["pattern", "behavior", "invert"])?;
            let (pattern, behavior) = (pattern(&f, limits)?, behavior(&f)?);
            Ok(PreTokenizer::Split { pattern, behavior, invert: f.bool("invert")? })
        }
        "Metaspace" => {
            let (replacement, prepend_scheme, split) = metaspace(&f)?;
            Ok(PreTokenizer::Metaspace { replacement, prepend_scheme, split })
        }
        "CharDelimiterSplit" => {
            f.only(&["delimiter"])?;
            Ok(PreTokenizer::CharDelimiterSplit(f.char("delimiter")?))
        }
        "Punctuation" => {
            f.only(&["behavior"])?;
            let behavior = if f.get("behavior").is_some() { behavior(&f)? } else { SplitBehavior::Isolated };
            Ok(PreTokenizer::Punctuation(behavior))
        }
        "Digits" => {
            f.only(&["individual_digits"])?;
            Ok(PreTokenizer::Digits { individual_digits: f.bool("individual_digits")? })
        }
        "FixedLength" => {
            f.only(&["length"])?;
            let length = if f.get("length").is_some() { f.size("length")? } else { 5 };
            if length == 0 {
                return Err(Error::format(f.at("length"), "pieces of 0 characters", "write a length of at least 1"));
            }
            Ok(PreTokenizer::FixedLength(length))
        }
        other => Err(unknown(path, "pre-tokenizer", other)),
    }
}

/// A boolean that is `true` where the field is missing.
fn optional_true(fields: &Fields<'_>, name: &str) -> Result<bool> {
    if fields.get(name).is_some() { fields.bool(name) } else { Ok(true) }
}

/// Reads `decoder`; `null` is nothing, which joins tokens with spaces. A sequence of nothing joins them with nothing,
/// as `Fuse` does.
pub(super) fn decoder(path: &str, value: &Value, limits: &Limits) -> Result<Decoder> {
    if value.is_null() {
        return Ok(Decoder::default());
    }
    let decoder = decoder_step(path, value, limits)?;
    Ok(if is_nothing(&decoder) { Decoder::Fuse } else { decoder })
}

fn is_nothing(decoder: &Decoder) -> bool {
    matches!(decoder, Decoder::Sequence(members) if members.iter().all(is_nothing))
}

fn decoder_step(path: &str, value: &Value, limits: &Limits) -> Result<Decoder> {
    let f = Fields::new(path, value)?;
    match f.component()? {
        "Sequence" => Ok(Decoder::Sequence(sequence(&f, "decoders", |p, v| member(p, v, limits, decoder_step))?)),
        "ByteLevel" => {
            // None of its fields matters to decoding.
            f.only(&["add_prefix_space", "trim_offsets", "use_regex"])?;
            Ok(Decoder::ByteLevel)
        }
        "ByteFallback" => f.only(&[]).map(|()| Decoder::ByteFallback),
        "Fuse" => f.only(&[]).map(|()| Decoder::Fuse),
        "WordPiece" => {
            f.only(&["prefix", "cleanup"])?;
            Ok(Decoder::WordPiece { prefix: f.str("prefix")?.to_owned(), cleanup: f.bool("cleanup")? })
        }
        "Metaspace" => {
            let (replacement, prepend_scheme, _) = metaspace(&f)?;
            Ok(Decoder::Metaspace { replacement, prepend_scheme })
        }
        "BPEDecoder" => {
            f.only(&["suffix"])?;
            Ok(Decoder::BpeSuffix(f.str("suffix")?.to_owned()))
        }
        "Replace" => {
            f.only(&["pattern", "content"])?;
            Ok(Decoder::Replace { pattern: pattern(&f, limits)?, content: f.str("content")?.to_owned() })
        }
        "Strip" => {
            f.only(&["content", "start", "stop"])?;
            Ok(Decoder::Strip { content: f.char("content")?, start: f.size("start")?, stop: f.size("stop")? })
        }
        "CTC" => {
            f.only(&["pad_token", "word_delimiter_token", "cleanup"])?;
            let pad_token = f.str("pad_token")?.to_owned();
            let word_delimiter_token = f.str("word_delimiter_token")?.to_owned();
            Ok(Decoder::Ctc { pad_token, word_delimiter_token, cleanup: f.bool("cleanup")? })
        }
        other => Err(unknown(path, "decoder", other)),
    }
}
