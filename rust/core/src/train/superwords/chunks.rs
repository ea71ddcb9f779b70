//! Random cuts: training text in chunks that hold several words, and parts of words.
//!
//! Sharthak et al. 2025, arXiv:2505.09738. The chunks exist while a tokenizer is trained; the tokenizer itself cuts
//! nothing. Unlike in the published code, every byte of a document is in exactly one chunk, no separator is put into the
//! text, and a document is always cut in the same places: they depend on its bytes and the seed alone.

use std::ops::{ControlFlow, Range};

use unicode_segmentation::UnicodeSegmentation;

use crate::error::{Error, Result};
use crate::train::cutter::{Cuts, PieceSink};

/// The published lengths in characters: the shorter one of each pair of lengths, and its weight in thousandths.
///
/// The weights sum to 1.100 as published; they are taken as shares of their sum. Of the two lengths `n` and `n + 1` of
/// a pair each is drawn half of the time.
pub const LENGTHS: [(usize, u64); 10] =
    [(4, 44), (6, 91), (8, 146), (10, 171), (12, 185), (14, 171), (16, 146), (18, 91), (20, 44), (22, 11)];

/// Fewer characters than this at the end of a document are one chunk.
pub const REST: usize = 4;

/// Where documents may be cut.
#[derive(Clone, Debug, PartialEq)]
pub enum At {
    /// Between characters (Unicode scalar values), after lengths drawn from [`LENGTHS`].
    Characters,
    /// The same, counted in extended grapheme clusters: no base letter is cut from its marks.
    Graphemes,
    /// Between pretokens: each boundary with this probability.
    Pretokens {
        /// From 0 to 1.
        probability: f64,
        /// How pretokens are found; no recipe.
        cuts: Box<Cuts>,
    },
}

/// How documents are cut at random.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunks {
    /// Another seed gives other cuts.
    pub seed: u64,
    /// Each document is cut anew so many times, and all chunks count.
    pub resamplings: u32,
    /// Where.
    pub at: At,
}

impl Chunks {
    /// # Errors
    /// `Value` for no resampling, or a probability outside of 0..=1.
    pub fn check(&self) -> Result<()> {
        if self.resamplings == 0 {
            return Err(Error::value("resamplings", "0", "use at least 1"));
        }
        match self.at {
            At::Pretokens { probability, .. } if !(0.0..=1.0).contains(&probability) => {
                Err(Error::value("probability", probability.to_string(), "use a number from 0 to 1"))
            }
            _ => Ok(()),
        }
    }

    /// Hands the chunks of a document to `sink`, those of all resamplings one after the other.
    pub(in crate::train) fn cut(&self, text: &[u8], pretokens: &[u32], sink: &mut impl PieceSink) -> ControlFlow<()> {
        let document = hash(text, self.seed);
        for resampling in 0..self.resamplings {
            let mut random = Random::new(document, resampling);
            match &self.at {
                At::Characters => by_length(text, &mut random, after_characters, sink)?,
                At::Graphemes => by_length(text, &mut random, after_graphemes, sink)?,
                At::Pretokens { probability, .. } => by_pretokens(text, pretokens, &mut random, *probability, sink)?,
            }
        }
        ControlFlow::Continue(())
    }
}

/// Cuts after lengths that are drawn; `after(text, from, n)` is the place `n` units behind `from`, or the end, and
/// whether there were so many.
fn by_length(
    text: &[u8],
    random: &mut Random,
    after: impl Fn(&[u8], usize, usize) -> (usize, bool),
    sink: &mut impl PieceSink,
) -> ControlFlow<()> {
    let mut start = 0;
    while start < text.len() {
        let end = match after(text, start, REST) {
            (end, false) => end,
            (_, true) => after(text, start, random.length()).0,
        };
        sink.piece(text, start..end)?;
        start = end;
    }
    ControlFlow::Continue(())
}

fn by_pretokens(
    text: &[u8],
    ends: &[u32],
    random: &mut Random,
    probability: f64,
    sink: &mut impl PieceSink,
) -> ControlFlow<()> {
    let mut start = 0;
    for &end in ends {
        let end = end as usize;
        if (end == text.len() || random.share() < probability) && end > start {
            sink.piece(text, start..end)?;
            start = end;
        }
    }
    ControlFlow::Continue(())
}

/// Bytes of the character at `at`; a byte that begins no character is one by itself.
fn character(text: &[u8], at: usize) -> usize {
    let length = match text[at] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return 1,
    };
    match text.get(at..at + length) {
        Some(bytes) if bytes[1..].iter().all(|byte| byte & 0xC0 == 0x80) => length,
        _ => 1,
    }
}

fn after_characters(text: &[u8], from: usize, n: usize) -> (usize, bool) {
    let mut at = from;
    for _ in 0..n {
        if at == text.len() {
            return (at, false);
        }
        at += character(text, at);
    }
    (at, true)
}

fn after_graphemes(text: &[u8], from: usize, n: usize) -> (usize, bool) {
    let (mut at, mut left) = (from, n);
    while left > 0 {
        // As far as the text is UTF-8; far more bytes than a chunk has are not looked at.
        let window = &text[at..text.len().min(at + WINDOW)];
        let valid = match std::str::from_utf8(window) {
            Ok(valid) => valid,
            Err(e) => std::str::from_utf8(&window[..e.valid_up_to()]).unwrap_or_default(),
        };
        if valid.is_empty() {
            if at == text.len() {
                return (at, false);
            }
            at += 1; // a byte of no character
            left -= 1;
            continue;
        }
        for cluster in valid.graphemes(true).take(left) {
            at += cluster.len();
            left -= 1;
        }
    }
    (at, true)
}

