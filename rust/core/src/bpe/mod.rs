//! Byte-pair encoding: the exact ids of the original, from a table of merges.
//!
//! [`reference`] is the definition. [`merge`] follows it with a scan or a heap; [`cuts`] finds the places where a text
//! may be cut without changing a single id, so that most of it is short and repeats. Where there are none, as in
//! tokenizers whose tokens span words, [`levels`] keeps the merges of words apart, [`seams`] puts a text together from
//! words, and [`linear`] needs no words at all.

mod adjacent;
mod cuts;
mod fits;
mod levels;
mod linear;
mod merge;
mod reference;
mod seams;
mod symbols;
mod table;
#[cfg(test)]
mod tests;
mod undo;

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashTable;

use crate::decode::byte_alphabet;
use crate::error::Result;
use crate::formats::{Bpe, Merge, Spellings, Symbols as SymbolKind};
use crate::ids::TokenId;
pub use adjacent::{Adjacent, AdjacentScratch};
use cuts::Cuts;
use levels::Levels;
use linear::{Linear, LinearScratch};
use merge::{BytePairs, MergeScratch, SCAN_MAX};
use seams::SeamScratch;
pub(crate) use symbols::byte_token_value;
use symbols::{Symbol, Symbols};
use table::MergeTable;
use undo::Undo;

/// What the pipeline leaves to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BpeInput {
    /// Pretokens are raw bytes and spellings are written in GPT-2's byte alphabet.
    pub byte_level: bool,
    /// A space of the pretoken stands for this character.
    pub space_is: Option<char>,
}

/// A BPE model ready to encode. Immutable; one per tokenizer.
pub struct BpeEngine {
    table: MergeTable,
    symbols: Symbols,
    /// Where no merge can bridge, in texts all of whose characters have symbols; pairs of tokens then decide what is
    /// canonical there.
    cuts: Option<Cuts>,
    /// Whether this holds beside other characters too.
    local: bool,
    /// Whole pretokens that are tokens, under `ignore_merges`.
    whole: Option<Whole>,
    /// The engine of long pretokens, built when the first one comes.
    long: OnceLock<Option<Long>>,
    /// Bytes of long pretokens so far.
    long_bytes: AtomicUsize,
    undo: Option<Undo>,
    /// For pretokens of bytes.
    byte_pairs: Option<BytePairs>,
    /// Whether many tokens span words, so that long pretokens are the rule.
    spans_words: OnceLock<bool>,
    tokens: Spellings,
    input: BpeInput,
    raw: bool,
}

/// Longest pretoken, in bytes, that is merged symbol by symbol; above it the engines for long ones are faster.
const LONG_MIN: usize = 40;

/// From so many merges on, the tables are built on two threads.
const PARALLEL_MERGES: usize = 50_000;

/// So many bytes of long pretokens have their tables built, which takes as long as merging about as many.
const LONG_BUILD: usize = 1 << 20;

/// So does one pretoken of this length.
const LONG_HUGE: usize = 16 << 10;

/// Reusable buffers of one thread.
#[derive(Default)]
pub struct BpeScratch {
    symbols: Vec<Symbol>,
    merge: MergeScratch,
    linear: LinearScratch,
    seams: SeamScratch,
    /// What the first level made of a text, and the ranks of a run of it.
    words: Vec<TokenId>,
    ranks: Vec<u32>,
}

/// What encodes long pretokens.
enum Long {
    /// Words first, then what joins them.
    Levels(Box<Levels>),
    /// All merges in one.
    Linear(Box<Linear>),
}

