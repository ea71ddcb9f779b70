//! Cutting bytes into pretokens.
//!
//! [`splitter`] compiles any pattern of a tokenizer file; [`known`] holds hand-written scanners for the patterns that
//! published tokenizers use, each equal to its pattern.

pub mod known;
pub mod splitter;
pub mod tree;

pub use known::Known;
pub use splitter::{Matches, Splitter};
