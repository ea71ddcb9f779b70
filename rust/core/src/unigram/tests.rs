use super::*;
use crate::formats::{Spellings, UnigramFlavour::*};
use proptest::prelude::*;
use serde::Deserialize;

/// What a piece is, beside its spelling and score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    #[default]
    Normal,
    Unknown,
    /// Control, unused or byte: never produced.
    Never,
    UserDefined,
}

pub(super) fn model(flavour: UnigramFlavour, pieces: &[(&[u8], f64, Kind)]) -> Unigram {
    let mut model = Unigram { flavour, fuse_unk: true, ..Unigram::default() };
    for (id, (spelling, score, kind)) in (0u32..).zip(pieces) {
        model.vocab.push(spelling, id);
        model.scores.push(*score);
        match kind {
            Kind::Normal => {}
            Kind::Unknown => model.unk = Some(id),
            Kind::Never => model.never.push(id),
            Kind::UserDefined => model.user_defined.push(id),
        }
    }
    model
}

fn encode(engine: &Engine, text: &[u8]) -> Vec<(TokenId, usize)> {
    let mut scratch = Scratch::default();
    let (mut out, mut lens, mut plain) = (vec![77], vec![77], vec![77]);
    engine.encode_with_lens(text, &mut scratch, &mut out, &mut lens);
    engine.encode(text, &mut scratch, &mut plain);
    assert_eq!(plain, out);
    assert_eq!(out.len(), lens.len());
    out.into_iter().zip(lens).skip(1).map(|(id, len)| (id, len as usize)).collect()
}

fn agree(model: &Unigram, text: &[u8]) -> Vec<(TokenId, usize)> {
    let engine = Engine::new(model, &Limits::default()).expect("a good model");
    let found = encode(&engine, text);
    assert_eq!(found, reference::encode(model, text), "{model:?} {text:?}");
    if model.unk.is_some() {
        assert_eq!(found.iter().map(|(_, len)| len).sum::<usize>(), text.len(), "{model:?} {text:?}");
    }
    found
}

#[derive(Deserialize)]
struct Golden {
    model: Vec<GoldenModel>,
}

#[derive(Deserialize)]
struct GoldenModel {
    name: String,
    flavour: String,
    #[serde(default)]
    byte_fallback: bool,
    pieces: Vec<(String, f64, Kind)>,
    #[serde(default)]
    all_bytes: bool,
    case: Vec<GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenCase {
    text: Option<String>,
    hex: Option<String>,
    ids: Vec<TokenId>,
}

#[test]
fn golden_cases_give_the_ids_of_the_original_implementations() {
    let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/unigram.toml"));
    let golden: Golden = toml::from_str(file).expect("tests/golden/unigram.toml is well formed");
    let mut cases = 0;
    for golden in golden.model {
        let flavour = match golden.flavour.as_str() {
            "tokenizers" => Tokenizers,
            "sentencepiece" => SentencePiece,
            other => panic!("flavour {other}"),
        };
        let mut pieces = golden.pieces;
        if golden.all_bytes {
            let kind = if flavour == SentencePiece { Kind::Never } else { Kind::Normal };
            pieces.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, kind)));
        }
        let pieces: Vec<_> = pieces.iter().map(|(text, score, kind)| (text.as_bytes(), *score, *kind)).collect();
        let mut model = model(flavour, &pieces);
        model.byte_fallback = golden.byte_fallback;
        for case in golden.case {
            let text = match (case.text, case.hex) {
                (Some(text), None) => text.into_bytes(),
                (None, Some(hex)) => (0..hex.len() / 2)
                    .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal digits"))
                    .collect(),
                _ => panic!("a case has one of text and hex"),
            };
            let ids: Vec<TokenId> = agree(&model, &text).into_iter().map(|(id, _)| id).collect();
            assert_eq!(ids, case.ids, "{}: {:?}", golden.name, String::from_utf8_lossy(&text));
            cases += 1;
        }
    }
    assert!(cases >= 50, "{cases}");
}

const ABC: &[(&[u8], f64, Kind)] = &[
    (b"<unk>", 0.0, Kind::Unknown),
    (b"a", -1.0, Kind::Normal),
    (b"b", -2.0, Kind::Normal),
    (b"ab", -3.0, Kind::Normal),
    ("é".as_bytes(), -4.0, Kind::Normal),
];

