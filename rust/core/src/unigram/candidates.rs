//! Which tokens of a vocabulary the best path would take next, for all of them at once.
//!
//! # How
//! A token follows a text when it wins its own end against all other paths there. Those that go through the end of the
//! text are made of pieces of the token alone: which pieces end at which of its characters does not depend on the text,
//! and is written down once, for each node of the tree of all tokens' characters ([`Candidates`]). A mask is then one pass
//! over the nodes, parents first, that adds and compares. The other paths have a piece that begins before the text's end
//! and ends inside the token; those are looked up first, for the few places that [`Running`] keeps.
//!
//! Every sum is the one the encoder makes, in its order, so ties and rounding are its own.

use std::sync::{Mutex, PoisonError};

use super::encode::sum;
use super::running::Running;
use super::{Engine, REBASE};
use crate::Result;
use crate::bytetrie::{ByteTrie, Node};
use crate::formats::{Unigram, UnigramFlavour};
use crate::index::{Interval, VocabIndex};

/// No token ends at a node.
const NONE: u32 = u32::MAX;

/// A vocabulary of pieces as a tree of characters. 12 bytes an edge, 16 a node, and the trie of the nodes' characters.
pub(crate) struct Candidates {
    /// The node of every sequence of characters that begins some token, in the order of bytes.
    nodes: ByteTrie,
    /// By node, and one more: its first edge. Node 0 is the end of the text, and has none.
    edges: Vec<u32>,
    /// By edge: where the piece begins, a node further up; earlier ones first.
    from: Vec<u32>,
    /// By edge: what the piece, or the unknown character, adds.
    scores: Vec<f64>,
    /// By node: the token that ends there.
    tokens: Vec<u32>,
    /// All pieces by spelling; their ids are ranks.
    pieces: VocabIndex,
    /// No path from the end of a text to the end of a token adds more than this, either way.
    reach: f64,
    /// Sums by node, kept between masks.
    sums: Mutex<Vec<Vec<f64>>>,
}

/// The characters read so far, in building.
struct Level {
    node: u32,
    /// Bytes.
    len: usize,
    /// Nodes from which some piece may go on, with where the engine's trie stands.
    begun: Vec<(u32, Node)>,
}

impl Candidates {
    /// Prepares spellings (well-formed, each once), given with a number each. `model` is what the engine was built from.
    ///
    /// O(total characters of the spellings · places that a piece goes on from), and a sort.
    pub(crate) fn new(engine: &Engine, model: &Unigram, spellings: &[(&str, u32)]) -> Result<Self> {
        let mut sorted = spellings.to_vec();
        sorted.sort_unstable();
        let mut this = Self {
            nodes: ByteTrie::new([])?,
            edges: vec![0, 0],
            from: Vec::new(),
            scores: Vec::new(),
            tokens: vec![NONE],
            pieces: pieces_of(engine, model)?,
            reach: 0.0,
            sums: Mutex::default(),
        };
        let mut keys: Vec<(&[u8], u32)> = Vec::new();
        let mut levels = vec![Level { node: 0, len: 0, begun: Vec::new() }];
        let mut before: &[u8] = &[];
        let mut most = 0;
        for &(token, number) in &sorted {
            let shared = common(before, token.as_bytes());
            while levels.len() > 1 && levels[levels.len() - 1].len > shared {
                levels.pop();
            }
            let from = levels[levels.len() - 1].len;
            for (at, character) in token[from..].char_indices() {
                let len = from + at + character.len_utf8();
                let level = this.add(engine, &levels[levels.len() - 1], &token.as_bytes()[from + at..len]);
                keys.push((&token.as_bytes()[..len], level.node));
                levels.push(Level { len, ..level });
            }
            most = most.max(levels.len());
            this.tokens[levels[levels.len() - 1].node as usize] = number;
            before = token.as_bytes();
        }
        let largest = engine.scores[1..].iter().fold(engine.unk_score.abs(), |most, score| most.max(score.abs()));
        this.reach = largest * most as f64;
        this.nodes = ByteTrie::new(keys)?;
        Ok(this)
    }

