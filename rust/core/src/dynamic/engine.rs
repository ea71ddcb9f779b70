//! Merging by pair counts that are kept up to date.
//!
//! Every place between two tokens belongs to the record of its pair. A replacement touches three places at most, so
//! counts are those of a recount at all times and a merge costs its occurrences. The next merge comes from a heap of
//! (count, first occurrence) in which a pair may stand too high but never too low: one that is found to stand too high
//! is put back where it belongs. O((n + r) log n) for n tokens and r replacements, beside the bytes of new tokens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::tokens::Tokens;
use super::{Base, Identity, Merge, Merged, Options, Stop, Transition};
use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::pipeline::Cancel;

/// No token begins here.
const NOWHERE: u32 = u32::MAX;

/// The place before the right neighbour may not be closed.
const CLOSED: u32 = u32::MAX;

/// Replacements between two looks at the caller's wish to stop: about a millisecond.
const LOOK_EVERY: u32 = 4096;

/// A pair that occurs or did.
struct Pair {
    left: TokenId,
    right: TokenId,
    /// Occurrences.
    count: u32,
    /// Its entry in the heap; 0 for none.
    queued: u64,
    /// Where its occurrences at the time of counting lie in [`Engine::counted`]; what was dropped is left out.
    counted: (u32, u32),
    /// The occurrences that came later. In both, some may be gone: those that [`Engine::pair`] denies.
    late: BinaryHeap<Reverse<u32>>,
}

/// Merges a batch.
///
/// Equals [`super::reference::merge`], for any input.
///
/// # Errors
/// `Value` for arrays that do not fit each other, an id that is none, `min_count` 0, a batch too large for 32-bit
/// positions and ids, and when `cancel` was set.
pub fn merge(
    base: &Base<'_>,
    then: Option<Transition<'_>>,
    identity: &Identity,
    options: &Options,
    cancel: &Cancel,
) -> Result<Merged> {
    base.check(then.as_ref())?;
    options.check()?;
    identity.check(base.ids)?;
    let places = base.places(then.as_ref(), identity);
    let mut engine = Engine::new(base, identity, options.max_bytes);
    let enough = options.enough(base.ids.len() as u64, places);
    let mut merges: Vec<Merge> = Vec::new();
    let mut then = then;
    let mut until_look = 0;
    engine.count();
    let stop = loop {
        if engine.tokens as u64 <= enough {
            break Stop::Target;
        }
        if merges.len() as u64 >= options.max_merges {
            break Stop::MaxMerges;
        }
        let is_due = |then: &mut Transition<'_>| merges.len() as u64 >= then.after;
        if let Some(now) = then.take_if(is_due) {
            engine.reopen(base.open(now.groups, identity));
        }
        if until_look == 0 {
            if cancel.is_cancelled() {
                return Err(Error::value("ids", "merging was cancelled", ""));
            }
            until_look = LOOK_EVERY;
        }
        let best = engine.best();
        let Some(best) = best.filter(|&best| engine.pairs[best as usize].count >= options.min_count) else {
            if let Some(now) = then.take() {
                engine.reopen(base.open(now.groups, identity));
                continue;
            }
            break if best.is_none() { Stop::Exhausted } else { Stop::MinCount };
        };
        let made = engine.replace(best)?;
        until_look = until_look.saturating_sub(made.replaced);
        merges.push(made);
    };
    Ok(engine.finish(base, merges, stop, places))
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a batch has fewer than 2^32 tokens: Base::check")
}

/// More occurrences first, then the earlier first one. Never 0 for a pair that occurs.
fn key(count: u32, first: u32) -> u64 {
    u64::from(count) << 32 | u64::from(u32::MAX - first)
}

