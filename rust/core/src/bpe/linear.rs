//! BPE on pretokens of any length, without a heap: longest match, checked pair by pair.
//!
//! Call a sequence of tokens canonical when it is what BPE makes of its bytes. Three facts carry the engine:
//!
//! 1. A sequence is canonical if and only if every token is canonical by itself and every two neighbours are canonical
//!    as a pair. For merges inside two neighbouring tokens happen in the order of (rank, place) whatever lies around
//!    them, as long as nothing merges across their outer edges; so whether their common edge is bridged is decided by
//!    the two alone.
//! 2. A prefix of a canonical sequence, cut at a token's end, is canonical.
//! 3. A text has one canonical sequence. So a place in the text is the end of at most one canonical sequence, and a
//!    place from which the search had to turn back never needs another visit.
//!
//! Hence a depth-first search that takes the longest token first and remembers dead places in one bit each makes O(n)
//! steps, each a walk of at most the longest token. (The idea of searching this way is that of rust-gems' `bpe`.)
//!
//! The pair test runs back in time along the two tokens' edges ([`Linear::is_bridged_before`]): at every moment one symbol of
//! the left token and one of the right touch their common edge, and a merge of the two must not have come first. It
//! needs the ranks to rise along both edges, as in every trained table; where they do not, BPE is run on the two
//! tokens instead, so the engine holds for every merge table, also for those in which a token has several splits or a
//! rank below that of its parts. Answers are remembered ([`super::fits`]).

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::fits::{ANOTHER, Fits, NOTHING_FITS};
use super::merge::{self, MergeScratch};
use super::symbols::{Symbol, Symbols};
use super::table::{MergeTable, NO_RANK};
use crate::bytetrie::ByteTrie;
use crate::error::Result;
use crate::ids::{NO_TOKEN, TokenId};

/// Nobody has asked yet.
const UNKNOWN: u8 = 0;
/// BPE makes the token of its own bytes, and ranks rise from its parts to itself, all the way down.
const RISING: u8 = 1;
/// BPE makes the token of its own bytes.
const CANONICAL: u8 = 2;
/// It does not.
const NOT_CANONICAL: u8 = 3;

/// The rank of a symbol that no merge made: before all ranks.
pub(super) const BASE: i64 = -1;

/// The tables of the search.
pub(crate) struct Linear {
    trie: ByteTrie,
    /// Bytes of each token as they stand in a pretoken.
    bytes: Vec<u8>,
    ranges: Vec<(u32, u32)>,
    /// The longest token that is a proper prefix of this one, and its length.
    shorter: Vec<Candidate>,
    nodes: Vec<Node>,
}

/// A token that the text goes on with, and how many bytes it has: looked up together.
#[derive(Clone, Copy)]
struct Candidate {
    id: TokenId,
    len: u32,
}

const NO_CANDIDATE: Candidate = Candidate { id: NO_TOKEN, len: 0 };

/// What is known of a token; side by side and within a cache line, since the pair test goes from token to token at
/// random.
#[repr(align(32))]
struct Node {
    /// `left << 32 | right` of the merge that makes a canonical token, or, until it is judged, of the only one that can;
    /// `u64::MAX` for an initial symbol, and for a token of several merges or none until it is judged.
    parts: AtomicU64,
    /// [`bit_of`] every token that this one merges with, on its right and on its left.
    rights: u64,
    lefts: u64,
    /// The rank of that merge.
    rank: AtomicU32,
    state: AtomicU8,
}

/// One bit of 64: of two tokens mostly one merges with so few others that the pair needs no look into the table of
/// merges.
fn bit_of(id: TokenId) -> u64 {
    1 << (id.wrapping_mul(0x9E37_79B1) >> 26)
}

/// Buffers of one thread.
#[derive(Default)]
pub(crate) struct LinearScratch {
    dead: Vec<u64>,
    symbols: Vec<Symbol>,
    pair: Vec<u8>,
    todo: Vec<TokenId>,
    fits: Fits,
}

