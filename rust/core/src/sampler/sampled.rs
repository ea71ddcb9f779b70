//! A sampled tokenizer: its tokens, and texts to ids.

use std::ops::Range;
use std::sync::Arc;

use super::count::{Places, in_parts};
use super::options::Drawn;
use crate::bytetrie::ByteTrie;
use crate::decode::byte_alphabet;
use crate::error::{Error, Result};
use crate::formats::writer::to_tokenizer_json;
use crate::formats::{Decoder, Description, Model, Normalizer, PostProcessor, Source, Spellings, Unigram};
use crate::ids::TokenId;
use crate::piececache::PieceCache;
use crate::pipeline::Cancel;
use crate::train::describe::pre_tokenizer;
use crate::train::{Cuts, Cutter};

/// A tokenizer that was sampled for one step.
///
/// It is a unigram model over bytes: within a pretoken the ids are those of the path with the greatest sum of scores. Sums
/// are f64 and run from the left; of equal ones the path whose last token starts first is taken, at every place. With
/// [`Drawn::is_greedy`] they are those of the longest token at every place instead. All bytes are tokens, so
/// every text has ids, and their bytes are the text.
#[derive(Debug)]
pub struct Sampled {
    /// All tokens end to end, in the order of their bytes; ids are 0, 1, 2, ...
    pub(super) bytes: Vec<u8>,
    /// Where each token starts, and the end.
    pub(super) offsets: Vec<usize>,
    /// The score of each token, at most 0.
    pub(super) scores: Vec<f64>,
    /// The slot of each token and the slot's birth: together they stand for the token's bytes in one sampler.
    pub(super) slots: Vec<u32>,
    pub(super) births: Vec<u64>,
    pub(super) trie: ByteTrie,
    pub(super) cutter: Arc<Cutter>,
    pub(super) cuts: Cuts,
    /// What was drawn for it.
    pub(super) drawn: Drawn,
    pub(super) step: u64,
}

/// The best path that ends at a place, and its last token.
#[derive(Clone, Copy, Debug)]
struct Cell {
    score: f64,
    id: TokenId,
    len: u32,
}

const NO_PATH: Cell = Cell { score: f64::NEG_INFINITY, id: 0, len: 0 };

/// The memory of one thread.
struct Scratch {
    cache: PieceCache,
    cells: Vec<Cell>,
    ids: Vec<TokenId>,
    ends: Places,
}

impl Sampled {
    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there are none; there are 256 at least.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// All tokens end to end, and where each starts and the last one ends.
    pub fn table(&self) -> (&[u8], &[usize]) {
        (&self.bytes, &self.offsets)
    }

    /// The bytes of an id below [`Self::len`].
    pub fn token(&self, id: TokenId) -> &[u8] {
        &self.bytes[self.offsets[id as usize]..self.offsets[id as usize + 1]]
    }

    /// The score of each token.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// The slot of each token and the slot's birth; a sampler gives the same pair to no other bytes.
    pub fn slots(&self) -> (&[u32], &[u64]) {
        (&self.slots, &self.births)
    }

    /// What was drawn for it.
    pub fn drawn(&self) -> &Drawn {
        &self.drawn
    }

    /// The step it was sampled for.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The ids of all texts, and where each text's ids start and the last one's end; the same for any number of threads.
    ///
    /// O(n · m) time, n = bytes, m = longest token; pretokens of up to 40 bytes are encoded once.
    ///
    /// # Errors
    /// Those of [`Cutter::cut`]; `Value` when `cancel` was set.
    pub fn encode_batch(&self, texts: &[&[u8]], threads: usize, cancel: &Cancel) -> Result<(Vec<TokenId>, Vec<i64>)> {
        let parts = in_parts(texts, threads, |texts| {
            let mut scratch =
                Scratch { cache: PieceCache::new(), cells: Vec::new(), ids: Vec::new(), ends: Places::default() };
            let (mut ids, mut lens) = (Vec::new(), Vec::with_capacity(texts.len()));
            for text in texts {
                let before = ids.len();
                self.encode_into(text, &mut scratch, &mut ids)?;
                lens.push(ids.len() - before);
                if cancel.is_cancelled() {
                    return Err(Error::value("encode_batch", "encoding was cancelled", ""));
                }
            }
            Ok((ids, lens))
        });
        let (mut all, mut offsets) = (Vec::new(), vec![0]);
        let mut end = 0;
        for part in parts {
            let (ids, lens) = part?;
            all.extend_from_slice(&ids);
            for len in lens {
                end += i64::try_from(len).expect("an allocation is below 2^63 bytes");
                offsets.push(end);
            }
        }
        Ok((all, offsets))
    }

