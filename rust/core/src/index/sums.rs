//! Sums of probabilities over the sorted tokens.
//!
//! Logits come in the order of ids and are read twice: once in that order, for their maximum and for what is no number,
//! and once in the order of places, where the exponentials are added as they are made. Nothing of the vocabulary's
//! size is stored.

use super::blocks::{BLOCK, Block, Blocks, Held, Rows, Values};
use super::logits::{Bf16, F16, F32, Format};
use super::{BYTES, Bits, Interval, Logits, VocabIndex};
use crate::numerics::{Arithmetic, Kernel, dispatch, exp_from_low, log_sum_exp};
use crate::{Error, Result, TokenId};

/// Sums are kept in this many lanes whatever the machine has, so that all machines that fuse agree to the bit.
const LANES: usize = 8;
/// Lanes of the maximum, and how many logits go into them before it leaves the registers.
const COLUMNS: usize = 16;
const STRETCH: usize = 8 * COLUMNS;
/// 2⁻⁹⁰⁰. A sum below it may have lost digits at the end of f64's range, and is made again with its own maximum. What a
/// larger sum has too much or lacks is at most 3.4e-308 a token, below 2⁻¹⁰⁰ of it for all 2³² tokens.
const SMALL: f64 = f64::from_bits((1023 - 900) << 52);
/// The bits of a mask that belong to one block.
const WHOLE: u64 = (1 << BLOCK) - 1;

type Lanes = [f64; LANES];
type Terms = [f64; BLOCK];
/// The maximum, the sum of all `e^(logit - maximum)`, and the log masses by first byte.
type Masses = (f32, f64, Box<[f64; BYTES]>);

/// What one model state says about the first byte. Natural logarithms on the scale of the logits: subtract `log_all`
/// for the model's log-probabilities, or `log_allowed` for those given that an allowed token follows.
#[derive(Clone, Debug, PartialEq)]
pub struct RootSums {
    /// The largest logit of all rows.
    pub max: f32,
    /// Log mass of all rows: the normaliser of the model's softmax.
    pub log_all: f64,
    /// Log mass of the allowed tokens; minus infinity where nothing is allowed.
    pub log_allowed: f64,
    /// Log mass of the allowed tokens by first byte; minus infinity where there is none.
    pub bytes: Box<[f64; BYTES]>,
    /// The logits of the ids that were asked for, in their order.
    pub counted: Vec<f64>,
}

/// Sums one state's logits by first byte.
///
/// `allowed` are the places that may follow, all of them where it is `None`; it does not change `log_all`. `counted` are
/// ids whose logits are wanted beside the sums, the ids of END for one; each is in `log_all` already, as every row is.
///
/// Each mass is within `(n + 400) ε` of itself for the n tokens in it; the 400 are for the rounding of `logit - max` where
/// it lies 700 nats down. Whatever has a finite logit and is allowed has a finite log mass, however far below the maximum
/// it lies. One thread, no allocation but the result; O(rows).
///
/// # Errors
/// Another number of logits than the index has rows, NaN or plus infinity among them, nothing but minus infinity,
/// or a counted id that has no row.
pub fn root_sums(
    index: &VocabIndex,
    logits: Logits<'_>,
    allowed: Option<&Bits>,
    counted: &[TokenId],
) -> Result<RootSums> {
    if logits.len() != index.rows() {
        return Err(Error::value(
            "logits",
            format!("{} rows, the index has {}", logits.len(), index.rows()),
            "build the index with the number of rows of the model's output",
        ));
    }
    let counted = counted.iter().map(|&id| counted_logit(logits, id)).collect::<Result<_>>()?;
    let sums = match logits {
        Logits::F32(rows) => root::<F32>(index, rows, allowed),
        Logits::Bf16(rows) => root::<Bf16>(index, rows, allowed),
        Logits::F16(rows) => root::<F16>(index, rows, allowed),
    };
    let Some((max, all, bytes)) = sums else {
        return Err(blame(logits));
    };
    let (max_log, log_allowed) = (f64::from(max), log_sum_exp(&bytes[..]));
    Ok(RootSums { max, log_all: max_log + all.ln(), log_allowed, bytes, counted })
}

