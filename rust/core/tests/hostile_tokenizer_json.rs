//! Malformed and malicious `tokenizer.json` files: an error that says where, never a panic, never a hang.

use anyvocab_core::formats::{Description, Model, tokenizer_json, writer};
use anyvocab_core::{Error, ErrorKind, Limits};
use proptest::prelude::*;

use ErrorKind::{Format, Limit, Unsupported};

/// A small valid file with something of everything the scanner meets.
const RICH: &str = r###"{
  "version": "1.0",
  "truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0},
  "padding": null,
  "added_tokens": [
    {"id": 9, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
  ],
  "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
  "pre_tokenizer": {"type": "Split", "pattern": {"String": "\u0020"}, "behavior": "Isolated", "invert": false},
  "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [9], "tokens": ["<s>"]}}},
  "decoder": {"type": "Fuse"},
  "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
    "vocab": {"a": 0, "b": 1, "ab": 2, "\ud83d\ude00": 3, "é": 4, "\\": 5, "abab": 6, "\"": 7, "long enough to pass eight bytes": 8},
    "merges": [["a", "b"], ["ab", "ab"]]}
}"###;

const UNIGRAM: &str = r#"{"model": {"unk_id": 0, "vocab": [["<unk>", 0], ["a", -1.5], ["b", -2.25e0]]}}"#;

fn read(text: &str) -> Result<Description, Error> {
    tokenizer_json::read(text.as_bytes(), &Limits::default())
}

/// `RICH` with `from` replaced once by `to`.
fn with(from: &str, to: &str) -> String {
    assert!(RICH.contains(from), "{from}");
    RICH.replacen(from, to, 1)
}

#[track_caller]
fn refused(text: &str, kind: ErrorKind, fragment: &str) {
    let error = read(text).expect_err(fragment);
    let message = error.to_string();
    assert!(message.contains(fragment), "{fragment:?} is not in {message:?}");
    assert_eq!(error.kind(), kind, "{message}");
}

#[test]
fn the_valid_files_are_valid() {
    read(RICH).expect("RICH");
    read(UNIGRAM).expect("UNIGRAM");
}

