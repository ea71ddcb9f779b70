//! Which token may follow in an open pretoken, so that its tokens stay what the model's encoder makes of their bytes.
//!
//! BPE is asked pair by pair ([`crate::bpe::Adjacent`]). Unigram, WordPiece and longest-match vocabularies are asked by
//! encoding again: their encodings are prefix-closed too, so one encoding per candidate decides.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::piece::{Pending, Tail};
use crate::bpe::{Adjacent, AdjacentScratch, BpeEngine};
use crate::ids::TokenId;
use crate::index::{Bits, VocabIndex};
use crate::pipeline::Encoder;
use crate::vocab::{Kind, Vocabulary};

/// Masks kept per last token; 16 KiB each for 128,000 tokens.
const MASKS: usize = 2048;

/// What is put behind a text to see whether some continuation keeps its tokens, where the cutting machine is not known.
const PROBES: [&[u8]; 9] = [b"", b" ", b"a", b"s", b"\n", b"0", b".", b"'", "é".as_bytes()];

/// The canonical test of one tokenizer.
pub(super) enum Canon {
    /// Every sequence may be continued by every token.
    All,
    /// Pair by pair.
    Bpe(Box<BpeCanon>),
    /// By encoding again.
    Again(Again),
}

/// Byte-pair encoding.
pub(super) struct BpeCanon {
    encoder: Arc<Encoder>,
    adjacent: Adjacent,
    scratch: Mutex<AdjacentScratch>,
    /// Byte tokens by id, where characters fall back to them.
    bytes: FxHashMap<TokenId, u8>,
    /// Canonical tokens that are no byte tokens, as places.
    text: Bits,
    masks: Mutex<FxHashMap<(TokenId, Pending), Arc<Bits>>>,
}

/// Encoding again.
pub(super) struct Again {
    pub(super) encoder: Arc<Encoder>,
    /// The character that a space of the text stands for in the model's input.
    pub(super) mark: Option<char>,
    /// Whether the whole pipeline is run, with a few continuations, since the way it cuts is not known.
    pub(super) pipeline: bool,
}

impl BpeCanon {
    pub(super) fn new(encoder: &Arc<Encoder>, vocabulary: &Vocabulary, index: &VocabIndex) -> Option<Self> {
        let engine = encoder.bpe()?;
        let adjacent = engine.adjacent()?;
        let bytes: FxHashMap<TokenId, u8> = index
            .ids()
            .iter()
            .filter(|&&id| vocabulary.kind(id) == Kind::Byte)
            .filter_map(|&id| vocabulary.token_bytes(id).and_then(|b| b.first().map(|&b| (id, b))))
            .collect();
        let mut text = Bits::new();
        for &id in adjacent.canonical().iter().filter(|id| !bytes.contains_key(id)) {
            if vocabulary.kind(id) == Kind::Text
                && let Some(place) = index.place(id)
            {
                text.set(place, true);
            }
        }
        Some(Self {
            encoder: Arc::clone(encoder),
            adjacent,
            scratch: Mutex::default(),
            bytes,
            text,
            masks: Mutex::default(),
        })
    }

    fn engine(&self) -> &BpeEngine {
        self.encoder.bpe().expect("the encoder is a BPE encoder: checked in BpeCanon::new")
    }

    /// What a byte token leaves pending; `None` where the character it completes has a token of its own.
    fn byte_step(&self, pending: Pending, byte: u8) -> Option<Pending> {
        let next = pending.with(byte);
        let (buffer, len) = next.bytes();
        match std::str::from_utf8(&buffer[..len]) {
            Ok(text) => {
                let c = text.chars().next()?;
                (!self.engine().knows_char(c)).then_some(Pending::NONE)
            }
            // More bytes may come.
            Err(e) if e.error_len().is_none() => Some(next),
            // What was pending is no character: the byte begins anew.
            Err(_) if len > 1 => self.byte_step(Pending::NONE, byte),
            Err(_) => Some(Pending::NONE),
        }
    }

    fn is_text(&self, index: &VocabIndex, id: TokenId) -> bool {
        index.place(id).is_some_and(|place| self.text.get(place))
    }

    fn first(&self, index: &VocabIndex, id: TokenId) -> Option<Tail> {
        if let Some(&byte) = self.bytes.get(&id) {
            let pending = self.byte_step(Pending::NONE, byte)?;
            return Some(Tail::Bpe { last: id, pending, many: false });
        }
        if self.is_text(index, id) {
            return Some(Tail::Bpe { last: id, pending: Pending::NONE, many: false });
        }
        let place = index.place(id)?;
        (self.engine().whole(index.token(place)) == Some(id)).then_some(Tail::Whole)
    }

    fn next(&self, index: &VocabIndex, (last, pending): (TokenId, Pending), id: TokenId) -> Option<Tail> {
        if let Some(&byte) = self.bytes.get(&id) {
            let pending = self.byte_step(pending, byte)?;
            return Some(Tail::Bpe { last: id, pending, many: true });
        }
        let fits = self.is_text(index, id)
            && (self.bytes.contains_key(&last) || {
                let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
                self.engine().is_pair(&self.adjacent, last, id, &mut scratch)
            });
        fits.then_some(Tail::Bpe { last: id, pending: Pending::NONE, many: true })
    }

