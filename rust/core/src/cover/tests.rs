//! Brute force: tiny tokenizers of every family, whose canonical sequences and byte distributions are enumerated.

mod families;
mod fixtures;
mod laws;
mod normalizers;
mod states;
mod tokenizers;

use std::cell::RefCell;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::node::Node;
use super::reference::Reference;
use super::{CoverModel, CoverState, Exactness, Law, Needed, Policy};
use crate::formats::{Description, rwkv, tokenizer_json};
use crate::ids::{NO_TOKEN, TokenId};
use crate::index::Logits;
use crate::limits::Limits;
use crate::pipeline::{Encoder, Specials, Template};

/// Numbers from a seed (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % n
    }
}

/// Where a tokenizer puts a space of its own in front of a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lead {
    None,
    /// Always: `encode(x)` reads ` x`.
    Always,
    /// Unless there is one: `encode(x)` reads ` x` and `encode(" x")` as well.
    UnlessThere,
}

/// A tokenizer small enough to enumerate.
pub(super) struct Tiny {
    pub(super) name: &'static str,
    pub(super) encoder: Arc<Encoder>,
    pub(super) rows: usize,
    /// Units of which texts are made.
    pub(super) units: Vec<&'static [u8]>,
    pub(super) lead: Lead,
    pub(super) policies: Vec<(TokenId, Policy)>,
    /// Whether only texts count that the normalizer leaves as they are. With marks for spaces the tokens of another text
    /// may have its bytes.
    unchanged: bool,
    /// Texts that are tried as continuations, likely ones first.
    endings: Vec<Vec<u8>>,
    encodings: RefCell<FxHashMap<Vec<u8>, Vec<TokenId>>>,
    canonical: RefCell<FxHashMap<Vec<TokenId>, bool>>,
}

