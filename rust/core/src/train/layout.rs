//! All words in one flat array of symbols, in which merging moves nothing.
//!
//! A token of `n` slots has its id in the first of them. When `n > 1`, the second and the last slot hold `n` with a tag,
//! and all slots between are tagged too: so the token to the right is found from the second slot, the token to the left
//! from its last one, and no slot inside a token looks like a token. Words end in a sentinel, and one stands in front.
//! That is 4 bytes a symbol where a linked list takes 12, and neighbours share a cache line.
//!
//! Words lie in runs of one count, so a place's count is found by its run and no symbol carries the number of its word:
//! of text that hardly repeats, as of chunks cut at random, nearly all words are in one run.

use std::cmp::Reverse;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::ids::TokenId;

/// Not the first slot of a token.
const TAG: u32 = 1 << 31;
/// Between words.
const END: u32 = u32::MAX;

/// Most slots: every occurrence that is ever listed has a 32-bit place, and there are at most three for each slot.
pub(super) const MAX_SLOTS: usize = (u32::MAX / 3) as usize;

/// Words that lie side by side and occur equally often.
#[derive(Clone, Copy)]
struct Run {
    start: u32,
    count: i64,
}

/// Words as symbols, in runs of one count.
pub(super) struct Layout {
    slots: Vec<u32>,
    runs: Vec<Run>,
    words: usize,
    /// The sum of all pair counts so far.
    total: u64,
}

impl Layout {
    pub(super) fn new() -> Self {
        Self { slots: vec![END], runs: Vec::new(), words: 0, total: 0 }
    }

    pub(super) fn reserve(&mut self, words: usize, symbols: usize) {
        self.slots.reserve(words + symbols);
    }

    /// Adds a word; one of fewer than two symbols holds no pair and is left out.
    ///
    /// # Errors
    /// `Value` when counts or places no longer fit.
    pub(super) fn push(&mut self, symbols: impl Iterator<Item = TokenId>, count: u64) -> Result<()> {
        let start = self.slots.len();
        self.slots.extend(symbols);
        let length = self.slots.len() - start;
        if length < 2 || count == 0 {
            self.slots.truncate(start);
            return Ok(());
        }
        if self.slots.len() >= MAX_SLOTS {
            let found = format!("over {MAX_SLOTS} symbols in all distinct pretokens");
            return Err(Error::value("counts", found, "leave out rare pretokens, or use a pattern that cuts more"));
        }
        let pairs = count.checked_mul(length as u64 - 1);
        let total = pairs.and_then(|pairs| self.total.checked_add(pairs));
        let Some(total) = total.filter(|&total| i64::try_from(total).is_ok()) else {
            let found = "the counts of all pairs add up to over 2^63";
            return Err(Error::value("counts", found, "divide the counts by a common factor"));
        };
        self.total = total;
        self.slots.push(END);
        self.words += 1;
        let count = i64::try_from(count).expect("the sum of all counts is within i64: checked above");
        if self.runs.last().is_none_or(|run| run.count != count) {
            let start = u32::try_from(start).expect("places are below MAX_SLOTS: checked above");
            self.runs.push(Run { start, count });
        }
        Ok(())
    }

    /// Brings words of equal counts together, the most frequent first, and gives back what memory is not needed.
    ///
    /// The order of words decides nothing that is learnt: merges within one know nothing of the others.
    pub(super) fn sort(&mut self) {
        if !self.runs.is_sorted_by(|a, b| a.count > b.count) {
            let mut order: Vec<(Run, Range<usize>)> = self.runs().map(|(at, range)| (self.runs[at], range)).collect();
            order.sort_by_key(|(run, _)| Reverse(run.count)); // stable
            let mut slots = Vec::with_capacity(self.slots.len());
            slots.push(END);
            let mut runs: Vec<Run> = Vec::new();
            for (run, range) in order {
                if runs.last().is_none_or(|last| last.count != run.count) {
                    let start = u32::try_from(slots.len()).expect("as many slots as before");
                    runs.push(Run { start, count: run.count });
                }
                slots.extend_from_slice(&self.slots[range]);
            }
            (self.slots, self.runs) = (slots, runs);
        }
        self.slots.shrink_to_fit();
        self.runs.shrink_to_fit();
    }

