//! Which token may follow in an open pretoken, so that its tokens stay what the model's encoder makes of their bytes.
//!
//! BPE is asked pair by pair ([`crate::bpe::Adjacent`]), longest-match vocabularies by the longer tokens that have begun
//! ([`super::longest`]), Unigram by the sums of its best paths ([`super::viterbi`]). Where a tokenizer has no exact
//! streaming form, the whole text is encoded again.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::longest::LongestMatch;
use super::piece::{Pending, Tail};
use super::viterbi::Viterbi;
use crate::bpe::{Adjacent, AdjacentScratch, BpeEngine};
use crate::ids::TokenId;
use crate::index::{Bits, VocabIndex};
use crate::pipeline::{Encoder, mark_of};
use crate::vocab::{Kind, Vocabulary};

/// Masks kept per last token; 16 KiB each for 128,000 tokens.
const MASKS: usize = 2048;

/// A token that stands for nothing here.
const NO_PLACE: u32 = u32::MAX;

/// What is put behind a text to see whether some continuation keeps its tokens, where the cutting machine is not known.
const PROBES: [&[u8]; 9] = [b"", b" ", b"a", b"s", b"\n", b"0", b".", b"'", "é".as_bytes()];

/// A text with its spaces written as the model's input writes them.
pub(super) fn marked(bytes: &[u8], mark: Option<char>) -> Cow<'_, [u8]> {
    let Some(mark) = mark.filter(|_| bytes.contains(&b' ')) else { return Cow::Borrowed(bytes) };
    let mut buffer = [0; 4];
    let mark = mark.encode_utf8(&mut buffer).as_bytes();
    bytes.iter().flat_map(|b| if *b == b' ' { mark } else { std::slice::from_ref(b) }).copied().collect()
}

/// The canonical test of one tokenizer.
pub(super) enum Canon {
    /// Every sequence may be continued by every token.
    All,
    /// Pair by pair.
    Bpe(Box<BpeCanon>),
    /// By the longer tokens that have begun.
    Longest(LongestMatch),
    /// By the best paths.
    Viterbi(Box<Viterbi>),
    /// By encoding again.
    Again(Again),
}

/// Byte-pair encoding.
pub(super) struct BpeCanon {
    encoder: Arc<Encoder>,
    adjacent: Adjacent,
    /// The character that a space of the text stands for.
    mark: Option<char>,
    scratch: Mutex<AdjacentScratch>,
    /// Byte tokens by id, where characters fall back to them.
    bytes: FxHashMap<TokenId, u8>,
    /// Canonical tokens that are no byte tokens, as places.
    text: Bits,
    /// The place of each of [`Adjacent::canonical`].
    places: Vec<u32>,
    masks: Mutex<FxHashMap<(TokenId, Pending), Arc<Bits>>>,
}

/// Encoding the whole text again, with a few continuations.
pub(super) struct Again {
    encoder: Arc<Encoder>,
}

impl BpeCanon {
    /// `None` where the symbols of a text depend on more than its characters, or a space has no symbol: it is then
    /// written as the bytes of the mark, which are not those of the text.
    pub(super) fn new(encoder: &Arc<Encoder>, vocabulary: &Vocabulary, index: &VocabIndex) -> Option<Self> {
        let engine = encoder.bpe()?;
        let mark = mark_of(encoder.description());
        if mark.is_some_and(|mark| !engine.knows_char(mark)) {
            return None;
        }
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
        let places = adjacent.canonical().iter().map(|&id| index.place(id).unwrap_or(NO_PLACE)).collect();
        let encoder = Arc::clone(encoder);
        let (scratch, masks) = (Mutex::default(), Mutex::default());
        Some(Self { encoder, adjacent, places, mark, scratch, bytes, text, masks })
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
                let known = self.engine().knows_char(c) || (c == ' ' && self.mark.is_some());
                (!known).then_some(Pending::NONE)
            }
            // More bytes may come.
            Err(e) if e.error_len().is_none() => Some(next),
            // What was pending is no character: the byte begins anew.
            Err(_) if len > 1 => self.byte_step(Pending::NONE, byte),
            Err(_) => Some(Pending::NONE),
        }
    }

    /// The token that a pretoken is as a whole, under `ignore_merges`.
    fn whole(&self, bytes: &[u8]) -> Option<TokenId> {
        let mark = self.mark.filter(|_| !self.encoder.is_marked());
        self.engine().whole(&marked(bytes, mark))
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
        (self.whole(index.token(place)) == Some(id)).then_some(Tail::Whole)
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
        let known = self.masks.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(mask) = known {
            return mask;
        }
        let mut mask = self.text.clone();
        if !self.bytes.contains_key(&last) {
            let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let bridged = self.engine().bridged(&self.adjacent, last, &mut scratch);
            for (word, &bits) in bridged.iter().enumerate() {
                let mut bits = bits;
                while bits != 0 {
                    let place = self.places[word * 64 + bits.trailing_zeros() as usize];
                    bits &= bits - 1;
                    if place != NO_PLACE {
                        mask.set(place, false);
                    }
                }
            }
        }
        self.add_bytes(index, pending, &mut mask);
        let mask = Arc::new(mask);
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub(super) fn new(encoder: &Arc<Encoder>) -> Self {
        Self { encoder: Arc::clone(encoder) }
    }

    /// The places among `live` that may follow. O(places · bytes of the text · continuations).
    fn mask(&self, index: &VocabIndex, live: &Bits, mut open: Open) -> Bits {
        let len = open.bytes.len();
        let mut mask = Bits::new();
        for place in live.iter() {
            open.push(index.id(place), index.token(place));
            mask.set(place, self.holds(&open));
            open.pop(len);
        }
        mask
    }

    /// Whether some continuation keeps the tokens.
    fn holds(&self, open: &Open) -> bool {
        let mut text = open.bytes.clone();
        PROBES.iter().any(|probe| {
            text.truncate(open.bytes.len());
            text.extend_from_slice(probe);
            self.encoder.encode_as_text(&text).is_ok_and(|found| found.starts_with(&open.ids))
        })
    }

    /// Whether the tokens are the encoding of the whole text.
    fn is_all(&self, text: &Open) -> bool {
        self.encoder.encode_as_text(&text.bytes).is_ok_and(|found| found == text.ids)
    }
}

