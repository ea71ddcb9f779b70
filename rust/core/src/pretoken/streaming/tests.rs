//! Agreement with the pre-tokenizers themselves: by enumeration (here), on random texts (`random`), and what is refused
//! (`refused`).

mod random;
mod refused;

use super::*;
use crate::formats::description::{Pattern, SplitBehavior};
use crate::normalize::View;
use crate::pretoken::known::{Known, Scanner, ScannerVisitor, with_scanner};
use crate::pretoken::reference::patterns;
use crate::pretoken::tree::Compiled;

fn streaming(tree: &PreTokenizer) -> Streaming {
    Streaming::new(tree, &Limits::default()).expect("a pre-tokenizer that is modelled")
}

fn fancy(pattern: &str) -> PreTokenizer {
    split(Pattern::FancyRegex(pattern.into()), SplitBehavior::Isolated, false)
}

fn onig(pattern: &str) -> PreTokenizer {
    split(Pattern::Regex(pattern.into()), SplitBehavior::Isolated, false)
}

fn split(pattern: Pattern, behavior: SplitBehavior, invert: bool) -> PreTokenizer {
    PreTokenizer::Split { pattern, behavior, invert }
}

/// The definition of a known pipeline as a tree.
fn tree_of(known: Known) -> PreTokenizer {
    PreTokenizer::Sequence(patterns(known).iter().map(|pattern| fancy(pattern)).collect())
}

/// The boundaries of a text: every end of a piece but the last.
type Oracle<'o> = &'o dyn Fn(&[u8]) -> Vec<usize>;

struct Ends<'t>(&'t [u8]);

impl ScannerVisitor<Vec<usize>> for Ends<'_> {
    fn visit<S: Scanner>(self, scanner: S) -> Vec<usize> {
        let mut ends: Vec<usize> = scanner.pieces(self.0).collect();
        ends.pop();
        ends
    }
}

fn scanned(known: Known) -> impl Fn(&[u8]) -> Vec<usize> {
    move |text| with_scanner(known, Ends(text))
}

fn compiled(tree: &PreTokenizer) -> impl Fn(&[u8]) -> Vec<usize> {
    let compiled = Compiled::new(tree, &Limits::default()).expect("a sound pre-tokenizer");
    move |text| {
        let mut ends = compiled.pieces(View::plain(text, true)).expect("short texts stay under the limit").ends;
        ends.pop();
        ends
    }
}

/// The state behind a text with marks, all below its end or at it.
fn walk(streaming: &Streaming, text: &[u8], marks: &[usize]) -> StateId {
    let mut state = streaming.start();
    for (at, &byte) in text.iter().enumerate() {
        if marks.contains(&at) {
            state = streaming.cut(state);
        }
        state = streaming.step(state, byte);
    }
    if marks.contains(&text.len()) { streaming.cut(state) } else { state }
}