struct Engine<'i> {
    known: Tokens<'i>,
    max_bytes: usize,
    /// How many tokens there are.
    tokens: usize,
    open: Vec<bool>,
    // A token is named after its first base token. For each base token:
    /// the token that begins there, `NOWHERE` inside one, or `NO_TOKEN` for one that no pair asks for;
    symbol: Vec<TokenId>,
    /// where the next token begins, if one begins here;
    next: Vec<u32>,
    /// where the token begins, if it ends here;
    start: Vec<u32>,
    /// the pair of the token that begins here and its right neighbour, or `CLOSED`.
    pair: Vec<u32>,
    pairs: Vec<Pair>,
    index: HashMap<(TokenId, TokenId), u32, FxBuildHasher>,
    /// Occurrences at the time of counting, pair by pair, each from the left.
    counted: Vec<u32>,
    heap: BinaryHeap<(u64, u32)>,
    /// Pairs that a merge added occurrences to, some of them more than once.
    grown: Vec<u32>,
    occurrences: Vec<u32>,
}

impl<'i> Engine<'i> {
    fn new(base: &Base<'_>, identity: &'i Identity, max_bytes: usize) -> Self {
        let n = base.ids.len();
        Self {
            known: Tokens::new(identity),
            max_bytes,
            tokens: n,
            open: base.open(base.groups, identity),
            symbol: base.ids.iter().map(|&id| identity.symbol(id)).collect(),
            next: (1..=index(n)).collect(),
            start: (0..index(n)).collect(),
            pair: vec![CLOSED; n],
            pairs: Vec::new(),
            index: HashMap::default(),
            counted: Vec::new(),
            heap: BinaryHeap::new(),
            grown: Vec::new(),
            occurrences: Vec::new(),
        }
    }

    /// Counts the pairs of all tokens under other groups.
    fn reopen(&mut self, open: Vec<bool>) {
        self.open = open;
        self.pair.fill(CLOSED);
        self.pairs.clear();
        self.index.clear();
        self.heap.clear();
        self.count();
    }

    /// The record of a pair; `None` when its token would be too long.
    fn record(&mut self, left: TokenId, right: TokenId) -> Option<u32> {
        let Self { known, max_bytes, pairs, index: known_pairs, .. } = self;
        let found = *known_pairs.entry((left, right)).or_insert_with(|| {
            if known.get(left).len() + known.get(right).len() > *max_bytes {
                return CLOSED;
            }
            let late = BinaryHeap::new();
            pairs.push(Pair { left, right, count: 0, queued: 0, counted: (0, 0), late });
            index(pairs.len() - 1)
        });
        (found != CLOSED).then_some(found)
    }

    fn count(&mut self) {
        let n = self.symbol.len();
        let mut at = 0;
        while at < n {
            let right = self.next[at] as usize;
            if self.open[right]
                && let Some(pair) = self.record(self.symbol[at], self.symbol[right])
            {
                self.pair[at] = pair;
                self.pairs[pair as usize].count += 1;
            }
            at = right;
        }
        // Their occurrences by pair: ranges from the counts, then one pass that fills them from the left.
        let mut total = 0;
        for pair in &mut self.pairs {
            pair.counted = (total, total);
            total += pair.count;
        }
        self.counted.clear();
        self.counted.resize(total as usize, 0);
        let mut at = 0;
        while at < n {
            if let Some(pair) = self.pairs.get_mut(self.pair[at] as usize) {
                self.counted[pair.counted.1 as usize] = index(at);
                pair.counted.1 += 1;
            }
            at = self.next[at] as usize;
        }
        let mut entries = Vec::with_capacity(self.pairs.len());
        for (number, pair) in self.pairs.iter_mut().enumerate() {
            pair.queued = key(pair.count, self.counted[pair.counted.0 as usize]);
            entries.push((pair.queued, index(number)));
        }
        self.heap = BinaryHeap::from(entries);
    }

    /// Where a pair stands: its key now, 0 when it does not occur. Drops the occurrences before the first one.
    fn standing(&mut self, number: u32) -> u64 {
        let pair = &mut self.pairs[number as usize];
        if pair.count == 0 {
            return 0;
        }
        let is_there = |at: u32| self.pair[at as usize] == number;
        while pair.counted.0 < pair.counted.1 && !is_there(self.counted[pair.counted.0 as usize]) {
            pair.counted.0 += 1;
        }
        while pair.late.peek().is_some_and(|&Reverse(at)| !is_there(at)) {
            pair.late.pop();
        }
        let counted = (pair.counted.0 < pair.counted.1).then(|| self.counted[pair.counted.0 as usize]);
        let late = pair.late.peek().map(|&Reverse(at)| at);
        let first = counted.into_iter().chain(late).min().expect("a pair with a count occurs somewhere");
        key(pair.count, first)
    }

