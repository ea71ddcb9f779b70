//! Added tokens: found in a text before the model sees it, leftmost first and the longest of those.
//!
//! A text is a row of segments and added tokens. In a segment no added token may begin; behind an added token no longer
//! one may turn out to have begun at its start. Both are *runs*: paths down the trie of the tokens' texts that must not be
//! completed. A [`Runs`] is a set of them, interned.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use rustc_hash::FxHashMap;

use crate::ids::TokenId;

/// A set of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Runs(u32);

/// No run: nothing is half way.
pub(super) const NO_RUNS: Runs = Runs(0);

/// The automaton of all added tokens.
pub(super) struct AddedTokens {
    /// Of each trie node: its children, and whether a token ends there.
    children: Vec<FxHashMap<u8, u32>>,
    ends: Vec<bool>,
    tokens: Vec<(TokenId, Vec<u8>)>,
    /// Their ids, ascending.
    ids: Vec<TokenId>,
    memo: RwLock<Memo>,
}

struct Memo {
    sets: Vec<Vec<u32>>,
    names: FxHashMap<Vec<u32>, u32>,
    steps: FxHashMap<(u32, u8, bool), Option<u32>>,
}

impl AddedTokens {
    pub(super) fn new(tokens: Vec<(TokenId, Vec<u8>)>) -> Self {
        let mut this = Self {
            children: vec![FxHashMap::default()],
            ends: vec![false],
            tokens: Vec::new(),
            ids: Vec::new(),
            memo: RwLock::new(Memo {
                sets: vec![Vec::new()],
                names: std::iter::once((Vec::new(), 0)).collect(),
                steps: FxHashMap::default(),
            }),
        };
        for (_, text) in tokens.iter().filter(|(_, text)| !text.is_empty()) {
            let mut at = 0_usize;
            for &byte in text {
                let new = to_u32(this.ends.len());
                let next = *this.children[at].entry(byte).or_insert(new);
                if next == new {
                    this.children.push(FxHashMap::default());
                    this.ends.push(false);
                }
                at = next as usize;
            }
            this.ends[at] = true;
        }
        this.ids = tokens.iter().map(|(id, _)| *id).collect();
        this.ids.sort_unstable();
        this.tokens = tokens;
        this
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether an id is an added token.
    pub(super) fn has(&self, id: TokenId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Every added token with its bytes.
    pub(super) fn tokens(&self) -> &[(TokenId, Vec<u8>)] {
        &self.tokens
    }

    /// The runs after one more byte; `None` when one is completed. `fresh`: whether the byte may begin a run itself.
    pub(super) fn step(&self, runs: Runs, byte: u8, fresh: bool) -> Option<Runs> {
        if self.tokens.is_empty() {
            return Some(NO_RUNS);
        }
        let key = (runs.0, byte, fresh);
        let read = self.memo.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.steps.get(&key) {
            return known.map(Runs);
        }
        let begun = if fresh { &[0][..] } else { &[] };
        let mut next = BTreeSet::new();
        let mut completed = false;
        for &at in read.sets[runs.0 as usize].iter().chain(begun) {
            if let Some(&child) = self.children[at as usize].get(&byte) {
                completed |= self.ends[child as usize];
                if !self.children[child as usize].is_empty() {
                    next.insert(child);
                }
            }
        }
        drop(read);
        let found = if completed { None } else { Some(self.name(next.into_iter().collect())) };
        self.memo.write().unwrap_or_else(PoisonError::into_inner).steps.insert(key, found.map(|runs| runs.0));
        found
    }

    /// The runs behind an added token; `None` when its bytes complete a run that began before it.
    pub(super) fn pass(&self, runs: Runs, token: &[u8]) -> Option<Runs> {
        let mut older = runs;
        for &byte in token {
            older = self.step(older, byte, false)?;
        }
        let mut at = 0_u32;
        for byte in token {
            at = *self.children[at as usize].get(byte)?;
        }
        if self.children[at as usize].is_empty() {
            return Some(older);
        }
        let read = self.memo.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeSet<u32> = read.sets[older.0 as usize].iter().copied().collect();
        drop(read);
        all.insert(at);
        Some(self.name(all.into_iter().collect()))
    }

    fn name(&self, set: Vec<u32>) -> Runs {
        let mut memo = self.memo.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&name) = memo.names.get(&set) {
            return Runs(name);
        }
        let name = to_u32(memo.sets.len());
        memo.sets.push(set.clone());
        memo.names.insert(set, name);
        Runs(name)
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("texts of added tokens stay under 4 GiB: Limits.file_bytes")
}
