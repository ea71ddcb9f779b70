//! Longest match from the left, as far as a next token depends on it.
//!
//! A token was the longest match where it begins unless a longer one turns out to match there. So behind each token are
//! *runs*: beginnings of longer tokens that the text has agreed with so far, from the starts of this token and of those
//! before it. None may be completed.

use std::sync::{PoisonError, RwLock};

use rustc_hash::FxHashMap;

use crate::error::Result;
use crate::formats::Trie;
use crate::index::{Bits, Interval, VocabIndex};

/// A set of runs, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Matches(u32);

/// Tokens that agree with the text from some start, all longer than the text behind it, and how long that is.
type Run = (Interval, u32);

/// The vocabulary, and the sets of runs that occurred.
pub(super) struct LongestMatch {
    tokens: VocabIndex,
    names: RwLock<Names>,
}

#[derive(Default)]
struct Names {
    sets: Vec<Vec<Run>>,
    numbers: FxHashMap<Vec<Run>, u32>,
}

impl LongestMatch {
    pub(super) fn new(model: &Trie) -> Result<Self> {
        let rows = model.vocab.ids.iter().max().map_or(0, |&id| id as usize + 1);
        let tokens = VocabIndex::new(model.vocab.iter().map(|(bytes, id)| (id, bytes)), rows)?;
        Ok(Self { tokens, names: RwLock::default() })
    }

    fn runs(&self, matches: Option<Matches>) -> Vec<Run> {
        let Some(Matches(number)) = matches else { return Vec::new() };
        self.names.read().unwrap_or_else(PoisonError::into_inner).sets[number as usize].clone()
    }

    /// The runs behind one token more; `None` where a longer token matches. `None` before the first token.
    pub(super) fn pass(&self, matches: Option<Matches>, token: &[u8]) -> Option<Matches> {
        let mut next = Vec::new();
        for (mut at, mut depth) in self.runs(matches) {
            for &byte in token {
                at = self.tokens.narrow(at, depth, byte);
                depth += 1;
                if at.is_empty() {
                    break;
                }
                if !self.tokens.ending(at, depth).is_empty() {
                    return None;
                }
            }
            if !at.is_empty() {
                next.push((at, depth));
            }
        }
        let (at, depth) = walk(&self.tokens, token);
        let longer = Interval { lo: self.tokens.ending(at, depth).hi, ..at };
        if !longer.is_empty() {
            next.push((longer, depth));
        }
        Some(self.name(next))
    }

    fn name(&self, runs: Vec<Run>) -> Matches {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = names.numbers.get(&runs) {
            return Matches(number);
        }
        let number = u32::try_from(names.sets.len()).expect("so many sets do not fit into memory");
        names.sets.push(runs.clone());
        names.numbers.insert(runs, number);
        Matches(number)
    }

    /// The places of `index` that may follow.
    pub(super) fn mask(&self, matches: Option<Matches>, index: &VocabIndex) -> Bits {
        let (mut mask, mut refused) = (Bits::full(index.root().hi), Bits::new());
        for (at, depth) in self.runs(matches) {
            let mut last: Option<&[u8]> = None;
            for place in at.lo..at.hi {
                let rest = &self.tokens.token(place)[depth as usize..];
                if last.is_none_or(|last| !rest.starts_with(last)) {
                    refused.insert_range(walk(index, rest).0);
                    last = Some(rest);
                }
            }
        }
        mask.and_not(&refused);
        mask
    }
}

/// The tokens that begin with `bytes`.
fn walk(index: &VocabIndex, bytes: &[u8]) -> Run {
    let (mut at, mut depth) = (index.root(), 0);
    for &byte in bytes {
        at = index.narrow(at, depth, byte);
        depth += 1;
    }
    (at, depth)
}
