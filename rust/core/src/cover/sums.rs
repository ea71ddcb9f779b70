//! One look at the logits of a context: what the law makes of them.

use std::sync::Arc;

use super::log_add;
use super::model::{CoverModel, Law};
use super::node::{Node, Seen};
use crate::error::Result;
use crate::ids::TokenId;
use crate::index::{Bits, Interval, Logits, gather, root_sums, slice_sums};

/// Above this share of the whole, what takes no part is not subtracted but left out of a second sum.
const SUBTRACT_BELOW: f64 = 0.5;

/// What a look finds.
pub(super) struct Look {
    pub(super) seen: Seen,
    pub(super) mask: Option<Arc<Bits>>,
    /// Log mass per first byte, in logits: take `seen.norm` off.
    pub(super) bytes: Box<[f64; 256]>,
}

/// Logits of some places, in sorted order.
#[derive(Clone)]
pub(super) struct Slice {
    pub(super) held: Interval,
    pub(super) values: Arc<[f32]>,
}

impl Slice {
    pub(super) fn new(model: &CoverModel, logits: Logits<'_>, held: Interval) -> Self {
        Self { held, values: gather(&model.index, logits, held).into() }
    }

    pub(super) fn logit(&self, place: u32) -> f64 {
        f64::from(self.values[(place - self.held.lo) as usize])
    }

    /// Adds the log mass per next byte of the tokens of `at` that are longer than `depth`; returns that of them all.
    pub(super) fn sums(
        &self,
        model: &CoverModel,
        (at, depth): (Interval, u32),
        mask: Option<&Bits>,
        out: &mut [f64; 256],
    ) -> f64 {
        slice_sums(&model.index, self.held, &self.values, at, depth, mask, out)
    }
}

pub(super) fn log_sum(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::NEG_INFINITY, log_add)
}

/// Log masses that the laws are made of.
pub(super) struct Masses {
    /// Of all that takes part.
    pub(super) base: f64,
    /// Of the tokens that may follow.
    pub(super) allowed: f64,
    pub(super) ends: f64,
    pub(super) drops: f64,
}

impl CoverModel {
    /// Looks at the logits of a context. O(rows).
    pub(super) fn look(&self, node: &Arc<Node>, logits: Logits<'_>) -> Result<Look> {
        let mask = self.mask(node);
        let groups: [&[TokenId]; 4] = [&self.ends, &self.drops, &self.latents, &self.forbidden];
        let counted: Vec<TokenId> = groups.iter().flat_map(|ids| ids.iter().copied()).collect();
        let sums = root_sums(&self.index, logits, mask.as_deref(), &counted)?;
        let mut rest = sums.counted.as_slice();
        let [ends, drops, latents, forbidden] = groups.map(|ids| {
            let (head, tail) = rest.split_at(ids.len());
            rest = tail;
            log_sum(head.iter().copied())
        });
        let share = (forbidden - sums.log_all).exp();
        let base = if self.law == Law::Local {
            f64::NEG_INFINITY // not asked for
        } else if share < SUBTRACT_BELOW {
            sums.log_all + (-share).ln_1p()
        } else {
            let all = root_sums(&self.index, logits, None, &[])?;
            log_sum([all.log_allowed, ends, drops, latents])
        };
        let seen = self.seen(node, &Masses { base, allowed: sums.log_allowed, ends, drops });
        Ok(Look { seen, mask, bytes: sums.bytes })
    }

    /// What the law makes of the masses.
    pub(super) fn seen(&self, node: &Arc<Node>, masses: &Masses) -> Seen {
        let end = if self.ends(node) { masses.ends } else { f64::NEG_INFINITY };
        let norm = match self.law {
            Law::Local => log_sum([masses.allowed, end, masses.drops]),
            Law::Canonical | Law::Marginal { .. } => masses.base,
        };
        // A context that nothing may follow: its whole mass is lost. Logits are then taken as they are.
        let stuck = norm == f64::NEG_INFINITY;
        let lost = if stuck { 0.0 } else { masses.drops - norm };
        Seen { norm: if stuck { 0.0 } else { norm }, end: if stuck { end } else { end - norm }, lost }
    }
}
