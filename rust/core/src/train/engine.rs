//! The state of a training: symbols, pair counts, lists of occurrences, and the queue of pairs.
//!
//! A merge visits the listed occurrences of its pair only. What it changes around them is summed up by neighbour in
//! arrays indexed by token, so the table of pairs, which misses the cache, is touched once for each distinct neighbour
//! and not once for each occurrence. Lists lie in one pool and are never freed: all of them together are at most three
//! places for every symbol. Work is O(symbols + replaced occurrences), plus the queue.
//!
//! # The queue is that of `tokenizers`
//! An entry is a pair, its count when it was put there, and the occurrences that one step made. It is brought up to
//! date only when it comes to the top. Where a token arises in two ways (`abc` from `ab c` and from `a bc`), a pair can
//! be made in several steps; then `tokenizers` keeps an entry for each, merges the words of one entry at a time, does
//! not take merged occurrences off the count, and writes the merge down again. All of this decides ids, so it is kept.

mod initial;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use hashbrown::HashMap;

use super::layout::{Layout, MAX_SLOTS};
use super::length::MaxLength;
use super::pairs::{PairCounts, key_of, pair_of};
use super::tokens::Tokens;
use crate::error::Result;
use crate::ids::TokenId;
use crate::pipeline::Cancel;

/// No group: the pair is too long to be counted.
const NONE: u32 = u32::MAX;

/// Places that are read ahead.
const BATCH: usize = 32;

/// Entries of a block of [`Engine::rare`]: a vector that doubles would hold three times its contents for a moment.
const BLOCK: usize = 1 << 15;

/// A pair in the queue: the most frequent comes first, of equals the smallest (left id, right id).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) count: i64,
    key: Reverse<u64>,
    start: u32,
    len: u32,
}

impl Entry {
    pub(super) fn key(&self) -> u64 {
        self.key.0
    }

    pub(super) fn pair(&self) -> (TokenId, TokenId) {
        pair_of(self.key.0)
    }
}

/// What a step did to the pairs of one token and the merged pair.
#[derive(Clone, Copy, Default)]
struct Neighbour {
    /// The step that these numbers belong to.
    step: u32,
    /// Its new pair in [`Step::groups`].
    group: u32,
    lost: i64,
}

/// A pair that a step made.
struct Group {
    key: u64,
    gained: i64,
    places: u32,
}

/// Sums and places of one step.
#[derive(Default)]
struct Step {
    number: u32,
    left: Vec<Neighbour>,
    right: Vec<Neighbour>,
    lefts: Vec<TokenId>,
    rights: Vec<TokenId>,
    groups: Vec<Group>,
    /// (group, place of the left token), in the order of the text.
    places: Vec<(u32, u32)>,
}

/// See the module.
pub(super) struct Engine {
    layout: Layout,
    pub(super) counts: PairCounts,
    /// Bytes of every token.
    lengths: Vec<u32>,
    max_length: MaxLength,
    /// The smallest count that merges.
    threshold: i64,
    heap: BinaryHeap<Entry>,
    /// Entries below the threshold, wanted only if all others are used up and their pair has become frequent since.
    rare: Vec<Vec<Entry>>,
    rare_opened: bool,
    /// All lists of places.
    pool: Vec<u32>,
    /// Pairs that more than one step made.
    again: BTreeSet<u64>,
    /// Every list of a pair, where merges are chosen elsewhere.
    index: Option<HashMap<u64, Vec<(u32, u32)>>>,
    /// Merges that are not learnt but carried out, by pair: (rank, product).
    inherited: HashMap<u64, (u32, TokenId)>,
    /// Occurrences of such pairs, the lowest rank first.
    due: BinaryHeap<Reverse<(u32, u32, Entry)>>,
    /// How many occurrences were replaced, weighted by the counts of their words.
    replaced: u64,
    step: Step,
}

