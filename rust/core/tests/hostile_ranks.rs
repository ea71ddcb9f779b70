//! Malformed rank files and RWKV vocabularies: an error, never a panic.

use anyvocab_core::formats::{Description, rwkv, tiktoken};
use anyvocab_core::{Error, Limits};
use proptest::prelude::*;

/// The bytes in base64, by hand: the reader's own decoder must not be its judge.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0_u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        for i in 0..4 {
            let six = (bits >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { char::from(ALPHABET[six as usize]) } else { '=' });
        }
    }
    out
}

fn ranks() -> String {
    let mut lines: String = (0..=255_u8).map(|b| format!("{} {b}\n", base64(&[b]))).collect();
    for (i, token) in ["ab", "abc", "the", " the", "abcabcabcabc"].iter().enumerate() {
        lines.push_str(&format!("{} {}\n", base64(token.as_bytes()), 256 + i));
    }
    lines
}

const WORLD: &str =
    "1 '\\x00' 1\n2 '\\n\\t' 2\n3 b'\\xe2\\x80' 2\n4 \"it's\" 4\n5 ' two words' 10\n6 '\\u200b' 3\n7 'é' 2\n";

fn read_ranks(data: &[u8]) -> Result<Description, Error> {
    tiktoken::read(data, r"\s+|\S+", &[("<|end|>".to_owned(), 300)], &Limits::default())
}

#[test]
fn the_valid_files_are_valid() {
    read_ranks(ranks().as_bytes()).expect("ranks");
    rwkv::read(WORLD.as_bytes(), &Limits::default()).expect("WORLD");
}

#[test]
fn a_cut_file_is_an_error_or_the_whole_lines_before() {
    let text = ranks();
    let singles = text.match_indices('\n').nth(255).expect("256 lines").0;
    for end in 0..text.len() {
        let result = read_ranks(&text.as_bytes()[..end]);
        assert!(end + 3 >= singles || result.is_err(), "{end}");
    }
    for end in 0..WORLD.len() {
        let _ = rwkv::read(&WORLD.as_bytes()[..end], &Limits::default());
    }
}

#[test]
fn tokens_with_too_many_cuts_are_refused_before_they_are_cut() {
    let mut text = ranks();
    for i in 0..2_u8 {
        text.push_str(&format!("{} {}\n", base64(&vec![b'a' + i; 60_000]), 400 + u32::from(i)));
    }
    let error = read_ranks(text.as_bytes()).expect_err("too much work");
    assert!(error.to_string().contains("squared lengths"), "{error}");
}

#[test]
fn every_limit_holds() {
    let default = Limits::default;
    for (limits, name) in [
        (Limits { file_bytes: 100, ..default() }, "Limits.file_bytes"),
        (Limits { tokens: 100, ..default() }, "Limits.tokens"),
        (Limits { max_id: Some(259), ..default() }, "Limits.max_id"),
        (Limits { max_id: Some(299), ..default() }, "Limits.max_id"),
        (Limits { token_bytes: 11, ..default() }, "Limits.token_bytes"),
        (Limits { merges: 2, ..default() }, "Limits.merges"),
        (Limits { pattern_bytes: 2, ..default() }, "Limits.pattern_bytes"),
    ] {
        let error = tiktoken::read(ranks().as_bytes(), r"\S+", &[("<|end|>".to_owned(), 300)], &limits);
        assert!(error.as_ref().is_err_and(|e| e.to_string().contains(name)), "{name}: {error:?}");
    }
    for (limits, name) in [
        (Limits { file_bytes: 10, ..default() }, "Limits.file_bytes"),
        (Limits { tokens: 3, ..default() }, "Limits.tokens"),
        (Limits { max_id: Some(6), ..default() }, "Limits.max_id"),
        (Limits { token_bytes: 9, ..default() }, "Limits.token_bytes"),
    ] {
        let error = rwkv::read(WORLD.as_bytes(), &limits);
        assert!(error.as_ref().is_err_and(|e| e.to_string().contains(name)), "{name}: {error:?}");
    }
}

#[test]
fn every_kept_file_is_refused_as_its_list_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/hostile");
    let list = std::fs::read_to_string(format!("{folder}/EXPECTED.tsv")).expect("tests/hostile/EXPECTED.tsv");
    let mut files = 0;
    for line in list.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let read: fn(&[u8]) -> Result<Description, Error> = match columns[0].rsplit('.').next() {
            Some("tiktoken") => read_ranks,
            Some("rwkv") => |data| rwkv::read(data, &Limits::default()),
            _ => continue,
        };
        let data = std::fs::read(format!("{folder}/{}", columns[0])).expect(columns[0]);
        let error = read(&data).expect_err(columns[0]);
        assert!(error.to_string().contains(columns[2]), "{}: {error}", columns[0]);
        assert_eq!(format!("{:?}", error.kind()), columns[1], "{}: {error}", columns[0]);
        files += 1;
    }
    assert!(files >= 4, "{files}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_give_an_error_or_a_tokenizer(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for valid in [ranks(), WORLD.to_owned()] {
            let mut data = valid.into_bytes();
            for (at, byte) in &flips {
                let at = at.index(data.len());
                data[at] = *byte;
            }
            let _ = read_ranks(&data);
            let _ = rwkv::read(&data, &Limits::default());
        }
    }

    #[test]
    fn any_literal_gives_an_error_or_a_token(source in "[ '\"b\\\\xuU0-7a-fné]{0,12}", len in 0_usize..12) {
        let _ = rwkv::read(format!("1 '{source}' {len}").as_bytes(), &Limits::default());
        let _ = rwkv::read(format!("1 b\"{source}\" {len}").as_bytes(), &Limits::default());
    }
}
