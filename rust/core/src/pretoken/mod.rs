//! Cutting bytes into pretokens.
//!
//! [`splitter`] compiles any pattern of a tokenizer file; [`known`] holds hand-written scanners for the patterns that
//! published tokenizers use, each equal to its pattern; [`reference`] is the definition both are tested against.

pub mod classes;
pub mod known;
mod onig;
mod onig_class;
mod onig_literal;
pub mod reference;
pub mod splitter;
pub mod streaming;
pub mod tree;

pub use known::{Known, Pieces, Scanner, ScannerVisitor, recognise, with_scanner};
pub use splitter::{Flavour, Matches, Splitter};
pub use streaming::{StateId, Streaming};

#[cfg(test)]
mod pattern_tests;
#[cfg(test)]
mod tests;
