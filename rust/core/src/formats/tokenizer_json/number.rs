//! Numbers as `tokenizers` reads them.
//!
//! The released wheel parses JSON without correct rounding: it gathers the digits in a `u64` and multiplies or divides
//! once by a power of ten. A score of 17 digits can come out one unit in the last place off the nearest double, and a
//! tie between two segmentations is decided by that unit. So the same arithmetic happens here. In `xlm-roberta`, a
//! quarter of the 250 048 scores differ from the correctly rounded ones.

use std::sync::LazyLock;

/// `10^0 ..= 10^308`, each correctly rounded.
static POWERS: LazyLock<Vec<f64>> =
    LazyLock::new(|| (0..=308).map(|n| format!("1e{n}").parse().expect("a float literal")).collect());

/// The number at the start of `text` and its length, or what is wrong and where.
///
/// O(digits). Follows the grammar of JSON; a number over the range of f64 is an error.
pub(crate) fn parse(text: &[u8]) -> Result<(f64, usize), (&'static str, usize)> {
    let mut p = Parser { text, at: 0, negative: false };
    if p.peek() == b'-' {
        p.at = 1;
        p.negative = true;
    }
    let value = p.integer().map_err(|found| (found, p.at))?;
    Ok((value, p.at))
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    negative: bool,
}

/// Below this another digit always fits.
const FAST: u64 = u64::MAX / 10 - 1;

/// Whether `value * 10 + digit` passes `u64`.
fn overflows(value: u64, digit: u64) -> bool {
    value.checked_mul(10).and_then(|v| v.checked_add(digit)).is_none()
}

impl Parser<'_> {
    #[inline]
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    #[inline]
    fn digit(&self) -> Option<u64> {
        let d = self.peek().wrapping_sub(b'0');
        (d < 10).then_some(u64::from(d))
    }

    fn integer(&mut self) -> Result<f64, &'static str> {
        let Some(mut significand) = self.digit() else { return Err("expected a number") };
        self.at += 1;
        if significand == 0 {
            if self.digit().is_some() {
                return Err("a number with a leading zero");
            }
            return self.after_integer(0);
        }
        while let Some(digit) = self.digit() {
            if significand >= FAST && overflows(significand, digit) {
                return self.long_integer(significand);
            }
            significand = significand * 10 + digit;
            self.at += 1;
        }
        self.after_integer(significand)
    }

    fn after_integer(&mut self, significand: u64) -> Result<f64, &'static str> {
        match self.peek() {
            b'.' => self.decimal(significand, 0),
            b'e' | b'E' => self.exponent(significand, 0),
            _ => self.assemble(significand, 0),
        }
    }

    fn long_integer(&mut self, significand: u64) -> Result<f64, &'static str> {
        let mut exponent: i32 = 0;
        while self.digit().is_some() {
            self.at += 1;
            exponent = exponent.saturating_add(1);
        }
        match self.peek() {
            b'.' => self.decimal(significand, exponent),
            b'e' | b'E' => self.exponent(significand, exponent),
            _ => self.assemble(significand, exponent),
        }
    }

    fn decimal(&mut self, mut significand: u64, mut exponent: i32) -> Result<f64, &'static str> {
        self.at += 1;
        let first = self.at;
        while let Some(digit) = self.digit() {
            if significand >= FAST && overflows(significand, digit) {
                while self.digit().is_some() {
                    self.at += 1;
                }
                break;
            }
            significand = significand * 10 + digit;
            exponent = exponent.saturating_sub(1);
            self.at += 1;
        }
        if self.at == first {
            return Err("expected a digit after the point");
        }
        match self.peek() {
            b'e' | b'E' => self.exponent(significand, exponent),
            _ => self.assemble(significand, exponent),
        }
    }

    fn exponent(&mut self, significand: u64, start: i32) -> Result<f64, &'static str> {
        self.at += 1;
        let negative = self.peek() == b'-';
        if matches!(self.peek(), b'+' | b'-') {
            self.at += 1;
        }
        if self.digit().is_none() {
            return Err("expected a digit in the exponent");
        }
        let mut exponent: i32 = 0;
        while let Some(digit) = self.digit() {
            let digit = i32::try_from(digit).expect("below 10");
            exponent = exponent.saturating_mul(10).saturating_add(digit);
            self.at += 1;
        }
        if exponent == i32::MAX {
            // As many digits as that: infinite, or nothing.
            return if significand != 0 && !negative { Err("a number out of range") } else { self.assemble(0, 0) };
        }
        let exponent = if negative { start.saturating_sub(exponent) } else { start.saturating_add(exponent) };
        self.assemble(significand, exponent)
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)]
    fn assemble(&self, significand: u64, mut exponent: i32) -> Result<f64, &'static str> {
        let mut value = significand as f64; // rounds to nearest: the one rounding the wheel makes here too
        loop {
            match POWERS.get(exponent.unsigned_abs() as usize) {
                Some(power) if exponent >= 0 => {
                    value *= power;
                    if value.is_infinite() {
                        return Err("a number out of range");
                    }
                    break;
                }
                Some(power) => {
                    value /= power;
                    break;
                }
                None if value == 0.0 => break,
                None if exponent >= 0 => return Err("a number out of range"),
                None => {
                    value /= 1e308;
                    exponent += 308;
                }
            }
        }
        Ok(if self.negative { -value } else { value })
    }
}

