//! Components as `tokenizers` writes them: its names, its fields, its order of fields.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::formats::{
    Decoder, LeadingMark, Normalizer, Pattern, PostProcessor, PreTokenizer, PrependScheme, SentencePieceNormalizer,
    SplitBehavior,
};

use super::pattern::to_oniguruma;
use super::pretty::Json;

/// SentencePiece's space.
const MARK: &str = "\u{2581}";

fn pattern(pattern: &Pattern) -> Result<Json> {
    Ok(match pattern {
        Pattern::Literal(text) => Json::object([("String", Json::from(text.as_str()))]),
        Pattern::Regex(text) => Json::object([("Regex", Json::from(text.as_str()))]),
        Pattern::FancyRegex(text) => Json::object([("Regex", to_oniguruma(text)?.as_str().into())]),
    })
}

fn behavior(behavior: SplitBehavior) -> Json {
    Json::from(match behavior {
        SplitBehavior::Removed => "Removed",
        SplitBehavior::Isolated => "Isolated",
        SplitBehavior::MergedWithPrevious => "MergedWithPrevious",
        SplitBehavior::MergedWithNext => "MergedWithNext",
        SplitBehavior::Contiguous => "Contiguous",
    })
}

fn scheme(scheme: PrependScheme) -> Json {
    Json::from(match scheme {
        PrependScheme::First => "first",
        PrependScheme::Never => "never",
        PrependScheme::Always => "always",
    })
}

fn replace(what: &Pattern, content: &str) -> Result<Json> {
    Ok(Json::component("Replace", [("pattern", pattern(what)?), ("content", Json::from(content))]))
}

/// `normalizer`; nothing is `null`.
pub(super) fn normalizer(of: &Normalizer) -> Result<Json> {
    match of {
        Normalizer::Sequence(members) if members.is_empty() => Ok(Json::Null),
        other => normalizer_member(other),
    }
}

fn normalizer_member(of: &Normalizer) -> Result<Json> {
    Ok(match of {
        Normalizer::Sequence(members) => {
            let members = members.iter().map(normalizer_member).collect::<Result<_>>()?;
            Json::component("Sequence", [("normalizers", Json::List(members))])
        }
        Normalizer::Nfc => Json::component("NFC", []),
        Normalizer::Nfd => Json::component("NFD", []),
        Normalizer::Nfkc => Json::component("NFKC", []),
        Normalizer::Nfkd => Json::component("NFKD", []),
        Normalizer::Lowercase => Json::component("Lowercase", []),
        Normalizer::StripAccents => Json::component("StripAccents", []),
        Normalizer::Nmt => Json::component("Nmt", []),
        Normalizer::ByteLevel => Json::component("ByteLevel", []),
        Normalizer::Strip { left, right } => {
            Json::component("Strip", [("strip_left", (*left).into()), ("strip_right", (*right).into())])
        }
        Normalizer::Replace { pattern, content } => replace(pattern, content)?,
        Normalizer::Prepend(text) => Json::component("Prepend", [("prepend", text.as_str().into())]),
        Normalizer::Bert { clean_text, handle_chinese_chars, strip_accents, lowercase } => Json::component(
            "BertNormalizer",
            [
                ("clean_text", (*clean_text).into()),
                ("handle_chinese_chars", (*handle_chinese_chars).into()),
                ("strip_accents", strip_accents.map_or(Json::Null, Json::from)),
                ("lowercase", (*lowercase).into()),
            ],
        ),
        Normalizer::Precompiled(map) => {
            Json::component("Precompiled", [("precompiled_charsmap", STANDARD.encode(map).as_str().into())])
        }
        Normalizer::SentencePiece(rules) => sentencepiece(rules)?,
    })
}

/// SentencePiece's rules out of stock parts. Exact for the identity map: what is left of the rules is spaces, and all
/// of it can be said with `Replace` and `Prepend`.
fn sentencepiece(rules: &SentencePieceNormalizer) -> Result<Json> {
    let refuse = |what: &str| Err(Error::unsupported("normalizer", what, "tokenizer.json has no such component"));
    if !rules.charsmap.is_empty() {
        return refuse("a compiled character map, which `tokenizers` applies to graphemes and SentencePiece to bytes");
    }
    if rules.treat_whitespace_as_suffix {
        return refuse("the word mark as a suffix");
    }
    if !rules.protected.is_empty() {
        return refuse("user-defined symbols that pass through untouched");
    }
    let mut steps = Vec::new();
    if rules.remove_extra_whitespaces {
        // `\A` and `\z` are the ends of the text; Oniguruma's `^` and `$` are those of a line.
        steps.push(replace(&Pattern::Regex(r"\A +| +\z".into()), "")?);
        steps.push(replace(&Pattern::Regex(" {2,}".into()), " ")?);
    }
    if rules.add_dummy_prefix {
        steps.push(Json::component("Prepend", [("prepend", " ".into())]));
    }
    if rules.escape_whitespaces {
        steps.push(replace(&Pattern::Literal(" ".into()), MARK)?);
    }
    Ok(if steps.is_empty() { Json::Null } else { Json::component("Sequence", [("normalizers", Json::List(steps))]) })
}