#[test]
fn invalid_bytes_are_unknown_characters() {
    // E2 96 is a cut-off character: one unknown run of two bytes either way.
    assert_eq!(agree(&model(Tokenizers, ABC), b"a\xe2\x96b\xff"), [(1, 1), (0, 2), (2, 1), (0, 1)]);
    assert_eq!(agree(&model(SentencePiece, ABC), b"a\xe2\x96b\xff"), [(1, 1), (0, 2), (2, 1), (0, 1)]);
    assert_eq!(agree(&model(SentencePiece, ABC), b"\xc3\xa9\xc3"), [(4, 2), (0, 1)]);
}

#[test]
fn sentencepiece_reads_an_invalid_byte_as_the_replacement_character() {
    let mut pieces = ABC.to_vec();
    pieces.push(("a\u{fffd}".as_bytes(), -1.0, Kind::Normal));
    pieces.push((b"\xef\xbf", -1.0, Kind::Normal)); // no character: on no path
    assert_eq!(agree(&model(SentencePiece, &pieces), b"a\xff\xffb"), [(5, 2), (0, 1), (2, 1)]);
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    pieces.extend(bytes.iter().map(|byte| (byte.as_bytes(), 0.0, Kind::Never)));
    let mut model = model(SentencePiece, &pieces);
    model.byte_fallback = true;
    let first = 7;
    assert_eq!(agree(&model, b"b\xe2"), [(2, 1), (first + 0xef, 0), (first + 0xbf, 0), (first + 0xbd, 1)]);
}

#[test]
fn without_an_unknown_piece_unknown_characters_are_dropped() {
    let pieces = &ABC[1..];
    assert_eq!(agree(&model(Tokenizers, pieces), b"axxb"), [(0, 1), (1, 1)]);
    assert_eq!(agree(&model(SentencePiece, pieces), b"axxb"), [(0, 1), (1, 1)]);
    assert_eq!(agree(&Unigram::default(), b"axxb\xff"), []);
}

#[test]
fn bad_models_are_refused() {
    let error = |model: &Unigram| Engine::new(model, &Limits::default()).expect_err("a bad model").kind();
    for flavour in [Tokenizers, SentencePiece] {
        assert_eq!(error(&model(flavour, &[(b"a", f64::NAN, Kind::Normal)])), crate::ErrorKind::Format);
        for score in [f64::INFINITY, f64::NEG_INFINITY, -1.1e30, 1.1e30] {
            assert_eq!(error(&model(flavour, &[(b"a", score, Kind::Normal)])), crate::ErrorKind::Unsupported);
        }
    }
    let mut bad = model(Tokenizers, ABC);
    bad.unk = Some(5);
    assert_eq!(error(&bad), crate::ErrorKind::Format);
    let mut bad = model(Tokenizers, ABC);
    bad.scores.pop();
    assert_eq!(error(&bad), crate::ErrorKind::Format);
}

#[test]
fn cutting_into_segments_changes_nothing() {
    // Tenths are no dyadic numbers, so sums round and the order of summing shows.
    let pieces: &[(&[u8], f64, Kind)] = &[
        (b"<unk>", 0.0, Kind::Unknown),
        (b"a", -1.1, Kind::Normal),
        (b"aa", -2.2, Kind::Normal),
        (b"aaa", -3.3, Kind::Normal),
        (b"b", -0.7, Kind::Normal),
        (b"ab", -1.8, Kind::Normal),
        (b"ba", -1.8, Kind::Normal),
        (b"c", -1.3, Kind::Normal),
    ];
    for flavour in [Tokenizers, SentencePiece] {
        let model = model(flavour, pieces);
        let mut state = 1u32;
        for (alphabet, len) in [(&b"aabc"[..], 20_000), (b"ab", 20_000), (b"a", 10_000), (b"aaaaaaaabc\xffx", 20_000)] {
            let text: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    alphabet[(state >> 8) as usize % alphabet.len()]
                })
                .collect();
            agree(&model, &text);
        }
        agree(&model, &b"x".repeat(10_000));
    }
}

/// Every segmentation of `text` into tokens, by brute force.
fn segmentations(model: &Unigram, text: &[u8]) -> Vec<Vec<usize>> {
    if text.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for i in 0..model.vocab.len() {
        if let Some(rest) = text.strip_prefix(model.vocab.get(i)) {
            for mut tail in segmentations(model, rest) {
                tail.insert(0, i);
                all.push(tail);
            }
        }
    }
    all
}

