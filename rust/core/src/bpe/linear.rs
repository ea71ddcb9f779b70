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
//! steps, each a walk of at most the longest token. (The idea of searching this way is that of rust-gems' `bpe`;
//! here the pair test is BPE itself on the two tokens, remembered, so it holds for every merge table, also for those
//! in which a token has several splits or a rank below that of its parts.)

use std::sync::atomic::{AtomicU8, Ordering};

use super::merge::{self, MergeScratch};
use super::symbols::{Symbol, Symbols};
use super::table::MergeTable;
use crate::bytetrie::ByteTrie;
use crate::error::Result;
use crate::ids::{NO_TOKEN, TokenId};

const UNKNOWN: u8 = 0;
const CANONICAL: u8 = 1;
const NOT_CANONICAL: u8 = 2;

/// Slots of the pair memory: 2^15 pairs, 256 KiB, direct-mapped, exact keys.
const MEMORY_BITS: u32 = 15;

/// The tables of the search.
pub(crate) struct Linear {
    trie: ByteTrie,
    /// Bytes of each token as they stand in a pretoken.
    bytes: Vec<u8>,
    ranges: Vec<(u32, u32)>,
    /// The longest token that is a proper prefix of this one.
    shorter: Vec<TokenId>,
    /// Whether BPE makes this token of its own bytes; found out when first asked.
    canonical: Vec<AtomicU8>,
}

/// Buffers of one thread.
#[derive(Default)]
pub(crate) struct LinearScratch {
    dead: Vec<u64>,
    symbols: Vec<Symbol>,
    pair: Vec<u8>,
    /// Key `left << 32 | right`, with its answer in `answers`.
    keys: Vec<u64>,
    answers: Vec<bool>,
}

impl Linear {
    /// Builds the tables from `(bytes, id)` of every token that merges can make or start from.
    pub(crate) fn new<'a>(tokens: impl Iterator<Item = (&'a [u8], TokenId)> + Clone) -> Result<Self> {
        let size = tokens.clone().map(|(_, id)| id as usize + 1).max().unwrap_or(0);
        let trie = ByteTrie::new(tokens.clone().filter(|(bytes, _)| !bytes.is_empty()))?;
        let to_u32 = |n: usize| u32::try_from(n).expect("token bytes stay under 4 GiB: Limits.file_bytes");
        let mut bytes = Vec::new();
        let mut ranges = vec![(0, 0); size];
        let mut shorter = vec![NO_TOKEN; size];
        for (token, id) in tokens {
            let start = to_u32(bytes.len());
            bytes.extend_from_slice(token);
            ranges[id as usize] = (start, to_u32(bytes.len()));
            if token.len() > 1
                && let Some((_, prefix)) = trie.longest_prefix(&token[..token.len() - 1])
            {
                shorter[id as usize] = prefix;
            }
        }
        let canonical = (0..size).map(|_| AtomicU8::new(UNKNOWN)).collect();
        Ok(Self { trie, bytes, ranges, shorter, canonical })
    }

    fn token(&self, id: TokenId) -> &[u8] {
        let (start, end) = self.ranges[id as usize];
        &self.bytes[start as usize..end as usize]
    }

    fn len(&self, id: TokenId) -> usize {
        let (start, end) = self.ranges[id as usize];
        (end - start) as usize
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
        if linear.keys.is_empty() {
            linear.keys = vec![u64::MAX; 1 << MEMORY_BITS];
            linear.answers = vec![false; 1 << MEMORY_BITS];
        }
        let mut at = 0;
        let mut candidate = self.longest(text, at);
        while at < text.len() {
            let last = (out.len() > before).then(|| out[out.len() - 1]);
            let chosen = self.choose(tables, (at, candidate, last), linear, merging);
            if chosen != NO_TOKEN {
                out.push(chosen);
                at += self.len(chosen);
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

    fn longest(&self, text: &[u8], at: usize) -> TokenId {
        self.trie.longest_prefix(&text[at..]).map_or(NO_TOKEN, |(_, id)| id)
    }

    /// The longest of `candidate` and its prefixes that may follow `last`.
    fn choose(
        &self,
        tables: (&MergeTable, &Symbols),
        (at, mut candidate, last): (usize, TokenId, Option<TokenId>),
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> TokenId {
        while candidate != NO_TOKEN {
            let end = at + self.len(candidate);
            let dead = linear.dead[end / 64] >> (end % 64) & 1 == 1;
            if !dead
                && self.is_canonical(tables, candidate, linear, merging)
                && last.is_none_or(|last| self.is_pair(tables, (last, candidate), linear, merging))
            {
                return candidate;
            }
            candidate = self.shorter[candidate as usize];
        }
        NO_TOKEN
    }

    fn is_canonical(
        &self,
        (table, symbols): (&MergeTable, &Symbols),
        id: TokenId,
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> bool {
        match self.canonical[id as usize].load(Ordering::Relaxed) {
            CANONICAL => return true,
            NOT_CANONICAL => return false,
            _ => {}
        }
        linear.symbols.clear();
        symbols.write(self.token(id), &mut linear.symbols);
        merge::merge(table, &mut linear.symbols, merging);
        let answer = linear.symbols.len() == 1 && linear.symbols[0].id == id;
        // Every thread finds the same answer, so the order of the writes does not matter.
        self.canonical[id as usize].store(if answer { CANONICAL } else { NOT_CANONICAL }, Ordering::Relaxed);
        answer
    }

    fn is_pair(
        &self,
        (table, symbols): (&MergeTable, &Symbols),
        (left, right): (TokenId, TokenId),
        linear: &mut LinearScratch,
        merging: &mut MergeScratch,
    ) -> bool {
        let key = (u64::from(left) << 32) | u64::from(right);
        let slot = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (key >> 7)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
            >> (64 - MEMORY_BITS);
        let slot = slot as usize;
        if linear.keys[slot] == key {
            return linear.answers[slot];
        }
        linear.pair.clear();
        linear.pair.extend_from_slice(self.token(left));
        linear.pair.extend_from_slice(self.token(right));
        linear.symbols.clear();
        symbols.write(&linear.pair, &mut linear.symbols);
        merge::merge(table, &mut linear.symbols, merging);
        let answer = matches!(linear.symbols.as_slice(), [a, b] if a.id == left && b.id == right);
        linear.keys[slot] = key;
        linear.answers[slot] = answer;
        answer
    }
}
