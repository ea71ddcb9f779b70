//! Runs are read as they were written, and parts are merged as they are sorted.

use std::io::{Cursor, Read};

use super::super::runs::{RunReader, RunWriter};
use super::*;

/// A run of random sorted entries, as bytes.
fn a_run(random: &mut Random, entries: usize) -> (Plain, Vec<u8>) {
    let mut plain = Plain::new();
    while plain.len() < entries {
        let word = random_text(random, 4, false);
        plain.insert(word, 1 + random.below(1 << 20) as u64);
    }
    let mut writer = RunWriter::new(Box::new(Cursor::new(Vec::new()))).unwrap();
    plain.iter().for_each(|(word, count)| writer.push(word, *count).unwrap());
    let mut bytes = Vec::new();
    writer.finish().unwrap().read_to_end(&mut bytes).unwrap();
    (plain, bytes)
}

fn read_run(bytes: Vec<u8>) -> crate::Result<Plain> {
    let mut reader = RunReader::new(Box::new(Cursor::new(bytes)))?;
    let mut plain = Plain::new();
    while let Some((word, count)) = reader.current() {
        plain.insert(word.to_vec(), count);
        reader.advance()?;
    }
    Ok(plain)
}

#[test]
fn a_run_is_read_as_it_was_written() {
    let mut random = Random(8);
    for entries in [0, 1, 20_000] {
        let (plain, bytes) = a_run(&mut random, entries);
        assert_eq!(read_run(bytes).unwrap(), plain);
    }
}

#[test]
fn a_run_that_is_cut_off_or_changed_anywhere_is_an_error() {
    let (_, bytes) = a_run(&mut Random(9), 40);
    for end in 0..bytes.len() {
        assert_eq!(read_run(bytes[..end].to_vec()).unwrap_err().kind(), ErrorKind::Storage, "cut at {end}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(read_run(changed).is_err(), "changed at {at}");
    }
}

#[test]
fn parts_are_merged_and_parts_that_are_not_sorted_are_refused() {
    let part = |words: &[&str], counts: &[u64]| {
        let mut offsets = vec![0];
        words.iter().for_each(|word| offsets.push(offsets.last().unwrap() + i64::try_from(word.len()).unwrap()));
        Batch { bytes: words.concat().into_bytes(), offsets, counts: counts.to_vec() }
    };
    let merged = merge_parts(vec![part(&["a", "c"], &[1, 2]), Batch::new(), part(&["a", "ab"], &[10, 20])]).unwrap();
    assert_eq!(merged, part(&["a", "ab", "c"], &[11, 20, 2]));
    for wrong in [part(&["b", "a"], &[1, 1]), part(&["a", "a"], &[1, 1]), part(&["a"], &[0]), part(&["a"], &[1, 2])] {
        assert_eq!(merge_parts(vec![wrong]).unwrap_err().kind(), ErrorKind::Value);
    }
    assert!(merge_parts(vec![part(&["a"], &[u64::MAX]), part(&["a"], &[1])]).is_err());
}
