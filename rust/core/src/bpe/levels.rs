//! Tokenizers whose late merges join words (SuperBPE and its kind), in two levels.
//!
//! BPE always carries out the merge of the lowest rank. Up to the first one of rank `t` or more it has therefore done
//! what BPE with the merges below `t` alone would have done; and from there on it goes on from that state. This holds for
//! every `t` and every table. Where `t` is the rank from which on words are joined, the first level keeps words apart, so
//! that they can be remembered ([`super::seams`]), and little is left for the second.
//!
//! # What the second level may join
//! Call the tokens after the first level *words*. A place between the words `a` and `b` is bridged only by a merge whose
//! left token ends with the word `a` and whose right one starts with `b`. The merges that can happen on the second level
//! are those of rank `t` or more, and such below `t` that have a part made by one of these (a table may have several ways
//! to one token). So all pairs `(a, b)` that can ever be bridged are known beforehand, and there are hardly more of them
//! than merges: text is cut at all other places, and what is left are runs of a few words, merged by rank.

use rustc_hash::FxHashMap;

use super::BpeScratch;
use super::cuts::Cuts;
use super::linear::Linear;
use super::merge::{self, BytePairs};
use super::seams::Level;
use super::symbols::Symbols;
use super::table::{MergeTable, NO_RANK};
use crate::formats::{Merge, Spellings};
use crate::ids::TokenId;

/// Words are joined from the first merge on of which, with those that follow it, so many ...
const JOINS: usize = 16;
/// ... among so many join words.
const AMONG: usize = 128;

/// At most one merge in so many on the first level joins words; else it would not keep them apart.
const EARLY: usize = 512;

/// With fewer merges below it there would be few whole words on the first level.
const FIRST_MIN: usize = 1024;

/// Most bytes of an initial symbol: it is a character or a byte.
const SYMBOL_MAX: usize = 4;

/// Pairs to one merge above which the second level would not be small.
const PAIRS_MAX: usize = 4;

/// The two levels of a table.
pub(super) struct Levels {
    /// The merges below `t`.
    table: MergeTable,
    cuts: Cuts,
    linear: Linear,
    byte_pairs: Option<BytePairs>,
    /// Merges that can happen on the second level.
    second: MergeTable,
    /// Pairs of words that may be bridged, with the rank of their own merge, or [`Levels::later`].
    pairs: MergeTable,
    /// Stands for no merge of the two words themselves: above all ranks.
    later: u32,
}

/// Where the second level begins: how many of `merges`, which come by rank, belong to the first. `None` where too few
/// join words, or where they do so from the start.
pub(super) fn first_level(merges: &[Merge], joins: impl Fn(&Merge) -> bool) -> Option<usize> {
    let joins: Vec<bool> = merges.iter().map(joins).collect();
    let mut found: usize = joins.iter().take(AMONG).map(|&join| usize::from(join)).sum();
    let mut at = 0;
    while !(joins.get(at).copied()? && found >= JOINS) {
        found -= usize::from(joins[at]);
        found += usize::from(joins.get(at + AMONG).copied().unwrap_or(false));
        at += 1;
    }
    // Equal ranks stay on one level.
    let rank = merges[at].rank;
    let at = merges.partition_point(|merge| merge.rank < rank);
    let early = joins[..at].iter().filter(|&&join| join).count();
    (at >= FIRST_MIN && early * EARLY < at).then_some(at)
}

/// Whether something other than white space comes before a space that starts the right token.
fn joins_words(left: &[u8], right: &[u8]) -> bool {
    let starts = right.first() == Some(&b' ') || right.starts_with("▁".as_bytes());
    starts && left.last().is_some_and(|byte| !byte.is_ascii_whitespace()) && !left.ends_with("▁".as_bytes())
}

/// The words that a token can begin or end with on the second level.
struct Edges(FxHashMap<TokenId, Vec<TokenId>>);

impl Edges {
    /// The words of a token, which is a word itself where the second level does not make it.
    fn get<'a>(&'a self, id: &'a TokenId) -> &'a [TokenId] {
        self.0.get(id).map_or(std::slice::from_ref(id), Vec::as_slice)
    }

    /// Gives a token all words of its part; how many were new.
    fn add(&mut self, id: TokenId, part: TokenId) -> usize {
        let words = self.get(&part).to_vec();
        let known = self.0.entry(id).or_default();
        let before = known.len();
        for word in words {
            if !known.contains(&word) {
                known.push(word);
            }
        }
        known.len() - before
    }
}

impl Levels {
    /// Builds the tables, where it is worth it: [`first_level`] names a place, and pairs of words are few.
    ///
    /// `merges` come by rank, each pair once, and `cuts` are theirs; `tokens` are the bytes that ids stand for in a
    /// pretoken. O(merges) for tables in which every token comes before what is made of it.
    pub(super) fn new(tokens: &Spellings, merges: &[Merge], symbols: &Symbols, cuts: &Cuts) -> Option<Self> {
        let bytes = by_id(tokens);
        let bytes = |id: TokenId| bytes.get(id as usize).copied().unwrap_or_default();
        let first = first_level(merges, |merge| joins_words(bytes(merge.left), bytes(merge.right)))?;
        Self::split(tokens, merges, first, symbols, cuts)
    }

