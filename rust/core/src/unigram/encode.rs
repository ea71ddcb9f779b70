//! The fast encoder: a walk of the byte trie from every character boundary, flat cells, cuts where no token spans.

use super::{Engine, REBASE};
use crate::formats::UnigramFlavour;
use crate::ids::{NO_TOKEN, TokenId};

/// The ranks from here on are unknown characters: of one byte, of two, three and four.
pub(super) const UNKNOWN: u32 = u32::MAX - 3;

/// A piece is handed out in segments of at least so many bytes, where it has places to cut.
///
/// Long enough that a cut costs nothing per byte, short enough that a segment's memory stays in the first-level cache.
pub(super) const SEGMENT: usize = 1024;

/// Memory for so many bytes is kept between pieces; more is given back.
const KEPT: usize = 1 << 20;

/// The memory of an encoder, kept between pieces. One per thread; its contents mean nothing between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// `scores[i]`: the score of the best path that ends `i` bytes after the segment's start; NaN where none does yet; what lies beyond the segment
    /// is stale.
    scores: Vec<f64>,
    /// `ranks[i]`: the last token of that path, meaningless where there is none.
    ranks: Vec<u32>,
    /// The ranks of a segment's best path, last first.
    path: Vec<u32>,
}

impl Scratch {
    /// Makes room for segments of `len` bytes.
    fn reserve(&mut self, len: usize) {
        if self.scores.len() <= len {
            self.scores.resize(len + 1, f64::NAN);
            self.ranks.resize(len + 1, 0);
        }
    }
}

impl Engine {
    /// Calls `emit` with every id of `piece` and the number of bytes it stands for.
    #[inline(always)]
    pub(super) fn each(&self, piece: &[u8], scratch: &mut Scratch, mut emit: impl FnMut(TokenId, usize)) {
        let mut plain = |id, _, len| emit(id, len);
        let valid = std::str::from_utf8(piece).is_ok();
        match (self.flavour, valid) {
            (UnigramFlavour::Tokenizers, true) => self.segments::<false, true>(piece, scratch, &mut plain),
            (UnigramFlavour::Tokenizers, false) => self.segments::<false, false>(piece, scratch, &mut plain),
            (UnigramFlavour::SentencePiece, true) => self.segments::<true, true>(piece, scratch, &mut plain),
            (UnigramFlavour::SentencePiece, false) => {
                let mended = Mended::new(piece);
                self.segments::<true, true>(&mended.bytes, scratch, &mut |id, start, len| {
                    emit(id, mended.original(start + len) - mended.original(start));
                });
            }
        }
    }

    /// `SINGLE`: SentencePiece's f32 sums. `VALID`: `piece` is well-formed UTF-8.
    #[inline(always)]
    fn segments<const SINGLE: bool, const VALID: bool>(
        &self,
        piece: &[u8],
        scratch: &mut Scratch,
        emit: &mut impl FnMut(TokenId, usize, usize),
    ) {
        let mut unknown = Run { start: 0, len: 0 };
        let mut at = 0;
        let mut score = 0.0;
        while at < piece.len() {
            let (len, end_score) = self.forward::<SINGLE, VALID>(&piece[at..], score, scratch);
            score = end_score;
            scratch.path.clear();
            let mut end = len;
            while end > 0 {
                let rank = scratch.ranks[end];
                scratch.path.push(rank);
                end -= self.token(rank).1;
            }
            for &rank in scratch.path.iter().rev() {
                let (id, len) = self.token(rank);
                if rank >= UNKNOWN || rank == self.unk_rank {
                    if unknown.len == 0 {
                        unknown.start = at;
                    }
                    unknown.len += len;
                    if !self.fuse_unk {
                        self.emit_unknown(piece, &mut unknown, emit);
                    }
                } else {
                    if unknown.len > 0 {
                        self.emit_unknown(piece, &mut unknown, emit);
                    }
                    emit(id, at, len);
                }
                at += len;
            }
        }
        if unknown.len > 0 {
            self.emit_unknown(piece, &mut unknown, emit);
        }
        if scratch.scores.capacity() > KEPT {
            *scratch = Scratch::default();
        }
    }

    /// The id and the length of a token or of an unknown character.
    #[inline(always)]
    fn token(&self, rank: u32) -> (TokenId, usize) {
        match self.tokens.get(rank as usize) {
            Some((id, len)) => (*id, *len as usize),
            None => (NO_TOKEN, (rank - UNKNOWN) as usize + 1),
        }
    }

