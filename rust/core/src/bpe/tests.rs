use super::seams::Level;
use super::*;
use crate::formats::{Merge, Spellings};
use proptest::prelude::*;

/// a=0 b=1 c=2 ab=3 bc=4 abc=5 aa=6 aaaa=7; merges in this order: ab, bc, ab+c, aa, aa+aa.
fn toy() -> Bpe {
    let mut vocab = Spellings::default();
    for (id, s) in ["a", "b", "c", "ab", "bc", "abc", "aa", "aaaa"].iter().enumerate() {
        vocab.push(s.as_bytes(), u32::try_from(id).unwrap());
    }
    let merge = |left, right, product, rank| Merge { left, right, product, rank };
    Bpe {
        vocab,
        merges: vec![merge(0, 1, 3, 0), merge(1, 2, 4, 1), merge(3, 2, 5, 2), merge(0, 0, 6, 3), merge(6, 6, 7, 4)],
        ..Bpe::default()
    }
}

fn encode(engine: &BpeEngine, text: &str) -> Vec<TokenId> {
    let mut out = Vec::new();
    engine.encode(text.as_bytes(), &mut BpeScratch::default(), &mut out);
    out
}

#[test]
fn the_lowest_rank_goes_first_and_the_leftmost_of_equals() {
    let engine = BpeEngine::new(&toy(), BpeInput::default()).unwrap();
    assert_eq!(encode(&engine, "abc"), [5]);
    assert_eq!(encode(&engine, "bcb"), [4, 1]);
    assert_eq!(encode(&engine, "aaa"), [6, 0]);
    assert_eq!(encode(&engine, "aaaaa"), [7, 0]);
}

#[test]
fn a_text_without_symbols_is_dropped_without_an_unknown_token() {
    let engine = BpeEngine::new(&toy(), BpeInput::default()).unwrap();
    assert_eq!(encode(&engine, "axb"), [3], "the neighbours of a dropped character merge, as in tokenizers");
}

#[test]
fn a_merge_table_that_cannot_be_packed_gives_the_same_ids() {
    let mut model = toy();
    model.merges.iter_mut().for_each(|merge| merge.rank += 1 << 30);
    let packed = BpeEngine::new(&toy(), BpeInput::default()).unwrap();
    let sorted = BpeEngine::new(&model, BpeInput::default()).unwrap();
    assert!(packed.table.is_packed() && !sorted.table.is_packed());
    for text in ["abc", "bcb", "aaaaabcabba", &"aab".repeat(40)] {
        assert_eq!(encode(&sorted, text), encode(&packed, text));
    }
}

#[test]
fn ten_million_equal_characters_take_seconds_not_hours() {
    let engine = BpeEngine::new(&toy(), BpeInput::default()).unwrap();
    let text = "a".repeat(1_000_000);
    assert_eq!(encode(&engine, &text), vec![7; 250_000]);
}

