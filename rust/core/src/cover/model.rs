//! What depends on the vocabulary and the law alone: which token may follow a context, and what the rest is for.

use std::sync::Arc;

use super::added::{AddedTokens, NO_RUNS};
use super::canon::{Again, BpeCanon, Canon, Open};
use super::masks::Live;
use super::node::{Node, Registry};
use super::normal::Normal;
use super::piece::{Group, Tail};
use crate::error::{Error, Result};
use crate::formats::{Model, Normalizer, PreTokenizer};
use crate::ids::TokenId;
use crate::index::{Bits, Interval, VocabIndex};
use crate::limits::Limits;
use crate::normalize;
use crate::pipeline::{self, Encoder};
use crate::pretoken::streaming::{StateId, Streaming};
use crate::vocab::{Kind, Vocabulary};

/// Which distribution over bytes is meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    /// Canonical tokens only, the rest renormalised at every token; proper.
    Local,
    /// Canonical covers of the model's own probabilities; the next byte renormalised.
    Canonical,
    /// All covers. Contexts whose weight is below `eps` of the whole may stay unevaluated, and no more than `budget` are
    /// evaluated per byte.
    Marginal {
        /// The largest part of the mass that may be missing.
        eps: f64,
        /// Most contexts that are evaluated per byte.
        budget: usize,
    },
}

/// What an id is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Its bytes.
    Text,
    /// It ends the text: its probability is END's.
    End,
    /// It cannot occur: the other tokens share its probability.
    Forbid,
    /// It may occur, and then no byte follows: its probability is reported as missing.
    Drop,
    /// The bytes of its spelling, as an added token.
    Spell,
    /// It may occur and stands for nothing ([`Law::Marginal`] only).
    Latent,
}

/// Whether the canonical test is the tokenizer's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// It is, for every text.
    Exact,
    /// Some part of the tokenizer has no exact streaming form: the text is encoded again with a few continuations, and a
    /// token that only other continuations allow is missed.
    Reencoded(String),
}

/// A vocabulary under a law. Immutable but for what it remembers; shared by all states.
pub struct CoverModel {
    pub(super) law: Law,
    pub(super) index: VocabIndex,
    pub(super) registry: Arc<Registry>,
    pub(super) ends: Vec<TokenId>,
    pub(super) drops: Vec<TokenId>,
    pub(super) latents: Vec<TokenId>,
    /// Rows that take no part: forbidden ids, holes, rows without a token.
    pub(super) forbidden: Vec<TokenId>,
    canon: Canon,
    machine: Streaming,
    added: AddedTokens,
    live: Live,
    alone: Vec<u32>,
    normal: Option<NormalMasks>,
    /// Whether a text is given a space in front.
    lead: bool,
    exactness: Exactness,
}

/// The normalizer's part in masks.
struct NormalMasks {
    normal: Normal,
    /// Tokens that are normal by themselves.
    sound: Bits,
    /// Those among them that depend on what is in front: beginning with a character that may compose, and in the
    /// middle of a character.
    marks: Vec<u32>,
    middles: Vec<u32>,
}

