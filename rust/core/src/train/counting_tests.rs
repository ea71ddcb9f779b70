//! Counting against a plain map over the reference's pieces, whatever the blocks, threads and memory.

mod runs;

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::counts::{CountMap, Room};
use super::kway::{Merge, Source};
use super::*;
use crate::formats::description::{Normalizer, Pattern};
use crate::pipeline::Cancel;
use crate::pretoken::reference::Reference;
use crate::pretoken::{Known, Scanner, ScannerVisitor, with_scanner};
use crate::{ErrorKind, Limits};

type Plain = BTreeMap<Vec<u8>, u64>;

/// Numbers from a seed: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}

/// What scanners trip over, put together at random; with bytes that are not UTF-8 when asked for.
fn random_text(random: &mut Random, parts: usize, is_utf8: bool) -> Vec<u8> {
    const PARTS: [&str; 28] = [
        "a", "the ", "token", " b", "  ", "\n", "\r\n", "\t", " ", "x's", "'ll ", "ABC", "Ab", "1", "234567", " 7",
        "!", "...", "/", "(", "é", "ʰ", "中文", "한 ", "\u{301}", "\u{85}", "🇩🇪", "\u{3000}",
    ];
    let mut text = Vec::new();
    for _ in 0..parts {
        if !is_utf8 && random.below(12) == 0 {
            text.push([0xFF, 0xC3, 0xE4, 0x80][random.below(4)]);
        }
        let part = PARTS[random.below(PARTS.len())];
        for _ in 0..if random.below(20) == 0 { random.below(30) } else { 1 } {
            text.extend_from_slice(part.as_bytes());
        }
    }
    text
}

fn in_memory() -> MakeFile {
    Box::new(|| Ok(Box::new(Cursor::new(Vec::new()))))
}

fn settings(threads: usize, memory_bytes: usize) -> Settings {
    Settings { threads, memory_bytes, invalid: Invalid::Bytes, documents: Documents::Texts }
}

fn counter(cuts: &Cuts, settings: Settings) -> Counter {
    let cutter = Cutter::new(cuts, None, &Limits::default()).unwrap();
    Counter::new(cutter, settings, in_memory()).unwrap()
}

fn plain_of(batch: &Batch) -> Plain {
    let ends: Vec<usize> = batch.offsets.iter().map(|&o| usize::try_from(o).unwrap()).collect();
    let pieces: Vec<_> = ends.windows(2).map(|pair| batch.bytes[pair[0]..pair[1]].to_vec()).collect();
    assert!(pieces.windows(2).all(|pair| pair[0] < pair[1]), "sorted, each once");
    pieces.into_iter().zip(batch.counts.iter().copied()).collect()
}

fn all(merge: &mut Merge) -> Plain {
    plain_of(&merge.next_batch(usize::MAX, usize::MAX, &Cancel::default()).unwrap())
}

fn by_reference(known: Known, texts: &[Vec<u8>]) -> Plain {
    let reference = Reference::of(known);
    let mut plain = Plain::new();
    for text in texts {
        for piece in reference.pieces(text) {
            *plain.entry(text[piece].to_vec()).or_default() += 1;
        }
    }
    plain
}

fn views(texts: &[Vec<u8>]) -> Vec<&[u8]> {
    texts.iter().map(Vec::as_slice).collect()
}

#[test]
fn counts_are_those_of_the_reference_for_every_scanner() {
    let mut random = Random(1);
    for known in Known::ALL {
        let texts: Vec<_> = (0..20).map(|i| random_text(&mut random, 60, i % 2 == 0)).collect();
        let mut counter = counter(&Cuts::Known(known), settings(2, 1 << 20));
        counter.add(&views(&texts), 1, &Cancel::default()).unwrap();
        let expected = by_reference(known, &texts);
        assert_eq!(counter.totals().pretokens, expected.values().sum::<u64>(), "{known:?}");
        assert_eq!(counter.totals().bytes, texts.iter().map(|t| t.len() as u64).sum::<u64>());
        assert_eq!(all(&mut counter.finish().unwrap()), expected, "{known:?}");
    }
}

#[test]
fn a_pattern_without_a_scanner_counts_matches_and_what_lies_between() {
    let cuts = Cuts::Pattern(Pattern::Regex(r"\d|a(?=b)".to_owned()));
    let mut counter = counter(&cuts, settings(1, 1 << 20));
    counter.add(&[b"ab1xab\xFF2"], 3, &Cancel::default()).unwrap();
    let pieces: [&[u8]; 6] = [b"1", b"2", b"a", b"b", b"b\xFF", b"xa"];
    let counted = all(&mut counter.finish().unwrap());
    // a|b|1|x|a|b\xFF|2: `x` and the second `a` are apart.
    assert_eq!(counted.get(pieces[2]), Some(&6));
    assert_eq!(counted.values().sum::<u64>(), 21);
    assert_eq!(counted.get(pieces[4]), Some(&3));
}

