use std::collections::BTreeMap;

use proptest::prelude::*;

use super::count::Pretokens;
use super::key::Key;
use super::options::fixed_tokens;
use super::*;
use crate::error::ErrorKind;
use crate::train::Cuts;

type Tokens = BTreeMap<Vec<u8>, f64>;

fn options() -> Options {
    Options {
        queue_batches: 3,
        max_bytes: 6,
        stride: 2,
        ends: Ends::Characters,
        vocab_size: Distribution { shape: Shape::Fixed(450.0), low: 391.0, high: 1000.0 },
        noise: Distribution { shape: Shape::Fixed(1e-3), low: 0.0, high: 1.0 },
        whitespace: Whitespace::Runs,
        patterns: vec![named("gpt2")],
        near_probability: 0.0,
        greedy_probability: 0.0,
    }
}

fn fixed(size: f64) -> Distribution {
    Distribution { shape: Shape::Fixed(size), low: size, high: size }
}

fn named(name: &str) -> Cuts {
    Cuts::named(name).expect("a known name")
}

fn sampler(options: &Options, source: &[&[u8]], seed: u64, threads: usize) -> Sampler {
    Sampler::new(options.clone(), source, seed, threads, &Limits::default()).expect("sound options")
}

fn step(sampler: &mut Sampler, texts: &[&[u8]]) -> Sampled {
    sampler.step(texts, &Cancel::default()).expect("a small batch")
}

fn tokens(sampled: &Sampled) -> Tokens {
    let ids = 0..u32::try_from(sampled.len()).expect("few");
    ids.zip(sampled.scores()).map(|(id, score)| (sampled.token(id).to_vec(), *score)).collect()
}

fn learnt(sampled: &Sampled) -> Vec<Vec<u8>> {
    let fixed = fixed_tokens(Whitespace::Runs);
    tokens(sampled).into_keys().filter(|token| !fixed.contains(token)).collect()
}

/// The scores that the table holds, by bytes: what [`reference::scores`] defines.
fn held(sampler: &Sampler, pattern: usize) -> reference::Scores {
    let (sums, total) = sampler.table.scores(pattern);
    let slots = (0..).zip(sums).filter(|(_, sum)| **sum > 0);
    let all: reference::Scores =
        slots.map(|(slot, sum)| (sampler.table.with_bytes(slot, <[u8]>::to_vec), *sum)).collect();
    assert_eq!(all.values().sum::<u64>(), total);
    all
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "abc",
        " a",
        " the",
        "é",
        "e\u{301}",
        "漢字",
        "😀",
        "😀hello",
        "  ",
        "\n\n",
        "\t",
        "12",
        "don't",
        " abcabcabcabcabcabcabc",
        ".",
        "\u{a0}",
    ]);
    prop_oneof![9 => text.prop_map(|s| s.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..4)]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

fn batches() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    prop::collection::vec(prop::collection::vec(text(), 0..5), 1..6)
}

fn views(texts: &[Vec<u8>]) -> Vec<&[u8]> {
    texts.iter().map(Vec::as_slice).collect()
}

fn any_options() -> impl Strategy<Value = Options> {
    let whitespace = prop_oneof![Just(Whitespace::Runs), Just(Whitespace::Learnt)];
    let ends = prop_oneof![Just(Ends::Characters), Just(Ends::Bytes)];
    let noise = prop::sample::select(vec![0.0, 1e-3, 0.1, 3.0]);
    (1..4_usize, 1..16_usize, 1..5_usize, ends, 391..480_u32, noise, whitespace, 0..2_u8).prop_map(
        |(queue_batches, max_bytes, stride, ends, size, noise, whitespace, greedy)| Options {
            queue_batches,
            max_bytes,
            stride,
            ends,
            vocab_size: fixed(f64::from(size)),
            noise: fixed(noise),
            whitespace,
            patterns: vec![named("gpt2"), named("llama3"), named("none"), named("[a-z]+|[0-9]+")],
            near_probability: 0.5,
            greedy_probability: f64::from(greedy),
        },
    )
}

