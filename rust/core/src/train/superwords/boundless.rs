//! Encoding with supermerges: merges that apply between pretokens only where each of them is one token.
//!
//! No `tokenizer.json` says this, since a supermerge must not touch a token that is a part of a pretoken. This is a
//! reference: it is made to be right and never quadratic, and serves to measure what such a tokenizer would give.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{ControlFlow, Range};

use hashbrown::HashMap;

use super::encode::Stage;
use super::runs::single;
use crate::error::{Error, Result};
use crate::formats::Normalizer;
use crate::ids::TokenId;
use crate::limits::Limits;
use crate::pipeline::{Cancel, PieceScratch};
use crate::train::cutter::{Cuts, Cutter, PieceSink};
use crate::train::pairs::key_of;
use crate::train::tokens::Tokens;

/// A BoundlessBPE tokenizer (arXiv:2504.00178).
pub struct BoundlessEncoder {
    cutter: Cutter,
    stage: Stage,
    /// Rank and product of each supermerge.
    supermerges: HashMap<u64, (u32, TokenId)>,
    /// Whether a pretoken that is this token may be in a run.
    joins: Vec<bool>,
}

impl BoundlessEncoder {
    /// `merges` stay within the pretokens of `cuts`, `supermerges` lead across them; both in the order of their ranks.
    ///
    /// # Errors
    /// `Value` for ids that are none; those of the encoder and of [`Cutter::new`].
    pub fn new(
        tokens: &Tokens,
        merges: &[(TokenId, TokenId, TokenId)],
        supermerges: &[(TokenId, TokenId, TokenId)],
        cuts: &Cuts,
        normalizer: Option<&Normalizer>,
    ) -> Result<Self> {
        for (rank, &(left, right, product)) in supermerges.iter().enumerate() {
            if let Some(id) = [left, right, product].into_iter().find(|&id| id as usize >= tokens.len()) {
                let field = format!("supermerges[{rank}]");
                return Err(Error::value(field, format!("there is no token {id}"), "give merges of the given tokens"));
            }
        }
        let cutter = Cutter::new(cuts, normalizer, &Limits::default())?;
        let stage = Stage::new(tokens, merges)?;
        let mut joins = vec![false; tokens.len()];
        let parts = || supermerges.iter().flat_map(|&(left, right, _)| [left, right]);
        let single = single(&stage, tokens, &mut stage.scratch());
        single.values().for_each(|&id| joins[id as usize] = true);
        let mut is_part = vec![false; tokens.len()];
        parts().for_each(|id| is_part[id as usize] = true);
        joins.iter_mut().zip(is_part).for_each(|(joins, is_part)| *joins &= is_part);
        let ranked = (0..).zip(supermerges).map(|(rank, &(l, r, product))| (key_of(l, r), (rank, product)));
        Ok(Self { cutter, stage, supermerges: ranked.collect(), joins })
    }

    /// Appends the ids of a text. O(n log n).
    ///
    /// # Errors
    /// Those of [`Cutter::cut`].
    pub fn encode(&self, text: &[u8], out: &mut Vec<TokenId>) -> Result<()> {
        let mut scratch = self.stage.scratch();
        self.encode_with(text, &mut scratch, out)
    }

    /// The ids of many texts end to end, and one offset more than there are texts. Empty when cancelled.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_batch(&self, texts: &[&[u8]], cancel: &Cancel) -> Result<(Vec<TokenId>, Vec<i64>)> {
        let mut scratch = self.stage.scratch();
        let (mut ids, mut offsets) = (Vec::new(), vec![0]);
        for text in texts {
            if cancel.is_cancelled() {
                return Ok((Vec::new(), vec![0]));
            }
            self.encode_with(text, &mut scratch, &mut ids)?;
            offsets.push(i64::try_from(ids.len()).expect("an allocation is below 2^63 bytes"));
        }
        Ok((ids, offsets))
    }

    fn encode_with(&self, text: &[u8], scratch: &mut PieceScratch, out: &mut Vec<TokenId>) -> Result<()> {
        let mut sink = Joined { encoder: self, scratch, run: Vec::new(), out };
        let _ = self.cutter.cut(text, 0..text.len(), &mut sink)?;
        sink.flush();
        Ok(())
    }

    /// Merges a run by rank, of equals from the left.
    fn merge(&self, run: &mut Vec<TokenId>) {
        const NONE: usize = usize::MAX;
        let mut next: Vec<usize> = (1..run.len()).chain([NONE]).collect();
        let mut previous: Vec<usize> = [NONE].into_iter().chain(0..run.len() - 1).collect();
        let mut gone = vec![false; run.len()];
        let mut queue = BinaryHeap::new();
        let look = |run: &[TokenId], queue: &mut BinaryHeap<_>, left: usize, right: usize| {
            if left != NONE && right != NONE {
                let pair = (run[left], run[right]);
                if let Some(&(rank, product)) = self.supermerges.get(&key_of(pair.0, pair.1)) {
                    queue.push(Reverse((rank, left, right, pair, product)));
                }
            }
        };
        (1..run.len()).for_each(|at| look(run, &mut queue, at - 1, at));
        while let Some(Reverse((_, left, right, pair, product))) = queue.pop() {
            if gone[left] || gone[right] || next[left] != right || (run[left], run[right]) != pair {
                continue;
            }
            run[left] = product;
            gone[right] = true;
            next[left] = next[right];
            if next[left] != NONE {
                previous[next[left]] = left;
            }
            look(run, &mut queue, previous[left], left);
            look(run, &mut queue, left, next[left]);
        }
        let mut gone = gone.iter();
        run.retain(|_| !gone.next().copied().unwrap_or(false));
    }
}

/// Gathers runs of pretokens that are one token.
struct Joined<'e> {
    encoder: &'e BoundlessEncoder,
    scratch: &'e mut PieceScratch,
    run: Vec<TokenId>,
    out: &'e mut Vec<TokenId>,
}

impl Joined<'_> {
    fn flush(&mut self) {
        if self.run.len() > 1 {
            self.encoder.merge(&mut self.run);
        }
        self.out.append(&mut self.run);
    }
}

impl PieceSink for Joined<'_> {
    fn piece(&mut self, text: &[u8], range: Range<usize>) -> ControlFlow<()> {
        let start = self.run.len();
        self.encoder.stage.encode(&text[range], self.scratch, &mut self.run);
        if let [id] = self.run[start..]
            && self.encoder.joins[id as usize]
        {
            return ControlFlow::Continue(());
        }
        let pretoken = self.run.split_off(start);
        self.flush();
        self.out.extend(pretoken);
        ControlFlow::Continue(())
    }
}
