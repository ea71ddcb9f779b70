//! The merge table: (left id, right id) -> (rank, product).

use crate::error::{Error, Result};
use crate::formats::Merge;
use crate::ids::{NO_TOKEN, TokenId};

/// The rank of a pair that does not merge.
pub(crate) const NO_RANK: u32 = u32::MAX;

/// Longest run of occupied slots that a lookup may have to walk. A hostile file could otherwise choose ids that all
/// fall into one run and make every lookup linear.
const MAX_PROBE: usize = 64;

/// How often the table is rebuilt with another multiplier before the file is refused.
const MAX_REBUILDS: u32 = 6;

#[derive(Clone, Copy)]
struct Slot {
    left: TokenId,
    right: TokenId,
    rank: u32,
    product: TokenId,
}

const EMPTY: Slot = Slot { left: NO_TOKEN, right: NO_TOKEN, rank: NO_RANK, product: NO_TOKEN };

/// Open addressing with linear probing; a slot is 16 bytes, so a hit touches one cache line.
pub(crate) struct MergeTable {
    slots: Box<[Slot]>,
    shift: u32,
    multiplier: u64,
}

impl MergeTable {
    /// Builds the table. A pair given twice takes its last rank, as in `tokenizers`.
    ///
    /// O(merges). Fails only for ids chosen to collide under several multipliers.
    pub(crate) fn new(merges: &[Merge]) -> Result<Self> {
        let first_bits = (merges.len().max(8) * 2).next_power_of_two().trailing_zeros();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for bits in first_bits..first_bits + MAX_REBUILDS {
            if let Some(table) = Self::try_build(merges, bits, state | 1) {
                return Ok(table);
            }
            // splitmix64: a fresh odd multiplier, the same on every machine.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            state ^= state >> 31;
        }
        Err(Error::format("model.merges", "the ids are chosen so that every hash collides", "the file is hostile"))
    }

    fn try_build(merges: &[Merge], bits: u32, multiplier: u64) -> Option<Self> {
        let mut table = Self { slots: vec![EMPTY; 1 << bits].into_boxed_slice(), shift: 64 - bits, multiplier };
        let mask = table.slots.len() - 1;
        for merge in merges {
            let mut at = table.home(merge.left, merge.right);
            let mut probes = 0;
            loop {
                let slot = table.slots[at];
                if slot.left == NO_TOKEN {
                    break;
                }
                if slot.left == merge.left && slot.right == merge.right {
                    break;
                }
                at = (at + 1) & mask;
                probes += 1;
                if probes > MAX_PROBE {
                    return None;
                }
            }
            table.slots[at] = Slot { left: merge.left, right: merge.right, rank: merge.rank, product: merge.product };
        }
        Some(table)
    }

    #[inline]
    fn home(&self, left: TokenId, right: TokenId) -> usize {
        let key = (u64::from(left) << 32) | u64::from(right);
        let mixed = (key ^ (key >> 29)).wrapping_mul(self.multiplier);
        (mixed >> self.shift) as usize
    }

    /// Rank and product of a pair; `(NO_RANK, NO_TOKEN)` when it does not merge.
    #[inline]
    pub(crate) fn get(&self, left: TokenId, right: TokenId) -> (u32, TokenId) {
        let mask = self.slots.len() - 1;
        let mut at = self.home(left, right);
        loop {
            let slot = &self.slots[at];
            if slot.left == left && slot.right == right {
                return (slot.rank, slot.product);
            }
            if slot.left == NO_TOKEN {
                return (NO_RANK, NO_TOKEN);
            }
            at = (at + 1) & mask;
        }
    }
}