/// The tokens of an open pretoken and their bytes.
#[derive(Clone, Default)]
pub(super) struct Open {
    pub(super) bytes: Vec<u8>,
    pub(super) ids: Vec<TokenId>,
}

impl Open {
    pub(super) fn push(&mut self, id: TokenId, token: &[u8]) {
        self.ids.push(id);
        self.bytes.extend_from_slice(token);
    }

    /// Takes the last token away, before which there were `len` bytes.
    pub(super) fn pop(&mut self, len: usize) {
        self.ids.pop();
        self.bytes.truncate(len);
    }
}

impl Canon {
    /// The tail behind one more token of the open pretoken; `None` where its encoding would be another.
    pub(super) fn next(
        &self,
        index: &VocabIndex,
        tail: &Tail,
        id: TokenId,
        open: impl FnOnce() -> Open,
    ) -> Option<Tail> {
        match (self, tail) {
            (Self::All, _) => Some(Tail::Again),
            (_, Tail::Whole) => None,
            (Self::Bpe(bpe), Tail::Bpe { last, pending, .. }) => bpe.next(index, (*last, *pending), id),
            (Self::Bpe(bpe), _) => bpe.first(index, id),
            (Self::Longest(longest), tail) => {
                let before = if let Tail::Longest(matches) = tail { Some(*matches) } else { None };
                longest.pass(before, index.token(index.place(id)?)).map(Tail::Longest)
            }
            (Self::Viterbi(viterbi), tail) => {
                let column = viterbi.next(index, tail.column(), index.place(id)?)?;
                Some(Tail::Viterbi(Arc::new(column)))
            }
            (Self::Again(again), _) => {
                let mut open = open();
                open.push(id, index.token(index.place(id)?));
                again.holds(&open).then_some(Tail::Again)
            }
        }
    }

    /// Whether the open pretoken may end behind its last token.
    pub(super) fn may_end(&self, tail: &Tail, open: impl FnOnce() -> Open) -> bool {
        match (self, tail) {
            // A pretoken that is a token is that token alone.
            (Self::Bpe(bpe), Tail::Bpe { last, many, .. }) if bpe.engine().ignores_merges() => {
                bpe.whole(&open().bytes).is_none_or(|id| !many && id == *last)
            }
            (Self::Viterbi(viterbi), Tail::Viterbi(column)) => viterbi.may_end(column),
            (Self::Again(again), _) => again.is_all(&open()),
            _ => true,
        }
    }

    /// Whether some text goes on behind the open pretoken as far as its encoding goes, whatever it is.
    pub(super) fn is_settled(&self, tail: &Tail) -> bool {
        match (self, tail) {
            (Self::Bpe(bpe), Tail::Bpe { .. }) => !bpe.engine().ignores_merges(),
            (Self::Again(_), _) => false,
            _ => true,
        }
    }

    /// Whether more than the tail has to be known of the open pretoken.
    pub(super) fn needs_open(&self) -> bool {
        match self {
            Self::Bpe(bpe) => bpe.engine().ignores_merges(),
            Self::Again(_) => true,
            Self::All | Self::Longest(_) | Self::Viterbi(_) => false,
        }
    }

    pub(super) fn is_bpe(&self) -> bool {
        matches!(self, Self::Bpe(_))
    }

    /// Whether the whole text is encoded again.
    pub(super) fn is_pipeline(&self) -> bool {
        matches!(self, Self::Again(_))
    }

    /// The places, among those of `live`, of all tokens for which [`Self::next`] finds a tail, as far as the open pretoken
    /// goes, and perhaps others that are not live; `None` for all.
    ///
    /// Tokens that only stand alone ([`Tail::Whole`]) are not among them: see [`Self::alone`].
    pub(super) fn mask(
        &self,
        index: &VocabIndex,
        tail: &Tail,
        live: &Bits,
        open: impl FnOnce() -> Open,
    ) -> Option<Arc<Bits>> {
        match (self, tail) {
            (Self::All, _) => None,
            (_, Tail::Whole) => Some(Arc::default()),
            (Self::Bpe(bpe), Tail::Bpe { last, pending, .. }) => Some(bpe.next_mask(index, *last, *pending)),
            (Self::Bpe(bpe), _) => {
                let mut mask = bpe.text.clone();
                bpe.add_bytes(index, Pending::NONE, &mut mask);
                Some(Arc::new(mask))
            }
            (Self::Longest(longest), Tail::Longest(matches)) => Some(Arc::new(longest.mask(Some(*matches), index))),
            (Self::Longest(_), _) => None,
            (Self::Viterbi(viterbi), tail) => Some(Arc::new(viterbi.mask(index, tail.column()))),
            (Self::Again(again), _) => Some(Arc::new(again.mask(index, live, open()))),
        }
    }

    /// The places of tokens that are pretokens of their own and that merges do not make (`ignore_merges`), ascending.
    pub(super) fn alone(&self, index: &VocabIndex) -> Vec<u32> {
        let Self::Bpe(bpe) = self else { return Vec::new() };
        if !bpe.engine().ignores_merges() {
            return Vec::new();
        }
        (0..index.root().hi).filter(|&place| bpe.first(index, index.id(place)) == Some(Tail::Whole)).collect()
    }
}
