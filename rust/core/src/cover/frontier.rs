//! The contexts of the marginal law that were not looked at: their weight bounds what they could add.

use std::cmp::Reverse;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::guide::Guide;
use super::log_add;
use super::model::{CoverModel, Law};
use super::node::Node;
use super::state::{Alive, Sums, Values, row_of};
use super::sums::{Look, Slice};
use crate::index::{Interval, Logits};

/// Contexts that are kept to be looked at later; the weight of lighter ones is only added up.
const KEPT: usize = 4096;

/// Contexts that are asked for at a time.
const AT_ONCE: usize = 64;

/// A context whose likely share of the mass is below this part of `eps` is not looked at. Its weight bounds what it adds,
/// and the bound becomes worthless as the text goes on; to look at all of them for its sake would take exponentially many.
const FLOOR: f64 = 1.0 / 16.0;

/// The least that a byte is taken to cost, in nats.
const LEAST_COST: f64 = 0.5;

/// What a byte is taken to cost, in mean costs.
const AGEING: f64 = 1.5;

/// Contexts not looked at.
#[derive(Clone)]
pub(super) struct Frontier {
    /// With known weights, in no order.
    nodes: Vec<Arc<Node>>,
    /// The log mass of those that are no longer kept.
    lost: f64,
    /// How many were looked at since the last byte.
    evaluated: usize,
    /// The log mass of the prefixes before this one, by length, as far as it was known when the next byte came.
    totals: Vec<f64>,
    /// Which contexts are canonical, where there is an exact answer.
    guide: Option<Box<Guide>>,
}

#[allow(clippy::cast_precision_loss)] // lengths of texts are far below 2^53
fn count(n: usize) -> f64 {
    n as f64
}

fn weight(node: &Arc<Node>) -> f64 {
    node.weight().unwrap_or(f64::NEG_INFINITY)
}

impl Frontier {
    pub(super) fn new(root: Arc<Node>) -> Self {
        Self { nodes: vec![root], lost: f64::NEG_INFINITY, evaluated: 0, totals: Vec::new(), guide: None }
    }

    /// Begins to tell canonical contexts from others.
    pub(super) fn follow(&mut self, model: &CoverModel, first: bool) {
        self.guide = model.guide.as_ref().map(|model| Box::new(Guide::new(model, first)));
    }

    /// Takes note of the mass of a prefix before its next byte is read.
    pub(super) fn note(&mut self, model: &CoverModel, alive: &[Alive], next: u8) {
        if let Some(guide) = &mut self.guide {
            guide.push(next);
        }
        let here = self.totals.len();
        let known = self.known(model, alive, here);
        self.totals.push(known);
    }

    /// The log mass of a prefix of length `here`: of what was looked at, and of the contexts that end there.
    fn known(&self, model: &CoverModel, alive: &[Alive], here: usize) -> f64 {
        let mut sums = Sums::new();
        for one in alive {
            one.add(model, &mut sums);
        }
        let ending = self.nodes.iter().filter(|node| node.pos() == here).map(weight);
        ending.fold(log_add(sums.total(), sums.lost), log_add)
    }

    /// Takes new contexts; called once per byte.
    pub(super) fn extend(&mut self, born: Vec<Arc<Node>>) {
        self.evaluated = 0;
        self.add(born);
    }

    fn add(&mut self, born: Vec<Arc<Node>>) {
        self.nodes.extend(born.into_iter().filter(|node| weight(node) > f64::NEG_INFINITY));
        if self.nodes.len() > 2 * KEPT {
            // The newest stay: they are what the next byte is about.
            self.nodes
                .sort_by(|a, b| b.pos().cmp(&a.pos()).then(weight(b).total_cmp(&weight(a))).then(a.id().cmp(&b.id())));
            for node in self.nodes.drain(KEPT..) {
                self.lost = log_add(self.lost, weight(&node));
            }
        }
    }

    /// The log mass of all that was not looked at.
    pub(super) fn log_mass(&self) -> f64 {
        self.nodes.iter().map(weight).fold(self.lost, log_add)
    }

