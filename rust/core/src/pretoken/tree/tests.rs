//! Laws of the pre-tokenizers.

use proptest::prelude::*;

use super::cut::Cut;
use super::*;
use crate::formats::description::{Pattern, SplitBehavior};
use crate::normalize::Aligned;

const BEHAVIORS: [SplitBehavior; 5] = [
    SplitBehavior::Removed,
    SplitBehavior::Isolated,
    SplitBehavior::MergedWithPrevious,
    SplitBehavior::MergedWithNext,
    SplitBehavior::Contiguous,
];

fn compile(pre_tokenizer: &PreTokenizer) -> Compiled {
    Compiled::new(pre_tokenizer, &Limits::default()).expect("a sound pre-tokenizer")
}

fn byte_level(add_prefix_space: bool, use_regex: bool) -> PreTokenizer {
    PreTokenizer::ByteLevel { add_prefix_space, use_regex, trim_offsets: true }
}

fn metaspace(prepend_scheme: PrependScheme, split: bool) -> PreTokenizer {
    PreTokenizer::Metaspace { replacement: '▁', prepend_scheme, split }
}

fn every_kind() -> Vec<PreTokenizer> {
    let mut kinds = vec![
        byte_level(true, true),
        byte_level(false, true),
        byte_level(true, false),
        metaspace(PrependScheme::Always, true),
        metaspace(PrependScheme::Never, true),
        metaspace(PrependScheme::First, false),
        PreTokenizer::Bert,
        PreTokenizer::Whitespace,
        PreTokenizer::WhitespaceSplit,
        PreTokenizer::CharDelimiterSplit('a'),
        PreTokenizer::Digits { individual_digits: true },
        PreTokenizer::Digits { individual_digits: false },
        PreTokenizer::UnicodeScripts,
        PreTokenizer::FixedLength(2),
    ];
    kinds.extend(BEHAVIORS.map(PreTokenizer::Punctuation));
    kinds
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let pieces = ["a", "b", " ", "  ", "▁", "-", "--", "1", "²", "é", "中", "カ", "\u{301}", "\n", "!", "б"];
    let piece = prop_oneof![
        9 => proptest::sample::select(pieces.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::sample::select(vec![vec![0xFF], vec![0xC3], vec![0xE2, 0x82]]),
        1 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// The definition of a split, as `tokenizers` states it: matches and the text between them, folded from one end.
fn split_reference(items: &[(Range<usize>, bool)], behavior: SplitBehavior) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut after_match = false;
    match behavior {
        SplitBehavior::Removed => out.extend(items.iter().filter(|item| !item.1).map(|item| item.0.clone())),
        SplitBehavior::Isolated => out.extend(items.iter().map(|item| item.0.clone())),
        SplitBehavior::Contiguous | SplitBehavior::MergedWithPrevious => {
            for (range, is_match) in items.iter().cloned() {
                let joins = match behavior {
                    SplitBehavior::Contiguous => is_match == after_match,
                    _ => is_match && !after_match,
                };
                match out.last_mut() {
                    Some(last) if joins => last.end = range.end,
                    _ => out.push(range),
                }
                after_match = is_match;
            }
        }
        SplitBehavior::MergedWithNext => {
            for (range, is_match) in items.iter().rev().cloned() {
                match out.last_mut() {
                    Some(last) if is_match && !after_match => last.start = range.start,
                    _ => out.push(range),
                }
                after_match = is_match;
            }
            out.reverse();
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn test_alignment_changes_no_piece_and_origins_lie_in_order(text in texts(), first in 0..19_usize, second in 0..19_usize) {
        let kinds = every_kind();
        let compiled = compile(&PreTokenizer::Sequence(vec![kinds[first].clone(), kinds[second].clone()]));
        let aligned = Aligned::from_text(&text);
        let pieces = compiled.pieces(aligned.view()).expect("no bound is near");
        prop_assert_eq!(pieces.origins.len(), pieces.len());
        for i in 0..pieces.len() {
            prop_assert!(!pieces.range(i).is_empty());
            prop_assert!(pieces.origins[i].start <= pieces.origins[i].end);
            prop_assert!(i == 0 || pieces.origins[i - 1].start <= pieces.origins[i].start);
        }
        let plain = compiled.pieces(View::plain(&text, true)).expect("no bound is near");
        if !compiled.needs_alignment() {
            prop_assert_eq!((&plain.bytes, &plain.ends), (&pieces.bytes, &pieces.ends));
        }
        if !compiled.changes_text() && !compiled.drops_text() {
            prop_assert_eq!(&plain.bytes, &text);
        }
    }

    #[test]
    fn test_splits_agree_with_their_definition(text in texts(), pattern in proptest::sample::select(vec!["-", "", "a", "\\s+", "\\d*", "b|"]), behavior in proptest::sample::select(BEHAVIORS.to_vec()), invert: bool) {
        let pattern = Pattern::Regex(pattern.to_owned());
        let limits = Limits::default();
        let splitter = crate::pretoken::Splitter::new(&pattern, &limits).expect("a sound pattern");
        let mut items = Vec::new();
        let mut end = 0;
        for found in splitter.matches(&text) {
            let found = found.expect("no look-around");
            if end != found.start {
                items.push((end..found.start, invert));
            }
            end = found.end;
            items.push((found, !invert));
        }
        if end != text.len() {
            items.push((end..text.len(), invert));
        }
        let mut wanted = split_reference(&items, behavior);
        wanted.retain(|range| !range.is_empty());
        let mut found = Vec::new();
        if !text.is_empty() {
            let cut = Cut::pattern(&pattern, behavior, invert, &limits).expect("a sound pattern");
            cut.for_each(&text, |range| { found.push(range); Ok(()) }).expect("no look-around");
        } else {
            wanted.clear();
        }
        found.retain(|range| !range.is_empty());
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn test_what_a_tree_says_of_itself() {
    let identity = compile(&PreTokenizer::Sequence(vec![byte_level(false, false)]));
    assert!(identity.is_identity() && !identity.changes_text());
    assert_eq!(identity.output(), Output::RawBytes);
    assert!(compile(&PreTokenizer::default()).is_identity());
    assert_eq!(compile(&PreTokenizer::default()).output(), Output::Text);
    assert!(compile(&byte_level(true, false)).changes_text());
    assert!(!compile(&byte_level(false, true)).changes_text());
    assert!(compile(&PreTokenizer::WhitespaceSplit).drops_text());
    let first = metaspace(PrependScheme::First, true);
    assert!(!compile(&first).needs_alignment());
    let after = PreTokenizer::Sequence(vec![PreTokenizer::WhitespaceSplit, first]);
    assert!(compile(&after).needs_alignment());
    // A mark among the alphabet's characters: the pieces cannot be bytes.
    let mixed = PreTokenizer::Sequence(vec![byte_level(false, false), metaspace(PrependScheme::Always, true)]);
    assert_eq!(compile(&mixed).output(), Output::Text);
}

#[test]
fn test_the_alphabet_is_cut_after_byte_level() {
    // Falcon: the byte 0xB2 is the digit `²` in the alphabet.
    let falcon =
        PreTokenizer::Sequence(vec![byte_level(false, true), PreTokenizer::Digits { individual_digits: false }]);
    let pieces = compile(&falcon).pieces(View::plain("²".as_bytes(), true)).expect("no bound is near");
    assert_eq!(pieces.iter().collect::<Vec<_>>(), [&b"\xC2"[..], b"\xB2"]);
}

#[test]
fn test_metaspace_marks_the_start_of_the_original_only() {
    let first = compile(&metaspace(PrependScheme::First, true));
    let of = |view: View<'_>| String::from_utf8(first.pieces(view).expect("no bound is near").bytes).expect("UTF-8");
    assert_eq!(of(View::plain(b"a b", true)), "▁a▁b");
    assert_eq!(of(View::plain(b"a b", false)), "a▁b");
    let text = Aligned::from_text(b"<s>a");
    assert_eq!(of(text.view().slice(3..4)), "a");
    assert_eq!(of(text.view().slice(0..4)), "▁<s>a");
}

#[test]
fn test_unsound_trees_are_refused() {
    assert!(Compiled::new(&PreTokenizer::FixedLength(0), &Limits::default()).is_err());
    let mut nested = PreTokenizer::Bert;
    for _ in 0..100 {
        nested = PreTokenizer::Sequence(vec![nested]);
    }
    assert!(Compiled::new(&nested, &Limits::default()).is_err());
}

#[test]
fn test_megabytes_take_linear_time() {
    const LEN: usize = 1 << 20;
    for text in [vec![b' '; LEN], b"a ".repeat(LEN / 2), "é!".repeat(LEN / 3).into_bytes(), vec![0xFF; LEN]] {
        for kind in every_kind() {
            let mut bytes = 0;
            let counts = &mut |piece: View<'_>| {
                bytes += piece.bytes().len();
                Ok(())
            };
            compile(&kind).for_each(View::plain(&text, true), counts).expect("no bound is near");
            assert!(bytes <= 4 * LEN);
        }
    }
}
