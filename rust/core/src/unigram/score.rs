//! What every piece and an unknown character add to a path, in either implementation's numbers.

use super::UNK_PENALTY;
use crate::formats::{Unigram, UnigramFlavour};
use crate::{Error, Result};
use std::collections::HashSet;
use std::sync::LazyLock;

/// SentencePiece: what a user-defined piece weighs per byte after its first, in nats.
const USER_DEFINED_PER_BYTE: f64 = 0.1;

/// Scores beyond this are refused; below it no sum overflows, in f32 with [`super::REBASE`] or in f64.
const MAX_SCORE: f64 = 1e30;

/// The numbers of a model.
pub(super) struct Scores {
    /// By position in the vocabulary; `None` for pieces that text never produces.
    pub(super) pieces: Vec<Option<f64>>,
    /// What an unknown character adds.
    pub(super) unk_score: f64,
}

impl Scores {
    pub(super) fn new(model: &Unigram) -> Result<Self> {
        if model.scores.len() != model.vocab.len() {
            return Err(Error::format(
                "model.vocab",
                format!("{} scores for {} pieces", model.scores.len(), model.vocab.len()),
                "give every piece one score",
            ));
        }
        for (i, score) in model.scores.iter().enumerate() {
            let field = || format!("model.vocab[{i}]");
            if score.is_nan() {
                return Err(Error::format(field(), "the score is not a number", "give it its log-probability"));
            }
            if score.abs() > MAX_SCORE {
                let found = format!("score {score} is beyond {MAX_SCORE:e} either way");
                return Err(Error::unsupported(field(), found, "scores are log-probabilities"));
            }
        }
        Ok(match model.flavour {
            UnigramFlavour::Tokenizers => Self::double(model),
            UnigramFlavour::SentencePiece => Self::single(model),
        })
    }

    fn double(model: &Unigram) -> Self {
        let never: HashSet<_> = model.never.iter().collect();
        let least = model.scores.iter().fold(f64::INFINITY, |least, score| least.min(*score));
        let pieces = model.vocab.iter().zip(&model.scores).map(|((spelling, id), score)| {
            let possible = !spelling.is_empty() && !never.contains(&id);
            possible.then_some(*score)
        });
        Self { pieces: pieces.collect(), unk_score: least - UNK_PENALTY }
    }

    fn single(model: &Unigram) -> Self {
        let never: HashSet<_> = model.never.iter().chain(&model.unk).collect();
        let user_defined: HashSet<_> = model.user_defined.iter().collect();
        let normal = model.vocab.iter().zip(&model.scores).filter(|((_, id), _)| {
            !never.contains(id) && !user_defined.contains(id) // sentencepiece starts its minimum at FLT_MAX
        });
        let least = normal.fold(f32::MAX, |least, (_, score)| least.min(*score as f32));
        let pieces = model.vocab.iter().zip(&model.scores).map(|((spelling, id), score)| {
            if spelling.is_empty() || never.contains(&id) {
                None
            } else if user_defined.contains(&id) {
                // Computed in f64 and kept in f32; measured with sentencepiece 0.2.3. (Up to 0.2.1 it was `length *
                // largest normal score - 0.1`, and sums with it were compared in f64.)
                Some(f64::from((spelling.len() as f64 * USER_DEFINED_PER_BYTE - USER_DEFINED_PER_BYTE) as f32))
            } else {
                Some(f64::from(*score as f32))
            }
        });
        // 10 is exact in both widths.
        Self { pieces: pieces.collect(), unk_score: f64::from(least - UNK_PENALTY as f32) }
    }
}