    /// Adds the node of one more character.
    fn add(&mut self, engine: &Engine, parent: &Level, character: &[u8]) -> Level {
        let node = to_u32(self.tokens.len());
        let mut begun = Vec::new();
        let end = (parent.node, engine.trie.root());
        for &(from, at) in parent.begun.iter().chain([&end]) {
            let next = engine.walk_on(at, character);
            let rank = next.map_or(0, Node::number);
            if rank != 0 || from == parent.node {
                self.from.push(from);
                self.scores.push(if rank == 0 { engine.unk_score } else { engine.scores[rank as usize] });
            }
            begun.extend(next.filter(|next| !next.is_leaf()).map(|next| (from, next)));
        }
        self.edges.push(to_u32(self.from.len()));
        self.tokens.push(NONE);
        Level { node, len: 0, begun }
    }

    /// Calls `win` with the number of every token that the encoder would take behind the text, if the text were to end
    /// behind it; in the order of spellings. False, and nothing called, near the sums that SentencePiece counts anew: ask
    /// [`Engine::step`] there.
    ///
    /// O(nodes + edges + pieces that begin before the end and go on).
    pub(crate) fn winners(&self, engine: &Engine, text: &Running, win: impl FnMut(u32)) -> bool {
        match engine.flavour {
            UnigramFlavour::Tokenizers => self.pass::<false>(engine, text, win),
            UnigramFlavour::SentencePiece if text.magnitude() + self.reach > REBASE => return false,
            UnigramFlavour::SentencePiece => self.pass::<true>(engine, text, win),
        }
        true
    }

    fn pass<const SINGLE: bool>(&self, engine: &Engine, text: &Running, mut win: impl FnMut(u32)) {
        let kept = self.sums.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut sums = kept.unwrap_or_default();
        sums.clear();
        sums.resize(self.tokens.len(), f64::NEG_INFINITY);
        for (begun, before) in text.begun() {
            self.cross::<SINGLE>(engine, begun, before, &mut sums);
        }
        sums[0] = text.score();
        let mut lo = 0;
        for (node, (&token, &hi)) in self.tokens.iter().zip(&self.edges[1..]).enumerate().skip(1) {
            let hi = hi as usize;
            let mut best = sums[node];
            let mut is_whole = false;
            for (&from, &score) in self.from[lo..hi].iter().zip(&self.scores[lo..hi]) {
                let offer = sum::<SINGLE>(score, sums[from as usize]);
                if offer > best {
                    (best, is_whole) = (offer, from == 0);
                }
            }
            sums[node] = best;
            lo = hi;
            if is_whole && token != NONE {
                win(token);
            }
        }
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).push(sums);
    }

    /// Offers the ends of pieces that have begun before the end of the text.
    fn cross<const SINGLE: bool>(&self, engine: &Engine, begun: &[u8], before: f64, sums: &mut [f64]) {
        let mut at = self.pieces.root();
        for (depth, &byte) in (0..).zip(begun) {
            at = self.pieces.narrow(at, depth, byte);
        }
        let longer = Interval { lo: self.pieces.ending(at, to_u32(begun.len())).hi, ..at };
        // The nodes behind each byte of the piece in hand, down to the first that no token has.
        let mut path = vec![self.nodes.root()];
        let mut last: &[u8] = &[];
        for place in longer.lo..longer.hi {
            let rest = &self.pieces.token(place)[begun.len()..];
            let shared = common(last, rest);
            last = rest;
            if path.len() <= shared {
                continue; // what it shares with the last one leads nowhere already
            }
            path.truncate(shared + 1);
            for &byte in &rest[shared..] {
                match self.nodes.child(path[path.len() - 1], byte) {
                    Some(next) => path.push(next),
                    None => break,
                }
            }
            if path.len() <= rest.len() {
                continue;
            }
            if let Some(node) = path[rest.len()].value() {
                let offer = sum::<SINGLE>(engine.scores[self.pieces.id(place) as usize], before);
                let end = &mut sums[node as usize];
                *end = end.max(offer);
            }
        }
    }
}

