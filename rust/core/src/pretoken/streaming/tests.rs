//! Agreement with the pre-tokenizers themselves: by enumeration (here), on random texts (`random`), and what is refused
//! (`refused`).

mod random;
mod refused;

use std::collections::{HashMap, HashSet, VecDeque};

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

/// A letter of the automaton; `None` is a mark.
type Letter = Option<u8>;

fn read(streaming: &Streaming, state: StateId, letter: Letter) -> StateId {
    letter.map_or_else(|| streaming.cut(state), |byte| streaming.step(state, byte))
}

/// A shortest way from `state` to an end, which every state that is not dead has.
fn way_to_an_end(streaming: &Streaming, state: StateId) -> Option<Vec<Letter>> {
    let mut before: HashMap<StateId, Option<(StateId, Letter)>> = HashMap::from([(state, None)]);
    let mut queue = VecDeque::from([state]);
    while let Some(mut at) = queue.pop_front() {
        if streaming.can_end(at) {
            let mut way = Vec::new();
            while let Some((from, letter)) = before[&at] {
                way.push(letter);
                at = from;
            }
            way.reverse();
            return Some(way);
        }
        for letter in std::iter::once(None).chain((0..=255).map(Some)) {
            let next = read(streaming, at, letter);
            if next != Streaming::DEAD && !before.contains_key(&next) {
                before.insert(next, Some((at, letter)));
                queue.push_back(next);
            }
        }
    }
    None
}

/// The text and the marks behind a prefix and a way.
fn completed(text: &[u8], marks: &[usize], way: &[Letter]) -> (Vec<u8>, Vec<usize>) {
    let (mut text, mut marks) = (text.to_vec(), marks.to_vec());
    for letter in way {
        match letter {
            Some(byte) => text.push(*byte),
            None => marks.push(text.len()),
        }
    }
    (text, marks)
}

/// Every marked prefix of up to `n` units of `units` is dead exactly when no continuation makes it right, and may end
/// exactly when its marks are the boundaries.
///
/// All texts of up to `n + k` units show what must live; what lives beyond that is completed by the automaton itself, and
/// the oracle judges the whole text.
fn agree_by_enumeration(name: &str, streaming: &Streaming, oracle: Oracle<'_>, units: &[&[u8]], n: usize, k: usize) {
    let mut shown: HashMap<Vec<&[u8]>, Shown> = HashMap::new();
    for row in rows(units, n + k) {
        let boundaries = oracle(&row.concat());
        let places = ends(&row);
        assert!(boundaries.iter().all(|at| places.contains(at)), "{name}: units end where characters do");
        let marks = (0..).zip(&places).filter(|(_, at)| boundaries.contains(at)).fold(0, |set, (i, _)| set | 1 << i);
        for len in 0..=row.len().min(n) {
            let prefix = shown.entry(row[..len].to_vec()).or_default();
            let here = marks & low_bits(len);
            // Position `len` may be left undecided.
            prefix.alive.extend([here, here & low_bits(len.saturating_sub(1))]);
            if len == row.len() {
                prefix.boundaries = here;
            }
        }
    }
    let mut ways = HashMap::new();
    for row in rows(units, n) {
        let (text, all, shown) = (row.concat(), ends(&row), &shown[&row]);
        for set in 0..=low_bits(row.len()) {
            let marks: Vec<usize> = (0..).zip(&all).filter(|(i, _)| set >> i & 1 == 1).map(|(_, &at)| at).collect();
            let state = walk(streaming, &text, &marks);
            let name = || format!("{name}: {:?} with marks at {marks:?}", text.escape_ascii().to_string());
            let lives = state != Streaming::DEAD;
            if shown.alive.contains(&set) {
                assert!(lives, "a text goes on from {}", name());
            } else if lives {
                // The units do not show it, so the automaton has to.
                let way = ways.entry(state).or_insert_with(|| way_to_an_end(streaming, state)).as_deref();
                let (whole, marks) = completed(&text, &marks, way.expect("what lives reaches an end"));
                assert_eq!(oracle(&whole), marks, "{}, completed to {:?}", name(), whole.escape_ascii().to_string());
            }
            assert_eq!(streaming.can_end(state), shown.boundaries == set, "at its end? {}", name());
        }
    }
}

/// Sets of marks of a row of units: bit `i` stands for the position behind `i + 1` of them.
type Marks = u64;

fn low_bits(len: usize) -> Marks {
    (1 << len) - 1
}

/// What texts show about a row of units.
#[derive(Default)]
struct Shown {
    /// The marks that it has as a prefix.
    alive: HashSet<Marks>,
    /// Its boundaries as a text.
    boundaries: Marks,
}

/// All rows of up to `longest` units.
fn rows<'u>(units: &'u [&'u [u8]], longest: usize) -> impl Iterator<Item = Vec<&'u [u8]>> {
    let mut queue = VecDeque::from([Vec::new()]);
    std::iter::from_fn(move || {
        let row: Vec<&[u8]> = queue.pop_front()?;
        if row.len() < longest {
            queue.extend(units.iter().map(|unit| [row.as_slice(), &[*unit]].concat()));
        }
        Some(row)
    })
}

/// Where the units of a row end.
fn ends(row: &[&[u8]]) -> Vec<usize> {
    let lens = row.iter().map(|unit| unit.len());
    lens.scan(0, |at, len| {
        *at += len;
        Some(*at)
    })
    .collect()
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
        let (streaming, oracle) = (streaming(&tree), compiled(&tree));
        agree_by_enumeration(pattern, &streaming, &oracle, &[b"a", b"b", b"1", b"\n", b"\xFF"], 3, 2);
        agree_by_enumeration(pattern, &streaming, &oracle, &[b"a", b"b", b"1"], 4, 3);
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
