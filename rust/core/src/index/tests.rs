use std::collections::BTreeSet;

use super::logits::{Bf16, F16, F32, Format};
use super::reference::{self, Tokens};
use super::sums::Root;
use super::*;
use crate::numerics::{Path, dispatch_on, log_sum_exp};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap()
    }

    /// Uniform in [-1, 1).
    fn unit(&mut self) -> f32 {
        let bits: u16 = u16::try_from(self.next() >> 49).unwrap(); // 15 bits
        f32::from(bits) / 16384.0 - 1.0
    }
}

/// Up to `most` tokens over few bytes, so that they share beginnings and some of them everything; some have no bytes, some
/// end inside a character. Ids have holes and rows go on behind the last.
fn vocabulary(random: &mut Random, most: u32) -> (Tokens, usize) {
    let alphabet = b"ab \xc3\xa9\x00\xff";
    let letters = 1 + random.below(7);
    let (mut tokens, mut id) = (Vec::new(), 0);
    for _ in 0..1 + random.below(most) {
        id += random.below(3) / 2;
        let length = random.below(6);
        tokens.push((id, (0..length).map(|_| alphabet[random.below(letters) as usize]).collect()));
        id += 1;
    }
    for i in (1..tokens.len()).rev() {
        tokens.swap(i, random.next() as usize % (i + 1));
    }
    (tokens, (id + random.below(20)) as usize)
}

fn index(tokens: &Tokens, rows: usize) -> VocabIndex {
    VocabIndex::new(tokens.iter().map(|(id, bytes)| (*id, &bytes[..])), rows).unwrap()
}

/// Logits within `spread` of zero, one in eight of them minus infinity, but not the first.
fn logits(random: &mut Random, rows: usize, spread: f32) -> Vec<f32> {
    let mut logits: Vec<f32> =
        (0..rows).map(|_| if random.below(8) == 0 { f32::NEG_INFINITY } else { random.unit() * spread }).collect();
    logits[0] = 0.0;
    logits
}

fn masks(random: &mut Random, places: u32) -> Vec<Option<Bits>> {
    let thin = (0..places).filter(|_| random.below(2) == 0).collect();
    let mut runs = Bits::new();
    runs.insert_range(Interval { lo: places / 4, hi: places / 2 });
    vec![None, Some(Bits::full(places)), Some(Bits::new()), Some(thin), Some(runs)]
}

fn is_allowed(allowed: Option<&Bits>, place: u32) -> bool {
    allowed.is_none_or(|bits| bits.get(place))
}

/// Fails unless two log masses of at most `n` terms agree.
///
/// Each side's mass has a relative error of at most n ε from its sum, 2 ε from its exponentials, and half an ε for every
/// nat that a logit lies from the subtracted maximum, of which there are `spread` at most; the logarithm then adds its
/// own rounding and that of the sum with the maximum, both below ε times the log mass and the spread.
#[track_caller]
fn agree(a: f64, b: f64, n: usize, spread: f32) {
    if b == f64::NEG_INFINITY {
        assert_eq!(a, b);
        return;
    }
    let tolerance = f64::EPSILON * (2.0 * n as f64 + 4.0 + 4.0 * f64::from(spread) + 4.0 * b.abs());
    assert!((a - b).abs() <= tolerance, "{a} and {b} differ by more than {tolerance}");
}

fn for_random(seed: u64, vocabularies: u32, most: u32, mut check: impl FnMut(&mut Random, &Tokens, usize)) {
    let mut random = Random(seed);
    for _ in 0..vocabularies {
        let (tokens, rows) = vocabulary(&mut random, most);
        check(&mut random, &tokens, rows);
    }
}

/// All beginnings of tokens, the empty one too.
fn prefixes(tokens: &Tokens) -> BTreeSet<Vec<u8>> {
    tokens.iter().flat_map(|(_, bytes)| (0..=bytes.len()).map(|n| bytes[..n].to_vec())).collect()
}

fn walk(index: &VocabIndex, prefix: &[u8]) -> Interval {
    (0..).zip(prefix).fold(index.root(), |at, (depth, &byte)| index.narrow(at, depth, byte))
}