#[test]
fn without_cuts_a_document_is_one_pretoken_and_lines_are_documents_of_their_own() {
    for (documents, expected) in [
        (Documents::Texts, vec![(b"a b\nc\n".to_vec(), 2)]),
        (Documents::Lines, vec![(b"a b\n".to_vec(), 2), (b"c\n".to_vec(), 2)]),
    ] {
        let mut counter = counter(&Cuts::Whole, Settings { documents, ..settings(1, 1 << 20) });
        counter.add(&[b"a b\nc\n", b"", b"a b\nc\n"], 1, &Cancel::default()).unwrap();
        assert_eq!(counter.totals().documents, if documents == Documents::Texts { 3 } else { 4 });
        assert_eq!(all(&mut counter.finish().unwrap()), expected.into_iter().collect());
    }
}

#[test]
fn a_normalizer_is_applied_before_cutting() {
    let cutter = Cutter::new(&Cuts::Known(Known::Cl100k), Some(&Normalizer::Nfc), &Limits::default()).unwrap();
    let mut counter = Counter::new(cutter, settings(1, 1 << 20), in_memory()).unwrap();
    counter.add(&["cafe\u{301} cafe\u{301}".as_bytes()], 1, &Cancel::default()).unwrap();
    let counted = all(&mut counter.finish().unwrap());
    assert_eq!(counted, [("café".into(), 1), (" café".into(), 1)].into_iter().collect());
}

/// Every cut of the texts into blocks gives the counts of whole texts; `FEED` is 8 MiB, so the blocks are held in small
/// tests and the cutter's own streaming is tested here.
fn in_blocks(cutter: &Cutter, text: &[u8], block: usize) -> Vec<Vec<u8>> {
    struct Collect(Vec<Vec<u8>>);
    impl PieceSink for Collect {
        fn piece(&mut self, text: &[u8], range: Range<usize>) -> ControlFlow<()> {
            self.0.push(text[range].to_vec());
            ControlFlow::Continue(())
        }
    }
    let (mut sink, mut held) = (Collect(Vec::new()), Vec::new());
    for part in text.chunks(block) {
        held.extend_from_slice(part);
        let end = cutter.final_prefix(&held);
        assert!(cutter.cut(&held, 0..end, &mut sink).unwrap().is_continue());
        held.drain(..end);
    }
    assert!(cutter.cut(&held, 0..held.len(), &mut sink).unwrap().is_continue());
    sink.0
}

#[test]
fn every_block_size_gives_the_same_pretokens_for_every_scanner() {
    let mut random = Random(2);
    for known in Known::ALL {
        let cutter = Cutter::new(&Cuts::Known(known), None, &Limits::default()).unwrap();
        for round in 0..12 {
            let text = random_text(&mut random, 80, round % 3 > 0);
            let whole = in_blocks(&cutter, &text, text.len().max(1));
            for block in [1, 2, 3, 7, 16, 33, 100] {
                assert_eq!(in_blocks(&cutter, &text, block), whole, "{known:?}, blocks of {block}");
            }
        }
    }
}

#[test]
fn a_seam_never_changes_a_pretoken_of_either_part() {
    let mut random = Random(3);
    for known in Known::ALL {
        for normalizer in [None, Some(Normalizer::Nfc), Some(Normalizer::Nfkd), Some(Normalizer::Lowercase)] {
            let cutter = Cutter::new(&Cuts::Known(known), normalizer.as_ref(), &Limits::default()).unwrap();
            let mut seams = 0;
            for round in 0..20 {
                let text = random_text(&mut random, 50, round % 2 == 0);
                let whole = in_blocks(&cutter, &text, text.len().max(1));
                let Some(seam) = cutter.last_seam(&text, 0..text.len()) else { continue };
                seams += 1;
                let mut parts = in_blocks(&cutter, &text[..seam], text.len());
                parts.extend(in_blocks(&cutter, &text[seam..], text.len()));
                assert_eq!(parts, whole, "{known:?} {normalizer:?} at {seam}");
            }
            assert_eq!(seams > 0, known != Known::SuperBpe, "{known:?}");
        }
    }
}

/// Whether the reach of every piece that ends before a seam lies before the seam's end.
struct Reaches<'a>(&'a [u8], usize);

impl ScannerVisitor<bool> for Reaches<'_> {
    fn visit<S: Scanner>(self, scanner: S) -> bool {
        let mut at = 0;
        while at < self.1 {
            let (end, reach) = scanner.next_with_reach(self.0, at);
            if reach > self.1 + 3 {
                return false;
            }
            at = end;
        }
        at == self.1
    }
}

