//! The fuzz targets' checks over the kept inputs: what nightly and libFuzzer look for, in small, on a stable compiler.

use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub)]
mod fuzz;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

/// Whole, cut at up to 100 places, and with up to 300 single bytes changed; the generator starts from the same state
/// each time.
fn replay(check: fn(&[u8]), data: &[u8]) {
    check(data);
    let step = data.len() / 100 + 1;
    for end in (0..data.len()).step_by(step) {
        check(&data[..end]);
    }
    let mut state: u64 = 0x2545_F491_4F6C_DD1D;
    let mut changed = data.to_vec();
    for _ in 0..300.min(data.len() * 4) {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = usize::try_from(state % data.len() as u64).expect("below a length");
        let before = std::mem::replace(&mut changed[at], state.to_le_bytes()[7]);
        check(&changed);
        changed[at] = before;
    }
}

fn replay_folder(target: &str, extension: &str, check: fn(&[u8])) {
    let corpus = Path::new(ROOT).join("rust/fuzz/corpus").join(target);
    let hostile = files(&Path::new(ROOT).join("tests/hostile"));
    let hostile = hostile.into_iter().filter(|p| p.extension().is_some_and(|e| e == extension));
    let mut count = 0;
    for file in files(&corpus).into_iter().chain(hostile) {
        replay(check, &std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())));
        count += 1;
    }
    assert!(count > 0, "no input for {target}");
}

#[test]
fn tokenizer_json_survives_the_kept_inputs() {
    replay_folder("tokenizer_json", "json", fuzz::check_tokenizer_json);
}

#[test]
fn tiktoken_survives_the_kept_inputs() {
    replay_folder("tiktoken", "tiktoken", fuzz::check_tiktoken);
}

#[test]
fn rwkv_survives_the_kept_inputs() {
    replay_folder("rwkv", "rwkv", fuzz::check_rwkv);
}

#[test]
fn sentencepiece_survives_the_kept_inputs() {
    replay_folder("sentencepiece", "model", fuzz::check_sentencepiece);
}

#[test]
fn gguf_survives_the_kept_inputs() {
    replay_folder("gguf", "gguf", fuzz::check_gguf);
}

#[test]
fn sentencepiece_and_gguf_survive_what_is_neither() {
    for target in ["tokenizer_json", "tiktoken", "rwkv"] {
        for file in files(&Path::new(ROOT).join("rust/fuzz/corpus").join(target)) {
            let data = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            for magic in [&b""[..], b"GGUF\x03\0\0\0", b"\n\x0e\n\x05<unk>"] {
                let data = [magic, &data].concat();
                fuzz::check_sentencepiece(&data);
                fuzz::check_gguf(&data);
            }
        }
    }
}
