//! Prints what the vocabulary's arithmetic costs: milliseconds to build an index, and per model state for `root_sums` with and without a mask, `gather` and `slice_sums` of the largest first byte.
//!
//! `cargo run --release -p anyvocab-core --example index_speed [tokenizer.json...]`; without a file, random words.
//!
//! Every result is checked: the masses of the first bytes must add up to those of all tokens, and the chain rule must
//! hold one byte further. Of a few hundred calls the least time by the clock is printed and the mean in CPU time; eight
//! states take turns, so that no logits lie in the nearest cache.
#![allow(clippy::print_stdout)]

mod clock;

use std::hint::black_box;
use std::time::Instant;

use anyvocab_core::index::{Bits, Interval, Logits, VocabIndex, gather, interval_log_mass, root_sums, slice_sums};
use anyvocab_core::numerics::log_sum_exp;
use anyvocab_core::vocab::Vocabulary;
use anyvocab_core::{Limits, TokenId, formats};

use clock::cpu;

const STATES: usize = 8;
const CALLS: usize = 400;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Uniform in [0, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f32 {
        ((-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()) as f32
    }
}

type Tokens = Vec<(TokenId, Vec<u8>)>;

/// All bytes, then random words; three in seven begin with a space and the letters are as uneven as in text.
fn words(random: &mut Random, rows: u32) -> Tokens {
    (0..rows)
        .map(|id| {
            let mut token = if id < 256 { vec![id.to_le_bytes()[0]] } else { Vec::new() };
            if id >= 256 {
                if random.next() % 7 < 3 {
                    token.push(b' ');
                }
                for _ in 0..1 + (random.unit() * random.unit() * 20.0) as usize {
                    token.push(
                        b"etaoinshrdlcumwfgypbvkjxqz_0123456789ETAOINSHRDLCUM\xc3\xa9\xe4\xbd\xa0"
                            [(random.unit() * random.unit() * 56.0) as usize],
                    );
                }
            }
            (id, token)
        })
        .collect()
}

fn read(file: &str) -> Result<Tokens, Box<dyn std::error::Error>> {
    let limits = Limits::default();
    let description = formats::tokenizer_json::read(&std::fs::read(file)?, &limits)?;
    let vocabulary = Vocabulary::new(&description, &limits)?;
    let ids = 0..u32::try_from(vocabulary.len())?;
    Ok(ids.filter_map(|id| Some((id, vocabulary.token_bytes(id)?.to_vec()))).collect())
}

/// The least time of a call by the clock, and their mean in CPU time, in milliseconds.
fn times(mut call: impl FnMut(usize)) -> String {
    let (mut least, start) = (f64::INFINITY, cpu());
    for n in 0..CALLS {
        let start = Instant::now();
        call(n % STATES);
        least = least.min(start.elapsed().as_secs_f64());
    }
    format!("{:.3} {:.3}", least * 1e3, (cpu() - start).as_secs_f64() * 1e3 / CALLS as f64)
}

/// What one writes first: log masses by first byte, with the exponential of the standard library.
fn naive(index: &VocabIndex, logits: &[f32]) -> Vec<f64> {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let exponentials: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).collect();
    let ranges = (0..=255).map(|byte| index.narrow(index.root(), 0, byte));
    let sum = |at: Interval| (at.lo..at.hi).map(|place| exponentials[index.id(place) as usize]).sum::<f64>();
    ranges.map(|at| max + sum(at).ln()).collect()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

fn measure(name: &str, tokens: &[(TokenId, Vec<u8>)]) -> Result<(), Box<dyn std::error::Error>> {
    let rows = tokens.iter().map(|t| t.0 as usize + 1).max().unwrap_or(0);
    let build = || VocabIndex::new(tokens.iter().map(|(id, bytes)| (*id, &bytes[..])), rows);
    let index = build()?;
    println!("{name}: {} tokens, {rows} rows (ms: least, and mean of CPU time)", index.len());
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        black_box(build()?);
        least = least.min(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("  build                       {least:.1}");

    let mut random = Random(1);
    let singles: Vec<Vec<f32>> = (0..STATES).map(|_| (0..rows).map(|_| 3.0 * random.normal()).collect()).collect();
    let halves: Vec<Vec<u16>> =
        singles.iter().map(|s| s.iter().map(|x| (x.to_bits() >> 16) as u16).collect()).collect();
    let places = index.root().hi;
    let most: Bits = (0..places).filter(|_| !random.next().is_multiple_of(20)).collect();
    let runs: Bits = (0..places).filter(|place| place / 500 % 3 != 0).collect();
    let masks = [("all", None), ("19 of 20", Some(&most)), ("runs", Some(&runs))];
    println!("  naive      32 bits          {}", times(|n| drop(black_box(naive(&index, &singles[n])))));
    for bits in [32, 16] {
        let logits = |n: usize| if bits == 32 { Logits::F32(&singles[n]) } else { Logits::Bf16(&halves[n]) };
        for (mask, allowed) in masks {
            let time = times(|n| drop(black_box(root_sums(&index, logits(n), allowed, &[0]))));
            println!("  root_sums  {bits} bits {mask:<9} {time}");
            let sums = root_sums(&index, logits(0), allowed, &[0])?;
            let values = gather(&index, logits(0), index.root());
            close(sums.log_allowed, interval_log_mass(index.root(), &values, index.root(), allowed));
            close(sums.log_allowed, log_sum_exp(&sums.bytes[..]));
            if let (32, None) = (bits, allowed) {
                for (sum, naive) in sums.bytes.iter().zip(naive(&index, &singles[0])) {
                    assert!(*sum == naive || (sum - naive).abs() < 1e-9, "{sum} is not {naive}");
                }
            }
        }
        let at = (0..=255).map(|b| index.narrow(index.root(), 0, b)).max_by_key(|at| at.len());
        let at = at.unwrap_or(Interval { lo: 0, hi: 0 });
        println!(
            "  gather     {bits} bits {:<9} {}",
            at.len(),
            times(|n| drop(black_box(gather(&index, logits(n), at))))
        );
        let values = gather(&index, logits(0), at);
        let mut out = [0.0; 256];
        for (mask, allowed) in masks {
            let time = times(|_| {
                black_box(slice_sums(&index, at, &values, at, 1, allowed, &mut out));
            });
            println!("  slice_sums         {mask:<9} {time}");
            let longer = slice_sums(&index, at, &values, at, 1, allowed, &mut out);
            let ending = interval_log_mass(at, &values, index.ending(at, 1), allowed);
            close(log_sum_exp(&[longer, ending]), interval_log_mass(at, &values, at, allowed));
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        measure("random words, 32k", &words(&mut Random(0), 32_000))?;
        measure("random words, 128k", &words(&mut Random(0), 128_000))?;
    }
    for file in files {
        measure(&file, &read(&file)?)?;
    }
    Ok(())
}
