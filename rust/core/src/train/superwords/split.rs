//! Cutting sequences where nothing that is learnt can cross.
//!
//! No pair of tokens occurs more often than the base tokens on both sides of its seam stand side by side. So where two
//! base tokens stand side by side fewer than `least` times, no merge of at least `least` occurrences crosses, and the
//! sequence may be cut there: Agrawal and Srikant's Apriori rule (1994) for pairs. What is left repeats far more often.
//!
//! The rule needs that a token always ends in the same base token, and begins with the same. A token that merges make in
//! two ways does not; then the base tokens in question are one class ([`Ends`]), whose counts are added up.

use std::hash::BuildHasher;

use hashbrown::{HashMap, HashSet, HashTable};

use super::pairs::Pairs;
use crate::ids::TokenId;
use crate::train::merge::LearntMerge;
use crate::train::pairs::{key_of, pair_of};

/// Classes of base tokens.
struct Classes(Vec<TokenId>);

impl Classes {
    fn of(&self, mut token: TokenId) -> TokenId {
        while self.0[token as usize] != token {
            token = self.0[token as usize];
        }
        token
    }

    /// Makes one class of two; whether they were two.
    fn unite(&mut self, a: TokenId, b: TokenId) -> bool {
        let (a, b) = (self.of(a), self.of(b));
        self.0[a.max(b) as usize] = a.min(b);
        a != b
    }
}

/// Which base tokens count together to the left and to the right of a seam.
pub(super) struct Ends {
    left: Classes,
    right: Classes,
    /// Seams that inherited merges may cross whatever their count.
    open: HashSet<u64>,
}

impl Ends {
    pub(super) fn new(base: usize) -> Self {
        let own: Vec<TokenId> = (0..base).map(|id| TokenId::try_from(id).expect("ids are below 2^31")).collect();
        Self { left: Classes(own.clone()), right: Classes(own), open: HashSet::new() }
    }

    /// Looks for tokens that arose in two ways; whether classes changed, so that cuts have to be made anew.
    pub(super) fn learn(&mut self, merges: &[LearntMerge], inherited: &[(TokenId, TokenId, TokenId)]) -> bool {
        let base = self.left.0.len();
        // The first and the last base token of each token.
        let own = 0..TokenId::try_from(base).expect("ids are below 2^31");
        let mut ends: Vec<(TokenId, TokenId)> = own.map(|id| (id, id)).collect();
        let mut changed = false;
        let mut old_products = HashSet::new();
        for merge in merges {
            let made = (ends[merge.left as usize].0, ends[merge.right as usize].1);
            match ends.get(merge.product as usize) {
                None => ends.push(made),
                Some(&(first, last)) => {
                    changed |= self.right.unite(first, made.0);
                    changed |= self.left.unite(last, made.1);
                    old_products.insert(merge.product);
                }
            }
        }
        // A product that existed may have inherited merges, which are carried out however rare they are.
        for &(left, right, _) in inherited {
            if old_products.contains(&left) || old_products.contains(&right) {
                let (left, right) = (self.left.of(left), self.right.of(right));
                changed |= self.open.insert(key_of(left, right));
            }
        }
        changed
    }

    fn class_of(&self, (left, right): (TokenId, TokenId)) -> u64 {
        key_of(self.left.of(left), self.right.of(right))
    }
}

/// The pairs of base tokens between which nothing is cut.
pub(super) struct Whole {
    pairs: HashSet<u64>,
}

impl Whole {
    /// Those of classes that stand side by side at least `least` times.
    pub(super) fn new(counts: &Pairs, least: u64, ends: &Ends) -> Self {
        let mut joint: HashMap<u64, u128> = HashMap::new(); // of pairs that are not their own class
        let mut singles = 0;
        for (key, count) in counts.iter() {
            let class = ends.class_of(pair_of(key));
            if class != key {
                *joint.entry(class).or_default() += u128::from(count.unsigned_abs());
            }
            singles += usize::from(count.unsigned_abs() >= least);
        }
        // Named by the classes of their time.
        let open: HashSet<u64> = ends.open.iter().map(|&key| ends.class_of(pair_of(key))).collect();
        let mut pairs = HashSet::with_capacity(singles);
        for (key, count) in counts.iter() {
            let class = ends.class_of(pair_of(key));
            let own = u128::from(counts.get(class).unsigned_abs());
            let whole = match joint.get(&class) {
                None => count.unsigned_abs() >= least,
                Some(others) => own + others >= u128::from(least),
            };
            if whole || open.contains(&class) {
                pairs.insert(key);
            }
        }
        Self { pairs }
    }

    /// Hands the parts of a sequence that have two tokens and more to `part`.
    pub(super) fn split<'s>(&self, sequence: &'s [TokenId], mut part: impl FnMut(&'s [TokenId])) {
        let mut start = 0;
        for at in 1..=sequence.len() {
            if at < sequence.len() && self.pairs.contains(&key_of(sequence[at - 1], sequence[at])) {
                continue;
            }
            if at - start > 1 {
                part(&sequence[start..at]);
            }
            start = at;
        }
    }
}

/// Counts of sequences.
#[derive(Default)]
pub(super) struct Segments {
    ids: Vec<TokenId>,
    /// Start, length and count of each.
    entries: Vec<(usize, u32, u64)>,
    table: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
}

impl Segments {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The ids of all sequences, each once.
    pub(super) fn positions(&self) -> usize {
        self.ids.len()
    }

    fn get(ids: &[TokenId], (start, length, _): (usize, u32, u64)) -> &[TokenId] {
        &ids[start..start + length as usize]
    }

    /// Adds `count` to a sequence.
    pub(super) fn add(&mut self, sequence: &[TokenId], count: u64) {
        let Self { ids, entries, table, hasher } = self;
        let hash = |sequence: &[TokenId]| hasher.hash_one(sequence);
        let same = |&at: &u32| Self::get(ids, entries[at as usize]) == sequence;
        if let Some(&at) = table.find(hash(sequence), same) {
            // The sum of all counts is within i64: checked when they were added up.
            entries[at as usize].2 += count;
            return;
        }
        let at = u32::try_from(entries.len()).expect("memory for 2^32 sequences is not there");
        let length = u32::try_from(sequence.len()).expect("a sequence is shorter than 4 GiB");
        entries.push((ids.len(), length, count));
        ids.extend_from_slice(sequence);
        table.insert_unique(hash(sequence), at, |&at| hash(Self::get(ids, entries[at as usize])));
    }

    /// Adds those of another.
    pub(super) fn extend(&mut self, other: &Self) {
        other.entries.iter().for_each(|&entry| self.add(Self::get(&other.ids, entry), entry.2));
    }

    /// All sequences and their counts, sorted by ids.
    pub(super) fn sorted(&mut self) -> impl Iterator<Item = (&[TokenId], u64)> {
        self.table = HashTable::new();
        let Self { ids, entries, .. } = self;
        entries.sort_unstable_by(|&a, &b| Self::get(ids, a).cmp(Self::get(ids, b)));
        entries.iter().map(|&entry| (Self::get(ids, entry), entry.2))
    }
}
