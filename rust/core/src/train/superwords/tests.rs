//! The second stage against its definition, on texts small enough that every corner comes up.

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::ids::TokenId;
use crate::limits::Limits;
use crate::pipeline::Cancel;
use crate::train::merge::{MaxLength, Progress};
use crate::train::{MakeFile, Rules, RunFile, Tokens, Veto, WordsView};

type Merge = (TokenId, TokenId, TokenId);
type Words = Vec<(Vec<u8>, u64)>;

fn in_memory() -> MakeFile {
    Box::new(|| Ok(Box::new(Cursor::new(Vec::new())) as Box<dyn RunFile>))
}

/// Letters and the merges of a first stage; `abc` can arise in two ways.
fn first_stage() -> (Tokens, Vec<Merge>) {
    let mut tokens = Tokens::new();
    for token in [&b""[..], b"a", b"b", b"c", b" ", b"ab", b" a", b"abc", b"bc"] {
        tokens.push(token).expect("few");
    }
    (tokens, vec![(1, 2, 5), (4, 1, 6), (5, 3, 7), (2, 3, 8)])
}

/// All merges by rank on one sequence, of equals from the left: the definition of encoding.
fn replay(sequence: &mut Vec<TokenId>, merges: &[Merge]) {
    loop {
        let found = sequence.windows(2).enumerate().filter_map(|(at, pair)| {
            let rank = merges.iter().position(|merge| (merge.0, merge.1) == (pair[0], pair[1]))?;
            Some((rank, at))
        });
        let Some((rank, at)) = found.min() else { return };
        sequence[at] = merges[rank].2;
        sequence.remove(at + 1);
    }
}

/// The definition of the second stage: encode every chunk, count all pairs anew for each merge, take the most frequent.
fn naive(words: &Words, tokens: &Tokens, merges: &[Merge], size: usize, least: u64, veto: &Veto) -> Vec<(Merge, u64)> {
    let mut tokens = tokens.clone();
    let mut sequences: Vec<(Vec<TokenId>, u64)> = Vec::new();
    for (word, count) in words {
        let mut ids = word.iter().map(|&byte| tokens.id_of(&[byte]).expect("a letter")).collect();
        replay(&mut ids, merges);
        sequences.push((ids, *count));
    }
    let mut learnt = Vec::new();
    while tokens.len() < size {
        let mut counts: BTreeMap<(TokenId, TokenId), u64> = BTreeMap::new();
        for (ids, count) in &sequences {
            ids.windows(2).for_each(|pair| *counts.entry((pair[0], pair[1])).or_default() += count);
        }
        let spell = |pair: (TokenId, TokenId)| [tokens.get(pair.0), tokens.get(pair.1)].concat();
        counts.retain(|&pair, count| *count >= least && !veto.forbids(&spell(pair)).expect("short"));
        let Some((&pair, &count)) = counts.iter().max_by_key(|&(pair, count)| (*count, std::cmp::Reverse(*pair)))
        else {
            break;
        };
        let bytes = spell(pair);
        let product = tokens.id_of(&bytes).unwrap_or_else(|| tokens.push(&bytes).expect("few"));
        learnt.push(((pair.0, pair.1, product), count));
        for (ids, _) in &mut sequences {
            let mut at = 0;
            while at + 1 < ids.len() {
                if (ids[at], ids[at + 1]) == pair {
                    ids[at] = product;
                    ids.remove(at + 1);
                }
                at += 1;
            }
            replay(ids, merges);
        }
    }
    learnt
}

struct Stage2 {
    threads: usize,
    memory: usize,
    least: Option<u64>,
}

const PLAIN: Stage2 = Stage2 { threads: 1, memory: 1 << 20, least: Some(1) };

fn learn(words: &Words, unit: Unit, how: &Stage2, size: usize, min: u64, veto: &Veto) -> (Vec<(Merge, u64)>, Learnt) {
    let (tokens, merges) = first_stage();
    let mut all = Sequences::new(tokens, merges, unit, how.threads, how.memory, in_memory()).expect("a first stage");
    for part in words.chunks(3) {
        let bytes: Vec<u8> = part.iter().flat_map(|(word, _)| word.clone()).collect();
        let ends = part.iter().scan(0, |end, (word, _)| {
            *end += i64::try_from(word.len()).expect("short");
            Some(*end)
        });
        let offsets: Vec<i64> = [0].into_iter().chain(ends).collect();
        let counts: Vec<u64> = part.iter().map(|(_, count)| *count).collect();
        let view = WordsView::new(&bytes, &offsets, &counts).expect("they fit");
        all.add(view, &Cancel::default()).expect("small");
    }
    let bounds = Bounds {
        vocab_size: size,
        max_merges: usize::MAX,
        min_frequency: min,
        max_length: MaxLength::None,
        reserved: Vec::new(),
        least: how.least,
    };
    let learnt = all.learn(&bounds, Some(veto), &Cancel::default(), &Progress::default()).expect("small");
    let merges = learnt.merges.merges.iter().map(|m| ((m.left, m.right, m.product), m.count)).collect();
    (merges, learnt)
}

fn veto(max_words: Option<usize>) -> Veto {
    Veto::new(Rules { max_words, ..Rules::default() }, &Limits::default()).expect("rules")
}

