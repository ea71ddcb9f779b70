//! Which token may follow which: the canonical sequences of BPE, pair by pair, for a whole vocabulary at once.
//!
//! By the facts that carry [`super::linear`] a sequence of tokens is canonical exactly when each of its tokens is, and
//! each pair of neighbours. [`BpeEngine::is_pair`] answers for one pair; [`BpeEngine::bridged`] marks all tokens
//! that may *not* follow a given one, at the cost of a few ranges of bits.
//!
//! # The list
//! Let `x` run over the right edge of the left token: the token itself, its right part, the right part of that... `x`
//! touches the edge from its own birth (the rank of its merge) until it is taken up by its parent. Likewise `y` runs over
//! the left edge of the right token `r`. The pair is bridged when some `x` and `y` touch the edge together, and merge with
//! a rank below the ends of both ([`super::linear`]'s pair test). So for each `x`, and each `y` that it merges with at a
//! rank `k`, the bridged tokens are `y` itself and all tokens that have `y` on their left edge and took it up late enough.
//! Tokens form a forest by "is the left part of"; visited children by rank, the tokens that took `y` up at a rank of at
//! least some bound are one interval of the visit.

use std::collections::HashSet;

use super::BpeEngine;
use super::linear::{BASE, Linear, LinearScratch};
use super::merge::MergeScratch;
use crate::ids::TokenId;

/// The pair test of a whole vocabulary.
pub struct Adjacent {
    linear: Linear,
    /// Canonical tokens, in the order of the visit; then where each token stands there (`u32::MAX`: nowhere).
    visit: Vec<TokenId>,
    place: Vec<u32>,
    /// By place: one behind the last token of its tree.
    tree_end: Vec<u32>,
    /// Children of each token (those whose left part it is) by rank: `(rank, place of the child)`.
    children: Lists,
    /// By left token: `(rank, right token)` of each of its merges, by rank.
    partners: Lists,
    /// Canonical tokens to which the interval rule does not apply: their ranks do not rise.
    irregular: Vec<TokenId>,
    ids: usize,
}

/// Many lists of pairs in one.
#[derive(Default)]
struct Lists {
    starts: Vec<u32>,
    items: Vec<(u32, u32)>,
}

impl Lists {
    fn new(size: usize, mut items: Vec<(TokenId, u32, u32)>) -> Self {
        items.sort_unstable();
        let mut starts = vec![0_u32; size + 1];
        for &(key, _, _) in &items {
            starts[key as usize + 1] += 1;
        }
        for at in 0..size {
            starts[at + 1] += starts[at];
        }
        Self { starts, items: items.into_iter().map(|(_, a, b)| (a, b)).collect() }
    }

    fn get(&self, key: TokenId) -> &[(u32, u32)] {
        &self.items[self.starts[key as usize] as usize..self.starts[key as usize + 1] as usize]
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub struct AdjacentScratch {
    linear: LinearScratch,
    merging: MergeScratch,
    bits: Vec<u64>,
}

impl BpeEngine {
    /// The pair test of this vocabulary, for texts all of whose characters have symbols or byte tokens; `None` where a
    /// token's symbols depend on what is around it (affixes, undone tokens). Judges every token: about a microsecond
    /// each.
    pub fn adjacent(&self) -> Option<Adjacent> {
        self.cuts.as_ref()?;
        let linear = self.build_linear()?;
        let size = linear.ids();
        let (mut scratch, mut merging) = (LinearScratch::default(), MergeScratch::default());
        let tables = (&self.table, &self.symbols);
        let known: HashSet<TokenId> = self.tokens.iter().map(|(_, id)| id).collect();
        let mut canonical = vec![false; size];
        let mut irregular = Vec::new();
        for id in (0..to_u32(size)).filter(|id| known.contains(id) && linear.len(*id) > 0) {
            if linear.is_canonical(tables, id, &mut scratch, &mut merging) {
                canonical[id as usize] = true;
                if !linear.rises(id) {
                    irregular.push(id);
                }
            }
        }
        let rises = |id: TokenId| canonical[id as usize] && linear.rises(id);
        let mut roots = Vec::new();
        let mut children = Vec::new();
        for id in (0..to_u32(size)).filter(|&id| canonical[id as usize]) {
            match linear.rank(id) {
                rank if rank > BASE && rises(id) => {
                    children.push((linear.left_part(id), u32::try_from(rank).expect("a rank is 32 bits wide"), id));
                }
                _ => roots.push(id),
            }
        }
        let by_child = Lists::new(size, children);
        let (visit, place, tree_end) = visit(size, &roots, &by_child);
        let children = Lists {
            starts: by_child.starts,
            items: by_child.items.into_iter().map(|(rank, id)| (rank, place[id as usize])).collect(),
        };
        let pairs = self.table.pairs().into_iter().filter(|&(left, right, _)| {
            let in_range = |id: TokenId| (id as usize) < size && canonical[id as usize];
            in_range(left) && in_range(right)
        });
        let partners = Lists::new(size, pairs.map(|(left, right, rank)| (left, rank, right)).collect());
        Some(Adjacent { linear, visit, place, tree_end, children, partners, irregular, ids: size })
    }

    /// Whether two neighbouring tokens, each canonical, are what BPE makes of their bytes.
    pub fn is_pair(&self, adjacent: &Adjacent, left: TokenId, right: TokenId, scratch: &mut AdjacentScratch) -> bool {
        scratch.linear.prepare();
        adjacent.linear.are_pair((&self.table, &self.symbols), (left, right), &mut scratch.linear, &mut scratch.merging)
    }

    /// The tokens that may not follow `left`: bit `i` stands for `adjacent.canonical()[i]`.
    ///
    /// O(tokens / 64 + merges of the left token's right edge), for tables whose ranks rise, as trained ones do.
    pub fn bridged<'s>(&self, adjacent: &Adjacent, left: TokenId, scratch: &'s mut AdjacentScratch) -> &'s [u64] {
        let mut bits = std::mem::take(&mut scratch.bits);
        bits.clear();
        bits.resize(adjacent.visit.len().div_ceil(64), 0);
        let regular = adjacent.linear.rises(left);
        let judged = if regular { &adjacent.irregular } else { &adjacent.visit };
        for &right in judged {
            if !self.is_pair(adjacent, left, right, scratch) {
                set_range(&mut bits, adjacent.place[right as usize], adjacent.place[right as usize] + 1);
            }
        }
        if regular {
            adjacent.bridged_regular(left, &mut bits);
        }
        scratch.bits = bits;
        &scratch.bits
    }
}