const SOURCE: [&[u8]; 8] = [b"a", b"ab", b" the", b"the", b"  ", b"\xff\xfe", b"hello", b" abcabcabcabcabcabcabc"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_step_is_what_the_reference_defines(
        batches in batches(), options in any_options(), seed in any::<u64>(), threads in 1..4_usize,
    ) {
        let mut sampler = sampler(&options, &SOURCE, seed, threads);
        for (at, texts) in batches.iter().enumerate() {
            let sampled = step(&mut sampler, &views(texts));
            let first = (at + 1).saturating_sub(options.queue_batches);
            let queue: Vec<&[u8]> = batches[first..=at].iter().flatten().map(Vec::as_slice).collect();
            for pattern in 0..options.patterns.len() {
                let defined = reference::scores(&queue, &options, pattern).expect("known patterns");
                prop_assert_eq!(held(&sampler, pattern), defined);
            }
            let drawn = *sampled.drawn();
            let scores = reference::scores(&queue, &options, drawn.pattern).expect("known patterns");
            let defined = reference::vocabulary(&scores, &SOURCE, &options, &drawn, seed, at as u64);
            prop_assert_eq!(&tokens(&sampled), &defined);
            let (ids, offsets) = sampled.encode_batch(&queue, threads, &Cancel::default()).expect("known patterns");
            for (text, ends) in queue.iter().zip(offsets.windows(2)) {
                let ids = &ids[ends[0] as usize..ends[1] as usize];
                prop_assert_eq!(ids, reference::encode(text, &defined, &options, &drawn).expect("known patterns"));
                prop_assert_eq!(&ids.iter().flat_map(|id| sampled.token(*id)).copied().collect::<Vec<_>>(), text);
            }
        }
    }

    #[test]
    fn a_queue_that_rotated_samples_as_a_fresh_one_with_the_same_batches(
        batches in batches(), options in any_options(), seed in any::<u64>(),
    ) {
        let mut old = sampler(&options, &SOURCE, seed, 1);
        for (at, texts) in batches.iter().enumerate() {
            let mut fresh = sampler(&options, &SOURCE, seed, 2);
            let all: Vec<Vec<&[u8]>> = batches[..at].iter().map(|texts| views(texts)).collect();
            fresh.replay(&all, at as u64, &Cancel::default()).expect("small batches");
            let (a, b) = (step(&mut old, &views(texts)), step(&mut fresh, &views(texts)));
            prop_assert_eq!(tokens(&a), tokens(&b));
            prop_assert_eq!(a.drawn(), b.drawn());
        }
    }

    #[test]
    fn peeking_gives_the_next_step_and_changes_nothing(batches in batches(), options in any_options()) {
        let mut sampler = sampler(&options, &SOURCE, 5, 1);
        for texts in &batches {
            let before: Vec<_> = (0..options.patterns.len()).map(|pattern| held(&sampler, pattern)).collect();
            let next = sampler.next_step();
            let peeked = sampler.peek(&views(texts), next, &Cancel::default()).expect("a small batch");
            prop_assert_eq!(before, (0..options.patterns.len()).map(|pattern| held(&sampler, pattern)).collect::<Vec<_>>());
            prop_assert_eq!(tokens(&peeked), tokens(&step(&mut sampler, &views(texts))));
        }
    }

    #[test]
    fn a_slot_and_its_birth_stand_for_the_same_bytes_for_ever(batches in batches(), options in any_options()) {
        let mut sampler = sampler(&options, &SOURCE, 9, 1);
        let mut seen: BTreeMap<(u32, u64), Vec<u8>> = BTreeMap::new();
        for (at, texts) in batches.iter().enumerate() {
            let peeked = sampler.peek(&views(texts), 70 + at as u64, &Cancel::default()).expect("a small batch");
            for sampled in [peeked, step(&mut sampler, &views(texts))] {
                let (slots, births) = sampled.slots();
                for ((id, &slot), &birth) in (0..).zip(slots).zip(births) {
                    let held = seen.entry((slot, birth)).or_insert_with(|| sampled.token(id).to_vec());
                    prop_assert_eq!(&held[..], sampled.token(id));
                }
            }
        }
    }
}