/// Every marked prefix of up to `n` units of `units` is dead exactly when no continuation of up to `k` units makes it
/// right, and every one may end exactly when its marks are the boundaries.
fn agree_by_enumeration(name: &str, streaming: &Streaming, oracle: Oracle<'_>, units: &[&[u8]], n: usize, k: usize) {
    // Bit `i` of a set of marks stands for the position behind `i + 1` units.
    let size = |len: usize| units.len().pow(u32::try_from(len).expect("short"));
    let mut alive: Vec<Vec<u64>> = (0..=n).map(|len| vec![0; size(len)]).collect();
    let mut exact: Vec<Vec<u64>> = (0..=n).map(|len| vec![u64::MAX; size(len)]).collect();
    let digits = |mut index: usize, len: usize| -> Vec<usize> {
        let mut digits = vec![0; len];
        for digit in digits.iter_mut().rev() {
            *digit = index % units.len();
            index /= units.len();
        }
        digits
    };
    for len in 0..=n + k {
        for index in 0..size(len) {
            let text: Vec<&[u8]> = digits(index, len).into_iter().map(|d| units[d]).collect();
            let bytes = text.concat();
            let boundaries = oracle(&bytes);
            let mut marks = 0u64;
            let (mut at, mut found) = (0, 0);
            for (i, unit) in text.iter().enumerate() {
                at += unit.len();
                if boundaries.contains(&at) {
                    marks |= 1 << i;
                    found += 1;
                }
            }
            assert_eq!(found, boundaries.len(), "{name}: units end where characters do");
            for short in 0..=len.min(n) {
                let prefix = index / size(len - short);
                let settled = if short == 0 { 0 } else { marks & ((1 << (short - 1)) - 1) };
                alive[short][prefix] |= 1 << settled;
                alive[short][prefix] |= 1 << (marks & ((1 << short) - 1));
            }
            if len <= n {
                exact[len][index] = marks;
            }
        }
    }
    for len in 0..=n {
        for index in 0..size(len) {
            let text: Vec<&[u8]> = digits(index, len).into_iter().map(|d| units[d]).collect();
            for marks in 0..1u64 << len {
                let (mut at, mut places) = (0, Vec::new());
                for (i, unit) in text.iter().enumerate() {
                    at += unit.len();
                    if marks >> i & 1 == 1 {
                        places.push(at);
                    }
                }
                let state = walk(streaming, &text.concat(), &places);
                let shown =
                    || format!("{name}: {:?} with marks at {places:?}", text.concat().escape_ascii().to_string());
                let lives = alive[len][index] >> marks & 1 == 1;
                assert_eq!(state != Streaming::DEAD, lives, "alive? {}", shown());
                assert_eq!(streaming.can_end(state), exact[len][index] == marks, "at its end? {}", shown());
            }
        }
    }
}

/// One of every kind of ASCII that published patterns tell apart.
const ASCII: &[&[u8]] = &[b"a", b"S", b"1", b" ", b"\n", b".", b"'", b"s"];
/// Letters with and without case, a mark, a control, and a byte that is no character.
const CHARACTERS: &[&[u8]] =
    &["é".as_bytes(), "中".as_bytes(), "\u{301}".as_bytes(), b"1", b" ", b"\x00", b".", b"\xFF"];
/// Bytes that make a letter, a number, a symbol, punctuation or white space of three bytes, or nothing.
const BYTES: &[&[u8]] = &[b"\xE2", b"\x80", b"\x82", b"\x90", b" ", b"a"];

#[test]
fn known_pipelines_agree_with_their_scanners_on_all_short_texts_of_ascii() {
    for known in Known::ALL {
        agree_by_enumeration(&format!("{known:?}"), &streaming(&tree_of(known)), &scanned(known), ASCII, 3, 2);
    }
}

#[test]
fn known_pipelines_agree_with_their_scanners_on_all_short_texts_of_characters() {
    for known in Known::ALL {
        agree_by_enumeration(&format!("{known:?}"), &streaming(&tree_of(known)), &scanned(known), CHARACTERS, 3, 2);
    }
}

#[test]
fn known_pipelines_agree_with_their_scanners_on_all_short_rows_of_bytes() {
    for known in Known::ALL {
        agree_by_enumeration(&format!("{known:?}"), &streaming(&tree_of(known)), &scanned(known), BYTES, 3, 3);
    }
}

#[test]
fn known_pipelines_agree_with_their_scanners_on_rows_of_digits_and_spaces() {
    for known in Known::ALL {
        let units: &[&[u8]] = &[b"1", b" ", b"a"];
        agree_by_enumeration(&format!("{known:?}"), &streaming(&tree_of(known)), &scanned(known), units, 5, 3);
    }
}

/// Patterns that try one construct each.
const PATTERNS: &[&str] = &[
    "a|ab",
    "ab|a",
    "a+?b|a",
    "a*?b",
    "(?:ab|a)(?:b|ba)",
    "(?:a|ab)(?:c|ba)",
    "a{2}",
    "a{1,2}b{0,1}",
    "a{2,}?",
    "(?:ab){2}|b",
    "a+(?=b)",
    "a(?=.*b)",
    ".+?(?=b|\\z)",
    "(?!ab(?!a))a+b?",
    "(?=a(?=b(?!b)))ab?|b",
    "(?!(?:ab)+1).",
    "(?<=a)b",
    "(?<!a)b+",
    "\\ba+",
    "a\\b|b1",
    "^a|b",
    "a$",
    "\\Aab|b",
    "b\\z|a",
    "a++b?",
    "a?+b",
    "[ab]*+1",
    "[^\\Wa]",
    "(?i:A)b",
    "",
    "a*",
    "a*?",
    "b*(?=1)",
    "(?=b)",
    "\\b",
    "(?=ab)|b",
    "a|(?!b)",
];

