//! The fast encoder: a walk of the byte trie from every character boundary, flat cells, cuts where no token spans.

use super::{Engine, REBASE};
use crate::bytetrie::Node;
use crate::formats::UnigramFlavour;
use crate::ids::{NO_TOKEN, TokenId};
use std::hint::select_unpredictable;

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
    /// `cells[i]`: the best path that ends `i` bytes after the segment's start. What lies beyond the segment is stale.
    cells: Vec<Cell>,
    /// The ranks of a segment's best path, last first.
    path: Vec<u32>,
}

/// The best path that ends at some place.
#[derive(Clone, Copy, Debug)]
struct Cell {
    /// Its score; minus infinity where no path ends yet.
    score: f64,
    /// Its last token.
    rank: u32,
}

const NO_PATH: Cell = Cell { score: f64::NEG_INFINITY, rank: 0 };

impl Scratch {
    /// Makes room for segments of `len` bytes.
    #[inline(always)]
    fn reserve(&mut self, len: usize) {
        if self.cells.len() <= len {
            self.cells.reserve_exact(len + 1 - self.cells.len());
            self.cells.resize(len + 1, NO_PATH);
        }
    }
}

impl Engine {
    /// Calls `emit` with every id of `piece` and the number of bytes it stands for.
    #[inline(always)]
    pub(super) fn each(&self, piece: &[u8], scratch: &mut Scratch, mut emit: impl FnMut(TokenId, usize)) {
        let mut plain = |id, _, len| emit(id, len);
        match self.flavour {
            UnigramFlavour::Tokenizers => self.segments::<false>(piece, scratch, &mut plain),
            UnigramFlavour::SentencePiece if std::str::from_utf8(piece).is_ok() => {
                self.segments::<true>(piece, scratch, &mut plain);
            }
            UnigramFlavour::SentencePiece => {
                let mended = Mended::new(piece);
                self.segments::<true>(&mended.bytes, scratch, &mut |id, start, len| {
                    emit(id, mended.original(start + len) - mended.original(start));
                });
            }
        }
    }