/// Bytes looked at for grapheme clusters; a cluster that is longer is cut between characters.
const WINDOW: usize = 1 << 10;

/// A hash that is the same on every machine and in every version: cuts depend on it.
fn hash(text: &[u8], seed: u64) -> u64 {
    let step = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(0x9E37_79B9_7F4A_7C15_u64);
        (product as u64 ^ (product >> 64) as u64).wrapping_add(0xD6E8_FEB8_6659_FD93)
    };
    let (words, rest) = text.as_chunks::<8>();
    let state = words.iter().fold(step(seed, text.len() as u64), |state, word| step(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(state, u64::from_le_bytes(last))
}

/// SplitMix64 (Steele et al. 2014).
struct Random(u64);

impl Random {
    fn new(document: u64, resampling: u32) -> Self {
        let mut first = Self(document ^ u64::from(resampling).wrapping_mul(0xA076_1D64_78BD_642F));
        Self(first.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`; the error of a share is under n / 2^64.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// From 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn length(&mut self) -> usize {
        let total = LENGTHS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.below(total);
        for (shorter, weight) in LENGTHS {
            if at < weight {
                return shorter + usize::from(self.below(2) == 1);
            }
            at -= weight;
        }
        LENGTHS[LENGTHS.len() - 1].0 // not reached: `at` is below the sum of the weights
    }
}

/// Collects where pieces end.
pub(in crate::train) struct Ends(pub(in crate::train) Vec<u32>);

impl PieceSink for Ends {
    fn piece(&mut self, _: &[u8], range: Range<usize>) -> ControlFlow<()> {
        self.0.push(u32::try_from(range.end).expect("a document is shorter than 4 GiB: checked by the cutter"));
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Collect(Vec<Vec<u8>>);

    impl PieceSink for Collect {
        fn piece(&mut self, text: &[u8], range: Range<usize>) -> ControlFlow<()> {
            self.0.push(text[range].to_vec());
            ControlFlow::Continue(())
        }
    }

    fn chunks(text: &[u8], seed: u64, resamplings: u32, at: At) -> Vec<Vec<u8>> {
        let mut all = Collect::default();
        assert!(Chunks { seed, resamplings, at }.cut(text, &[], &mut all).is_continue());
        all.0
    }

    #[test]
    fn lengths_follow_the_published_weights_as_shares_of_their_sum() {
        let text = "äbcdé".repeat(40_000);
        let all = chunks(text.as_bytes(), 7, 1, At::Characters);
        let (last, whole) = all.split_last().expect("many");
        let mut found = [0_u64; 24];
        for chunk in whole {
            found[std::str::from_utf8(chunk).expect("cut between characters").chars().count()] += 1;
        }
        assert!(last.len() <= 23 * 2);
        let n = whole.len() as f64;
        // Chi-square of 20 cells, 19 degrees of freedom: over 50 with probability 1.3e-4, for this one fixed seed.
        let mut chi = 0.0;
        for (shorter, weight) in LENGTHS {
            for length in [shorter, shorter + 1] {
                let expected = n * weight as f64 / 2200.0;
                chi += (found[length] as f64 - expected).powi(2) / expected;
            }
        }
        assert_eq!(found[..4].iter().sum::<u64>(), 0);
        assert!(chi < 50.0, "{chi} for {n} chunks");
    }

    #[test]
    fn no_byte_is_lost_at_any_length_and_no_character_cut() {
        let text = "aé漢😀 x\u{301}\r\n".repeat(7);
        for end in 0..text.len() {
            let bytes = &text.as_bytes()[..end]; // cut-off characters at the end are bytes like any other
            for at in [At::Characters, At::Graphemes] {
                let all = chunks(bytes, 3, 1, at);
                assert_eq!(all.concat(), bytes);
                let is_start = |i: usize| i == end || text.is_char_boundary(i) || !text.is_char_boundary(end);
                let mut place = 0;
                assert!(all.iter().all(|chunk| {
                    place += chunk.len();
                    is_start(place)
                }));
            }
        }
    }

    #[test]
    fn fewer_than_four_characters_at_the_end_are_one_chunk() {
        for text in ["a", "äö", "漢字か"] {
            assert_eq!(chunks(text.as_bytes(), 0, 1, At::Characters), [text.as_bytes()]);
        }
    }

    #[test]
    fn graphemes_keep_marks_with_their_letters() {
        let text = "e\u{301}\u{302}".repeat(300);
        for chunk in chunks(text.as_bytes(), 5, 1, At::Graphemes) {
            assert!(chunk.starts_with(b"e"));
        }
    }

    #[test]
    fn cuts_depend_on_the_document_the_seed_and_the_resampling() {
        let text = "the quick brown fox jumps over the lazy dog ".repeat(9);
        let one = chunks(text.as_bytes(), 1, 1, At::Characters);
        assert_eq!(one, chunks(text.as_bytes(), 1, 1, At::Characters));
        assert_ne!(one, chunks(text.as_bytes(), 2, 1, At::Characters));
        let other = text.replacen('t', "T", 1);
        let lengths = |all: &[Vec<u8>]| all.iter().map(Vec::len).collect::<Vec<_>>();
        assert_ne!(lengths(&one), lengths(&chunks(other.as_bytes(), 1, 1, At::Characters)));
        let three = chunks(text.as_bytes(), 1, 3, At::Characters);
        assert_eq!(three[..one.len()], one);
        assert_eq!(three.concat(), text.repeat(3).as_bytes());
        assert_ne!(three[one.len()..2 * one.len()], one);
    }

    #[test]
    fn long_runs_of_one_character_are_kept() {
        let text = "=".repeat(200); // the published code deletes runs of seven
        assert_eq!(chunks(text.as_bytes(), 0, 1, At::Characters).concat(), text.as_bytes());
    }
}
