//! A context: a sequence of tokens behind a root, shared by every state that still needs it.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustc_hash::FxBuildHasher;

use super::canon::Open;
use super::piece::Group;
use crate::ids::{NO_TOKEN, TokenId};

/// Numbers for nodes, and the nodes that nobody holds any more.
#[derive(Default)]
pub(super) struct Registry {
    next: AtomicU64,
    released: Mutex<Vec<u64>>,
}

impl Registry {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The numbers of nodes that somebody was told of and that were dropped since the last call.
    pub(super) fn drain(&self) -> Vec<u64> {
        std::mem::take(&mut *self.released.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A context of tokens. Immutable but for what the model says of it, which is written once.
pub struct Node {
    id: u64,
    parent: Option<Arc<Node>>,
    token: TokenId,
    /// Bytes of text behind the root.
    pos: usize,
    /// Tokens behind the root.
    depth: u32,
    key: u64,
    /// Whether the root is the start of a text.
    pub(super) first: bool,
    /// Whether a space that is no part of the text comes first (the root of a text that is given one).
    pub(super) lead: bool,
    /// Whether that space is all there is: the text is empty, and empty texts are encoded to nothing.
    pub(super) blank: bool,
    pub(super) groups: Vec<Group>,
    /// Log probability of the token in its parent, under the law.
    pub(super) step: OnceLock<f64>,
    /// The sum of those from the root on.
    weight: OnceLock<f64>,
    pub(super) seen: OnceLock<Seen>,
    /// Whether the caller was told its number.
    told: AtomicBool,
    registry: Arc<Registry>,
}

/// What one look at the logits of a node says of it, for good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// What is taken off a logit to make it a log probability under the law.
    pub(super) norm: f64,
    /// The log probability of END.
    pub(super) end: f64,
    /// The log probability of what no byte will ever follow: dropped ids, contexts without a continuation.
    pub(super) lost: f64,
}

impl Node {
    pub(super) fn root(registry: &Arc<Registry>, groups: Vec<Group>, first: bool, lead: bool) -> Arc<Self> {
        let node = Self {
            id: registry.number(),
            parent: None,
            token: NO_TOKEN,
            pos: 0,
            depth: 0,
            key: 0,
            first,
            lead,
            blank: false,
            groups,
            step: OnceLock::from(0.0),
            weight: OnceLock::from(0.0),
            seen: OnceLock::new(),
            told: AtomicBool::new(false),
            registry: Arc::clone(registry),
        };
        Arc::new(node)
    }

    pub(super) fn child(parent: &Arc<Self>, token: TokenId, len: usize, groups: Vec<Group>) -> Arc<Self> {
        let node = Self {
            id: parent.registry.number(),
            parent: Some(Arc::clone(parent)),
            token,
            pos: parent.pos + len,
            depth: parent.depth + 1,
            key: hash(parent.key, token),
            first: parent.first,
            // A token without bytes leaves the text where it is.
            lead: parent.lead && len == 0,
            blank: (parent.lead && len == 1) || (parent.blank && len == 0),
            groups,
            step: OnceLock::new(),
            weight: OnceLock::new(),
            seen: OnceLock::new(),
            told: AtomicBool::new(false),
            registry: Arc::clone(&parent.registry),
        };
        Arc::new(node)
    }

    /// Its number: unique among the nodes of a [`super::CoverModel`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its number for the caller, who is told when the node is gone.
    pub(super) fn tell(&self) -> u64 {
        self.told.store(true, Ordering::Relaxed);
        self.id
    }

    /// The context without the last token; `None` for the root.
    pub fn parent(&self) -> Option<&Arc<Node>> {
        self.parent.as_ref()
    }

    /// The last token; `NO_TOKEN` for the root.
    pub fn token(&self) -> TokenId {
        self.token
    }

    /// How many bytes of text its tokens stand for.
    pub fn pos(&self) -> usize {
        self.pos
    }

    /// How many tokens lie behind the root.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// A hash of its tokens: the same for the same tokens behind another root.
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// From itself to the root.
    pub(super) fn path(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::successors(Some(self), |node| node.parent.as_ref())
    }

    /// Its tokens, from the root on.
    pub fn tokens(self: &Arc<Self>) -> Vec<TokenId> {
        let mut tokens: Vec<_> = self.path().map(|node| node.token).filter(|&token| token != NO_TOKEN).collect();
        tokens.reverse();
        tokens
    }

    /// The log probability of its tokens under the law; `None` while some parent's logits were not seen.
    pub(super) fn weight(self: &Arc<Self>) -> Option<f64> {
        if let Some(weight) = self.weight.get() {
            return Some(*weight);
        }
        let mut open = Vec::new();
        for node in self.path() {
            if node.weight.get().is_some() {
                break;
            }
            node.step.get()?;
            open.push(node);
        }
        for node in open.into_iter().rev() {
            let before = node.parent.as_ref().and_then(|parent| parent.weight.get()).copied()?;
            let step = node.step.get().copied()?;
            let _ = node.weight.set(before + step);
        }
        self.weight.get().copied()
    }

    /// The tokens of the pretoken that began at token `start`, given each token's bytes.
    pub(super) fn open<'t>(self: &Arc<Self>, start: u32, bytes: impl Fn(TokenId) -> &'t [u8]) -> Open {
        let mut ids: Vec<_> = self.path().take_while(|node| node.depth > start).map(|node| node.token).collect();
        ids.reverse();
        Open { bytes: ids.iter().flat_map(|&id| bytes(id)).copied().collect(), ids }
    }

    /// The end of the text behind the last token that `stops`, at least `room` bytes of it where there are so many.
    pub(super) fn text_end<'t>(
        self: &Arc<Self>,
        room: usize,
        stops: impl Fn(TokenId) -> bool,
        bytes: impl Fn(TokenId) -> &'t [u8],
    ) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut len = 0;
        for node in self.path() {
            if len >= room || node.token == NO_TOKEN || stops(node.token) {
                break;
            }
            let token = bytes(node.token);
            len += token.len();
            parts.push(token);
        }
        parts.into_iter().rev().flatten().copied().collect()
    }
}

fn hash(before: u64, token: TokenId) -> u64 {
    FxBuildHasher.hash_one((before, token))
}

impl Drop for Node {
    fn drop(&mut self) {
        if *self.told.get_mut() {
            self.registry.released.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        }
        // A chain of a million nodes is taken apart in a loop, not by recursion.
        let mut next = self.parent.take();
        while let Some(parent) = next {
            match Arc::try_unwrap(parent) {
                Ok(mut node) => next = node.parent.take(),
                Err(_) => return,
            }
        }
    }
}