fn texts() -> impl Strategy<Value = Words> {
    let text = prop::collection::vec(prop::sample::select(b"aaabbc  ".to_vec()), 0..24);
    prop::collection::vec((text, 1..9_u64), 0..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn cutting_at_rare_seams_changes_no_merge(
        words in texts(), least in prop::option::of(1..60_u64), size in 9..60_usize, min in 1..4_u64,
        max_words in prop::option::of(1..3_usize),
    ) {
        let veto = veto(max_words);
        let (tokens, merges) = first_stage();
        let expected = naive(&words, &tokens, &merges, size, min, &veto);
        let (plain, _) = learn(&words, Unit::Chunks, &PLAIN, size, min, &veto);
        prop_assert_eq!(&plain, &expected, "without cuts");
        let how = Stage2 { threads: 2, memory: 0, least };
        let (cut, _) = learn(&words, Unit::Chunks, &how, size, min, &veto);
        prop_assert_eq!(&cut, &expected, "with cuts at {:?}", least);
    }
}

#[test]
fn rare_seams_are_cut_and_what_is_left_is_smaller() {
    let words: Words = (0..200_u32)
        .map(|n| {
            let tail: Vec<u8> = (0..7).map(|bit| if n >> bit & 1 == 1 { b'b' } else { b'c' }).collect();
            ([&b"a a a "[..], &tail].concat(), 1)
        })
        .collect();
    let (_, plain) = learn(&words, Unit::Chunks, &PLAIN, 12, 2, &veto(None));
    let (_, cut) = learn(&words, Unit::Chunks, &Stage2 { least: Some(150), ..PLAIN }, 12, 2, &veto(None));
    assert_eq!(cut.merges.merges, plain.merges.merges);
    assert!(cut.positions < plain.positions / 20, "{} of {}", cut.positions, plain.positions);
}

#[test]
fn a_bound_that_was_too_high_is_lowered() {
    let words: Words = vec![(b"a a a a b c b".to_vec(), 5)];
    let (merges, learnt) = learn(&words, Unit::Chunks, &Stage2 { least: Some(1000), ..PLAIN }, 40, 2, &veto(None));
    let (expected, _) = learn(&words, Unit::Chunks, &PLAIN, 40, 2, &veto(None));
    assert_eq!(merges, expected);
    assert!(learnt.rounds > 1 && learnt.least < 1000);
}

#[test]
fn runs_are_broken_where_a_pretoken_is_not_one_token() {
    let run = |pretokens: &[&str]| {
        let mut bytes = Vec::new();
        for pretoken in pretokens {
            bytes.push(u8::try_from(pretoken.len()).expect("short"));
            bytes.extend_from_slice(pretoken.as_bytes());
        }
        bytes
    };
    // `ab` and ` a` are tokens, `ba` is not; a space alone holds no letter.
    let words = vec![(run(&["ab", " a", "ba", " a", "ab", " a"]), 3)];
    let (merges, learnt) = learn(&words, Unit::Runs, &PLAIN, 40, 1, &veto(None));
    let made: Vec<&[u8]> = learnt.merges.merges.iter().map(|m| learnt.merges.tokens.get(m.product)).collect();
    assert_eq!(made, [&b"ab a"[..], b" aab a"]);
    assert_eq!(merges.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [6, 3]);
}

#[test]
fn bytes_that_are_no_run_are_an_error() {
    let (tokens, merges) = first_stage();
    let mut all = Sequences::new(tokens, merges, Unit::Runs, 1, 0, in_memory()).expect("a first stage");
    let view = WordsView::new(b"\x05a", &[0, 2], &[1]).expect("they fit");
    let error = all.add(view, &Cancel::default()).expect_err("five bytes are not there");
    assert!(error.to_string().contains("no runs"), "{error}");
}

#[test]
fn counts_over_two_to_the_sixty_third_are_an_error() {
    let (tokens, merges) = first_stage();
    let mut all = Sequences::new(tokens, merges, Unit::Chunks, 2, 0, in_memory()).expect("a first stage");
    let view = WordsView::new(b"a b a b", &[0, 7], &[u64::MAX / 2]).expect("they fit");
    assert!(all.add(view, &Cancel::default()).expect_err("too much").to_string().contains("2^63"));
}

#[test]
fn supermerges_apply_to_whole_pretokens_alone() {
    let (mut tokens, merges) = first_stage();
    let product = tokens.push(b" a a").expect("few");
    let cuts = Cuts::named("gpt2").expect("a name");
    let encoder = BoundlessEncoder::new(&tokens, &merges, &[(6, 6, product)], &cuts, None).expect("merges");
    let encode = |text: &str| {
        let mut ids = Vec::new();
        encoder.encode(text.as_bytes(), &mut ids).expect("short");
        ids
    };
    assert_eq!(encode(" a a a"), [product, 6]);
    // The second ` a` is a part of the pretoken ` aa`: one model of all merges would have joined it.
    assert_eq!(encode(" a aa"), [6, 6, 1]);
    assert!(encode("").is_empty());
    assert_eq!(encode(&" a".repeat(4001)).len(), 2001);
}

#[test]
fn recipes_are_spelt_exactly() {
    for word in ["supertokens:1:2:characters", "supertokens:0:1:pretokens:0.5:gpt2", "boundless:\\s+|\\S+"] {
        assert!(Cuts::named(word).is_ok(), "{word}");
    }
    for word in [
        "supertokens:x:1:characters",
        "supertokens:1:0:characters",
        "supertokens:1:1:words",
        "supertokens:1:1:pretokens:2:gpt2",
        "boundless:boundless:gpt2",
        "boundless:gpt3",
    ] {
        assert!(Cuts::named(word).is_err(), "{word}");
    }
}
