//! Unigram, as far as a next token depends on it: the running dynamic programme of [`crate::unigram`].
//!
//! A token may follow where the best path to its end takes it there, over all other paths; ties and rounding are the
//! encoder's. Best paths are prefix-closed: the path to a place is part of every best path through it. So the places
//! where tokens may have begun, with their sums, are all that is kept of the open pretoken ([`Column`]), and nothing is
//! encoded again.
//!
//! # Characters without a token
//! They are spelt by byte tokens. Bytes of a character that is still incomplete are *pending*. `tokenizers` takes bytes
//! that are no character for unknown ones, so a text may end there; SentencePiece never sees them (its normalizer writes
//! U+FFFD), so some character must be right for them that the best path then takes as unknown.
//!
//! A text that spells the unknown piece itself (`<unk>`, in letters) is none of the model's here: `tokenizers` makes the
//! unknown id of it, or bytes where an unknown character stands beside it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::canon::marked;
use super::piece::Pending;
use crate::formats::{Unigram, UnigramFlavour};
use crate::index::{Bits, VocabIndex};
use crate::pipeline::{self, Encoder};
use crate::unigram::{Candidates, Engine, Running};
use crate::vocab::{Kind, Vocabulary};

/// Pretokens of more bytes hardly come again: their masks are not kept.
const COMES_AGAIN: usize = 48;

/// The canonical test of a Unigram model.
pub(super) struct Viterbi {
    encoder: Arc<Encoder>,
    /// The character that a space of the text stands for in the model's input.
    mark: Option<char>,
    candidates: Candidates,
    /// Pieces of text, as places; all others are never taken as such.
    text: Bits,
    /// Byte tokens by place.
    bytes: Vec<(u32, u8)>,
    fresh: Column,
}

/// An open pretoken.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Its characters.
    running: Running,
    /// Bytes of one more.
    pending: Pending,
    /// How many bytes it has in all, which nothing depends on.
    len: usize,
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.pending == other.pending && self.running == other.running
    }
}

impl Eq for Column {}

impl Hash for Column {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.running.hash(state);
        self.pending.hash(state);
    }
}

impl Column {
    /// Whether other texts are likely to have this one.
    pub(super) fn comes_again(&self) -> bool {
        self.len <= COMES_AGAIN
    }
}

impl Viterbi {
    /// `Err` says what of the model has no running form.
    pub(super) fn new(
        encoder: &Arc<Encoder>,
        model: &Unigram,
        mark: Option<char>,
        (vocabulary, index): (&Vocabulary, &VocabIndex),
    ) -> Result<Self, String> {
        let engine = encoder.unigram().ok_or("a Unigram model without its encoder")?;
        if model.vocab.iter().any(|(piece, _)| std::str::from_utf8(piece).is_err()) {
            return Err("a Unigram model with pieces that are not UTF-8".to_owned());
        }
        // Below zero a run of unknown characters never beats a piece of the same text, which they would then become.
        if engine.flavour() == UnigramFlavour::Tokenizers && engine.unk_score() > 0.0 {
            return Err("a Unigram model whose unknown characters have a positive score".to_owned());
        }
        // A cut inside a character would have to be looked for behind pending bytes.
        let cuts = !pipeline::pre_tokenizer_steps(&encoder.description().pre_tokenizer).is_empty();
        if engine.flavour() == UnigramFlavour::SentencePiece && model.byte_fallback && cuts {
            return Err("a SentencePiece Unigram model with byte tokens, behind a pre-tokenizer".to_owned());
        }
        let (mut text, mut spellings) = (Bits::new(), Vec::new());
        for (place, &id) in (0_u32..).zip(index.ids()) {
            let spelling = marked(index.token(place), mark);
            if vocabulary.kind(id) != Kind::Byte
                && engine.piece(&spelling) == Some(id)
                && let Ok(spelling) = std::str::from_utf8(&spelling)
            {
                text.set(place, true);
                spellings.push((spelling.to_owned(), place));
            }
        }
        let spellings: Vec<(&str, u32)> = spellings.iter().map(|(text, place)| (&text[..], *place)).collect();
        let candidates = Candidates::new(engine, model, &spellings).map_err(|e| e.to_string())?;
        let mut bytes: Vec<(u32, u8)> = (0..=255_u8)
            .filter_map(|byte| Some((index.place(engine.byte_token(byte)?)?, byte)))
            .filter(|&(place, byte)| index.token(place) == [byte])
            .collect();
        bytes.sort_unstable();
        let fresh = Column { running: engine.begin(), pending: Pending::NONE, len: 0 };
        Ok(Self { encoder: Arc::clone(encoder), mark, candidates, text, bytes, fresh })
    }

    fn engine(&self) -> &Engine {
        self.encoder.unigram().expect("the encoder is a Unigram encoder: checked in Viterbi::new")
    }

