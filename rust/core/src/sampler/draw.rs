//! Random numbers as a function of what they are for: no state, so no order of drawing and no thread can change them.

use std::f64::consts::TAU;

use super::key::{KEY_BYTES, Key};

/// The golden ratio, in 64 bits: the step of SplitMix64 (Steele, Lea and Flood 2014).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of SplitMix64: every bit of the input moves every bit of the result.
#[inline]
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Both halves of the product.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Above 0, up to 1: its logarithm is finite.
#[inline]
fn above_zero(word: u64) -> f64 {
    ((word >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// From 0 up to, and without, 1.
#[inline]
fn share(word: u64) -> f64 {
    (word >> 11) as f64 / (1_u64 << 53) as f64
}

/// A standard normal number from two words (Box and Muller 1958): at most `sqrt(2 * 53 * ln 2)`, 8.57, in size.
#[inline]
fn gaussian(one: u64, two: u64) -> f64 {
    (-2.0 * above_zero(one).ln()).sqrt() * (TAU * share(two)).cos()
}

/// What a number of a step is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    VocabSize = 1,
    Noise,
    Pattern,
    IsNear,
    Share,
    IsGreedy,
}

/// The random numbers of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draws {
    first: u64,
    second: u64,
}

impl Draws {
    pub(super) fn new(seed: u64, step: u64) -> Self {
        let first = mix(mix(seed.wrapping_add(GOLDEN)).wrapping_add(step));
        Self { first, second: mix(first.wrapping_add(GOLDEN)) }
    }

    fn word(&self, for_what: Use) -> u64 {
        mix(self.first.wrapping_add((for_what as u64).wrapping_mul(GOLDEN)))
    }

    /// From 0 up to, and without, 1.
    pub(super) fn share(&self, for_what: Use) -> f64 {
        share(self.word(for_what))
    }

    /// Standard normal.
    pub(super) fn gaussian(&self, for_what: Use) -> f64 {
        let word = self.word(for_what);
        gaussian(word, mix(word.wrapping_add(GOLDEN)))
    }

    /// Below `n`, which is not 0; the error of a share is under n / 2^64.
    pub(super) fn below(&self, for_what: Use, n: usize) -> usize {
        let product = u128::from(self.word(for_what)) * n as u128;
        (product >> 64) as usize // below n
    }

    /// The noise of a byte string, standard normal: a function of seed, step and bytes alone.
    pub(super) fn noise(&self, bytes: &[u8]) -> f64 {
        let mut state = self.second;
        for chunk in bytes.chunks(KEY_BYTES) {
            state = self.stir(state, Key::new(chunk).expect("a chunk fits a key"));
        }
        gaussian(mix(state), mix(state.wrapping_add(GOLDEN)))
    }

    /// The same for a byte string that is one key.
    #[inline]
    pub(super) fn noise_of_key(&self, key: Key) -> f64 {
        let state = self.stir(self.second, key);
        gaussian(mix(state), mix(state.wrapping_add(GOLDEN)))
    }

    #[inline]
    fn stir(&self, state: u64, key: Key) -> u64 {
        let (high, low) = key.words();
        fold(state ^ high, self.first ^ low).wrapping_add(state ^ low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: impl Iterator<Item = f64>) -> (f64, [f64; 4]) {
        let mut sums = [0.0; 4];
        let mut n = 0.0;
        for value in values {
            n += 1.0;
            for (power, sum) in (1..).zip(&mut sums) {
                *sum += value.powi(power);
            }
        }
        (n, sums.map(|sum| sum / n))
    }

    #[test]
    fn noise_has_the_moments_of_a_standard_normal() {
        // Neighbouring keys and neighbouring steps: what a weak hash would tie together.
        let draws = (0..8).map(|step| Draws::new(7, step));
        let all = draws.flat_map(|draws| (0..20_000_u32).map(move |i| draws.noise(format!("key{i}").as_bytes())));
        let (n, found) = moments(all);
        // Mean of X^k: its standard error is sqrt(Var(X^k) / n), Var = 1, 2, 15, 96; five of them.
        for ((found, expected), variance) in found.into_iter().zip([0.0, 1.0, 0.0, 3.0]).zip([1.0, 2.0, 15.0, 96.0_f64])
        {
            assert!((found - expected).abs() < 5.0 * (variance / n).sqrt(), "{found} for {expected}");
        }
    }

    #[test]
    fn neighbouring_steps_are_not_correlated() {
        let (a, b) = (Draws::new(1, 5), Draws::new(1, 6));
        let n = 40_000_u32;
        let product: f64 = (0..n).map(|i| i.to_be_bytes()).map(|key| a.noise(&key) * b.noise(&key)).sum();
        assert!((product / f64::from(n)).abs() < 5.0 / f64::from(n).sqrt());
    }

    #[test]
    fn the_noise_of_a_key_is_that_of_its_bytes() {
        let draws = Draws::new(3, 4);
        for bytes in [&b"a"[..], b"ab", b"\0", b"0123456789abcde"] {
            assert_eq!(draws.noise(bytes), draws.noise_of_key(Key::new(bytes).expect("short")));
        }
        assert_ne!(draws.noise(b"0123456789abcdef"), draws.noise(b"0123456789abcdeg"));
        assert_ne!(draws.noise(b"a"), draws.noise(b"a\0"));
    }

    #[test]
    fn another_seed_or_step_or_use_gives_another_number() {
        let word = |seed, step, for_what| Draws::new(seed, step).word(for_what);
        let all = [
            word(0, 0, Use::Noise),
            word(0, 1, Use::Noise),
            word(1, 0, Use::Noise),
            word(1, 1, Use::Noise),
            word(0, 0, Use::Share),
        ];
        assert!(all.iter().enumerate().all(|(i, one)| !all[..i].contains(one)));
    }
}