proptest! {
    /// With scores whose sums are exact, the result is the best segmentation, and among equals the one whose last token
    /// is longest, then its last but one, ...
    #[test]
    fn brute_force_finds_no_better_segmentation(
        scores in prop::collection::btree_map("[ab]{1,4}", -8i8..0, 0..12),
        text in "[ab]{0,9}",
        single in any::<bool>(),
    ) {
        let mut pieces: Vec<(&[u8], f64, Kind)> = vec![(b"a", -4.0, Kind::Normal), (b"b", -4.0, Kind::Normal)];
        pieces.extend(scores.iter().filter(|(s, _)| s.len() > 1).map(|(s, v)| (s.as_bytes(), f64::from(*v), Kind::Normal)));
        let model = model(if single { SentencePiece } else { Tokenizers }, &pieces);
        let best = segmentations(&model, text.as_bytes()).into_iter().max_by_key(|path| {
            let score: f64 = path.iter().map(|i| model.scores[*i]).sum();
            let lens: Vec<usize> = path.iter().rev().map(|i| model.vocab.get(*i).len()).collect();
            (score as i64, lens)
        }).expect("a and b are tokens");
        let found: Vec<usize> = agree(&model, text.as_bytes()).into_iter().map(|(id, _)| id as usize).collect();
        prop_assert_eq!(found, best);
    }

    #[test]
    fn engine_and_reference_agree_on_any_bytes(
        spellings in prop::collection::btree_set(prop_oneof![
            3 => "[abé▁]{1,4}".prop_map(String::into_bytes),
            1 => "<unk>|<0x(61|C3|A9|FF|EF|BF|BD|E2|96|81)>|\u{fffd}[ab]?".prop_map(String::into_bytes),
            1 => prop::collection::vec(prop_oneof![Just(0xc3u8), Just(0xa9), Just(0xff), Just(b'a'), Just(0)], 0..4),
        ], 1..30),
        numbers in prop::collection::vec((prop_oneof![Just(0.0), Just(-1.5), -20.0..20.0f64, -1e30..1e30f64, -2e5..2e5f64], 0..8u8), 30),
        unk in prop::option::of(0..30usize),
        options in any::<[bool; 3]>(),
        texts in prop::collection::vec(prop::collection::vec(prop_oneof![
            4 => Just(b"a".to_vec()), 4 => Just(b"b".to_vec()), 2 => Just("é".into()), 2 => Just("▁".into()),
            1 => Just("z".into()), 1 => Just("\u{fffd}".into()), 1 => Just("<unk>".into()), 1 => Just("<0xC3>".into()),
            1 => Just("🙂".into()), 1 => any::<u8>().prop_map(|byte| vec![byte]),
        ], 0..40).prop_map(|parts| parts.concat()), 4),
    ) {
        let spellings: Vec<_> = spellings.into_iter().collect();
        let kinds = [Kind::Never, Kind::UserDefined];
        let pieces: Vec<(&[u8], f64, Kind)> = spellings.iter().zip(&numbers).enumerate().map(|(i, (spelling, (score, kind)))| {
            let kind = if Some(i) == unk { Kind::Unknown } else { *kinds.get(usize::from(*kind)).unwrap_or(&Kind::Normal) };
            (spelling.as_slice(), *score, kind)
        }).collect();
        let mut model = model(if options[0] { SentencePiece } else { Tokenizers }, &pieces);
        model.byte_fallback = options[1];
        model.fuse_unk = options[2];
        for text in &texts {
            agree(&model, text);
        }
    }

    #[test]
    fn every_byte_sequence_can_be_encoded(text in prop::collection::vec(any::<u8>(), 0..200)) {
        agree(&model(Tokenizers, ABC), &text);
        agree(&model(SentencePiece, ABC), &text);
    }
}

#[test]
fn an_empty_vocabulary_is_no_danger() {
    let model = Unigram { vocab: Spellings::default(), ..Unigram::default() };
    assert_eq!(agree(&model, "a▁".as_bytes()), []);
}

#[test]
#[ignore = "takes two gigabytes and half a minute"]
fn a_piece_of_a_hundred_megabytes_without_a_place_to_cut_is_encoded() {
    let model =
        model(Tokenizers, &[(b"a", -1.0, Kind::Normal), (b"aa", -1.5, Kind::Normal), (b"aaa", -1.7, Kind::Normal)]);
    let engine = Engine::new(&model, &Limits::default()).expect("a good model");
    let text = vec![b'a'; 100_000_000];
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    engine.encode(&text, &mut scratch, &mut out);
    assert_eq!(out.len(), 33_333_334);
    let lens: usize = out.iter().map(|id| *id as usize + 1).sum();
    assert_eq!(lens, text.len());
}