/// The pieces that text can make, by spelling, with their ranks for ids.
fn pieces_of(engine: &Engine, model: &Unigram) -> Result<VocabIndex> {
    let mut pieces: Vec<(u32, &[u8])> =
        model.vocab.iter().filter_map(|(piece, _)| Some((engine.trie.get(piece)? + 1, piece))).collect();
    pieces.sort_unstable();
    pieces.dedup();
    VocabIndex::new(pieces.into_iter(), engine.scores.len())
}

/// How many bytes two strings share from the start.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("a vocabulary's characters stay under 4 GiB: Limits.file_bytes")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Kind, model};
    use super::*;
    use crate::formats::UnigramFlavour::*;
    use crate::limits::Limits;
    use proptest::prelude::*;

    const SPELLINGS: [&str; 16] =
        ["a", "b", "é", "ab", "ba", "aa", "aé", "aba", "bab", "éa", "abab", "baa", "éab", "aaaa", "ac", "aca"];

    /// Every token of the pass against the encoder's own steps, behind every prefix of a text.
    fn agrees(flavour: UnigramFlavour, scores: &[f64], text: &str) {
        let pieces = SPELLINGS.iter().zip(scores).map(|(piece, score)| (piece.as_bytes(), *score, Kind::Normal));
        let pieces: Vec<_> = std::iter::once((&b"<unk>"[..], -1.0, Kind::Unknown)).chain(pieces).collect();
        let model = model(flavour, &pieces);
        let engine = Engine::new(&model, &Limits::default()).expect("a good model");
        let numbered: Vec<_> = SPELLINGS.iter().copied().zip(0..).collect();
        let candidates = Candidates::new(&engine, &model, &numbered).expect("a small model");
        let mut running = engine.begin();
        for end in text.char_indices().map(|(at, _)| at).chain([text.len()]) {
            let wins = |spelling: &str| {
                let mut running = running.clone();
                let last = spelling.chars().fold(None, |_, character| {
                    Some(engine.step(&mut running, character.encode_utf8(&mut [0; 4]).as_bytes()))
                });
                last.is_some_and(|last| last.is_piece && last.len == spelling.len())
            };
            let wanted: Vec<u32> = (0..).zip(SPELLINGS).filter(|(_, token)| wins(token)).map(|(n, _)| n).collect();
            let mut found = Vec::new();
            if candidates.winners(&engine, &running, |number| found.push(number)) {
                found.sort_unstable();
                assert_eq!(found, wanted, "{flavour:?} {scores:?} behind {:?}", &text[..end]);
            } else {
                assert!(running.magnitude() + candidates.reach > REBASE && found.is_empty());
            }
            let Some(character) = text[end..].chars().next() else { return };
            engine.step(&mut running, character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    proptest! {
        #[test]
        fn the_winners_are_those_of_one_step_after_another(
            grid in prop::collection::vec((-24i32..0).prop_map(|n| f64::from(n) / 4.0), 16),
            fine in prop::collection::vec(-9.0f64..0.0, 16),
            text in "[abéc]{0,12}",
        ) {
            for scores in [grid, fine] {
                for flavour in [Tokenizers, SentencePiece] {
                    agrees(flavour, &scores, &text);
                }
            }
        }

        #[test]
        fn near_sums_that_are_counted_anew_nothing_is_said(
            scores in prop::collection::vec((-9i32..9).prop_map(|n| f64::from(n) * 3_011.3), 16),
            text in "[abéc]{0,24}",
        ) {
            agrees(SentencePiece, &scores, &text);
        }
    }
}