#[test]
fn patterns_agree_with_their_engine_on_all_short_texts() {
    for pattern in PATTERNS {
        let tree = onig(pattern);
        let units: &[&[u8]] = &[b"a", b"b", b"1", b"\n", b"\xFF"];
        agree_by_enumeration(pattern, &streaming(&tree), &compiled(&tree), units, 3, 3);
        agree_by_enumeration(pattern, &streaming(&tree), &compiled(&tree), &[b"a", b"b"], 5, 5);
    }
}

/// Digits in groups of three, counted from the right, as SuperBPE and others spell them.
const DIGIT_GROUPS: &[&str] = &[
    r"(?=(\d{3})+(?!\d))",
    r"(?=(\d{3})+(?!\d))| ?\p{L}+|\s+(?!\S)|\s+",
    r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
    r"\d{1,3}(?=(?:\d{3})*\b)",
];

#[test]
fn digits_grouped_from_the_right_agree_with_their_engine() {
    for pattern in DIGIT_GROUPS {
        let tree = onig(pattern);
        agree_by_enumeration(pattern, &streaming(&tree), &compiled(&tree), &[b"1", b"a"], 6, 5);
        agree_by_enumeration(pattern, &streaming(&tree), &compiled(&tree), &[b"1", b" ", b"\xFF"], 4, 4);
        let both = PreTokenizer::Sequence(vec![tree, byte_level(true)]);
        agree_by_enumeration(pattern, &streaming(&both), &compiled(&both), &[b"1", b"a", b" "], 4, 4);
    }
}

fn byte_level(use_regex: bool) -> PreTokenizer {
    PreTokenizer::ByteLevel { add_prefix_space: false, use_regex, trim_offsets: true }
}

#[test]
fn every_behaviour_agrees_with_the_tree() {
    use SplitBehavior::{Contiguous, Isolated, MergedWithNext, MergedWithPrevious};
    for behavior in [Isolated, MergedWithPrevious, MergedWithNext, Contiguous] {
        for invert in [false, true] {
            for pattern in ["a", "ab|b", "a+b?|b(?=a)", "1(?!1)"] {
                let tree = split(Pattern::Regex(pattern.into()), behavior, invert);
                let name = format!("{pattern} {behavior:?} {invert}");
                let units: &[&[u8]] = &[b"a", b"b", b"1", b"\xFF"];
                agree_by_enumeration(&name, &streaming(&tree), &compiled(&tree), units, 4, 2);
            }
        }
        let (punctuation, units): (_, &[&[u8]]) = (PreTokenizer::Punctuation(behavior), &[b"a", b"!", b"$", b"\xFF"]);
        agree_by_enumeration("Punctuation", &streaming(&punctuation), &compiled(&punctuation), units, 4, 1);
    }
}

#[test]
fn rows_of_splits_agree_with_the_tree() {
    let digits = |individual_digits| PreTokenizer::Digits { individual_digits };
    let contiguous = || PreTokenizer::Punctuation(SplitBehavior::Contiguous);
    let literal = |text: &str| split(Pattern::Literal(text.into()), SplitBehavior::Isolated, false);
    let rows = [
        vec![digits(true), byte_level(true)],
        vec![digits(false), byte_level(true)],
        vec![contiguous(), digits(false), byte_level(false)],
        vec![onig("a+(?!1)"), onig("a(?=a)|1a?"), onig(r"\z|aa")],
        vec![onig("a|1"), onig("")],
        vec![onig("(?=1)"), onig("a*"), digits(true)],
        vec![literal("a1"), literal("a"), literal("")],
        vec![byte_level(false), byte_level(false)],
        vec![],
    ];
    for row in rows {
        let tree = PreTokenizer::Sequence(row);
        let units: &[&[u8]] = &[b"a", b"1", b" ", b".", b"\xFF"];
        agree_by_enumeration(&format!("{tree:?}"), &streaming(&tree), &compiled(&tree), units, 3, 3);
    }
}