impl CoverModel {
    /// Prepares a vocabulary for `rows` logits per context. About 0.1 to 0.5 s for 128,000 tokens.
    ///
    /// Text, byte-fallback and added tokens stand for their bytes; all other ids are forbidden unless `policies` says
    /// otherwise.
    ///
    /// # Errors
    /// `Value` for a policy of an id without a row, for a law that a policy does not fit, for no token at all.
    pub fn new(
        encoder: &Arc<Encoder>,
        rows: usize,
        law: Law,
        policies: &[(TokenId, Policy)],
        limits: &Limits,
    ) -> Result<Self> {
        let vocabulary = Arc::clone(encoder.vocabulary()?);
        let policy = policies_of(&vocabulary, rows, law, policies)?;
        let with = |wanted: Policy| -> Vec<TokenId> {
            (0_u32..).zip(&policy).filter(|&(_, p)| *p == wanted).map(|(id, _)| id).collect()
        };
        let spelled = |id: TokenId| vocabulary.spelling(id).unwrap_or_default();
        let tokens = (0_u32..).zip(&policy).filter_map(|(id, policy)| match policy {
            Policy::Text => vocabulary.token_bytes(id).map(|bytes| (id, bytes)),
            Policy::Spell => Some((id, spelled(id))),
            _ => None,
        });
        let index = VocabIndex::new(tokens.filter(|(_, bytes)| !bytes.is_empty()), rows)?;
        let mut forbidden = with(Policy::Forbid);
        forbidden.extend(with(Policy::Text).into_iter().filter(|&id| index.place(id).is_none()));
        let added = with(Policy::Text)
            .into_iter()
            .filter(|&id| vocabulary.kind(id) == Kind::Added)
            .map(|id| (id, vocabulary.token_bytes(id).unwrap_or_default().to_vec()))
            .chain(with(Policy::Spell).into_iter().map(|id| (id, spelled(id).to_vec())))
            .filter(|(_, bytes)| !bytes.is_empty());
        let added = AddedTokens::new(added.collect());
        let mut this = Self {
            law,
            live: Live::new(&index),
            registry: Arc::new(Registry::default()),
            ends: with(Policy::End),
            drops: with(Policy::Drop),
            latents: with(Policy::Latent),
            forbidden,
            canon: Canon::All,
            machine: Streaming::new(&PreTokenizer::Sequence(Vec::new()), limits)?,
            added: AddedTokens::new(Vec::new()),
            alone: Vec::new(),
            normal: None,
            lead: pipeline::puts_a_space_first(encoder.description()),
            exactness: Exactness::Exact,
            index,
        };
        if !matches!(law, Law::Marginal { .. }) {
            this.added = added;
            if let Err(reason) = this.take_canonical_test(encoder, &vocabulary, limits) {
                this.exactness = Exactness::Reencoded(reason);
                this.canon = Canon::Again(Again { encoder: Arc::clone(encoder), mark: None, pipeline: true });
                this.added = AddedTokens::new(Vec::new());
                this.normal = None;
                this.machine = Streaming::new(&PreTokenizer::Sequence(Vec::new()), limits)?;
            }
            this.alone = this.canon.alone(&this.index);
        }
        Ok(this)
    }

    /// Sets the test up; `Err` says what part of the tokenizer has no exact streaming form.
    fn take_canonical_test(
        &mut self,
        encoder: &Arc<Encoder>,
        vocabulary: &Vocabulary,
        limits: &Limits,
    ) -> std::result::Result<(), String> {
        let description = encoder.description();
        let context = |id: &TokenId| {
            let token = description.added_tokens.iter().find(|token| token.id == *id);
            token.is_some_and(|token| token.lstrip || token.rstrip || token.single_word)
        };
        if self.added.tokens().iter().any(|(id, _)| context(id)) {
            return Err("an added token that takes white space along or matches whole words only".to_owned());
        }
        // Symbols that the model itself knows as a whole begin no new text.
        let begins_text = |id: &TokenId| match &description.model {
            Model::Bpe(model) => !model.user_defined.contains(id),
            Model::Unigram(model) => !model.user_defined.contains(id),
            _ => true,
        };
        if self.lead && self.added.tokens().iter().any(|(id, _)| begins_text(id)) {
            return Err("added tokens in a tokenizer that writes a space before a text".to_owned());
        }
        let marked = encoder.is_marked();
        let normalizers = pipeline::normalizer_steps(&description.normalizer);
        if !marked && !normalizers.is_empty() {
            let compiled = normalize::Compiled::new(&description.normalizer, limits).map_err(|e| e.to_string())?;
            let normal = Normal::new(compiled, &normalizers);
            if !normal.local {
                let name = |step: &&Normalizer| format!("{step:?}").split([' ', '(', '{']).next().map(str::to_owned);
                let names: Vec<_> = normalizers.iter().filter_map(name).collect();
                return Err(format!("the normalizer {}", names.join(", ")));
            }
            self.normal = Some(NormalMasks::new(normal, &self.index));
        }
        let no_cuts = PreTokenizer::Sequence(Vec::new());
        let cuts = if marked { &no_cuts } else { &description.pre_tokenizer };
        self.machine = Streaming::new(cuts, limits).map_err(|e| e.to_string())?;
        self.canon = match &description.model {
            Model::Bpe(_) => match BpeCanon::new(encoder, vocabulary, &self.index) {
                Some(canon) => Canon::Bpe(Box::new(canon)),
                None => return Err("a BPE model whose symbols depend on their place in a word".to_owned()),
            },
            Model::WordPiece(_) | Model::WordLevel(_) => return Err("a model of whole words".to_owned()),
            Model::Unigram(_) | Model::Trie(_) => Canon::Again(Again {
                encoder: Arc::clone(encoder),
                mark: pipeline::mark_of(description),
                pipeline: false,
            }),
        };
        Ok(())
    }

    /// Which law.
    pub fn law(&self) -> Law {
        self.law
    }

    /// Whether the canonical test is the tokenizer's own.
    pub fn exactness(&self) -> &Exactness {
        &self.exactness
    }

