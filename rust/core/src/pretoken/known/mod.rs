//! Patterns that published tokenizers use, recognised by their exact spelling, each with a scanner of its own.
//!
//! A [`Scanner`] finds the end of a piece from its start in one look; [`with_scanner`] runs a caller's loop with the
//! scanner of a [`Known`], compiled for it. Each equals the splits it stands for with behaviour `Isolated` (the tests
//! compare them with [`super::reference`] and with the wheels).

mod block;
mod cl100k;
mod deepseek;
mod eye;
mod gaps;
mod gpt2;
mod o200k;
pub mod spellings;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
mod sse2;

pub use cl100k::Cl100k;
pub use deepseek::{DeepSeekCoder, DeepSeekV3};
pub use gaps::{Bloom, SuperBpe};
pub use gpt2::Gpt2;
pub use o200k::O200k;

use crate::formats::description::{Pattern, PreTokenizer, SplitBehavior};
use crate::pretoken::Flavour;

/// A pattern, or a sequence of pre-tokenizers, that has a scanner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Known {
    /// GPT-2, r50k, p50k, and `ByteLevel { use_regex: true }`.
    Gpt2,
    /// `Digits { individual_digits: true }`, then GPT-2: StarCoder, Command R.
    DigitsGpt2,
    /// cl100k as first published: Llama 3, OLMo 2, Phi-4.
    Cl100k,
    /// cl100k as tiktoken spells it now: white space at the end of a text is one piece.
    Cl100kAtEnd,
    /// cl100k with contractions in ASCII only, as llama.cpp spells it.
    Cl100kAscii,
    /// Qwen 1 to 3: cl100k with single digits.
    Qwen2,
    /// Qwen 2 with contractions in ASCII only, as llama.cpp spells it.
    Qwen2Ascii,
    /// Qwen 3.5: combining marks belong to words.
    Qwen35,
    /// o200k: GPT-4o, gpt-oss, Llama 4.
    O200k,
    /// Mistral's Tekken: o200k with single digits and no contractions.
    Tekken,
    /// Kimi K2: o200k with Han apart.
    Kimi,
    /// deepseek-coder's sequence of five.
    DeepSeekCoder,
    /// The sequence of three of DeepSeek-V3 and R1.
    DeepSeekV3,
    /// The second stage of SuperBPE.
    SuperBpe,
    /// BLOOM.
    Bloom,
}

impl Known {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Gpt2,
        Self::DigitsGpt2,
        Self::Cl100k,
        Self::Cl100kAtEnd,
        Self::Cl100kAscii,
        Self::Qwen2,
        Self::Qwen2Ascii,
        Self::Qwen35,
        Self::O200k,
        Self::Tekken,
        Self::Kimi,
        Self::DeepSeekCoder,
        Self::DeepSeekV3,
        Self::SuperBpe,
        Self::Bloom,
    ];

    /// The pattern of `ByteLevel { use_regex: true }`.
    pub fn gpt2() -> Self {
        Self::Gpt2
    }

    /// The scanner of a single pattern, by its exact spelling in the syntax of `flavour`.
    pub fn of_pattern(pattern: &str, flavour: Flavour) -> Option<Self> {
        spellings::lookup(pattern, flavour)
    }

    /// Whether it is one pattern that matches every well-formed character, so that a piece is a match or a run of bytes
    /// that belong to no character.
    pub fn is_covering_pattern(self) -> bool {
        !matches!(self, Self::DigitsGpt2 | Self::DeepSeekCoder | Self::DeepSeekV3 | Self::SuperBpe | Self::Bloom)
    }
}

/// Cuts a text into pieces from the left.
///
/// Stateless: the piece that starts at a piece boundary depends on the text from there on alone.
pub trait Scanner: Copy + Send + Sync {
    /// The end of the piece that starts at `pos`, a piece boundary before the end of `text`; `> pos`.
    ///
    /// Bytes that belong to no character match nothing: with what else matches nothing, they form pieces of their own.
    /// Time in proportion to the piece and the white space behind it.
    ///
    /// # Panics
    /// When `pos >= text.len()`.
    fn next(&self, text: &[u8], pos: usize) -> usize;

    /// Places of piece ends ahead of `pos`, a piece boundary: bit `i` stands for `pos + i`.
    ///
    /// It names all ends up to the last one it names, or none (0), and then [`Self::next`] knows. [`Self::pieces`] puts
    /// the two together.
    #[inline]
    fn cuts_ahead(&self, text: &[u8], pos: usize) -> u64 {
        let _ = (text, pos);
        0
    }

    /// The ends of the pieces of `text`, from the left: the fast way over a text.
    #[inline]
    fn pieces(self, text: &[u8]) -> Pieces<'_, Self> {
        Pieces { scanner: self, text, base: 0, cuts: 0, end: 0 }
    }

    /// [`Self::next`], and how far it looked: the largest index plus one, or `text.len() + 1` when the end of the text
    /// mattered. So the piece stays as it is whatever is appended exactly when that is `<= text.len()`.
    ///
    /// Around bytes that belong to no character it may name one byte more than was needed, never over the end.
    fn next_with_reach(&self, text: &[u8], pos: usize) -> (usize, usize);
}

