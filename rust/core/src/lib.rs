//! Tokenizers as bytes: what every token id stands for, and encoders that agree with the originals id for id.
//!
//! The core is handed bytes and returns values: it opens no file, reads no clock and draws no random number that
//! was not seeded by its caller. The Python package `anyvocab` is a thin layer over it.

pub mod bpe;
pub mod bytetrie;
pub mod cover;
pub mod decode;
pub mod dynamic;
pub mod error;
pub mod formats;
pub mod ids;
pub mod index;
pub mod limits;
pub mod normalize;
pub mod numerics;
mod piececache;
pub mod pipeline;
pub mod pretoken;
pub mod sampler;
pub mod train;
pub mod trie;
pub mod unigram;
pub mod vocab;
pub mod wordlevel;
pub mod wordpiece;

pub use error::{Error, ErrorKind, Result};
pub use ids::TokenId;
pub use limits::Limits;