// place   0   1    2     3     4   5
// token   a   ab   abc   abc   b   ca
// id      7   2    0     9     1   4      and id 5 has no bytes; rows 3, 6, 8 and 10 belong to no token
fn golden() -> VocabIndex {
    let tokens = [(9, "abc"), (0, "abc"), (1, "b"), (2, "ab"), (4, "ca"), (5, ""), (7, "a")];
    VocabIndex::new(tokens.into_iter().map(|(id, token)| (id, token.as_bytes())), 11).unwrap()
}

#[test]
fn places_follow_bytes_then_ids() {
    let index = golden();
    assert_eq!(index.ids(), [7, 2, 0, 9, 1, 4]);
    assert_eq!((index.len(), index.rows(), index.longest()), (6, 11, 3));
    assert_eq!((index.id(3), index.token(3), index.token_len(1)), (9, &b"abc"[..], 2));
    assert_eq!((index.place(4), index.place(5), index.place(10), index.place(11)), (Some(5), None, None, None));
}

#[test]
fn a_token_without_bytes_is_listed_and_has_no_place() {
    assert_eq!(golden().empty(), [5]);
}

#[test]
fn narrowing_by_bytes_walks_the_trie() {
    let index = golden();
    let a = index.narrow(index.root(), 0, b'a');
    let ab = index.narrow(a, 1, b'b');
    assert_eq!((a, ab), (Interval { lo: 0, hi: 4 }, Interval { lo: 1, hi: 4 }));
    assert_eq!(index.ending(ab, 2), Interval { lo: 1, hi: 2 });
    assert_eq!(index.narrow(ab, 2, b'c'), Interval { lo: 2, hi: 4 });
    assert!(index.narrow(ab, 2, b'x').is_empty());
    assert!(index.narrow(index.root(), 0, b'x').is_empty());
    assert_eq!(
        index.children(index.root(), 0).map(|(byte, at)| (byte, at.len())).collect::<Vec<_>>(),
        [(b'a', 4), (b'b', 1), (b'c', 1)]
    );
}

#[test]
fn an_id_that_comes_twice_is_refused_by_name() {
    let error = VocabIndex::new([(3, &b"a"[..]), (3, &b"b"[..])].into_iter(), 9).unwrap_err();
    assert_eq!(error.field(), "tokens[3]");
}

#[test]
fn an_id_without_a_row_is_refused_by_name() {
    let error = VocabIndex::new([(9, &b"a"[..])].into_iter(), 9).unwrap_err();
    assert_eq!(error.field(), "tokens[9]");
}

#[test]
fn the_order_is_that_of_the_reference() {
    for_random(1, 300, 60, |_, tokens, rows| {
        let (index, sorted) = (index(tokens, rows), reference::sorted(tokens));
        assert_eq!(index.len(), sorted.len());
        for (place, (id, bytes)) in (0..).zip(&sorted) {
            assert_eq!((index.id(place), index.token(place), index.place(*id)), (*id, &bytes[..], Some(place)));
            assert_eq!(index.token_len(place) as usize, bytes.len());
        }
    });
}

#[test]
fn an_interval_holds_the_tokens_that_begin_with_its_bytes() {
    for_random(2, 200, 60, |_, tokens, rows| {
        let (index, sorted) = (index(tokens, rows), reference::sorted(tokens));
        for prefix in prefixes(tokens) {
            let at = walk(&index, &prefix);
            let depth = u32::try_from(prefix.len()).unwrap();
            assert_eq!(Some(at).filter(|at| !at.is_empty()), reference::interval(&sorted, &prefix));
            for byte in 0..=255 {
                let longer = [&prefix[..], &[byte]].concat();
                let child = index.narrow(at, depth, byte);
                assert_eq!(Some(child).filter(|at| !at.is_empty()), reference::interval(&sorted, &longer));
            }
        }
    });
}

#[test]
fn an_interval_is_its_ending_tokens_and_then_its_children() {
    for_random(3, 200, 60, |_, tokens, rows| {
        let index = index(tokens, rows);
        for prefix in prefixes(tokens) {
            let (at, depth) = (walk(&index, &prefix), u32::try_from(prefix.len()).unwrap());
            let ending = index.ending(at, depth);
            assert!((ending.lo..ending.hi).all(|place| index.token(place) == prefix));
            let mut end = (ending.lo == at.lo).then_some(ending.hi);
            for (byte, child) in index.children(at, depth) {
                assert_eq!((child, Some(child.lo)), (index.narrow(at, depth, byte), end));
                assert!(!child.is_empty());
                end = Some(child.hi);
            }
            assert_eq!(end, Some(at.hi));
        }
    });
}