    /// The tokens sorted by bytes.
    pub fn index(&self) -> &VocabIndex {
        &self.index
    }

    /// Numbers of nodes that no state holds any more, since the last call.
    pub fn released(&self) -> Vec<u64> {
        self.registry.drain()
    }

    pub(super) fn root(&self, first: bool) -> Arc<Node> {
        let group = Group { start: 0, stream: self.machine.start(), runs: NO_RUNS, tail: Tail::Fresh, empty: true };
        Node::root(&self.registry, vec![group], first && self.lead)
    }

    pub(super) fn is_marginal(&self) -> bool {
        matches!(self.law, Law::Marginal { .. })
    }

    pub(super) fn bytes_of(&self, id: TokenId) -> &[u8] {
        self.index.place(id).map_or(&[], |place| self.index.token(place))
    }

    fn open(&self, node: &Arc<Node>, group: &Group) -> Open {
        node.open(group.start, |id| self.bytes_of(id))
    }

    fn may_end(&self, node: &Arc<Node>, group: &Group) -> bool {
        self.canon.may_end(group.tail, || self.open(node, group))
    }

    /// Whether the text may end behind a context.
    pub(super) fn ends(&self, node: &Arc<Node>) -> bool {
        self.is_marginal() || (!node.blank && node.groups.iter().any(|group| self.segment_ends(node, group)))
    }

    fn segment_ends(&self, node: &Arc<Node>, group: &Group) -> bool {
        group.empty || (self.machine.can_end(group.stream) && self.may_end(node, group))
    }

    /// The hypotheses of a context, and those with a cut right here.
    fn alternatives(&self, node: &Arc<Node>) -> Vec<Group> {
        let mut all = node.groups.clone();
        for group in &node.groups {
            let stream = self.machine.cut(group.stream);
            if stream != Streaming::DEAD && !group.empty && self.may_end(node, group) {
                let cut = Group { start: node.depth(), stream, tail: Tail::Fresh, ..*group };
                if !all.contains(&cut) {
                    all.push(cut);
                }
            }
        }
        all
    }

