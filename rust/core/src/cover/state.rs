//! A byte prefix: the contexts that may still be continued, and what they say of the next byte.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::frontier::Frontier;
use super::model::CoverModel;
use super::node::Node;
use super::sums::Slice;
use super::{END, NEXT_BYTE_LEN, log_add};
use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::index::{Bits, Interval, Logits};

/// So many last bytes are rolled back without asking the model again.
const RECENT: usize = 64;

/// Every so many bytes the contexts are kept for longer roll-backs.
const CHECKPOINT: usize = 256;

/// Intervals of at most so many tokens are looked through for one that is canonical, before the model is asked.
const LOOK_THROUGH: u32 = 64;

/// No token.
const NOTHING: Interval = Interval { lo: 0, hi: 0 };

/// Contexts whose logits are wanted, parents before children.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// The numbers of the nodes.
    pub ids: Vec<u64>,
    /// The number of each one's parent; `u64::MAX` for the root.
    pub parents: Vec<u64>,
    /// The last token of each; `NO_TOKEN` for the root.
    pub tokens: Vec<TokenId>,
}

/// One context and the tokens by which it covers the prefix.
#[derive(Clone, Debug)]
pub struct Cover {
    /// The tokens of the context, from the root on.
    pub tokens: Vec<TokenId>,
    /// The bytes of the prefix that they do not reach.
    pub open: usize,
    /// The log mass of all its tokens that do, or of the context itself when it ends at the prefix's end.
    pub log_mass: f64,
    /// The tokens that reach over the end, the likeliest first, with their log masses.
    pub tops: Vec<(TokenId, f64)>,
}

/// A context and the tokens that may lie over the end of the prefix.
#[derive(Clone)]
pub(super) struct Alive {
    pub(super) node: Arc<Node>,
    /// Its tokens that agree with the prefix, all longer than `depth` bytes (`depth == 0`: all).
    pub(super) at: Interval,
    pub(super) depth: u32,
    /// Whether the text may end here, as far as this context goes.
    pub(super) ends: bool,
    pub(super) mask: Option<Arc<Bits>>,
    pub(super) values: Values,
}

/// What is held of a context's logits.
#[derive(Clone)]
pub(super) enum Values {
    /// Nothing: it has to be looked at (again).
    None,
    /// All of them, in the order of ids, with the log mass per first byte.
    Row(Arc<[f32]>, Arc<[f64; 256]>),
    /// The log mass per first byte; the logits themselves stayed where they were made.
    Sums(Arc<[f64; 256]>),
    /// Those that agree with the prefix.
    Slice(Slice),
}

impl Alive {
    pub(super) fn new(model: &CoverModel, node: Arc<Node>) -> Self {
        Self { node, at: model.index.root(), depth: 0, ends: true, mask: None, values: Values::None }
    }

    /// The same without logits.
    fn bare(&self) -> Self {
        Self { mask: None, values: Values::None, node: Arc::clone(&self.node), ..*self }
    }

    /// The log mass of its tokens, given the context's weight; adds them to the next-byte sums.
    pub(super) fn add(&self, model: &CoverModel, out: &mut Sums) -> Option<f64> {
        let weight = self.node.weight()?;
        let seen = self.node.seen.get()?;
        let shift = weight - seen.norm;
        let mut bytes = [f64::NEG_INFINITY; 256];
        let total = match &self.values {
            Values::None => return None,
            Values::Row(_, sums) | Values::Sums(sums) => {
                bytes.copy_from_slice(&sums[..]);
                sums.iter().copied().fold(f64::NEG_INFINITY, log_add)
            }
            Values::Slice(slice) => slice.sums(model, (self.at, self.depth), self.mask.as_deref(), &mut bytes),
        };
        for (sum, byte) in out.bytes.iter_mut().zip(bytes) {
            if byte > f64::NEG_INFINITY {
                *sum = log_add(*sum, byte + shift);
            }
        }
        if self.ends {
            out.bytes[END] = log_add(out.bytes[END], weight + seen.end);
            out.lost = log_add(out.lost, weight + seen.lost);
        }
        Some(total + shift)
    }
}

/// Log masses per next byte, and of what no byte follows.
pub(super) struct Sums {
    pub(super) bytes: [f64; NEXT_BYTE_LEN],
    pub(super) lost: f64,
}

impl Sums {
    pub(super) fn new() -> Self {
        Self { bytes: [f64::NEG_INFINITY; NEXT_BYTE_LEN], lost: f64::NEG_INFINITY }
    }

