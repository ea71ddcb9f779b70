//! Readers of tokenizer files; each turns bytes into one internal [`Description`].

pub mod description;
pub mod sentencepiece;

pub use description::*;