/// See [`Root`].
fn root<F: Format>(index: &VocabIndex, rows: &[F::Raw], allowed: Option<&Bits>) -> Option<Masses> {
    match allowed {
        None => dispatch(Root::<F, _> { index, rows, allowed: All }),
        Some(allowed) => dispatch(Root::<F, _> { index, rows, allowed }),
    }
}

fn counted_logit(logits: Logits<'_>, id: TokenId) -> Result<f64> {
    logits.get(id as usize).map(f64::from).ok_or_else(|| {
        Error::value(
            "counted",
            format!("id {id} has no row: the logits have {}", logits.len()),
            "name ids of the model",
        )
    })
}

/// Why the logits were refused.
#[cold]
fn blame(logits: Logits<'_>) -> Error {
    for id in 0..logits.len() {
        let logit = logits.get(id).unwrap_or(f32::NEG_INFINITY);
        if !is_ordinary(logit) {
            return Error::value(
                "logits",
                format!("id {id} has the logit {logit}"),
                "look for an overflow in the model's output; minus infinity is the only infinity a logit may be",
            );
        }
    }
    Error::value("logits", "minus infinity for every id", "leave at least one token possible")
}

/// The logits of the places `at`, in their order, for [`slice_sums`] at any depth below.
///
/// The logits are those that [`root_sums`] took; a place or a row that is not there counts as minus infinity.
pub fn gather(index: &VocabIndex, logits: Logits<'_>, at: Interval) -> Vec<f32> {
    fn pick<F: Format>(ids: &[TokenId], rows: &[F::Raw]) -> Vec<f32> {
        ids.iter().map(|&id| F::to_f32(rows.get(id as usize).copied().unwrap_or(F::NEVER))).collect()
    }
    let at_most = at.range().end.min(index.len());
    let ids = index.ids().get(at.range().start..at_most).unwrap_or_default();
    let mut values = match logits {
        Logits::F32(rows) => pick::<F32>(ids, rows),
        Logits::Bf16(rows) => pick::<Bf16>(ids, rows),
        Logits::F16(rows) => pick::<F16>(ids, rows),
    };
    values.resize(at.range().len(), f32::NEG_INFINITY);
    values
}

/// Log masses by next byte of the tokens of `at` that have one: `out` is overwritten, and their sum comes back.
///
/// The tokens of `at` share `depth` bytes. `values` are the logits of the places `held`, from [`gather`], and `at` lies
/// in `held`. Minus infinity is the log mass of nothing. Those of `at` that end at `depth` are not counted: their mass
/// is the [`interval_log_mass`] of [`VocabIndex::ending`].
///
/// Each mass is within `(n + 400) ε` of itself for the n tokens in it, on whatever scale it lies. O(length of `at`).
pub fn slice_sums(
    index: &VocabIndex,
    held: Interval,
    values: &[f32],
    at: Interval,
    depth: u32,
    allowed: Option<&Bits>,
    out: &mut [f64; BYTES],
) -> f64 {
    out.fill(f64::NEG_INFINITY);
    let values = Held { from: held.lo as usize, values };
    match allowed {
        None => dispatch(Children { index, values, at, depth, allowed: All, out: &mut *out }),
        Some(allowed) => dispatch(Children { index, values, at, depth, allowed, out: &mut *out }),
    }
    log_sum_exp(out)
}

/// Log mass of the allowed tokens of `at`; `values` are the logits of the places `held`, from [`gather`], and `at` lies
/// in `held`. O(length of `at`).
pub fn interval_log_mass(held: Interval, values: &[f32], at: Interval, allowed: Option<&Bits>) -> f64 {
    let values = Held { from: held.lo as usize, values };
    match allowed {
        None => dispatch(Whole { values, at, allowed: All }),
        Some(allowed) => dispatch(Whole { values, at, allowed }),
    }
}