    fn encode_into(&self, text: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) -> Result<()> {
        scratch.ends.0.clear();
        let _ = self.cutter.cut(text, 0..text.len(), &mut scratch.ends)?;
        let ends = std::mem::take(&mut scratch.ends);
        let mut start = 0;
        for &end in &ends.0 {
            self.piece(text, start..end, scratch, out);
            start = end;
        }
        scratch.ends = ends;
        Ok(())
    }

    /// Appends the ids of the pretoken `text[range]`.
    fn piece(&self, text: &[u8], range: Range<usize>, scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        let (start, end) = (range.start, range.end);
        let Scratch { cache, cells, ids, .. } = scratch;
        if PieceCache::is_short(end - start) {
            let key = PieceCache::short_key(text, start, end);
            if let Some(found) = cache.get_short(key) {
                return cache.write(found, out);
            }
            self.encode_piece(&text[range], cells, ids);
            cache.put_short(key, ids);
        } else if PieceCache::is_long(end - start) {
            let key = PieceCache::long_key(text, start, end);
            if let Some(found) = cache.get_long(&key) {
                return cache.write(found, out);
            }
            self.encode_piece(&text[range], cells, ids);
            cache.put_long(key, ids);
        } else {
            self.encode_piece(&text[range], cells, ids);
        }
        out.extend_from_slice(ids);
    }

    /// Puts the ids of a pretoken into `ids`.
    fn encode_piece(&self, piece: &[u8], cells: &mut Vec<Cell>, ids: &mut Vec<TokenId>) {
        ids.clear();
        if self.drawn.is_greedy {
            let mut rest = piece;
            while let Some((len, id)) = self.trie.longest_prefix(rest) {
                ids.push(id);
                rest = &rest[len..];
            }
            return;
        }
        cells.clear();
        cells.resize(piece.len() + 1, NO_PATH);
        cells[0].score = 0.0;
        for start in 0..piece.len() {
            let before = cells[start].score;
            let mut node = self.trie.root();
            for (&byte, cell) in piece[start..].iter().zip(&mut cells[start + 1..]) {
                let Some(next) = self.trie.child(node, byte) else { break };
                node = next;
                if let Some(id) = node.value() {
                    let score = before + self.scores[id as usize];
                    if score > cell.score {
                        *cell = Cell { score, id, len: self.token_len(id) };
                    }
                }
            }
        }
        let mut end = piece.len();
        while end > 0 {
            let cell = cells[end];
            ids.push(cell.id);
            end -= cell.len as usize;
        }
        ids.reverse();
    }

    #[inline]
    fn token_len(&self, id: TokenId) -> u32 {
        (self.offsets[id as usize + 1] - self.offsets[id as usize]) as u32 // tokens are under 64 KiB: `Sampler::new`
    }

    /// The tokenizer as a `tokenizer.json` that stock `tokenizers` loads: a unigram model behind the byte alphabet.
    ///
    /// # Errors
    /// `Unsupported` for a greedy tokenizer, which no stock model is, and for cuts that no component spells.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        if self.drawn.is_greedy {
            let fix = "use greedy_probability=0";
            return Err(Error::unsupported("sampled", "longest match, which no stock model does", fix));
        }
        let mut vocab = Spellings::default();
        let mut spelling = String::new();
        for (id, ends) in (0..).zip(self.offsets.windows(2)) {
            spelling.clear();
            spelling.extend(self.bytes[ends[0]..ends[1]].iter().map(|&byte| byte_alphabet::char_of(byte)));
            vocab.push(spelling.as_bytes(), id);
        }
        let model = Unigram { vocab, scores: self.scores.clone(), ..Unigram::default() };
        to_tokenizer_json(&Description {
            source: Source::TokenizerJson,
            model: Model::Unigram(model),
            piece_kinds: Vec::new(),
            added_tokens: Vec::new(),
            normalizer: Normalizer::default(),
            pre_tokenizer: pre_tokenizer(&self.cuts)?,
            post_processor: PostProcessor::None,
            decoder: Decoder::ByteLevel,
            declared_roles: Vec::new(),
            chat_template: None,
        })
    }
}