#[test]
fn slots_of_dropped_batches_are_used_again() {
    let mut sampler = sampler(&options(), &[], 0, 1);
    let batch = |n: u32| (0..200).map(|i| format!("w{n}x{i} ")).collect::<String>();
    let sizes: Vec<usize> = (0..12)
        .map(|n| {
            step(&mut sampler, &[batch(n).as_bytes()]);
            sampler.slots()
        })
        .collect();
    // Three batches and the one that comes: no batch is larger than the last, of two-figure numbers.
    assert!(sizes[11] <= 4 * sizes[0], "{sizes:?}");
}

#[test]
fn substrings_start_at_characters_however_long_the_first_one_is() {
    // The published code takes the lengths behind each character for its starts: here it would start inside "漢".
    let options = Options { stride: 1, noise: fixed(0.0), ..options() };
    let mut sampler = sampler(&options, &[], 0, 1);
    let found = learnt(&step(&mut sampler, &["漢ab".as_bytes()]));
    let expected: Vec<Vec<u8>> = ["ab", "漢", "漢a", "漢ab"].map(|s| s.as_bytes().to_vec()).into();
    assert_eq!(found, expected);
}

#[test]
fn the_stride_counts_characters() {
    let options = Options { stride: 2, noise: fixed(0.0), ..options() };
    let mut sampler = sampler(&options, &[], 0, 1);
    let found = learnt(&step(&mut sampler, &["éàüö".as_bytes()]));
    let expected: Vec<Vec<u8>> = ["é", "éà", "éàü", "ü", "üö"].map(|s| s.as_bytes().to_vec()).into();
    assert_eq!(found, {
        let mut sorted = expected;
        sorted.sort();
        sorted
    });
}

#[test]
fn no_token_crosses_a_cut_of_the_texts_it_encodes() {
    // The published splitters disagree on combining marks: one counts "e\u{301}x" whole, the other cuts it.
    let text = "e\u{301}xe\u{301}x naïve नमस्ते e\u{301}x";
    for pattern in ["gpt2", "llama3", "qwen35"] {
        let options = Options { noise: fixed(0.0), patterns: vec![named(pattern)], stride: 1, ..options() };
        let mut sampler = sampler(&options, &[], 0, 1);
        let sampled = step(&mut sampler, &[text.as_bytes()]);
        let mut ends = count::Places::default();
        let _ = sampled.cutter.cut(text.as_bytes(), 0..text.len(), &mut ends).expect("a known pattern");
        let mut pretokens = Vec::new();
        let mut start = 0;
        for end in ends.0 {
            pretokens.push(&text.as_bytes()[start..end]);
            start = end;
        }
        for token in learnt(&sampled) {
            let holds = |pretoken: &&[u8]| pretoken.windows(token.len()).any(|window| window == token);
            assert!(pretokens.iter().any(holds), "{pattern}: {token:?}");
        }
    }
}

#[test]
fn equal_scores_are_ordered_by_bytes() {
    let options = Options { noise: fixed(0.0), stride: 4, vocab_size: fixed(393.0), ..options() };
    let mut sampler = sampler(&options, &[], 0, 1);
    // All of two letters and one occurrence, before others of the same score in the order of slots.
    let found = learnt(&step(&mut sampler, &[b"zz", b"yy", b"bb", b"aa", b"cc"]));
    assert_eq!(found, [b"aa".to_vec(), b"bb".to_vec()]);
}

