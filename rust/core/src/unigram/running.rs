//! The dynamic programme read character by character: what a text that still grows has settled.
//!
//! [`Engine::encode`] goes from every place to the ends of the tokens that begin there; here every new end looks back at
//! the places where a token may have begun. The offers to one end come in the same order with the same numbers, so the
//! same one wins. A place is kept while some token goes on from it over the end: a handful of them, however long the
//! text is.

use std::hash::{Hash, Hasher};

use super::encode::sum;
use super::{Engine, REBASE};
use crate::bytetrie::Node;
use crate::formats::UnigramFlavour;
use crate::ids::{NO_TOKEN, TokenId};

/// A text as far as its next tokens depend on it. Built by [`Engine::begin`] and [`Engine::step`].
///
/// Two that are equal go on alike, with the same sums.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// The text behind the first of `starts`.
    open: Vec<u8>,
    /// Where a token may begin that ends beyond the text, ascending; the end of the text is the last.
    starts: Vec<Start>,
}

/// A place of the text.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// How many bytes before the end.
    back: usize,
    /// The best sum of a path that ends here.
    score: f64,
    /// What the bytes from here on begin; `None` for a place from which later sums are counted, and no more.
    node: Option<Node>,
}

impl Start {
    fn is_rebased<const SINGLE: bool>(&self) -> bool {
        SINGLE && self.score.abs() > REBASE
    }
}

/// The last token of the best path to the end of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    /// Its bytes.
    pub(crate) len: usize,
    /// Whether it is a piece; else it is one unknown character.
    pub(crate) is_piece: bool,
}

impl Running {
    /// The beginnings of tokens that may go on over the end, with the sums before them, the longest first; without the
    /// end itself.
    pub(crate) fn begun(&self) -> impl Iterator<Item = (&[u8], f64)> {
        let (_, starts) = self.starts.split_last().unwrap_or((&Start { back: 0, score: 0.0, node: None }, &[]));
        starts
            .iter()
            .filter(|start| start.node.is_some())
            .map(|start| (&self.open[self.open.len() - start.back..], start.score))
    }

    /// The sum at the end.
    pub(crate) fn score(&self) -> f64 {
        self.starts.last().map_or(0.0, |start| start.score)
    }

    /// The largest sum at a place that is kept, either way.
    pub(crate) fn magnitude(&self) -> f64 {
        self.starts.iter().map(|start| start.score.abs()).fold(0.0, f64::max)
    }

    fn key(&self) -> impl Iterator<Item = (usize, u64)> {
        self.starts.iter().map(|start| (start.back, start.score.to_bits()))
    }
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        self.open == other.open && self.key().eq(other.key())
    }
}

impl Eq for Running {}

impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.open.hash(state);
        self.key().for_each(|start| start.hash(state));
    }
}

impl Engine {
    /// The empty text.
    pub(crate) fn begin(&self) -> Running {
        Running { open: Vec::new(), starts: vec![Start { back: 0, score: 0.0, node: Some(self.trie.root()) }] }
    }

    /// Reads one more character: a well-formed one, or (`Tokenizers`) a byte that is part of none. Says by what the best
    /// path ends. O(places kept).
    pub(crate) fn step(&self, text: &mut Running, character: &[u8]) -> Last {
        match self.flavour {
            UnigramFlavour::Tokenizers => self.step_in::<false>(text, character),
            UnigramFlavour::SentencePiece => self.step_in::<true>(text, character),
        }
    }

    fn step_in<const SINGLE: bool>(&self, text: &mut Running, character: &[u8]) -> Last {
        let (mut best, mut last) = (f64::NEG_INFINITY, Last { len: 0, is_piece: false });
        let end = text.starts.len() - 1;
        for (at, start) in text.starts.iter_mut().enumerate() {
            let mut before = start.score;
            if start.is_rebased::<SINGLE>() {
                best = f64::from((best - before) as f32);
                before = 0.0;
            }
            start.back += character.len();
            start.node = start.node.and_then(|node| self.walk_on(node, character));
            let rank = start.node.map_or(0, Node::number);
            let is_piece = rank != 0;
            if !is_piece && at != end {
                continue;
            }
            let score = if is_piece { self.scores[rank as usize] } else { self.unk_score };
            let offer = sum::<SINGLE>(score, before);
            if offer > best {
                (best, last) = (offer, Last { len: start.back, is_piece });
            }
        }
        let mut is_first = true;
        text.starts.retain_mut(|start| {
            start.node = start.node.filter(|node| !node.is_leaf());
            let kept = start.node.is_some() || (!is_first && start.is_rebased::<SINGLE>());
            is_first &= !kept;
            kept
        });
        text.starts.push(Start { back: 0, score: best, node: Some(self.trie.root()) });
        text.open.extend_from_slice(character);
        text.open.drain(..text.open.len() - text.starts[0].back);
        last
    }

