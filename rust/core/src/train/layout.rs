//! All words in one flat array of symbols, in which merging moves nothing.
//!
//! A token of `n` slots has its id in the first of them. When `n > 1`, the second and the last slot hold `n` with a tag,
//! and all slots between are tagged too: so the token to the right is found from the second slot, the token to the left
//! from its last one, and no slot inside a token looks like a token. Words end in a sentinel, and one stands in front.
//! That is 4 bytes a symbol where a linked list takes 12 (and 4 for the number of its word), and neighbours share a
//! cache line.

use crate::error::{Error, Result};
use crate::ids::TokenId;

/// Not the first slot of a token.
const TAG: u32 = 1 << 31;
/// Between words.
const END: u32 = u32::MAX;

/// Most slots: every occurrence that is ever listed has a 32-bit place, and there are at most three for each slot.
pub(super) const MAX_SLOTS: usize = (u32::MAX / 3) as usize;

/// A symbol and the number of its word: who reads one reads the other.
#[derive(Clone, Copy)]
struct Slot {
    token: u32,
    word: u32,
}

/// Words as symbols, each with the number of its count.
pub(super) struct Layout {
    slots: Vec<Slot>,
    counts: Vec<u64>,
    /// The sum of all pair counts so far.
    total: u64,
}

impl Layout {
    pub(super) fn new() -> Self {
        Self { slots: vec![Slot { token: END, word: 0 }], counts: Vec::new(), total: 0 }
    }

    pub(super) fn reserve(&mut self, words: usize, symbols: usize) {
        self.slots.reserve(words + symbols);
        self.counts.reserve(words);
    }

    /// Adds a word; one of fewer than two symbols holds no pair and is left out.
    ///
    /// # Errors
    /// `Value` when counts or places no longer fit.
    pub(super) fn push(&mut self, symbols: impl Iterator<Item = TokenId>, count: u64) -> Result<()> {
        let start = self.slots.len();
        let word = u32::try_from(self.counts.len()).expect("fewer words than slots");
        self.slots.extend(symbols.map(|token| Slot { token, word }));
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
        self.slots.push(Slot { token: END, word });
        self.counts.push(count);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn words(&self) -> usize {
        self.counts.len()
    }

    pub(super) fn shrink(&mut self) {
        self.slots.shrink_to_fit();
        self.counts.shrink_to_fit();
    }

    /// The token that starts at a place, if one does.
    #[inline]
    pub(super) fn token_at(&self, at: usize) -> Option<TokenId> {
        Some(self.slots[at].token).filter(|&slot| slot < TAG)
    }

    /// How many slots the token at `at` takes.
    #[inline]
    pub(super) fn length(&self, at: usize) -> usize {
        match self.slots[at + 1].token {
            END => 1,
            slot if slot >= TAG => (slot & !TAG) as usize,
            _ => 1,
        }
    }

    /// The token behind the one at `at` and its place; `None` at the end of the word.
    #[inline]
    pub(super) fn next(&self, at: usize) -> Option<(usize, TokenId)> {
        let place = at + self.length(at);
        let token = self.slots[place].token;
        (token != END).then_some((place, token))
    }

    /// The token before the one at `at` and its place; `None` at the start of the word.
    #[inline]
    pub(super) fn previous(&self, at: usize) -> Option<(usize, TokenId)> {
        let place = match self.slots[at - 1].token {
            END => return None,
            slot if slot >= TAG => at - (slot & !TAG) as usize,
            _ => at - 1,
        };
        Some((place, self.slots[place].token))
    }

    /// Makes one token of the one at `at` and its right neighbour at `right`.
    #[inline]
    pub(super) fn join(&mut self, at: usize, right: usize, token: TokenId) {
        let length = right - at + self.length(right);
        let mark = TAG | u32::try_from(length).expect("a word is shorter than all slots");
        self.slots[right].token = TAG;
        self.slots[at + 1].token = mark;
        self.slots[at + length - 1].token = mark;
        self.slots[at].token = token;
    }

    /// The count of the word that holds a place.
    #[inline]
    pub(super) fn count_at(&self, at: usize) -> i64 {
        let count = self.counts[self.slots[at].word as usize];
        i64::try_from(count).expect("the sum of all counts is within i64: checked in push")
    }

    /// The number of the word that holds a place.
    #[inline]
    pub(super) fn word_at(&self, at: usize) -> u32 {
        self.slots[at].word
    }

    /// The place of the first token of the word that holds the token at `at`.
    pub(super) fn word_start(&self, mut at: usize) -> usize {
        // From inside a token to any sentinel: slots before the word's first one belong to another word.
        while self.slots[at - 1].token != END {
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
        assert_eq!((layout.count_at(1), layout.count_at(9)), (3, 2));
        assert_eq!((layout.word_start(1), layout.word_start(10)), (1, 9));
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        let mut layout = Layout::new();
        layout.push([1, 2].into_iter(), u64::MAX / 2).expect("2^63 - 1 fits");
        let error = layout.push([1, 2].into_iter(), 1).expect_err("2^63 does not");
        assert!(error.to_string().contains("over 2^63"), "{error}");
    }
}