/// A model over a, b, c with arbitrary merges in arbitrary order: parts may come after their products, a token may
/// have several splits.
fn arbitrary(picks: &[(usize, usize)], order: &[usize]) -> Bpe {
    let mut words: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
    let mut merges = Vec::new();
    for &(left, right) in picks {
        let (left, right) = (left % words.len(), right % words.len());
        let word = format!("{}{}", words[left], words[right]);
        if word.len() > 12 {
            continue;
        }
        let product = words.iter().position(|w| *w == word).unwrap_or_else(|| {
            words.push(word);
            words.len() - 1
        });
        merges.push((left as u32, right as u32, product as u32));
    }
    let mut vocab = Spellings::default();
    for (id, word) in words.iter().enumerate() {
        vocab.push(word.as_bytes(), id as u32);
    }
    let unk = words.len() as u32; // dropped characters would make neighbours of others
    vocab.push(b"?", unk);
    let rank = |i: usize| order[i % order.len()] as u32;
    let merges =
        merges.iter().enumerate().map(|(i, &(left, right, product))| Merge { left, right, product, rank: rank(i) });
    Bpe { vocab, merges: merges.collect(), unk: Some(unk), ..Bpe::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn longest_match_with_pair_checks_equals_the_reference_for_any_merge_table(
        picks in prop::collection::vec((0_usize..40, 0_usize..40), 1..40),
        order in Just((0..40).collect::<Vec<usize>>()).prop_shuffle(),
        text in "[abc]{0,60}",
    ) {
        let engine = BpeEngine::new(&arbitrary(&picks, &order), BpeInput::default()).unwrap();
        let mut ids = Vec::new();
        engine.long.get_or_init(|| engine.build_linear().map(|linear| Long::Linear(Box::new(linear))));
        prop_assert!(engine.encode_long(text.as_bytes(), &mut BpeScratch::default(), &mut ids));
        prop_assert_eq!(&ids, &engine.encode_reference(text.as_bytes()));
        let mut merged = Vec::new();
        engine.encode(text.as_bytes(), &mut BpeScratch::default(), &mut merged);
        prop_assert_eq!(ids, merged);
    }

    #[test]
    fn what_was_remembered_of_pairs_and_other_texts_changes_no_id(
        picks in prop::collection::vec((0_usize..40, 0_usize..40), 1..40),
        order in Just((0..40).collect::<Vec<usize>>()).prop_shuffle(),
        sorted in any::<bool>(),
        pairs in prop::collection::vec((0_u32..40, 0_u32..40), 0..40),
        texts in prop::collection::vec("[abc]{0,60}", 1..6),
    ) {
        let order = if sorted { (0..40).collect() } else { order };
        let model = arbitrary(&picks, &order);
        let engine = BpeEngine::new(&model, BpeInput::default()).unwrap();
        let linear = engine.build_linear().unwrap();
        let (mut scratch, mut merging) = (LinearScratch::default(), MergeScratch::default());
        let tables = (&engine.table, &engine.symbols);
        scratch.prepare();
        let known = model.vocab.len() as u32 - 1; // without the unknown token
        for &(left, right) in &pairs {
            linear.are_pair(tables, (left % known, right % known), &mut scratch, &mut merging);
        }
        for text in &texts {
            let mut ids = Vec::new();
            prop_assert!(linear.encode(tables, text.as_bytes(), (&mut scratch, &mut merging), &mut ids));
            prop_assert_eq!(ids, engine.encode_reference(text.as_bytes()));
        }
    }

    #[test]
    fn the_heap_equals_the_reference_for_any_merge_table(
        picks in prop::collection::vec((0_usize..40, 0_usize..40), 1..40),
        order in Just((0..40).collect::<Vec<usize>>()).prop_shuffle(),
        text in "[abc]{65,200}",
    ) {
        let engine = BpeEngine::new(&arbitrary(&picks, &order), BpeInput::default()).unwrap();
        let mut ids = Vec::new();
        engine.encode(text.as_bytes(), &mut BpeScratch::default(), &mut ids);
        prop_assert_eq!(ids, engine.encode_reference(text.as_bytes()));
    }
}

proptest! {
    #[test]
    fn the_engine_equals_the_reference(text in "[abc]{0,200}") {
        let engine = BpeEngine::new(&toy(), BpeInput::default()).unwrap();
        prop_assert_eq!(encode(&engine, &text), engine.encode_reference(text.as_bytes()));
    }

    #[test]
    fn cutting_at_cuts_changes_no_id(text in "[abcd]{0,100}", unk in prop::option::of(Just(8)), fuse in any::<bool>()) {
        let mut model = toy();
        model.vocab.push(b"?", 8);
        model.unk = unk;
        model.fuse_unk = fuse;
        let engine = BpeEngine::new(&model, BpeInput::default()).unwrap();
        let bytes = text.as_bytes();
        let (mut ids, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let end = engine.next_cut(bytes, at);
            engine.encode(&bytes[at..end], &mut BpeScratch::default(), &mut ids);
            at = end;
        }
        prop_assert_eq!(ids, engine.encode_reference(bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_tokens_that_may_not_follow_a_token_are_those_with_which_bpe_makes_something_else(
        picks in prop::collection::vec((0_usize..40, 0_usize..40), 1..40),
        order in Just((0..40).collect::<Vec<usize>>()).prop_shuffle(),
        sorted in any::<bool>(),
    ) {
        // In the order of the merges ranks rise, as in a trained table; shuffled, they need not.
        let order = if sorted { (0..40).collect() } else { order };
        let model = arbitrary(&picks, &order);
        let engine = BpeEngine::new(&model, BpeInput::default()).unwrap();
        let adjacent = engine.adjacent().unwrap();
        let text = |id| model.vocab.iter().find(|(_, other)| *other == id).unwrap().0.to_vec();
        let all: Vec<TokenId> = model.vocab.iter().map(|(_, id)| id).filter(|&id| Some(id) != model.unk).collect();
        let mut canonical: Vec<_> = adjacent.canonical().iter().copied().filter(|&id| Some(id) != model.unk).collect();
        canonical.sort_unstable();
        let expected: Vec<_> = all.into_iter().filter(|&id| engine.encode_reference(&text(id)) == [id]).collect();
        prop_assert_eq!(&canonical, &expected);
        let mut scratch = AdjacentScratch::default();
        for &left in &canonical {
            let bits = engine.bridged(&adjacent, left, &mut scratch);
            let all = adjacent.canonical().iter().enumerate();
            let listed: HashSet<TokenId> =
                all.filter(|(at, _)| bits[at / 64] >> (at % 64) & 1 == 1).map(|(_, id)| *id).collect();
            for &right in &canonical {
                let both = [text(left), text(right)].concat();
                let pair = engine.encode_reference(&both) == [left, right];
                prop_assert_eq!(listed.contains(&right), !pair, "{} {}", left, right);
                prop_assert_eq!(engine.is_pair(&adjacent, left, right, &mut scratch), pair);
            }
        }
    }
}

/// Arbitrary merges of `words[used]` and of what they make.
fn some_merges(
    words: &mut Vec<Vec<u8>>,
    mut used: Vec<usize>,
    picks: &[(usize, usize)],
    order: &[usize],
) -> Vec<Merge> {
    let mut merges = Vec::new();
    for (i, &(left, right)) in picks.iter().enumerate() {
        let (left, right) = (used[left % used.len()], used[right % used.len()]);
        let word = [words[left].as_slice(), &words[right]].concat();
        if word.len() > 12 {
            continue;
        }
        let product = words.iter().position(|w| *w == word).unwrap_or_else(|| {
            words.push(word);
            used.push(words.len() - 1);
            words.len() - 1
        });
        let rank = order[i % order.len()] as u32;
        merges.push(Merge { left: left as u32, right: right as u32, product: product as u32, rank });
    }
    merges
}

fn spellings(words: &[Vec<u8>]) -> Spellings {
    let mut vocab = Spellings::default();
    words.iter().zip(0..).for_each(|(word, id)| vocab.push(word, id));
    vocab
}

/// A model of raw bytes, all 256 of them, with arbitrary merges of some: letters, white space, a character of two bytes
/// and a byte of none.
fn arbitrary_bytes(picks: &[(usize, usize)], order: &[usize]) -> BpeEngine {
    let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let used = SOME_BYTES.iter().map(|&byte| usize::from(byte)).collect();
    let merges = some_merges(&mut words, used, picks, order);
    let model = Bpe { vocab: spellings(&words), merges, symbols: SymbolKind::RawBytes, ..Bpe::default() };
    BpeEngine::new(&model, BpeInput::default()).unwrap()
}

/// The same without a token for the byte that no text has: it is dropped, and its neighbours may merge.
fn with_a_hole(picks: &[(usize, usize)], order: &[usize]) -> BpeEngine {
    let mut words: Vec<Vec<u8>> = (0..255).map(|byte| vec![byte]).collect();
    let used = SOME_BYTES.iter().filter(|&&byte| byte < 0xFF).map(|&byte| usize::from(byte)).collect();
    let merges = some_merges(&mut words, used, picks, order);
    let model = Bpe { vocab: spellings(&words), merges, symbols: SymbolKind::RawBytes, ..Bpe::default() };
    BpeEngine::new(&model, BpeInput::default()).unwrap()
}

/// A model of a few characters, in which spaces are written as marks and others are unknown.
fn arbitrary_chars(picks: &[(usize, usize)], order: &[usize]) -> BpeEngine {
    let mut words: Vec<Vec<u8>> = ["a", "b", "\u{2581}", "é", "."].map(Vec::from).to_vec();
    let merges = some_merges(&mut words, (0..5).collect(), picks, order);
    words.push(b"?".to_vec());
    let unk = Some(words.len() as u32 - 1);
    let model = Bpe { vocab: spellings(&words), merges, unk, ..Bpe::default() };
    BpeEngine::new(&model, BpeInput { byte_level: false, space_is: Some('\u{2581}') }).unwrap()
}

const SOME_BYTES: [u8; 8] = *b"ab. \n\xC3\xA9\xFF";

fn some_bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(SOME_BYTES.to_vec()), len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn words_with_mended_seams_equal_the_reference_for_any_merge_table(
        picks in prop::collection::vec((0_usize..60, 0_usize..60), 1..60),
        order in Just((0..60).collect::<Vec<usize>>()).prop_shuffle(),
        sorted in any::<bool>(),
        texts in prop::collection::vec(some_bytes(0..80), 1..4),
    ) {
        let order = if sorted { (0..60).collect() } else { order };
        let engine = arbitrary_bytes(&picks, &order);
        let linear = engine.build_linear().unwrap();
        let cuts = engine.cuts.as_ref().unwrap();
        let byte_pairs = engine.byte_pairs.as_ref();
        let level = Level { table: &engine.table, symbols: &engine.symbols, cuts, linear: &linear, byte_pairs };
        let mut scratch = BpeScratch::default();
        for text in &texts {
            let mut ids = Vec::new();
            prop_assert!(level.encode(text, &mut scratch, &mut ids));
            prop_assert_eq!(ids, engine.encode_reference(text));
        }
    }

    #[test]
    fn two_levels_equal_the_reference_for_any_merge_table_and_any_place_between_them(
        picks in prop::collection::vec((0_usize..60, 0_usize..60), 1..60),
        order in Just((0..60).collect::<Vec<usize>>()).prop_shuffle(),
        sorted in any::<bool>(),
        place in any::<prop::sample::Index>(),
        kind in 0_usize..3,
        texts in prop::collection::vec(some_bytes(0..100), 1..4),
        chars in "[ab. é▁x]{0,60}",
    ) {
        let texts = if kind == 0 { vec![chars.into_bytes()] } else { texts };
        let order = if sorted { (0..60).collect() } else { order };
        let engine = [arbitrary_chars, arbitrary_bytes, with_a_hole][kind](&picks, &order);
        let merges = engine.merges();
        prop_assume!(!merges.is_empty());
        let rank = merges[place.index(merges.len())].rank;
        let first = merges.partition_point(|merge| merge.rank < rank);
        let tokens = engine.token_bytes().unwrap();
        let levels = Levels::split(&tokens, &merges, first, &engine.symbols, engine.cuts.as_ref().unwrap());
        prop_assume!(levels.is_some()); // else pairs of words are too many: the two levels are not used
        engine.long.get_or_init(|| levels.map(|levels| Long::Levels(Box::new(levels))));
        let mut scratch = BpeScratch::default();
        for text in &texts {
            let mut ids = Vec::new();
            // Where bytes are dropped, and where the mark itself stands in a text whose spaces are marks.
            let left = kind == 2 && text.contains(&0xFF) || kind == 0 && text.contains(&"▁".as_bytes()[0]);
            prop_assert_eq!(engine.encode_long(text, &mut scratch, &mut ids), !left);
            if left {
                engine.encode(text, &mut scratch, &mut ids);
            }
            prop_assert_eq!(ids, engine.encode_reference(text));
        }
    }
}
