//! Tokens that no text gives.

use super::engine::Scratch;
use super::{Encoder, Specials, Template};
use crate::error::Result;
use crate::formats::Model;
use crate::ids::TokenId;
use crate::vocab::{Kind, Vocabulary};

/// What is put around a token's bytes to see whether the pipeline gives it back in some surroundings.
const BEFORE: [&[u8]; 7] = [b"", b"a", b" ", b"\n", b"1", b".", "é".as_bytes()];
const AFTER: [&[u8]; 5] = [b"", b" ", b"a", b"\n", b"."];

impl Encoder {
    /// Ids with bytes that no text gives, ascending.
    ///
    /// A token is reached when the tokenizer gives it back for its own bytes, alone or between some characters; where
    /// only the pretokens stand in the way, 35 surroundings are tried, and a token that none of them gives is listed
    /// too. Byte tokens and added tokens are not judged. O(vocabulary) encodings.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn unreachable(&self, vocabulary: &Vocabulary) -> Result<Vec<TokenId>> {
        let mut scratch = self.pool.take();
        let mut ids = Vec::new();
        for &id in vocabulary.sorted() {
            if vocabulary.kind(id) == Kind::Text && !self.is_reached(id, vocabulary, &mut scratch)? {
                ids.push(id);
            }
        }
        self.pool.give(scratch);
        ids.sort_unstable();
        Ok(ids)
    }

    fn is_reached(&self, id: TokenId, vocabulary: &Vocabulary, scratch: &mut Scratch) -> Result<bool> {
        let Some(bytes) = vocabulary.token_bytes(id) else { return Ok(false) };
        let mut out = Vec::new();
        self.encode_into(bytes, Specials::Text, Template::Without, scratch, &mut out)?;
        if out.contains(&id) {
            return Ok(true);
        }
        if matches!(self.description.model, Model::Bpe(_)) && bytes.is_empty() {
            return Ok(false);
        }
        let mut text = Vec::new();
        for before in BEFORE {
            for after in AFTER {
                text.clear();
                text.extend_from_slice(before);
                text.extend_from_slice(bytes);
                text.extend_from_slice(after);
                out.clear();
                self.encode_into(&text, Specials::Text, Template::Without, scratch, &mut out)?;
                if out.contains(&id) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