/// A decimal spelling that [`parse`] (and so the wheel) reads as exactly `value`.
///
/// The shortest round-trip spelling nearly always is one; where the wheel's arithmetic misses it, the spellings of
/// the doubles around it are tried, then longer ones. `None` when none of them hits; `value` is finite.
pub(crate) fn spell(value: f64) -> Option<String> {
    let hits =
        |text: &str| parse(text.as_bytes()).is_ok_and(|(v, n)| n == text.len() && v.to_bits() == value.to_bits());
    let shortest = |v: f64| {
        let number = serde_json::Number::from_f64(v);
        number.map(|n| n.to_string())
    };
    let (mut below, mut above) = (value, value);
    for _ in 0..8 {
        for candidate in [below, above] {
            for text in [shortest(candidate)?, format!("{candidate:.16}"), format!("{candidate:.17e}")] {
                if hits(&text) {
                    return Some(text);
                }
            }
        }
        below = below.next_down();
        above = above.next_up();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<f64> {
        parse(text.as_bytes()).ok().filter(|(_, n)| *n == text.len()).map(|(v, _)| v)
    }

    #[test]
    fn the_last_place_is_the_wheels() {
        // Each pair: a spelling in a real file, and what the wheel writes after reading it.
        for (text, wheel) in [
            ("-7.4715776443481445", -7.471_577_644_348_144),
            ("-7.7206902503967285", -7.720_690_250_396_728),
            ("-3.9131507873535156", -3.913_150_787_353_515),
            ("-3.9598512649536133", -3.959_851_264_953_613_7),
            ("-5.626893043518066", -5.626_893_043_518_066),
            ("-2.0122928619384766", -2.012_292_861_938_477),
            ("-7.4370903968811035", -7.437_090_396_881_104),
        ] {
            assert_eq!(value(text).map(f64::to_bits), Some(f64::to_bits(wheel)), "{text}");
        }
    }

    #[test]
    fn short_numbers_are_the_nearest() {
        for text in ["0", "-0", "0.0", "-1", "-3.5", "12e2", "1E-3", "1.25e+2", "-13.59", "9007199254740993"] {
            let nearest: f64 = text.parse().expect("a number");
            assert_eq!(value(text).map(f64::to_bits), Some(nearest.to_bits()), "{text}");
        }
    }

    #[test]
    fn the_grammar_is_jsons() {
        for bad in [
            "",
            "-",
            "+1",
            "01",
            "-01",
            ".5",
            "1.",
            "1.e3",
            "1e",
            "1e+",
            "NaN",
            "Infinity",
            "inf",
            "1 ",
            "0x1",
            "1e400",
            "1e99999999999",
        ] {
            assert_eq!(value(bad), None, "{bad}");
        }
        for (good, v) in
            [("0", 0.0), ("-0", -0.0), ("1e-400", 0.0), ("10e1", 100.0), ("1.5E+2", 150.0), ("0e99999999999", 0.0)]
        {
            assert_eq!(value(good), Some(v), "{good}");
        }
        assert_eq!(value("18446744073709551616"), Some(1.844_674_407_370_955_2e19));
    }

    #[test]
    fn a_spelling_is_read_back() {
        for v in [
            -7.471_577_644_348_144,
            0.0,
            -0.0,
            1.0,
            -12.5,
            f64::from(-9.870_46_f32),
            1e-7,
            1e22,
            123_456_789.123_456_79,
        ] {
            let text = spell(v).expect("some spelling hits");
            assert_eq!(value(&text).map(f64::to_bits), Some(v.to_bits()), "{v} {text}");
        }
    }
}
