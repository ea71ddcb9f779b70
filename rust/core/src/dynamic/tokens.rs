//! What a token is: its bytes.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::error::{Error, Result};
use crate::ids::{NO_TOKEN, TokenId};
use crate::vocab::{Kind, Vocabulary};

/// Hashes are looked up by, never listed: the seed is fixed and shows in no result.
fn hash_of(bytes: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(bytes)
}

/// Base ids by their bytes. Immutable; made once for a tokenizer.
pub struct Identity {
    vocabulary: Arc<Vocabulary>,
    /// The first of the ids with the same bytes; `NO_TOKEN` for one that never merges.
    first_of: Vec<TokenId>,
    by_bytes: HashTable<TokenId>,
}

impl Identity {
    /// Reads a vocabulary. O(V), and the sort of its tokens where nobody asked for it before.
    ///
    /// Tokens that merge are those that arise from text through the model and have bytes: special and added tokens,
    /// unused ones and empty ones stay as they are.
    ///
    /// # Errors
    /// `Value` for a vocabulary that leaves no id for new tokens.
    pub fn new(vocabulary: Arc<Vocabulary>) -> Result<Self> {
        if u32::try_from(vocabulary.len()).is_err() {
            let found = format!("{} ids", vocabulary.len());
            return Err(Error::value("vocabulary", found, "new tokens need ids above them, below 2^32"));
        }
        let mut first_of = vec![NO_TOKEN; vocabulary.len()];
        let mut by_bytes = HashTable::with_capacity(vocabulary.len());
        let bytes_of = |id: TokenId| vocabulary.token_bytes(id).unwrap_or_default();
        let merging: Vec<TokenId> = vocabulary.sorted().iter().copied().filter(|&id| merges(&vocabulary, id)).collect();
        for ids in merging.chunk_by(|&a, &b| bytes_of(a) == bytes_of(b)) {
            // A token that the file spells comes before its byte-fallback twin.
            let first = ids.iter().copied().min_by_key(|&id| (vocabulary.kind(id) == Kind::Byte, id));
            let first = first.expect("a chunk is not empty");
            ids.iter().for_each(|&id| first_of[id as usize] = first);
            by_bytes.insert_unique(hash_of(bytes_of(first)), first, |&id| hash_of(bytes_of(id)));
        }
        Ok(Self { vocabulary, first_of, by_bytes })
    }

    /// The id of the first new token: one more than the largest base id.
    pub fn first_new(&self) -> TokenId {
        u32::try_from(self.first_of.len()).expect("checked when it was built")
    }

    /// The vocabulary.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Whether a token may be part of a merge.
    pub fn merges(&self, id: TokenId) -> bool {
        self.symbol(id) != NO_TOKEN
    }

    /// The id that stands for all ids with the same bytes; `NO_TOKEN` for one that never merges.
    pub(super) fn symbol(&self, id: TokenId) -> TokenId {
        self.first_of.get(id as usize).copied().unwrap_or(NO_TOKEN)
    }

    /// Refuses ids that are none.
    pub(super) fn check(&self, ids: &[TokenId]) -> Result<()> {
        match ids.iter().position(|&id| id >= self.first_new()) {
            None => Ok(()),
            Some(at) => Err(Error::value(
                format!("ids[{at}]"),
                format!("{} is no id", ids[at]),
                format!("ids are 0..{}", self.first_of.len().saturating_sub(1)),
            )),
        }
    }

    fn base_id(&self, bytes: &[u8], hash: u64) -> Option<TokenId> {
        self.by_bytes.find(hash, |&id| self.vocabulary.token_bytes(id) == Some(bytes)).copied()
    }
}

fn merges(vocabulary: &Vocabulary, id: TokenId) -> bool {
    matches!(vocabulary.kind(id), Kind::Text | Kind::Byte) && vocabulary.token_bytes(id).is_some_and(|b| !b.is_empty())
}

/// The tokens of one batch: those of the base, and new ones.
pub(super) struct Tokens<'i> {
    identity: &'i Identity,
    by_bytes: HashTable<u32>,
    pub(super) bytes: Vec<u8>,
    pub(super) offsets: Vec<i64>,
    pub(super) pieces: Vec<TokenId>,
    pub(super) piece_offsets: Vec<i64>,
    joint: Vec<u8>,
}

fn range(offsets: &[i64], k: usize) -> std::ops::Range<usize> {
    let at = |k: usize| usize::try_from(offsets[k]).expect("an offset is a length");
    at(k)..at(k + 1)
}

fn end(len: usize) -> i64 {
    i64::try_from(len).expect("a vector is shorter than 2^63")
}

impl<'i> Tokens<'i> {
    pub(super) fn new(identity: &'i Identity) -> Self {
        Self {
            identity,
            by_bytes: HashTable::new(),
            bytes: Vec::new(),
            offsets: vec![0],
            pieces: Vec::new(),
            piece_offsets: vec![0],
            joint: Vec::new(),
        }
    }

    /// Which new token an id is.
    fn new_index(&self, id: TokenId) -> Option<usize> {
        id.checked_sub(self.identity.first_new()).map(|k| k as usize)
    }

    /// A token's bytes.
    pub(super) fn get(&self, id: TokenId) -> &[u8] {
        match self.new_index(id) {
            Some(k) => &self.bytes[range(&self.offsets, k)],
            None => self.identity.vocabulary.token_bytes(id).unwrap_or_default(),
        }
    }

    /// The token whose bytes are those of `left` and `right`: a base token, one made before, or a new one.
    ///
    /// # Errors
    /// `Value` when no id is left for a new token.
    pub(super) fn join(&mut self, left: TokenId, right: TokenId) -> Result<TokenId> {
        let mut joint = std::mem::take(&mut self.joint);
        joint.clear();
        joint.extend_from_slice(self.get(left));
        joint.extend_from_slice(self.get(right));
        let hash = hash_of(&joint);
        let id = match self.known(&joint, hash) {
            Some(id) => Ok(id),
            None => self.add(&joint, hash, left, right),
        };
        self.joint = joint;
        id
    }

    fn known(&self, joint: &[u8], hash: u64) -> Option<TokenId> {
        self.identity.base_id(joint, hash).or_else(|| {
            let same = |&k: &u32| &self.bytes[range(&self.offsets, k as usize)] == joint;
            self.by_bytes.find(hash, same).map(|&k| self.identity.first_new() + k)
        })
    }

    fn add(&mut self, joint: &[u8], hash: u64, left: TokenId, right: TokenId) -> Result<TokenId> {
        let made = self.offsets.len() - 1;
        let id = u32::try_from(made).ok().and_then(|k| self.identity.first_new().checked_add(k));
        let Some(id) = id.filter(|&id| id != NO_TOKEN) else {
            return Err(Error::value("ids", format!("no id is left for new token {made}"), "merge a smaller batch"));
        };
        self.bytes.extend_from_slice(joint);
        self.offsets.push(end(self.bytes.len()));
        for part in [left, right] {
            match self.new_index(part) {
                Some(k) => self.pieces.extend_from_within(range(&self.piece_offsets, k)),
                None => self.pieces.push(part),
            }
        }
        self.piece_offsets.push(end(self.pieces.len()));
        let (bytes, offsets) = (&self.bytes, &self.offsets);
        let k = u32::try_from(made).expect("checked above");
        self.by_bytes.insert_unique(hash, k, |&k| hash_of(&bytes[range(offsets, k as usize)]));
        Ok(id)
    }
}