#[test]
fn a_set_of_places_is_a_set() {
    let mut random = Random(4);
    for _ in 0..300 {
        let (mut bits, mut sets) = ([Bits::new(), Bits::new()], [BTreeSet::new(), BTreeSet::new()]);
        for (bits, set) in bits.iter_mut().zip(&mut sets) {
            let size = 1 + random.below(300);
            for _ in 0..random.below(40) {
                let (place, member) = (random.below(size), random.below(3) > 0);
                bits.set(place, member);
                if member {
                    set.insert(place)
                } else {
                    set.remove(&place)
                };
            }
            let (lo, hi) = (random.below(size), random.below(size));
            bits.insert_range(Interval { lo, hi });
            set.extend(lo..hi);
            assert!(bits.iter().eq(set.iter().copied()));
            assert_eq!(bits.count() as usize, set.len());
            assert_eq!(bits.count_in(Interval { lo, hi: hi + 70 }) as usize, set.range(lo..(hi + 70).max(lo)).count());
            assert!((0..400).all(|place| bits.get(place) == set.contains(&place)));
            let word = (0..64).filter(|n| set.contains(&(lo + n))).map(|n| 1 << n).sum::<u64>();
            assert_eq!(bits.word(lo), word);
        }
        let [a, b] = &bits;
        let combined = |combine: fn(&mut Bits, &Bits)| {
            let mut with = a.clone();
            combine(&mut with, b);
            with
        };
        assert_eq!(combined(Bits::and), (&sets[0] & &sets[1]).into_iter().collect());
        assert_eq!(combined(Bits::or), (&sets[0] | &sets[1]).into_iter().collect());
        assert_eq!(combined(Bits::and_not), (&sets[0] - &sets[1]).into_iter().collect());
    }
}

#[test]
fn every_half_is_the_number_that_its_bits_mean() {
    for raw in 0..=u16::MAX {
        let (exponent, fraction) = (i32::from(raw >> 10 & 31), f32::from(raw & 1023));
        let magnitude = match exponent {
            0 => fraction * 2f32.powi(-24),
            31 => {
                if fraction == 0.0 {
                    f32::INFINITY
                } else {
                    f32::NAN
                }
            }
            _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
        };
        let (expected, number) = (if raw >> 15 == 1 { -magnitude } else { magnitude }, F16::to_f32(raw));
        assert!(number.to_bits() == expected.to_bits() || number.is_nan() && expected.is_nan(), "{raw:#x}");
    }
    assert_eq!(F16::to_f32(F16::NEVER), f32::NEG_INFINITY);
}

#[test]
fn bfloat16_is_the_upper_half_of_a_single() {
    let numbers = [0x0000, 0x8000, 0x3f80, 0xc049, 0x7f80, 0xff80, 0x0001].map(Bf16::to_f32);
    assert_eq!(numbers, [0.0, -0.0, 1.0, -3.140_625, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(1 << 16)]);
    assert!(Bf16::to_f32(0x7fc0).is_nan());
    assert_eq!(Bf16::to_f32(Bf16::NEVER), f32::NEG_INFINITY);
}

