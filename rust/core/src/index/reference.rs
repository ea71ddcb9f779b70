//! The sums by their definition: look at every token, in f64, with the exponential of the standard library.

use super::Interval;
use crate::TokenId;

pub(super) type Tokens = Vec<(TokenId, Vec<u8>)>;

/// The tokens with bytes in the order of the index: by bytes, then by id.
pub(super) fn sorted(tokens: &Tokens) -> Tokens {
    let mut sorted: Tokens = tokens.iter().filter(|token| !token.1.is_empty()).cloned().collect();
    sorted.sort_by(|a, b| a.1.cmp(&b.1).then(a.0.cmp(&b.0)));
    sorted
}

/// Where the tokens lie that begin with `prefix`; they are neighbours. `None` if there is none.
pub(super) fn interval(sorted: &Tokens, prefix: &[u8]) -> Option<Interval> {
    let lo = sorted.iter().position(|token| token.1.starts_with(prefix))?;
    let hi = sorted.iter().rposition(|token| token.1.starts_with(prefix))?;
    Some(Interval { lo: lo.try_into().ok()?, hi: (hi + 1).try_into().ok()? })
}

/// `ln` of the sum of `e^logit`.
pub(super) fn log_mass(logits: impl Iterator<Item = f32>) -> f64 {
    let logits: Vec<f64> = logits.map(f64::from).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + logits.iter().map(|logit| (logit - max).exp()).sum::<f64>().ln()
}

/// Log mass of the tokens that begin with `prefix`, are longer than it by at least `more` bytes and are allowed.
pub(super) fn log_mass_below(
    sorted: &Tokens,
    logits: &[f32],
    prefix: &[u8],
    more: usize,
    allowed: impl Fn(u32) -> bool,
) -> f64 {
    let counts =
        |place: u32, bytes: &[u8]| bytes.starts_with(prefix) && bytes.len() >= prefix.len() + more && allowed(place);
    log_mass(
        (0..).zip(sorted).filter(|(place, token)| counts(*place, &token.1)).map(|(_, token)| logits[token.0 as usize]),
    )
}
