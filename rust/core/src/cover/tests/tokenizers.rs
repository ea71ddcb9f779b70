//! The families, each as a tokenizer of some dozen tokens.

use serde_json::{Value, json};

use super::{Lead, Random, Tiny};
use crate::decode::byte_alphabet;
use crate::formats::{Model, Normalizer, SentencePieceNormalizer, UnigramFlavour};
use crate::pretoken::known::spellings;

/// One of each kind of character, and the ends of characters; common continuations first.
const UNITS: &[&[u8]] = &[
    b"a",
    b" ",
    b"e",
    b"1",
    b"\n",
    b"'",
    b"r",
    b"s",
    b".",
    b"\"",
    "é".as_bytes(),
    "中".as_bytes(),
    b"\xA9",
    b"\xB8\xAD",
    b"\xAD",
    b"\xFF",
];

/// Merges of letters, spaces, digits, quotes and parts of characters, some of which cross what a pattern cuts.
const MERGES: &[(&[u8], &[u8])] = &[
    (b"r", b"e"),
    (b" ", b"a"),
    (b"a", b"e"),
    (b" ", b" "),
    (b"'", b"r"),
    (b"1", b"1"),
    (b"\xE4", b"\xB8"),
    (b"'", b"s"),
    (b"\xC3", b"\xA9"),
    (b" a", b"e"),
    (b"\n", b"\n"),
    (b"a", b"\xE4"),
    (b"\xE4\xB8", b"\xAD"),
    (b" ", b"."),
    (b"  ", b"  "),
    (b"11", b"1"),
    (b".", b"\n"),
    (b"a", b"a"),
    (b"ae", b"re"),
    (b" ", b"\n"),
    (b" ", b"1"),
    (b"s", b"a"),
];

fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| byte_alphabet::char_of(byte)).collect()
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

fn cut_by(patterns: &[&str]) -> Value {
    let mut steps: Vec<Value> = patterns.iter().map(|pattern| split(pattern)).collect();
    steps.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}));
    json!({"type": "Sequence", "pretokenizers": steps})
}

/// Byte-level BPE over all bytes; `whole` are tokens that no merge makes.
fn byte_level(pre: &Value, merges: &[(&[u8], &[u8])], whole: &[&[u8]]) -> Value {
    let mut vocab: Vec<String> = (0..=255_u8).map(|byte| spell(&[byte])).collect();
    vocab.extend(merges.iter().map(|(a, b)| spell(&[*a, *b].concat())));
    vocab.extend(whole.iter().map(|bytes| spell(bytes)));
    let merges: Vec<[String; 2]> = merges.iter().map(|(a, b)| [spell(a), spell(b)]).collect();
    let vocab: serde_json::Map<String, Value> =
        vocab.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": pre,
        "post_processor": null,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": false},
    })
}

fn tiny(name: &'static str, value: &Value) -> Tiny {
    Tiny::new(name, super::json(value), Lead::None, UNITS)
}

