//! The merge table: (left id, right id) -> rank, and rank -> product.
//!
//! Most lookups find nothing, and the table is larger than a core's own cache, so what counts is how many bytes a lookup
//! touches: a slot is one word of `left: 21 | right: 21 | rank: 22` bits, and the product stands apart, by rank, read only
//! when a merge is carried out. Tables that do not fit (larger ids or ranks, two products of one rank) are searched in a
//! sorted list.

use crate::formats::Merge;
use crate::ids::{NO_TOKEN, TokenId};

/// The rank of a pair that does not merge.
pub(crate) const NO_RANK: u32 = u32::MAX;

/// Ids and ranks of a packed slot are below these; the largest id of the field is left out, so that no slot is [`EMPTY`].
const ID_BITS: u32 = 21;
const RANK_BITS: u32 = 64 - 2 * ID_BITS;
const MAX_ID: u32 = (1 << ID_BITS) - 2;

/// The largest rank of a packed table.
pub(crate) const MAX_PACKED_RANK: u32 = (1 << RANK_BITS) - 1;

/// Longest run of occupied slots that a lookup may have to walk. A hostile file could otherwise choose ids that all
/// fall into one run and make every lookup linear.
const MAX_PROBE: usize = 64;

/// How often the table is rebuilt, larger and with another multiplier, before the merges are searched in a sorted list.
const MAX_REBUILDS: u32 = 3;

const EMPTY: u64 = u64::MAX;

/// Open addressing with linear probing.
pub(crate) struct MergeTable {
    slots: Box<[u64]>,
    shift: u32,
    multiplier: u64,
    /// The product of each rank.
    products: Box<[TokenId]>,
    /// What does not fit in `slots`, which then is empty.
    sorted: Option<Sorted>,
}

/// `(left << 32 | right, rank, product)` by pair.
struct Sorted(Box<[(u64, u32, TokenId)]>);

impl MergeTable {
    /// Builds the table. A pair given twice takes its last rank, as in `tokenizers`.
    ///
    /// O(merges); O(merges · log merges) where they cannot be packed or their ids are chosen to collide.
    pub(crate) fn new(merges: &[Merge]) -> Self {
        let products = products_by_rank(merges);
        // At most three slots in five are taken.
        let first_bits = (merges.len().max(8) * 5 / 3).next_power_of_two().trailing_zeros();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        if let Some(products) = products {
            for bits in first_bits..first_bits + MAX_REBUILDS {
                if let Some(slots) = pack(merges, bits, state | 1) {
                    return Self { slots, shift: 64 - bits, multiplier: state | 1, products, sorted: None };
                }
                // splitmix64: a fresh odd multiplier, the same on every machine.
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                state ^= state >> 31;
            }
        }
        let sorted = Some(Sorted::new(merges));
        Self { slots: Box::default(), shift: 0, multiplier: 0, products: Box::default(), sorted }
    }

    /// Whether all ranks are at most [`MAX_PACKED_RANK`].
    #[inline]
    pub(crate) fn is_packed(&self) -> bool {
        self.sorted.is_none()
    }

    /// The rank of a pair; [`NO_RANK`] when it does not merge.
    #[inline(always)]
    pub(crate) fn rank(&self, left: TokenId, right: TokenId) -> u32 {
        if left > MAX_ID || right > MAX_ID || !self.is_packed() {
            return self.sorted.as_ref().map_or(NO_RANK, |sorted| sorted.get(left, right).0);
        }
        let key = pair(left, right);
        let mask = self.slots.len() - 1;
        let mut at = home(key, self.multiplier, self.shift);
        loop {
            let slot = self.slots[at & mask];
            if slot >> RANK_BITS == key {
                return (slot & u64::from(MAX_PACKED_RANK)) as u32;
            }
            if slot == EMPTY {
                return NO_RANK;
            }
            at += 1;
        }
    }

    /// Every pair that merges, with its rank; in no order.
    pub(crate) fn pairs(&self) -> Vec<(TokenId, TokenId, u32)> {
        let halves = |key: u64, bits: u32| ((key >> bits) as TokenId, (key & ((1 << bits) - 1)) as TokenId);
        match &self.sorted {
            Some(Sorted(all)) => all
                .iter()
                .map(|&(key, rank, _)| {
                    let (left, right) = halves(key, 32);
                    (left, right, rank)
                })
                .collect(),
            None => self
                .slots
                .iter()
                .filter(|&&slot| slot != EMPTY)
                .map(|&slot| {
                    let (left, right) = halves(slot >> RANK_BITS, ID_BITS);
                    (left, right, (slot & u64::from(MAX_PACKED_RANK)) as u32)
                })
                .collect(),
        }
    }

    /// What the pair, which merges with `rank`, merges to.
    #[inline(always)]
    pub(crate) fn product(&self, left: TokenId, right: TokenId, rank: u32) -> TokenId {
        match &self.sorted {
            None => self.products[rank as usize],
            Some(sorted) => sorted.get(left, right).1,
        }
    }
}