    pub(super) fn total(&self) -> f64 {
        self.bytes.iter().copied().fold(f64::NEG_INFINITY, log_add)
    }
}

pub(super) struct Waiting {
    pub(super) node: Arc<Node>,
    /// Children whose step is not known yet.
    pub(super) children: Vec<Arc<Node>>,
}

/// A prefix under a law. Cheap to clone: contexts and logits are shared.
pub struct CoverState {
    pub(super) model: Arc<CoverModel>,
    /// The prefix, with the space in front that some tokenizers put there.
    pub(super) text: Vec<u8>,
    /// Whether it is the start of a text.
    first: bool,
    /// How many bytes of it are not the caller's.
    lead: usize,
    pub(super) alive: Vec<Alive>,
    pub(super) frontier: Option<Frontier>,
    recent: VecDeque<Vec<Alive>>,
    checkpoints: Vec<(usize, Vec<Alive>)>,
    pub(super) waiting: FxHashMap<u64, Waiting>,
}

impl Clone for CoverState {
    fn clone(&self) -> Self {
        Self {
            model: Arc::clone(&self.model),
            text: self.text.clone(),
            first: self.first,
            lead: self.lead,
            alive: self.alive.clone(),
            frontier: self.frontier.clone(),
            recent: self.recent.clone(),
            checkpoints: self.checkpoints.clone(),
            waiting: FxHashMap::default(),
        }
    }
}

impl CoverState {
    /// The empty prefix. `first`: whether it is the start of a text, where some tokenizers put a space.
    pub fn new(model: &Arc<CoverModel>, first: bool) -> Self {
        let root = model.root(first);
        let lead = root.lead;
        let mut this = Self {
            model: Arc::clone(model),
            text: Vec::new(),
            first,
            lead: 0,
            alive: Vec::new(),
            frontier: None,
            recent: VecDeque::new(),
            checkpoints: Vec::new(),
            waiting: FxHashMap::default(),
        };
        if model.is_marginal() {
            this.frontier = Some(Frontier::new(Arc::clone(&root)));
        } else {
            this.alive.push(Alive::new(model, Arc::clone(&root)));
        }
        if lead {
            this.step(b' ');
            this.lead = 1;
            // The empty text is encoded to nothing: it ends at the root, not behind the space.
            match this.alive.iter_mut().find(|alive| Arc::ptr_eq(&alive.node, &root)) {
                Some(alive) => alive.ends = true,
                None if model.is_marginal() => {}
                None => this.alive.push(Alive { at: NOTHING, depth: 1, ..Alive::new(model, root) }),
            }
        }
        if let Some(frontier) = &mut this.frontier {
            frontier.follow(model, first);
        }
        this.checkpoints.push((this.text.len(), this.bare()));
        this
    }

    /// The law and the vocabulary.
    pub fn model(&self) -> &Arc<CoverModel> {
        &self.model
    }

    /// How many bytes the prefix has.
    pub fn len(&self) -> usize {
        self.text.len() - self.lead
    }

    /// Whether the prefix is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The prefix.
    pub fn text(&self) -> &[u8] {
        &self.text[self.lead..]
    }

    fn bare(&self) -> Vec<Alive> {
        self.alive.iter().map(Alive::bare).collect()
    }