    /// The context with one token more; `None` where that is not canonical.
    pub(super) fn child(&self, node: &Arc<Node>, id: TokenId) -> Option<Arc<Node>> {
        let token = self.bytes_of(id);
        if self.is_marginal() {
            return Some(Node::child(node, id, token.len(), Vec::new()));
        }
        let place = self.index.place(id)?;
        if !self.is_normal(node, place) {
            return None;
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut add = |group: Group| {
            if !groups.contains(&group) {
                groups.push(group);
            }
        };
        if self.added.tokens().iter().any(|(added, _)| *added == id) {
            for group in node.groups.iter().filter(|group| self.segment_ends(node, group)) {
                if let Some(runs) = self.added.pass(group.runs, token) {
                    let start = node.depth() + 1;
                    add(Group { start, stream: self.machine.start(), runs, tail: Tail::Fresh, empty: true });
                }
            }
        } else {
            for group in self.alternatives(node) {
                let Some((stream, runs)) = self.read(&group, token) else { continue };
                let Some(tail) = self.canon.next(&self.index, group.tail, id, || self.open(node, &group)) else {
                    continue;
                };
                let after = Group { stream, runs, tail, empty: false, ..group };
                if tail != Tail::Whole || self.closes(stream) {
                    add(after);
                }
            }
        }
        (!groups.is_empty()).then(|| Node::child(node, id, token.len(), groups))
    }

    fn read(&self, group: &Group, token: &[u8]) -> Option<(StateId, super::added::Runs)> {
        let (mut stream, mut runs) = (group.stream, group.runs);
        for &byte in token {
            stream = self.machine.step(stream, byte);
            if stream == Streaming::DEAD {
                return None;
            }
            runs = self.added.step(runs, byte, true)?;
        }
        Some((stream, runs))
    }

    /// Whether a pretoken may end in this state.
    fn closes(&self, stream: StateId) -> bool {
        self.machine.can_end(stream) || self.machine.cut(stream) != Streaming::DEAD
    }

    fn is_normal(&self, node: &Arc<Node>, place: u32) -> bool {
        let Some(masks) = &self.normal else { return true };
        if !masks.sound.get(place) {
            return false;
        }
        let listed = |list: &[u32]| list.binary_search(&place).is_ok();
        if !listed(&masks.marks) && !listed(&masks.middles) {
            return true;
        }
        let text = node.text_end(256, |id| self.bytes_of(id));
        masks.holds(masks.normal.window(&text), self.index.token(place))
    }

    /// The places of the tokens that may follow a context; `None` for all.
    pub(super) fn mask(&self, node: &Arc<Node>) -> Option<Arc<Bits>> {
        if self.is_marginal() && !node.lead {
            return None;
        }
        let mut mask = if self.is_marginal() { Bits::full(self.index.root().hi) } else { self.canonical_mask(node) };
        if node.lead {
            let mut space = Bits::new();
            space.insert_range(self.index.narrow(self.index.root(), 0, b' '));
            mask.and(&space);
        }
        Some(Arc::new(mask))
    }

    fn canonical_mask(&self, node: &Arc<Node>) -> Bits {
        let mut all = Bits::new();
        for group in self.alternatives(node) {
            let live = self.live.mask(&self.index, (&self.machine, &self.added), (group.stream, group.runs));
            let mut mask = (*live).clone();
            if let Some(next) = self.canon.mask(&self.index, group.tail, || self.open(node, &group)) {
                mask.and(&next);
            }
            if group.tail == Tail::Fresh {
                for &place in self.alone.iter().filter(|&&place| live.get(place)) {
                    let read = self.read(&group, self.index.token(place));
                    mask.set(place, read.is_some_and(|(stream, _)| self.closes(stream)));
                }
            }
            all.or(&mask);
        }
        for (id, token) in self.added.tokens() {
            let fits = |group: &Group| self.segment_ends(node, group) && self.added.pass(group.runs, token).is_some();
            if let Some(place) = self.index.place(*id) {
                all.set(place, node.groups.iter().any(fits));
            }
        }
        self.keep_normal(node, &mut all);
        all
    }

    fn keep_normal(&self, node: &Arc<Node>, mask: &mut Bits) {
        let Some(masks) = &self.normal else { return };
        mask.and(&masks.sound);
        let text = node.text_end(256, |id| self.bytes_of(id));
        let window = masks.normal.window(&text);
        let open = super::normal::complete_len(window) < window.len();
        let middles = if open { masks.middles.as_slice() } else { &[] };
        for &place in masks.marks.iter().chain(middles) {
            if mask.get(place) && !masks.holds(window, self.index.token(place)) {
                mask.set(place, false);
            }
        }
    }

    /// Whether some token of an interval may follow a context.
    pub(super) fn any_allowed(&self, node: &Arc<Node>, at: Interval) -> bool {
        (at.lo..at.hi).any(|place| self.child(node, self.index.id(place)).is_some())
    }
}

impl NormalMasks {
    fn new(normal: Normal, index: &VocabIndex) -> Self {
        let (mut sound, mut marks, mut middles) = (Bits::new(), Vec::new(), Vec::new());
        for place in 0..index.root().hi {
            let token = index.token(place);
            if !normal.keeps(token) {
                continue; // a stretch of a normal text is normal
            }
            sound.set(place, true);
            if token.first().is_some_and(|byte| byte & 0xC0 == 0x80) {
                middles.push(place);
            } else if !normal.stands_alone(token) {
                marks.push(place);
            }
        }
        Self { normal, sound, marks, middles }
    }

    fn holds(&self, window: &[u8], token: &[u8]) -> bool {
        self.normal.keeps(&[window, token].concat())
    }
}

fn policies_of(vocabulary: &Vocabulary, rows: usize, law: Law, given: &[(TokenId, Policy)]) -> Result<Vec<Policy>> {
    let mut all: Vec<Policy> = (0_u32..)
        .take(rows)
        .map(|id| match vocabulary.kind(id) {
            Kind::Text | Kind::Byte | Kind::Added => Policy::Text,
            Kind::Hole | Kind::Control | Kind::Unused => Policy::Forbid,
        })
        .collect();
    for &(id, policy) in given {
        let Some(slot) = all.get_mut(id as usize) else {
            let found = format!("id {id}, and the model has {rows} rows");
            return Err(Error::value("policies", found, "name ids that have a row"));
        };
        if policy == Policy::Latent && !matches!(law, Law::Marginal { .. }) {
            let found = format!("id {id} is latent under a canonical law");
            return Err(Error::value("policies", found, "use the law \"marginal\", or forbid the id"));
        }
        if policy == Policy::Text && vocabulary.token_bytes(id).is_none() {
            let found = format!("id {id} stands for no text");
            return Err(Error::value("policies", found, "use \"spell\" for the bytes of its spelling"));
        }
        *slot = policy;
    }
    if !all.iter().any(|policy| matches!(policy, Policy::Text | Policy::Spell)) {
        return Err(Error::value("tokenizer", "no token stands for text", "give the tokenizer of the model"));
    }
    Ok(all)
}