impl LinearScratch {
    /// Makes room to remember, once.
    pub(super) fn prepare(&mut self) {
        self.fits.prepare();
    }
}

impl Linear {
    /// Builds the tables from `(bytes, id)` of every token that merges can make or start from.
    pub(crate) fn new<'a>(
        tokens: impl Iterator<Item = (&'a [u8], TokenId)> + Clone,
        table: &MergeTable,
    ) -> Result<Self> {
        let size = tokens.clone().map(|(_, id)| id as usize + 1).max().unwrap_or(0);
        let trie = ByteTrie::new(tokens.clone().filter(|(bytes, _)| !bytes.is_empty()))?;
        let to_u32 = |n: usize| u32::try_from(n).expect("token bytes stay under 4 GiB: Limits.file_bytes");
        let mut bytes = Vec::new();
        let mut ranges = vec![(0, 0); size];
        let mut shorter = vec![NO_CANDIDATE; size];
        for (token, id) in tokens {
            let start = to_u32(bytes.len());
            bytes.extend_from_slice(token);
            ranges[id as usize] = (start, to_u32(bytes.len()));
            if token.len() > 1
                && let Some((len, prefix)) = trie.longest_prefix(&token[..token.len() - 1])
            {
                shorter[id as usize] = Candidate { id: prefix, len: to_u32(len) };
            }
        }
        let mut nodes: Vec<Node> = (0..size)
            .map(|_| Node {
                parts: AtomicU64::new(u64::MAX),
                rights: 0,
                lefts: 0,
                rank: AtomicU32::new(0),
                state: AtomicU8::new(UNKNOWN),
            })
            .collect();
        let mut several = vec![false; size];
        for (left, right, rank) in table.pairs() {
            let product = table.product(left, right, rank) as usize;
            if product < size && rank != NO_RANK {
                let node = &mut nodes[product];
                several[product] |= *node.parts.get_mut() != u64::MAX;
                *node.parts.get_mut() = if several[product] { u64::MAX } else { parts_of(left, right) };
                *node.rank.get_mut() = rank;
            }
            if let Some(node) = nodes.get_mut(left as usize) {
                node.rights |= bit_of(right);
            }
            if let Some(node) = nodes.get_mut(right as usize) {
                node.lefts |= bit_of(left);
            }
        }
        Ok(Self { trie, bytes, ranges, shorter, nodes })
    }

    /// The bytes of a token as they stand in a pretoken; empty for an id that has none.
    pub(super) fn token(&self, id: TokenId) -> &[u8] {
        let (start, end) = self.ranges[id as usize];
        &self.bytes[start as usize..end as usize]
    }

    /// One more than the largest id.
    pub(super) fn ids(&self) -> usize {
        self.ranges.len()
    }

    /// How many bytes that are; 0 for an id that has none.
    #[inline]
    pub(super) fn len(&self, id: TokenId) -> usize {
        self.ranges.get(id as usize).map_or(0, |&(start, end)| (end - start) as usize)
    }

    /// Appends the canonical sequence of `text`; gives `false`, with `out` as it was, when there is none made of these
    /// tokens (some character has no symbol).
    pub(crate) fn encode(
        &self,
        tables: (&MergeTable, &Symbols),
        text: &[u8],
        scratch: (&mut LinearScratch, &mut MergeScratch),
        out: &mut Vec<TokenId>,
    ) -> bool {
        let (linear, merging) = scratch;
        let before = out.len();
        linear.dead.clear();
        linear.dead.resize(text.len() / 64 + 1, 0);
        linear.prepare();
        let mut at = 0;
        let mut candidate = self.longest(text, at);
        while at < text.len() {
            let last = (out.len() > before).then(|| out[out.len() - 1]);
            let chosen = self.choose(tables, (at, candidate, last), linear, merging);
            if chosen.id != NO_TOKEN {
                out.push(chosen.id);
                at += chosen.len as usize;
                candidate = self.longest(text, at);
                continue;
            }
            let Some(last) = last else {
                return false;
            };
            linear.dead[at / 64] |= 1 << (at % 64);
            out.pop();
            at -= self.len(last);
            candidate = self.shorter[last as usize];
        }
        true
    }

