//! The engine against the definition, on corpora small enough that every corner comes up.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::merge::LONGEST_TOKEN;
use super::*;
use crate::ids::TokenId;
use crate::limits::Limits;
use crate::pipeline::Cancel;

type Words = Vec<(Vec<TokenId>, u64)>;

fn letters(count: usize) -> Tokens {
    let mut tokens = Tokens::new();
    for letter in (b'a'..).take(count) {
        tokens.push(&[letter]).expect("few");
    }
    tokens
}

fn trainer(words: &Words, tokens: &Tokens) -> Trainer {
    let mut trainer = Trainer::new(tokens.clone());
    for (word, count) in words {
        trainer.push(word.iter().copied(), *count).expect("small words");
    }
    trainer
}

fn learn(words: &Words, tokens: &Tokens, options: &Options) -> Merges {
    trainer(words, tokens).train(options, None, &Cancel::default(), &Progress::default()).expect("small words")
}

/// Words over few letters: runs, repetitions and tokens that arise in two ways are the rule.
fn words(letters: u32, longest: usize) -> impl Strategy<Value = Words> {
    let word = prop::collection::vec(0..letters, 0..longest);
    prop::collection::vec((word, 1..20_u64), 0..25)
}

fn max_length() -> impl Strategy<Value = MaxLength> {
    prop_oneof![
        3 => Just(MaxLength::None),
        1 => (1..7_usize).prop_map(MaxLength::Bytes),
        1 => (0..7_usize).prop_map(MaxLength::HuggingFace),
    ]
}

