//! Readers of tokenizer files; each turns bytes into one internal [`Description`].

pub(crate) mod alphabet;
pub mod description;
pub(crate) mod table;
pub mod rwkv;
pub mod tiktoken;
pub mod tokenizer_json;

pub use description::*;