impl Engine {
    /// Counts the pairs of the words.
    ///
    /// `indexed` keeps the lists of every pair, for [`Engine::merge_pair`]. A set `cancel` ends it early, with a state
    /// that is of no use.
    pub(super) fn new(
        layout: Layout,
        tokens: &Tokens,
        max_length: MaxLength,
        min_frequency: u64,
        inherited: HashMap<u64, (u32, TokenId)>,
        indexed: bool,
        cancel: &Cancel,
    ) -> Self {
        let lengths = tokens.iter().map(|token| u32::try_from(token.len()).unwrap_or(u32::MAX)).collect();
        let mut engine = Self {
            layout,
            counts: PairCounts::with_capacity(0),
            lengths,
            max_length,
            threshold: i64::try_from(min_frequency.max(1)).unwrap_or(i64::MAX),
            heap: BinaryHeap::new(),
            rare: Vec::new(),
            rare_opened: false,
            pool: Vec::new(),
            again: BTreeSet::new(),
            index: indexed.then(HashMap::new),
            inherited,
            due: BinaryHeap::new(),
            replaced: 0,
            step: Step::default(),
        };
        engine.layout.sort();
        engine.count(cancel);
        engine
    }

    #[inline]
    fn allows(&self, left: TokenId, right: TokenId) -> bool {
        self.max_length == MaxLength::None
            || self.max_length.allows(self.lengths[left as usize] as usize + self.lengths[right as usize] as usize)
            || self.inherited.contains_key(&key_of(left, right))
    }

