use std::ops::Range;

use super::reference::Reference;
use super::tests::{ATOMS, MALFORMED, golden, show};
use super::*;
use crate::formats::description::Pattern;
use crate::limits::Limits;

/// The pieces of an isolated split.
fn isolated(splitter: &Splitter, text: &[u8]) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut done = 0;
    for found in splitter.matches(text) {
        let found = found.expect("short texts stay under the limit");
        pieces.extend([done..found.start, found.clone()]);
        done = found.end;
    }
    pieces.push(done..text.len());
    pieces.retain(|p| !p.is_empty());
    pieces
}

#[test]
fn regular_expressions_cut_as_oniguruma_does_or_are_refused() {
    let golden = golden();
    let (mut refused, mut failures) = (Vec::new(), Vec::new());
    for case in golden["regex"].as_array().into_iter().flatten() {
        let (pattern, text) = (case["pattern"].as_str().expect("text"), case["text"].as_str().expect("text"));
        match (Splitter::new(&Pattern::Regex(pattern.into()), &Limits::default()), case.get("ends")) {
            (Ok(splitter), Some(ends)) => {
                let cut = isolated(&splitter, text.as_bytes());
                let cut: Vec<String> = cut.iter().map(|p| p.end.to_string()).collect();
                if cut.join(" ") != ends.as_str().unwrap_or_default() {
                    failures.push(format!("{pattern:?} on {text:?}: {} instead of {ends}", cut.join(" ")));
                }
            }
            (Ok(_), None) => failures.push(format!("{pattern:?} is not refused: {}", case["error"])),
            (Err(e), Some(_)) => {
                if e.kind() != crate::ErrorKind::Unsupported {
                    failures.push(format!("{pattern:?} is refused as malformed: {e}"));
                }
                refused.push(pattern);
            }
            (Err(_), None) => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let expected = REFUSED.join("\n");
    assert_eq!(refused.join("\n"), expected, "the patterns that are refused though Oniguruma takes them");
}

/// What the golden file holds and is refused by name.
const REFUSED: &[&str] = &[
    r"a\Kb",
    r"\X",
    r"\G.",
    "(?i:ss)",
    "(?i:é)",
    "(?i:[^a])",
    r"\pL",
    "(?~ab)",
    r"\y",
    r"(?i:\p{Lu})",
    "a(?i)b|c",
    "[a&&]",
    r"[\R]",
    "a{3,2}",
];

#[test]
fn patterns_of_published_tokenizers_without_a_scanner_cut_as_their_definition() {
    let limits = Limits::default();
    let mut text: Vec<u8> = ATOMS.concat().into_bytes();
    text.extend(MALFORMED.concat());
    text.extend(ATOMS.iter().rev().flat_map(|a| [a.as_bytes(), b" "].concat()));
    for known in Known::ALL {
        // With an empty group in front it is another spelling, so the engine and not the scanner runs.
        for pattern in reference::patterns(known) {
            let defined = Reference::new(std::slice::from_ref(&pattern)).pieces(&text);
            let general = Splitter::new(&Pattern::Regex(format!("(?:){pattern}")), &limits);
            if pattern.contains(r"{1,3}+") {
                continue; // another meaning in Oniguruma
            }
            let general = general.expect("a published pattern compiles");
            assert_eq!(general.known(), None);
            assert!(isolated(&general, &text) == defined, "{pattern}");
            let exact = Splitter::new(&Pattern::Regex(pattern.clone()), &limits).expect("a published pattern compiles");
            assert!(isolated(&exact, &text) == defined, "{pattern}");
            let fancy =
                Splitter::new(&Pattern::FancyRegex(pattern.clone()), &limits).expect("a published pattern compiles");
            assert!(isolated(&fancy, &text) == defined, "{pattern}");
        }
    }
}

#[test]
fn hostile_patterns_end_in_time_or_in_an_error() {
    let limits = Limits { backtrack_steps: 100_000, ..Limits::default() };
    let new = |p: &str| Splitter::new(&Pattern::Regex(p.into()), &limits);
    let text = [b"a".repeat(50_000), b"b".to_vec()].concat();
    let matches = |p: &str| new(p).expect(p).matches(&text).map(|m| m.map(|_| ())).collect::<crate::Result<Vec<()>>>();
    assert!(matches(r"(a+)+\z").is_ok());
    assert!(matches(r"(?:a|a)*c").is_ok());
    let over = matches(r"(?:a+)+(?!b)c").expect_err("exponential with look-around");
    assert!(over.to_string().contains("backtrack_steps"), "{over}");
    for huge in [r"(?:\p{L}{1000}){1000}", r"((a{500}){500}){500}", r"(?:(?=a)a{1000}){1000}{1000}"] {
        assert_eq!(new(huge).expect_err(huge).kind(), crate::ErrorKind::Limit, "{huge}");
    }
    assert!(new(&"(".repeat(10_000)).is_err());
    assert!(new(&"[".repeat(10_000)).is_err());
    assert!(new(&"(?=".repeat(10_000)).is_err());
    let long = Splitter::new(&Pattern::Literal("a".repeat(limits.pattern_bytes + 1)), &limits);
    assert_eq!(long.expect_err("too long").kind(), crate::ErrorKind::Limit);
}

#[test]
fn trailing_white_space_before_words_is_found_in_linear_time() {
    let text = b" ".repeat(4 << 20);
    for pattern in [r"\s+(?!\S)|x", r" +(?!\S)|y"] {
        let splitter = Splitter::new(&Pattern::Regex(pattern.into()), &Limits::default()).expect("a pattern");
        assert_eq!(splitter.matches(&text).count(), 1);
    }
}

#[test]
fn literals_and_empty_patterns_match_as_in_the_wheel() {
    let limits = Limits::default();
    let cut = |p: Pattern, text: &[u8]| show(text, &isolated(&Splitter::new(&p, &limits).expect("a pattern"), text));
    assert_eq!(cut(Pattern::Literal("a.c".into()), b"abca.c"), ["abc", "a.c"]);
    assert_eq!(cut(Pattern::Literal(String::new()), "abé".as_bytes()), ["a", "b", r"\xc3\xa9"]);
    assert_eq!(cut(Pattern::Literal(" ".into()), b"a \xFF b"), ["a", " ", r"\xff", " ", "b"]);
    let next = Splitter::gpt2().next_match(b"\xFF\xFF the", 0);
    assert_eq!(next, Ok(Some(2..6)));
}
