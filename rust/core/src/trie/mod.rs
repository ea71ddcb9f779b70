//! Greedy longest match from the left over the whole text (RWKV World).
//!
//! Spellings are raw bytes and every byte is a token, so any text has an encoding and none is unknown.

pub mod reference;
#[cfg(test)]
mod tests;

use crate::bytetrie::ByteTrie;
use crate::formats::Trie;
use crate::{Error, Limits, Result, TokenId};

/// A greedy trie encoder.
#[derive(Clone, Debug)]
pub struct Engine {
    trie: ByteTrie,
}

/// Nothing: this engine needs no memory of its own. It stands here so that all engines are called alike.
#[derive(Clone, Debug, Default)]
pub struct Scratch;

impl Engine {
    /// Builds the encoder. O(total bytes of the spellings).
    ///
    /// Fails with `Unsupported` when some byte is no token: a text with that byte would have no encoding.
    pub fn new(model: &Trie, _limits: &Limits) -> Result<Self> {
        // The value is the id itself; an id over the trie's maximum is refused by the trie.
        let trie = ByteTrie::new(model.vocab.iter())?;
        if let Some(byte) = (0..=u8::MAX).find(|byte| trie.get(&[*byte]).is_none()) {
            return Err(Error::unsupported(
                "model.vocab",
                format!("byte 0x{byte:02X} is no token, so texts with it have no encoding"),
                "add a token for every single byte",
            ));
        }
        Ok(Self { trie })
    }

    /// Appends the ids of `piece` (usually a whole text).
    ///
    /// Equals [`reference::encode`]. O(n · m) time, n = `piece.len()`, m = longest token.
    pub fn encode(&self, piece: &[u8], _scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        self.each(piece, |id, _| out.push(id));
    }

    /// The same, and for each id the number of bytes it stands for; they sum to `piece.len()`.
    pub fn encode_with_lens(&self, piece: &[u8], _scratch: &mut Scratch, out: &mut Vec<TokenId>, lens: &mut Vec<u32>) {
        self.each(piece, |id, len| {
            out.push(id);
            lens.push(u32::try_from(len).expect("tokens are under 4 GiB: Spellings"));
        });
    }

    #[inline(always)]
    fn each(&self, mut rest: &[u8], mut emit: impl FnMut(TokenId, usize)) {
        while let Some((len, id)) = self.trie.longest_prefix(rest) {
            emit(id, len);
            rest = &rest[len..];
        }
        debug_assert!(rest.is_empty(), "every byte is a token: checked in Engine::new");
    }
}
