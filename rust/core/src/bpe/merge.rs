//! Merging initial symbols: a scan for short pretokens, a heap for long ones.
//!
//! Both follow the definition in [`super::reference`]: the lowest rank first, the leftmost among equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::symbols::Symbol;
use super::table::{MAX_PACKED_RANK, MergeTable, NO_RANK};
use crate::formats::Merge;
use crate::ids::{NO_TOKEN, TokenId};

/// Longest pretoken, in symbols, that is merged by scanning: above it the heap wins (measured at 48 to 96), and the places
/// of its symbols no longer fit in a word's bits.
pub(crate) const SCAN_MAX: usize = 64;

const NONE: u32 = u32::MAX;

/// Reusable buffers; nothing in them outlives a call.
#[derive(Default)]
pub(crate) struct MergeScratch {
    scan: Scan,
    ranks: Vec<u32>,
    previous: Vec<u32>,
    next: Vec<u32>,
    heap: BinaryHeap<Reverse<u64>>,
    /// The last merge of the last call: left, right and rank; what made the token when one symbol is left.
    pub(crate) last: (TokenId, TokenId, u32),
}

/// Merges `symbols` in place.
///
/// O(n²) for up to [`SCAN_MAX`] symbols, O(n log n) above; 24 bytes per symbol and 8 per heap entry.
pub(crate) fn merge(table: &MergeTable, symbols: &mut Vec<Symbol>, scratch: &mut MergeScratch) {
    let n = symbols.len();
    if n < 2 {
        return;
    }
    if n > SCAN_MAX || !table.is_packed() {
        return merge_by_heap(table, symbols, scratch);
    }
    let scan = &mut scratch.scan;
    for (id, symbol) in scan.ids.iter_mut().zip(symbols.iter()) {
        *id = symbol.id;
    }
    for (i, pair) in symbols.windows(2).enumerate() {
        scan.keys[i] = key(table.rank(pair[0].id, pair[1].id), i);
    }
    let mut left = scan.run(table, n, &mut scratch.last);
    // What is left starts where it started and ends where the next one starts, or at the end.
    let mut kept = 0;
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        let end = if left == 0 { n } else { left.trailing_zeros() as usize };
        symbols[kept] = Symbol { id: scan.ids[at], start: symbols[at].start, end: symbols[end - 1].end };
        kept += 1;
    }
    symbols.truncate(kept);
}

/// What two bytes merge to: a table of its own, since every pretoken starts with these lookups (256 KiB against the
/// megabytes of the whole table).
pub(crate) struct BytePairs {
    keys: Box<[i32]>,
    ids: [TokenId; 256],
    complete: bool,
}

impl BytePairs {
    /// The pairs of the symbols of bytes, [`NO_TOKEN`] for a byte without one; `None` where [`merge_bytes`] does not apply.
    /// O(merges).
    pub(crate) fn new(table: &MergeTable, merges: &[Merge], ids: &[TokenId; 256]) -> Option<Self> {
        if !table.is_packed() {
            return None;
        }
        let mut keys = vec![NO_KEY; 1 << 16].into_boxed_slice();
        let bytes: rustc_hash::FxHashMap<TokenId, usize> = ids.iter().copied().zip(0..).collect();
        for merge in merges {
            if let (Some(left), Some(right)) = (bytes.get(&merge.left), bytes.get(&merge.right)) {
                keys[left * 256 + right] = key(table.rank(merge.left, merge.right), 0);
            }
        }
        Some(Self { keys, ids: *ids, complete: !ids.contains(&NO_TOKEN) })
    }

    /// Whether every byte has a symbol.
    pub(crate) fn know(&self, piece: &[u8]) -> bool {
        self.complete || piece.iter().all(|&byte| self.ids[usize::from(byte)] != NO_TOKEN)
    }
}

/// [`merge`] for a pretoken of 1 to [`SCAN_MAX`] bytes that have a symbol each; appends the ids of what is left.
pub(crate) fn merge_bytes(
    table: &MergeTable,
    pairs: &BytePairs,
    piece: &[u8],
    scratch: &mut MergeScratch,
    out: &mut Vec<TokenId>,
) {
    let scan = &mut scratch.scan;
    for (id, &byte) in scan.ids.iter_mut().zip(piece) {
        *id = pairs.ids[usize::from(byte)];
    }
    for ((key, pair), at) in scan.keys.iter_mut().zip(piece.windows(2)).zip(0..) {
        *key = pairs.keys[usize::from(pair[0]) << 8 | usize::from(pair[1])] | at;
    }
    let mut left = scan.run(table, piece.len(), &mut scratch.last);
    while left != 0 {
        out.push(scan.ids[left.trailing_zeros() as usize]);
        left &= left - 1;
    }
}

/// [`merge`] for tokens without places, whose neighbours' ranks are known; appends the ids of what is left.
pub(crate) fn merge_ids(
    table: &MergeTable,
    (ids, ranks): (&[TokenId], &[u32]),
    (symbols, scratch): (&mut Vec<Symbol>, &mut MergeScratch),
    out: &mut Vec<TokenId>,
) {
    let n = ids.len();
    if n > SCAN_MAX || !table.is_packed() {
        symbols.clear();
        symbols.extend(ids.iter().map(|&id| Symbol { id, start: 0, end: 0 }));
        merge_by_heap(table, symbols, scratch);
        out.extend(symbols.iter().map(|symbol| symbol.id));
        return;
    }
    let scan = &mut scratch.scan;
    scan.ids[..n].copy_from_slice(ids);
    for ((i, slot), &rank) in scan.keys.iter_mut().enumerate().zip(ranks) {
        *slot = key(rank, i);
    }
    let mut left = scan.run(table, n, &mut scratch.last);
    while left != 0 {
        out.push(scan.ids[left.trailing_zeros() as usize]);
        left &= left - 1;
    }
}

