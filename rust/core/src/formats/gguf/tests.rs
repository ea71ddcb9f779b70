//! Tiny files written here, ids checked by hand, and hostile ones.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::formats::{Decoder, LeadingMark, Model, Normalizer, PreTokenizer};
use crate::pipeline::{Encoder, Specials, Template};

/// A writer of metadata.
#[derive(Clone)]
struct File {
    count: u64,
    body: Vec<u8>,
}

impl File {
    fn new(model: &str) -> Self {
        Self { count: 0, body: Vec::new() }.text("general.name", "tiny").text("tokenizer.ggml.model", model)
    }

    fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.count += 1;
        self.body.extend(string(key));
        self.body.extend(kind.to_le_bytes());
        self.body.extend(value);
        self
    }

    fn text(self, key: &str, value: &str) -> Self {
        self.pair(key, 8, &string(value))
    }

    fn number(self, key: &str, value: u32) -> Self {
        self.pair(key, 4, &value.to_le_bytes())
    }

    fn bool(self, key: &str, value: bool) -> Self {
        self.pair(key, 7, &[u8::from(value)])
    }

    fn array(self, key: &str, kind: u32, values: &[Vec<u8>]) -> Self {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend((values.len() as u64).to_le_bytes());
        value.extend(values.concat());
        self.pair(key, 9, &value)
    }

    fn texts(self, key: &str, values: &[&str]) -> Self {
        self.array(key, 8, &values.iter().map(|v| string(v)).collect::<Vec<_>>())
    }

    fn kinds(self, kinds: &[i32]) -> Self {
        let values: Vec<_> = kinds.iter().map(|k| k.to_le_bytes().to_vec()).collect();
        self.array("tokenizer.ggml.token_type", 5, &values)
    }

    fn scores(self, scores: &[f32]) -> Self {
        let values: Vec<_> = scores.iter().map(|s| s.to_le_bytes().to_vec()).collect();
        self.array("tokenizer.ggml.scores", 6, &values)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(7u64.to_le_bytes()); // tensors are never looked at
        file.extend(self.count.to_le_bytes());
        file.extend(&self.body);
        file
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

const TOKENS: &str = "tokenizer.ggml.tokens";

/// `<unk>`, `<s>`, `▁`, a, b, ab (-1), `▁ab` (-2), `<x>` (user-defined).
fn llama() -> File {
    File::new("llama")
        .texts(TOKENS, &["<unk>", "<s>", "▁", "a", "b", "ab", "▁ab", "<x>"])
        .scores(&[0., 0., -9., -9., -9., -1., -2., 0.])
        .kinds(&[2, 3, 1, 1, 1, 1, 1, 4])
        .number("tokenizer.ggml.bos_token_id", 1)
        .text("tokenizer.chat_template", "{{ x }}")
}

/// The letters a, b, c, `Ġ` in the byte alphabet, ab, `Ġab`, `<e>`, and a token without text.
fn gpt2() -> File {
    File::new("gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts(TOKENS, &["a", "b", "c", "Ġ", "ab", "Ġab", "<e>", ""])
        .kinds(&[1, 1, 1, 1, 1, 1, 3, 5])
        .texts("tokenizer.ggml.merges", &["a b", "Ġ ab", "a b"])
}

fn ok(file: &File) -> Description {
    read(&file.bytes(), &Limits::default()).expect("a sound file")
}

fn refused(file: &File) -> String {
    read(&file.bytes(), &Limits::default()).expect_err("a bad file").to_string()
}

fn ids(description: Description, text: &str, template: Template) -> Vec<TokenId> {
    let encoder = Encoder::new(Arc::new(description), &Limits::default()).expect("an encoder");
    encoder.encode(text.as_bytes(), Specials::Parse, template).expect("ids")
}

#[test]
fn test_a_llama_file_is_sentencepiece_bpe_with_added_tokens() {
    let description = ok(&llama());
    assert_eq!(description.chat_template.as_deref(), Some("{{ x }}"));
    assert_eq!(
        description.piece_kinds,
        [(0, PieceKind::Unknown), (1, PieceKind::Control), (7, PieceKind::UserDefined)]
    );
    let added: Vec<_> = description.added_tokens.iter().map(|t| (t.id, t.content.as_str(), t.special)).collect();
    assert_eq!(added, [(0, "<unk>", true), (1, "<s>", true), (7, "<x>", false)]);
    assert_eq!(description.declared_roles[0].field, "tokenizer.ggml.bos_token_id");
    let leading = LeadingMark::DropFirst;
    assert!(matches!(&description.decoder, Decoder::SentencePiece { leading: found, .. } if *found == leading));
    assert_eq!(ids(description.clone(), "ab<x>ab", Template::With), [1, 6, 7, 6]);
    assert_eq!(ids(description, "ab z", Template::Without), [6, 2, 0]);
    let bare = ok(&llama().bool("tokenizer.ggml.add_space_prefix", false).bool("tokenizer.ggml.add_bos_token", false));
    assert_eq!(ids(bare, "ab", Template::With), [5]);
}

#[test]
fn test_a_gpt2_file_is_byte_level_bpe_cut_as_its_name_says() {
    let description = ok(&gpt2());
    let Model::Bpe(bpe) = &description.model else { panic!() };
    assert_eq!(bpe.merges.len(), 2); // the pair that comes again has its first rank
    assert_eq!(bpe.vocab.get(7), b"[EMPTY_7]");
    assert_eq!(bpe.never, [6, 7]);
    assert!(matches!(description.pre_tokenizer, PreTokenizer::ByteLevel { use_regex: true, .. }));
    assert_eq!(ids(description, "ab abc<e>", Template::With), [4, 5, 2, 6]);
    let named = |name| gpt2().text("tokenizer.ggml.model2", "").text("tokenizer.pre", name);
    assert!(refused(&File::new("gpt2").texts(TOKENS, &["a"])).starts_with("tokenizer.ggml.pre: not there"));
    let file = File::new("gpt2").text("tokenizer.ggml.pre", "who-knows").texts(TOKENS, &["a"]);
    assert!(refused(&file).contains("\"who-knows\""));
    assert_eq!(ok(&named("ignored")).source, Source::Gguf);
}

#[test]
fn test_bos_is_put_before_a_text_where_llama_cpp_does() {
    let with_pre = |name: &str| {
        File::new("gpt2")
            .text("tokenizer.ggml.pre", name)
            .texts(TOKENS, &["a", "<e>"])
            .kinds(&[1, 3])
            .texts("tokenizer.ggml.merges", &[])
            .number("tokenizer.ggml.bos_token_id", 1)
            .number("tokenizer.ggml.eos_token_id", 1)
    };
    assert_eq!(ids(ok(&with_pre("llama-bpe")), "a", Template::With), [1, 0]);
    assert_eq!(ids(ok(&with_pre("gpt-2")), "a", Template::With), [0]);
    let eos = with_pre("gpt-2").bool("tokenizer.ggml.add_eos_token", true);
    assert_eq!(ids(ok(&eos), "a", Template::With), [0, 1]);
    let PostProcessor::Template { json, .. } = ok(&eos).post_processor else { panic!() };
    assert_eq!(json["single"][1]["SpecialToken"]["id"], "<e>");
    assert_eq!(json["special_tokens"]["<e>"]["ids"][0], 1);
}

#[test]
fn test_every_name_of_a_pre_tokenizer_has_patterns_that_compile() {
    let names = [
        "default",
        "gpt-2",
        "llama-bpe",
        "deepseek-llm",
        "deepseek-coder",
        "deepseek-v3",
        "falcon",
        "mpt",
        "starcoder",
        "refact",
        "command-r",
        "qwen2",
        "qwen35",
        "stablelm2",
        "olmo",
        "dbrx",
        "poro-chat",
        "viking",
        "tekken",
        "smollm",
        "gpt-4o",
        "superbpe",
        "bailingmoe",
        "seed-coder",
        "glm4",
        "bloom",
        "modern-bert",
        "exaone",
    ];
    for name in names {
        let file = File::new("gpt2")
            .text("tokenizer.ggml.pre", name)
            .texts(TOKENS, &["a", "b", "1", "Ġ"])
            .texts("tokenizer.ggml.merges", &[]);
        let description = ok(&file);
        let encoder = Encoder::new(Arc::new(description), &Limits::default()).expect(name);
        assert_eq!(encoder.encode(b"ab 11", Specials::Parse, Template::With).expect(name), [0, 1, 3, 2, 2], "{name}");
    }
}

#[test]
fn test_word_marks_become_continuation_marks() {
    let file = File::new("bert")
        .texts(TOKENS, &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁hell", "o", "▁[", "[unused0]"])
        .kinds(&[3, 3, 3, 3, 1, 1, 1, 1])
        .number("tokenizer.ggml.unknown_token_id", 1)
        .number("tokenizer.ggml.cls_token_id", 2)
        .number("tokenizer.ggml.seperator_token_id", 3);
    let description = ok(&file);
    let Model::WordPiece(model) = &description.model else { panic!() };
    let spellings: Vec<_> = (4..8).map(|i| std::str::from_utf8(model.vocab.get(i)).expect("text")).collect();
    assert_eq!(spellings, ["hell", "##o", "[", "[unused0]"]);
    assert_eq!(ids(description, "Hello [x", Template::With), [2, 4, 5, 6, 1, 3]);
}

#[test]
fn test_t5_is_unigram_and_rwkv_a_trie() {
    let file = File::new("t5")
        .texts(TOKENS, &["<pad>", "</s>", "<unk>", "▁a", "b"])
        .scores(&[0., 0., 0., -1., -2.])
        .kinds(&[3, 3, 2, 1, 1])
        .bool("tokenizer.ggml.add_space_prefix", true)
        .bool("tokenizer.ggml.remove_extra_whitespaces", true);
    let description = ok(&file);
    let Normalizer::SentencePiece(spec) = &description.normalizer else { panic!() };
    assert!(spec.add_dummy_prefix && spec.remove_extra_whitespaces && spec.charsmap.is_empty());
    assert_eq!(ids(description, " ab  a", Template::With), [3, 4, 3, 1]);
    let rwkv = |token| File::new("rwkv").texts(TOKENS, &["<s>", "a", "\\n", token]).kinds(&[3, 1, 1, 1]);
    let description = ok(&rwkv("\\xE2\\\\"));
    let Model::Trie(trie) = &description.model else { panic!() };
    assert_eq!(
        (trie.vocab.get(1), trie.vocab.get(2), &trie.vocab.ids[..]),
        (&b"\n"[..], &b"\xE2\\"[..], &[1, 2, 3][..])
    );
    for bad in ["\\xE", "\\xG0", "b\\"] {
        assert!(refused(&rwkv(bad)).starts_with("tokenizer.ggml.tokens[3]"), "{bad}");
    }
    assert!(refused(&rwkv("a")).contains("token 1"));
}

#[test]
fn test_gemma_falls_back_to_bytes_and_cuts_around_newlines() {
    let names: Vec<String> = (0..256).map(|b| format!("<0x{b:02X}>")).collect();
    let mut tokens: Vec<&str> = names.iter().map(String::as_str).collect();
    tokens.extend(["a", "▁", "▁a", "\n", "\n\n"]);
    let mut kinds = vec![6; 256];
    kinds.extend([1; 5]);
    let file =
        File::new("gemma4").texts(TOKENS, &tokens).kinds(&kinds).texts("tokenizer.ggml.merges", &["▁ a", "\n \n"]);
    assert_eq!(ids(ok(&file), " a\n\na é", Template::With), [258, 260, 256, 257, 0xC3, 0xA9]);
}

#[test]
fn test_an_embedded_tokenizer_json_is_preferred() {
    let json = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":null,"post_processor":null,"decoder":null,
        "model":{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"b"}}"#;
    let file = gpt2().text("tokenizer.huggingface.json", json).number("tokenizer.ggml.eos_token_id", 6);
    let description = ok(&file);
    assert!(matches!(description.model, Model::WordLevel(_)));
    assert_eq!((description.source, description.declared_roles[0].id), (Source::Gguf, 6));
    let error = read(&gpt2().text("tokenizer.huggingface.json", "{").bytes(), &Limits::default()).expect_err("cut");
    assert_eq!(error.file(), Some("tokenizer.huggingface.json"));
}

#[test]
fn test_headers_of_other_files_are_refused_by_name() {
    let refused = |data: &[u8]| read(data, &Limits::default()).expect_err("no GGUF").to_string();
    assert!(refused(b"").starts_with("magic: 4 bytes are announced and 0 are left at byte 0"));
    assert!(refused(b"GGML\x03\0\0\0").starts_with("magic: no \"GGUF\""));
    assert!(refused(b"GGUF\x01\0\0\0").starts_with("version: version 1"));
    assert!(refused(b"GGUF\0\0\0\x03").starts_with("version: a big-endian file"));
    assert!(
        refused(&[b"GGUF\x03\0\0\0".as_slice(), &[0; 16]].concat()).starts_with("tokenizer.ggml.tokens: no tokens")
    );
}

#[test]
fn test_values_of_a_wrong_kind_are_refused_with_their_key() {
    let key = "tokenizer.ggml.bos_token_id";
    assert!(refused(&gpt2().text(key, "x")).starts_with("tokenizer.ggml.bos_token_id: a string where an id belongs"));
    assert!(refused(&gpt2().number(key, 8)).contains("beyond the 8 tokens"));
    assert!(ok(&gpt2().number(key, u32::MAX)).declared_roles.is_empty());
    assert!(refused(&gpt2().number("tokenizer.chat_template", 1)).contains("an integer where a string belongs"));
    assert!(refused(&gpt2().text("tokenizer.ggml.pre", "x")).contains("the key again"));
    assert!(refused(&File::new("llama").texts(TOKENS, &["a"])).contains("no scores"));
    assert!(refused(&File::new("llama").texts(TOKENS, &["a", "b"]).scores(&[0.])).contains("1 values for 2 tokens"));
    assert!(refused(&File::new("plamo2").texts(TOKENS, &["a"])).contains("\"plamo2\""));
    assert!(refused(&gpt2().pair("tokenizer.x", 13, &[])).contains("value type 13"));
    let merge = |m| {
        File::new("gpt2")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts(TOKENS, &["a", "b"])
            .texts("tokenizer.ggml.merges", &[m])
    };
    assert!(refused(&merge("ab")).starts_with("tokenizer.ggml.merges[0]: no space"));
    assert!(refused(&merge("a b")).contains("a product that is no token"));
    assert!(refused(&merge("x b")).contains("a left side that is no token"));
    let twice = File::new("gpt2").text("tokenizer.ggml.pre", "gpt-2").texts(TOKENS, &["a", "a"]);
    assert!(refused(&twice).starts_with("tokenizer.ggml.tokens[1]: \"a\" again, after token 0"));
}

#[test]
fn test_huge_counts_are_refused_before_anything_is_allocated() {
    let array = |kind: u32, count: u64| [kind.to_le_bytes().as_slice(), &count.to_le_bytes()].concat();
    for (kind, count) in [(8, u64::MAX), (8, 1 << 40), (4, u64::MAX), (0, 1 << 60), (9, 1 << 50), (10, u64::MAX / 8)] {
        let error = refused(&gpt2().pair("tokenizer.big", 9, &array(kind, count)));
        assert!(error.starts_with("tokenizer.big"), "{error}");
    }
    let mut nested = Vec::new();
    for _ in 0..1000 {
        nested.extend(array(9, 1));
    }
    let error = read(&gpt2().pair("nested", 9, &nested).bytes(), &Limits::default()).expect_err("too deep");
    assert_eq!(error.kind(), ErrorKind::Limit);
    let mut many = gpt2().bytes();
    many[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(read(&many, &Limits::default()).expect_err("cut").kind(), ErrorKind::Format);
}

#[test]
fn test_limits_hold_for_the_metadata_alone() {
    let file = gpt2().bytes();
    for limits in [
        Limits { file_bytes: file.len() - 1, ..Limits::default() },
        Limits { tokens: 7, ..Limits::default() },
        Limits { token_bytes: 3, ..Limits::default() },
        Limits { merges: 2, ..Limits::default() },
    ] {
        assert_eq!(read(&file, &limits).expect_err("over a limit").kind(), ErrorKind::Limit);
    }
    let long = [file.clone(), vec![0xAB; 10_000]].concat();
    assert!(read(&long, &Limits { file_bytes: file.len(), ..Limits::default() }).is_ok());
}

#[test]
fn test_every_truncation_is_a_format_error() {
    for file in [gpt2().bytes(), llama().bytes()] {
        for len in 0..file.len() {
            let error = read(&file[..len], &Limits::default()).expect_err("cut");
            assert_eq!(error.kind(), ErrorKind::Format, "{len}: {error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn test_flipped_bytes_never_panic(which in any::<bool>(), at in 0usize..2000, byte in any::<u8>(), more in 0usize..2000, other in any::<u8>()) {
        let mut data = if which { gpt2().bytes() } else { llama().bytes() };
        let len = data.len();
        data[at % len] = byte;
        data[more % len] ^= other;
        let _ = read(&data, &Limits::default());
    }
}