#[test]
fn no_scanner_looks_past_a_seam_by_more_than_a_contraction() {
    let mut random = Random(4);
    for known in Known::ALL.into_iter().filter(|known| *known != Known::SuperBpe) {
        let cutter = Cutter::new(&Cuts::Known(known), None, &Limits::default()).unwrap();
        for _ in 0..20 {
            let text = random_text(&mut random, 80, true);
            if let Some(seam) = cutter.last_seam(&text, 0..text.len()) {
                assert!(with_scanner(known, Reaches(&text, seam)), "{known:?}: {:?}", String::from_utf8_lossy(&text));
            }
        }
    }
}

/// A text of over 3 MiB, so that several items and, in blocks, several looks are needed.
fn long_text(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < 3 << 20 {
        text.extend_from_slice(&random_text(random, 1000, true));
    }
    text
}

#[test]
fn threads_memory_and_blocks_do_not_change_the_counts() {
    let text = long_text(&mut Random(5));
    for known in [Known::Cl100k, Known::SuperBpe] {
        let cuts = Cuts::Known(known);
        let mut one = counter(&cuts, settings(1, 64 << 20));
        one.add(&[&text], 1, &Cancel::default()).unwrap();
        let totals = one.totals();
        let expected = all(&mut one.finish().unwrap());
        for (threads, memory, block) in
            [(3, 64 << 20, None), (1, 1 << 16, None), (4, 1 << 18, None), (2, 1 << 17, Some(1 << 20))]
        {
            let mut other = counter(&cuts, settings(threads, memory));
            match block {
                None => other.add(&[&text], 1, &Cancel::default()).unwrap(),
                Some(block) => {
                    text.chunks(block).for_each(|part| other.feed(part, 1, &Cancel::default()).unwrap());
                    other.end_document(&Cancel::default()).unwrap();
                }
            }
            assert_eq!(other.totals(), totals);
            assert_eq!(other.usage().2 > 0, memory < 1 << 20, "a small budget writes runs");
            assert_eq!(all(&mut other.finish().unwrap()), expected, "{known:?}, {threads} threads, {memory} bytes");
        }
    }
}