/// A rank and a place in one number, so that the least one is the pair that goes first, found without a branch.
fn key(rank: u32, at: usize) -> i32 {
    if rank == NO_RANK { NO_KEY } else { ((rank << PLACE_BITS) | at as u32).cast_signed() }
}

const PLACE_BITS: u32 = SCAN_MAX.trailing_zeros();
/// Every key is less, and stays so with any place in its low bits.
const NO_KEY: i32 = i32::MAX - (SCAN_MAX as i32 - 1);
const _: () = assert!((MAX_PACKED_RANK as u64) << PLACE_BITS < NO_KEY as u64);

/// Keys that are compared at once.
const LANES: usize = 8;

/// The symbols of a short pretoken, in their first places throughout: what is merged away is left out by a bit.
struct Scan {
    ids: [TokenId; SCAN_MAX],
    /// Of the pair of each symbol with the next one.
    keys: [i32; SCAN_MAX],
}

impl Default for Scan {
    fn default() -> Self {
        Self { ids: [NO_TOKEN; SCAN_MAX], keys: [NO_KEY; SCAN_MAX] }
    }
}

impl Scan {
    /// Merges the first `n` ids, whose first `n - 1` keys are set; gives the places of those that are left.
    ///
    /// O(n) comparisons and two lookups for every merge.
    fn run(&mut self, table: &MergeTable, n: usize, last: &mut (TokenId, TokenId, u32)) -> u64 {
        let Self { ids, keys } = self;
        let lanes = n.next_multiple_of(LANES);
        keys[n - 1..lanes].fill(NO_KEY);
        let mut left = u64::MAX >> (SCAN_MAX - n);
        loop {
            let mut least = [NO_KEY; LANES];
            for group in keys[..lanes].as_chunks::<LANES>().0 {
                for (least, &key) in least.iter_mut().zip(group) {
                    *least = key.min(*least);
                }
            }
            let best = least.into_iter().fold(NO_KEY, i32::min);
            if best >= NO_KEY {
                return left;
            }
            let at = best as usize % SCAN_MAX;
            let rank = best.cast_unsigned() >> PLACE_BITS;
            let after = left & (u64::MAX << 1 << at);
            let gone = after.trailing_zeros() as usize % SCAN_MAX;
            *last = (ids[at], ids[gone], rank);
            ids[at] = table.product(ids[at], ids[gone], rank);
            left &= !(1 << gone);
            keys[gone] = NO_KEY;
            let behind = after & (after - 1);
            keys[at] = match behind {
                0 => NO_KEY,
                _ => key(table.rank(ids[at], ids[behind.trailing_zeros() as usize]), at),
            };
            let before = left & !(u64::MAX << at);
            if before != 0 {
                let front = 63 - before.leading_zeros() as usize;
                keys[front] = key(table.rank(ids[front], ids[at]), front);
            }
        }
    }
}

fn merge_by_heap(table: &MergeTable, symbols: &mut Vec<Symbol>, scratch: &mut MergeScratch) {
    let MergeScratch { ranks, previous, next, heap, last, .. } = scratch;
    let n = u32::try_from(symbols.len()).expect("a pretoken is under 4 GiB: checked by the encoder");
    ranks.clear();
    ranks.extend(symbols.windows(2).map(|pair| table.rank(pair[0].id, pair[1].id)));
    ranks.push(NO_RANK);
    previous.clear();
    previous.extend((0..n).map(|i| i.wrapping_sub(1)));
    next.clear();
    next.extend(1..n);
    next.push(NONE);
    let mut entries = std::mem::take(heap).into_vec();
    entries.clear();
    entries.extend(ranks.iter().zip(0..n).filter(|(rank, _)| **rank != NO_RANK).map(|(&rank, at)| entry(rank, at)));
    *heap = BinaryHeap::from(entries);
    while let Some(Reverse(key)) = heap.pop() {
        let at = (key & 0xFFFF_FFFF) as u32;
        let i = at as usize;
        // A stale entry: the pair at `at` has changed (or is gone, and then its rank is NO_RANK).
        if u64::from(ranks[i]) != key >> 32 {
            continue;
        }
        let right = next[i];
        let r = right as usize;
        *last = (symbols[i].id, symbols[r].id, ranks[i]);
        let product = table.product(symbols[i].id, symbols[r].id, ranks[i]);
        symbols[i] = Symbol { id: product, start: symbols[i].start, end: symbols[r].end };
        ranks[r] = NO_RANK;
        next[i] = next[r];
        // NONE marks the merged-away symbol for the sweep below.
        previous[r] = NONE;
        symbols[r].id = NO_TOKEN;
        if next[i] == NONE {
            ranks[i] = NO_RANK;
        } else {
            let following = next[i] as usize;
            previous[following] = at;
            ranks[i] = table.rank(symbols[i].id, symbols[following].id);
            if ranks[i] != NO_RANK {
                heap.push(entry(ranks[i], at));
            }
        }
        if previous[i] != NONE {
            let before = previous[i];
            let b = before as usize;
            ranks[b] = table.rank(symbols[b].id, symbols[i].id);
            if ranks[b] != NO_RANK {
                heap.push(entry(ranks[b], before));
            }
        }
    }
    symbols.retain(|symbol| symbol.id != NO_TOKEN);
}

fn entry(rank: u32, at: u32) -> Reverse<u64> {
    Reverse((u64::from(rank) << 32) | u64::from(at))
}
