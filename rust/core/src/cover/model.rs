//! What depends on the vocabulary and the law alone: which token may follow a context, and what the rest is for.

use std::sync::{Arc, RwLock};

use rustc_hash::FxHashMap;

use super::added::{AddedTokens, NO_RUNS, Runs};
use super::canon::{Again, BpeCanon, Canon};
use super::longest::LongestMatch;
use super::masks::Live;
use super::node::{Node, Registry};
use super::normal::{Normal, White};
use super::normal_masks::NormalMasks;
use super::piece::{Group, Tail};
use super::viterbi::Viterbi;
use crate::error::{Error, Result};
use crate::formats::{Description, Model, PreTokenizer};
use crate::ids::TokenId;
use crate::index::{Bits, VocabIndex};
use crate::limits::Limits;
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
    /// All covers. Contexts are evaluated until no more than `eps` is missing, no more than `budget` per byte; where that
    /// does not do, the canonical ones and those whose likely share is at least a sixteenth of `eps`.
    Marginal {
        /// The part of the mass that may be missing; 0 for all contexts.
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
    pub(super) canon: Canon,
    pub(super) machine: Streaming,
    pub(super) added: AddedTokens,
    /// Whether added tokens are looked for before the text is normalized.
    pub(super) added_is_raw: bool,
    pub(super) live: Live,
    pub(super) following: RwLock<FxHashMap<(StateId, Runs, Tail), Arc<Bits>>>,
    /// Places of tokens that are pretokens of their own and that merges do not make, ascending.
    pub(super) alone: Vec<u32>,
    pub(super) normal: Option<NormalMasks>,
    /// Under the marginal law: which contexts are canonical, where that has an exact form.
    pub(super) guide: Option<Arc<CoverModel>>,
    /// Whether a text is given a space in front.
    lead: bool,
    exactness: Exactness,
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
            added_is_raw: false,
            following: RwLock::default(),
            alone: Vec::new(),
            normal: None,
            guide: None,
            lead: pipeline::puts_a_space_first(encoder.description()),
            exactness: Exactness::Exact,
            index,
        };
        if !matches!(law, Law::Marginal { .. }) {
            this.added = added;
            if let Err(reason) = this.take_canonical_test(encoder, &vocabulary, limits) {
                this.exactness = Exactness::Reencoded(reason);
                this.canon = Canon::Again(Again::new(encoder));
                this.added = AddedTokens::new(Vec::new());
                this.normal = None;
                this.machine = Streaming::new(&PreTokenizer::Sequence(Vec::new()), limits)?;
            }
            this.alone = this.canon.alone(&this.index);
        } else {
            let policy = |policy| if policy == Policy::Latent { Policy::Forbid } else { policy };
            let policies: Vec<_> = policies.iter().map(|&(id, given)| (id, policy(given))).collect();
            let guide = Self::new(encoder, rows, Law::Canonical, &policies, limits)?;
            this.guide = (guide.exactness == Exactness::Exact).then(|| Arc::new(guide));
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
        self.check_added(description)?;
        if self.lead && !self.added.is_empty() {
            return Err("added tokens in a tokenizer that writes a space before a text".to_owned());
        }
        let marked = encoder.is_marked();
        if !marked && let Some(normal) = Normal::new(description, &self.index, limits)? {
            if normal.white != White::default() && !self.added.is_empty() {
                return Err("added tokens in a tokenizer that takes white space away".to_owned());
            }
            if !self.added_is_raw
                && let Some((id, _)) = self.added.tokens().iter().find(|(_, token)| !normal.keeps(token))
            {
                return Err(format!("the added token {id}, which the normalizer changes"));
            }
            self.normal = Some(NormalMasks::new(normal, &self.index, self.lead));
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
            Model::Trie(model) => Canon::Longest(LongestMatch::new(model).map_err(|e| e.to_string())?),
            Model::Unigram(_) if pipeline::is_byte_level(description) => {
                return Err("a Unigram model of the byte alphabet".to_owned());
            }
            Model::Unigram(model) => {
                let mark = pipeline::mark_of(description);
                Canon::Viterbi(Box::new(Viterbi::new(encoder, model, mark, (vocabulary, &self.index))?))
            }
        };
        Ok(())
    }

    /// Takes over where added tokens are looked for; `Err` for what one row of added tokens and texts does not model.
    fn check_added(&mut self, description: &Description) -> std::result::Result<(), String> {
        let normalized = |id: TokenId| {
            let token = description.added_tokens.iter().find(|token| token.id == id);
            token.is_some_and(|token| token.normalized)
        };
        let tokens = self.added.tokens();
        self.added_is_raw = tokens.iter().all(|(id, _)| !normalized(*id));
        if !self.added_is_raw && !tokens.iter().all(|(id, _)| normalized(*id)) {
            return Err(
                "added tokens of which some are looked for in the raw text and some in the normalized".to_owned()
            );
        }
        let mut texts: Vec<&[u8]> = tokens.iter().map(|(_, text)| &text[..]).collect();
        texts.sort_unstable();
        if texts.windows(2).any(|two| two[0] == two[1]) {
            return Err("two added tokens of the same text".to_owned());
        }
        // A special token that is ordinary text is found all the same, and what lies in it is not looked at again.
        for special in description.added_tokens.iter().filter(|token| token.special && !self.added.has(token.id)) {
            let text = special.content.as_bytes();
            let begins = |at: usize, token: &[u8]| {
                let common = token.len().min(text.len() - at);
                token[..common] == text[at..at + common]
            };
            let hides = |token: &[u8]| (1..text.len()).any(|at| begins(at, token)) || text.starts_with(token);
            if special.normalized != self.added_is_raw && tokens.iter().any(|(_, token)| hides(token)) {
                return Err(format!("the special token {}, in which an added token may begin", special.content));
            }
        }
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

    /// Numbers of nodes that were asked for and that no state holds any more, since the last call.
    pub fn released(&self) -> Vec<u64> {
        self.registry.drain()
    }

    pub(super) fn root(&self, first: bool) -> Arc<Node> {
        let group = Group { start: 0, stream: self.machine.start(), runs: NO_RUNS, tail: Tail::Fresh, empty: true };
        Node::root(&self.registry, vec![group], first, first && self.lead)
    }

    pub(super) fn is_marginal(&self) -> bool {
        matches!(self.law, Law::Marginal { .. })
    }

    pub(super) fn bytes_of(&self, id: TokenId) -> &[u8] {
        self.index.place(id).map_or(&[], |place| self.index.token(place))
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