#[test]
fn more_runs_than_may_be_open_are_merged_on_the_way() {
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    struct Counted(Cursor<Vec<u8>>, Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }
    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Counted {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0.write(buffer)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }
    impl Seek for Counted {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let (files, peak) = (Arc::clone(&open), Arc::clone(&most));
    let make: MakeFile = Box::new(move || {
        peak.fetch_max(files.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Ok(Box::new(Counted(Cursor::new(Vec::new()), Arc::clone(&files))))
    });
    let cutter = Cutter::new(&Cuts::Known(Known::Gpt2), None, &Limits::default()).unwrap();
    let mut counter = Counter::new(cutter, settings(1, 1 << 16), make).unwrap();
    // 300,000 different words in maps of at most some 1,500.
    let text: Vec<u8> = (0..300_000_u32).flat_map(|i| format!(" {}", letters(i)).into_bytes()).collect();
    counter.add(&[&text], 2, &Cancel::default()).unwrap();
    assert!(most.load(Ordering::Relaxed) < 150, "{most:?} files at once");
    let counted = all(&mut counter.finish().unwrap());
    assert_eq!((counted.len(), counted.values().sum::<u64>()), (300_000, 600_000));
    drop(counter);
    assert_eq!(open.load(Ordering::Relaxed), 0, "no file stays open");
}

/// A word of letters for a number.
fn letters(mut n: u32) -> String {
    let mut word = String::new();
    loop {
        word.push(char::from(b'a' + (n % 26) as u8));
        n /= 26;
        if n == 0 {
            return word;
        }
    }
}

#[test]
fn the_map_counts_as_a_plain_map_and_sorts_by_bytes() {
    let mut random = Random(6);
    let mut map = CountMap::new(usize::MAX);
    let mut plain = Plain::new();
    for _ in 0..40_000 {
        // Lengths around 15 and 16, few different bytes, zeros among them: `a` and `a\0` are not the same.
        let most = if random.below(4) == 0 { 40 } else { 17 };
        let len = 1 + random.below(most);
        let word: Vec<u8> = (0..len).map(|_| [0, 1, b'a', 0xFF][random.below(4)]).collect();
        let weight = 1 + random.below(3) as u64;
        let text = [b"xy", word.as_slice(), b"0123456789abcdef"].concat();
        assert_eq!(map.add(&text, 2..2 + len, weight), Room::Left);
        *plain.entry(word).or_default() += weight;
    }
    assert_eq!(map.len(), plain.len());
    assert_eq!(all(&mut Merge::new(Source::of_map(map.take_sorted()).into())), plain);
    assert_eq!((map.len(), map.bytes_used()), (0, 0));
}

#[test]
fn a_full_map_stays_within_its_budget() {
    let budget = 1 << 18;
    let mut map = CountMap::new(budget);
    let mut added = 0_u32;
    for i in 0.. {
        let word = if i % 3 == 0 { format!("{} and what follows it", letters(i)) } else { letters(i) };
        added += 1;
        if map.add(word.as_bytes(), 0..word.len(), 1) == Room::Full {
            break;
        }
    }
    assert_eq!(map.len(), added as usize);
    assert!(map.bytes_used() <= budget, "{} of {budget}", map.bytes_used());
    assert!(map.bytes_used() * 4 > budget, "{} of {budget}", map.bytes_used());
}

#[test]
fn counts_over_64_bits_are_an_error() {
    let mut counter = counter(&Cuts::Known(Known::Gpt2), settings(1, 1 << 20));
    counter.add(&[b"a"], u64::MAX, &Cancel::default()).unwrap();
    let error = counter.add(&[b"a"], 1, &Cancel::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Value);
    assert!(error.to_string().contains("2^64"), "{error}");
    assert!(counter.finish().is_err(), "wrong counts cannot be had");
}

#[test]
fn bytes_that_are_no_utf8_are_refused_with_their_place() {
    let settings = Settings { invalid: Invalid::Error, ..settings(1, 1 << 20) };
    let mut counter = counter(&Cuts::Known(Known::Gpt2), settings);
    let error = counter.add(&[b"fine", b"ab\xFF"], 1, &Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("documents[1]: not UTF-8: byte 0xff at offset 2"), "{error}");
    // Nothing of that call was counted, and the counter is of use.
    assert_eq!(counter.totals(), Totals::default());
    // In blocks, a character may be cut.
    counter.feed(b"caf\xC3", 1, &Cancel::default()).unwrap();
    counter.feed(b"\xA9 ok", 1, &Cancel::default()).unwrap();
    counter.end_document(&Cancel::default()).unwrap();
    counter.feed(b"caf\xC3", 1, &Cancel::default()).unwrap();
    let error = counter.end_document(&Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("byte 0xc3 at offset 3"), "{error}");
}

#[test]
fn a_document_over_the_limit_is_refused_where_it_must_be_held_whole() {
    let limits = Limits { document_bytes: 1000, ..Limits::default() };
    let build = |cuts: &Cuts| Cutter::new(cuts, None, &limits).unwrap();
    let pattern = Cuts::Pattern(Pattern::Regex(r"\w+|\W".to_owned()));
    for cuts in [Cuts::Whole, pattern] {
        let mut counter = Counter::new(build(&cuts), settings(1, 1 << 20), in_memory()).unwrap();
        let error = counter.add(&[&[b'a'; 1001]], 1, &Cancel::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.fix().contains("documents=\"line\""), "{error}");
    }
    let mut counter = Counter::new(build(&Cuts::Known(Known::Gpt2)), settings(1, 1 << 20), in_memory()).unwrap();
    counter.add(&[&[b'a'; 5000]], 1, &Cancel::default()).unwrap();
}

#[test]
fn a_cancelled_count_cannot_be_finished() {
    let cancel = Cancel::default();
    cancel.cancel();
    let mut counter = counter(&Cuts::Known(Known::Gpt2), settings(2, 1 << 20));
    assert!(counter.add(&[b"a b"], 1, &cancel).is_err());
    assert!(counter.finish().is_err());
}

/// A file on a disk with room for so many bytes.
struct Small(Cursor<Vec<u8>>, usize);

impl Read for Small {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Small {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Write for Small {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.0.get_ref().len() + buffer.len() > self.1 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_named() {
    let text = long_text(&mut Random(7));
    for room in [0, 20, 10_000] {
        let cutter = Cutter::new(&Cuts::Known(Known::Gpt2), None, &Limits::default()).unwrap();
        let make: MakeFile = Box::new(move || Ok(Box::new(Small(Cursor::new(Vec::new()), room))));
        let mut counter = Counter::new(cutter, settings(2, 1 << 17), make).unwrap();
        let error = counter.add(&[&text], 1, &Cancel::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.to_string().contains("ENOSPC"), "{error}");
        assert!(counter.finish().is_err());
    }
}

#[test]
fn a_misspelt_pattern_name_is_no_regular_expression() {
    assert_eq!(Cuts::named("llama3").unwrap(), Cuts::Known(Known::Cl100k));
    assert_eq!(Cuts::named("none").unwrap(), Cuts::Whole);
    assert!(matches!(Cuts::named(r"\w+|\W+").unwrap(), Cuts::Pattern(_)));
    let error = Cuts::named("llama-3").unwrap_err();
    assert!(error.fix().contains("llama3"), "{error}");
    assert!(PATTERN_NAMES.is_sorted_by_key(|(name, _)| name));
}
