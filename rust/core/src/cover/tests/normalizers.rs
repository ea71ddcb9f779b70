//! SentencePiece's normalizers, each before a tokenizer of some dozen tokens.

use serde_json::{Value, json};

use super::{Lead, Tiny};
use crate::formats::{Normalizer, SentencePieceNormalizer};
use crate::normalize::charsmap::tests::blob;

/// Letters with and without pieces, what rules are made of, white space of several kinds, and parts of characters.
const UNITS: &[&[u8]] = &[
    b"a",
    b" ",
    b"b",
    b"c",
    b"e",
    "\u{301}".as_bytes(),
    "é".as_bytes(),
    b"A",
    b"\n",
    "▁".as_bytes(),
    b"\xCC",
    b"\x81",
    "\u{A0}".as_bytes(),
];

/// Dead characters, one of them deleted; compositions, two of which begin before the last ASCII character and one with a
/// space, which is no part of the text where the tokenizer puts it there.
const RULES: &[(&str, &str)] = &[
    ("A", "a"),
    ("\n", " "),
    ("▁", " "),
    ("\u{A0}", ""),
    ("e\u{301}", "é"),
    ("cb", "b"),
    ("ba\u{301}", "b"),
    ("A\u{301}", "á"),
    (" \u{301}", "e"),
];

const PIECES: &[(&str, f64)] = &[
    ("▁", -2.0),
    ("a", -2.5),
    ("b", -2.5),
    ("e", -2.75),
    ("é", -4.0),
    ("A", -3.0),
    ("\u{301}", -4.5),
    ("\n", -4.25),
    ("▁a", -3.0),
    ("ab", -3.5),
    ("▁ab", -6.5),
    ("▁▁", -3.5),
    ("b▁", -4.0),
    ("e\u{301}", -6.0),
    ("ba", -3.25),
    ("a\u{301}", -6.25),
    ("▁\n", -5.75),
    ("▁A", -4.75),
    ("aé", -5.0),
];

const MERGES: &[[&str; 2]] = &[
    ["▁", "a"],
    ["a", "b"],
    ["▁a", "b"],
    ["▁", "▁"],
    ["b", "▁"],
    ["e", "\u{301}"],
    ["b", "a"],
    ["a", "\u{301}"],
    ["▁", "\n"],
    ["▁", "A"],
    ["a", "é"],
];

/// The two models, with byte fallback.
fn value(is_bpe: bool, normalizer: &Value, pre_tokenizer: &Value) -> Value {
    let bytes = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"));
    let model = if is_bpe {
        let names =
            std::iter::once("<unk>".to_owned()).chain(bytes).chain(PIECES.iter().map(|(piece, _)| piece.to_string()));
        let vocab: serde_json::Map<String, Value> = names.enumerate().map(|(id, token)| (token, json!(id))).collect();
        json!({"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
               "merges": MERGES, "ignore_merges": false})
    } else {
        let pieces = PIECES.iter().map(|(piece, score)| json!([piece, score]));
        let vocab: Vec<Value> =
            std::iter::once(json!(["<unk>", 0.0])).chain(bytes.map(|byte| json!([byte, -9.0]))).chain(pieces).collect();
        json!({"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": true})
    };
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": model,
    })
}

/// SentencePiece's own normalizer, by its flags.
fn sentencepiece(name: &'static str, is_bpe: bool, map: bool, prefix: bool, strips: bool) -> Tiny {
    let mut description = super::json(&value(is_bpe, &Value::Null, &Value::Null));
    let rules: Vec<(&[u8], &[u8])> = RULES.iter().map(|(l, r)| (l.as_bytes(), r.as_bytes())).collect();
    description.normalizer = Normalizer::SentencePiece(SentencePieceNormalizer {
        charsmap: if map { blob(&rules) } else { Vec::new() },
        add_dummy_prefix: prefix,
        remove_extra_whitespaces: strips,
        escape_whitespaces: true,
        treat_whitespace_as_suffix: false,
        protected: Vec::new(),
        keep_invalid: true,
    });
    Tiny::new(name, description, if prefix { Lead::Always } else { Lead::None }, UNITS).of_unchanged_texts()
}

/// The same in the components of `tokenizers`.
fn components(name: &'static str, is_bpe: bool, steps: &[Value], pre_tokenizer: &Value, lead: Lead) -> Tiny {
    let normalizer = json!({"type": "Sequence", "normalizers": steps});
    let description = super::json(&value(is_bpe, &normalizer, pre_tokenizer));
    Tiny::new(name, description, lead, UNITS).of_unchanged_texts()
}

/// Every rule about characters and white space alone and together, before BPE and Unigram.
pub(super) fn all() -> Vec<Tiny> {
    let strip = |left: bool, right: bool| json!({"type": "Strip", "strip_left": left, "strip_right": right});
    let doubled = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let marks = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
    vec![
        sentencepiece("sp default", true, true, true, true),
        sentencepiece("sp without prefix", true, true, false, true),
        sentencepiece("sp, map alone", true, true, true, false),
        sentencepiece("sp, white space alone", true, false, true, true),
        sentencepiece("sp default, unigram", false, true, true, true),
        sentencepiece("sp without prefix, unigram", false, false, false, true),
        components(
            "babyllama",
            true,
            &[strip(true, true), doubled.clone(), prepend, marks.clone()],
            &Value::Null,
            Lead::Always,
        ),
        components(
            "strip right, composed",
            true,
            &[json!({"type": "NFC"}), strip(false, true), marks],
            &Value::Null,
            Lead::None,
        ),
        components(
            "strip, cut at marks, unigram",
            false,
            &[strip(true, true), doubled.clone()],
            &metaspace("always", true),
            Lead::UnlessThere,
        ),
        components("doubled spaces", true, &[doubled], &metaspace("first", false), Lead::UnlessThere),
    ]
}
