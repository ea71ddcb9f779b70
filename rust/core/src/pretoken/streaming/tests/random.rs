//! Agreement on long texts.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::formats::description::PrependScheme;
use crate::pretoken::Flavour;
use crate::pretoken::known::spellings;
use crate::pretoken::tests::{ATOMS, MALFORMED, golden};

static KNOWN: LazyLock<Vec<(Known, Streaming)>> =
    LazyLock::new(|| Known::ALL.map(|known| (known, streaming(&tree_of(known)))).into());

fn text() -> impl Strategy<Value = Vec<u8>> {
    let atom = prop_oneof![
        12 => proptest::sample::select(ATOMS).prop_map(|s| s.as_bytes().to_vec()),
        2 => "[ \n]{1,4}".prop_map(String::into_bytes),
        2 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
        2 => proptest::sample::select(MALFORMED).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 1..6),
    ];
    proptest::collection::vec(atom, 0..60).prop_map(|atoms| atoms.concat())
}

/// The true marks of `text` never die and end it, and no mark can be added, taken away or moved.
fn only_the_true_marks_are_right(name: &str, streaming: &Streaming, text: &[u8], boundaries: &[usize]) {
    let shown = || format!("{name}: {:?}", text.escape_ascii().to_string());
    let mut states = vec![streaming.start()];
    for (at, &byte) in text.iter().enumerate() {
        let state = states[at];
        let state = if boundaries.contains(&at) { streaming.cut(state) } else { state };
        assert_ne!(state, Streaming::DEAD, "at {at} of {}", shown());
        states.push(streaming.step(state, byte));
    }
    assert!(streaming.can_end(states[text.len()]), "{}", shown());
    for (changed, &before) in states.iter().enumerate().take(text.len()) {
        let flips = |at: usize| at == changed || (at == changed + 1 && at < text.len());
        for flips in [&|at| at == changed, &flips as &dyn Fn(usize) -> bool] {
            let mut state = before;
            for (at, &byte) in text.iter().enumerate().skip(changed) {
                if boundaries.contains(&at) != flips(at) {
                    state = streaming.cut(state);
                }
                state = streaming.step(state, byte);
                if state == Streaming::DEAD {
                    break;
                }
            }
            assert!(!streaming.can_end(state), "with a change at {changed}, {}", shown());
        }
    }
}

proptest! {
    #[test]
    fn the_boundaries_of_a_random_text_are_its_only_right_marks(text in text()) {
        for (known, streaming) in &*KNOWN {
            only_the_true_marks_are_right(&format!("{known:?}"), streaming, &text, &scanned(*known)(&text));
        }
    }

    #[test]
    fn the_boundaries_of_random_bytes_are_their_only_right_marks(text in proptest::collection::vec(any::<u8>(), 0..120)) {
        for (known, streaming) in &*KNOWN {
            only_the_true_marks_are_right(&format!("{known:?}"), streaming, &text, &scanned(*known)(&text));
        }
    }
}

fn xorshift(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    usize::try_from(*seed >> 33).expect("31 bits")
}

/// Walks along random letters that do not die, then to an end: the marks must be the boundaries of the text.
fn what_lives_can_be_completed(name: &str, streaming: &Streaming, oracle: Oracle<'_>, walks: u64) {
    let atoms: Vec<&[u8]> = ATOMS.iter().map(|atom| atom.as_bytes()).chain(MALFORMED.iter().copied()).collect();
    for walk in 1..=walks {
        let mut seed = walk.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (mut state, mut letters) = (streaming.start(), Vec::new());
        for _ in 0..xorshift(&mut seed) % 40 {
            let mut next: Vec<Letter> = match xorshift(&mut seed) % 4 {
                0 => vec![None],
                1 => vec![u8::try_from(xorshift(&mut seed) % 256).ok()],
                _ => atoms[xorshift(&mut seed) % atoms.len()].iter().copied().map(Some).collect(),
            };
            next.truncate(1 + xorshift(&mut seed) % 8);
            let after = next.iter().fold(state, |state, &letter| read(streaming, state, letter));
            if after != Streaming::DEAD {
                state = after;
                letters.extend(next);
            }
        }
        letters.extend(way_to_an_end(streaming, state).expect("a state that lives reaches an end"));
        let (text, marks) = completed(&[], &[], &letters);
        assert_eq!(marks, oracle(&text), "{name}: {:?}", text.escape_ascii().to_string());
    }
}

#[test]
fn what_lives_can_be_completed_to_a_text_with_these_boundaries() {
    for (known, streaming) in &*KNOWN {
        what_lives_can_be_completed(&format!("{known:?}"), streaming, &scanned(*known), 150);
    }
    for pattern in PATTERNS.iter().chain(DIGIT_GROUPS) {
        let tree = onig(pattern);
        what_lives_can_be_completed(pattern, &streaming(&tree), &compiled(&tree), 40);
    }
}

#[test]
fn every_spelling_of_a_published_pattern_gives_the_boundaries_of_its_scanner() {
    let text: Vec<u8> =
        ATOMS.iter().zip(ATOMS.iter().rev()).flat_map(|(a, b)| [a, b, " ", b, "\n"].concat().into_bytes()).collect();
    for (spelling, known, flavours) in spellings::all() {
        for flavour in flavours {
            let tree = match flavour {
                Flavour::Oniguruma => onig(spelling),
                Flavour::FancyRegex => fancy(spelling),
            };
            let streaming = streaming(&tree);
            let boundaries = scanned(known)(&text);
            let mut state = streaming.start();
            for (at, &byte) in text.iter().enumerate() {
                let cut = streaming.cut(state);
                state = streaming.step(if boundaries.binary_search(&at).is_ok() { cut } else { state }, byte);
                assert_ne!(state, Streaming::DEAD, "{spelling} as {flavour:?} at {at}");
            }
            assert!(streaming.can_end(state), "{spelling} as {flavour:?}");
        }
    }
}

#[test]
fn patterns_that_are_modelled_cut_as_the_original_engine_did() {
    let golden = golden();
    let mut modelled = 0;
    for case in golden["regex"].as_array().into_iter().flatten() {
        let (pattern, text) = (case["pattern"].as_str().expect("text"), case["text"].as_str().expect("text"));
        let Some(ends) = case.get("ends").and_then(toml::Value::as_str) else { continue };
        let Ok(streaming) = Streaming::new(&onig(pattern), &Limits::default()) else { continue };
        let mut ends: Vec<usize> = ends.split(' ').filter_map(|end| end.parse().ok()).collect();
        ends.pop();
        only_the_true_marks_are_right(pattern, &streaming, text.as_bytes(), &ends);
        modelled += 1;
    }
    assert!(modelled > 100, "{modelled} patterns of the golden file are modelled");
}

#[test]
fn metaspace_cuts_before_every_space_and_every_mark() {
    let tree = PreTokenizer::Metaspace { replacement: '▁', prepend_scheme: PrependScheme::First, split: true };
    let streaming = streaming(&tree);
    let before_marks = |text: &[u8]| -> Vec<usize> {
        (1..text.len()).filter(|&at| text[at] == b' ' || text[at..].starts_with("▁".as_bytes())).collect()
    };
    agree_by_enumeration("Metaspace", &streaming, &before_marks, &[b"a", b" ", "▁".as_bytes(), b"\xFF"], 4, 1);
    what_lives_can_be_completed("Metaspace", &streaming, &before_marks, 100);
}