impl Tiny {
    /// `kept`: the bytes whose own tokens take part; those of all others are forbidden, to make enumeration short.
    pub(super) fn new(name: &'static str, description: Description, lead: Lead, units: &[&'static [u8]]) -> Self {
        let encoder = Arc::new(Encoder::new(Arc::new(description), &Limits::default()).expect(name));
        let vocabulary = Arc::clone(encoder.vocabulary().expect(name));
        let rows = vocabulary.len() + 1; // one row that is no token
        let kept: Vec<u8> = units.concat();
        let spare = |id: &TokenId| match vocabulary.token_bytes(*id) {
            Some([byte]) => !kept.contains(byte),
            _ => false,
        };
        let ids = 0..u32::try_from(vocabulary.len()).expect("tiny");
        let policies = ids.filter(spare).map(|id| (id, Policy::Forbid)).collect();
        let mut endings: Vec<Vec<u8>> = vec![Vec::new()];
        endings.extend(units.iter().map(|unit| unit.to_vec()));
        endings.extend(units.iter().flat_map(|a| units.iter().map(move |b| [*a, *b].concat())));
        let few: Vec<_> = units.iter().copied().take(6).collect();
        for a in &few {
            for b in &few {
                endings.extend(few.iter().map(|c| [*a, *b, *c].concat()));
            }
        }
        Self {
            name,
            encoder,
            rows,
            units: units.to_vec(),
            lead,
            policies,
            unchanged: false,
            endings,
            encodings: RefCell::default(),
            canonical: RefCell::default(),
        }
    }

    pub(super) fn model(&self, law: Law) -> Arc<CoverModel> {
        self.model_with(law, &[])
    }

    pub(super) fn model_with(&self, law: Law, more: &[(TokenId, Policy)]) -> Arc<CoverModel> {
        let policies = [&self.policies[..], more].concat();
        let model = CoverModel::new(&self.encoder, self.rows, law, &policies, &Limits::default()).expect(self.name);
        if !matches!(law, Law::Marginal { .. }) {
            assert_eq!(*model.exactness(), Exactness::Exact, "{}", self.name);
        }
        Arc::new(model)
    }

    /// The ids of a text that has its first space already.
    pub(super) fn encode(&self, text: &[u8]) -> Vec<TokenId> {
        if let Some(ids) = self.encodings.borrow().get(text) {
            return ids.clone();
        }
        let own = match (self.lead, text) {
            (Lead::Always, [b' ', rest @ ..]) => rest,
            _ => text,
        };
        let ids = self.encoder.encode(own, Specials::Text, Template::Without).expect(self.name);
        self.encodings.borrow_mut().insert(text.to_vec(), ids.clone());
        ids
    }

    pub(super) fn bytes(&self, ids: &[TokenId]) -> Vec<u8> {
        let vocabulary = self.encoder.vocabulary().expect(self.name);
        ids.iter().flat_map(|&id| vocabulary.token_bytes(id).unwrap_or_default()).copied().collect()
    }

    /// Whether some text's encoding begins with the ids, as far as [`Self::endings`] tell.
    pub(super) fn is_canonical(&self, ids: &[TokenId]) -> bool {
        if let Some(&known) = self.canonical.borrow().get(ids) {
            return known;
        }
        let found = match ids {
            [] => true,
            [before @ .., _] => self.is_canonical(before) && self.continues(ids),
        };
        self.canonical.borrow_mut().insert(ids.to_vec(), found);
        found
    }

    fn continues(&self, ids: &[TokenId]) -> bool {
        let mut text = self.bytes(ids);
        if self.lead != Lead::None && text[0] != b' ' {
            return false;
        }
        let len = text.len();
        self.endings.iter().any(|ending| {
            text.truncate(len);
            text.extend_from_slice(ending);
            (!self.unchanged || self.stays(&text)) && self.encode(&text).starts_with(ids)
        })
    }

    /// The same, for a normalizer that maps characters or takes white space away.
    pub(super) fn of_unchanged_texts(self) -> Self {
        Self { unchanged: true, ..self }
    }

    /// Whether the normalizer leaves a text with its first space as it is, but for marks, which the text has none of.
    fn stays(&self, text: &[u8]) -> bool {
        let mark = "▁".as_bytes();
        let normal = |text: &[u8]| {
            let mut normal = self.encoder.normalize(text).expect(self.name);
            while let Some(at) = normal.windows(mark.len()).position(|part| part == mark) {
                normal.splice(at..at + mark.len(), *b" ");
            }
            normal
        };
        let stays = match (self.lead, text) {
            (Lead::Always, [b' ', rest @ ..]) => normal(rest) == text,
            (Lead::UnlessThere, [b' ', rest @ ..]) => normal(rest) == rest || normal(text) == text,
            _ => normal(text) == text,
        };
        stays && !text.windows(mark.len()).any(|part| part == mark)
    }

    /// Whether the ids are the encoding of their bytes.
    pub(super) fn is_complete(&self, ids: &[TokenId]) -> bool {
        let text = self.bytes(ids);
        ids.is_empty() || ((self.lead == Lead::None || text != b" ") && self.encode(&text) == ids)
    }

    /// Everything about the laws that is not a policy of the caller's.
    pub(super) fn reference<'t>(
        &'t self,
        model: &CoverModel,
        logits: &'t dyn Fn(&[TokenId]) -> Vec<f32>,
        canonical: &'t dyn Fn(&[TokenId]) -> bool,
        complete: &'t dyn Fn(&[TokenId]) -> bool,
    ) -> Reference<'t> {
        let index = model.index();
        let tokens = (0..index.root().hi).map(|place| (index.id(place), index.token(place).to_vec()));
        Reference {
            tokens: tokens.collect(),
            ends: model.ends.clone(),
            drops: model.drops.clone(),
            latents: model.latents.clone(),
            lead: self.lead != Lead::None,
            logits,
            canonical,
            complete,
        }
    }

    pub(super) fn text(&self, random: &mut Random, units: usize) -> Vec<u8> {
        (0..units).flat_map(|_| self.units[random.below(self.units.len())]).copied().collect()
    }

    /// A text with the space in front that the tokenizer writes.
    pub(super) fn internal(&self, text: &[u8]) -> Vec<u8> {
        let lead: &[u8] = if self.lead == Lead::None { b"" } else { b" " };
        [lead, text].concat()
    }
}