/// Iterator of [`Scanner::pieces`].
#[derive(Clone, Copy, Debug)]
pub struct Pieces<'t, S> {
    scanner: S,
    text: &'t [u8],
    /// Ends not yet given: bit `i` stands for `base + i`.
    cuts: u64,
    base: usize,
    /// The last end given.
    end: usize,
}

impl<S: Scanner> Iterator for Pieces<'_, S> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.cuts == 0 {
            if self.end >= self.text.len() {
                return None;
            }
            self.base = self.end;
            self.cuts = self.scanner.cuts_ahead(self.text, self.end);
            if self.cuts == 0 {
                self.end = self.scanner.next(self.text, self.end);
                return Some(self.end);
            }
        }
        self.end = self.base + self.cuts.trailing_zeros() as usize;
        self.cuts &= self.cuts - 1;
        Some(self.end)
    }
}

/// A loop that is compiled once per scanner; see [`with_scanner`].
pub trait ScannerVisitor<R> {
    /// Runs with the scanner.
    fn visit<S: Scanner>(self, scanner: S) -> R;
}

/// Runs `visitor` with the scanner of `known`.
pub fn with_scanner<R>(known: Known, visitor: impl ScannerVisitor<R>) -> R {
    match known {
        Known::Gpt2 => visitor.visit(Gpt2::<false>::new()),
        Known::DigitsGpt2 => visitor.visit(Gpt2::<true>::new()),
        Known::Cl100k => visitor.visit(Cl100k::<{ eye::UNICODE }, 3, false, false>::new()),
        Known::Cl100kAtEnd => visitor.visit(Cl100k::<{ eye::UNICODE }, 3, false, true>::new()),
        Known::Cl100kAscii => visitor.visit(Cl100k::<{ eye::ANY_ASCII }, 3, false, false>::new()),
        Known::Qwen2 => visitor.visit(Cl100k::<{ eye::UNICODE }, 1, false, false>::new()),
        Known::Qwen2Ascii => visitor.visit(Cl100k::<{ eye::ANY_ASCII }, 1, false, false>::new()),
        Known::Qwen35 => visitor.visit(Cl100k::<{ eye::UNICODE }, 1, true, false>::new()),
        Known::O200k => visitor.visit(O200k::<{ eye::UNICODE }, 3, false>::new()),
        Known::Tekken => visitor.visit(O200k::<{ eye::NONE }, 1, false>::new()),
        Known::Kimi => visitor.visit(O200k::<{ eye::UNICODE }, 3, true>::new()),
        Known::DeepSeekCoder => visitor.visit(DeepSeekCoder::new()),
        Known::DeepSeekV3 => visitor.visit(DeepSeekV3::new()),
        Known::SuperBpe => visitor.visit(SuperBpe::new()),
        Known::Bloom => visitor.visit(Bloom::new()),
    }
}

/// The scanner that cuts as the whole of `tree` does, if there is one.
///
/// Looks through sequences; a `ByteLevel` without prefix space and pattern cuts nothing, and every split must be
/// isolated and not inverted.
pub fn recognise(tree: &PreTokenizer) -> Option<Known> {
    let mut steps = Vec::new();
    flatten(tree, &mut steps);
    if let [rest @ .., PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: false, .. }] = steps.as_slice() {
        steps.truncate(rest.len());
    }
    match steps.as_slice() {
        [step] if is_gpt2(step) => Some(Known::Gpt2),
        [PreTokenizer::Digits { individual_digits: true }, step] if is_gpt2(step) => Some(Known::DigitsGpt2),
        [step] => isolated(step).and_then(|(pattern, flavour)| Known::of_pattern(pattern, flavour)),
        [a, b, c, d, PreTokenizer::Digits { individual_digits: true }]
            if all_spelt(&[a, b, c, d], &spellings::DEEPSEEK_CODER) =>
        {
            Some(Known::DeepSeekCoder)
        }
        [a, b, c]
            if all_spelt(
                &[a, b, c],
                &[spellings::DEEPSEEK_V3[0], spellings::DEEPSEEK_V3[1], spellings::DEEPSEEK_V3_TEXT],
            ) =>
        {
            Some(Known::DeepSeekV3)
        }
        _ => None,
    }
}

fn flatten<'a>(tree: &'a PreTokenizer, steps: &mut Vec<&'a PreTokenizer>) {
    match tree {
        PreTokenizer::Sequence(parts) => parts.iter().for_each(|part| flatten(part, steps)),
        step => steps.push(step),
    }
}

fn is_gpt2(step: &PreTokenizer) -> bool {
    matches!(step, PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: true, .. })
        || isolated(step).and_then(|(pattern, flavour)| Known::of_pattern(pattern, flavour)) == Some(Known::Gpt2)
}

/// The pattern of an isolated split.
fn isolated(step: &PreTokenizer) -> Option<(&str, Flavour)> {
    match step {
        PreTokenizer::Split { pattern, behavior: SplitBehavior::Isolated, invert: false } => match pattern {
            Pattern::Regex(text) => Some((text, Flavour::Oniguruma)),
            Pattern::FancyRegex(text) => Some((text, Flavour::FancyRegex)),
            Pattern::Literal(_) => None,
        },
        _ => None,
    }
}

fn all_spelt(steps: &[&PreTokenizer], patterns: &[&str]) -> bool {
    steps.len() == patterns.len()
        && steps.iter().zip(patterns).all(|(step, pattern)| isolated(step).is_some_and(|(text, _)| text == *pattern))
}