impl BpeEngine {
    /// Builds the tables. O(vocabulary + merges).
    pub fn new(model: &Bpe, input: BpeInput) -> Result<Self> {
        let frozen: HashSet<TokenId> = model.user_defined.iter().copied().collect();
        let build_table = || {
            if frozen.is_empty() {
                return MergeTable::new(&model.merges);
            }
            // A user-defined symbol never merges, and only the search for them makes one.
            let touches = |merge: &Merge| [merge.left, merge.right, merge.product].iter().any(|id| frozen.contains(id));
            MergeTable::new(&model.merges.iter().copied().filter(|merge| !touches(merge)).collect::<Vec<_>>())
        };
        let undo = Undo::new(model);
        let build_others = || -> Result<_> {
            let symbols = Symbols::new(model, input.byte_level, input.space_is)?;
            let known = symbols.is_local_where_known() && undo.is_none();
            let cuts = if known { Cuts::new(model, input.byte_level, input.space_is == Some('▁')) } else { None };
            Ok((symbols, cuts, model.ignore_merges.then(|| Whole::new(model, input.byte_level))))
        };
        // The table takes as long as the rest together.
        let (table, others) = if model.merges.len() < PARALLEL_MERGES {
            (build_table(), build_others())
        } else {
            std::thread::scope(|scope| {
                let table = scope.spawn(build_table);
                let others = build_others();
                (table.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), others)
            })
        };
        let (symbols, cuts, whole) = others?;
        let byte_pairs = symbols.byte_symbols().filter(|_| undo.is_none());
        let byte_pairs = byte_pairs.and_then(|ids| BytePairs::new(&table, &model.merges, ids));
        Ok(Self {
            cuts,
            local: symbols.is_local(),
            whole,
            long: OnceLock::new(),
            long_bytes: AtomicUsize::new(0),
            byte_pairs,
            spans_words: OnceLock::new(),
            undo,
            tokens: model.vocab.clone(),
            input,
            raw: model.symbols == SymbolKind::RawBytes,
            table,
            symbols,
        })
    }

    /// Whether a pretoken that is a token is that token, whatever its merges make of it.
    pub fn ignores_merges(&self) -> bool {
        self.whole.is_some()
    }

    /// Whether a character of the input is a symbol, so that it never falls back to byte tokens.
    pub fn knows_char(&self, c: char) -> bool {
        self.symbols.knows_char(c)
    }

    /// The id of a pretoken that is emitted whole, without merging (`ignore_merges`).
    #[inline]
    pub fn whole(&self, piece: &[u8]) -> Option<TokenId> {
        self.whole.as_ref().and_then(|whole| whole.get(piece))
    }

    /// The end of the part of `text` that starts at `from` and may be encoded on its own; `from < text.len()`.
    #[inline]
    pub fn next_cut(&self, text: &[u8], from: usize) -> usize {
        match &self.cuts {
            Some(cuts) if self.local && self.whole.is_none() => cuts.next(text, from),
            _ => text.len(),
        }
    }

    /// Appends the ids of one pretoken. Equals [`BpeEngine::encode_reference`] for every input.
    ///
    /// O(n log n) time; buffers of 32 bytes per initial symbol.
    pub fn encode(&self, piece: &[u8], scratch: &mut BpeScratch, out: &mut Vec<TokenId>) {
        if let Some(id) = self.whole(piece) {
            out.push(id);
            return;
        }
        if piece.len() > LONG_MIN && self.encode_long(piece, scratch, out) {
            return;
        }
        if let Some(pairs) = &self.byte_pairs
            && (1..=SCAN_MAX).contains(&piece.len())
            && pairs.know(piece)
        {
            return merge::merge_bytes(&self.table, pairs, piece, &mut scratch.merge, out);
        }
        self.merge(piece, scratch);
        out.extend(scratch.symbols.iter().map(|symbol| symbol.id));
    }

    /// Encodes a long pretoken; `false` (and `out` as it was) where the engines for those do not apply.
    fn encode_long(&self, piece: &[u8], scratch: &mut BpeScratch, out: &mut Vec<TokenId>) -> bool {
        // Without `cuts` the symbols of a concatenation are not known from its parts.
        let Some(cuts) = &self.cuts else { return false };
        let long = match self.long.get() {
            None if !self.wants_long(piece) => return false,
            _ => self.long.get_or_init(|| self.build_long(cuts)),
        };
        let Some(long) = long else { return false };
        let before = out.len();
        let mut at = 0;
        while at < piece.len() {
            // Characters that fall back to byte tokens never merge: they stand between independent parts. Where they are
            // dropped or fused, they do not.
            let unknown = self.symbols.next_unknown(piece, at);
            let known = self.local || unknown.is_empty();
            if !known || !self.encode_known(long, &piece[at..unknown.start], scratch, out) {
                out.truncate(before);
                return false;
            }
            scratch.symbols.clear();
            self.symbols.write(&piece[unknown.clone()], &mut scratch.symbols);
            out.extend(scratch.symbols.iter().map(|symbol| symbol.id));
            at = unknown.end;
        }
        true
    }

    /// The same for a text all of whose characters have symbols.
    fn encode_known(&self, long: &Long, text: &[u8], scratch: &mut BpeScratch, out: &mut Vec<TokenId>) -> bool {
        let (table, symbols) = (&self.table, &self.symbols);
        match long {
            Long::Linear(linear) => {
                linear.encode((table, symbols), text, (&mut scratch.linear, &mut scratch.merge), out)
            }
            Long::Levels(levels) => {
                let mut words = std::mem::take(&mut scratch.words);
                words.clear();
                let done = levels.first(symbols).encode(text, scratch, &mut words);
                if done {
                    levels.join(&words, scratch, out);
                }
                scratch.words = words;
                done
            }
        }
    }

    fn wants_long(&self, piece: &[u8]) -> bool {
        let seen = self.long_bytes.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
        piece.len() >= LONG_HUGE || seen >= LONG_BUILD || *self.spans_words.get_or_init(|| spans_words(&self.tokens))
    }

    fn build_long(&self, cuts: &Cuts) -> Option<Long> {
        let tokens = self.token_bytes()?;
        let linear = || Some(Long::Linear(Box::new(Linear::new(tokens.iter(), &self.table).ok()?)));
        if !*self.spans_words.get_or_init(|| spans_words(&self.tokens)) {
            return linear();
        }
        let levels = Levels::new(&tokens, &self.merges(), &self.symbols, cuts);
        levels.map(|levels| Long::Levels(Box::new(levels))).or_else(linear)
    }

    /// The merges by rank, each pair once.
    fn merges(&self) -> Vec<Merge> {
        let pairs = self.table.pairs().into_iter();
        let mut merges: Vec<_> = pairs
            .map(|(left, right, rank)| Merge { left, right, product: self.table.product(left, right, rank), rank })
            .collect();
        merges.sort_unstable_by_key(|merge| (merge.rank, merge.left, merge.right));
        merges
    }

    fn build_linear(&self) -> Option<Linear> {
        Linear::new(self.token_bytes()?.iter(), &self.table).ok()
    }

    /// The bytes that tokens stand for in a pretoken.
    fn token_bytes(&self) -> Option<Spellings> {
        let mut tokens = Spellings::default();
        for (spelling, id) in self.tokens.iter() {
            let mut bytes = Vec::with_capacity(spelling.len());
            if self.raw {
                bytes.extend_from_slice(spelling);
            } else if self.input.byte_level {
                if byte_alphabet::decode_into(spelling, &mut bytes).is_none() {
                    continue;
                }
            } else if self.input.space_is.is_some() {
                if spelling.contains(&b' ') {
                    continue; // no text gives this spelling
                }
                let text = std::str::from_utf8(spelling).ok()?;
                for c in text.chars() {
                    let c = if self.input.space_is == Some(c) { ' ' } else { c };
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            } else {
                bytes.extend_from_slice(spelling);
            }
            tokens.push(&bytes, id);
        }
        Some(tokens)
    }

    /// The same, with the range of the pretoken's bytes that each id stands for.
    pub fn encode_with_spans(
        &self,
        piece: &[u8],
        scratch: &mut BpeScratch,
        out: &mut Vec<TokenId>,
        spans: &mut Vec<(u32, u32)>,
    ) {
        if let Some(id) = self.whole(piece) {
            out.push(id);
            spans.push((0, u32::try_from(piece.len()).expect("a token is far below 4 GiB")));
            return;
        }
        self.merge(piece, scratch);
        out.extend(scratch.symbols.iter().map(|symbol| symbol.id));
        spans.extend(scratch.symbols.iter().map(|symbol| (symbol.start, symbol.end)));
    }

    /// The ids of one pretoken by the definition of BPE. O(n²).
    pub fn encode_reference(&self, piece: &[u8]) -> Vec<TokenId> {
        if let Some(id) = self.whole(piece) {
            return vec![id];
        }
        let mut symbols = reference::encode(&self.table, &self.symbols, piece);
        if let Some(undo) = &self.undo {
            undo.apply(piece, &mut symbols);
        }
        symbols.into_iter().map(|symbol| symbol.id).collect()
    }

    fn merge(&self, piece: &[u8], scratch: &mut BpeScratch) {
        scratch.symbols.clear();
        self.symbols.write(piece, &mut scratch.symbols);
        merge::merge(&self.table, &mut scratch.symbols, &mut scratch.merge);
        if let Some(undo) = &self.undo {
            undo.apply(piece, &mut scratch.symbols);
        }
    }
}

