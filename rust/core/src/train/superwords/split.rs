//! Cutting sequences where nothing that is learnt can cross.
//!
//! No pair of tokens occurs more often than the base tokens on both sides of its seam stand side by side. So where two
//! base tokens stand side by side fewer than `least` times, no merge of at least `least` occurrences crosses, and the
//! sequence may be cut there: Agrawal and Srikant's Apriori rule (1994) for pairs. What is left repeats far more often.
//!
//! The rule needs that a token always ends in the same base token, and begins with the same. A token that merges make in
//! two ways does not; then the base tokens in question are one class ([`Ends`]), whose counts are added up.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{HashSet, HashTable};

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

/// How often base tokens stand side by side, or more often than they do: pairs are told apart by a hash alone.
///
/// For the rule an upper bound is enough. A counter that several pairs share has fewer cuts made, and no wrong one.
pub(super) struct Seams {
    counters: Box<[AtomicU64]>,
}

/// Fewest and most counters, as powers of two: 64 MiB at most.
const COUNTERS: (u32, u32) = (10, 23);

impl Seams {
    /// Counters for sequences of so many tokens.
    pub(super) fn new(positions: u64) -> Self {
        let bits = (positions / 2).max(1).ilog2().clamp(COUNTERS.0, COUNTERS.1);
        Self { counters: (0..1_usize << bits).map(|_| AtomicU64::new(0)).collect() }
    }

    #[inline]
    fn place(&self, key: u64) -> usize {
        let mixed = (key ^ key >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (mixed >> 40) as usize & (self.counters.len() - 1)
    }

    /// Counts the neighbours in a sequence, by their classes.
    pub(super) fn add(&self, sequence: &[TokenId], count: u64, ends: &Ends) {
        for pair in sequence.windows(2) {
            let place = self.place(ends.class_of((pair[0], pair[1])));
            // The sum of all counts is within i64: checked when they were added up.
            self.counters[place].fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The `n`-th largest counter; 1 when there are fewer.
    pub(super) fn nth_count(&self, n: usize) -> u64 {
        const EXACT: usize = 1 << 16; // larger counts are taken for this
        let mut histogram = vec![0_usize; EXACT + 1];
        for counter in &self.counters {
            histogram[usize::try_from(counter.load(Ordering::Relaxed)).unwrap_or(EXACT).min(EXACT)] += 1;
        }
        let mut above = 0;
        let found = (1..=EXACT).rev().find(|&count| {
            above += histogram[count];
            above >= n
        });
        found.unwrap_or(1) as u64
    }

    /// Where nothing is cut: between tokens that stand side by side at least `least` times.
    pub(super) fn whole<'e>(&'e self, least: u64, ends: &'e Ends) -> Whole<'e> {
        let bit = |(at, counter): (usize, &AtomicU64)| u64::from(counter.load(Ordering::Relaxed) >= least) << at;
        let bits = self.counters.chunks(64).map(|word| word.iter().enumerate().map(bit).sum());
        // Named by the classes of their time.
        let open = ends.open.iter().map(|&key| ends.class_of(pair_of(key))).collect();
        Whole { seams: self, bits: bits.collect(), ends, open }
    }
}

/// The pairs of base tokens between which nothing is cut.
pub(super) struct Whole<'e> {
    seams: &'e Seams,
    bits: Box<[u64]>,
    ends: &'e Ends,
    open: HashSet<u64>,
}

impl Whole<'_> {
    #[inline]
    fn holds(&self, left: TokenId, right: TokenId) -> bool {
        let class = self.ends.class_of((left, right));
        let place = self.seams.place(class);
        self.bits[place / 64] >> (place % 64) & 1 == 1 || (!self.open.is_empty() && self.open.contains(&class))
    }

    /// Hands the parts of a sequence that have two tokens and more to `part`.
    pub(super) fn split<'s>(&self, sequence: &'s [TokenId], mut part: impl FnMut(&'s [TokenId])) {
        let mut start = 0;
        for at in 1..=sequence.len() {
            if at < sequence.len() && self.holds(sequence[at - 1], sequence[at]) {
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
