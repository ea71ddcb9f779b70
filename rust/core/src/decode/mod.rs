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

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::formats::description::{Decoder, LeadingMark, PieceKind, PrependScheme};
use crate::limits::Limits;
use crate::normalize::replace::Search;

use steps::{Step, Tokens};

/// SentencePiece's space.
const MARK: &[u8] = "▁".as_bytes();

/// A compiled [`Decoder`].
#[derive(Clone, Debug)]
pub struct Compiled {
    engine: Engine,
}

#[derive(Clone, Debug)]
enum Engine {
    /// The decoders of `tokenizers`; what is left after the last is joined with `joint`.
    Steps {
        steps: Vec<Step>,
        joint: &'static [u8],
    },
    SentencePiece {
        leading: LeadingMark,
        unk_surface: String,
    },
}

/// A token to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    /// As the file spells it.
    pub spelling: &'t [u8],
    /// What the file says it is for; only the decoder of SentencePiece asks.
    pub kind: Option<PieceKind>,
}

impl<'t> From<&'t [u8]> for Token<'t> {
    fn from(spelling: &'t [u8]) -> Self {
        Self { spelling, kind: None }
    }
}

impl<'t> From<&'t str> for Token<'t> {
    fn from(spelling: &'t str) -> Self {
        spelling.as_bytes().into()
    }
}

impl Compiled {
    /// Compiles `decoder`. O(its size).
    ///
    /// An empty sequence stands for "no decoder": tokens are joined with a space, as `tokenizers` does.
    ///
    /// # Errors
    /// A pattern that cannot be used, nesting over `limits.depth`.
    pub fn new(decoder: &Decoder, limits: &Limits) -> Result<Self> {
        if let Decoder::SentencePiece { leading, unk_surface } = decoder {
            return Ok(Self { engine: Engine::SentencePiece { leading: *leading, unk_surface: unk_surface.clone() } });
        }
        let mut steps = Vec::new();
        flatten(decoder, limits, 0, &mut steps)?;
        let joint: &[u8] = if matches!(decoder, Decoder::Sequence(all) if all.is_empty()) { b" " } else { b"" };
        Ok(Self { engine: Engine::Steps { steps, joint } })
    }

    /// Returns the bytes of `tokens`.
    ///
    /// O(total length) per step, but for patterns with look-around.
    ///
    /// # Errors
    /// A pattern passed `Limits.backtrack_steps`.
    pub fn decode<'t, T: Into<Token<'t>>>(&self, tokens: impl IntoIterator<Item = T>) -> Result<Vec<u8>> {
        let tokens = tokens.into_iter().map(Into::into);
        match &self.engine {
            Engine::Steps { steps, joint } => {
                let tokens: Tokens<'t> = tokens.map(|token| Cow::Borrowed(token.spelling)).collect();
                let tokens = steps.iter().try_fold(tokens, |tokens, step| step.apply(tokens))?;
                Ok(tokens.join(*joint))
            }
            Engine::SentencePiece { leading, unk_surface } => {
                let mut out = Vec::new();
                let mut drops_mark = *leading != LeadingMark::Keep;
                for token in tokens {
                    let is_ordinary = matches!(token.kind, None | Some(PieceKind::UserDefined | PieceKind::Unused));
                    let rest =
                        token.spelling.strip_prefix(MARK).filter(|_| is_ordinary && drops_mark && out.is_empty());
                    drops_mark &= rest.is_none() || *leading != LeadingMark::DropFirst;
                    push_piece(Token { spelling: rest.unwrap_or(token.spelling), ..token }, unk_surface, &mut out);
                }
                Ok(out)
            }
        }
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
    pub fn token_bytes<'t>(&self, token: impl Into<Token<'t>>) -> Result<Vec<u8>> {
        let token = token.into();
        match &self.engine {
            Engine::Steps { steps, .. } => {
                let mut bytes = token.spelling.to_vec();
                let mut is_fused = false;
                for step in steps {
                    bytes = step.apply_inside(bytes, is_fused)?;
                    is_fused |= step.fuses();
                }
                Ok(bytes)
            }
            Engine::SentencePiece { unk_surface, .. } => {
                let mut out = Vec::new();
                push_piece(token, unk_surface, &mut out);
                Ok(out)
            }
        }
    }
}

/// Writes one SentencePiece piece.
fn push_piece(token: Token<'_>, unk_surface: &str, out: &mut Vec<u8>) {
    match token.kind {
        Some(PieceKind::Control) => {}
        Some(PieceKind::Unknown) => out.extend_from_slice(unk_surface.as_bytes()),
        Some(PieceKind::Byte(byte)) => out.push(byte),
        None | Some(PieceKind::UserDefined | PieceKind::Unused) => {
            out.extend_from_slice(&steps::replace_all(Cow::Borrowed(token.spelling), MARK, b" "));
        }
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
            strips_first: *prepend_scheme != PrependScheme::Never,
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
            return Err(Error::unsupported("decoder", "SentencePiece's decoder in a sequence", "use it alone"));
        }
        Decoder::Ctc { pad_token, word_delimiter_token, cleanup } => Step::Ctc {
            pad: pad_token.clone().into_bytes(),
            delimiter: word_delimiter_token.clone().into_bytes(),
            cleanup: *cleanup,
        },
    });
    Ok(())
}
