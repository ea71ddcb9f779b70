use super::*;
use proptest::prelude::*;
use serde::Deserialize;

fn model(vocab: &[impl AsRef<[u8]>], unk: Option<TokenId>, prefix: &str, max_chars: usize) -> WordPiece {
    let mut model = WordPiece {
        unk,
        continuing_subword_prefix: prefix.into(),
        max_input_chars_per_word: max_chars,
        ..WordPiece::default()
    };
    for (id, spelling) in (0u32..).zip(vocab) {
        model.vocab.push(spelling.as_ref(), id);
    }
    model
}

fn agree(model: &WordPiece, word: &[u8]) -> Vec<TokenId> {
    let engine = Engine::new(model, &Limits::default()).expect("a good model");
    let (mut out, mut lens, mut plain) = (vec![77], vec![77], vec![77]);
    engine.encode_with_lens(word, &mut Scratch, &mut out, &mut lens);
    engine.encode(word, &mut Scratch, &mut plain);
    assert_eq!(plain, out);
    let found: Vec<_> = out[1..].iter().copied().zip(lens[1..].iter().map(|len| *len as usize)).collect();
    assert_eq!(found, reference::encode(model, word), "{model:?} {word:?}");
    out.split_off(1)
}

#[derive(Deserialize)]
struct Golden {
    model: Vec<GoldenModel>,
}

#[derive(Deserialize)]
struct GoldenModel {
    name: String,
    vocab: Vec<String>,
    unk: TokenId,
    prefix: String,
    max_chars: usize,
    case: Vec<GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenCase {
    text: String,
    ids: Vec<TokenId>,
}

#[test]
fn golden_cases_give_the_ids_of_tokenizers() {
    let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/wordpiece.toml"));
    let golden: Golden = toml::from_str(file).expect("tests/golden/wordpiece.toml is well formed");
    for golden in golden.model {
        let model = model(&golden.vocab, Some(golden.unk), &golden.prefix, golden.max_chars);
        for case in golden.case {
            assert_eq!(agree(&model, case.text.as_bytes()), case.ids, "{}: {:?}", golden.name, case.text);
        }
    }
}

#[test]
fn a_word_with_an_invalid_byte_is_unknown_and_each_such_byte_counts_as_a_character() {
    let model = model(&["[UNK]", "a", "##a"], Some(0), "##", 4);
    assert_eq!(agree(&model, b"aaaa"), [1, 2, 2, 2]);
    assert_eq!(agree(&model, b"aa\xff"), [0]);
    assert_eq!(agree(&model, b"\xe2\x96"), [0]);
    assert_eq!(char_count(b"a\xe2\x96\xc3\xa9\xff"), 5);
}

#[test]
fn without_an_unknown_token_a_word_that_cannot_be_spelt_is_dropped() {
    assert!(agree(&model(&["a", "##b"], None, "##", 10), b"abc").is_empty());
}

#[test]
fn an_unknown_token_outside_the_vocabulary_is_refused() {
    assert!(Engine::new(&model(&["a"], Some(1), "##", 10), &Limits::default()).is_err());
}

proptest! {
    #[test]
    fn engine_and_reference_agree_on_any_bytes(
        vocab in prop::collection::btree_set(prop_oneof![
            4 => "(##)?[abé]{0,4}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..3),
        ], 1..40),
        prefix in "|#|##|a",
        max_chars in 0..12usize,
        words in prop::collection::vec(prop_oneof![
            4 => "[abé]{0,10}".prop_map(String::into_bytes),
            1 => "#{0,2}[abéz]{0,6}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..12),
        ], 8),
    ) {
        let vocab: Vec<_> = vocab.into_iter().collect();
        let model = model(&vocab, Some(0), &prefix, max_chars);
        for word in &words {
            agree(&model, word);
        }
    }
}