    /// [`Levels::new`] with so many merges on the first level; those of one rank have to be on one level.
    pub(super) fn split(
        tokens: &Spellings,
        merges: &[Merge],
        first: usize,
        symbols: &Symbols,
        cuts: &Cuts,
    ) -> Option<Self> {
        let (first, second) = merges.split_at(first);
        let bytes = by_id(tokens);
        let bytes = |id: TokenId| bytes.get(id as usize).copied().unwrap_or_default();
        let later = merges.last()?.rank.checked_add(1)?;
        let second = can_happen(first, second);
        let (made_first, made_second) = (Made::by(first), Made::by(&second));
        let is_word = |bytes: &[u8], id| bytes.len() <= SYMBOL_MAX || made_first.has(id) || !made_second.has(id);
        let words: Vec<(&[u8], TokenId)> = tokens.iter().filter(|&(bytes, id)| is_word(bytes, id)).collect();
        let both = words.iter().map(|&(_, id)| id).filter(|&id| made_second.has(id));
        let all = MergeTable::new(&second);
        let pairs = MergeTable::new(&bridged((&second, &all), both, later)?);
        let second = all;
        if !second.is_packed() || !pairs.is_packed() {
            return None;
        }
        let table = MergeTable::new(first);
        let byte_pairs = symbols.byte_symbols().and_then(|ids| BytePairs::new(&table, first, ids));
        let linear = Linear::new(words.iter().copied(), &table).ok()?;
        Some(Self { cuts: cuts.of_merges(first, bytes)?, linear, byte_pairs, table, second, pairs, later })
    }

    /// The first level.
    pub(super) fn first<'e>(&'e self, symbols: &'e Symbols) -> Level<'e> {
        let Self { table, cuts, linear, byte_pairs, .. } = self;
        Level { table, symbols, cuts, linear, byte_pairs: byte_pairs.as_ref() }
    }

    /// Appends what the second level makes of words.
    ///
    /// O(words), with a run of n of them in O(n²), O(n log n) when long.
    pub(super) fn join(&self, words: &[TokenId], scratch: &mut BpeScratch, out: &mut Vec<TokenId>) {
        let BpeScratch { ranks, symbols, merge, .. } = scratch;
        let mut start = 0;
        for at in 1..=words.len() {
            let rank = if at < words.len() { self.pairs.rank(words[at - 1], words[at]) } else { NO_RANK };
            if rank != NO_RANK {
                ranks.push(rank);
                continue;
            }
            let run = &words[start..at];
            start = at;
            match ranks.as_slice() {
                [] => out.push(run[0]),
                &[rank] if rank == self.later => out.extend_from_slice(run),
                &[rank] => out.push(self.pairs.product(run[0], run[1], rank)),
                _ => {
                    ranks.iter_mut().filter(|rank| **rank == self.later).for_each(|rank| *rank = NO_RANK);
                    merge::merge_ids(&self.second, (run, ranks), (symbols, merge), out);
                }
            }
            ranks.clear();
        }
    }
}

/// The bytes of every token, by id; empty for an id that has none.
fn by_id(tokens: &Spellings) -> Vec<&[u8]> {
    let mut all = vec![[].as_slice(); tokens.ids.iter().max().map_or(0, |&id| id as usize + 1)];
    tokens.iter().for_each(|(bytes, id)| all[id as usize] = bytes);
    all
}

/// Which tokens some merges make, by id.
struct Made(Vec<bool>);

impl Made {
    fn by(merges: &[Merge]) -> Self {
        let mut this = Self(Vec::new());
        for merge in merges {
            this.add(merge.product);
        }
        this
    }

    fn has(&self, id: TokenId) -> bool {
        self.0.get(id as usize).is_some_and(|&made| made)
    }

    /// Whether it was new.
    fn add(&mut self, id: TokenId) -> bool {
        let at = id as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, false);
        }
        !std::mem::replace(&mut self.0[at], true)
    }
}

/// `second` and those of `first` that have a part made by a merge which can happen on the second level; by rank.
fn can_happen(first: &[Merge], second: &[Merge]) -> Vec<Merge> {
    let mut made = Made::by(second);
    let mut taken = vec![false; first.len()];
    let mut more = true;
    while more {
        more = false;
        for (merge, taken) in first.iter().zip(&mut taken) {
            if !*taken && (made.has(merge.left) || made.has(merge.right)) {
                *taken = true;
                more |= made.add(merge.product);
            }
        }
    }
    let some = first.iter().zip(taken).filter(|(_, taken)| *taken).map(|(merge, _)| *merge);
    some.chain(second.iter().copied()).collect()
}

/// All pairs of words between which a merge of `second` may happen, each as a merge of its own rank, or of rank `later`
/// where its words do not merge by themselves; `words` are those that `second` makes too. `None` when there are too many.
fn bridged(
    (second, table): (&[Merge], &MergeTable),
    words: impl Iterator<Item = TokenId>,
    later: u32,
) -> Option<Vec<Merge>> {
    let most = second.len().saturating_mul(PAIRS_MAX);
    let mut known: FxHashMap<TokenId, Vec<TokenId>> = second.iter().map(|merge| (merge.product, Vec::new())).collect();
    known.extend(words.map(|id| (id, vec![id])));
    let (mut firsts, mut lasts) = (Edges(known.clone()), Edges(known));
    let mut total = 0;
    loop {
        let mut new = 0;
        for merge in second {
            new += firsts.add(merge.product, merge.left) + lasts.add(merge.product, merge.right);
        }
        total += new;
        if new == 0 {
            break;
        }
        if total > 2 * most {
            return None;
        }
    }
    let mut pairs = Vec::new();
    for merge in second {
        for &left in lasts.get(&merge.left) {
            pairs.extend(firsts.get(&merge.right).iter().map(|&right| (left, right)));
        }
        if pairs.len() > 2 * most {
            return None;
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    let named = pairs.into_iter().map(|(left, right)| match table.rank(left, right) {
        NO_RANK => Merge { left, right, product: 0, rank: later },
        rank => Merge { left, right, product: table.product(left, right, rank), rank },
    });
    Some(named.collect())
}