    /// The pair to merge next. It stays the best until a merge.
    fn best(&mut self) -> Option<u32> {
        loop {
            let (queued, number) = self.heap.pop()?;
            if self.pairs[number as usize].queued != queued {
                continue; // it has another entry
            }
            let now = self.standing(number);
            self.pairs[number as usize].queued = now;
            if now == queued {
                return Some(number);
            }
            if now != 0 {
                self.heap.push((now, number));
            }
        }
    }

    /// Takes one occurrence from a place.
    fn close(&mut self, at: usize) {
        if let Some(pair) = self.pairs.get_mut(self.pair[at] as usize) {
            pair.count -= 1;
            self.pair[at] = CLOSED;
        }
    }

    /// Gives a place to the pair of the tokens at `left` and `right`.
    fn settle(&mut self, left: usize, right: usize) {
        if let Some(number) = self.record(self.symbol[left], self.symbol[right]) {
            let pair = &mut self.pairs[number as usize];
            pair.count += 1;
            pair.late.push(Reverse(index(left)));
            self.pair[left] = number;
            self.grown.push(number);
        }
    }

    /// Replaces the occurrences of a pair, from the left, one that overlaps a replaced one left out.
    fn replace(&mut self, number: u32) -> Result<Merge> {
        let pair = &mut self.pairs[number as usize];
        let (left, right, count) = (pair.left, pair.right, pair.count);
        let mut occurrences = std::mem::take(&mut self.occurrences);
        occurrences.clear();
        occurrences.extend_from_slice(&self.counted[pair.counted.0 as usize..pair.counted.1 as usize]);
        occurrences.extend(pair.late.drain().map(|Reverse(at)| at));
        pair.counted.0 = pair.counted.1;
        pair.queued = 0;
        occurrences.sort_unstable();
        let token = self.known.join(left, right)?;
        let mut replaced = 0;
        for &at in &occurrences {
            let at = at as usize;
            if self.pair[at] != number {
                continue; // long gone, or its first token was taken by the replacement before
            }
            let taken = self.next[at] as usize;
            let after = self.next[taken] as usize;
            self.close(at);
            self.close(taken);
            self.symbol[at] = token;
            self.symbol[taken] = NOWHERE;
            self.next[at] = index(after);
            self.start[after - 1] = index(at);
            if self.open[at] {
                let before = self.start[at - 1] as usize;
                self.close(before);
                self.settle(before, at);
            }
            if self.open[after] {
                self.settle(at, after);
            }
            replaced += 1;
        }
        self.tokens -= replaced as usize;
        self.occurrences = occurrences;
        let mut grown = std::mem::take(&mut self.grown);
        for number in grown.drain(..) {
            let now = self.standing(number);
            let pair = &mut self.pairs[number as usize];
            if now > pair.queued {
                pair.queued = now;
                self.heap.push((now, number));
            }
        }
        self.grown = grown;
        Ok(Merge { left, right, token, count, replaced })
    }

    fn finish(self, base: &Base<'_>, merges: Vec<Merge>, stop: Stop, open: u64) -> Merged {
        let position = |at: usize| i64::try_from(at).expect("a vector is shorter than 2^63");
        let mut ids = Vec::with_capacity(self.tokens);
        let mut starts = Vec::with_capacity(self.tokens + 1);
        let mut offsets = Vec::with_capacity(base.offsets.len());
        let mut at = 0;
        for &end in base.offsets {
            while position(at) < end {
                let next = self.next[at] as usize;
                // A token that stayed keeps its own id among those with the same bytes.
                ids.push(if next == at + 1 { base.ids[at] } else { self.symbol[at] });
                starts.push(position(at));
                at = next;
            }
            offsets.push(position(ids.len()));
        }
        starts.push(position(at));
        let Tokens { bytes, offsets: new_offsets, pieces, piece_offsets, .. } = self.known;
        Merged { ids, offsets, starts, new_bytes: bytes, new_offsets, pieces, piece_offsets, merges, stop, open }
    }
}