#[test]
fn the_seed_decides_and_threads_do_not() {
    let text: String = (0..4000).map(|i| format!("word{} ", i * i % 977)).collect();
    let texts: Vec<&[u8]> = text.as_bytes().chunks(1000).collect();
    let sampled = |seed, threads| tokens(&step(&mut sampler(&options(), &SOURCE, seed, threads), &texts));
    assert_eq!(sampled(1, 1), sampled(1, 2));
    assert_eq!(sampled(1, 1), sampled(1, 5));
    assert_ne!(sampled(1, 1), sampled(2, 1));
}

#[test]
fn a_share_of_the_vocabulary_comes_from_the_source() {
    let names: Vec<String> = (0..2000).map(|i| format!("source{i}")).collect();
    let source: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let options = Options { vocab_size: fixed(900.0), near_probability: 1.0, ..options() };
    let mut sampler = sampler(&options, &source, 3, 1);
    let mut shares = Vec::new();
    for _ in 0..20 {
        let sampled = step(&mut sampler, &[b"abcdefghijklmnopqrstuvwxyz"]);
        let near = learnt(&sampled).iter().filter(|token| token.starts_with(b"source")).count();
        let share = sampled.drawn().source_share;
        assert_eq!(near, (900 - 391).min((share * 900.0) as usize));
        shares.push(share);
    }
    let (low, high) = shares.iter().fold((1.0, 0.0_f64), |(low, high), s| (f64::min(low, *s), high.max(*s)));
    assert!(low < 0.3 && high > 0.7, "{shares:?}"); // all 20 of a side: 0.7^20 < 0.001, for this one seed
}

#[test]
fn scores_are_finite_and_never_above_zero_however_much_noise_there_is() {
    for noise in [0.0, 1e-9, 1.0, 1e6] {
        let options = Options { noise: Distribution { shape: Shape::Fixed(noise), low: 0.0, high: 1e6 }, ..options() };
        let mut sampler = sampler(&options, &SOURCE, 2, 1);
        for texts in [&[][..], &[&b"some words and some more words"[..]]] {
            let sampled = step(&mut sampler, texts);
            assert!(sampled.scores().iter().all(|score| score.is_finite() && *score <= 0.0), "noise {noise}");
            let all = tokens(&sampled);
            let floor = all[&b"a"[..]];
            assert!(all.values().all(|score| *score >= floor), "a byte is the last resort");
        }
    }
}

#[test]
fn a_score_that_would_pass_64_bits_is_an_error_and_counts_nothing() {
    let (mut table, _) = Table::new(&[], 1);
    let key = Key::new(b"abcd").expect("short");
    let much = |count| {
        let mut pretokens = Pretokens::default();
        pretokens.short.push((key, count));
        pretokens
    };
    let options = Options { stride: 1, ..options() };
    // The substrings of "abcd" have 20 bytes in all.
    let most = u64::MAX / 20;
    assert_eq!(table.count(&much(most + 1), &options).expect_err("too much").kind(), ErrorKind::Limit);
    let part = table.count(&much(most), &options).expect("just fits");
    table.add(0, &part).expect("an empty table");
    let more = table.count(&much(1), &options).expect("small");
    assert_eq!(table.add(0, &more).expect_err("too much").kind(), ErrorKind::Limit);
    table.release(&more);
    let (sums, total) = table.scores(0);
    assert_eq!((sums.iter().sum::<u64>(), total), (most * 20, most * 20));
    table.subtract(0, &part);
    table.release(&part);
    assert_eq!(table.scores(0).1, 0);
    let slots = table.slots();
    table.count(&much(1), &options).expect("small");
    assert_eq!(table.slots(), slots, "all slots had been given back");
}

