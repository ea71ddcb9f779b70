//! Patterns that published tokenizers use, recognised by their exact spelling.

/// A pattern, or a sequence of pre-tokenizers, that has a scanner of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Known {
    /// GPT-2, r50k, p50k, and `ByteLevel { use_regex: true }`.
    Gpt2,
}

impl Known {
    /// The pattern of `ByteLevel { use_regex: true }`.
    pub fn gpt2() -> Self {
        Self::Gpt2
    }
}