    /// Puts an entry where it belongs.
    pub(super) fn enqueue(&mut self, entry: Entry) {
        if let Some(&(rank, _)) = self.inherited.get(&entry.key()) {
            self.due.push(Reverse((rank, entry.start, entry)));
            return;
        }
        if let Some(index) = &mut self.index {
            let lists = index.entry(entry.key()).or_default();
            if !lists.contains(&(entry.start, entry.len)) {
                lists.push((entry.start, entry.len));
            }
        }
        if entry.count >= self.threshold || self.rare_opened {
            self.heap.push(entry);
            return;
        }
        match self.rare.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(entry),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(entry);
                self.rare.push(block);
            }
        }
    }

    /// Takes the most frequent pair out of the queue; `None` when no pair is as frequent as the threshold.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        loop {
            let Some(entry) = self.heap.pop() else {
                if self.rare_opened {
                    return None;
                }
                self.rare_opened = true;
                self.heap.extend(std::mem::take(&mut self.rare).into_iter().flatten());
                continue;
            };
            let count = self.counts.get(entry.key());
            if entry.count != count {
                self.enqueue(Entry { count, ..entry });
            } else if count < self.threshold {
                return None;
            } else {
                return Some(entry);
            }
        }
    }

    /// Carries out inherited merges wherever their pairs have come up. A set `cancel` ends it early.
    pub(super) fn settle(&mut self, cancel: &Cancel) {
        while let Some(Reverse((_, _, entry))) = self.due.pop() {
            if cancel.is_cancelled() {
                return;
            }
            if let Some(&(_, product)) = self.inherited.get(&entry.key()) {
                self.merge(entry, product);
                self.counts.clear(entry.key());
            }
        }
    }

    /// By how many tokens the words have become shorter, weighted by their counts.
    pub(super) fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Makes room for the numbers of a token that was added.
    pub(super) fn grow(&mut self, tokens: &Tokens) {
        for id in self.lengths.len()..tokens.len() {
            let id = TokenId::try_from(id).expect("ids are below 2^31");
            self.lengths.push(u32::try_from(tokens.get(id).len()).unwrap_or(u32::MAX));
        }
    }

    /// Replaces the listed occurrences of an entry's pair by `product`; of a pair that several steps made, all that are
    /// in the same words.
    pub(super) fn merge(&mut self, entry: Entry, product: TokenId) {
        let (left, right) = entry.pair();
        let whole_words = self.again.contains(&entry.key());
        self.begin();
        self.visit(entry.start, entry.len, (left, right), product, whole_words);
        self.finish((left, right));
    }

    /// Replaces all occurrences of an entry's pair, those that other steps made, too; its count is 0 then.
    ///
    /// O(queue) for a pair that several steps made: only tokens that arise in two ways have such.
    pub(super) fn merge_every(&mut self, entry: Entry, product: TokenId) {
        let key = entry.key();
        if self.again.contains(&key) {
            let queued = self.heap.iter().chain(self.rare.iter().flatten()).filter(|other| other.key() == key);
            let lists = queued.chain([&entry]).map(|entry| entry.start as usize..(entry.start + entry.len) as usize);
            let mut places: Vec<u32> = lists.flat_map(|list| self.pool[list].iter().copied()).collect();
            places.sort_unstable(); // from the left; a place that is there twice is no pair the second time
            self.begin();
            let (left, right) = entry.pair();
            let mut run = 0;
            for at in places {
                let at = at as usize;
                if self.layout.token_at(at) == Some(left)
                    && let Some((place, token)) = self.layout.next(at)
                    && token == right
                {
                    let count = self.layout.count_at(at, &mut run);
                    self.join(at, place, product, count);
                }
            }
            self.finish((left, right));
        } else {
            self.merge(entry, product);
        }
        self.counts.clear(key);
    }

    /// Replaces all occurrences of a pair; its count is 0 then.
    pub(super) fn merge_pair(&mut self, pair: (TokenId, TokenId), product: TokenId) {
        let key = key_of(pair.0, pair.1);
        let lists = self.index.as_mut().and_then(|index| index.remove(&key)).unwrap_or_default();
        self.begin();
        for (start, len) in lists {
            self.visit(start, len, pair, product, true);
        }
        self.finish(pair);
        if self.counts.get(key) != 0 {
            self.counts.clear(key);
        }
    }

    fn begin(&mut self) {
        let step = &mut self.step;
        step.number += 1;
        step.left.resize(self.lengths.len(), Neighbour::default());
        step.right.resize(self.lengths.len(), Neighbour::default());
    }

    fn visit(&mut self, start: u32, len: u32, (left, right): (TokenId, TokenId), product: TokenId, whole_words: bool) {
        if whole_words {
            return self.visit_words(start, len, (left, right), product);
        }
        let end = (start + len) as usize;
        let mut at = start as usize;
        let mut run = 0;
        let mut found = [0; BATCH];
        while at < end {
            let batch = (end - at).min(BATCH);
            // Places are far apart: reading them one after the other, whatever stands there, has their cache misses
            // overlap, which the branches below would not.
            for (slot, &listed) in found.iter_mut().zip(&self.pool[at..at + batch]) {
                *slot = self.layout.slot(listed as usize);
            }
            for (number, &slot) in found[..batch].iter().enumerate() {
                let first = self.pool[at + number] as usize;
                // What was another token stays one, for no join makes `left`; what was `left` may be joined by now.
                if slot == left
                    && self.layout.token_at(first) == Some(left)
                    && let Some((second, token)) = self.layout.next(first)
                    && token == right
                {
                    let count = self.layout.count_at(first, &mut run);
                    self.join(first, second, product, count);
                }
            }
            at += batch;
        }
    }

    /// Replaces every occurrence of the pair in the words of the listed places.
    fn visit_words(&mut self, start: u32, len: u32, (left, right): (TokenId, TokenId), product: TokenId) {
        let (mut run, mut last_word) = (0, 0..0);
        for listed in start..start + len {
            let at = self.pool[listed as usize] as usize;
            if last_word.contains(&at) {
                continue;
            }
            let count = self.layout.count_at(at, &mut run);
            let mut at = self.layout.word_start(at);
            last_word = at..self.layout.word_end(at);
            while let Some((place, token)) = self.layout.next(at) {
                if token == right && self.layout.token_at(at) == Some(left) {
                    self.join(at, place, product, count);
                    match self.layout.next(at) {
                        Some((place, _)) => at = place,
                        None => break,
                    }
                } else {
                    at = place;
                }
            }
        }
    }

    /// Joins two tokens and notes what happens to the pairs on both sides.
    #[inline]
    fn join(&mut self, at: usize, right: usize, product: TokenId, count: i64) {
        self.replaced += count.unsigned_abs();
        if let Some((before, token)) = self.layout.previous(at) {
            self.lose(Side::Left, token, product, count);
            self.gain(Side::Left, token, product, count, before);
        }
        if let Some((_, token)) = self.layout.next(right) {
            self.lose(Side::Right, token, product, count);
            // (product, product) is one pair, whichever side found it.
            let side = if token == product { Side::Left } else { Side::Right };
            self.gain(side, token, product, count, at);
        }
        self.layout.join(at, right, product);
    }

    /// The numbers of a neighbour in this step.
    #[inline]
    fn neighbour(&mut self, side: Side, token: TokenId, product: TokenId) -> &mut Neighbour {
        let of = |step: &Step| match side {
            Side::Left => step.left[token as usize].step,
            Side::Right => step.right[token as usize].step,
        };
        if of(&self.step) != self.step.number {
            self.first_touch(side, token, product);
        }
        match side {
            Side::Left => &mut self.step.left[token as usize],
            Side::Right => &mut self.step.right[token as usize],
        }
    }

    fn first_touch(&mut self, side: Side, token: TokenId, product: TokenId) {
        let (first, second) = match side {
            Side::Left => (token, product),
            Side::Right => (product, token),
        };
        let mut group = NONE;
        if self.allows(first, second) {
            group = u32::try_from(self.step.groups.len()).expect("two for each token at most");
            self.step.groups.push(Group { key: key_of(first, second), gained: 0, places: 0 });
        }
        let fresh = Neighbour { step: self.step.number, group, lost: 0 };
        match side {
            Side::Left => {
                self.step.left[token as usize] = fresh;
                self.step.lefts.push(token);
            }
            Side::Right => {
                self.step.right[token as usize] = fresh;
                self.step.rights.push(token);
            }
        }
    }

    #[inline]
    fn lose(&mut self, side: Side, token: TokenId, product: TokenId, count: i64) {
        self.neighbour(side, token, product).lost += count;
    }

    #[inline]
    fn gain(&mut self, side: Side, token: TokenId, product: TokenId, count: i64, at: usize) {
        let group = self.neighbour(side, token, product).group;
        if group != NONE {
            let made = &mut self.step.groups[group as usize];
            made.gained += count;
            made.places += 1;
            self.step.places.push((group, place(at)));
        }
    }

    /// Brings the counts up to date and queues the pairs that the step made.
    fn finish(&mut self, (left, right): (TokenId, TokenId)) {
        let mut step = std::mem::take(&mut self.step);
        for group in &step.groups {
            if group.places > 0 {
                let (_, known) = self.counts.add(group.key, group.gained);
                if known {
                    self.again.insert(group.key);
                }
            }
        }
        for token in step.lefts.drain(..) {
            let lost = step.left[token as usize].lost;
            if lost > 0 && self.allows(token, left) {
                self.counts.add(key_of(token, left), -lost);
            }
        }
        for token in step.rights.drain(..) {
            let lost = step.right[token as usize].lost;
            if lost > 0 && self.allows(right, token) {
                self.counts.add(key_of(right, token), -lost);
            }
        }
        // Where each list begins; a pair that came and went within the step has none.
        let base = self.pool.len();
        let mut end = base;
        let mut starts: Vec<Option<usize>> = Vec::with_capacity(step.groups.len());
        for group in &mut step.groups {
            group.gained = self.counts.get(group.key); // its whole count from here on
            let kept = group.places > 0 && group.gained > 0;
            starts.push(kept.then_some(end));
            end += if kept { group.places as usize } else { 0 };
        }
        debug_assert!(end <= 3 * MAX_SLOTS, "two new places for each symbol that went");
        self.pool.resize(end, 0);
        for (group, at) in step.places.drain(..) {
            if let Some(next) = &mut starts[group as usize] {
                self.pool[*next] = at;
                *next += 1;
            }
        }
        for (group, end) in step.groups.drain(..).zip(starts) {
            if let Some(end) = end {
                let start = place(end - group.places as usize);
                self.enqueue(Entry { count: group.gained, key: Reverse(group.key), start, len: group.places });
            }
        }
        self.step = step;
    }
}

/// On which side of the merged pair.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// A place as it is listed.
#[inline]
fn place(at: usize) -> u32 {
    u32::try_from(at).expect("places and lists are below 2^32: Layout::push checks MAX_SLOTS")
}

/// The token of a merge: the one with these bytes, or a new one.
///
/// # Errors
/// `Value` when there would be too many tokens.
pub(super) fn product_of(tokens: &mut Tokens, bytes: &[u8]) -> Result<TokenId> {
    match tokens.id_of(bytes) {
        Some(id) => Ok(id),
        None => tokens.push(bytes),
    }
}