#[test]
fn a_cancelled_call_leaves_the_sampler_as_it_was() {
    let mut one = sampler(&options(), &SOURCE, 4, 1);
    let mut other = sampler(&options(), &SOURCE, 4, 1);
    let cancel = Cancel::default();
    cancel.cancel();
    for n in 0..6 {
        let text = format!("text number {n} of six, text of {n}");
        assert!(one.step(&[b"never counted"], &cancel).is_err());
        assert!(one.peek(&[b"never counted"], 3, &cancel).is_err());
        assert_eq!(held(&one, 0), held(&other, 0));
        assert_eq!(tokens(&step(&mut one, &[text.as_bytes()])), tokens(&step(&mut other, &[text.as_bytes()])));
    }
}

#[test]
fn numbers_are_drawn_as_their_distributions_say() {
    let sizes = |shape| {
        let vocab_size = Distribution { shape, low: 600.0, high: 4000.0 };
        let options = Options { vocab_size, ..options() };
        let mut all: Vec<usize> = (0..2001).map(|step| options.draw(&Draws::new(8, step)).vocab_size).collect();
        all.sort_unstable();
        all
    };
    let normal = sizes(Shape::Normal { mean: 2000.0, std: 100.0 });
    // The median of 2,001 normal numbers has a standard error of 1.2533 * 100 / sqrt(2001) = 2.8; five of them.
    assert!(normal[1000].abs_diff(2000) < 14 && normal[0] > 1500 && normal[2000] < 2500, "{}", normal[1000]);
    let lognormal = sizes(Shape::LogNormal { median: 1000.0, sigma: 2.0 });
    // ln 1000 within five of 1.2533 * 2 / sqrt(2001) = 0.056: from 755 to 1324; both ends are clipped.
    assert!((755..1324).contains(&lognormal[1000]) && lognormal[0] == 600 && lognormal[2000] == 4000);
    assert_eq!(sizes(Shape::Fixed(1234.0))[0], 1234);
}

#[test]
fn options_out_of_their_range_are_named() {
    type Spoil = fn(&mut Options);
    let bad: [(&str, Spoil); 16] = [
        ("queue_batches", |o| o.queue_batches = 0),
        ("stride", |o| o.stride = 0),
        ("max_bytes", |o| o.max_bytes = 0),
        ("max_bytes", |o| o.max_bytes = 16),
        ("vocab_size", |o| o.vocab_size.low = 390.0),
        ("vocab_size", |o| o.vocab_size.high = 1e9),
        ("vocab_size", |o| o.vocab_size.shape = Shape::Normal { mean: f64::NAN, std: 1.0 }),
        ("noise", |o| o.noise.shape = Shape::LogNormal { median: 0.0, sigma: 1.0 }),
        ("noise", |o| o.noise.shape = Shape::Normal { mean: 0.0, std: -1.0 }),
        ("noise", |o| (o.noise.low, o.noise.high) = (2.0, 1.0)),
        ("noise", |o| o.noise.high = f64::INFINITY),
        ("patterns", |o| o.patterns.clear()),
        ("patterns", |o| o.patterns.push(named("supertokens:0:2:characters"))),
        ("patterns", |o| o.patterns.push(named("boundless:gpt2"))),
        ("near_probability", |o| o.near_probability = 1.5),
        ("greedy_probability", |o| o.greedy_probability = f64::NAN),
    ];
    for (field, spoil) in bad {
        let mut options = options();
        spoil(&mut options);
        let error = Sampler::new(options, &[], 0, 1, &Limits::default()).expect_err(field);
        assert_eq!((error.kind(), error.field()), (ErrorKind::Value, field), "{error}");
    }
    let new = |source: &[&[u8]], threads| Sampler::new(options(), source, 0, threads, &Limits::default());
    assert_eq!(new(&[], 0).expect_err("no thread").field(), "threads");
    assert_eq!(new(&[b""], 1).expect_err("an empty token").field(), "source");
    assert_eq!(new(&[&[b'x'; 70_000]], 1).expect_err("a huge token").kind(), ErrorKind::Limit);
}