/// `pre_tokenizer`; nothing is `null`.
pub(super) fn pre_tokenizer(of: &PreTokenizer) -> Result<Json> {
    match of {
        PreTokenizer::Sequence(members) if members.is_empty() => Ok(Json::Null),
        other => pre_tokenizer_member(other),
    }
}

fn pre_tokenizer_member(of: &PreTokenizer) -> Result<Json> {
    Ok(match of {
        PreTokenizer::Sequence(members) => {
            let members = members.iter().map(pre_tokenizer_member).collect::<Result<_>>()?;
            Json::component("Sequence", [("pretokenizers", Json::List(members))])
        }
        PreTokenizer::ByteLevel { add_prefix_space, use_regex, trim_offsets } => {
            byte_level(*add_prefix_space, *trim_offsets, *use_regex)
        }
        PreTokenizer::Split { pattern: what, behavior: how, invert } => split(what, *how, *invert)?,
        PreTokenizer::Metaspace { replacement, prepend_scheme, split } => {
            metaspace(*replacement, *prepend_scheme, *split)
        }
        PreTokenizer::Bert => Json::component("BertPreTokenizer", []),
        PreTokenizer::Whitespace => Json::component("Whitespace", []),
        PreTokenizer::WhitespaceSplit => Json::component("WhitespaceSplit", []),
        PreTokenizer::UnicodeScripts => Json::component("UnicodeScripts", []),
        PreTokenizer::CharDelimiterSplit(c) => Json::component("CharDelimiterSplit", [("delimiter", (*c).into())]),
        PreTokenizer::Punctuation(how) => Json::component("Punctuation", [("behavior", behavior(*how))]),
        PreTokenizer::Digits { individual_digits } => {
            Json::component("Digits", [("individual_digits", (*individual_digits).into())])
        }
        PreTokenizer::FixedLength(length) => Json::component("FixedLength", [("length", (*length).into())]),
    })
}

/// A `ByteLevel` of any kind.
pub(super) fn byte_level(add_prefix_space: bool, trim_offsets: bool, use_regex: bool) -> Json {
    let fields = [
        ("add_prefix_space", add_prefix_space.into()),
        ("trim_offsets", trim_offsets.into()),
        ("use_regex", use_regex.into()),
    ];
    Json::component("ByteLevel", fields)
}

fn split(what: &Pattern, how: SplitBehavior, invert: bool) -> Result<Json> {
    let fields = [("pattern", pattern(what)?), ("behavior", behavior(how)), ("invert", invert.into())];
    Ok(Json::component("Split", fields))
}

fn metaspace(replacement: char, prepend_scheme: PrependScheme, split: bool) -> Json {
    let fields =
        [("replacement", replacement.into()), ("prepend_scheme", scheme(prepend_scheme)), ("split", split.into())];
    Json::component("Metaspace", fields)
}

/// `post_processor`, as the file had it; nothing is `null`. `name` is the text of an id.
pub(super) fn post_processor(of: &PostProcessor, name: &dyn Fn(u32) -> String) -> Json {
    match of {
        PostProcessor::None => Json::Null,
        PostProcessor::Sequence { members, .. } => Json::component(
            "Sequence",
            [("processors", Json::List(members.iter().map(|m| post_processor(m, name)).collect()))],
        ),
        PostProcessor::ByteLevel { json } => {
            Json::ordered(json, &["type", "add_prefix_space", "trim_offsets", "use_regex"])
        }
        PostProcessor::Template { before, after, json: Value::Null } => template(before, after, name),
        PostProcessor::Template { json, .. } => Json::ordered(
            json,
            &[
                "type",
                "sep",
                "cls",
                "trim_offsets",
                "add_prefix_space",
                "single",
                "pair",
                "special_tokens",
                "id",
                "type_id",
                "ids",
                "tokens",
            ],
        ),
    }
}