#[test]
fn every_contradiction_is_an_error_that_names_its_place() {
    let cases: &[(&str, &str, ErrorKind, &str)] = &[
        // Keys and ids.
        (r#""b": 1"#, r#""a": 1"#, Format, r#"model.vocab["a"]: the token is there twice, with ids 0 and 1"#),
        (r#""b": 1"#, r#""b": 0"#, Format, r#"model.vocab["b"]: has the id 0 of "a""#),
        (r#""b": 1"#, r#""b": -1"#, Format, r#"model.vocab["b"]: -1 is not a token id"#),
        (r#""b": 1"#, r#""b": 1.0"#, Format, r#"model.vocab["b"]: 1.0 is not a token id"#),
        (r#""b": 1"#, r#""b": 1e2"#, Format, r#"model.vocab["b"]: 1e2 is not a token id"#),
        (r#""b": 1"#, r#""b": 01"#, Format, r#"model.vocab["b"]: 01 is not a token id"#),
        (r#""b": 1"#, r#""b": "1""#, Format, r#"model.vocab["b"]: "1" is not a token id"#),
        (r#""b": 1"#, r#""b": null"#, Format, r#"model.vocab["b"]: null is not a token id"#),
        (r#""b": 1"#, r#""b": NaN"#, Format, r#"model.vocab["b"]: NaN is not a token id"#),
        (r#""b": 1"#, r#""b": 4294967295"#, Format, "4294967295 is not a token id"),
        (r#""b": 1"#, r#""b": 99999999999999999999999999"#, Format, "is not a token id"),
        (r#""b": 1"#, r#""b": 4000000000"#, Limit, "Limits.max_id"),
        (r#""version": "1.0","#, r#""version": "1.0", "version": "1.0","#, Format, "version: the field is there twice"),
        (r#""type": "BPE","#, r#""type": "BPE", "type": "BPE","#, Format, "model.type: the field is there twice"),
        (r#""merges":"#, r#""merges": [], "merges":"#, Format, "model.merges: the field is there twice"),
        (r#"{"type": "NFC"}"#, r#"{"type": "NFC", "type": "NFD"}"#, Format, "is there twice"),
        (r#""id": 9,"#, r#""id": 9, "id": 9,"#, Format, "added_tokens[0].id: the field is there twice"),
        // Merges.
        (r#"["a", "b"]"#, r#"["a", "c"]"#, Format, r#"model.merges[0]: the token "c" is not in model.vocab"#),
        (r#"["ab", "ab"]"#, r#"["b", "ab"]"#, Format, r#"model.merges[1]: the token "bab", the product, is not in"#),
        (r#"["ab", "ab"]"#, r#"["ab", "ab", "ab"]"#, Format, "model.merges[1]: a merge of more than two tokens"),
        (r#"["ab", "ab"]"#, r#""ab ab""#, Format, "model.merges[1]: not a pair"),
        (r#"["ab", "ab"]"#, r#"["ab", 3]"#, Format, "model.merges[1]: 3 is not a string"),
        (r#"["a", "b"], ["ab", "ab"]"#, r#""a b c""#, Format, "model.merges[0]: not two tokens with one space"),
        (r#"["a", "b"], ["ab", "ab"]"#, r#""a b", 5"#, Format, "model.merges[1]: 5 is not a string"),
        (r#""merges": [["a", "b"], ["ab", "ab"]]"#, r#""merges": {}"#, Format, "expected an array"),
        // Components.
        (r#""1.0""#, r#""2.0""#, Unsupported, r#"version: "2.0""#),
        (r#""1.0""#, "1.0", Unsupported, "version: 1.0"),
        (r#""NFC""#, r#""Nfc""#, Unsupported, r#"normalizer.normalizers[0].type: the normalizer "Nfc" is unknown"#),
        (r#"{"type": "NFC"}"#, "{}", Format, "normalizer.normalizers[0].type: the field is missing"),
        (r#"{"type": "NFC"}"#, "null", Format, "normalizer.normalizers[0]: null where an object belongs"),
        (r#"{"type": "NFC"}"#, r#"{"type": "NFC", "form": 2}"#, Unsupported, "normalizer.normalizers[0].form"),
        (r#""Isolated""#, r#""isolated""#, Unsupported, "pre_tokenizer.behavior"),
        (r#""invert": false"#, r#""invert": 0"#, Format, "pre_tokenizer.invert: a number where a boolean belongs"),
        (r#"{"String": "\u0020"}"#, r#"" ""#, Format, "pre_tokenizer.pattern: a string where an object belongs"),
        (r#"{"String": "\u0020"}"#, r#"{"Glob": " "}"#, Unsupported, r#"the pattern kind "Glob" is unknown"#),
        (r#""Fuse""#, r#""Blend""#, Unsupported, r#"decoder.type: the decoder "Blend" is unknown"#),
        (r#""BPE""#, r#""Bpe""#, Unsupported, r#"model.type: the model "Bpe" is unknown"#),
        (r#""dropout": null"#, r#""dropout": 0.1"#, Unsupported, "model.dropout: 0.1: ids would be drawn at random"),
        (r#""dropout": null"#, r#""dropout": -1"#, Format, "model.dropout"),
        (r#""dropout": null"#, r#""dropout": "0""#, Format, "model.dropout: a string where a number belongs"),
        (r#""fuse_unk": false"#, r#""fuse_unk": "no""#, Format, "model.fuse_unk: a string where a boolean belongs"),
        (r#""fuse_unk": false"#, r#""backwards": true"#, Unsupported, "model.backwards: an unknown field"),
        (r#""unk_token": null"#, r#""unk_token": "<unk>""#, Format, r#"model.unk_token: the token "<unk>" is not in"#),
        (r#""ids": [9]"#, r#""ids": [77]"#, Format, "the id 77 is no token"),
        (r#"{"SpecialToken": {"id": "<s>""#, r#"{"SpecialToken": {"id": "<t>""#, Format, r#""<t>" is not in"#),
        (r#"{"id": "A", "type_id": 0}"#, r#"{"id": "B", "type_id": 0}"#, Format, "has no sequence B"),
        (r#""TemplateProcessing""#, r#""ChatTemplate""#, Unsupported, "post_processor.type"),
        // Added tokens.
        (r#""lstrip": false, "#, "", Format, "added_tokens[0].lstrip: the field is missing"),
        (r#""lstrip": false"#, r#""lstrip": null"#, Format, "added_tokens[0].lstrip: null is not a boolean"),
        (r#""id": 9"#, r#""id": -9"#, Format, "added_tokens[0].id: -9 is not a token id"),
        (r#""content": "<s>""#, r#""content": 5"#, Format, "added_tokens[0].content: 5 is not a string"),
        // The document itself.
        (r#""vocab": {"a": 0, "#, r#""vocab": {"a": 0,, "#, Format, "expected a string"),
        (r#""a": 0, "b": 1"#, r#""a": 0 "b": 1"#, Format, "expected `,` or `}`"),
        (r#""é""#, "\"\u{1}\"", Format, "a control character inside a string"),
        (r#""é""#, "\"\0\"", Format, "a control character inside a string"),
        (r#""é""#, r#""\ud800""#, Format, "a lone surrogate escape"),
        (r#""é""#, r#""\ud800\u0041""#, Format, "a lone surrogate escape"),
        (r#""é""#, r#""\udc00""#, Format, "a lone surrogate escape"),
        (r#""é""#, r#""\x41""#, Format, "an escape that JSON does not have"),
        (r#""é""#, r#""\u00g1""#, Format, "four hexadecimal digits"),
        (r#""padding": null"#, r#""padding": nul"#, Format, "expected a value"),
        (r#""padding": null"#, r#""padding": +1"#, Format, "expected a value"),
        (r#""padding": null"#, r#""padding": 1e400"#, Format, "a number out of range"),
        (r#""padding": null"#, r#""padding": NaN"#, Format, "expected a value"),
        (r#""padding": null"#, r#""padding": 'x'"#, Format, "expected a value"),
        (r#""padding": null,"#, r#""padding": null, // comment"#, Format, "expected a string"),
        (r#""vocab""#, r#""vokab""#, Unsupported, "model.vokab: an unknown field"),
    ];
    for (from, to, kind, fragment) in cases {
        refused(&with(from, to), *kind, fragment);
    }
    refused("", Format, "the file ends at byte 0");
    refused("[]", Format, "expected an object");
    refused("{}", Format, "model: the field is missing");
    refused(&format!("{RICH} x"), Format, "something follows the end");
    refused(&format!("\u{feff}{RICH}"), Format, "byte-order mark");
}

#[test]
fn what_is_not_utf8_is_an_error_wherever_it_stands() {
    let bytes = RICH.as_bytes();
    for at in 0..bytes.len() {
        let mut data = bytes.to_vec();
        data[at] = 0xFF;
        assert!(tokenizer_json::read(&data, &Limits::default()).is_err(), "byte {at}");
    }
}

#[test]
fn a_unigram_model_is_checked_too() {
    let with = |from: &str, to: &str| UNIGRAM.replacen(from, to, 1);
    refused(&with("-1.5", "1e400"), Format, "a number out of range");
    refused(&with("-1.5", "NaN"), Format, "model.vocab[1]: NaN");
    refused(&with("-1.5", "\"-1.5\""), Format, "model.vocab[1]");
    refused(&with("-1.5", "-1.5, 0"), Format, "expected `]` after the score");
    refused(&with("[\"a\", -1.5]", "\"a\""), Format, "model.vocab[1]");
    refused(&with("\"a\"", "\"b\""), Format, "the token is there twice");
    refused(&with("\"unk_id\": 0", "\"unk_id\": 3"), Format, "model.unk_id: 3 is past the 3 pieces");
    refused(&with("\"unk_id\": 0", "\"unk_id\": -1"), Format, "model.unk_id");
    refused(&with("\"unk_id\": 0", "\"type\": \"BPE\""), Format, "an array where an object of ids belongs");
    refused(&with("\"unk_id\": 0", "\"merges\": []"), Unsupported, "merges in a Unigram model");
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    for text in [RICH, UNIGRAM] {
        for end in 0..text.len() {
            assert!(tokenizer_json::read(&text.as_bytes()[..end], &Limits::default()).is_err(), "{end}");
        }
    }
}

#[test]
fn deep_nesting_is_a_limit_and_no_stack_overflow() {
    let deep = "[".repeat(100_000);
    let objects = "{\"a\":".repeat(100_000);
    for nest in [&deep, &objects] {
        refused(nest.as_str(), if nest.starts_with('[') { Format } else { Limit }, "");
        for at in ["\"padding\": null", "\"decoder\": {\"type\": \"Fuse\"}"] {
            let key = at.split(':').next().expect("a key");
            refused(&with(at, &format!("{key}: {nest}")), Limit, "Limits.depth");
        }
        refused(&with("\"fuse_unk\": false", &format!("\"x\": {nest}")), Limit, "Limits.depth");
        refused(&with("\"id\": 9", &format!("\"x\": {nest}, \"id\": 9")), Limit, "Limits.depth");
        refused(&with("[[\"a\", \"b\"]", nest), Format, "");
    }
    // A trusting caller may raise the limit; the scanner keeps one of its own.
    let trusting = Limits { depth: usize::MAX, ..Limits::default() };
    let text = with("\"padding\": null", &format!("\"padding\": {deep}"));
    let error = tokenizer_json::read(text.as_bytes(), &trusting).expect_err("too deep");
    assert_eq!(error.kind(), Limit);
    // Deep is allowed up to the limit.
    let nest = |n: usize| with("\"padding\": null", &format!("\"padding\": {}{}", "[".repeat(n), "]".repeat(n)));
    read(&nest(63)).expect("one level of the document and 63 of padding");
    refused(&nest(64), Limit, "65 is over the limit of 64");
}

#[test]
fn a_sequence_nested_in_sequences_is_bounded_by_the_same_limit() {
    let mut normalizer = "{\"type\": \"NFC\"}".to_owned();
    for _ in 0..200 {
        normalizer = format!("{{\"type\": \"Sequence\", \"normalizers\": [{normalizer}]}}");
    }
    refused(&with("{\"type\": \"NFC\"}", &normalizer), Limit, "Limits.depth");
}

#[test]
fn merges_that_would_never_end_are_refused() {
    // With an empty token a merge could make one of its own parts.
    let vocab = |merge: &str| {
        let model = format!(r#"{{"type": "BPE", "vocab": {{"": 0, "a": 1, "aa": 2}}, "merges": [{merge}]}}"#);
        format!(r#"{{"model": {model}}}"#)
    };
    read(&vocab(r#"["a", "a"]"#)).expect("a + a = aa");
    for merge in [r#"["", "a"]"#, r#"["a", ""]"#, r#"["", ""]"#, r#"" a""#, r#""a ""#] {
        refused(&vocab(merge), Format, "model.merges[0]: a merge with an empty part, which would never end");
    }
    let prefixed = r###"{"model": {"type": "BPE", "continuing_subword_prefix": "##", "vocab": {"a": 0, "##": 1, "b": 2, "ab": 3, "##b": 4}, "merges": [MERGE]}}"###;
    read(&prefixed.replace("MERGE", r###"["a", "##b"]"###)).expect("a + ##b = ab");
    refused(&prefixed.replace("MERGE", r###"["a", "##"]"###), Format, "a merge with an empty part");
    refused(&prefixed.replace("MERGE", r#"["a", "b"]"#), Format, "lacks the continuing_subword_prefix");
}

#[test]
fn every_limit_holds() {
    let default = Limits::default;
    let cases = [
        (Limits { file_bytes: 100, ..default() }, "Limits.file_bytes"),
        (Limits { tokens: 4, ..default() }, "Limits.tokens"),
        (Limits { tokens: 9, ..default() }, "Limits.tokens"),
        (Limits { max_id: Some(7), ..default() }, "Limits.max_id"),
        (Limits { max_id: Some(8), ..default() }, "Limits.max_id"),
        (Limits { token_bytes: 8, ..default() }, "Limits.token_bytes"),
        (Limits { merges: 1, ..default() }, "Limits.merges"),
        (Limits { pattern_bytes: 4, ..default() }, "Limits.pattern_bytes"),
        (Limits { depth: 3, ..default() }, "Limits.depth"),
    ];
    for (limits, name) in cases {
        let error = tokenizer_json::read(RICH.as_bytes(), &limits).expect_err(name);
        assert_eq!(error.kind(), Limit, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let long = "x".repeat(70_000);
    refused(&with("\"abab\"", &format!("\"{long}\"")), Limit, "Limits.token_bytes");
    refused(&with("\"<s>\", \"single", &format!("\"{long}\", \"single")), Limit, "Limits.token_bytes");
}

#[test]
fn patterns_pass_through_for_the_splitter_to_judge() {
    for pattern in ["(a+)+$", "", "(", "a{1000000000}", "(?=)", "[\\\\p{Nonsense}]"] {
        read(&with("{\"String\": \"\\u0020\"}", &format!("{{\"Regex\": \"{pattern}\"}}"))).expect(pattern);
    }
}

#[test]
fn a_json_value_that_would_fill_the_memory_is_refused() {
    let list = format!("[{}0]", "0,".repeat(9 << 20));
    refused(&with("{\"type\": \"Fuse\"}", &list), Unsupported, "decoder: a component of");
}

#[test]
fn a_pair_that_comes_again_and_again_keeps_its_last_rank() {
    let merges = vec![r#"["a", "b"]"#; 300_000].join(",");
    let description = read(&with(r#"["a", "b"], ["ab", "ab"]"#, &merges)).expect("as tokenizers does");
    let Model::Bpe(bpe) = description.model else { panic!("a BPE model") };
    assert_eq!(bpe.merges.iter().map(|m| m.rank).collect::<Vec<_>>(), [299_999]);
}

/// Every file beside this repository's other hostile inputs is refused with the words in its name's line.
#[test]
fn every_kept_file_is_refused_as_its_list_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/hostile");
    let list = std::fs::read_to_string(format!("{folder}/EXPECTED.tsv")).expect("tests/hostile/EXPECTED.tsv");
    let mut files = 0;
    for line in list.lines().filter(|l| l.contains(".json\t")) {
        let mut columns = line.split('\t');
        let (Some(name), Some(kind), Some(words)) = (columns.next(), columns.next(), columns.next()) else {
            panic!("three columns: {line}");
        };
        let data = std::fs::read(format!("{folder}/{name}")).expect(name);
        let start = std::time::Instant::now();
        let error = tokenizer_json::read(&data, &Limits::default()).expect_err(name);
        // A file of some kilobytes takes well under a millisecond: this finds memory reserved for a huge id.
        assert!(start.elapsed().as_secs() < 5, "{name} took {:?}", start.elapsed());
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert_eq!(format!("{:?}", error.kind()), kind, "{name}: {error}");
        files += 1;
    }
    assert!(files >= 10, "{files}");
}

/// Reads, and where that works writes and reads again.
fn survives(data: &[u8]) {
    if let Ok(description) = tokenizer_json::read(data, &Limits::default())
        && let Ok(written) = writer::to_tokenizer_json(&description)
    {
        let again = tokenizer_json::read(&written, &Limits::default());
        assert!(again.is_ok(), "{again:?} of {}", String::from_utf8_lossy(&written));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_give_an_error_or_a_tokenizer(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        unigram in any::<bool>(),
    ) {
        let mut data = if unigram { UNIGRAM } else { RICH }.as_bytes().to_vec();
        for (at, byte) in flips {
            let at = at.index(data.len());
            data[at] = byte;
        }
        survives(&data);
    }

    #[test]
    fn moved_pieces_give_an_error_or_a_tokenizer(
        from in any::<prop::sample::Index>(), len in 1_usize..40, to in any::<prop::sample::Index>(),
    ) {
        let mut data = RICH.as_bytes().to_vec();
        let from = from.index(data.len());
        let piece: Vec<u8> = data[from..(from + len).min(data.len())].to_vec();
        let to = to.index(data.len());
        data.splice(to..to, piece);
        survives(&data);
    }

    #[test]
    fn any_bytes_give_an_error_or_a_tokenizer(data in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&data);
    }
}