    /// The contexts to look at next.
    ///
    /// The weightiest ones, if what they leave is no more than the law lets be missing. Where that would take more of them
    /// than the budget has, the ones that are likely to matter: their weight, less what the text so far has cost per
    /// byte since, against the mass of the prefix. Weights alone do not tell: every byte makes the mass smaller, so old
    /// contexts outweigh new ones however little they have to say. Canonical contexts come first, whatever they weigh:
    /// while the budget has room for them, the mass is not below that of the canonical covers, and a text that has one is
    /// not lost.
    pub(super) fn choose(&mut self, model: &CoverModel, alive: &[Alive]) -> Vec<Arc<Node>> {
        let Law::Marginal { eps, budget } = model.law else { return Vec::new() };
        let room = budget.saturating_sub(self.evaluated).min(AT_ONCE);
        self.nodes.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.id().cmp(&b.id())));
        let mut sums = Sums::new();
        for one in alive {
            one.add(model, &mut sums);
        }
        let canonical = self.guide.as_mut().map(|guide| guide.wanted()).unwrap_or_default();
        let heavy = self.heavy(sums.total(), eps);
        let mut chosen: Vec<Arc<Node>> =
            self.nodes.iter().filter(|node| canonical.contains(&node.key())).cloned().collect();
        let likely =
            if heavy <= room { self.nodes[..heavy].to_vec() } else { self.likely(model, alive, sums.total(), eps) };
        chosen.extend(likely.into_iter().filter(|node| !canonical.contains(&node.key())));
        chosen.truncate(room);
        chosen
    }

    /// How many of the weightiest contexts there are that the others leave no more than `eps` missing.
    fn heavy(&self, seen: f64, eps: f64) -> usize {
        let mut left = self.lost;
        let mut heavy = self.nodes.len();
        while heavy > 0 {
            left = log_add(left, weight(&self.nodes[heavy - 1]));
            if (left - log_add(seen, left)).exp() > eps {
                break;
            }
            heavy -= 1;
        }
        heavy
    }

    /// The contexts that are likely to matter, the likeliest first.
    fn likely(&self, model: &CoverModel, alive: &[Alive], seen: f64, eps: f64) -> Vec<Arc<Node>> {
        let here = self.totals.len();
        let known = self.known(model, alive, here);
        // From the last mass that was known; above the mean, so that what was left out long ago stays behind.
        let last =
            self.totals.iter().copied().chain([known]).enumerate().filter(|(at, total)| *at > 0 && total.is_finite());
        let mean = last.last().map(|(at, total)| (self.totals[0] - total) / count(at)).filter(|mean| mean.is_finite());
        let cost = (AGEING * mean.unwrap_or(0.0)).max(LEAST_COST);
        let scale = if known == f64::NEG_INFINITY { 0.0 } else { known };
        let share = |node: &Arc<Node>| weight(node) - cost * count(here.saturating_sub(node.pos())) - scale;
        let mut shares: Vec<(f64, &Arc<Node>)> = self.nodes.iter().map(|node| (share(node), node)).collect();
        // Where nothing is known, nothing is too small to be looked at.
        let lost = seen == f64::NEG_INFINITY;
        shares.retain(|(share, _)| lost || share.exp() >= eps * FLOOR);
        shares.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.id().cmp(&b.1.id())));
        let mut likely: Vec<Arc<Node>> = shares.into_iter().map(|(_, node)| Arc::clone(node)).collect();
        if lost {
            // One of two by place: those that end last need the fewest bytes to go on, if only one by one.
            let mut newest = likely.clone();
            newest.sort_by_key(|node| Reverse(node.pos()));
            likely = newest.into_iter().zip(likely).flat_map(|(new, old)| [new, old]).collect();
            let mut taken = FxHashSet::default();
            likely.retain(|node| taken.insert(node.id()));
        }
        likely
    }

    /// Looks at one: reads the rest of the prefix with its tokens. What ends inside or at the end of it joins the frontier.
    pub(super) fn expand(
        &mut self,
        model: &Arc<CoverModel>,
        node: Arc<Node>,
        (text, look, logits): (&[u8], Look, Logits<'_>),
    ) -> Option<Alive> {
        self.nodes.retain(|other| !Arc::ptr_eq(other, &node));
        self.evaluated += 1;
        if let Some(guide) = &self.guide {
            guide.look(node.key(), look.seen);
        }
        let norm = look.seen.norm;
        let step = |child: &Arc<Node>| {
            let logit = logits.get(child.token() as usize).map_or(f64::NEG_INFINITY, f64::from);
            let _ = child.step.set(logit - norm);
        };
        let mut born = Vec::new();
        for &id in &model.latents {
            let child = Node::child(&node, id, 0, Vec::new());
            step(&child);
            born.push(child);
        }
        let rest = &text[node.pos()..];
        let mut at = model.index.root();
        let mut depth = 0;
        for &byte in rest {
            at = model.index.narrow(at, depth, byte);
            depth += 1;
            let ending = model.index.ending(at, depth);
            for place in ending.lo..ending.hi {
                if let Some(child) = model.child(&node, model.index.id(place)) {
                    step(&child);
                    born.push(child);
                }
            }
            at = Interval { lo: ending.hi.max(at.lo), hi: at.hi };
            if at.is_empty() {
                break;
            }
        }
        self.add(born);
        // The empty text ends before the space in front, whether or not a token goes on from there.
        let before_lead = node.lead && text.len() == 1;
        if at.is_empty() && !before_lead {
            return None;
        }
        let (ends, values) = if rest.is_empty() {
            (true, Values::Row(row_of(logits), Arc::new(*look.bytes)))
        } else {
            (before_lead, Values::Slice(Slice::new(model, logits, at)))
        };
        Some(Alive { node, at, depth, ends, mask: look.mask, values })
    }
}