/// Compares every sum of one state with the reference.
fn check_root(tokens: &Tokens, rows: usize, given: Logits<'_>, allowed: Option<&Bits>, spread: f32) {
    let (index, sorted) = (index(tokens, rows), reference::sorted(tokens));
    let logits: Vec<f32> = (0..rows).map(|row| given.get(row).unwrap()).collect();
    let counted: Vec<TokenId> = vec![0, u32::try_from(rows - 1).unwrap()];
    let sums = root_sums(&index, given, allowed, &counted).unwrap();
    let is_allowed = |place| is_allowed(allowed, place);
    assert_eq!(sums.max, logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    agree(sums.log_all, reference::log_mass(logits.iter().copied()), rows, spread);
    agree(sums.log_allowed, reference::log_mass_below(&sorted, &logits, b"", 1, is_allowed), rows, spread);
    for byte in 0..=255 {
        let expected = reference::log_mass_below(&sorted, &logits, &[byte], 0, is_allowed);
        agree(sums.bytes[usize::from(byte)], expected, rows, spread);
    }
    assert_eq!(sums.counted, [f64::from(logits[0]), f64::from(logits[rows - 1])]);
}

#[test]
fn root_sums_are_those_of_the_reference() {
    for_random(5, 60, 400, |random, tokens, rows| {
        let values = logits(random, rows, 20.0);
        for allowed in masks(random, index(tokens, rows).root().hi) {
            check_root(tokens, rows, Logits::F32(&values), allowed.as_ref(), 40.0);
        }
    });
}

#[test]
fn root_sums_read_bfloat16_and_half() {
    for_random(6, 40, 200, |random, tokens, rows| {
        let values = logits(random, rows, 20.0);
        let bf16: Vec<u16> = values.iter().map(|x| u16::try_from(x.to_bits() >> 16).unwrap()).collect();
        // Any bits but those of plus infinity and NaN; 0 to 65504 in size.
        let f16: Vec<u16> = (0..rows)
            .map(|row| if row == 0 { 0 } else { u16::try_from(random.next() >> 48).unwrap() })
            .map(|raw| if raw & 0x7c00 == 0x7c00 { F16::NEVER } else { raw })
            .collect();
        for allowed in masks(random, index(tokens, rows).root().hi) {
            check_root(tokens, rows, Logits::Bf16(&bf16), allowed.as_ref(), 40.0);
            check_root(tokens, rows, Logits::F16(&f16), allowed.as_ref(), 131_008.0);
        }
    });
}

#[test]
fn nothing_possible_becomes_impossible_however_far_it_lies_below() {
    for_random(7, 60, 200, |random, tokens, rows| {
        let values = logits(random, rows, 3000.0);
        for allowed in masks(random, index(tokens, rows).root().hi) {
            check_root(tokens, rows, Logits::F32(&values), allowed.as_ref(), 6000.0);
        }
    });
}

#[test]
fn a_first_byte_keeps_its_digits_at_the_end_of_the_range() {
    // The mass of `b` is 3 e^-705 of the whole: at the edge of what f64 holds, and e^-750 of it: beyond.
    for below in [-600.0, -623.0, -625.0, -705.0, -710.0, -744.0, -750.0] {
        let tokens = [(0, "a"), (1, "b"), (2, "bb"), (3, "bc")].map(|(id, t)| (id, t.as_bytes().to_vec())).to_vec();
        check_root(&tokens, 4, Logits::F32(&[0.0, below, below, below]), None, 750.0);
    }
}

#[test]
fn every_set_of_instructions_gives_the_reference() {
    for_random(8, 40, 400, |random, tokens, rows| {
        let (index, sorted, values) = (index(tokens, rows), reference::sorted(tokens), logits(random, rows, 800.0));
        let allowed: Bits = (0..index.root().hi).filter(|_| random.below(2) == 0).collect();
        for path in Path::all() {
            let root = Root::<F32, _> { index: &index, rows: &values, allowed: &allowed };
            let (_, _, bytes) = dispatch_on(path, root).unwrap();
            for byte in 0..=255 {
                let expected = reference::log_mass_below(&sorted, &values, &[byte], 0, |place| allowed.get(place));
                agree(bytes[usize::from(byte)], expected, rows, 1600.0);
            }
        }
    });
}

#[test]
fn slice_sums_are_those_of_the_reference_at_every_node() {
    for_random(9, 30, 80, |random, tokens, rows| {
        let (index, sorted, values) = (index(tokens, rows), reference::sorted(tokens), logits(random, rows, 900.0));
        for allowed in masks(random, index.root().hi) {
            let is_allowed = |place| is_allowed(allowed.as_ref(), place);
            for prefix in prefixes(tokens) {
                // The slice of the first byte is what a caller holds while it walks on.
                let held = walk(&index, &prefix[..prefix.len().min(1)]);
                let values_held = gather(&index, Logits::F32(&values), held);
                let (at, depth) = (walk(&index, &prefix), u32::try_from(prefix.len()).unwrap());
                let mut out = [0.0; 256];
                let longer = slice_sums(&index, held, &values_held, at, depth, allowed.as_ref(), &mut out);
                agree(longer, reference::log_mass_below(&sorted, &values, &prefix, 1, is_allowed), rows, 1800.0);
                for byte in 0..=255 {
                    let below = [&prefix[..], &[byte]].concat();
                    let expected = reference::log_mass_below(&sorted, &values, &below, 0, is_allowed);
                    agree(out[usize::from(byte)], expected, rows, 1800.0);
                }
            }
        }
    });
}

#[test]
fn the_masses_of_the_children_and_the_ending_tokens_make_up_the_interval() {
    for_random(10, 40, 300, |random, tokens, rows| {
        let (index, values) = (index(tokens, rows), logits(random, rows, 30.0));
        let all = gather(&index, Logits::F32(&values), index.root());
        for allowed in masks(random, index.root().hi) {
            let mass = |at| interval_log_mass(index.root(), &all, at, allowed.as_ref());
            for prefix in prefixes(tokens) {
                let (at, depth) = (walk(&index, &prefix), u32::try_from(prefix.len()).unwrap());
                let mut out = [0.0; 256];
                let longer = slice_sums(&index, index.root(), &all, at, depth, allowed.as_ref(), &mut out);
                agree(log_sum_exp(&[longer, mass(index.ending(at, depth))]), mass(at), rows, 60.0);
            }
        }
    });
}

#[test]
fn one_token_alone_has_its_logit_for_log_mass() {
    let index = VocabIndex::new([(0, &b"\xe4\xbd"[..])].into_iter(), 1).unwrap();
    let sums = root_sums(&index, Logits::F32(&[-2.5]), None, &[]).unwrap();
    assert_eq!(
        (sums.log_all, sums.log_allowed, sums.bytes[0xe4], sums.bytes[0]),
        (-2.5, -2.5, -2.5, f64::NEG_INFINITY)
    );
}

#[test]
fn without_tokens_only_the_normaliser_is_left() {
    let index = VocabIndex::new(std::iter::empty(), 3).unwrap();
    let sums = root_sums(&index, Logits::F32(&[0.0, 0.0, f32::NEG_INFINITY]), None, &[]).unwrap();
    agree(sums.log_all, std::f64::consts::LN_2, 3, 0.0);
    assert_eq!(sums.log_allowed, f64::NEG_INFINITY);
}

#[test]
fn a_logit_that_is_no_probability_is_refused_by_its_id() {
    let tokens: Tokens = (0..300).map(|id| (id, vec![b'a'; 1 + id as usize % 7])).collect();
    let index = index(&tokens, 300);
    // Two whole stretches of the maximum, and the rest.
    for row in [0, 31, 32, 127, 128, 255, 256, 299] {
        for wrong in [f32::NAN, -f32::NAN, f32::INFINITY] {
            let mut values = vec![f32::NEG_INFINITY; 300];
            values[row] = wrong;
            let error = root_sums(&index, Logits::F32(&values), None, &[]).unwrap_err();
            assert_eq!(error.field(), "logits");
            assert!(error.to_string().contains(&format!("id {row} has the logit {wrong}")), "{error}");
        }
    }
}

#[test]
fn logits_that_are_all_minus_infinity_are_refused() {
    let error = root_sums(&golden(), Logits::Bf16(&[Bf16::NEVER; 11]), None, &[]).unwrap_err();
    assert!(error.to_string().contains("minus infinity for every id"), "{error}");
    let error = root_sums(&VocabIndex::new(std::iter::empty(), 0).unwrap(), Logits::F32(&[]), None, &[]).unwrap_err();
    assert_eq!(error.field(), "logits");
}

#[test]
fn another_number_of_logits_is_refused() {
    let error = root_sums(&golden(), Logits::F16(&[0; 12]), None, &[]).unwrap_err();
    assert!(error.to_string().contains("12 rows, the index has 11"), "{error}");
}

#[test]
fn a_counted_id_without_a_row_is_refused() {
    let error = root_sums(&golden(), Logits::F32(&[0.0; 11]), None, &[4, 11]).unwrap_err();
    assert_eq!(error.field(), "counted");
}
