//! From tokens to bytes.
//!
//! [`Compiled`] runs a [`Decoder`] as `tokenizers` 0.23.3 does, on bytes: its `decoder.decode(tokens)` is the lossy
//! UTF-8 reading of what comes back here, but for byte tokens (`<0xE2>`) that form no UTF-8: `tokenizers` writes one
//! U+FFFD for each byte of the run; here they are the bytes.
//!
//! # Where `tokenizers` is not followed
//! Its `Strip` panics on a token shorter than what it strips; here such a token becomes empty.

pub mod byte_alphabet;
mod steps;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::formats::description::Decoder;
use crate::limits::Limits;
use crate::normalize::replace::Search;

use steps::{Step, Tokens};

/// A compiled [`Decoder`].
#[derive(Clone, Debug)]
pub struct Compiled {
    steps: Vec<Step>,
    joint: &'static [u8],
}

impl Compiled {
    /// Compiles `decoder`. O(its size).
    ///
    /// An empty sequence stands for "no decoder": tokens are joined with a space, as `tokenizers` does.
    ///
    /// # Errors
    /// A pattern that cannot be used, nesting over `limits.depth`.
    pub fn new(decoder: &Decoder, limits: &Limits) -> Result<Self> {
        let mut steps = Vec::new();
        flatten(decoder, limits, 0, &mut steps)?;
        let joint: &[u8] = if matches!(decoder, Decoder::Sequence(all) if all.is_empty()) { b" " } else { b"" };
        Ok(Self { steps, joint })
    }

    /// Returns the bytes of `tokens`, given as the file spells them.
    ///
    /// O(total length) per step, but for patterns with look-around.
    ///
    /// # Errors
    /// A pattern passed `Limits.backtrack_steps`.
    pub fn decode<'t>(&self, tokens: impl IntoIterator<Item = &'t [u8]>) -> Result<Vec<u8>> {
        let mut tokens: Tokens<'t> = tokens.into_iter().map(std::borrow::Cow::Borrowed).collect();
        for step in &self.steps {
            tokens = step.apply(tokens)?;
        }
        Ok(tokens.join(self.joint))
    }

    /// Returns the bytes that one token stands for in the middle of a text: `▁x` is ` x`, `Ġx` is ` x`, `<0x0A>` is a
    /// line feed, `##ing` is `ing`, a WordPiece `x` is ` x`, `x</w>` is `x `.
    ///
    /// The bytes of a sequence of tokens are these, one after the other, but for what the decoder does at the ends of the
    /// text (leading spaces it strips, the first token's mark), repeated tokens it drops (`Ctc`) and patterns that match
    /// across tokens after a `Fuse`. Without a decoder a token stands for its spelling.
    ///
    /// # Errors
    /// A pattern passed `Limits.backtrack_steps`.
    pub fn token_bytes(&self, spelling: &[u8]) -> Result<Vec<u8>> {
        let mut token = spelling.to_vec();
        let mut is_fused = false;
        for step in &self.steps {
            token = step.apply_inside(token, is_fused)?;
            is_fused |= step.fuses();
        }
        Ok(token)
    }
}

fn flatten(decoder: &Decoder, limits: &Limits, depth: usize, steps: &mut Vec<Step>) -> Result<()> {
    if depth > limits.depth {
        return Err(Error::limit("decoder", depth, limits.depth, "depth"));
    }
    steps.push(match decoder {
        Decoder::Sequence(all) => {
            return all.iter().try_for_each(|decoder| flatten(decoder, limits, depth + 1, steps));
        }
        Decoder::ByteLevel => Step::ByteLevel,
        Decoder::WordPiece { prefix, cleanup } => {
            Step::WordPiece { prefix: prefix.clone().into_bytes(), cleanup: *cleanup }
        }
        Decoder::Metaspace { replacement, prepend_scheme } => Step::Metaspace {
            mark: replacement.to_string().into_bytes(),
            strips_first: *prepend_scheme != crate::formats::description::PrependScheme::Never,
        },
        Decoder::BpeSuffix(suffix) => Step::BpeSuffix(suffix.clone().into_bytes()),
        Decoder::ByteFallback => Step::ByteFallback,
        Decoder::Fuse | Decoder::RawBytes => Step::Fuse,
        Decoder::Replace { pattern, content } => {
            Step::Replace { search: Search::new(pattern, limits)?, content: content.clone().into_bytes() }
        }
        Decoder::Strip { content, start, stop } => {
            Step::Strip { content: content.to_string().into_bytes(), start: *start, stop: *stop }
        }
        Decoder::SentencePiece { .. } => {
            return Err(Error::unsupported("decoder", "SentencePiece's rules need the kinds of the pieces", ""));
        }
        Decoder::Ctc { pad_token, word_delimiter_token, cleanup } => Step::Ctc {
            pad: pad_token.clone().into_bytes(),
            delimiter: word_delimiter_token.clone().into_bytes(),
            cleanup: *cleanup,
        },
    });
    Ok(())
}
