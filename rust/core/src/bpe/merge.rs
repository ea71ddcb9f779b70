//! Merging initial symbols: a scan for short pretokens, a heap for long ones.
//!
//! Both follow the definition in [`super::reference`]: the lowest rank first, the leftmost among equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::symbols::Symbol;
use super::table::{MergeTable, NO_RANK};
use crate::formats::Merge;
use crate::ids::TokenId;

/// Longest pretoken, in symbols, that is merged by scanning: above it the heap wins (measured at 48 to 96).
pub(crate) const SCAN_MAX: usize = 64;

const NONE: u32 = u32::MAX;

/// Reusable buffers; nothing in them outlives a call.
#[derive(Default)]
pub(crate) struct MergeScratch {
    ranks: Vec<u32>,
    products: Vec<TokenId>,
    previous: Vec<u32>,
    next: Vec<u32>,
    heap: BinaryHeap<Reverse<u64>>,
    /// The last merge of the last call: left, right and rank; what made the token when one symbol is left.
    pub(crate) last: (TokenId, TokenId, u32),
}

/// Merges `symbols` in place.
///
/// O(n²) for up to [`SCAN_MAX`] symbols, O(n log n) above; 20 bytes per symbol and 8 per heap entry.
pub(crate) fn merge(table: &MergeTable, symbols: &mut Vec<Symbol>, scratch: &mut MergeScratch) {
    if symbols.len() < 2 {
        return;
    }
    scratch.ranks.clear();
    scratch.products.clear();
    for pair in symbols.windows(2) {
        let (rank, product) = table.get(pair[0].id, pair[1].id);
        scratch.ranks.push(rank);
        scratch.products.push(product);
    }
    merge_ranked(table, symbols, scratch);
}

/// What two bytes merge to: a table of its own, since every pretoken starts with these lookups (512 KiB against the
/// 8 MiB and more of the whole table).
pub(crate) struct BytePairs(Box<[(u32, TokenId)]>);

impl BytePairs {
    /// The pairs of the symbols of all 256 bytes. O(merges).
    pub(crate) fn new(table: &MergeTable, merges: &[Merge], ids: &[TokenId; 256]) -> Self {
        let mut pairs = vec![(NO_RANK, NONE); 1 << 16].into_boxed_slice();
        let bytes: rustc_hash::FxHashMap<TokenId, usize> = ids.iter().copied().zip(0..).collect();
        for merge in merges {
            if let (Some(left), Some(right)) = (bytes.get(&merge.left), bytes.get(&merge.right)) {
                pairs[left * 256 + right] = table.get(merge.left, merge.right);
            }
        }
        Self(pairs)
    }
}

/// [`merge`] for a pretoken of bytes whose `symbols` stand for one byte each.
pub(crate) fn merge_bytes(
    table: &MergeTable,
    pairs: &BytePairs,
    piece: &[u8],
    symbols: &mut Vec<Symbol>,
    scratch: &mut MergeScratch,
) {
    if symbols.len() < 2 {
        return;
    }
    scratch.ranks.clear();
    scratch.products.clear();
    for pair in piece.windows(2) {
        let (rank, product) = pairs.0[usize::from(pair[0]) * 256 + usize::from(pair[1])];
        scratch.ranks.push(rank);
        scratch.products.push(product);
    }
    merge_ranked(table, symbols, scratch);
}

fn merge_ranked(table: &MergeTable, symbols: &mut Vec<Symbol>, scratch: &mut MergeScratch) {
    scratch.ranks.push(NO_RANK);
    scratch.products.push(NONE);
    if symbols.len() <= SCAN_MAX {
        merge_by_scan(table, symbols, scratch)
    } else {
        merge_by_heap(table, symbols, scratch)
    }
}

fn merge_by_scan(table: &MergeTable, symbols: &mut Vec<Symbol>, scratch: &mut MergeScratch) {
    let MergeScratch { ranks, products, last, .. } = scratch;
    let mut n = symbols.len();
    loop {
        let mut best = NO_RANK;
        let mut at = 0;
        for (i, &rank) in ranks[..n].iter().enumerate() {
            if rank < best {
                best = rank;
                at = i;
            }
        }
        if best == NO_RANK {
            break;
        }
        *last = (symbols[at].id, symbols[at + 1].id, best);
        symbols[at] = Symbol { id: products[at], start: symbols[at].start, end: symbols[at + 1].end };
        symbols.copy_within(at + 2..n, at + 1);
        ranks.copy_within(at + 1..n, at);
        products.copy_within(at + 1..n, at);
        n -= 1;
        if at + 1 < n {
            (ranks[at], products[at]) = table.get(symbols[at].id, symbols[at + 1].id);
        } else {
            ranks[at] = NO_RANK;
        }
        if at > 0 {
            (ranks[at - 1], products[at - 1]) = table.get(symbols[at - 1].id, symbols[at].id);
        }
    }
    symbols.truncate(n);
}

fn merge_by_heap(table: &MergeTable, symbols: &mut Vec<Symbol>, scratch: &mut MergeScratch) {
    let MergeScratch { ranks, products, previous, next, heap, last } = scratch;
    let n = u32::try_from(symbols.len()).expect("a pretoken is under 4 GiB: checked by the encoder");
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
        symbols[i] = Symbol { id: products[i], start: symbols[i].start, end: symbols[r].end };
        ranks[r] = NO_RANK;
        next[i] = next[r];
        // NONE marks the merged-away symbol for the sweep below.
        previous[r] = NONE;
        symbols[r].id = crate::ids::NO_TOKEN;
        if next[i] == NONE {
            ranks[i] = NO_RANK;
        } else {
            let following = next[i] as usize;
            previous[following] = at;
            (ranks[i], products[i]) = table.get(symbols[i].id, symbols[following].id);
            if ranks[i] != NO_RANK {
                heap.push(entry(ranks[i], at));
            }
        }
        if previous[i] != NONE {
            let before = previous[i];
            let b = before as usize;
            (ranks[b], products[b]) = table.get(symbols[b].id, symbols[i].id);
            if ranks[b] != NO_RANK {
                heap.push(entry(ranks[b], before));
            }
        }
    }
    symbols.retain(|symbol| symbol.id != crate::ids::NO_TOKEN);
}

fn entry(rank: u32, at: u32) -> Reverse<u64> {
    Reverse((u64::from(rank) << 32) | u64::from(at))
}
