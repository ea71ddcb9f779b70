//! The logits of a stretch of places in blocks, for loops that work on whole registers.

use super::logits::Format;
use crate::TokenId;

/// Numbers that are treated alike and at once; a short interval is filled up to a multiple of it.
pub(super) const BLOCK: usize = 32;

pub(super) type Block = [f32; BLOCK];

/// Logits by place.
pub(super) trait Values: Copy {
    /// How they are kept, for [`Self::fetch`] to be a copy.
    type Raw: Copy;

    /// Nothing but minus infinity.
    fn none() -> [Self::Raw; BLOCK];

    /// Copies the logits of the places from `lo` on, below `hi` and at most [`BLOCK`] of them; then minus infinity.
    fn fetch(self, to: &mut [Self::Raw; BLOCK], lo: usize, hi: usize);

    /// What was copied, as numbers.
    fn numbers(raw: &[Self::Raw; BLOCK]) -> Block;
}

/// Logits by id, and the id by place.
pub(super) struct Rows<'a, F: Format> {
    pub(super) ids: &'a [TokenId],
    pub(super) rows: &'a [F::Raw],
}

impl<F: Format> Clone for Rows<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Format> Copy for Rows<'_, F> {}

impl<F: Format> Values for Rows<'_, F> {
    type Raw = F::Raw;

    #[inline(always)]
    fn none() -> [F::Raw; BLOCK] {
        [F::NEVER; BLOCK]
    }

    #[inline(always)]
    fn fetch(self, to: &mut [F::Raw; BLOCK], lo: usize, hi: usize) {
        // The ids of an index have rows, and there are as many logits as rows: checked in `root_sums`.
        if let Some(ids) = self.ids[lo..hi].first_chunk::<BLOCK>() {
            for (to, &id) in to.iter_mut().zip(ids) {
                *to = self.rows[id as usize];
            }
        } else {
            *to = Self::none();
            for (to, &id) in to.iter_mut().zip(&self.ids[lo..hi]) {
                *to = self.rows[id as usize];
            }
        }
    }

    #[inline(always)]
    fn numbers(raw: &[F::Raw; BLOCK]) -> Block {
        let mut block = [0.0; BLOCK];
        for (to, &raw) in block.iter_mut().zip(raw) {
            *to = F::to_f32(raw);
        }
        block
    }
}

/// Logits of the places from `from` on.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) from: usize,
    pub(super) values: &'a [f32],
}

impl Values for Held<'_> {
    type Raw = f32;

    #[inline(always)]
    fn none() -> Block {
        [f32::NEG_INFINITY; BLOCK]
    }

    #[inline(always)]
    fn fetch(self, to: &mut Block, lo: usize, hi: usize) {
        let values = lo.checked_sub(self.from).and_then(|from| self.values.get(from..)).unwrap_or_default();
        if let (Some(values), true) = (values.first_chunk(), hi - lo >= BLOCK) {
            *to = *values;
            return;
        }
        *to = Self::none();
        for (to, &value) in to.iter_mut().zip(values.iter().take(hi - lo)) {
            *to = value;
        }
    }

    #[inline(always)]
    fn numbers(raw: &Block) -> Block {
        *raw
    }
}

/// The logits of a stretch of places, block by block, each with its first place.
///
/// A block is copied while the one before is worked on. One that is gathered from all over the rows is written number by
/// number, and read in whole registers: a read right behind the writes waits until the last of them has left the core.
/// (Not a function of a closure, which cannot be made to have the instructions of its caller.)
pub(super) struct Blocks<V: Values> {
    values: V,
    at: usize,
    hi: usize,
    ring: [[V::Raw; BLOCK]; 2],
}

impl<V: Values> Blocks<V> {
    #[inline(always)]
    pub(super) fn new(values: V, (lo, hi): (usize, usize)) -> Self {
        let mut ring = [V::none(); 2];
        values.fetch(&mut ring[lo / BLOCK % 2], lo, hi);
        Self { values, at: lo, hi, ring }
    }
}

impl<V: Values> Iterator for Blocks<V> {
    type Item = (usize, Block);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, Block)> {
        let at = self.at;
        if at >= self.hi {
            return None;
        }
        self.at += BLOCK;
        if self.at < self.hi {
            self.values.fetch(&mut self.ring[self.at / BLOCK % 2], self.at, self.hi);
        }
        Some((at, V::numbers(&self.ring[at / BLOCK % 2])))
    }
}
