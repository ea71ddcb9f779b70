use super::*;
use proptest::prelude::*;
use serde::Deserialize;

/// The 256 bytes, then `tokens`.
fn model(tokens: &[impl AsRef<[u8]>]) -> Trie {
    let mut model = Trie::default();
    for byte in 0..=u8::MAX {
        model.vocab.push(&[byte], u32::from(byte));
    }
    for (id, token) in (256u32..).zip(tokens) {
        model.vocab.push(token.as_ref(), id);
    }
    model
}

fn agree(model: &Trie, text: &[u8]) -> Vec<TokenId> {
    let engine = Engine::new(model, &Limits::default()).expect("a good model");
    let (mut out, mut lens, mut plain) = (vec![77], vec![77], vec![77]);
    engine.encode_with_lens(text, &mut Scratch, &mut out, &mut lens);
    engine.encode(text, &mut Scratch, &mut plain);
    assert_eq!(plain, out);
    let found: Vec<_> = out[1..].iter().copied().zip(lens[1..].iter().map(|len| *len as usize)).collect();
    assert_eq!(found, reference::encode(model, text), "{text:?}");
    assert_eq!(found.iter().map(|(_, len)| len).sum::<usize>(), text.len());
    out.split_off(1)
}

#[derive(Deserialize)]
struct Golden {
    model: Vec<GoldenModel>,
}

#[derive(Deserialize)]
struct GoldenModel {
    name: String,
    tokens: Vec<String>,
    case: Vec<GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenCase {
    text: Option<String>,
    hex: Option<String>,
    ids: Vec<TokenId>,
}

#[test]
fn golden_cases_give_the_ids_of_the_definition() {
    let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/trie.toml"));
    let golden: Golden = toml::from_str(file).expect("tests/golden/trie.toml is well formed");
    for golden in golden.model {
        let model = model(&golden.tokens);
        for case in golden.case {
            let text = match (case.text, case.hex) {
                (Some(text), None) => text.into_bytes(),
                (None, Some(hex)) => (0..hex.len() / 2)
                    .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal digits"))
                    .collect(),
                _ => panic!("a case has one of text and hex"),
            };
            assert_eq!(agree(&model, &text), case.ids, "{}: {text:?}", golden.name);
        }
    }
}

#[test]
fn a_vocabulary_without_some_byte_is_refused_by_name() {
    let mut model = Trie::default();
    for byte in (0..=u8::MAX).filter(|byte| *byte != 0x0a) {
        model.vocab.push(&[byte], u32::from(byte));
    }
    let error = Engine::new(&model, &Limits::default()).expect_err("no line feed");
    assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
    assert!(error.to_string().contains("0x0A"), "{error}");
}

proptest! {
    #[test]
    fn engine_and_reference_agree_on_any_bytes(
        tokens in prop::collection::btree_set(prop_oneof![
            4 => "[abé]{2,6}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 2..4),
        ], 0..30),
        text in prop_oneof![
            3 => "[abé]{0,60}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..60),
        ],
    ) {
        agree(&model(&tokens.into_iter().collect::<Vec<_>>()), &text);
    }
}
