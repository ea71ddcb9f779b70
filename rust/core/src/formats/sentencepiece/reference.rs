//! What a described SentencePiece BPE model does, straight from the definition. For tests: it proves descriptions, not
//! engines.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::formats::{Bpe, Decoder, Description, LeadingMark, Model, Normalizer, PieceKind};
use crate::ids::TokenId;
use crate::limits::Limits;
use crate::normalize::sentencepiece::SpNormalizer;

struct Symbol {
    text: Vec<u8>,
    id: Option<TokenId>,
    frozen: bool,
    prev: Option<usize>,
    next: Option<usize>,
}

pub(crate) struct Reference<'a> {
    bpe: &'a Bpe,
    normalizer: SpNormalizer,
    symbols: HashMap<Vec<u8>, TokenId>,
    user_defined: HashMap<Vec<u8>, TokenId>,
    longest: usize,
    merges: HashMap<(TokenId, TokenId), (u32, TokenId)>,
    parts: HashMap<TokenId, (TokenId, TokenId)>,
    byte_tokens: Vec<TokenId>,
}

impl<'a> Reference<'a> {
    pub(crate) fn new(description: &'a Description) -> Self {
        let Model::Bpe(bpe) = &description.model else { panic!("a BPE model") };
        let Normalizer::SentencePiece(spec) = &description.normalizer else { panic!("its own normalizer") };
        let mut user_defined = HashMap::new();
        let mut symbols = HashMap::new();
        for (spelling, id) in bpe.vocab.iter() {
            if bpe.user_defined.contains(&id) {
                user_defined.insert(spelling.to_vec(), id);
            } else if !bpe.never.contains(&id) {
                symbols.insert(spelling.to_vec(), id);
            }
        }
        let byte = |&(id, kind): &(TokenId, PieceKind)| match kind {
            PieceKind::Byte(b) => Some((b, id)),
            _ => None,
        };
        let mut byte_tokens: Vec<(u8, TokenId)> = description.piece_kinds.iter().filter_map(byte).collect();
        byte_tokens.sort_unstable();
        Self {
            normalizer: SpNormalizer::new(spec, &Limits::default()).expect("checked by the reader"),
            longest: user_defined.keys().map(Vec::len).max().unwrap_or(0),
            merges: bpe.merges.iter().map(|m| ((m.left, m.right), (m.rank, m.product))).collect(),
            parts: bpe
                .merges
                .iter()
                .filter(|m| bpe.undone.contains(&m.product))
                .map(|m| (m.product, (m.left, m.right)))
                .collect(),
            byte_tokens: if bpe.byte_fallback { byte_tokens.into_iter().map(|(_, id)| id).collect() } else { vec![] },
            bpe,
            symbols,
            user_defined,
        }
    }

    pub(crate) fn encode(&self, text: &[u8]) -> Vec<TokenId> {
        let mut normalized = Vec::new();
        self.normalizer.normalize(text, &mut normalized, None);
        let mut symbols = self.split(&normalized);
        self.merge(&mut symbols);
        let mut ids = Vec::new();
        let mut after_unknown = false;
        for symbol in symbols.iter().filter(|symbol| !symbol.text.is_empty()) {
            self.emit(&symbol.text, symbol.id, &mut ids, &mut after_unknown);
        }
        ids
    }

