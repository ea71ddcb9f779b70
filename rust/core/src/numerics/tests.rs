use super::*;

/// Computes one block of exponentials.
struct Exponentials([f64; 8]);

impl Kernel for Exponentials {
    type Output = [f64; 8];

    #[inline(always)]
    fn run<A: Arithmetic>(self) -> [f64; 8] {
        self.0.map(exp_from_low::<A>)
    }
}

/// How many numbers lie between two positive ones, and one of them.
fn ulps(a: f64, b: f64) -> u64 {
    a.to_bits().abs_diff(b.to_bits())
}

/// A million numbers from [`EXP_LOW`] to [`EXP_HIGH`] in even steps, which fall on all parts of the reduced range, and
/// those on either side of the places where the reduction turns.
fn points() -> Vec<f64> {
    let steps = 1_000_000;
    let mut points: Vec<f64> =
        (0..=steps).map(|n| EXP_LOW + (EXP_HIGH - EXP_LOW) * f64::from(n) / f64::from(steps)).collect();
    for half in -2040..2040 {
        let turn = f64::from(half) / 2.0 * std::f64::consts::LN_2;
        points.extend([turn.next_down(), turn, turn.next_up()]);
    }
    points.retain(|x| (EXP_LOW..=EXP_HIGH).contains(x));
    points
}

#[test]
fn exp_is_within_two_ulps_of_the_standard_library_on_every_path() {
    for path in Path::all() {
        let mut worst = 0;
        for chunk in points().chunks(8) {
            let mut block = [0.0; 8];
            block[..chunk.len()].copy_from_slice(chunk);
            for (x, y) in block.into_iter().zip(dispatch_on(path, Exponentials(block))) {
                worst = worst.max(ulps(y, x.exp()));
            }
        }
        assert!(worst <= if path == Path::Portable { 2 } else { 1 }, "{path:?}: {worst}");
    }
}

#[test]
fn exp_of_a_number_near_zero_is_within_two_ulps() {
    for power in 1..1074 {
        let small = 0.5f64.powi(power);
        for x in [small, -small, small * 1.7, -small * 1.7] {
            assert!(ulps(exp(x), x.exp()) <= 2, "{x}");
        }
    }
    assert_eq!(exp(0.0), 1.0);
}

#[test]
fn exp_beyond_its_range_is_zero_infinite_or_nan() {
    assert_eq!(exp(EXP_LOW.next_down()), 0.0);
    assert_eq!(exp(f64::NEG_INFINITY), 0.0);
    assert_eq!(exp(EXP_HIGH.next_up()), f64::INFINITY);
    assert_eq!(exp(f64::INFINITY), f64::INFINITY);
    assert!(exp(f64::NAN).is_nan());
}

#[test]
fn exp_from_low_holds_what_lies_below_at_the_low_end() {
    for path in Path::all() {
        let [low, below, never, ..] =
            dispatch_on(path, Exponentials([EXP_LOW, -1e30, f64::NEG_INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0]));
        assert!(low > f64::MIN_POSITIVE && low < 3.4e-308);
        assert_eq!([below, never], [low, low]);
    }
}

#[test]
fn log_sum_exp_adds_masses() {
    // Three terms: 3 rounding errors of the sum, 2 ulps of each term, and the rounding of the logarithm.
    let sum = log_sum_exp(&[0.25f64.ln(), 0.5f64.ln(), f64::NEG_INFINITY, 0.125f64.ln()]);
    assert!((sum - 0.875f64.ln()).abs() <= 8.0 * f64::EPSILON);
}

#[test]
fn log_sum_exp_of_far_numbers_is_the_largest() {
    assert_eq!(log_sum_exp(&[-1e6, -2e6]), -1e6);
    assert_eq!(log_sum_exp(&[1e6]), 1e6);
}

#[test]
fn log_sum_exp_of_nothing_is_minus_infinity() {
    assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
    assert_eq!(log_sum_exp(&[f64::NEG_INFINITY; 3]), f64::NEG_INFINITY);
}

#[test]
fn log_sum_exp_does_not_hide_nan() {
    assert!(log_sum_exp(&[0.0, f64::NAN, 1.0]).is_nan());
}