    /// The number of every run and its places, sentinels included.
    fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let ends = self.runs.iter().skip(1).map(|run| run.start as usize).chain([self.slots.len()]);
        self.runs.iter().zip(ends).enumerate().map(|(at, (run, end))| (at, run.start as usize..end))
    }

    /// Every count and the places of the words that have it, from the left.
    pub(super) fn counts(&self) -> Vec<(i64, Range<usize>)> {
        self.runs().map(|(at, range)| (self.runs[at].count, range)).collect()
    }

    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// What stands at a place, whatever it is.
    #[inline]
    pub(super) fn slot(&self, at: usize) -> u32 {
        self.slots[at]
    }

    /// The token that starts at a place, if one does.
    #[inline]
    pub(super) fn token_at(&self, at: usize) -> Option<TokenId> {
        Some(self.slots[at]).filter(|&slot| slot < TAG)
    }

    /// How many slots the token at `at` takes.
    #[inline]
    pub(super) fn length(&self, at: usize) -> usize {
        match self.slots[at + 1] {
            END => 1,
            slot if slot >= TAG => (slot & !TAG) as usize,
            _ => 1,
        }
    }

    /// The token behind the one at `at` and its place; `None` at the end of the word.
    #[inline]
    pub(super) fn next(&self, at: usize) -> Option<(usize, TokenId)> {
        let place = at + self.length(at);
        let token = self.slots[place];
        (token != END).then_some((place, token))
    }

    /// The token before the one at `at` and its place; `None` at the start of the word.
    #[inline]
    pub(super) fn previous(&self, at: usize) -> Option<(usize, TokenId)> {
        let place = match self.slots[at - 1] {
            END => return None,
            slot if slot >= TAG => at - (slot & !TAG) as usize,
            _ => at - 1,
        };
        Some((place, self.slots[place]))
    }

    /// Makes one token of the one at `at` and its right neighbour at `right`.
    #[inline]
    pub(super) fn join(&mut self, at: usize, right: usize, token: TokenId) {
        let length = right - at + self.length(right);
        let mark = TAG | u32::try_from(length).expect("a word is shorter than all slots");
        self.slots[right] = TAG;
        self.slots[at + 1] = mark;
        self.slots[at + length - 1] = mark;
        self.slots[at] = token;
    }

    /// The count of the word that holds a place; `run` is where the last one was found, or 0.
    ///
    /// O(log counts), O(1) within one run.
    #[inline]
    pub(super) fn count_at(&self, at: usize, run: &mut usize) -> i64 {
        let starts_by = |run: &Run| run.start as usize <= at;
        if !starts_by(&self.runs[*run]) || self.runs.get(*run + 1).is_some_and(starts_by) {
            *run = self.runs.partition_point(starts_by) - 1; // places are behind the first sentinel
        }
        self.runs[*run].count
    }

    /// The place behind the word that holds the token at `at`: that of its sentinel.
    pub(super) fn word_end(&self, mut at: usize) -> usize {
        while let Some((place, _)) = self.next(at) {
            at = place;
        }
        at + self.length(at)
    }

    /// The place of the first token of the word that holds the token at `at`.
    pub(super) fn word_start(&self, mut at: usize) -> usize {
        // From inside a token to any sentinel: slots before the word's first one belong to another word.
        while self.slots[at - 1] != END {
            at -= 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(layout: &Layout, start: usize) -> Vec<TokenId> {
        let mut out = vec![layout.token_at(start).expect("a token")];
        let mut at = start;
        while let Some((place, token)) = layout.next(at) {
            assert_eq!(layout.previous(place).map(|(place, _)| place), Some(at));
            out.push(token);
            at = place;
        }
        out
    }

    #[test]
    fn joining_keeps_both_directions_right() {
        let mut layout = Layout::new();
        layout.push([1, 2, 3, 4, 5, 6, 7].into_iter(), 3).expect("small");
        layout.push([8].into_iter(), 9).expect("small");
        layout.push([8, 9].into_iter(), 2).expect("small");
        assert_eq!(layout.words(), 2);
        assert_eq!(layout.previous(1), None);
        layout.join(2, 3, 23);
        assert_eq!(tokens(&layout, 1), [1, 23, 4, 5, 6, 7]);
        layout.join(5, 6, 56);
        layout.join(4, 5, 456);
        assert_eq!(tokens(&layout, 1), [1, 23, 456, 7]);
        layout.join(2, 4, 23456);
        assert_eq!(tokens(&layout, 1), [1, 23456, 7]);
        layout.join(2, 7, 9);
        layout.join(1, 2, 10);
        assert_eq!(tokens(&layout, 1), [10]);
        assert!((2..8).all(|inside| layout.token_at(inside).is_none()));
        assert_eq!(tokens(&layout, 9), [8, 9]);
        assert_eq!((layout.count_at(1, &mut 0), layout.count_at(9, &mut 0)), (3, 2));
        assert_eq!((layout.word_start(1), layout.word_start(10)), (1, 9));
        assert_eq!((layout.word_end(1), layout.word_end(9), layout.word_end(10)), (8, 11, 11));
    }

    #[test]
    fn sorting_brings_equal_counts_together_and_keeps_every_word() {
        let mut layout = Layout::new();
        for (words, count) in [([1, 2], 1), ([3, 4], 7), ([5, 6], 7), ([7, 8], 1), ([9, 1], 2)] {
            layout.push(words.into_iter(), count).expect("small");
        }
        layout.sort();
        let counts = layout.counts();
        assert_eq!(counts, [(7, 1..7), (2, 7..10), (1, 10..16)]);
        let words: Vec<_> = [1, 4, 7, 10, 13].iter().map(|&at| tokens(&layout, at)).collect();
        assert_eq!(words, [[3, 4], [5, 6], [9, 1], [1, 2], [7, 8]]);
        for hint in 0..3 {
            for (count, range) in &counts {
                assert!(range.clone().all(|at| layout.count_at(at, &mut { hint }) == *count));
            }
        }
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        let mut layout = Layout::new();
        layout.push([1, 2].into_iter(), u64::MAX / 2).expect("2^63 - 1 fits");
        let error = layout.push([1, 2].into_iter(), 1).expect_err("2^63 does not");
        assert!(error.to_string().contains("over 2^63"), "{error}");
    }
}
