//! Counts of pairs in several tables, so that growing one, or adding up those of two threads, never needs room for all
//! pairs a second time.

use crate::train::pairs::PairCounts;

/// How many tables.
const SHARDS: usize = 32;

/// Counts of pairs.
pub(super) struct Pairs(Vec<PairCounts>);

impl Pairs {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| PairCounts::with_capacity(0)).collect())
    }

    /// Which table has a pair: by bits that the tables do not place it by.
    #[inline]
    fn shard(key: u64) -> usize {
        ((key ^ (key >> 32)) % SHARDS as u64) as usize
    }

    /// Adds to the count of a pair.
    #[inline]
    pub(super) fn add(&mut self, key: u64, change: i64) {
        self.0[Self::shard(key)].add(key, change);
    }

    /// The count of a pair; 0 for one that never was.
    pub(super) fn get(&self, key: u64) -> i64 {
        self.0[Self::shard(key)].get(key)
    }

    /// Every pair and its count, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, i64)> {
        self.0.iter().flat_map(PairCounts::iter)
    }

    /// Takes the counts of another and adds them.
    pub(super) fn take(&mut self, other: &mut Self) {
        for (own, other) in self.0.iter_mut().zip(&mut other.0) {
            let other = std::mem::replace(other, PairCounts::with_capacity(0));
            if own.len() == 0 {
                *own = other;
                continue;
            }
            if other.len() == 0 {
                continue;
            }
            // With all the room at once: a table that is read in the order of its slots would crowd one that grows.
            let mut both = PairCounts::with_capacity(own.len() + other.len());
            for part in [&*own, &other] {
                part.iter().for_each(|(key, count)| {
                    both.add(key, count);
                });
            }
            *own = both;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::pairs::key_of;

    #[test]
    fn counts_of_two_add_up() {
        let (mut one, mut two) = (Pairs::new(), Pairs::new());
        for n in 0..5000 {
            one.add(key_of(n, n % 7), 2);
            two.add(key_of(n + 2500, (n + 2500) % 7), 3);
        }
        one.take(&mut two);
        assert_eq!(two.iter().count(), 0);
        assert_eq!(one.iter().count(), 7500);
        assert_eq!([10, 3000, 7000].map(|n| one.get(key_of(n, n % 7))), [2, 5, 3]);
        assert_eq!(one.get(key_of(9999, 0)), 0);
    }
}