    fn is_sentencepiece(&self) -> bool {
        self.engine().flavour() == UnigramFlavour::SentencePiece
    }

    /// Whether the pretoken may end here.
    pub(super) fn may_end(&self, column: &Column) -> bool {
        column.pending == Pending::NONE || !self.is_sentencepiece()
    }

    /// The pretoken with one token more; `None` where its encoding would be another. `None` before the first token.
    pub(super) fn next(&self, index: &VocabIndex, before: Option<&Column>, place: u32) -> Option<Column> {
        let before = before.unwrap_or(&self.fresh);
        if self.text.get(place) {
            return self.next_piece(before, index.token(place));
        }
        let at = self.bytes.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.next_byte(before, self.bytes[at].1)
    }

    fn next_piece(&self, before: &Column, token: &[u8]) -> Option<Column> {
        let mut running = self.settled(before)?;
        let spelling = marked(token, self.mark);
        let mut last = None;
        for character in std::str::from_utf8(&spelling).ok()?.chars() {
            last = Some(self.engine().step(&mut running, character.encode_utf8(&mut [0; 4]).as_bytes()));
        }
        let wins = last.is_some_and(|last| last.is_piece && last.len == spelling.len());
        wins.then(|| Column { running, pending: Pending::NONE, len: before.len + token.len() })
    }

    fn next_byte(&self, before: &Column, byte: u8) -> Option<Column> {
        if byte == b' ' && self.mark.is_some() {
            return None; // the mark stands for it, whose own bytes are others
        }
        let len = before.len + 1;
        let pending = before.pending.with(byte);
        let (buffer, width) = pending.bytes();
        let whole = |running| Column { running, pending: Pending::NONE, len };
        let after = match std::str::from_utf8(&buffer[..width]) {
            Ok(character) => whole(self.unknown(&before.running, character.as_bytes())?),
            Err(e) if e.error_len().is_none() => Column { running: before.running.clone(), pending, len },
            Err(_) if self.is_sentencepiece() => return None,
            // What was pending is no character: the byte begins anew, or is none either.
            Err(_) if width > 1 => {
                let before = Column { running: self.settled(before)?, pending: Pending::NONE, len: before.len };
                return self.next_byte(&before, byte);
            }
            Err(_) => whole(self.unknown(&before.running, &[byte])?),
        };
        (self.may_end(&after) || self.is_completed(&after)).then_some(after)
    }

    /// A text with one character more that the best path takes as unknown.
    fn unknown(&self, before: &Running, character: &[u8]) -> Option<Running> {
        let mut running = before.clone();
        let last = self.engine().step(&mut running, character);
        (!last.is_piece).then_some(running)
    }

    /// The pretoken's characters, its pending bytes taken for unknown ones; `None` where they may not be.
    fn settled(&self, column: &Column) -> Option<Running> {
        if !self.may_end(column) {
            return None;
        }
        let mut running = column.running.clone();
        let (buffer, width) = column.pending.bytes();
        for byte in &buffer[..width] {
            self.engine().step(&mut running, std::slice::from_ref(byte));
        }
        Some(running)
    }

    /// Whether some character begins with the pending bytes, falls back to byte tokens, and is taken as unknown.
    fn is_completed(&self, column: &Column) -> bool {
        let (buffer, width) = column.pending.bytes();
        let (len, lead) = match buffer[0] {
            first @ 0xC2..=0xDF => (2, first & 0x1F),
            first @ 0xE0..=0xEF => (3, first & 0x0F),
            first => (4, first & 0x07),
        };
        let begun = buffer[1..width].iter().fold(u32::from(lead), |code, byte| code << 6 | u32::from(byte & 0x3F));
        let rest = 6 * (len - width);
        let codes = begun << rest..(begun + 1) << rest;
        codes.filter_map(char::from_u32).filter(|character| character.len_utf8() == len).any(|character| {
            let mut buffer = [0; 4];
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            bytes.iter().all(|&byte| self.engine().byte_token(byte).is_some())
                && self.unknown(&column.running, bytes).is_some()
        })
    }

    /// The places of [`Self::next`].
    pub(super) fn mask(&self, index: &VocabIndex, before: Option<&Column>) -> Bits {
        let before = before.unwrap_or(&self.fresh);
        let mut mask = Bits::new();
        if let Some(running) = self.settled(before)
            && !self.candidates.winners(self.engine(), &running, |place| mask.set(place, true))
        {
            let wins = |&place: &u32| self.next_piece(before, index.token(place)).is_some();
            self.text.iter().filter(wins).for_each(|place| mask.set(place, true));
        }
        for &(place, byte) in &self.bytes {
            mask.set(place, self.next_byte(before, byte).is_some());
        }
        mask
    }
}