/// Whether a logit may be what it is.
#[inline(always)]
fn is_ordinary(logit: f32) -> bool {
    logit < f32::INFINITY
}

/// The larger one, where neither is NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The largest logit, if all of them are numbers or minus infinity and not all of them that.
#[inline(always)]
fn maximum<F: Format>(rows: &[F::Raw]) -> Option<f32> {
    // The bits without their sign are in the order of the numbers, and NaN is above infinity: as wide as the logits, for
    // the same lanes. Each stretch has lanes of its own, which stay in registers.
    let (mut max, mut size) = ([f32::NEG_INFINITY; COLUMNS], [0; COLUMNS]);
    let (stretches, rest) = rows.as_chunks::<STRETCH>();
    for stretch in stretches {
        let (mut max_here, mut size_here) = ([f32::NEG_INFINITY; COLUMNS], [0; COLUMNS]);
        for logits in stretch.as_chunks::<COLUMNS>().0 {
            for j in 0..COLUMNS {
                let logit = F::to_f32(logits[j]);
                max_here[j] = larger(logit, max_here[j]);
                size_here[j] = size_of(logit).max(size_here[j]);
            }
        }
        for j in 0..COLUMNS {
            max[j] = larger(max_here[j], max[j]);
            size[j] = size_here[j].max(size[j]);
        }
    }
    for (j, &raw) in (0..COLUMNS).cycle().zip(rest) {
        let logit = F::to_f32(raw);
        max[j] = larger(logit, max[j]);
        size[j] = size_of(logit).max(size[j]);
    }
    let max = max.into_iter().fold(f32::NEG_INFINITY, larger);
    let numbers = size.into_iter().all(|size| size <= size_of(f32::INFINITY));
    (numbers && max > f32::NEG_INFINITY && max < f32::INFINITY).then_some(max)
}

/// The bits of a number without its sign.
#[inline(always)]
fn size_of(logit: f32) -> i32 {
    logit.abs().to_bits().cast_signed()
}

/// Which places may follow.
trait Mask: Copy {
    /// The allowed ones of the block at `place`, one bit each.
    fn mask(self, place: usize) -> u64;
}

/// All of them. Its own type, so that the loops without a mask have no trace of one.
#[derive(Clone, Copy)]
pub(super) struct All;

impl Mask for All {
    #[inline(always)]
    fn mask(self, _: usize) -> u64 {
        WHOLE
    }
}

impl Mask for &Bits {
    #[inline(always)]
    fn mask(self, place: usize) -> u64 {
        // A place fits: an index has fewer than 2³² of them.
        self.word(place as u32) & WHOLE
    }
}

#[inline(always)]
fn exponentials<A: Arithmetic>(block: &Block, max: f64) -> Terms {
    let mut out = [0.0; BLOCK];
    for (to, &logit) in out.iter_mut().zip(block) {
        *to = exp_from_low::<A>(f64::from(logit) - max);
    }
    out
}

#[inline(always)]
fn add(lanes: &mut Lanes, terms: &Terms) {
    for j in 0..LANES {
        lanes[j] += (terms[j] + terms[j + LANES]) + (terms[j + 2 * LANES] + terms[j + 3 * LANES]);
    }
}

/// The terms whose bit is set; zero in place of the others.
#[inline(always)]
fn chosen(terms: &Terms, mask: u64) -> Terms {
    let mut out = [0.0; BLOCK];
    for j in 0..BLOCK {
        out[j] = if mask >> j & 1 == 1 { terms[j] } else { 0.0 };
    }
    out
}