    /// `SINGLE`: SentencePiece's f32 sums.
    #[inline(always)]
    fn segments<const SINGLE: bool>(
        &self,
        piece: &[u8],
        scratch: &mut Scratch,
        emit: &mut impl FnMut(TokenId, usize, usize),
    ) {
        let mut unknown = Run { start: 0, len: 0 };
        let mut at = 0;
        let mut score = 0.0;
        while at < piece.len() {
            let (len, end_score) = self.forward::<SINGLE>(&piece[at..], score, scratch);
            score = end_score;
            scratch.path.clear();
            let mut end = len;
            while end > 0 {
                let rank = scratch.cells[end].rank;
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
        if scratch.cells.capacity() > KEPT {
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
    ///
    /// Not inlined: on its own the loop keeps its pointers in registers.
    #[inline(never)]
    fn forward<const SINGLE: bool>(&self, rest: &[u8], score: f64, scratch: &mut Scratch) -> (usize, f64) {
        let longest = self.trie.longest().max(4); // 4: an unknown character
        let segment = SEGMENT.max(longest);
        let mut open = rest.len().min(segment + longest); // the places up to here are in use
        scratch.reserve(open);
        let mut cells = &mut scratch.cells[..=open]; // from `start` on
        cells.fill(NO_PATH);
        cells[0].score = score;
        let mut text = rest; // from `start` on
        let mut start = 0; // a character boundary
        while !text.is_empty() {
            if start >= segment {
                // A token that spans this place has left a path to a place beyond it.
                if cells[1..].iter().take(longest).all(|cell| cell.score == f64::NEG_INFINITY) {
                    break;
                }
                let needed = rest.len().min(start + longest);
                if open < needed {
                    let grown = needed.max(start * 2).min(rest.len());
                    scratch.reserve(grown);
                    scratch.cells[open + 1..=grown].fill(NO_PATH);
                    cells = &mut scratch.cells[start..=grown];
                    open = grown;
                }
            }
            let character = character_len(text);
            let (here, ends) = cells.split_first_mut().expect("`open` is at or after `start`");
            if SINGLE && here.score.abs() > REBASE {
                // The sums of all open paths, those to places further on included, are counted from here.
                for end in ends.iter_mut().take(longest) {
                    end.score = f64::from((end.score - here.score) as f32);
                }
                here.score = 0.0;
            }
            let before = here.score;
            let (first, tail) = text.split_at(character);
            let (first_ends, tail_ends) = ends.split_at_mut(character);
            let node = self.walk::<SINGLE>(Some(self.trie.root()), first, first_ends, before);
            if node.is_none_or(|node| node.number() == 0) {
                // No token is just this character.
                let offer = sum::<SINGLE>(self.unk_score, before);
                let end = &mut first_ends[character - 1];
                if offer > end.score {
                    *end = Cell { score: offer, rank: UNKNOWN + (character as u32 - 1) }; // 1 to 4 bytes
                }
            }
            self.walk::<SINGLE>(node, tail, tail_ends, before);
            start += character;
            text = tail;
            cells = &mut ends[character - 1..];
        }
        (start, cells[0].score)
    }

    /// Goes on from `node` along `text` and offers every token on the way its end; returns the node after the whole
    /// text, `None` where no token goes on so far.
    #[inline(always)]
    fn walk<const SINGLE: bool>(
        &self,
        node: Option<Node>,
        text: &[u8],
        ends: &mut [Cell],
        before: f64,
    ) -> Option<Node> {
        let mut node = node?;
        for (&byte, end) in text.iter().zip(ends) {
            node = self.trie.child(node, byte)?;
            // Nothing here is a branch: whether a token ends, and whether its offer wins, is hard to foresee. Where
            // none ends, the offer is minus infinity.
            let rank = node.number();
            let offer = sum::<SINGLE>(self.scores[rank as usize], before);
            let better = offer > end.score;
            end.score = if better { offer } else { end.score };
            end.rank = select_unpredictable(better, rank, end.rank);
        }
        Some(node)
    }

    /// Emits a run of unknown characters and empties it. `emit` takes an id, where it starts and its length.
    #[cold]
    fn emit_unknown(&self, piece: &[u8], run: &mut Run, emit: &mut impl FnMut(TokenId, usize, usize)) {
        let bytes = &piece[run.start..run.start + run.len];
        run.len = 0;
        // `tokenizers` looks the joined text up again: with scores this far above zero it may be a token.
        if self.flavour == UnigramFlavour::Tokenizers
            && let Some(before_rank) = self.trie.get(bytes)
        {
            return emit(self.tokens[before_rank as usize + 1].0, run.start, bytes.len());
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
pub(super) fn sum<const SINGLE: bool>(score: f64, before: f64) -> f64 {
    if SINGLE { f64::from((score + before) as f32) } else { score + before }
}

/// The bytes of the first character of `bytes`, which is not empty; a byte that is not part of a well-formed sequence is
/// one.
#[inline(always)]
pub(crate) fn character_len(bytes: &[u8]) -> usize {
    let next = |byte: u8| byte & 0xc0 == 0x80;
    match *bytes {
        [0..0xc2, ..] => 1,
        [0xc2..0xe0, b, ..] if next(b) => 2,
        [0xe0, 0xa0..0xc0, c, ..] if next(c) => 3,
        [0xe1..=0xec | 0xee | 0xef, b, c, ..] if next(b) && next(c) => 3,
        [0xed, 0x80..0xa0, c, ..] if next(c) => 3,
        [0xf0, 0x90..0xc0, c, d, ..] if next(c) && next(d) => 4,
        [0xf1..=0xf3, b, c, d, ..] if next(b) && next(c) && next(d) => 4,
        [0xf4, 0x80..0x90, c, d, ..] if next(c) && next(d) => 4,
        _ => 1,
    }
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
