//! How often every pair of neighbours occurs: (left id, right id) to a count.

use crate::ids::TokenId;

/// No pair: ids stay below 2^31.
const EMPTY: u64 = u64::MAX;

/// Slots are filled up to 4 of 5.
const FULL: (usize, usize) = (4, 5);

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    count: i64,
}

/// A pair as one number, ordered by left and then by right.
#[inline]
pub(super) fn key_of(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// The two ids of a key.
#[inline]
pub(super) fn pair_of(key: u64) -> (TokenId, TokenId) {
    (u32::try_from(key >> 32).unwrap_or(u32::MAX), u32::try_from(key & u64::from(u32::MAX)).unwrap_or(u32::MAX))
}

/// Open addressing with linear probing; key and count share a cache line, for most look-ups miss the cache.
///
/// The place of a key is the high part of a product, so the capacity need not be a power of two and grows by half:
/// the table is the largest part of a training's memory after the symbols.
pub(super) struct PairCounts {
    slots: Box<[Slot]>,
    used: usize,
}

impl PairCounts {
    pub(super) fn with_capacity(pairs: usize) -> Self {
        let slots = (pairs.max(1024) * FULL.1).div_ceil(FULL.0) + 1;
        Self { slots: vec![Slot { key: EMPTY, count: 0 }; slots].into(), used: 0 }
    }

    /// Where a key is or would be put.
    #[inline]
    fn find(&self, key: u64) -> usize {
        // Two odd multipliers: the first spreads the left id over all bits, the second brings them to the top.
        let mixed = (key ^ key >> 29).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let place = (u128::from(mixed) * self.slots.len() as u128) >> 64;
        let mut at = usize::try_from(place).expect("below the number of slots");
        while self.slots[at].key != key && self.slots[at].key != EMPTY {
            at += 1;
            if at == self.slots.len() {
                at = 0;
            }
        }
        at
    }

    /// The count of a pair; 0 for one that never was.
    #[inline]
    pub(super) fn get(&self, key: u64) -> i64 {
        self.slots[self.find(key)].count
    }

    /// Sets a count to 0.
    pub(super) fn clear(&mut self, key: u64) {
        let at = self.find(key);
        self.slots[at].count = 0; // an empty slot has that count anyway
    }

    /// Adds to a count; returns the new one and whether the pair was there before.
    #[inline]
    pub(super) fn add(&mut self, key: u64, change: i64) -> (i64, bool) {
        let mut at = self.find(key);
        let known = self.slots[at].key == key;
        if !known {
            if (self.used + 1) * FULL.1 > self.slots.len() * FULL.0 {
                self.grow();
                at = self.find(key);
            }
            self.slots[at].key = key;
            self.used += 1;
        }
        // The sum of all counts was checked to stay within i64 when the words were laid out.
        self.slots[at].count += change;
        (self.slots[at].count, known)
    }

    fn grow(&mut self) {
        let mut larger = Self::with_capacity(self.used + self.used / 2);
        for slot in self.slots.iter().filter(|slot| slot.key != EMPTY) {
            let at = larger.find(slot.key);
            larger.slots[at] = *slot;
        }
        larger.used = self.used;
        *self = larger;
    }

    /// The pair in a slot that is taken, and its count.
    pub(super) fn at(&self, slot: usize) -> (u64, i64) {
        (self.slots[slot].key, self.slots[slot].count)
    }

    /// The number of the slot of a pair that is there, until the next [`PairCounts::add`].
    #[inline]
    pub(super) fn slot(&self, key: u64) -> usize {
        self.find(key)
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn counts_agree_with_a_map_while_the_table_grows() {
        let mut state = 7_u64;
        let mut table = PairCounts::with_capacity(0);
        let mut expected = BTreeMap::new();
        for _ in 0..40_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = key_of((state >> 40 & 0xff) as u32, (state >> 50 & 0x3f) as u32 + 1_000_000);
            let known = expected.contains_key(&key);
            let sum = expected.entry(key).or_insert(0_i64);
            *sum += (state >> 60) as i64 - 5;
            assert_eq!(table.add(key, (state >> 60) as i64 - 5), (*sum, known));
        }
        assert_eq!(table.used, expected.len());
        assert!(expected.iter().all(|(&key, &count)| table.get(key) == count));
        assert!(expected.iter().all(|(&key, &count)| table.at(table.slot(key)) == (key, count)));
        assert_eq!(table.get(key_of(9999, 1)), 0);
    }

    #[test]
    fn a_key_gives_its_pair_back() {
        assert_eq!(pair_of(key_of(5, 0x7fff_ffff)), (5, 0x7fff_ffff));
    }
}
