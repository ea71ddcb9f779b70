//! Learning merges: the most frequent pair of neighbours becomes a token, again and again.
//!
//! Sennrich et al. 2016 (arXiv:1508.07909) over counted words, with the order of Hugging Face's trainer: of equally
//! frequent pairs the one with the smallest (left id, right id) goes first, a run of one symbol counts every overlapping
//! pair, and a word is merged from the left. Counts are 64 bits wide, where `tokenizers` 0.23 has 32.
//!
//! The input is sequences of symbols with counts, whatever a symbol is: bytes at first, tokens of another tokenizer when
//! it is extended or when merges cross words.

use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::{HashMap, HashSet};

use super::engine::{Engine, product_of};
use super::layout::Layout;
use super::pairs::key_of;
use super::tokens::Tokens;
use super::veto::Veto;
use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::pipeline::Cancel;

pub use super::length::MaxLength;

/// A merge that was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearntMerge {
    /// The left token.
    pub left: TokenId,
    /// The right token.
    pub right: TokenId,
    /// The merged token: a new id, or that of a token with the same bytes.
    pub product: TokenId,
    /// How often the pair occurred then.
    pub count: u64,
}

/// Why learning ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// There are as many tokens, or merges, as were asked for.
    Complete,
    /// No pair is left that is frequent enough.
    Exhausted,
    /// It was cancelled; what was learnt so far is right, and a part.
    Cancelled,
}

impl Stop {
    /// Its name, for other languages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Exhausted => "exhausted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What was learnt.
#[derive(Clone, Debug)]
pub struct Merges {
    /// The merges in the order of their ranks. A pair may come twice: then the last place is its rank.
    pub merges: Vec<LearntMerge>,
    /// The tokens there were, and behind them those that merges made.
    pub tokens: Tokens,
    /// Why it ended.
    pub stop: Stop,
}

/// What bounds the learning.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ends at so many tokens, those that were there included.
    pub vocab_size: usize,
    /// Ends at so many merges.
    pub max_merges: usize,
    /// Pairs that occur less often are not merged; 0 does as 1.
    pub min_frequency: u64,
    /// The longest token.
    pub max_length: MaxLength,
    /// Byte strings that no merge may make: the spellings of special tokens.
    pub reserved: Vec<Vec<u8>>,
    /// Merges that hold already, in the order of their ranks: they are carried out wherever their pairs come up, and are
    /// not among those learnt.
    pub inherited: Vec<(TokenId, TokenId, TokenId)>,
    /// Whether a merge replaces every occurrence of its pair at once. `tokenizers` leaves some where a pair arose in
    /// several steps, by words; without that the result does not depend on what is a word.
    pub every_occurrence: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            vocab_size: usize::MAX,
            max_merges: usize::MAX,
            min_frequency: 2,
            max_length: MaxLength::None,
            reserved: Vec::new(),
            inherited: Vec::new(),
            every_occurrence: false,
        }
    }
}

/// How far a training is; may be read while it runs.
#[derive(Debug, Default)]
pub struct Progress(AtomicUsize);

impl Progress {
    /// The number of merges made.
    pub fn merges(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, merges: usize) {
        self.0.store(merges, Ordering::Relaxed);
    }
}

/// Collects words and learns merges from them.
///
/// ```
/// use anyvocab_core::train::{Options, Tokens, Trainer};
///
/// let mut tokens = Tokens::new();
/// for byte in [b"a", b"b", b"c"] {
///     tokens.push(byte)?;
/// }
/// let mut trainer = Trainer::new(tokens);
/// trainer.push([0, 1, 2].into_iter(), 5)?; // `abc`, five times
/// trainer.push([0, 1].into_iter(), 2)?;
/// let learnt = trainer.train(&Options::default(), None, &Default::default(), &Default::default())?;
/// let made: Vec<&[u8]> = learnt.merges.iter().map(|m| learnt.tokens.get(m.product)).collect();
/// assert_eq!(made, [&b"ab"[..], b"abc"]);
/// # Ok::<(), anyvocab_core::Error>(())
/// ```
pub struct Trainer {
    tokens: Tokens,
    layout: Layout,
    /// Symbols of all words, those of one symbol included, weighted by their counts.
    symbols: u128,
}

impl Trainer {
    /// A trainer whose symbols are the ids of `tokens`.
    pub fn new(tokens: Tokens) -> Self {
        Self { tokens, layout: Layout::new(), symbols: 0 }
    }

    /// Makes room for so many words of so many symbols in all.
    pub fn reserve(&mut self, words: usize, symbols: usize) {
        self.layout.reserve(words, symbols);
    }