    /// The node behind some more bytes.
    pub(super) fn walk_on(&self, node: Node, bytes: &[u8]) -> Option<Node> {
        bytes.iter().try_fold(node, |node, &byte| self.trie.child(node, byte))
    }

    /// Which original's arithmetic.
    pub(crate) fn flavour(&self) -> UnigramFlavour {
        self.flavour
    }

    /// The id of the piece that is spelt so, where text can make it and it is not the unknown one.
    pub(crate) fn piece(&self, spelling: &[u8]) -> Option<TokenId> {
        let rank = self.trie.get(spelling)? + 1;
        (rank != self.unk_rank).then(|| self.tokens[rank as usize].0)
    }

    /// The token of a byte that unknown characters fall back to.
    pub(crate) fn byte_token(&self, byte: u8) -> Option<TokenId> {
        self.byte_ids.as_ref().map(|ids| ids[usize::from(byte)]).filter(|&id| id != NO_TOKEN)
    }

    /// What an unknown character adds to a sum.
    pub(crate) fn unk_score(&self) -> f64 {
        self.unk_score
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Kind, model};
    use super::super::{Scratch, reference};
    use super::*;
    use crate::formats::{Unigram, UnigramFlavour::*};
    use crate::limits::Limits;
    use proptest::prelude::*;

    /// Every prefix's last token is that of its encoding.
    fn agrees(model: &Unigram, text: &str) {
        let engine = Engine::new(model, &Limits::default()).expect("a good model");
        let mut running = engine.begin();
        let mut end = 0;
        for character in text.chars() {
            let last = engine.step(&mut running, character.encode_utf8(&mut [0; 4]).as_bytes());
            end += character.len_utf8();
            let found = reference::encode(model, &text.as_bytes()[..end]);
            let (id, len) = found[found.len() - 1];
            assert_eq!(last.is_piece, Some(id) != model.unk, "{model:?} {:?}", &text[..end]);
            if last.is_piece {
                assert_eq!(last.len, len, "{model:?} {:?}", &text[..end]);
            }
        }
    }

    fn pieces(scores: &[f64]) -> Vec<(&'static [u8], f64, Kind)> {
        let spellings =
            ["a", "b", "é", "ab", "ba", "aa", "aé", "aba", "bab", "éa", "abab", "baa", "éab", "aaaa", "abca"];
        let pieces = spellings.iter().zip(scores).map(|(piece, score)| (piece.as_bytes(), *score, Kind::Normal));
        std::iter::once((&b"<unk>"[..], 0.0, Kind::Unknown)).chain(pieces).collect()
    }

    proptest! {
        // Scores on a grid of quarters make many sums equal, which are then exact in both widths; the others do not.
        #[test]
        fn each_prefix_ends_as_its_encoding_does(
            grid in prop::collection::vec((-24i32..0).prop_map(|n| f64::from(n) / 4.0), 15),
            fine in prop::collection::vec(-9.0f64..0.0, 15),
            text in "[abéc]{0,24}",
        ) {
            for scores in [grid, fine] {
                for flavour in [Tokenizers, SentencePiece] {
                    agrees(&model(flavour, &pieces(&scores)), &text);
                }
            }
        }

        // Sums pass 100 000 every few tokens, where SentencePiece counts them anew.
        #[test]
        fn sums_that_are_counted_anew_end_alike(
            scores in prop::collection::vec((-9i32..9).prop_map(|n| f64::from(n) * 30_011.3), 15),
            text in "[abéc]{0,40}",
        ) {
            agrees(&model(SentencePiece, &pieces(&scores)), &text);
        }
    }

    #[test]
    fn what_lies_far_back_is_forgotten() {
        let model = model(SentencePiece, &pieces(&[-1.0, -2.0, -3.0, -2.5]));
        let engine = Engine::new(&model, &Limits::default()).expect("a good model");
        let mut running = engine.begin();
        for _ in 0..1000 {
            engine.step(&mut running, b"a");
            engine.step(&mut running, b"b");
            assert!(running.starts.len() <= 2 && running.open.len() <= 1, "{running:?}");
        }
        let mut ids = Vec::new();
        engine.encode(&b"ab".repeat(1000), &mut Scratch::default(), &mut ids);
        assert_eq!(running.score(), ids.len() as f64 * -2.5);
    }
}
