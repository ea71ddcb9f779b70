//! Compares the model engines with vectors of the original implementations, and times them.
//!
//! `cargo run --release -p anyvocab-core --example model_vectors -- [--time] FILE...`
//!
//! A file has one JSON object per line. The first is the model:
//! `{"kind": "unigram", "flavour": "tokenizers", "unk": 2, "byte_fallback": false, "pieces": [["▁a", -3.5, "-3.50"]]}`
//! (score as the original holds it, and as its file writes it), or with `"flavour": "sentencepiece"` and a kind in the
//! third place; `{"kind": "wordpiece", "unk": 100, "prefix": "##", "max": 100, "vocab": [["a", 5]]}`; or
//! `{"kind": "trie", "vocab": [["0a", 11]]}` (hexadecimal). The others are
//! `{"text": "▁a", "count": 3, "ids": [5]}`, or `hex` in place of `text`.
#![allow(clippy::print_stdout, missing_docs)]

use anyvocab_core::formats::{Trie, Unigram, UnigramFlavour, WordPiece};
use anyvocab_core::{Limits, TokenId, trie, unigram, wordpiece};
use serde_json::Value;
use std::hint::black_box;
use std::time::Instant;

/// Seconds of processor time of this process; of the clock where the system does not tell.
fn seconds(start: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |n| n / 1e9)
}

/// One of the engines with its scratch.
enum Engine {
    Unigram(unigram::Engine, unigram::Scratch),
    WordPiece(wordpiece::Engine),
    Trie(trie::Engine),
}

impl Engine {
    fn encode(&mut self, piece: &[u8], out: &mut Vec<TokenId>) {
        match self {
            Self::Unigram(engine, scratch) => engine.encode(piece, scratch, out),
            Self::WordPiece(engine) => engine.encode(piece, &mut wordpiece::Scratch, out),
            Self::Trie(engine) => engine.encode(piece, &mut trie::Scratch, out),
        }
    }

    fn encode_with_lens(&mut self, piece: &[u8], out: &mut Vec<TokenId>, lens: &mut Vec<u32>) {
        match self {
            Self::Unigram(engine, scratch) => engine.encode_with_lens(piece, scratch, out, lens),
            Self::WordPiece(engine) => engine.encode_with_lens(piece, &mut wordpiece::Scratch, out, lens),
            Self::Trie(engine) => engine.encode_with_lens(piece, &mut trie::Scratch, out, lens),
        }
    }
}

fn id(value: &Value) -> TokenId {
    TokenId::try_from(value.as_u64().expect("an id")).expect("an id")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal digits")).collect()
}

fn unigram_model(head: &Value) -> Unigram {
    let mut model = Unigram {
        byte_fallback: head["byte_fallback"].as_bool().expect("byte_fallback"),
        fuse_unk: true,
        unk: head.get("unk").map(id),
        ..Unigram::default()
    };
    if head["flavour"] == "sentencepiece" {
        model.flavour = UnigramFlavour::SentencePiece;
    }
    for (n, piece) in (0u32..).zip(head["pieces"].as_array().expect("pieces")) {
        let score = piece[1].as_f64().expect("a score");
        model.vocab.push(text(&piece[0]).as_bytes(), n);
        model.scores.push(score);
        match text(&piece[2]) {
            "unknown" => model.unk = Some(n),
            "never" => model.never.push(n),
            "user_defined" => model.user_defined.push(n),
            _ => {}
        }
    }
    model
}

fn main() {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    let time = files.first().is_some_and(|first| first == "--time");
    if time {
        files.remove(0);
    }
    for file in files {
        println!("{file}");
        let content = std::fs::read_to_string(&file).expect("a readable file");
        let mut lines = content.lines().map(|line| serde_json::from_str::<Value>(line).expect("a JSON object"));
        let head = lines.next().expect("a model");
        let limits = Limits::default();
        let start = Instant::now();
        let mut engine = match text(&head["kind"]) {
            "unigram" => {
                let model = unigram_model(&head);
                let start = Instant::now();
                let engine = unigram::Engine::new(&model, &limits).expect("a good model");
                println!("  built in {:?}, {} bytes", start.elapsed(), engine.memory());
                Engine::Unigram(engine, unigram::Scratch::default())
            }
            "wordpiece" => {
                let mut model = WordPiece {
                    unk: Some(id(&head["unk"])),
                    continuing_subword_prefix: text(&head["prefix"]).into(),
                    max_input_chars_per_word: id(&head["max"]) as usize,
                    ..WordPiece::default()
                };
                for entry in head["vocab"].as_array().expect("a vocabulary") {
                    model.vocab.push(text(&entry[0]).as_bytes(), id(&entry[1]));
                }
                Engine::WordPiece(wordpiece::Engine::new(&model, &limits).expect("a good model"))
            }
            _ => {
                let mut model = Trie::default();
                for entry in head["vocab"].as_array().expect("a vocabulary") {
                    model.vocab.push(&hex(text(&entry[0])), id(&entry[1]));
                }
                Engine::Trie(trie::Engine::new(&model, &limits).expect("a good model"))
            }
        };
        println!("  model read and built in {:?}", start.elapsed());

        let (mut texts, mut equal) = (Vec::new(), 0usize);
        for line in lines {
            let piece = match line.get("hex") {
                Some(bytes) => hex(text(bytes)),
                None => text(&line["text"]).as_bytes().to_vec(),
            };
            let ids: Vec<TokenId> = line["ids"].as_array().expect("ids").iter().map(id).collect();
            let (mut out, mut again, mut lens) = (Vec::new(), Vec::new(), Vec::new());
            engine.encode(&piece, &mut out);
            engine.encode_with_lens(&piece, &mut again, &mut lens);
            assert_eq!(out, again);
            assert_eq!(lens.iter().map(|len| *len as usize).sum::<usize>(), piece.len());
            if out == ids {
                equal += 1;
            } else if texts.len() - equal < 5 {
                let shown = String::from_utf8_lossy(&piece[..piece.len().min(200)]).into_owned();
                println!("  differs: {shown:?} {:?} {:?}", &out[..out.len().min(20)], &ids[..ids.len().min(20)]);
            }
            texts.push((piece, line["count"].as_u64().expect("a count")));
        }
        let bytes: usize = texts.iter().map(|(piece, _)| piece.len()).sum();
        println!("  {equal} of {} texts equal ({bytes} bytes)", texts.len());

        if time {
            for (name, want) in
                [("up to 64 bytes", 0..65), ("65 to 1024 bytes", 65..1025), ("longer", 1025..usize::MAX)]
            {
                let chosen: Vec<_> = texts.iter().filter(|(piece, _)| want.contains(&piece.len())).collect();
                let bytes: usize = chosen.iter().map(|(piece, _)| piece.len()).sum();
                if bytes == 0 {
                    continue;
                }
                let repeats = 1 + 10_000_000 / bytes; // the clock has coarse ticks
                let (mut best, mut ids) = (f64::INFINITY, 0);
                for _ in 0..5 {
                    let before = seconds(start);
                    let mut out = Vec::new();
                    for _ in 0..repeats {
                        ids = 0;
                        for (piece, _) in &chosen {
                            out.clear();
                            engine.encode(black_box(piece), &mut out);
                            ids += out.len();
                        }
                    }
                    best = best.min((seconds(start) - before) / repeats as f64);
                }
                let each = best * 1e9;
                println!(
                    "  {name}: {} texts, {bytes} bytes, {ids} ids: {:.2} ns/byte, {:.1} ns/id",
                    chosen.len(),
                    each / bytes as f64,
                    each / ids as f64
                );
            }
        }
    }
}