fn agrees(words: &Words, tokens: &Tokens, options: &Options) {
    let learnt = learn(words, tokens, options);
    let (expected, made) = reference::train(
        words,
        tokens.clone(),
        options.vocab_size,
        options.min_frequency,
        options.max_length,
        |token| options.reserved.iter().any(|reserved| reserved == token),
    )
    .expect("few tokens");
    assert_eq!(learnt.merges, expected);
    assert_eq!(learnt.tokens.iter().collect::<Vec<_>>(), made.iter().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_engine_equals_the_definition_on_few_letters(
        words in words(2, 24), min_frequency in 0..4_u64, vocab_size in 0..60_usize, max_length in max_length(),
    ) {
        let options = Options { vocab_size, min_frequency, max_length, ..Options::default() };
        agrees(&words, &letters(2), &options);
    }

    #[test]
    fn the_engine_equals_the_definition_on_more_letters(
        words in words(5, 12), min_frequency in 0..3_u64, max_length in max_length(),
    ) {
        let options = Options { min_frequency, max_length, vocab_size: 200, ..Options::default() };
        agrees(&words, &letters(5), &options);
    }

    /// Symbols of several bytes: the same bytes arise in many ways, and pairs are made in several steps.
    #[test]
    fn the_engine_equals_the_definition_on_longer_symbols(words in words(6, 14), min_frequency in 0..3_u64) {
        let mut tokens = letters(3);
        for token in [&b"ab"[..], b"bc", b"abc"] {
            tokens.push(token).expect("few");
        }
        let options = Options { min_frequency, vocab_size: 200, ..Options::default() };
        agrees(&words, &tokens, &options);
    }

    #[test]
    fn reserved_tokens_are_passed_over_as_in_the_definition(words in words(3, 12)) {
        let reserved = vec![b"ab".to_vec(), b"ccc".to_vec()];
        let options = Options { min_frequency: 0, vocab_size: 80, reserved, ..Options::default() };
        agrees(&words, &letters(3), &options);
        let learnt = learn(&words, &letters(3), &options);
        prop_assert!(learnt.tokens.iter().all(|token| token != b"ab" && token != b"ccc"));
    }

    #[test]
    fn the_order_of_the_words_does_not_matter(mut words in words(3, 14)) {
        let options = Options { vocab_size: 60, ..Options::default() };
        let expected = learn(&words, &letters(3), &options).merges;
        words.reverse();
        prop_assert_eq!(learn(&words, &letters(3), &options).merges, expected);
    }

    /// While no token arises in two ways, the definition is the plain one: count everything, take the most frequent.
    #[test]
    fn counting_everything_anew_gives_the_same_merges(words in words(4, 10)) {
        let learnt = learn(&words, &letters(4), &Options { min_frequency: 1, ..Options::default() });
        let mut state: Words = words;
        let mut seen = std::collections::BTreeSet::new();
        for merge in &learnt.merges {
            if !seen.insert(merge.product) {
                break;
            }
            let mut counts: BTreeMap<(TokenId, TokenId), u64> = BTreeMap::new();
            for (word, count) in &state {
                for pair in word.windows(2) {
                    *counts.entry((pair[0], pair[1])).or_default() += count;
                }
            }
            let best = counts.iter().max_by_key(|&(&pair, &count)| (count, std::cmp::Reverse(pair)));
            prop_assert_eq!(best, Some((&(merge.left, merge.right), &merge.count)));
            for (word, _) in &mut state {
                let mut at = 0;
                while at + 1 < word.len() {
                    if (word[at], word[at + 1]) == (merge.left, merge.right) {
                        word[at] = merge.product;
                        word.remove(at + 1);
                    }
                    at += 1;
                }
            }
        }
    }

    /// Replaying the first merges as inherited ones and going on gives the rest, while no token arises in two ways.
    #[test]
    fn a_training_goes_on_from_its_own_first_merges(words in words(4, 10), first in 0..8_usize) {
        let options = Options { vocab_size: 40, ..Options::default() };
        let whole = learn(&words, &letters(4), &options);
        let products: std::collections::BTreeSet<_> = whole.merges.iter().map(|m| m.product).collect();
        prop_assume!(products.len() == whole.merges.len());
        let first = first.min(whole.merges.len());
        let mut tokens = letters(4);
        let mut inherited = Vec::new();
        for merge in &whole.merges[..first] {
            tokens.push(whole.tokens.get(merge.product)).expect("few");
            inherited.push((merge.left, merge.right, merge.product));
        }
        let rest = learn(&words, &tokens, &Options { inherited, ..options });
        prop_assert_eq!(&rest.merges, &whole.merges[first..]);
    }

    /// One language alone chooses as an ordinary training does.
    #[test]
    fn parity_of_one_language_is_plain_training(words in words(4, 10)) {
        let options = Options { vocab_size: 30, ..Options::default() };
        let expected = learn(&words, &letters(4), &options);
        let products: std::collections::BTreeSet<_> = expected.merges.iter().map(|m| m.product).collect();
        prop_assume!(products.len() == expected.merges.len());
        let language = parity::Language { words: trainer(&words, &letters(4)), measured: None, size: 1.0 };
        let cancel = Cancel::default();
        let learnt = train_parity(
            vec![language], None, Parity::default(), &options, None, &cancel, &Progress::default(),
        ).expect("one language");
        prop_assert_eq!(learnt.learnt.merges, expected.merges);
    }
}

#[test]
fn of_equal_counts_the_smallest_pair_goes_first() {
    let words = vec![(vec![2, 3], 5), (vec![0, 2], 5), (vec![0, 1], 5)];
    let learnt = learn(&words, &letters(4), &Options::default());
    let pairs: Vec<_> = learnt.merges.iter().map(|m| (m.left, m.right)).collect();
    assert_eq!(pairs, [(0, 1), (0, 2), (2, 3)]);
}

#[test]
fn a_run_counts_every_overlapping_pair() {
    // `aaa` holds `aa` twice: 2 against 1 for `bc`.
    let words = vec![(vec![0, 0, 0], 1), (vec![1, 2], 1)];
    let learnt = learn(&words, &letters(3), &Options { min_frequency: 2, ..Options::default() });
    assert_eq!(learnt.merges, [LearntMerge { left: 0, right: 0, product: 3, count: 2 }]);
    assert_eq!(learnt.stop, Stop::Exhausted);
}

#[test]
fn counts_beyond_32_bits_are_counted() {
    let words = vec![(vec![0, 1], 1 << 33), (vec![1, 2], (1 << 33) + 1), (vec![0, 2], 7)];
    let learnt = learn(&words, &letters(3), &Options::default());
    let counts: Vec<u64> = learnt.merges.iter().map(|m| m.count).collect();
    assert_eq!(counts, [(1 << 33) + 1, 1 << 33, 7]);
    agrees(&words, &letters(3), &Options::default());
}

#[test]
fn the_bound_on_the_length_is_exclusive_as_in_tokenizers_and_inclusive_in_bytes() {
    let words = vec![(vec![0, 1, 2, 3, 0, 1, 2, 3], 9)];
    let longest = |max_length| {
        let learnt = learn(&words, &letters(4), &Options { max_length, ..Options::default() });
        learnt.tokens.iter().map(<[u8]>::len).max()
    };
    assert_eq!(longest(MaxLength::HuggingFace(4)), Some(2), "two pairs of two make four");
    assert_eq!(longest(MaxLength::HuggingFace(5)), Some(4));
    assert_eq!(longest(MaxLength::HuggingFace(0)), Some(2), "two symbols may always merge");
    assert_eq!(longest(MaxLength::Bytes(4)), Some(4));
    assert_eq!(longest(MaxLength::Bytes(1)), Some(1));
}

#[test]
fn no_token_is_too_long_to_be_read_back() {
    let word: Vec<TokenId> = std::iter::repeat_n(0, 3 * LONGEST_TOKEN).collect();
    let learnt = learn(&vec![(word, 9)], &letters(1), &Options { min_frequency: 0, ..Options::default() });
    let lengths: Vec<usize> = learnt.tokens.iter().map(<[u8]>::len).collect();
    assert_eq!(lengths.iter().max(), Some(&LONGEST_TOKEN), "{lengths:?}");
    assert!(2 * LONGEST_TOKEN <= Limits::default().token_bytes, "of characters of two bytes");
}

#[test]
fn a_vetoed_token_is_never_made_and_others_are() {
    let words = vec![(vec![0, 1, 2], 9), (vec![1, 2], 3)];
    let veto = Veto::new(Rules { inside: vec![b"ab".to_vec()], ..Rules::default() }, &Limits::default());
    let learnt = trainer(&words, &letters(3))
        .train(&Options::default(), Some(&veto.expect("a rule")), &Cancel::default(), &Progress::default())
        .expect("small words");
    let made: Vec<&[u8]> = learnt.merges.iter().map(|m| learnt.tokens.get(m.product)).collect();
    assert_eq!(made, [b"bc"], "`abc` holds `ab` too");
}

#[test]
fn inherited_merges_are_carried_out_and_not_learnt_again() {
    let mut tokens = letters(3);
    tokens.push(b"bc").expect("few");
    let words = vec![(vec![0, 1, 2], 9), (vec![0, 1], 20)];
    let options = Options { inherited: vec![(1, 2, 3)], ..Options::default() };
    let learnt = learn(&words, &tokens, &options);
    let pairs: Vec<_> = learnt.merges.iter().map(|m| (m.left, m.right, m.count)).collect();
    assert_eq!(pairs, [(0, 1, 20), (0, 3, 9)], "`abc` is `a bc` from the start");
}

#[test]
fn an_inherited_merge_that_is_none_is_named() {
    let options = Options { inherited: vec![(0, 1, 2)], ..Options::default() };
    let error = trainer(&vec![(vec![0, 1], 2)], &letters(3))
        .train(&options, None, &Cancel::default(), &Progress::default())
        .expect_err("`ab` is not `c`");
    assert!(error.to_string().contains("inherited[0]: 0 and 1 do not make 2"), "{error}");
}

#[test]
fn a_symbol_that_is_no_token_is_named() {
    let error = Trainer::new(letters(2)).push([0, 7].into_iter(), 1).expect_err("two letters");
    assert!(error.to_string().contains("7 is no token"), "{error}");
}

#[test]
fn a_cancelled_training_says_so() {
    let cancel = Cancel::default();
    cancel.cancel();
    let words = vec![(vec![0, 1], 5)];
    let learnt = trainer(&words, &letters(2)).train(&Options::default(), None, &cancel, &Progress::default());
    assert_eq!(learnt.expect("small words").stop, Stop::Cancelled);
}

fn two_languages(sizes: [f64; 2], parity: Parity, max_merges: usize) -> Vec<Option<usize>> {
    let all = vec![(vec![0, 1, 0, 1, 0, 1], 10), (vec![2, 3, 2, 3, 2, 3], 1)];
    let languages = (0..2)
        .map(|i| parity::Language {
            words: trainer(&vec![all[i].clone()], &letters(4)),
            measured: None,
            size: sizes[i],
        })
        .collect();
    let options = Options { max_merges, min_frequency: 1, ..Options::default() };
    let all = Some(trainer(&all, &letters(4)));
    let (cancel, progress) = (Cancel::default(), Progress::default());
    train_parity(languages, all, parity, &options, None, &cancel, &progress).expect("two languages").chosen_by
}

#[test]
fn the_language_with_the_most_tokens_for_its_size_chooses() {
    // 60 tokens of ten words against 6 of one: in tokens a word both have 6, then whoever merged has 3.
    let choices = two_languages([10.0, 1.0], Parity::default(), 4);
    assert_eq!(choices, [Some(0), Some(1), Some(0), Some(1)]);
    let choices = two_languages([60.0, 1.0], Parity::default(), 2);
    assert_eq!(choices, [Some(1), Some(1)], "the second is served worse, though its text is short");
}

#[test]
fn global_merges_come_first_and_go_by_the_sum() {
    let parity = Parity { global_merges: 1, ..Parity::default() };
    assert_eq!(two_languages([60.0, 1.0], parity, 3), [None, Some(1), Some(1)]);
}

#[test]
fn a_window_bounds_the_turns_of_one_language() {
    // An equal part of 2 turns is 1: the second language may not choose twice running.
    let parity = Parity { window: 2, share: 1.0, ..Parity::default() };
    assert_eq!(two_languages([1e6, 1.0], parity, 3), [Some(1), Some(0), Some(1)]);
}

#[test]
fn parity_refuses_what_it_cannot_weigh() {
    let language =
        |size| parity::Language { words: trainer(&vec![(vec![0, 1], 1)], &letters(2)), measured: None, size };
    let run = |languages, parity| {
        let (cancel, progress) = (Cancel::default(), Progress::default());
        let done = train_parity(languages, None, parity, &Options::default(), None, &cancel, &progress);
        done.expect_err("refused").to_string()
    };
    assert!(run(vec![], Parity::default()).contains("no languages"));
    assert!(run(vec![language(0.0)], Parity::default()).contains("sizes are positive"));
    let global = Parity { global_merges: 1, ..Parity::default() };
    assert!(run(vec![language(1.0)], global).contains("global_merges"));
    assert!(run(vec![language(1.0)], Parity { share: f64::NAN, ..Parity::default() }).contains("share"));
}