    /// Appends bytes. Asks the model nothing. O(bytes · contexts).
    ///
    /// A prefix that no token can cover is an ordinary one: its mass is 0, and it can be rolled back.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.frontier.is_none() {
                self.recent.push_back(self.bare());
                if self.recent.len() > RECENT {
                    self.recent.pop_front();
                }
            }
            self.step(byte);
            if self.frontier.is_none() && self.text.len().is_multiple_of(CHECKPOINT) {
                self.checkpoints.push((self.text.len(), self.bare()));
            }
        }
    }

    fn step(&mut self, byte: u8) {
        let model = Arc::clone(&self.model);
        if let Some(frontier) = &mut self.frontier {
            frontier.note(&model, &self.alive, byte);
        }
        self.text.push(byte);
        let mut born = Vec::new();
        let mut next = Vec::with_capacity(self.alive.len() + 1);
        for mut alive in self.alive.drain(..) {
            alive.ends = false;
            let at = model.index.narrow(alive.at, alive.depth, byte);
            if at.is_empty() {
                continue;
            }
            alive.depth += 1;
            if let Values::Row(row, _) = &alive.values {
                alive.values = Values::Slice(Slice::new(&model, Logits::F32(row), at));
            } else if matches!(alive.values, Values::Sums(_)) {
                alive.values = Values::None;
            }
            let ending = model.index.ending(at, alive.depth);
            for place in ending.lo..ending.hi {
                if let Some(child) = alive.child(&model, place) {
                    born.push(child);
                }
            }
            alive.at = Interval { lo: ending.hi.max(at.lo), hi: at.hi };
            if alive.goes_on(&model) {
                next.push(alive);
            }
        }
        match &mut self.frontier {
            Some(frontier) => frontier.extend(born),
            None => next.extend(born.into_iter().map(|node| Alive::new(&model, node))),
        }
        self.alive = next;
    }

    /// Takes the last `count` bytes away.
    ///
    /// # Errors
    /// `Value` when there are fewer, or under the marginal law, whose contexts are not kept.
    pub fn rollback(&mut self, count: usize) -> Result<()> {
        if count > self.len() {
            let found = format!("{count} bytes of a prefix of {}", self.len());
            return Err(Error::value("count", found, "roll back at most the length of the prefix"));
        }
        if count == 0 {
            return Ok(());
        }
        self.waiting.clear();
        let len = self.text.len() - count;
        if self.frontier.is_some() {
            let text = self.text[self.lead..len].to_vec();
            *self = Self::new(&self.model, self.first);
            self.push(&text);
            return Ok(());
        }
        self.checkpoints.retain(|(at, _)| *at <= len);
        if count <= self.recent.len() {
            self.recent.truncate(self.recent.len() - count + 1);
            self.alive = self.recent.pop_back().unwrap_or_default();
            self.text.truncate(len);
            return Ok(());
        }
        let (at, alive) = self.checkpoints.last().cloned().unwrap_or_default();
        let rest = self.text[at..len].to_vec();
        self.text.truncate(at);
        self.alive = alive;
        self.recent.clear();
        self.push(&rest);
        Ok(())
    }

    /// The contexts whose logits are wanted next, parents before children; none when the numbers can be read.
    ///
    /// `mass_only`: what [`Self::log_mass`] needs, which may be one context less than what [`Self::logprobs`] does.
    pub fn needed(&mut self, mass_only: bool) -> Needed {
        self.waiting.clear();
        let model = Arc::clone(&self.model);
        if let Some(frontier) = &mut self.frontier {
            let chosen = frontier.choose(&model, &self.alive);
            for node in chosen {
                self.waiting.insert(node.id(), Waiting { node, children: Vec::new() });
            }
            return self.list();
        }
        self.alive.retain_mut(|alive| alive.stays(&model));
        let mut done = FxHashSet::default();
        for alive in &self.alive {
            if matches!(alive.values, Values::None) && !(mass_only && alive.depth == 0) {
                let node = Arc::clone(&alive.node);
                self.waiting.entry(node.id()).or_insert_with(|| Waiting { node, children: Vec::new() });
            }
            // Up to where the weight is known, parents tell the steps that are not.
            let mut node = &alive.node;
            while node.weight().is_none() && done.insert(node.id()) {
                let Some(parent) = node.parent() else { break };
                if node.step.get().is_none() {
                    let waits = || Waiting { node: Arc::clone(parent), children: Vec::new() };
                    self.waiting.entry(parent.id()).or_insert_with(waits).children.push(Arc::clone(node));
                }
                node = parent;
            }
        }
        self.list()
    }

    fn list(&self) -> Needed {
        let mut nodes: Vec<&Arc<Node>> = self.waiting.values().map(|waiting| &waiting.node).collect();
        nodes.sort_by_key(|node| (node.depth(), node.id()));
        Needed {
            ids: nodes.iter().map(|node| node.tell()).collect(),
            parents: nodes.iter().map(|node| node.parent().map_or(u64::MAX, |parent| parent.id())).collect(),
            tokens: nodes.iter().map(|node| node.token()).collect(),
        }
    }

    fn missing() -> Error {
        Error::value("state", "some contexts have no logits yet", "feed what needed() names first")
    }

    pub(super) fn sums(&self) -> Result<Sums> {
        let mut sums = Sums::new();
        for alive in &self.alive {
            alive.add(&self.model, &mut sums).ok_or_else(Self::missing)?;
        }
        Ok(sums)
    }

    /// Natural-log probabilities of the next byte, END at 256; they sum to 1. All minus infinity for an impossible prefix.
    ///
    /// # Errors
    /// `Value` while contexts are needed.
    pub fn logprobs(&self) -> Result<[f64; NEXT_BYTE_LEN]> {
        let sums = self.sums()?;
        let total = sums.total();
        let mut out = sums.bytes;
        if total > f64::NEG_INFINITY {
            out.iter_mut().for_each(|value| *value -= total);
        }
        Ok(out)
    }

    /// The log probability that a text begins with the prefix, given the root: summed over covers, under the law. Without
    /// what is missing.
    ///
    /// # Errors
    /// `Value` while contexts are needed.
    pub fn log_mass(&self) -> Result<f64> {
        let mut total = f64::NEG_INFINITY;
        for alive in &self.alive {
            total = log_add(total, self.mass_of(alive)?);
        }
        Ok(total)
    }

    pub(super) fn mass_of(&self, alive: &Alive) -> Result<f64> {
        if alive.depth == 0 && self.frontier.is_none() {
            return alive.node.weight().ok_or_else(Self::missing);
        }
        let mut sums = Sums::new();
        let mass = alive.add(&self.model, &mut sums).ok_or_else(Self::missing)?;
        // A context that ends here, and one whose text may (the empty text, before the space in front of it).
        Ok(if alive.ends { log_add(log_add(mass, sums.bytes[END]), sums.lost) } else { mass })
    }

    /// An upper bound on the part of the next byte's probability that is not accounted for, in 0..=1.
    ///
    /// # Errors
    /// `Value` while contexts are needed.
    pub fn missing_mass(&self) -> Result<f64> {
        let sums = self.sums()?;
        let unknown = self.frontier.as_ref().map_or(f64::NEG_INFINITY, Frontier::log_mass);
        let missing = log_add(sums.lost, unknown);
        if missing == f64::NEG_INFINITY {
            return Ok(0.0);
        }
        Ok((missing - log_add(sums.total(), missing)).exp())
    }

    /// The covers of the prefix, the weightiest context first, each with its `most` likeliest tokens over the end.
    ///
    /// # Errors
    /// `Value` while contexts are needed.
    pub fn covers(&self, most: usize) -> Result<Vec<Cover>> {
        let mut covers = Vec::new();
        for alive in &self.alive {
            let log_mass = self.mass_of(alive)?;
            let mut tops = alive.tokens(&self.model);
            tops.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            tops.truncate(most);
            covers.push(Cover { tokens: alive.node.tokens(), open: alive.depth as usize, log_mass, tops });
        }
        covers.sort_by(|a, b| b.log_mass.total_cmp(&a.log_mass).then(a.open.cmp(&b.open)));
        Ok(covers)
    }
}

