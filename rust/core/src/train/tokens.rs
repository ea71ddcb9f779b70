//! The tokens of a vocabulary that grows: id to bytes, and bytes to id.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::error::{Error, Result};
use crate::ids::TokenId;

/// Ids stay below this: positions that are no token are marked with the bit above.
pub(super) const MAX_TOKENS: usize = (1 << 31) - 1;

/// A fixed seed: results never depend on the order of a table, and runs are alike.
const SEED: u64 = 0x746f_6b65_6e73;

/// The bytes of every id, ids being 0, 1, 2, ..., and the id of every byte string.
///
/// Several ids may share their bytes; [`Tokens::id_of`] then gives the first. An id without bytes (a special token, a
/// hole) is empty and never found.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    bytes: Vec<u8>,
    /// `offsets[id]..offsets[id + 1]`; empty for no tokens at all.
    offsets: Vec<usize>,
    table: HashTable<TokenId>,
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(SEED).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

impl Tokens {
    /// No tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a token and returns its id.
    ///
    /// # Errors
    /// `Limit` when there would be 2^31 - 1 ids.
    pub fn push(&mut self, token: &[u8]) -> Result<TokenId> {
        let id = self.len();
        if id >= MAX_TOKENS {
            return Err(Error::value("vocab_size", format!("{} tokens", id + 1), "ids stay below 2^31"));
        }
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        self.bytes.extend_from_slice(token);
        self.offsets.push(self.bytes.len());
        let id = TokenId::try_from(id).expect("below MAX_TOKENS");
        if !token.is_empty() && self.id_of(token).is_none() {
            let Self { bytes, offsets, table } = self;
            table.insert_unique(hash(token), id, |&id| hash(get(bytes, offsets, id)));
        }
        Ok(id)
    }

    /// The bytes of an id below [`Tokens::len`].
    pub fn get(&self, id: TokenId) -> &[u8] {
        get(&self.bytes, &self.offsets, id)
    }

    /// The first id with these bytes.
    pub fn id_of(&self, token: &[u8]) -> Option<TokenId> {
        self.table.find(hash(token), |&id| self.get(id) == token).copied()
    }

    /// All tokens in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.offsets.windows(2).map(|ends| &self.bytes[ends[0]..ends[1]])
    }

    /// All bytes end to end, and where each token ends.
    pub fn table(&self) -> (&[u8], &[usize]) {
        (&self.bytes, &self.offsets)
    }
}

fn get<'b>(bytes: &'b [u8], offsets: &[usize], id: TokenId) -> &'b [u8] {
    &bytes[offsets[id as usize]..offsets[id as usize + 1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_ids_with_the_same_bytes_is_found() {
        let mut tokens = Tokens::new();
        for token in [&b"a"[..], b"", b"ab", b"a"] {
            tokens.push(token).expect("few tokens");
        }
        assert_eq!(tokens.len(), 4);
        assert_eq!(tokens.id_of(b"a"), Some(0));
        assert_eq!(tokens.id_of(b"ab"), Some(2));
        assert_eq!(tokens.id_of(b""), None);
        assert_eq!(tokens.get(3), b"a");
        assert_eq!(tokens.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"ab", b"a"]);
    }
}