    /// Fills the paths of a segment of `rest`; returns its length and the score at its end.
    ///
    /// The segment ends with `rest`, or after at least [`SEGMENT`] bytes at a place that no token spans: every path goes
    /// through such a place, so what lies before it is settled. The score goes on from there, for the sums to be the
    /// same as without the cut.
    #[inline(always)]
    fn forward<const SINGLE: bool, const VALID: bool>(
        &self,
        rest: &[u8],
        score: f64,
        scratch: &mut Scratch,
    ) -> (usize, f64) {
        let longest = self.trie.longest().max(4); // 4: an unknown character
        let segment = SEGMENT.max(longest);
        let mut open = rest.len().min(segment + longest); // the places up to here are in use
        scratch.reserve(open);
        scratch.scores[..=open].fill(f64::NAN);
        scratch.scores[0] = score;
        let mut start = 0; // a character boundary
        let mut reach = 0; // the furthest end of a token that starts before `start`
        while start < rest.len() {
            if start >= segment {
                if reach == start {
                    break;
                }
                let needed = rest.len().min(start + longest);
                if open < needed {
                    let grown = needed.max(start * 2).min(rest.len());
                    scratch.reserve(grown);
                    scratch.scores[open + 1..=grown].fill(f64::NAN);
                    open = grown;
                }
            }
            let character = character_len::<VALID>(&rest[start..]);
            let mut before = scratch.scores[start];
            if SINGLE && before.abs() > REBASE {
                // The sums of all open paths, those to places further on included, are counted from here.
                for score in &mut scratch.scores[start + 1..=reach] {
                    *score = f64::from((*score - before) as f32);
                }
                before = 0.0;
                scratch.scores[start] = before;
            }
            let scores = &mut scratch.scores[start + 1..=open];
            let ranks = &mut scratch.ranks[start + 1..=open];
            let mut alone = false; // whether a token is just this character
            let mut last = 0;
            let mut node = self.trie.root();
            for (i, ((&byte, best), best_rank)) in
                rest[start..].iter().zip(scores.iter_mut()).zip(ranks.iter_mut()).enumerate()
            {
                match self.trie.child(node, byte) {
                    Some(next) => node = next,
                    None => break,
                }
                if let Some(rank) = node.value() {
                    let offer = sum::<SINGLE>(self.scores[rank as usize], before);
                    last = i + 1;
                    alone |= last == character;
                    // Not `offer > *best`: an end without a path (NaN) takes any offer.
                    #[allow(clippy::neg_cmp_op_on_partial_ord)]
                    let better = !(offer <= *best);
                    // Selected, not branched: which offer wins is hard to foresee.
                    *best = if better { offer } else { *best };
                    *best_rank = if better { rank } else { *best_rank };
                }
            }
            if !alone {
                let offer = sum::<SINGLE>(self.unk_score, before);
                last = last.max(character);
                #[allow(clippy::neg_cmp_op_on_partial_ord)]
                if !(offer <= scores[character - 1]) {
                    scores[character - 1] = offer;
                    ranks[character - 1] = UNKNOWN + (character as u32 - 1); // a character has 1 to 4 bytes
                }
            }
            reach = reach.max(start + last);
            start += character;
        }
        (start, scratch.scores[start])
    }

    /// Emits a run of unknown characters and empties it. `emit` takes an id, where it starts and its length.
    #[cold]
    fn emit_unknown(&self, piece: &[u8], run: &mut Run, emit: &mut impl FnMut(TokenId, usize, usize)) {
        let bytes = &piece[run.start..run.start + run.len];
        run.len = 0;
        // `tokenizers` looks the joined text up again: with scores this far above zero it may be a token.
        if self.flavour == UnigramFlavour::Tokenizers
            && let Some(rank) = self.trie.get(bytes)
        {
            return emit(self.tokens[rank as usize].0, run.start, bytes.len());
        }
        if let Some(ids) = &self.byte_ids
            && bytes.iter().all(|byte| ids[usize::from(*byte)] != NO_TOKEN)
        {
            return (run.start..).zip(bytes).for_each(|(at, byte)| emit(ids[usize::from(*byte)], at, 1));
        }
        if let Some(unk) = self.unk {
            emit(unk, run.start, bytes.len());
        }
    }
}

/// Unknown characters that are not emitted yet.
struct Run {
    start: usize,
    len: usize,
}

/// The sum as the implementation has it. In f32 both are exact f32 values, and an f64 has more than twice the digits of an
/// f32, so rounding their f64 sum gives the f32 sum.
#[inline(always)]
fn sum<const SINGLE: bool>(score: f64, before: f64) -> f64 {
    if SINGLE { f64::from((score + before) as f32) } else { score + before }
}

/// The bytes of the first character; a byte that is not part of a well-formed sequence is one.
#[inline(always)]
pub(super) fn character_len<const VALID: bool>(bytes: &[u8]) -> usize {
    let len = match bytes[0] {
        0..0xc0 => return 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    if VALID || bytes.get(..len).is_some_and(|bytes| std::str::from_utf8(bytes).is_ok()) { len } else { 1 }
}

/// A text with every byte outside well-formed sequences replaced by U+FFFD.
struct Mended {
    bytes: Vec<u8>,
    /// Where the replacements start.
    places: Vec<usize>,
}

impl Mended {
    fn new(text: &[u8]) -> Self {
        let (mut bytes, mut places) = (Vec::with_capacity(text.len() + 64), Vec::new());
        for chunk in text.utf8_chunks() {
            bytes.extend_from_slice(chunk.valid().as_bytes());
            for _ in chunk.invalid() {
                places.push(bytes.len());
                bytes.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        Self { bytes, places }
    }

    /// The place in the text before mending: of a replacement's three bytes the last stands for the original byte.
    fn original(&self, at: usize) -> usize {
        let before = self.places.partition_point(|place| *place < at);
        let last = before.checked_sub(1).map_or(0, |i| 2.min(at - self.places[i]));
        at - 2 * before.saturating_sub(1) - if before == 0 { 0 } else { last }
    }
}
