//! Unused pieces of SentencePiece: they take part in merging and are taken apart again at the end.

use rustc_hash::FxHashMap;

use super::symbols::Symbol;
use crate::formats::Bpe;
use crate::ids::TokenId;

/// How each unused token is taken apart.
pub(crate) struct Undo {
    /// The two sides of the merge that makes it, with the characters of the left one.
    parts: FxHashMap<TokenId, Option<(TokenId, TokenId, usize)>>,
    unk: Option<TokenId>,
}

impl Undo {
    /// `None` when no token is undone.
    pub(crate) fn new(model: &Bpe) -> Option<Self> {
        if model.undone.is_empty() {
            return None;
        }
        let mut parts: FxHashMap<_, _> = model.undone.iter().map(|&id| (id, None)).collect();
        let chars: FxHashMap<TokenId, usize> = model
            .vocab
            .iter()
            .map(|(spelling, id)| (id, spelling.iter().filter(|&&b| b & 0xC0 != 0x80).count()))
            .collect();
        for merge in &model.merges {
            if let Some(entry) = parts.get_mut(&merge.product) {
                *entry = Some((merge.left, merge.right, chars.get(&merge.left).copied().unwrap_or(0)));
            }
        }
        Some(Self { parts, unk: model.unk })
    }

    /// Takes unused symbols apart, down to used ones. O(symbols + parts); never recursive.
    pub(crate) fn apply(&self, piece: &[u8], symbols: &mut Vec<Symbol>) {
        if !symbols.iter().any(|symbol| self.parts.contains_key(&symbol.id)) {
            return;
        }
        let mut todo: Vec<Symbol> = symbols.drain(..).rev().collect();
        while let Some(symbol) = todo.pop() {
            match self.parts.get(&symbol.id) {
                None => symbols.push(symbol),
                Some(None) => {
                    if let Some(id) = self.unk {
                        symbols.push(Symbol { id, ..symbol });
                    }
                }
                Some(&Some((left, right, chars))) => {
                    let text = &piece[symbol.start as usize..symbol.end as usize];
                    let starts = text.iter().zip(0_u32..).filter(|(b, _)| **b & 0xC0 != 0x80).map(|(_, at)| at);
                    let cut = symbol.start + starts.clone().nth(chars).unwrap_or(symbol.end - symbol.start);
                    todo.push(Symbol { id: right, start: cut, end: symbol.end });
                    todo.push(Symbol { id: left, start: symbol.start, end: cut });
                }
            }
        }
    }
}