    /// Adds a word that occurs `count` times.
    ///
    /// # Errors
    /// `Value` for a symbol that is no token or has no bytes, for over 1.4 · 10^9 symbols, and for counts of pairs that
    /// add up to over 2^63.
    pub fn push(&mut self, symbols: impl Iterator<Item = TokenId>, count: u64) -> Result<()> {
        let (mut wrong, mut length) = (None, 0_u128);
        let tokens = &self.tokens;
        let symbols = symbols.inspect(|&id| {
            length += 1;
            if id as usize >= tokens.len() || tokens.get(id).is_empty() {
                wrong = Some(id);
            }
        });
        let pushed = self.layout.push(symbols, count);
        self.symbols += length * u128::from(count);
        match wrong {
            None => pushed,
            Some(id) => Err(Error::value(
                "symbols",
                format!("{id} is no token with bytes"),
                format!("symbols are ids of the {} tokens that were given", self.tokens.len()),
            )),
        }
    }

    /// The symbols.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// How many words of two symbols and more there are.
    pub fn words(&self) -> usize {
        self.layout.words()
    }

    /// Learns merges.
    ///
    /// Equals [`super::reference::train`] for every input. O(n + r · log p) for n symbols, r replaced occurrences and p
    /// distinct pairs; about 4 bytes a symbol, 4 an occurrence and 24 a pair.
    ///
    /// # Errors
    /// `Value` for an inherited merge that is none, `Limit` when a pattern of the veto passes its bound.
    pub fn train(self, options: &Options, veto: Option<&Veto>, cancel: &Cancel, progress: &Progress) -> Result<Merges> {
        let Self { mut tokens, layout, .. } = self;
        let inherited = inherited(&options.inherited, &tokens)?;
        let mut engine =
            Engine::new(layout, &tokens, options.max_length, options.min_frequency, inherited, false, cancel);
        let forbidden = Forbidden::new(&options.reserved, veto);
        let mut merges = Vec::new();
        let mut token = Vec::new();
        let stop = loop {
            engine.settle(cancel);
            if cancel.is_cancelled() {
                break Stop::Cancelled;
            }
            if tokens.len() >= options.vocab_size || merges.len() >= options.max_merges {
                break Stop::Complete;
            }
            let Some(entry) = engine.pop() else { break Stop::Exhausted };
            let (left, right) = entry.pair();
            spell(&tokens, (left, right), &mut token);
            if forbidden.forbids(&token)? {
                continue;
            }
            let product = product_of(&mut tokens, &token)?;
            engine.grow(&tokens);
            if options.every_occurrence {
                engine.merge_every(entry, product);
            } else {
                engine.merge(entry, product);
            }
            merges.push(LearntMerge { left, right, product, count: entry.count.unsigned_abs() });
            progress.set(merges.len());
        };
        Ok(Merges { merges, tokens, stop })
    }

    /// The tokens, the words, and how many symbols those have, weighted by their counts.
    pub(super) fn into_parts(self) -> (Tokens, Layout, u128) {
        (self.tokens, self.layout, self.symbols)
    }
}

/// The bytes of a pair.
pub(super) fn spell(tokens: &Tokens, (left, right): (TokenId, TokenId), out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(tokens.get(left));
    out.extend_from_slice(tokens.get(right));
}

/// No merge makes a longer token, in bytes. Spelled in the byte alphabet, where a byte is a character of one or two bytes,
/// it is within `Limits.token_bytes`: a `tokenizer.json` with a longer one could not be read back.
pub const LONGEST_TOKEN: usize = 32 << 10;

/// What no merge may make: a spelling that is reserved, what is too long, what the veto says.
pub(super) struct Forbidden<'o> {
    reserved: HashSet<&'o [u8]>,
    veto: Option<&'o Veto>,
}

impl<'o> Forbidden<'o> {
    pub(super) fn new(reserved: &'o [Vec<u8>], veto: Option<&'o Veto>) -> Self {
        Self { reserved: reserved.iter().map(Vec::as_slice).collect(), veto }
    }

    /// Whether a token may not be; the answer depends on nothing else, so a pair is skipped for ever.
    pub(super) fn forbids(&self, token: &[u8]) -> Result<bool> {
        if token.len() > LONGEST_TOKEN || self.reserved.contains(token) {
            return Ok(true);
        }
        self.veto.map_or(Ok(false), |veto| veto.forbids(token))
    }
}

/// Inherited merges by pair: rank and product; of a pair that comes twice the last rank holds, as in `tokenizers`.
pub(super) fn inherited(
    merges: &[(TokenId, TokenId, TokenId)],
    tokens: &Tokens,
) -> Result<HashMap<u64, (u32, TokenId)>> {
    let mut out = HashMap::with_capacity(merges.len());
    for (rank, &(left, right, product)) in merges.iter().enumerate() {
        let known = [left, right, product].iter().all(|&id| (id as usize) < tokens.len());
        let joins = known && {
            let (left, right) = (tokens.get(left), tokens.get(right));
            tokens.get(product).strip_prefix(left) == Some(right)
        };
        if !joins {
            let field = format!("inherited[{rank}]");
            let found = format!("{left} and {right} do not make {product}");
            return Err(Error::value(field, found, "give merges of the given tokens"));
        }
        let rank = u32::try_from(rank).map_err(|_| Error::value("inherited", "over 2^32 merges", ""))?;
        out.insert(key_of(left, right), (rank, product));
    }
    Ok(out)
}