impl Alive {
    /// The context with the token at `place`, which ends where the prefix does.
    fn child(&self, model: &CoverModel, place: u32) -> Option<Arc<Node>> {
        if let Some(mask) = &self.mask
            && !mask.get(place)
        {
            return None;
        }
        let child = model.child(&self.node, model.index.id(place))?;
        if let (Values::Slice(slice), Some(seen)) = (&self.values, self.node.seen.get()) {
            let _ = child.step.set(slice.logit(place) - seen.norm);
        }
        Some(child)
    }

    /// Whether some token may lie over the end of the prefix, as far as a short look tells.
    fn goes_on(&self, model: &CoverModel) -> bool {
        match &self.mask {
            _ if self.at.is_empty() => false,
            Some(mask) => mask.count_in(self.at) > 0,
            None if model.is_marginal() || self.at.len() > LOOK_THROUGH => true,
            None => model.any_allowed(&self.node, self.at),
        }
    }

    /// The same for good, before the model is asked.
    pub(super) fn stays(&mut self, model: &CoverModel) -> bool {
        if self.depth == 0 || self.mask.is_some() || self.at.len() <= LOOK_THROUGH || self.ends {
            return true;
        }
        self.mask = model.mask(&self.node);
        self.goes_on(model)
    }

    /// Its tokens over the end of the prefix with their log masses; empty for a context that ends there.
    pub(super) fn tokens(&self, model: &CoverModel) -> Vec<(TokenId, f64)> {
        let (Some(weight), Some(seen)) = (self.node.weight(), self.node.seen.get()) else { return Vec::new() };
        let Values::Slice(slice) = &self.values else { return Vec::new() };
        (self.at.lo..self.at.hi)
            .filter(|&place| self.mask.as_ref().is_none_or(|mask| mask.get(place)))
            .map(|place| (model.index.id(place), slice.logit(place) - seen.norm + weight))
            .filter(|(_, mass)| *mass > f64::NEG_INFINITY)
            .collect()
    }
}

pub(super) fn row_of(logits: Logits<'_>) -> Arc<[f32]> {
    (0..logits.len()).map(|row| logits.get(row).unwrap_or(f32::NEG_INFINITY)).collect()
}