/// A template that came from another format: each id is a special token of its own.
fn template(before: &[u32], after: &[u32], name: &dyn Fn(u32) -> String) -> Json {
    let special = |id: &u32, type_id: u32| {
        let body = Json::object([("id", name(*id).as_str().into()), ("type_id", type_id.into())]);
        Json::object([("SpecialToken", body)])
    };
    let text = |of: &str, type_id: u32| {
        Json::object([("Sequence", Json::object([("id", of.into()), ("type_id", type_id.into())]))])
    };
    let around = |of: &str, type_id: u32| -> Vec<Json> {
        let before = before.iter().map(|id| special(id, type_id));
        before.chain([text(of, type_id)]).chain(after.iter().map(|id| special(id, type_id))).collect()
    };
    let specials: BTreeMap<String, u32> = before.iter().chain(after).map(|&id| (name(id), id)).collect();
    let declare = |(text, id): (String, u32)| {
        let body = Json::object([
            ("id", text.as_str().into()),
            ("ids", Json::List(vec![id.into()])),
            ("tokens", Json::List(vec![text.as_str().into()])),
        ]);
        (text, body)
    };
    Json::component(
        "TemplateProcessing",
        [
            ("single", Json::List(around("A", 0))),
            ("pair", Json::List([around("A", 0), around("B", 1)].concat())),
            ("special_tokens", Json::Object(specials.into_iter().map(declare).collect())),
        ],
    )
}

/// `decoder`; nothing is `null`. `raw` is what stands for [`Decoder::RawBytes`].
///
/// SentencePiece's own decoder becomes what is usual for it: the mark to a space, byte tokens to bytes, one space less
/// at the start. That is equal on what the tokenizer itself encodes, but for unknown tokens (`<unk>` here) and control
/// tokens (their spelling).
pub(super) fn decoder(of: &Decoder, raw: &Json) -> Result<Json> {
    match of {
        Decoder::Sequence(members) if members.is_empty() => Ok(Json::Null),
        Decoder::SentencePiece { leading, .. } => {
            let mark = Pattern::Literal(MARK.into());
            let plain = |kind: &str| Json::component(kind, []);
            let mut steps = vec![replace(&mark, " ")?, plain("ByteFallback"), plain("Fuse")];
            if *leading != LeadingMark::Keep {
                let strip = [("content", ' '.into()), ("start", 1_u32.into()), ("stop", 0_u32.into())];
                steps.push(Json::component("Strip", strip));
            }
            Ok(Json::component("Sequence", [("decoders", Json::List(steps))]))
        }
        other => decoder_member(other, raw),
    }
}

fn decoder_member(of: &Decoder, raw: &Json) -> Result<Json> {
    Ok(match of {
        Decoder::Sequence(members) => {
            let members = members.iter().map(|m| decoder_member(m, raw)).collect::<Result<_>>()?;
            Json::component("Sequence", [("decoders", Json::List(members))])
        }
        Decoder::ByteLevel => byte_level(true, true, true),
        Decoder::WordPiece { prefix, cleanup } => {
            Json::component("WordPiece", [("prefix", prefix.as_str().into()), ("cleanup", (*cleanup).into())])
        }
        Decoder::Metaspace { replacement, prepend_scheme } => metaspace(*replacement, *prepend_scheme, true),
        Decoder::BpeSuffix(suffix) => Json::component("BPEDecoder", [("suffix", suffix.as_str().into())]),
        Decoder::ByteFallback => Json::component("ByteFallback", []),
        Decoder::Fuse => Json::component("Fuse", []),
        Decoder::Replace { pattern, content } => replace(pattern, content)?,
        Decoder::Strip { content, start, stop } => Json::component(
            "Strip",
            [("content", (*content).into()), ("start", (*start).into()), ("stop", (*stop).into())],
        ),
        Decoder::Ctc { pad_token, word_delimiter_token, cleanup } => Json::component(
            "CTC",
            [
                ("pad_token", pad_token.as_str().into()),
                ("word_delimiter_token", word_delimiter_token.as_str().into()),
                ("cleanup", (*cleanup).into()),
            ],
        ),
        Decoder::RawBytes => raw.clone(),
        Decoder::SentencePiece { .. } => {
            return Err(Error::unsupported("decoder", "SentencePiece's decoder among others", "use it alone"));
        }
    })
}
