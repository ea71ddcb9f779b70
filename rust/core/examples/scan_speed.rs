//! Prints how fast each scanner cuts English, text in sixty languages, and source code: MB per second of CPU time.
//!
//! `cargo run --release -p anyvocab-core --example scan_speed [folder of fixtures [folder of source code]]`
#![allow(clippy::print_stdout)]

mod clock;

use std::path::{Path, PathBuf};

use anyvocab_core::pretoken::{Known, Scanner, ScannerVisitor, with_scanner};

use clock::cpu;

/// Number of pieces, and a checksum of their ends, so that no scanner's work can be left out.
struct Cut<'t>(&'t [u8]);

impl ScannerVisitor<(usize, usize)> for Cut<'_> {
    fn visit<S: Scanner>(self, scanner: S) -> (usize, usize) {
        scanner.pieces(self.0).fold((0, 0), |(pieces, sum), end| (pieces + 1, sum ^ end))
    }
}

fn concatenated(folder: &Path, extension: &str) -> Vec<u8> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == extension));
    files.sort();
    files.iter().filter_map(|f| std::fs::read(f).ok()).flatten().collect()
}

fn main() {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let fixtures =
        args.next().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures").into());
    let code = args.next().unwrap_or_else(|| "/usr/lib/python3.11".into());
    let english = std::fs::read(fixtures.join("text/books/sherlock_en.txt")).unwrap_or_default();
    let texts = [
        ("english", english),
        ("sixty languages", concatenated(&fixtures.join("text/udhr"), "txt")),
        ("python", concatenated(&code, "py")),
    ];
    for (name, text) in texts {
        if text.is_empty() {
            println!("{name}: no text");
            continue;
        }
        println!("{name}: {} bytes", text.len());
        for known in Known::ALL {
            // Many rounds: some systems count CPU time in ticks of 10 ms.
            let rounds = (60_000_000 / text.len()).max(1);
            let start = cpu();
            let mut pieces = 0;
            for _ in 0..rounds {
                pieces = std::hint::black_box(with_scanner(known, Cut(std::hint::black_box(&text)))).0;
            }
            let speed = (text.len() * rounds) as f64 / (cpu() - start).as_secs_f64() / 1e6;
            println!(
                "  {known:<14} {speed:7.0} MB/s  {:.1} bytes a piece",
                text.len() as f64 / pieces as f64,
                known = format!("{known:?}")
            );
        }
    }
}