/// Whether one token in a hundred has a space behind its first character: a tokenizer of superwords.
///
/// Only what is faster depends on it, and the first text waits for it: of many tokens every n-th is looked at.
fn spans_words(vocab: &Spellings) -> bool {
    const LOOK_AT: usize = 4096;
    let marks = ["Ġ", "▁", " "].map(memchr::memmem::Finder::new);
    let inner = |spelling: &[u8]| {
        let from = spelling.iter().position(|b| b.is_ascii_alphabetic()).unwrap_or(spelling.len());
        marks.iter().any(|mark| mark.find(&spelling[from..]).is_some())
    };
    let some = vocab.iter().step_by((vocab.len() / LOOK_AT).max(1));
    let (looked_at, found) =
        some.fold((0, 0), |(n, found), (spelling, _)| (n + 1, found + usize::from(inner(spelling))));
    found * 100 > looked_at
}

/// Token bytes -> id, for `ignore_merges`.
struct Whole {
    bytes: Vec<u8>,
    /// (start, length, id) of each token, by its hash.
    index: HashTable<(u32, u32, TokenId)>,
    hasher: foldhash::fast::FixedState,
    longest: usize,
}

impl Whole {
    fn new(model: &Bpe, byte_level: bool) -> Self {
        let mut this = Self {
            bytes: Vec::with_capacity(model.vocab.bytes.len()),
            index: HashTable::with_capacity(model.vocab.len()),
            hasher: foldhash::fast::FixedState::with_seed(0x616E_7976_6F63_6162),
            longest: 0,
        };
        let map = byte_level && model.symbols == SymbolKind::Chars;
        for (spelling, id) in model.vocab.iter() {
            let start = this.bytes.len();
            if map {
                if byte_alphabet::decode_into(spelling, &mut this.bytes).is_none() {
                    this.bytes.truncate(start); // no text is spelt like this
                    continue;
                }
            } else {
                this.bytes.extend_from_slice(spelling);
            }
            let len = this.bytes.len() - start;
            this.longest = this.longest.max(len);
            let hash = this.hash(&this.bytes[start..]);
            let entry = (to_u32(start), to_u32(len), id);
            let Self { bytes, index, hasher, .. } = &mut this;
            index.insert_unique(hash, entry, |&(start, len, _)| {
                use std::hash::BuildHasher;
                hasher.hash_one(&bytes[start as usize..][..len as usize])
            });
        }
        this
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        use std::hash::BuildHasher;
        self.hasher.hash_one(bytes)
    }

    fn get(&self, piece: &[u8]) -> Option<TokenId> {
        if piece.len() > self.longest {
            return None;
        }
        self.index
            .find(self.hash(piece), |&(start, len, _)| &self.bytes[start as usize..][..len as usize] == piece)
            .map(|&(_, _, id)| id)
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("spellings stay under 4 GiB: Limits.file_bytes")
}
