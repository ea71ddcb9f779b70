//! The next-byte distributions of all positions of a known text, in one pass over its contexts.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::feeding::{DeviceSums, Source, Wanted, not_wanted};
use super::model::CoverModel;
use super::node::Node;
use super::state::{Alive, CoverState, Needed, Sums};
use super::sums::Slice;
use super::{END, NEXT_BYTE_LEN, log_add};
use crate::error::{Error, Result};
use crate::index::{Interval, Logits};

/// Where a context covers the text: at a position, with an interval of its tokens that agree with `depth` bytes.
struct Span {
    position: usize,
    at: Interval,
    depth: u32,
    ends: bool,
}

struct Context {
    node: Arc<Node>,
    spans: Vec<Span>,
    children: Vec<Arc<Node>>,
}

/// All positions of a text behind a prefix. Logits are read once, parents first, and not kept: O(257) memory per position.
pub struct Sweep {
    model: Arc<CoverModel>,
    contexts: FxHashMap<u64, Context>,
    needed: Needed,
    sums: Vec<Sums>,
}

impl Sweep {
    /// Reads `text` behind a prefix. Asks the model nothing.
    ///
    /// # Errors
    /// `Value` under the marginal law, which has no fixed set of contexts.
    pub fn new(prefix: &CoverState, text: &[u8]) -> Result<Self> {
        if prefix.frontier.is_some() {
            return Err(Error::value("law", "marginal", "push bytes one by one, or use \"local\" or \"canonical\""));
        }
        let model = Arc::clone(prefix.model());
        let mut this = Self {
            contexts: FxHashMap::default(),
            needed: Needed::default(),
            sums: (0..=text.len()).map(|_| Sums::new()).collect(),
            model,
        };
        let mut state = prefix.clone();
        this.record(&state, 0);
        for (at, byte) in text.iter().enumerate() {
            state.push(std::slice::from_ref(byte));
            this.record(&state, at + 1);
        }
        let mut nodes: Vec<&Arc<Node>> = this.contexts.values().map(|context| &context.node).collect();
        nodes.sort_by_key(|node| (node.depth(), node.id()));
        this.needed = Needed {
            ids: nodes.iter().map(|node| node.tell()).collect(),
            parents: nodes.iter().map(|node| node.parent().map_or(u64::MAX, |parent| parent.id())).collect(),
            tokens: nodes.iter().map(|node| node.token()).collect(),
        };
        Ok(this)
    }

    fn record(&mut self, state: &CoverState, position: usize) {
        for Alive { node, at, depth, ends, .. } in &state.alive {
            let span = Span { position, at: *at, depth: *depth, ends: *ends };
            self.context(node).spans.push(span);
        }
    }

    /// The entry of a node. A new one whose weight is not known joins the children of its parent, and so on upwards.
    fn context(&mut self, node: &Arc<Node>) -> &mut Context {
        if !self.contexts.contains_key(&node.id()) {
            let mut child = node;
            while let Some(parent) = child.parent().filter(|_| child.weight().is_none()) {
                let listed = self.contexts.contains_key(&parent.id());
                self.enter(parent).children.push(Arc::clone(child));
                if listed {
                    break;
                }
                child = parent;
            }
        }
        self.enter(node)
    }

    fn enter(&mut self, node: &Arc<Node>) -> &mut Context {
        let fresh = || Context { node: Arc::clone(node), spans: Vec::new(), children: Vec::new() };
        self.contexts.entry(node.id()).or_insert_with(fresh)
    }

    /// How many tokens stand for bytes.
    pub fn places(&self) -> u32 {
        self.model.index.root().hi
    }

    /// The contexts whose logits are wanted, parents before children.
    pub fn needed(&self) -> &Needed {
        &self.needed
    }

    /// Takes the logits of a context, in the order of [`Self::needed`] or any other with parents first. O(rows).
    ///
    /// # Errors
    /// `Value` for a context that is not wanted or comes before its parent, and as [`CoverState::feed`].
    pub fn feed(&mut self, id: u64, logits: Logits<'_>) -> Result<()> {
        self.take(id, &logits)
    }

    /// What [`Self::feed_sums`] has to bring.
    ///
    /// # Errors
    /// `Value` for a context that is not wanted.
    pub fn wanted(&self, id: u64) -> Result<Wanted> {
        let context = self.contexts.get(&id).ok_or_else(|| not_wanted(id))?;
        // Intervals only become narrower: the first one holds all that follow.
        let held = context.spans.iter().find(|span| span.depth > 0).map(|span| span.at);
        Ok(Wanted {
            mask: self.model.mask(&context.node),
            children: context.children.iter().map(|child| child.token()).collect(),
            held: held.unwrap_or_default(),
        })
    }

    /// Takes what was made of a context's logits where they are: see [`CoverState::feed_sums`].
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub fn feed_sums(&mut self, id: u64, sums: &DeviceSums) -> Result<()> {
        self.take(id, sums)
    }

    fn take(&mut self, id: u64, source: &impl Source) -> Result<()> {
        let Some(context) = self.contexts.remove(&id) else { return Err(not_wanted(id)) };
        let node = &context.node;
        let Some(weight) = node.weight() else {
            let found = format!("context {id} came before its parent");
            return Err(Error::value("id", found, "feed contexts in the order of needed()"));
        };
        let look = source.look(&self.model, node)?;
        let seen = *node.seen.get_or_init(|| look.seen);
        for child in &context.children {
            let _ = child.step.set(source.logit(child.token()) - seen.norm);
        }
        let shift = weight - seen.norm;
        let mut slice: Option<Slice> = None;
        for span in &context.spans {
            let sums = &mut self.sums[span.position];
            if span.ends {
                sums.bytes[END] = log_add(sums.bytes[END], weight + seen.end);
                sums.lost = log_add(sums.lost, weight + seen.lost);
            }
            let mut bytes = [f64::NEG_INFINITY; 256];
            if span.depth == 0 {
                bytes.copy_from_slice(&look.bytes[..]);
            } else {
                let slice = slice.get_or_insert_with(|| source.slice(&self.model, span.at));
                slice.sums(&self.model, (span.at, span.depth), look.mask.as_deref(), &mut bytes);
            }
            for (sum, byte) in sums.bytes.iter_mut().zip(bytes) {
                if byte > f64::NEG_INFINITY {
                    *sum = log_add(*sum, byte + shift);
                }
            }
        }
        Ok(())
    }

    /// The natural-log probabilities of the next byte at each position, from the prefix's end to the text's end; END at 256.
    ///
    /// # Errors
    /// `Value` while contexts are wanted.
    pub fn logprobs(&self) -> Result<Vec<[f64; NEXT_BYTE_LEN]>> {
        if !self.contexts.is_empty() {
            let found = format!("{} contexts have no logits yet", self.contexts.len());
            return Err(Error::value("state", found, "feed what needed() names first"));
        }
        let normalised = |sums: &Sums| {
            let total = sums.total();
            let mut out = sums.bytes;
            if total > f64::NEG_INFINITY {
                out.iter_mut().for_each(|value| *value -= total);
            }
            out
        };
        Ok(self.sums.iter().map(normalised).collect())
    }
}