/// A model: logits that are a hash of the context.
#[derive(Clone, Copy)]
pub(super) struct Fake {
    pub(super) rows: usize,
    pub(super) seed: u64,
    /// Logits lie between minus this and this.
    pub(super) spread: f32,
    /// One id in so many is impossible; 0 for none.
    pub(super) never: u64,
}

impl Fake {
    pub(super) fn logits(&self, context: &[TokenId]) -> Vec<f32> {
        let mut random = Random(self.seed);
        for &id in context {
            random.0 = (random.next() ^ u64::from(id)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        }
        random.next();
        let row = |_| {
            let raw = random.next() >> 40;
            let part = raw as f32 / (1 << 24) as f32;
            let never = self.never > 0 && random.next() >> 20 & 0xFFFF < 0xFFFF / self.never;
            if never { f32::NEG_INFINITY } else { (2.0 * part - 1.0) * self.spread }
        };
        (0..self.rows).map(row).collect()
    }
}

/// Answers what a state asks, as a backend does; remembers the contexts it was asked about.
pub(super) struct Backend {
    pub(super) fake: Fake,
    contexts: FxHashMap<u64, Vec<TokenId>>,
    pub(super) asked: usize,
}

impl Backend {
    pub(super) fn new(fake: Fake) -> Self {
        Self { fake, contexts: FxHashMap::default(), asked: 0 }
    }

    pub(super) fn answer(&mut self, needed: &Needed, mut feed: impl FnMut(u64, Logits<'_>)) {
        for ((&id, parent), &token) in needed.ids.iter().zip(&needed.parents).zip(&needed.tokens) {
            let context = match *parent {
                u64::MAX => Vec::new(),
                parent => {
                    let before = self.contexts.get(&parent).expect("a parent is asked about before its children");
                    [&before[..], &[token]].concat()
                }
            };
            assert_eq!(token == NO_TOKEN, *parent == u64::MAX);
            feed(id, Logits::F32(&self.fake.logits(&context)));
            self.contexts.insert(id, context);
            self.asked += 1;
        }
    }

    pub(super) fn fill(&mut self, state: &mut CoverState, mass_only: bool) {
        loop {
            let needed = state.needed(mass_only);
            if needed.ids.is_empty() {
                return;
            }
            self.answer(&needed, |id, logits| state.feed(id, logits).expect("wanted"));
        }
    }
}

/// Fails unless two log probabilities agree: each is a sum of fewer than 2¹⁰ terms of at most 6 tokens' logits up to
/// 50 nats, rounded in f64, so 2⁻³² is far above what may differ and far below what a wrong term makes.
#[track_caller]
pub(super) fn agree(found: f64, wanted: f64, what: &dyn Fn() -> String) {
    if found == wanted {
        return;
    }
    let tolerance = 2.0_f64.powi(-32) * (1.0 + wanted.abs());
    assert!((found - wanted).abs() <= tolerance, "{found} and {wanted}: {}", what());
}

/// The node of some ids, by the model's own rules.
pub(super) fn node_of(model: &CoverModel, ids: &[TokenId]) -> Option<Arc<Node>> {
    ids.iter().try_fold(model.root(true), |node, &id| model.child(&node, id))
}

fn json(text: &serde_json::Value) -> Description {
    tokenizer_json::read(text.to_string().as_bytes(), &Limits::default()).expect("a sound tokenizer.json")
}

fn trie(lines: &str) -> Description {
    rwkv::read(lines.as_bytes(), &Limits::default()).expect("a sound vocabulary")
}
