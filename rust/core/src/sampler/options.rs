//! What a sampler may be told, and what is drawn from it for one step.

use super::draw::{Draws, Use};
use super::key::KEY_BYTES;
use crate::error::{Error, Result};
use crate::train::Cuts;

/// The bytes whose runs are tokens of their own under [`Whitespace::Runs`].
pub const SPACES: [u8; 3] = [b' ', b'\n', b'\t'];

/// Most repetitions in such a run; the published design has 15, too.
pub const RUN: usize = 15;

/// How a number is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Always this.
    Fixed(f64),
    /// Normal.
    Normal {
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        std: f64,
    },
    /// The exponential of a normal number.
    LogNormal {
        /// Its median: the exponential of the normal's mean.
        median: f64,
        /// The normal's standard deviation.
        sigma: f64,
    },
}

/// A number that is drawn, then moved into a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// How it is drawn.
    pub shape: Shape,
    /// No less than this.
    pub low: f64,
    /// No more than this.
    pub high: f64,
}

impl Distribution {
    fn check(&self, field: &str) -> Result<()> {
        let bad = |found: String, fix: &str| Err(Error::value(field, found, fix));
        let parameters = match self.shape {
            Shape::Fixed(value) => [value, 0.0],
            Shape::Normal { mean, std } => [mean, std],
            Shape::LogNormal { median, sigma } => [median, sigma],
        };
        if let Some(found) = parameters.iter().find(|value| !value.is_finite()) {
            return bad(format!("{found} is no number to draw with"), "use finite numbers");
        }
        if parameters[1] < 0.0 {
            return bad(format!("a standard deviation of {}", parameters[1]), "use 0 or more");
        }
        if matches!(self.shape, Shape::LogNormal { median, .. } if median <= 0.0) {
            return bad(format!("a median of {}", parameters[0]), "the median of a lognormal number is above 0");
        }
        if !(self.low.is_finite() && self.high.is_finite() && 0.0 <= self.low && self.low <= self.high) {
            let found = format!("a range from {} to {}", self.low, self.high);
            return bad(found, "use 0 <= low <= high, both finite");
        }
        Ok(())
    }

    fn draw(&self, draws: &Draws, for_what: Use) -> f64 {
        let value = match self.shape {
            Shape::Fixed(value) => value,
            Shape::Normal { mean, std } => mean + std * draws.gaussian(for_what),
            Shape::LogNormal { median, sigma } => median * (sigma * draws.gaussian(for_what)).exp(),
        };
        value.clamp(self.low, self.high)
    }
}

/// Where counted substrings end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Behind a character, so that tokens of well-formed text are well-formed.
    Characters,
    /// Behind any byte, as published.
    Bytes,
}

/// How runs of white space become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whitespace {
    /// Every `c2 c1^i` of [`SPACES`], `i` up to [`RUN`], is a token of score 0, and no other counted substring with two
    /// or more of them is (published).
    Runs,
    /// Like any other substring.
    Learnt,
}

/// How a sampler counts and draws.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How many batches the queue holds, the step's own included.
    pub queue_batches: usize,
    /// Longest substring, in bytes; at most [`KEY_BYTES`].
    pub max_bytes: usize,
    /// Substrings start at every so many characters of a pretoken.
    pub stride: usize,
    /// Where they end.
    pub ends: Ends,
    /// How many tokens a vocabulary has.
    pub vocab_size: Distribution,
    /// The standard deviation of the noise on a substring's probability.
    pub noise: Distribution,
    /// How runs of white space become tokens.
    pub whitespace: Whitespace,
    /// How texts are cut: each step takes one of these.
    pub patterns: Vec<Cuts>,
    /// How often a share of the vocabulary, uniform from 0 to 1, is taken from the source tokenizer's tokens.
    pub near_probability: f64,
    /// How often texts are encoded by the longest match instead of the best path.
    pub greedy_probability: f64,
}

impl Options {
    /// Checks all values.
    ///
    /// # Errors
    /// `Value`, naming the option.
    pub fn check(&self) -> Result<()> {
        for (field, value) in [("queue_batches", self.queue_batches), ("stride", self.stride)] {
            if value == 0 {
                return Err(Error::value(field, "0", "use at least 1"));
            }
        }
        if !(1..=KEY_BYTES).contains(&self.max_bytes) {
            let fix = format!("use 1 to {KEY_BYTES}");
            return Err(Error::value("max_bytes", self.max_bytes.to_string(), fix));
        }
        self.vocab_size.check("vocab_size")?;
        self.noise.check("noise")?;
        let fixed = fixed_tokens(self.whitespace).len();
        if self.vocab_size.low < fixed as f64 || self.vocab_size.high > f64::from(1 << 24) {
            let found = format!("a range from {} to {}", self.vocab_size.low, self.vocab_size.high);
            let fix = format!("every vocabulary has {fixed} fixed tokens, and at most 2^24 in all");
            return Err(Error::value("vocab_size", found, fix));
        }
        if self.patterns.is_empty() {
            return Err(Error::value("patterns", "no pattern", "give at least one; \"none\" cuts nothing"));
        }
        if self.patterns.iter().any(|cuts| matches!(cuts, Cuts::Chunks(_) | Cuts::Runs(_))) {
            let fix = "use \"none\" or \"superbpe\" for tokens that span words";
            return Err(Error::value("patterns", "a recipe for superwords, which only training follows", fix));
        }
        let all = [("near_probability", self.near_probability), ("greedy_probability", self.greedy_probability)];
        match all.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            Some((field, value)) => Err(Error::value(field, value.to_string(), "use a number from 0 to 1")),
            None => Ok(()),
        }
    }

    /// What is drawn for a step.
    pub(super) fn draw(&self, draws: &Draws) -> Drawn {
        let is = |for_what, probability| draws.share(for_what) < probability;
        let is_near = is(Use::IsNear, self.near_probability);
        Drawn {
            vocab_size: self.vocab_size.draw(draws, Use::VocabSize).round() as usize, // 0..=2^24: checked
            noise: self.noise.draw(draws, Use::Noise),
            pattern: draws.below(Use::Pattern, self.patterns.len()),
            source_share: if is_near { draws.share(Use::Share) } else { 0.0 },
            is_greedy: is(Use::IsGreedy, self.greedy_probability),
        }
    }
}

/// What was drawn for a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// How many tokens the vocabulary has, where there are enough substrings.
    pub vocab_size: usize,
    /// The standard deviation of the noise on a substring's probability.
    pub noise: f64,
    /// Which of the patterns cuts.
    pub pattern: usize,
    /// The share of the vocabulary that the source tokenizer's tokens come first for.
    pub source_share: f64,
    /// Whether the longest match is taken instead of the best path.
    pub is_greedy: bool,
}

/// The tokens of every vocabulary: all bytes, in order, then the runs of white space, if they are.
pub(super) fn fixed_tokens(whitespace: Whitespace) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    if whitespace == Whitespace::Runs {
        for first in SPACES {
            for again in SPACES {
                all.extend((1..=RUN).map(|n| [vec![first], vec![again; n]].concat()));
            }
        }
    }
    all
}

/// Whether two or more bytes of a substring are white space.
pub(super) fn is_spaced(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| SPACES.contains(byte)).count() >= 2
}