    fn split(&self, mut rest: &[u8]) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::new();
        while !rest.is_empty() {
            let found = (1..=self.longest.min(rest.len())).rev().find(|&n| self.user_defined.contains_key(&rest[..n]));
            let first = rest[..rest.len().min(4)].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
            let len = found.unwrap_or_else(|| first.map_or(1, char::len_utf8));
            let text = rest[..len].to_vec();
            let id = if found.is_some() { &self.user_defined } else { &self.symbols }.get(&text).copied();
            let at = symbols.len();
            rest = &rest[len..];
            symbols.push(Symbol {
                text,
                id,
                frozen: found.is_some(),
                prev: at.checked_sub(1),
                next: (!rest.is_empty()).then_some(at + 1),
            });
        }
        symbols
    }

    fn merge(&self, symbols: &mut [Symbol]) {
        let mut queue = BinaryHeap::new();
        let push = |queue: &mut BinaryHeap<_>, symbols: &[Symbol], left: usize, right: usize| {
            let (a, b) = (&symbols[left], &symbols[right]);
            if let (Some(l), Some(r), false) = (a.id, b.id, a.frozen || b.frozen)
                && let Some(&(rank, product)) = self.merges.get(&(l, r))
            {
                queue.push(Reverse((rank, left, right, l, r, product)));
            }
        };
        for right in 1..symbols.len() {
            push(&mut queue, symbols, right - 1, right);
        }
        while let Some(Reverse((_, left, right, l, r, product))) = queue.pop() {
            if symbols[left].next != Some(right) || symbols[left].id != Some(l) || symbols[right].id != Some(r) {
                continue;
            }
            let text = std::mem::take(&mut symbols[right].text);
            symbols[left].text.extend(text);
            symbols[left].id = Some(product);
            symbols[left].next = symbols[right].next;
            symbols[right].id = None;
            if let Some(next) = symbols[left].next {
                symbols[next].prev = Some(left);
                push(&mut queue, symbols, left, next);
            }
            if let Some(prev) = symbols[left].prev {
                push(&mut queue, symbols, prev, left);
            }
        }
    }

    fn emit(&self, text: &[u8], id: Option<TokenId>, ids: &mut Vec<TokenId>, after_unknown: &mut bool) {
        match id {
            Some(id) if !self.bpe.undone.contains(&id) => {
                ids.push(id);
                *after_unknown = false;
            }
            Some(id) if self.parts.contains_key(&id) => {
                let (left, right) = self.parts[&id];
                let at = (0..self.bpe.vocab.len()).find(|&i| self.bpe.vocab.ids[i] == left).expect("a token");
                let (a, b) = text.split_at(self.bpe.vocab.get(at).len());
                self.emit(a, Some(left), ids, after_unknown);
                self.emit(b, Some(right), ids, after_unknown);
            }
            _ if self.bpe.byte_fallback => {
                ids.extend(text.iter().map(|&b| self.byte_tokens[usize::from(b)]));
                *after_unknown = true;
            }
            _ => {
                if !*after_unknown {
                    ids.extend(self.bpe.unk);
                }
                *after_unknown = true;
            }
        }
    }
}

/// The text of some ids, as [`Decoder::SentencePiece`] says.
pub(crate) fn decode(description: &Description, ids: &[TokenId]) -> Vec<u8> {
    let vocab = match &description.model {
        Model::Bpe(model) => &model.vocab,
        Model::Unigram(model) => &model.vocab,
        _ => panic!("a SentencePiece model"),
    };
    let Decoder::SentencePiece { leading, unk_surface } = &description.decoder else { panic!("its own decoder") };
    let mut text = Vec::new();
    let mut at_start = *leading != LeadingMark::Keep;
    for &id in ids {
        let kind = description.piece_kinds.iter().find(|(known, _)| *known == id).map(|(_, kind)| *kind);
        at_start &= text.is_empty();
        match kind {
            Some(PieceKind::Control) => {}
            Some(PieceKind::Unknown) => text.extend_from_slice(unk_surface.as_bytes()),
            Some(PieceKind::Byte(b)) => text.push(b),
            None | Some(PieceKind::UserDefined | PieceKind::Unused) => {
                let mut spelling = std::str::from_utf8(vocab.get(id as usize)).expect("pieces are UTF-8");
                if at_start && let Some(rest) = spelling.strip_prefix('▁') {
                    spelling = rest;
                    at_start = *leading == LeadingMark::DropUntilText;
                }
                text.extend(spelling.replace('▁', " ").into_bytes());
            }
        }
    }
    text
}
