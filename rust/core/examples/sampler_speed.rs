//! Prints CPU milliseconds per step of sampling a tokenizer: this library's, and the published design as its paper's code
//! has it (Minixhofer et al. 2024): maps keyed by strings, every occurrence counted, all maps of the queue added up anew
//! at every step, all substrings sorted. Both take the published settings; building the Unigram model is in neither.
//!
//! `cargo run --release -p anyvocab-core --example sampler_speed texts [vocab_size]`
//!
//! The file holds texts that end in a zero byte; each step takes the next 128 of them.
#![allow(clippy::print_stdout)]

mod clock;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::ops::{ControlFlow, Range};
use std::time::Duration;

use anyvocab_core::Limits;
use anyvocab_core::decode::byte_alphabet;
use anyvocab_core::pipeline::Cancel;
use anyvocab_core::sampler::{Distribution, Ends, Options, Sampler, Shape, Whitespace};
use anyvocab_core::train::{Cuts, Cutter, PieceSink};

use clock::cpu;

const TEXTS: usize = 128;
const BATCHES: usize = 16;
const LONGEST: usize = 15;
const STRIDE: usize = 4;
const NOISE: f64 = 1e-5;
const SEED: u64 = 1;

type Error = Box<dyn std::error::Error>;

/// Substrings and the logarithms of their noised probabilities.
type Noised = Vec<(String, f64)>;

/// The published design, with any hasher.
struct Published<S> {
    cutter: Cutter,
    queue: VecDeque<HashMap<String, u64, S>>,
    vocab_size: usize,
    state: u64,
}

#[derive(Default)]
struct Pieces(Vec<Range<usize>>);

impl PieceSink for Pieces {
    fn piece(&mut self, _: &[u8], range: Range<usize>) -> ControlFlow<()> {
        self.0.push(range);
        ControlFlow::Continue(())
    }
}

impl<S: BuildHasher + Default> Published<S> {
    fn new(vocab_size: usize) -> Result<Self, Error> {
        let cutter = Cutter::new(&Cuts::named("gpt2")?, None, &Limits::default())?;
        Ok(Self { cutter, queue: VecDeque::new(), vocab_size, state: SEED })
    }

    /// Counts a batch; the byte-level spelling of a pretoken is made once, as there.
    fn count(&self, texts: &[&[u8]]) -> Result<HashMap<String, u64, S>, Error> {
        let mut counts: HashMap<String, u64, S> = HashMap::default();
        for text in texts {
            let mut pieces = Pieces::default();
            let _ = self.cutter.cut(text, 0..text.len(), &mut pieces)?;
            for piece in pieces.0 {
                let spelling: String = text[piece].iter().map(|&byte| byte_alphabet::char_of(byte)).collect();
                let bounds: Vec<usize> = spelling.char_indices().map(|(at, _)| at).chain([spelling.len()]).collect();
                for start in (0..bounds.len() - 1).step_by(STRIDE) {
                    for end in start + 1..bounds.len().min(start + LONGEST + 1) {
                        let substring = &spelling[bounds[start]..bounds[end]];
                        *counts.entry(substring.to_owned()).or_default() += substring.len() as u64;
                    }
                }
            }
        }
        Ok(counts)
    }

    fn gaussian(&mut self) -> f64 {
        let mut next = || {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            ((self.state >> 11) + 1) as f64 / (1_u64 << 53) as f64
        };
        let (one, two) = (next(), next());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
    }

    /// A step, and the times of its parts: counting, adding up, choosing.
    fn step(&mut self, texts: &[&[u8]]) -> Result<(Noised, [Duration; 3]), Error> {
        let start = cpu();
        let counts = self.count(texts)?;
        let counted = cpu();
        if self.queue.len() == BATCHES {
            self.queue.pop_back();
        }
        self.queue.push_front(counts);
        let mut all: HashMap<String, u64, S> = HashMap::default();
        for counts in &self.queue {
            for (substring, count) in counts {
                *all.entry(substring.clone()).or_default() += count;
            }
        }
        let added = cpu();
        let total = all.values().sum::<u64>() as f64;
        let mut noised = Noised::with_capacity(all.len());
        for (substring, count) in all {
            let p = count as f64 / total + NOISE * self.gaussian();
            noised.push((substring, if p > 0.0 { p.ln() } else { -1e5 }));
        }
        noised.sort_by(|a, b| b.1.total_cmp(&a.1));
        noised.retain(|(substring, _)| {
            substring.chars().count() > 1 && substring.chars().filter(|c| "ĠĊĉ".contains(*c)).count() < 2
        });
        noised.truncate(self.vocab_size);
        Ok((noised, [counted - start, added - counted, cpu() - added]))
    }
}

fn ours(vocab_size: usize) -> Result<Sampler, Error> {
    let fixed = |value| Distribution { shape: Shape::Fixed(value), low: 0.0, high: value };
    let size = vocab_size as f64;
    let options = Options {
        queue_batches: BATCHES,
        max_bytes: LONGEST,
        stride: STRIDE,
        ends: Ends::Bytes,
        vocab_size: Distribution { shape: Shape::Fixed(size), low: size, high: size },
        noise: fixed(NOISE),
        whitespace: Whitespace::Runs,
        patterns: vec![Cuts::named("gpt2")?],
        near_probability: 0.0,
        greedy_probability: 0.0,
    };
    Ok(Sampler::new(options, &[], SEED, 1, &Limits::default())?)
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn published<S: BuildHasher + Default>(name: &str, batches: &[&[&[u8]]], size: usize) -> Result<usize, Error> {
    let mut sampler = Published::<S>::new(size)?;
    let (mut parts, mut found) = (Vec::new(), 0);
    for (at, texts) in batches.iter().enumerate() {
        let (tokens, times) = sampler.step(texts)?;
        found = tokens.len();
        if at >= BATCHES {
            parts.push(times);
        }
    }
    let of = |part: usize| median(&mut parts.iter().map(|times| times[part]).collect::<Vec<_>>());
    let (count, add, choose) = (of(0), of(1), of(2));
    let all = median(&mut parts.iter().map(|times| times.iter().sum()).collect::<Vec<_>>());
    println!("{name}: {all:.1} ms (count {count:.1}, add up {add:.1}, choose {choose:.1}), {found} tokens");
    Ok(found)
}

fn main() -> Result<(), Error> {
    let mut args = std::env::args_os().skip(1);
    let data = std::fs::read(args.next().ok_or("usage: sampler_speed texts [vocab_size]")?)?;
    let size = args.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(32_768);
    let mut texts: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    texts.pop(); // what follows the last zero byte
    let batches: Vec<&[&[u8]]> = texts.chunks_exact(TEXTS).collect();
    if batches.len() <= BATCHES {
        return Err(format!("{} batches of {TEXTS} texts; more than {BATCHES} are needed", batches.len()).into());
    }
    published::<std::hash::RandomState>("published design", &batches, size)?;
    let found = published::<foldhash::fast::RandomState>("published design, a fast hash", &batches, size)?;

    let mut sampler = ours(size)?;
    let mut times = Vec::new();
    for (at, texts) in batches.iter().enumerate() {
        let start = cpu();
        let sampled = sampler.step(texts, &Cancel::default())?;
        if at >= BATCHES {
            times.push(cpu() - start);
        }
        if at + 1 == batches.len() && sampled.len() != size.min(found + 256 + 135) {
            return Err(format!("{} tokens at step {at}, {found} were learnt by the other", sampled.len()).into());
        }
    }
    println!("anyvocab, with the trie: {:.1} ms, {} slots", median(&mut times), sampler.slots());
    Ok(())
}