/// The byte-level ones, each with one of the published patterns.
pub(super) fn patterns() -> Vec<Tiny> {
    let [digits, han] = spellings::DEEPSEEK_V3;
    let named: [(&'static str, Vec<&str>); 6] = [
        ("gpt2", vec![spellings::GPT2]),
        ("cl100k", vec![spellings::CL100K]),
        ("o200k", vec![spellings::O200K]),
        ("qwen2", vec![spellings::QWEN2]),
        ("deepseek-v3", vec![digits, han, spellings::DEEPSEEK_V3_TEXT]),
        ("superbpe", vec![spellings::SUPERBPE]),
    ];
    named.iter().map(|(name, patterns)| tiny(name, &byte_level(&cut_by(patterns), MERGES, &[]))).collect()
}

/// Nothing is ever cut.
pub(super) fn uncut() -> Tiny {
    tiny("uncut", &byte_level(&cut_by(&[]), MERGES, &[]))
}

/// Tokens that are pretokens as a whole, whatever merges make of them; one of them twice.
pub(super) fn ignore_merges() -> Tiny {
    let whole: &[&[u8]] = &[b" re", b"aea", b"111", b"'re", b"\n.", b"ar", b"are", b" s", b"\xE4\xB8\xAD\xE4"];
    let mut value = byte_level(&cut_by(&[spellings::CL100K]), &MERGES[..14], whole);
    value["model"]["ignore_merges"] = json!(true);
    tiny("ignore_merges", &value)
}

/// A second id with the bytes of a merge's product.
pub(super) fn normalized(form: &str) -> Tiny {
    let merges: &[(&[u8], &[u8])] = &[
        (b"a", b"e"),
        (b"\xCC", b"\x81"),
        (b"e", b"\xCC\x81"),
        (b"\xC3", b"\xA9"),
        (b"a", b"\xCC"),
        (b" ", b"a"),
        (b"\x81", b"a"),
        (b"\xA9", b"\xCC\x81"),
    ];
    let mut value = byte_level(&cut_by(&[spellings::O200K]), merges, &[]);
    value["normalizer"] = json!({"type": form});
    let units: &[&[u8]] =
        &[b"a", b"e", b" ", "\u{301}".as_bytes(), "é".as_bytes(), b"\x81", b"\xCC", b"1", b"\xA9", b"<", b"\xB8"];
    let name = if form == "NFC" { "nfc" } else { "nfd" };
    Tiny::new(name, super::json(&value), Lead::None, units)
}

fn added(id: usize, content: &str, normalized: bool, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": normalized, "special": special})
}

/// Runs of spaces and a word as added tokens, over NFC (`normalized`: where they are looked for).
pub(super) fn added_tokens(normalized: bool) -> Tiny {
    let mut value = byte_level(&cut_by(&[spellings::GPT2]), &MERGES[..14], &[]);
    let first = 256 + 14;
    value["added_tokens"] = json!([
        added(first, "  ", normalized, false),
        added(first + 1, "    ", normalized, false),
        added(first + 2, "ae1", normalized, false),
        added(first + 3, "e1.", normalized, false),
        added(first + 4, "<|end|>", false, true),
    ]);
    let name = if normalized { "added, normalized" } else { "added, raw" };
    value["normalizer"] = json!({"type": "NFC"});
    let mut units = UNITS.to_vec();
    units.push("\u{301}".as_bytes());
    Tiny::new(name, super::json(&value), Lead::None, &units)
}

const SPM_UNITS: &[&[u8]] = &[
    b"a",
    b" ",
    b"b",
    b"c",
    "é".as_bytes(),
    "中".as_bytes(),
    b"A",
    b"\xA9",
    b"\xB8\xAD",
    b"\xE4",
    "▁".as_bytes(),
    "😔".as_bytes(),
    b"\x81",
];

/// BPE over characters with byte fallback; `c` and the Chinese character have no piece, `A` has one and its byte.
fn spm(lead: Lead) -> Value {
    let mut vocab = vec!["<unk>".to_owned()];
    vocab.extend((0..=255_u8).map(|byte| format!("<0x{byte:02X}>")));
    vocab.extend(["▁", "a", "b", "é", "A", "▁a", "ab", "▁ab", "▁▁", "aé", "ba", "▁A", "😔"].map(String::from));
    let vocab: serde_json::Map<String, Value> =
        vocab.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let merges = [["▁", "a"], ["a", "b"], ["▁a", "b"], ["▁", "▁"], ["a", "é"], ["b", "a"], ["▁", "A"]];
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let steps = if lead == Lead::Always { vec![prepend, replace] } else { vec![replace] };
    json!({
        "version": "1.0",
        "added_tokens": [added(0, "<unk>", false, true)],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
                  "merges": merges, "ignore_merges": false},
    })
}

/// Llama 2, Gemma, and the three schemes of Metaspace, with and without cuts at spaces.
pub(super) fn sentencepiece() -> Vec<Tiny> {
    let new = |name, value: &Value, lead| Tiny::new(name, super::json(value), lead, SPM_UNITS);
    let metaspace = |scheme: &str, split: bool| {
        let mut value = spm(Lead::None);
        value["normalizer"] = Value::Null;
        value["pre_tokenizer"] =
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
        value
    };
    vec![
        new("llama2", &spm(Lead::Always), Lead::Always),
        new("gemma", &spm(Lead::None), Lead::None),
        new("metaspace first", &metaspace("first", false), Lead::UnlessThere),
        new("metaspace never", &metaspace("never", false), Lead::None),
        new("metaspace always, cut", &metaspace("always", true), Lead::UnlessThere),
        new("metaspace never, cut", &metaspace("never", true), Lead::None),
    ]
}

/// Unigram behind Metaspace.
pub(super) fn unigram() -> Vec<Tiny> {
    let value = |scheme: &str, split: bool, fallback: bool| {
        let mut vocab = vec![json!(["<unk>", 0.0])];
        let pieces = [
            ("▁", -2.0),
            ("a", -2.5),
            ("b", -2.5),
            ("é", -4.0),
            ("ab", -3.5),
            ("▁a", -3.0),
            ("▁ab", -6.5),
            ("ba", -3.25),
            ("aba", -7.0),
            ("aab", -5.5),
            ("▁▁", -3.5),
            ("aé", -5.0),
            ("b▁", -4.0),
        ];
        vocab.extend(pieces.map(|(piece, score)| json!([piece, score])));
        if fallback {
            vocab.extend((0..=255_u8).map(|byte| json!([format!("<0x{byte:02X}>"), -9.0])));
        }
        json!({
            "version": "1.0",
            "added_tokens": [added(0, "<unk>", false, true)],
            "normalizer": null,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split},
            "post_processor": null,
            "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split},
            "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": fallback},
        })
    };
    let new = |name, value: &Value, lead| Tiny::new(name, super::json(value), lead, SPM_UNITS);
    vec![
        new("unigram always", &value("always", true, false), Lead::UnlessThere),
        new("unigram never", &value("never", true, true), Lead::None),
        new("unigram first, uncut", &value("first", false, true), Lead::UnlessThere),
        new("unigram never, uncut", &value("never", false, false), Lead::None),
    ]
}