impl Adjacent {
    /// One more than the largest id.
    pub fn ids(&self) -> usize {
        self.ids
    }

    /// The tokens that BPE makes of their own bytes, each once.
    pub fn canonical(&self) -> &[TokenId] {
        &self.visit
    }

    /// Whether BPE makes the token of its own bytes.
    pub fn is_canonical(&self, id: TokenId) -> bool {
        self.place.get(id as usize).is_some_and(|&place| place != u32::MAX)
    }

    /// Trees of tokens overlap, one being part of another: in the order of the visit they are ranges of bits.
    fn bridged_regular(&self, left: TokenId, bits: &mut [u64]) {
        let (mut x, mut x_until) = (left, i64::MAX);
        loop {
            let x_birth = self.linear.rank(x);
            for &(rank, y) in self.partners.get(x) {
                let k = i64::from(rank);
                if k >= x_until {
                    break; // partners come by rank
                }
                // Both have to be there together; of equal ranks the right side's merge is the later one.
                if !self.linear.rises(y) || self.linear.rank(y) >= x_until {
                    continue;
                }
                let at = self.place[y as usize];
                set_range(bits, at, at + 1);
                let bound = u32::try_from(k.max(x_birth)).expect("k is a rank");
                let late = self.children.get(y);
                let first = late.partition_point(|&(rank, _)| rank < bound);
                if let Some(&(_, start)) = late.get(first) {
                    set_range(bits, start, self.tree_end[at as usize]);
                }
            }
            if x_birth == BASE {
                return;
            }
            (x, x_until) = (self.linear.right_part(x), x_birth);
        }
    }
}

/// The order of a visit that goes into the children of a token by rank: the tokens, their places, the ends of the trees.
fn visit(size: usize, roots: &[TokenId], children: &Lists) -> (Vec<TokenId>, Vec<u32>, Vec<u32>) {
    let mut order = Vec::new();
    let mut place = vec![u32::MAX; size];
    let mut tree_end = Vec::new();
    // (token, how many of its children are done)
    let mut stack: Vec<(TokenId, usize)> = Vec::new();
    for &root in roots {
        stack.push((root, 0));
        place[root as usize] = to_u32(order.len());
        order.push(root);
        tree_end.push(0);
        while let Some((token, done)) = stack.last_mut() {
            let at = place[*token as usize] as usize;
            match children.get(*token).get(*done) {
                Some(&(_, child)) => {
                    *done += 1;
                    place[child as usize] = to_u32(order.len());
                    order.push(child);
                    tree_end.push(0);
                    stack.push((child, 0));
                }
                None => {
                    tree_end[at] = to_u32(order.len());
                    stack.pop();
                }
            }
        }
    }
    (order, place, tree_end)
}

/// Sets the bits `from..to`.
fn set_range(bits: &mut [u64], from: u32, to: u32) {
    if from >= to {
        return;
    }
    let (first, last) = ((from / 64) as usize, ((to - 1) / 64) as usize);
    let low = u64::MAX << (from % 64);
    let high = u64::MAX >> (63 - (to - 1) % 64);
    if first == last {
        bits[first] |= low & high;
    } else {
        bits[first] |= low;
        bits[first + 1..last].fill(u64::MAX);
        bits[last] |= high;
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("ids are 32 bits wide")
}