#[inline(always)]
fn total(lanes: Lanes) -> f64 {
    // What is added in pairs here, LLVM would add in pairs in the loop before, in a quarter of a register: it is not
    // shown that these are the same numbers.
    let [a, b, c, d, e, f, g, h] = std::hint::black_box(lanes);
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Sums of `e^(logit - max)` of the places `at`: of the allowed, and of the rest.
#[inline(always)]
fn sums<A: Arithmetic>(values: impl Values, at: (usize, usize), allowed: impl Mask, max: f64) -> (f64, f64) {
    let (mut some, mut rest) = ([0.0; LANES], [0.0; LANES]);
    for (place, block) in Blocks::new(values, at) {
        let terms = exponentials::<A>(&block, max);
        match allowed.mask(place) {
            WHOLE => add(&mut some, &terms),
            0 => add(&mut rest, &terms),
            mask => {
                add(&mut some, &chosen(&terms, mask));
                add(&mut rest, &chosen(&terms, !mask));
            }
        }
    }
    (total(some), total(rest))
}

/// The logits of one block, minus infinity in place of those whose bit is not set.
#[inline(always)]
fn masked(block: &Block, mask: u64) -> Block {
    let mut block = *block;
    if mask != WHOLE {
        for (j, logit) in block.iter_mut().enumerate() {
            *logit = if mask >> j & 1 == 1 { *logit } else { f32::NEG_INFINITY };
        }
    }
    block
}

/// Log mass of the allowed of the places `at`, with their own maximum subtracted.
#[inline(always)]
fn log_mass<A: Arithmetic>(values: impl Values, at: (usize, usize), allowed: impl Mask) -> f64 {
    let mut max = [f32::NEG_INFINITY; BLOCK];
    for (place, block) in Blocks::new(values, at) {
        for (max, logit) in max.iter_mut().zip(masked(&block, allowed.mask(place))) {
            *max = larger(logit, *max);
        }
    }
    let max = f64::from(max.into_iter().fold(f32::NEG_INFINITY, larger));
    if max == f64::NEG_INFINITY {
        return max;
    }
    let mut sum = [0.0; LANES];
    for (place, block) in Blocks::new(values, at) {
        add(&mut sum, &exponentials::<A>(&masked(&block, allowed.mask(place)), max));
    }
    max + total(sum).ln()
}

pub(super) struct Root<'a, F: Format, M> {
    pub(super) index: &'a VocabIndex,
    pub(super) rows: &'a [F::Raw],
    pub(super) allowed: M,
}

impl<F: Format, M: Mask> Kernel for Root<'_, F, M> {
    /// `None` for logits that [`blame`] explains.
    type Output = Option<Masses>;

    #[inline(always)]
    fn run<A: Arithmetic>(self) -> Self::Output {
        let max = maximum::<F>(self.rows)?;
        let log_max = f64::from(max);
        let values = Rows::<F> { ids: &self.index.ids, rows: self.rows };
        let mut bytes = Box::new([f64::NEG_INFINITY; BYTES]);
        let mut all = 0.0;
        for (byte, out) in bytes.iter_mut().enumerate() {
            let places = (self.index.roots[byte] as usize, self.index.roots[byte + 1] as usize);
            if places.0 == places.1 {
                continue;
            }
            let (some, rest) = sums::<A>(values, places, self.allowed, log_max);
            all += some + rest;
            *out = if some >= SMALL { log_max + some.ln() } else { log_mass::<A>(values, places, self.allowed) };
        }
        let others = Rows::<F> { ids: &self.index.others, rows: self.rows };
        all += sums::<A>(others, (0, others.ids.len()), All, log_max).0;
        Some((max, all, bytes))
    }
}

struct Children<'a, M> {
    index: &'a VocabIndex,
    values: Held<'a>,
    at: Interval,
    depth: u32,
    allowed: M,
    out: &'a mut [f64; BYTES],
}

impl<M: Mask> Kernel for Children<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        for (byte, child) in self.index.children(self.at, self.depth) {
            let places = (child.lo as usize, child.hi as usize);
            self.out[usize::from(byte)] = log_mass::<A>(self.values, places, self.allowed);
        }
    }
}

struct Whole<'a, M> {
    values: Held<'a>,
    at: Interval,
    allowed: M,
}

impl<M: Mask> Kernel for Whole<'_, M> {
    type Output = f64;

    #[inline(always)]
    fn run<A: Arithmetic>(self) -> f64 {
        log_mass::<A>(self.values, (self.at.lo as usize, self.at.hi as usize), self.allowed)
    }
}
