//! Sums of probabilities in natural-log space: f64, the maximum subtracted, lanes added in a fixed order.
//!
//! [`exp`] is this crate's own, so that LLVM can compute it for many numbers at once: the exponential of the standard
//! library is a call that stops every loop around it. A [`Kernel`] is a loop written once, in plain safe code, and
//! compiled for each set of instructions that the machine may turn out to have (`dispatch`).

mod dispatch;
#[cfg(test)]
mod tests;

pub(crate) use dispatch::dispatch;
#[cfg(test)]
pub(crate) use dispatch::{Path, dispatch_on};

/// Below this, `exp` is a subnormal number or zero, and [`exp`] is zero.
pub const EXP_LOW: f64 = -708.0;
/// Above this, [`exp`] is infinite, as `exp` is soon after.
pub const EXP_HIGH: f64 = 709.0;

/// How a product is added to a number: rounded once, or twice where the machine has no instruction for it.
pub(crate) trait Arithmetic {
    /// `a * b + c`.
    fn mul_add(a: f64, b: f64, c: f64) -> f64;
}

/// One rounding. Only for machines that have the instruction: elsewhere it is a slow call.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
pub(crate) struct Fused;

/// Two roundings.
pub(crate) struct Plain;

impl Arithmetic for Fused {
    #[inline(always)]
    fn mul_add(a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
}

impl Arithmetic for Plain {
    #[inline(always)]
    fn mul_add(a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
}

/// A loop that is worth compiling for more than the least machine.
///
/// `run` and all that it calls are `#[inline(always)]`, else they keep the instructions of the least machine.
pub(crate) trait Kernel {
    type Output;
    fn run<A: Arithmetic>(self) -> Self::Output;
}

/// `1.5 * 2^52`: a small number added to this is rounded to an integer, which then stands in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts; the first has 32 bits, so its product with any exponent is exact. The parts are fdlibm's.
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// `(e^r - 1 - r) / r²` for `|r| <= ln 2 / 2`, lowest power first: the interpolation in ten Chebyshev nodes, computed with
/// 60 digits. With it `e^r` is off by less than 2⁻⁵⁷ of itself, before rounding.
const TAIL: [f64; 10] = [
    0.5,
    0.166_666_666_666_666_69,
    0.041_666_666_666_624_13,
    0.008_333_333_333_330_062,
    0.001_388_888_891_721_371_7,
    0.000_198_412_698_630_536_18,
    2.480_152_129_595_437_6e-5,
    2.755_726_845_999_706_4e-6,
    2.762_008_844_540_974_6e-7,
    2.510_038_549_551_032e-8,
];

/// `exp(x)` for x from [`EXP_LOW`] to [`EXP_HIGH`], within 1 ulp fused and 2 plain; what lies below counts as [`EXP_LOW`],
/// where the result is 3.3e-308 and not zero. Without a branch. NaN is the caller's to keep out.
#[inline(always)]
pub(crate) fn exp_from_low<A: Arithmetic>(x: f64) -> f64 {
    // Not `f64::max`, which costs two more instructions to be right about NaN.
    let x = if x > EXP_LOW { x } else { EXP_LOW };
    // x = k ln 2 + r, then e^x = 2^k e^r.
    let rounded = A::mul_add(x, std::f64::consts::LOG2_E, ROUND);
    let k = rounded - ROUND;
    let r = A::mul_add(k, -LN_2_LOW, A::mul_add(k, -LN_2_HIGH, x));
    let mut tail = TAIL[TAIL.len() - 1];
    for power in (0..TAIL.len() - 1).rev() {
        tail = A::mul_add(tail, r, TAIL[power]);
    }
    let power = A::mul_add(A::mul_add(tail, r, 1.0), r, 1.0);
    // The lowest bits of `rounded` are k, in two's complement; the exponent's field starts at bit 52.
    f64::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 52))
}

/// e to the power of `x`, within 2 ulp; zero below [`EXP_LOW`], infinite above [`EXP_HIGH`], NaN for NaN.
///
/// The same bits on every machine: it never fuses.
pub fn exp(x: f64) -> f64 {
    if x < EXP_LOW {
        0.0
    } else if x > EXP_HIGH {
        f64::INFINITY
    } else if x.is_nan() {
        x
    } else {
        exp_from_low::<Plain>(x)
    }
}

/// `ln(e^a + e^b + ...)`: the log mass of things of which only one can happen. Minus infinity for none.
///
/// Relative error of the mass at most `(n + 4) ε`. A term of plus infinity or NaN makes the result so.
pub fn log_sum_exp(terms: &[f64]) -> f64 {
    let max = terms.iter().copied().fold(f64::NEG_INFINITY, |max, x| if x > max || x.is_nan() { x } else { max });
    if !max.is_finite() {
        return max;
    }
    let sum: f64 = terms.iter().filter(|&&x| x > f64::NEG_INFINITY).map(|&x| exp(x - max)).sum();
    max + sum.ln()
}