/// A number of a `tokenizer.json` as `tokenizers` reads it, which is not always the nearest f64.
///
/// `tokenizers` reads JSON by serde_json without `float_roundtrip`: the digits as a 64-bit integer, converted to f64,
/// then multiplied or divided by a power of ten, each step rounded; the last bit may differ from the nearest value's
/// (in the vocabularies of T5 and XLM-R it does for a quarter of the pieces), and the last bits decide between
/// segmentations whose pieces are the same in another order. `text` is a JSON number; `None` for anything else and for
/// numbers that overflow. O(`text`'s length).
pub fn parse_score(text: &str) -> Option<f64> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || (whole.len() > 1 && whole.starts_with('0')) || !fraction.is_none_or(digits) {
        return None;
    }

    // Digits that no longer fit into the integer are dropped; those before the point raise the exponent.
    let mut significand = 0u64;
    let mut scale = 0i32;
    for c in whole.bytes() {
        match (scale, with_digit(significand, c)) {
            (0, Some(longer)) => significand = longer,
            _ => scale = scale.saturating_add(1),
        }
    }
    if fraction.is_none() && exponent.is_none() && scale == 0 {
        // An integer.
        return Some(if negative { -(significand as f64) } else { significand as f64 });
    }
    for c in fraction.unwrap_or("").bytes() {
        let Some(longer) = with_digit(significand, c) else { break };
        significand = longer;
        scale = scale.saturating_sub(1);
    }
    if let Some(exponent) = exponent {
        let (down, number) = match exponent.as_bytes().first()? {
            b'-' => (true, &exponent[1..]),
            b'+' => (false, &exponent[1..]),
            _ => (false, exponent),
        };
        if !digits(number) {
            return None;
        }
        let number = number.bytes().fold(0i32, |n, c| n.saturating_mul(10).saturating_add(i32::from(c - b'0')));
        scale = if down { scale.saturating_sub(number) } else { scale.saturating_add(number) };
    }

    let mut value = significand as f64;
    while value != 0.0 && scale < -308 {
        value /= 1e308;
        scale += 308;
    }
    if value == 0.0 {
        // Nothing is left to scale.
    } else if scale > 308 {
        return None;
    } else if scale >= 0 {
        value *= power_of_ten(scale);
    } else {
        value /= power_of_ten(-scale);
    }
    if value.is_infinite() {
        return None;
    }
    Some(if negative { -value } else { value })
}

/// `significand` with one more digit, where that fits.
fn with_digit(significand: u64, digit: u8) -> Option<u64> {
    significand.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
}

/// The f64 nearest to 10 to the `exponent`, 0..=308.
fn power_of_ten(exponent: i32) -> f64 {
    static POWERS: LazyLock<Vec<f64>> =
        LazyLock::new(|| (0..=308).map(|n| format!("1e{n}").parse().expect("1eN is a number")).collect());
    usize::try_from(exponent).ok().and_then(|exponent| POWERS.get(exponent)).copied().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::parse_score;

    #[test]
    fn short_numbers_are_the_nearest() {
        for text in ["0", "-0", "0.0", "-1", "-3.5", "12e2", "1E-3", "1.25e+2", "-13.59", "9007199254740993"] {
            let nearest: f64 = text.parse().expect("a number");
            assert_eq!(parse_score(text).map(f64::to_bits), Some(nearest.to_bits()), "{text}");
        }
    }

    #[test]
    fn long_numbers_are_rounded_twice_as_serde_json_does() {
        // As `tokenizers` 0.23.3 writes them after reading, from the vocabulary of T5.
        for (text, read) in SEEN {
            assert_eq!(parse_score(text).map(f64::to_bits), Some(read.to_bits()), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_number_is_none() {
        for text in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "nan", "inf", "1e400", "1 ", "1.e3", "0x1"] {
            assert_eq!(parse_score(text), None, "{text:?}");
        }
        assert_eq!(parse_score("1e-400"), Some(0.0));
        assert_eq!(parse_score("0e99999999999"), Some(0.0));
        assert_eq!(parse_score("1e-99999999999"), Some(0.0));
    }

    const SEEN: &[(&str, f64)] = &[
        ("-2.0122928619384766", -2.012292861938477),
        ("-3.9598512649536133", -3.9598512649536137),
        ("-7.4370903968811035", -7.437090396881104),
    ];
}
