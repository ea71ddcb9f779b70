//! One cover, drawn by its share of the prefix.

use super::log_add;
use super::state::CoverState;
use crate::error::Result;
use crate::ids::TokenId;

/// A cover.
#[derive(Clone, Debug, PartialEq)]
pub struct Picked {
    /// Its tokens, from the root on.
    pub tokens: Vec<TokenId>,
    /// How many bytes of its last token lie before the end of the prefix, if that token reaches over it; else 0.
    pub open: usize,
    /// Its part of the prefix's mass.
    pub share: f64,
}

impl CoverState {
    /// The cover at `u` of the cumulative distribution of all covers, by mass. `None` for an impossible prefix.
    ///
    /// With `u` uniform in 0..1 this draws from the law's distribution of token sequences given the prefix: what the model
    /// goes on with behind it is then exactly distributed.
    ///
    /// # Errors
    /// `Value` while contexts are needed.
    pub fn pick(&self, u: f64) -> Result<Option<Picked>> {
        let mut all: Vec<(usize, Option<TokenId>, f64)> = Vec::new();
        for (at, alive) in self.alive.iter().enumerate() {
            if alive.depth == 0 {
                all.push((at, None, self.mass_of(alive)?));
            } else {
                self.mass_of(alive)?;
                all.extend(alive.tokens(&self.model).into_iter().map(|(id, mass)| (at, Some(id), mass)));
            }
        }
        let total = all.iter().map(|(_, _, mass)| *mass).fold(f64::NEG_INFINITY, log_add);
        if total == f64::NEG_INFINITY {
            return Ok(None);
        }
        let mut below = 0.0;
        let mut chosen = None;
        for (at, id, mass) in all {
            let share = (mass - total).exp();
            if share > 0.0 {
                chosen = Some((at, id, share));
                below += share;
                if below > u {
                    break;
                }
            }
        }
        Ok(chosen.map(|(at, id, share)| {
            let mut tokens = self.alive[at].node.tokens();
            tokens.extend(id);
            Picked { tokens, open: self.alive[at].depth as usize, share }
        }))
    }
}