    /// The places of [`Self::next`].
    fn next_mask(&self, index: &VocabIndex, last: TokenId, pending: Pending) -> Arc<Bits> {
        let key = (last, pending);
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mask) = masks.get(&key) {
            return Arc::clone(mask);
        }
        let mut mask = self.text.clone();
        if !self.bytes.contains_key(&last) {
            let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            self.engine().bridged(&self.adjacent, last, &mut scratch, |id| {
                if let Some(place) = index.place(id) {
                    mask.set(place, false);
                }
            });
        }
        self.add_bytes(index, pending, &mut mask);
        let mask = Arc::new(mask);
        if masks.len() >= MASKS {
            masks.clear();
        }
        masks.insert(key, Arc::clone(&mask));
        mask
    }

    fn add_bytes(&self, index: &VocabIndex, pending: Pending, mask: &mut Bits) {
        for (&id, &byte) in &self.bytes {
            if let Some(place) = index.place(id) {
                mask.set(place, self.byte_step(pending, byte).is_some());
            }
        }
    }
}

impl Again {
    fn model_text(&self, bytes: &[u8]) -> Vec<u8> {
        let Some(mark) = self.mark else { return bytes.to_vec() };
        let mut buffer = [0; 4];
        let mark = mark.encode_utf8(&mut buffer).as_bytes();
        bytes.iter().flat_map(|b| if *b == b' ' { mark } else { std::slice::from_ref(b) }).copied().collect()
    }

    /// Whether encoding the bytes gives these ids (and, with the whole pipeline, whether some continuation keeps them).
    pub(super) fn holds(&self, bytes: &[u8], ids: &[TokenId]) -> bool {
        if !self.pipeline {
            return self.encoder.encode_piece_ids(&self.model_text(bytes)) == ids;
        }
        let mut text = bytes.to_vec();
        PROBES.iter().any(|probe| {
            text.truncate(bytes.len());
            text.extend_from_slice(probe);
            self.encoder.encode_as_text(&text).is_ok_and(|found| found.starts_with(ids))
        })
    }
}

/// The tokens of an open pretoken and their bytes.
pub(super) struct Open {
    pub(super) bytes: Vec<u8>,
    pub(super) ids: Vec<TokenId>,
}

impl Canon {
    /// The tail behind one more token of the open pretoken; `None` where its encoding would be another.
    pub(super) fn next(
        &self,
        index: &VocabIndex,
        tail: Tail,
        id: TokenId,
        open: impl FnOnce() -> Open,
    ) -> Option<Tail> {
        match (self, tail) {
            (Self::All, _) => Some(Tail::Again),
            (_, Tail::Whole) => None,
            (Self::Bpe(bpe), Tail::Bpe { last, pending, .. }) => bpe.next(index, (last, pending), id),
            (Self::Bpe(bpe), _) => bpe.first(index, id),
            (Self::Again(again), _) => {
                let mut open = open();
                open.bytes.extend_from_slice(index.token(index.place(id)?));
                open.ids.push(id);
                again.holds(&open.bytes, &open.ids).then_some(Tail::Again)
            }
        }
    }

    /// Whether the open pretoken may end behind its last token.
    pub(super) fn may_end(&self, tail: Tail, open: impl FnOnce() -> Open) -> bool {
        match (self, tail) {
            (Self::Bpe(bpe), Tail::Bpe { many: true, .. }) => {
                // A pretoken that is a token is that token alone.
                !bpe.engine().ignores_merges() || bpe.engine().whole(&open().bytes).is_none()
            }
            _ => true,
        }
    }

    /// The places of all tokens for which [`Self::next`] finds a tail, as far as the open pretoken goes; `None` for all.
    ///
    /// Tokens that only stand alone ([`Tail::Whole`]) are not among them: see [`Self::alone`].
    pub(super) fn mask(&self, index: &VocabIndex, tail: Tail, open: impl FnOnce() -> Open) -> Option<Arc<Bits>> {
        match (self, tail) {
            (Self::All, _) => None,
            (_, Tail::Whole) => Some(Arc::new(Bits::new())),
            (Self::Bpe(bpe), Tail::Bpe { last, pending, .. }) => Some(bpe.next_mask(index, last, pending)),
            (Self::Bpe(bpe), _) => {
                let mut mask = bpe.text.clone();
                bpe.add_bytes(index, Pending::NONE, &mut mask);
                Some(Arc::new(mask))
            }
            (Self::Again(again), _) => {
                let open = open();
                let (bytes, ids) = (open.bytes.len(), open.ids.len());
                let (mut text, mut all) = (open.bytes, open.ids);
                let mut mask = Bits::new();
                for (place, &id) in (0_u32..).zip(index.ids()) {
                    text.truncate(bytes);
                    all.truncate(ids);
                    text.extend_from_slice(index.token(place));
                    all.push(id);
                    if again.holds(&text, &all) {
                        mask.set(place, true);
                    }
                }
                Some(Arc::new(mask))
            }
        }
    }

    /// The places of tokens that are pretokens of their own and nothing else (`ignore_merges`).
    pub(super) fn alone(&self, index: &VocabIndex) -> Vec<u32> {
        let Self::Bpe(bpe) = self else { return Vec::new() };
        if !bpe.engine().ignores_merges() {
            return Vec::new();
        }
        (0..index.root().hi).filter(|&place| bpe.first(index, index.id(place)) == Some(Tail::Whole)).collect()
    }
}
