//! Logits come in: as a row, or as what was made of one where it is (on a GPU), which is 257 numbers and a few more.

use std::sync::Arc;

use super::model::CoverModel;
use super::node::Node;
use super::state::{CoverState, Values, row_of};
use super::sums::{Look, Masses, Slice, log_sum};
use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::index::{Bits, Interval, Logits};

/// What has to be made of a context's logits.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The places of the tokens that are summed by their first byte; `None` for all.
    pub mask: Option<Arc<Bits>>,
    /// Tokens whose logits are wanted.
    pub children: Vec<TokenId>,
    /// The places whose logits are wanted one by one.
    pub held: Interval,
}

/// What was made of a context's logits, on their scale.
#[derive(Clone, Debug)]
pub struct DeviceSums {
    /// Log mass of all rows that take part ([`CoverModel::layout`] says which do not).
    pub log_base: f64,
    /// Log mass of the masked tokens by first byte.
    pub bytes: Box<[f64; 256]>,
    /// Logits of the counted ids, in the order of [`CoverModel::layout`].
    pub counted: Vec<f64>,
    /// Logits of [`Wanted::children`].
    pub children: Vec<(TokenId, f64)>,
    /// [`Wanted::held`].
    pub held: Interval,
    /// The logits of those places.
    pub values: Arc<[f32]>,
}

/// How the sorted tokens lie, for sums that are made elsewhere.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The id at each place.
    pub ids: Vec<TokenId>,
    /// Where the tokens of each first byte begin, and the end.
    pub bounds: Vec<u32>,
    /// Rows that take no part.
    pub forbidden: Vec<TokenId>,
    /// Ids whose logits are wanted of every context.
    pub counted: Vec<TokenId>,
}

/// Where a context's numbers come from.
pub(super) trait Source {
    fn look(&self, model: &CoverModel, node: &Arc<Node>) -> Result<Look>;
    fn logit(&self, id: TokenId) -> f64;
    fn slice(&self, model: &CoverModel, at: Interval) -> Slice;
    /// What is kept of a context that ends where the prefix does.
    fn whole(&self, bytes: Arc<[f64; 256]>) -> Values;
}

impl Source for Logits<'_> {
    fn look(&self, model: &CoverModel, node: &Arc<Node>) -> Result<Look> {
        model.look(node, *self)
    }

    fn logit(&self, id: TokenId) -> f64 {
        self.get(id as usize).map_or(f64::NEG_INFINITY, f64::from)
    }

    fn slice(&self, model: &CoverModel, at: Interval) -> Slice {
        Slice::new(model, *self, at)
    }

    fn whole(&self, bytes: Arc<[f64; 256]>) -> Values {
        Values::Row(row_of(*self), bytes)
    }
}

impl Source for DeviceSums {
    fn look(&self, model: &CoverModel, node: &Arc<Node>) -> Result<Look> {
        if self.counted.len() != model.ends.len() + model.drops.len() + model.latents.len() {
            let found = format!("{} logits of counted ids", self.counted.len());
            return Err(Error::value("counted", found, "give one for each id of layout()"));
        }
        let (ends, rest) = self.counted.split_at(model.ends.len());
        let masses = Masses {
            base: self.log_base,
            allowed: log_sum(self.bytes.iter().copied()),
            ends: log_sum(ends.iter().copied()),
            drops: log_sum(rest[..model.drops.len()].iter().copied()),
        };
        let bytes = self.bytes.clone();
        Ok(Look { seen: model.seen(node, &masses), mask: model.mask(node), bytes })
    }

    fn logit(&self, id: TokenId) -> f64 {
        self.children.iter().find(|(child, _)| *child == id).map_or(f64::NEG_INFINITY, |(_, logit)| *logit)
    }

    fn slice(&self, _: &CoverModel, _: Interval) -> Slice {
        Slice { held: self.held, values: Arc::clone(&self.values) }
    }

    fn whole(&self, bytes: Arc<[f64; 256]>) -> Values {
        Values::Sums(bytes)
    }
}

pub(super) fn not_wanted(id: u64) -> Error {
    Error::value("id", format!("context {id} is not wanted"), "feed what needed() names, once")
}

