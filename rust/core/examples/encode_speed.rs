//! Prints how fast a `tokenizer.json` is read and encodes a text, the first time and later: MB per second of CPU time,
//! with a checksum of the ids, so that two builds can be compared.
//!
//! `cargo run --release -p anyvocab-core --example encode_speed tokenizer.json text [rounds]`
#![allow(clippy::print_stdout)]

mod clock;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyvocab_core::formats::tokenizer_json;
use anyvocab_core::pipeline::{Encoder, Specials, Template};
use anyvocab_core::{Limits, TokenId};

use clock::cpu;

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = cpu();
    let done = work();
    (cpu() - start, done)
}

fn checksum(ids: &[TokenId]) -> u64 {
    ids.iter().fold(ids.len() as u64, |sum, &id| sum.rotate_left(5).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(id))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let mut path = || args.next().map(PathBuf::from).ok_or("usage: encode_speed tokenizer.json text [rounds]");
    let (file, text) = (std::fs::read(path()?)?, std::fs::read(path()?)?);
    let rounds = args.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(10);
    let limits = Limits::default();
    let (mut load, mut first, mut later, mut sum) = (Duration::MAX, Duration::MAX, Duration::MAX, None);
    for _ in 0..rounds {
        let (time, description) = timed(|| tokenizer_json::read(&file, &limits));
        let (more, encoder) = timed(|| Encoder::new(Arc::new(description?), &limits));
        let encoder = encoder?;
        load = load.min(time + more);
        let work = || encoder.encode(&text, Specials::Text, Template::Without);
        for best in [&mut first, &mut later] {
            let (time, ids) = timed(work);
            *best = (*best).min(time);
            let found = checksum(&ids?);
            assert_eq!(*sum.get_or_insert(found), found, "the same text gives the same ids");
        }
    }
    let speed = |time: Duration| text.len() as f64 / 1e6 / time.as_secs_f64();
    println!(
        "load {:.1} ms, first {:.1} MB/s, later {:.1} MB/s, ids {:x}",
        load.as_secs_f64() * 1e3,
        speed(first),
        speed(later),
        sum.unwrap_or(0)
    );
    Ok(())
}