impl Sorted {
    fn new(merges: &[Merge]) -> Self {
        let wide = |merge: &Merge| (u64::from(merge.left) << 32) | u64::from(merge.right);
        let mut all: Vec<_> = merges.iter().map(|merge| (wide(merge), merge.rank, merge.product)).collect();
        all.reverse();
        all.sort_by_key(|&(pair, _, _)| pair); // stable: the last of equal pairs comes first, and stays
        all.dedup_by_key(|&mut (pair, _, _)| pair);
        Self(all.into())
    }

    fn get(&self, left: TokenId, right: TokenId) -> (u32, TokenId) {
        let pair = (u64::from(left) << 32) | u64::from(right);
        match self.0.binary_search_by_key(&pair, |&(pair, _, _)| pair) {
            Ok(at) => (self.0[at].1, self.0[at].2),
            Err(_) => (NO_RANK, NO_TOKEN),
        }
    }
}

#[inline(always)]
fn pair(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}

#[inline(always)]
fn home(key: u64, multiplier: u64, shift: u32) -> usize {
    let mixed = (key ^ (key >> ID_BITS)).wrapping_mul(multiplier);
    (mixed >> shift) as usize
}

/// The product of each rank, where ids and ranks fit and a rank has one product.
fn products_by_rank(merges: &[Merge]) -> Option<Box<[TokenId]>> {
    let last = merges.iter().map(|merge| merge.rank).max().unwrap_or(0);
    if last > MAX_PACKED_RANK {
        return None;
    }
    let mut products = vec![NO_TOKEN; last as usize + 1];
    for merge in merges {
        let product = &mut products[merge.rank as usize];
        if merge.left > MAX_ID || merge.right > MAX_ID || (*product != NO_TOKEN && *product != merge.product) {
            return None;
        }
        *product = merge.product;
    }
    Some(products.into())
}

/// The slots; `None` when the ids collide too much.
fn pack(merges: &[Merge], bits: u32, multiplier: u64) -> Option<Box<[u64]>> {
    let mut slots = vec![EMPTY; 1 << bits].into_boxed_slice();
    let mask = slots.len() - 1;
    for merge in merges {
        let key = pair(merge.left, merge.right);
        let first = home(key, multiplier, 64 - bits);
        let at = (first..first + MAX_PROBE)
            .map(|at| at & mask)
            .find(|&at| slots[at] == EMPTY || slots[at] >> RANK_BITS == key)?;
        slots[at] = key << RANK_BITS | u64::from(merge.rank);
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(left: u32, right: u32, rank: u32) -> Merge {
        Merge { left, right, product: left ^ right, rank }
    }

    fn check(merges: &[Merge], packed: bool) {
        let table = MergeTable::new(merges);
        assert_eq!(table.is_packed(), packed);
        for m in merges {
            let rank = table.rank(m.left, m.right);
            assert_eq!((rank, table.product(m.left, m.right, rank)), (m.rank, m.product), "{m:?}");
            assert_eq!(table.rank(m.right + 1, m.left), NO_RANK);
            assert_eq!(table.rank(m.left, m.right | 1 << 31), NO_RANK, "ids over 21 bits are no aliases");
        }
    }

    #[test]
    fn every_merge_is_found_whether_or_not_it_can_be_packed() {
        let small: Vec<_> = (0..1000).map(|i| merge(i * 7, i * 3 + 5000, i)).collect();
        check(&small, true);
        let with = |extra| small.iter().copied().chain([extra]).collect::<Vec<_>>();
        check(&with(merge(MAX_ID, MAX_ID - 1, MAX_PACKED_RANK)), true);
        check(&with(merge(MAX_ID + 1, 0, 1000)), false);
        check(&with(merge(1, 2, MAX_PACKED_RANK + 1)), false);
        check(&with(merge(1, 2, 999)), false); // another product of the same rank
    }

    #[test]
    fn a_pair_given_twice_takes_its_last_rank() {
        for last in [3, MAX_PACKED_RANK + 1] {
            let table = MergeTable::new(&[merge(1, 2, 0), merge(1, 2, last)]);
            assert_eq!(table.rank(1, 2), last);
        }
    }

    #[test]
    fn ids_that_collide_under_one_multiplier_are_found_all_the_same() {
        // All of these start at slot 0 of the first table, more than may stand in one run.
        let at_first = |&i: &u32| home(pair(i, 0), 0x9E37_79B9_7F4A_7C15, 64 - 11) == 0;
        let merges: Vec<_> = (0..MAX_ID).filter(at_first).zip(0..200).map(|(i, rank)| merge(i, 0, rank)).collect();
        assert!(pack(&merges, 9, 0x9E37_79B9_7F4A_7C15).is_none());
        check(&merges, true);
    }
}
