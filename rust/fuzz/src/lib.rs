//! What every fuzz target checks, in one place: the targets run it under libFuzzer, and `rust/core/tests/hostile_replay.rs`
//! runs it over the kept inputs on a stable compiler.

use anyvocab_core::Limits;
use anyvocab_core::formats::{Description, gguf, rwkv, sentencepiece, tiktoken, tokenizer_json, writer};

/// Bounds that keep one run short.
fn limits() -> Limits {
    Limits { file_bytes: 1 << 20, tokens: 1 << 16, merges: 1 << 17, ..Limits::default() }
}

/// What is read can be written or is refused, and what is written can be read.
fn round_trip(description: &Description) {
    if let Ok(written) = writer::to_tokenizer_json(description) {
        let again = tokenizer_json::read(&written, &Limits::default());
        assert!(again.is_ok(), "{again:?} of {}", String::from_utf8_lossy(&written));
    }
}

/// The reader of `tokenizer.json`.
pub fn check_tokenizer_json(data: &[u8]) {
    if let Ok(description) = tokenizer_json::read(data, &limits()) {
        round_trip(&description);
    }
}

/// The reader of tiktoken's rank files, alone and behind the 256 lines that every file needs.
pub fn check_tiktoken(data: &[u8]) {
    let special = [("<|end|>".to_owned(), 70_000)];
    let _ = tiktoken::read(data, r"\s+|\S+", &special, &limits());
    let mut whole: Vec<u8> = SINGLE_BYTES.into();
    whole.extend_from_slice(data);
    if let Ok(description) = tiktoken::read(&whole, r"\s+|\S+", &[], &limits()) {
        round_trip(&description);
    }
}

/// Every byte with its value as its rank.
const SINGLE_BYTES: &[u8] = include_bytes!("../corpus/tiktoken/single_bytes.tiktoken");

/// The reader of RWKV's vocabularies.
pub fn check_rwkv(data: &[u8]) {
    if let Ok(description) = rwkv::read(data, &limits()) {
        assert!(writer::to_tokenizer_json(&description).is_err(), "a trie has no tokenizer.json");
    }
}

/// The reader of SentencePiece's models.
pub fn check_sentencepiece(data: &[u8]) {
    if let Ok(description) = sentencepiece::read(data, &limits()) {
        round_trip(&description);
    }
}

/// The reader of GGUF metadata.
pub fn check_gguf(data: &[u8]) {
    if let Ok(description) = gguf::read(data, &limits()) {
        round_trip(&description);
    }
}