    #[inline]
    fn longest(&self, text: &[u8], at: usize) -> Candidate {
        let to_candidate =
            |(len, id)| Candidate { id, len: u32::try_from(len).expect("token bytes stay under 4 GiB: see new") };
        self.trie.longest_prefix(&text[at..]).map_or(NO_CANDIDATE, to_candidate)
    }

    /// The longest of `candidate` and its prefixes that may follow `last` and ends where nobody turned back.
    fn choose(
        &self,
        tables: (&MergeTable, &Symbols),
        (at, mut candidate, last): (usize, Candidate, Option<TokenId>),
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> Candidate {
        while candidate.id != NO_TOKEN {
            candidate = match last {
                Some(last) => self.fit(tables, (last, candidate), linear, merging),
                None if self.is_canonical(tables, candidate.id, linear, merging) => candidate,
                None => {
                    candidate = self.shorter[candidate.id as usize];
                    continue;
                }
            };
            if candidate.id == NO_TOKEN {
                break;
            }
            let end = at + candidate.len as usize;
            if linear.dead[end / 64] >> (end % 64) & 1 == 0 {
                return candidate;
            }
            candidate = self.shorter[candidate.id as usize];
        }
        NO_CANDIDATE
    }

    /// The longest of `candidate` and its prefixes that may follow `last`, a canonical token.
    #[inline]
    fn fit(
        &self,
        tables: (&MergeTable, &Symbols),
        (last, candidate): (TokenId, Candidate),
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> Candidate {
        match linear.fits.recall(last, candidate.id) {
            (Some(0), _) => candidate,
            (Some(NOTHING_FITS), _) => NO_CANDIDATE,
            (Some(steps), _) if steps != ANOTHER => {
                (0..steps).fold(candidate, |candidate, _| self.shorter[candidate.id as usize])
            }
            (_, slot) => self.find_fit(tables, (last, candidate, slot), linear, merging),
        }
    }

    /// The same by looking for it.
    fn find_fit(
        &self,
        tables: (&MergeTable, &Symbols),
        (last, candidate, slot): (TokenId, Candidate, usize),
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> Candidate {
        let (mut fit, mut steps) = (candidate, 0);
        while fit.id != NO_TOKEN
            && !(self.is_canonical(tables, fit.id, linear, merging)
                && self.judge_pair(tables, (last, fit.id), linear, merging))
        {
            fit = self.shorter[fit.id as usize];
            steps += 1;
        }
        let answer = if fit.id == NO_TOKEN { NOTHING_FITS } else { steps.min(ANOTHER) };
        linear.fits.remember(slot, (last, candidate.id), answer);
        fit
    }

    pub(super) fn is_canonical(
        &self,
        tables: (&MergeTable, &Symbols),
        id: TokenId,
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> bool {
        match self.nodes[id as usize].state.load(Ordering::Acquire) {
            UNKNOWN => self.judge(tables, id, linear, merging) != NOT_CANONICAL,
            state => state != NOT_CANONICAL,
        }
    }

    /// Finds out what a token is, its parts first. Every thread finds the same, so writes may cross.
    fn judge(
        &self,
        (table, symbols): (&MergeTable, &Symbols),
        id: TokenId,
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> u8 {
        linear.todo.clear();
        linear.todo.push(id);
        while let Some(&token) = linear.todo.last() {
            let at = token as usize;
            if self.nodes[at].state.load(Ordering::Acquire) != UNKNOWN {
                linear.todo.pop();
                continue;
            }
            linear.symbols.clear();
            symbols.write(self.token(token), &mut linear.symbols);
            let is_symbol = linear.symbols.len() == 1;
            if !is_symbol && let Some(state) = self.judge_by_parts(table, token, linear) {
                if state != UNKNOWN {
                    self.nodes[at].state.store(state, Ordering::Release);
                }
                continue;
            }
            merge::merge(table, &mut linear.symbols, merging);
            if !matches!(linear.symbols.as_slice(), [one] if one.id == token) {
                self.nodes[at].state.store(NOT_CANONICAL, Ordering::Release);
                continue;
            }
            if is_symbol {
                self.nodes[at].parts.store(u64::MAX, Ordering::Release);
                self.nodes[at].state.store(RISING, Ordering::Release);
                continue;
            }
            let (left, right, rank) = merging.last;
            let (l, r) = (left as usize, right as usize);
            if l >= self.nodes.len() || r >= self.nodes.len() {
                self.nodes[at].state.store(CANONICAL, Ordering::Release);
                continue;
            }
            let (state_l, state_r) =
                (self.nodes[l].state.load(Ordering::Acquire), self.nodes[r].state.load(Ordering::Acquire));
            if state_l == UNKNOWN || state_r == UNKNOWN {
                linear.todo.extend([left, right]); // parts are shorter, so this ends
                continue;
            }
            self.nodes[at].parts.store(parts_of(left, right), Ordering::Release);
            self.nodes[at].rank.store(rank, Ordering::Release);
            let rises = state_l == RISING
                && state_r == RISING
                && self.rank(left) < i64::from(rank)
                && self.rank(right) < i64::from(rank);
            self.nodes[at].state.store(if rises { RISING } else { CANONICAL }, Ordering::Release);
        }
        self.nodes[id as usize].state.load(Ordering::Acquire)
    }

    /// The state of a token that one pair alone makes, without merging: BPE ends with that pair exactly when it makes
    /// each part of its own bytes and nothing bridges their edge before. [`UNKNOWN`] when the parts have to be judged
    /// first, and are on the list now; `None` where this does not tell.
    fn judge_by_parts(&self, table: &MergeTable, token: TokenId, linear: &mut LinearScratch) -> Option<u8> {
        let node = &self.nodes[token as usize];
        let parts = node.parts.load(Ordering::Acquire);
        let (left, right) = (self.left_part(token), self.right_part(token));
        let (l, r) = (self.nodes.get(left as usize)?, self.nodes.get(right as usize)?);
        if parts == u64::MAX || self.len(left) == 0 || self.len(right) == 0 {
            return None;
        }
        match (l.state.load(Ordering::Acquire), r.state.load(Ordering::Acquire)) {
            (NOT_CANONICAL, _) | (_, NOT_CANONICAL) => Some(NOT_CANONICAL),
            (UNKNOWN, _) | (_, UNKNOWN) => {
                linear.todo.extend([left, right]); // parts are shorter, so this ends
                Some(UNKNOWN)
            }
            (RISING, RISING) => {
                let rank = i64::from(node.rank.load(Ordering::Acquire));
                Some(match self.is_bridged_before(table, left, right) {
                    true => NOT_CANONICAL,
                    false if self.rank(left) < rank && self.rank(right) < rank => RISING,
                    false => CANONICAL,
                })
            }
            _ => None,
        }
    }

    /// Whether a token is known to be canonical and its ranks to rise all the way up from its symbols.
    pub(super) fn rises(&self, id: TokenId) -> bool {
        self.nodes[id as usize].state.load(Ordering::Acquire) == RISING
    }

    /// The rank of the merge that makes a token; [`BASE`] for an initial symbol.
    pub(super) fn rank(&self, id: TokenId) -> i64 {
        match self.nodes[id as usize].parts.load(Ordering::Acquire) {
            u64::MAX => BASE,
            _ => i64::from(self.nodes[id as usize].rank.load(Ordering::Acquire)),
        }
    }

    pub(super) fn left_part(&self, id: TokenId) -> TokenId {
        (self.nodes[id as usize].parts.load(Ordering::Acquire) >> 32) as TokenId
    }

    pub(super) fn right_part(&self, id: TokenId) -> TokenId {
        (self.nodes[id as usize].parts.load(Ordering::Acquire) & 0xFFFF_FFFF) as TokenId
    }

    /// The rank of the merge of two tokens, [`NO_RANK`] where there is none.
    #[inline]
    fn rank_of(&self, table: &MergeTable, x: TokenId, y: TokenId) -> u32 {
        let merges = self.nodes[x as usize].rights & bit_of(y) != 0 && self.nodes[y as usize].lefts & bit_of(x) != 0;
        if merges { table.rank(x, y) } else { NO_RANK }
    }

    /// Whether BPE merges across the edge between two tokens of rising ranks.
    fn is_bridged(&self, table: &MergeTable, left: TokenId, right: TokenId) -> bool {
        self.rank_of(table, left, right) != NO_RANK || self.is_bridged_before(table, left, right)
    }

    /// Whether BPE merges across the edge between two tokens of rising ranks before it has made both.
    ///
    /// Merges happen in the order of (rank, place). `x` and `y` touch the edge together from the later of their own
    /// merges until the earlier of the merges that take them up. In that time their own merge, of rank `rank`, comes
    /// first if `rank` is below that of the merge that takes up `x`, whose place is further left, and not above that of
    /// the merge that takes up `y`, whose place is further right. Going back, the merge undone last is the earliest so
    /// far, of equal ranks the left one, so the other need not be asked.
    fn is_bridged_before(&self, table: &MergeTable, left: TokenId, right: TokenId) -> bool {
        let (mut x, mut y) = (left, right);
        loop {
            let (x_rank, y_rank) = (self.rank(x), self.rank(y));
            if x_rank == BASE && y_rank == BASE {
                return false;
            }
            // Back to before the later of the two; of equal ranks the right one was later.
            let bridged = if x_rank > y_rank {
                x = self.right_part(x);
                i64::from(self.rank_of(table, x, y)) < x_rank
            } else {
                y = self.left_part(y);
                i64::from(self.rank_of(table, x, y)) <= y_rank
            };
            if bridged {
                return true;
            }
        }
    }

    /// Whether two tokens are canonical by themselves and as a pair.
    #[inline]
    pub(super) fn are_pair(
        &self,
        tables: (&MergeTable, &Symbols),
        (left, right): (TokenId, TokenId),
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> bool {
        match linear.fits.recall(left, right) {
            (Some(answer), _) => answer == 0, // asked for a canonical left token only
            (None, slot) => {
                self.is_canonical(tables, left, linear, merging) && {
                    let answer = self.is_canonical(tables, right, linear, merging)
                        && self.judge_pair(tables, (left, right), linear, merging);
                    linear.fits.remember(slot, (left, right), if answer { 0 } else { ANOTHER });
                    answer
                }
            }
        }
    }

    /// Whether two canonical tokens are canonical as a pair, without the memory.
    fn judge_pair(
        &self,
        (table, symbols): (&MergeTable, &Symbols),
        (left, right): (TokenId, TokenId),
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> bool {
        if self.rises(left) && self.rises(right) {
            return !self.is_bridged(table, left, right);
        }
        linear.pair.clear();
        linear.pair.extend_from_slice(self.token(left));
        linear.pair.extend_from_slice(self.token(right));
        linear.symbols.clear();
        symbols.write(&linear.pair, &mut linear.symbols);
        merge::merge(table, &mut linear.symbols, merging);
        matches!(linear.symbols.as_slice(), [a, b] if a.id == left && b.id == right)
    }
}

/// Two tokens as the parts of a third.
fn parts_of(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}
