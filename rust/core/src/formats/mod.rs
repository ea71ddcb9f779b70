//! Readers of tokenizer files; each turns bytes into one internal [`Description`].

pub mod components;
pub mod description;
pub mod gguf;
pub mod rwkv;
pub mod sentencepiece;
pub(crate) mod table;
pub mod tiktoken;
pub mod tokenizer_json;
pub mod writer;

pub use description::*;