impl CoverModel {
    /// How the sorted tokens lie, for sums that are made where the logits are.
    pub fn layout(&self) -> Layout {
        let root = self.index.root();
        let mut bounds: Vec<u32> = (0..=u8::MAX).map(|byte| self.index.narrow(root, 0, byte).lo).collect();
        // The interval of a byte without a token says nothing of where it would lie.
        bounds.push(root.hi);
        for byte in (0..256_usize).rev() {
            let empty = self.index.narrow(root, 0, u8::try_from(byte).unwrap_or(u8::MAX)).is_empty();
            if empty {
                bounds[byte] = bounds[byte + 1];
            }
        }
        Layout {
            ids: self.index.ids().to_vec(),
            bounds,
            forbidden: self.forbidden.clone(),
            counted: [&self.ends[..], &self.drops, &self.latents].concat(),
        }
    }
}

impl CoverState {
    /// Takes the logits of a context that [`Self::needed`] named. O(rows).
    ///
    /// # Errors
    /// `Value` for a number that is not wanted, for a wrong number of rows, for NaN or plus infinity.
    pub fn feed(&mut self, id: u64, logits: Logits<'_>) -> Result<()> {
        if let Some(frontier) = &mut self.frontier {
            let Some(waiting) = self.waiting.remove(&id) else { return Err(not_wanted(id)) };
            let model = Arc::clone(&self.model);
            let look = model.look(&waiting.node, logits)?;
            waiting.node.seen.get_or_init(|| look.seen);
            let alive = frontier.expand(&model, waiting.node, (&self.text, look, logits));
            self.alive.extend(alive);
            return Ok(());
        }
        self.take(id, &logits)
    }

    /// What [`Self::feed_sums`] has to bring; not under the marginal law, which looks at whole rows.
    ///
    /// # Errors
    /// `Value` for a number that is not wanted, and under the marginal law.
    pub fn wanted(&self, id: u64) -> Result<Wanted> {
        if self.frontier.is_some() {
            return Err(Error::value("law", "marginal", "feed whole rows"));
        }
        let waiting = self.waiting.get(&id).ok_or_else(|| not_wanted(id))?;
        let held = self.alive.iter().find(|alive| Arc::ptr_eq(&alive.node, &waiting.node) && alive.depth > 0);
        Ok(Wanted {
            mask: self.model.mask(&waiting.node),
            children: waiting.children.iter().map(|child| child.token()).collect(),
            held: held.map(|alive| alive.at).unwrap_or_default(),
        })
    }

    /// Takes what was made of a context's logits where they are, as [`Self::wanted`] asked: a context that ends where the
    /// prefix does is needed again, for a slice, when a byte was pushed.
    ///
    /// # Errors
    /// `Value` for a number that is not wanted.
    pub fn feed_sums(&mut self, id: u64, sums: &DeviceSums) -> Result<()> {
        self.take(id, sums)
    }

    fn take(&mut self, id: u64, source: &impl Source) -> Result<()> {
        let model = Arc::clone(&self.model);
        let node = Arc::clone(&self.waiting.get(&id).ok_or_else(|| not_wanted(id))?.node);
        let look = source.look(&model, &node)?;
        let seen = *node.seen.get_or_init(|| look.seen);
        if let Some(waiting) = self.waiting.remove(&id) {
            for child in waiting.children {
                let _ = child.step.set(source.logit(child.token()) - seen.norm);
            }
        }
        let bytes: Arc<[f64; 256]> = Arc::new(*look.bytes);
        for alive in self.alive.iter_mut().filter(|alive| Arc::ptr_eq(&alive.node, &node)) {
            alive.mask.clone_from(&look.mask);
            alive.values = if alive.depth == 0 {
                source.whole(Arc::clone(&bytes))
            } else {
                Values::Slice(source.slice(&model, alive.at))
            };
        }
        Ok(())
    }
}

/// A mask as bits, 64 places a word.
pub fn mask_words(mask: &Bits, places: u32) -> Vec<u64> {
    let mut words = vec![0_u64; places.div_ceil(64) as usize];
    for place in mask.iter().filter(|&place| place < places) {
        words[(place / 64) as usize] |= 1 << (place % 64);
    }
    words
}
