//! Normalizers, pre-tokenizers and decoders against cases made with the wheel of `tokenizers` (tests/golden).

use anyvocab_core::Limits;
use anyvocab_core::decode::{self, byte_alphabet};
use anyvocab_core::formats::description::{Decoder, Normalizer, Pattern, PreTokenizer, PrependScheme, SplitBehavior};
use anyvocab_core::normalize::{self, Aligned, View};
use anyvocab_core::pretoken::tree::{self, Output};
use serde_json::Value;

fn groups(file: &str) -> Vec<toml::Table> {
    let path = format!("{}/../../tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let table: toml::Table = text.parse().expect("TOML");
    table["group"].as_array().expect("groups").iter().map(|g| g.as_table().expect("a table").clone()).collect()
}

fn cases(group: &toml::Table) -> Vec<Vec<toml::Value>> {
    group["cases"].as_array().expect("cases").iter().map(|c| c.as_array().expect("a case").clone()).collect()
}

fn str(value: &toml::Value) -> &str {
    value.as_str().expect("a string")
}

fn component(group: &toml::Table, key: &str) -> Option<Value> {
    group.get(key).map(|json| serde_json::from_str(str(json)).expect("JSON"))
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn flag(value: &Value) -> bool {
    value.as_bool().expect("a bool")
}

fn character(value: &Value) -> char {
    text(value).chars().next().expect("a character")
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number")).expect("small")
}

fn list<T>(value: &Value, read: fn(&Value) -> T) -> Vec<T> {
    value.as_array().expect("a list").iter().map(read).collect()
}

fn pattern(value: &Value) -> Pattern {
    match value.get("String") {
        Some(literal) => Pattern::Literal(text(literal)),
        None => Pattern::Regex(text(&value["Regex"])),
    }
}

fn behavior(value: &Value) -> SplitBehavior {
    match text(value).as_str() {
        "Removed" => SplitBehavior::Removed,
        "Isolated" => SplitBehavior::Isolated,
        "MergedWithPrevious" => SplitBehavior::MergedWithPrevious,
        "MergedWithNext" => SplitBehavior::MergedWithNext,
        _ => SplitBehavior::Contiguous,
    }
}

fn scheme(value: &Value) -> PrependScheme {
    match text(value).as_str() {
        "first" => PrependScheme::First,
        "never" => PrependScheme::Never,
        _ => PrependScheme::Always,
    }
}

fn normalizer(v: &Value) -> Normalizer {
    match text(&v["type"]).as_str() {
        "Sequence" => Normalizer::Sequence(list(&v["normalizers"], normalizer)),
        "NFC" => Normalizer::Nfc,
        "NFD" => Normalizer::Nfd,
        "NFKC" => Normalizer::Nfkc,
        "NFKD" => Normalizer::Nfkd,
        "Lowercase" => Normalizer::Lowercase,
        "Strip" => Normalizer::Strip { left: flag(&v["strip_left"]), right: flag(&v["strip_right"]) },
        "StripAccents" => Normalizer::StripAccents,
        "Replace" => Normalizer::Replace { pattern: pattern(&v["pattern"]), content: text(&v["content"]) },
        "Prepend" => Normalizer::Prepend(text(&v["prepend"])),
        "BertNormalizer" => Normalizer::Bert {
            clean_text: flag(&v["clean_text"]),
            handle_chinese_chars: flag(&v["handle_chinese_chars"]),
            strip_accents: v["strip_accents"].as_bool(),
            lowercase: flag(&v["lowercase"]),
        },
        "Nmt" => Normalizer::Nmt,
        "ByteLevel" => Normalizer::ByteLevel,
        other => panic!("{other}"),
    }
}

fn pre_tokenizer(v: &Value) -> PreTokenizer {
    match text(&v["type"]).as_str() {
        "Sequence" => PreTokenizer::Sequence(list(&v["pretokenizers"], pre_tokenizer)),
        "ByteLevel" => PreTokenizer::ByteLevel {
            add_prefix_space: flag(&v["add_prefix_space"]),
            use_regex: flag(&v["use_regex"]),
            trim_offsets: flag(&v["trim_offsets"]),
        },
        "Split" => PreTokenizer::Split {
            pattern: pattern(&v["pattern"]),
            behavior: behavior(&v["behavior"]),
            invert: flag(&v["invert"]),
        },
        "Metaspace" => PreTokenizer::Metaspace {
            replacement: character(&v["replacement"]),
            prepend_scheme: scheme(&v["prepend_scheme"]),
            split: flag(&v["split"]),
        },
        "BertPreTokenizer" => PreTokenizer::Bert,
        "Whitespace" => PreTokenizer::Whitespace,
        "WhitespaceSplit" => PreTokenizer::WhitespaceSplit,
        "CharDelimiterSplit" => PreTokenizer::CharDelimiterSplit(character(&v["delimiter"])),
        "Punctuation" => PreTokenizer::Punctuation(behavior(&v["behavior"])),
        "Digits" => PreTokenizer::Digits { individual_digits: flag(&v["individual_digits"]) },
        "UnicodeScripts" => PreTokenizer::UnicodeScripts,
        "FixedLength" => PreTokenizer::FixedLength(size(&v["length"])),
        other => panic!("{other}"),
    }
}

fn decoder(v: &Value) -> Decoder {
    match text(&v["type"]).as_str() {
        "Sequence" => Decoder::Sequence(list(&v["decoders"], decoder)),
        "ByteLevel" => Decoder::ByteLevel,
        "WordPiece" => Decoder::WordPiece { prefix: text(&v["prefix"]), cleanup: flag(&v["cleanup"]) },
        "Metaspace" => Decoder::Metaspace {
            replacement: character(&v["replacement"]),
            prepend_scheme: scheme(&v["prepend_scheme"]),
        },
        "BPEDecoder" => Decoder::BpeSuffix(text(&v["suffix"])),
        "ByteFallback" => Decoder::ByteFallback,
        "Fuse" => Decoder::Fuse,
        "Replace" => Decoder::Replace { pattern: pattern(&v["pattern"]), content: text(&v["content"]) },
        "Strip" => {
            Decoder::Strip { content: character(&v["content"]), start: size(&v["start"]), stop: size(&v["stop"]) }
        }
        "CTC" => Decoder::Ctc {
            pad_token: text(&v["pad_token"]),
            word_delimiter_token: text(&v["word_delimiter_token"]),
            cleanup: flag(&v["cleanup"]),
        },
        other => panic!("{other}"),
    }
}

fn compile_normalizer(group: &toml::Table) -> normalize::Compiled {
    let description = component(group, "normalizer").map(|v| normalizer(&v)).unwrap_or_default();
    normalize::Compiled::new(&description, &Limits::default()).expect("a sound normalizer")
}

#[test]
fn test_normalizers_do_as_the_wheel_does() {
    for group in groups("normalizers.toml") {
        let compiled = compile_normalizer(&group);
        for case in cases(&group) {
            let (source, wanted, spans) = (str(&case[0]), str(&case[1]), str(&case[2]));
            let what = format!("{} of {source:?}", group["normalizer"]);
            let plain = compiled.apply(source.as_bytes()).expect("no bound is near");
            assert_eq!(String::from_utf8_lossy(&plain), wanted, "{what}");
            let aligned = compiled.apply_aligned(Aligned::from_text(source.as_bytes())).expect("no bound is near");
            assert_eq!(String::from_utf8_lossy(aligned.bytes()), wanted, "{what}");
            let all = aligned.spans();
            let found: Vec<String> =
                wanted.char_indices().map(|(i, _)| format!("{}-{}", all[i].start, all[i].end)).collect();
            assert_eq!(found.join(" "), spans, "{what}");
        }
    }
}

#[test]
fn test_pre_tokenizers_do_as_the_wheel_does() {
    for group in groups("pretokenizers.toml") {
        let normalizer = compile_normalizer(&group);
        let description = pre_tokenizer(&component(&group, "pre_tokenizer").expect("a pre-tokenizer"));
        let compiled = tree::Compiled::new(&description, &Limits::default()).expect("a sound pre-tokenizer");
        for case in cases(&group) {
            let source = str(&case[0]);
            let what = format!("{} of {source:?}", group["pre_tokenizer"]);
            let wanted: Vec<(String, String)> = case[1]
                .as_array()
                .expect("pieces")
                .iter()
                .map(|piece| (str(&piece[0]).to_owned(), str(&piece[1]).to_owned()))
                .collect();
            let aligned = normalizer.apply_aligned(Aligned::from_text(source.as_bytes())).expect("no bound is near");
            // tokenizers cuts the normalized text at added tokens first, which takes a slice of it.
            let view = aligned.view().slice(0..aligned.bytes().len());
            let pieces = compiled.pieces(view).expect("no bound is near");
            let spell = |piece: &[u8]| match compiled.output() {
                Output::Text => String::from_utf8_lossy(piece).into_owned(),
                Output::RawBytes => piece.iter().map(|&byte| byte_alphabet::char_of(byte)).collect(),
            };
            let found: Vec<(String, String)> = pieces
                .iter()
                .zip(&pieces.origins)
                .map(|(piece, origin)| (spell(piece), format!("{}-{}", origin.start, origin.end)))
                .collect();
            assert_eq!(found, wanted, "{what}");
            if !compiled.needs_alignment() {
                let plain = compiled.pieces(View::plain(aligned.bytes(), view.starts_text()));
                let plain = plain.expect("no bound is near");
                assert_eq!((plain.bytes, plain.ends), (pieces.bytes, pieces.ends), "{what}");
            }
        }
    }
}

#[test]
fn test_decoders_do_as_the_wheel_does() {
    for group in groups("decoders.toml") {
        let description = decoder(&component(&group, "decoder").expect("a decoder"));
        let compiled = decode::Compiled::new(&description, &Limits::default()).expect("a sound decoder");
        for case in cases(&group) {
            let tokens: Vec<&str> = case[0].as_array().expect("tokens").iter().map(str).collect();
            let found = compiled.decode(tokens.iter().copied()).expect("no bound is near");
            assert_eq!(String::from_utf8_lossy(&found), str(&case[1]), "{} of {tokens:?}", group["decoder"]);
        }
    }
}