/// Unigram of random pieces with random scores: on a grid of quarters, so that many paths are equally good, or fine.
/// With all byte tokens, with few, of which `\xE4` begins no character that has all its bytes, and with none; with the
/// arithmetic of either original.
pub(super) fn random_unigram(seed: u64) -> Tiny {
    let mut random = Random(0x0DD5_EED0 ^ seed << 8);
    let chance = |random: &mut Random, one_in: usize| random.below(one_in) == 0;
    let (single, fallback, fine) = (seed.is_multiple_of(2), seed % 4 < 2, seed % 3 == 2);
    let letters = ["▁", "a", "b", "é"];
    let mut pieces: Vec<String> = Vec::new();
    // One in eight has no piece of its own: it is unknown outside longer ones.
    pieces.extend(letters.iter().filter(|_| !chance(&mut random, 8)).map(|letter| letter.to_string()));
    while pieces.len() < 18 {
        let len = 2 + random.below(3);
        let piece: String = (0..len).map(|_| letters[random.below(letters.len())]).collect();
        if !pieces.contains(&piece) {
            pieces.push(piece);
        }
    }
    let mut vocab = vec![json!(["<unk>", 0.0])];
    for piece in &pieces {
        let length = piece.chars().count() as f64;
        let spread = if fine { random.below(1000) as f64 / 333.0 } else { random.below(9) as f64 / 4.0 };
        vocab.push(json!([piece, -0.75 - 0.5 * length - spread]));
    }
    let has_byte = |byte: &u8| fallback && (seed % 8 < 4 || b"c\xC3\xA9\xE4".contains(byte));
    let first_byte = vocab.len();
    vocab.extend((0..=255_u8).filter(has_byte).map(|byte| json!([format!("<0x{byte:02X}>"), -5.0])));
    let last = vocab.len();
    let lead = if chance(&mut random, 2) { Lead::None } else { Lead::Always };
    let scheme = if lead == Lead::None { "never" } else { "always" };
    let mut value = json!({
        "version": "1.0",
        "added_tokens": [added(0, "<unk>", false, true)],
        "normalizer": null,
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": fallback},
    });
    if !single {
        value["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme,
                                        "split": chance(&mut random, 2)});
    }
    let mut description = super::json(&value);
    if single {
        let Model::Unigram(model) = &mut description.model else { panic!("a Unigram model") };
        model.flavour = UnigramFlavour::SentencePiece;
        model.never = (first_byte..last).map(|id| u32::try_from(id).expect("tiny")).collect();
        description.normalizer = Normalizer::SentencePiece(SentencePieceNormalizer {
            charsmap: Vec::new(),
            add_dummy_prefix: lead != Lead::None,
            remove_extra_whitespaces: false,
            escape_whitespaces: true,
            treat_whitespace_as_suffix: false,
            protected: Vec::new(),
            keep_invalid: true,
        });
    }
    let lead = if !single && lead == Lead::Always { Lead::UnlessThere } else { lead };
    Tiny::new("random unigram", description, lead, SPM_UNITS)
}

/// RWKV's longest match.
pub(super) fn longest_match() -> Tiny {
    let mut lines = String::new();
    for byte in 0..=255_u8 {
        lines.push_str(&format!("{} b'\\x{byte:02x}' 1\n", u32::from(byte) + 1));
    }
    let words = ["aa", "ab", "abab", "aba", "bab", " a", "  ", " abab ", "a b", "é", "\\n\\n", "babaab"];
    for (at, word) in words.iter().enumerate() {
        let len = word.replace("\\n", "\n").len();
        lines.push_str(&format!("{} '{word}' {len}\n", 257 + at));
    }
    lines.push_str("300 b'b\\xe4' 2\n301 b'\\xe4\\xb8' 2\n");
    let units: &[&[u8]] = &[b"a", b"b", b" ", b"\n", "é".as_bytes(), "中".as_bytes(), b"\xA9", b"\xFF"];
    Tiny::new("longest match", super::trie(&lines), Lead::None, units)
}

/// All of them.
pub(super) fn all() -> Vec<Tiny> {
    let mut all = patterns();
    all.extend([uncut(), ignore_merges(), longest_match(), added_tokens(true), added_tokens(false)]);
    all.extend([normalized("NFC"), normalized("NFD")]);
    all.extend(sentencepiece());
    all.extend(unigram());
    all.extend(super::normalizers::all());
    all
}
