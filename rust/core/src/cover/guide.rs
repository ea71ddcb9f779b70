//! The canonical contexts among those of the marginal law: they are looked at whatever they weigh.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::model::CoverModel;
use super::node::{Node, Seen};
use super::state::CoverState;

/// The same prefix under a canonical law, whose contexts the frontier must not leave out.
///
/// Contexts are told from one another by [`Node::key`]. `seen` says of a node here that its like under the marginal law was
/// looked at; no logits are ever read here.
#[derive(Clone)]
pub(super) struct Guide {
    state: CoverState,
}

impl Guide {
    pub(super) fn new(model: &Arc<CoverModel>, first: bool) -> Self {
        Self { state: CoverState::new(model, first) }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.state.push(&[byte]);
    }

    /// The keys of the canonical contexts that were not looked at.
    pub(super) fn wanted(&mut self) -> FxHashSet<u64> {
        let model = Arc::clone(self.state.model());
        self.state.alive.retain_mut(|alive| alive.stays(&model));
        self.open().map(|node| node.key()).collect()
    }

    /// Takes note that a context was looked at.
    pub(super) fn look(&self, key: u64, seen: Seen) {
        if let Some(node) = self.open().find(|node| node.key() == key) {
            let _ = node.seen.set(seen);
        }
    }

    /// Canonical contexts that were not looked at, up to where they were.
    fn open(&self) -> impl Iterator<Item = &Arc<Node>> {
        let paths = self.state.alive.iter().map(|alive| alive.node.path());
        paths.flat_map(|path| path.take_while(|node| node.seen.get().is_none()))
    }
}
