//! What is refused, what is trivial, and the edges of the interface.

use super::*;
use crate::ErrorKind;
use crate::formats::description::PrependScheme;

fn refusal(tree: &PreTokenizer) -> String {
    let error = Streaming::new(tree, &Limits::default()).map(|_| ()).expect_err("this is not modelled");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    error.to_string()
}

#[test]
fn what_drops_bytes_is_refused_by_name() {
    let removed = split(Pattern::Literal(" ".into()), SplitBehavior::Removed, false);
    for (tree, name) in [
        (PreTokenizer::Bert, "Bert"),
        (PreTokenizer::Whitespace, "Whitespace"),
        (PreTokenizer::WhitespaceSplit, "WhitespaceSplit"),
        (PreTokenizer::CharDelimiterSplit('-'), "CharDelimiterSplit"),
        (PreTokenizer::UnicodeScripts, "UnicodeScripts"),
        (PreTokenizer::FixedLength(4), "FixedLength"),
        (removed, "Removed"),
        (PreTokenizer::Punctuation(SplitBehavior::Removed), "Removed"),
    ] {
        assert!(refusal(&tree).contains(name), "{}", refusal(&tree));
    }
}

#[test]
fn what_sees_rewritten_characters_is_refused_by_name() {
    let digits = || PreTokenizer::Digits { individual_digits: true };
    let metaspace = |prepend_scheme| PreTokenizer::Metaspace { replacement: '▁', prepend_scheme, split: true };
    let spaced = PreTokenizer::ByteLevel { add_prefix_space: true, use_regex: true, trim_offsets: true };
    for (row, name) in [
        (vec![byte_level(true), digits()], "a split after ByteLevel"),
        (vec![metaspace(PrependScheme::Never), digits()], "a split after Metaspace"),
        (vec![digits(), metaspace(PrependScheme::Always)], "Metaspace that writes"),
        (vec![digits(), spaced], "ByteLevel that writes"),
    ] {
        let message = refusal(&PreTokenizer::Sequence(row));
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn patterns_beyond_the_machine_are_refused_by_name() {
    for (pattern, name) in [
        (r"(a|b)\1", r"\1"),
        (r"(?<=ab)c", "look-behind of more than one character"),
        (r"(?>a|ab)c", "an atomic group"),
        (r"(?:ab)++", "an atomic group or a possessive repetition"),
        (r"(?:a*)+", "an endless repetition of what may be empty"),
        (r".(?=.{18}a)|b", "hypotheses"),
        (
            r"(?=.*ab)(?=.*ac)(?=.*ad)(?=.*ba)(?=.*bc)(?=.*bd)(?=.*ca)(?=.*cb)(?=.*cd)(?=.*da)(?=.*db)(?=.*dc)(?=.*aa)(?=.*bb)(?=.*cc)(?=.*dd).",
            "needs over",
        ),
        (r"(?:a{60}){70}", "steps"),
    ] {
        let message = refusal(&fancy(pattern));
        assert!(message.contains(name), "{pattern}: {message}");
    }
    let joined = split(Pattern::Regex("a*".into()), SplitBehavior::Contiguous, false);
    assert!(refusal(&joined).contains("empty matches"), "{}", refusal(&joined));
}

#[test]
fn splits_that_multiply_beyond_bounds_are_refused() {
    let row: Vec<PreTokenizer> = ('a'..='p').map(|c| onig(&format!("{c}+(?=.*[A-P])"))).collect();
    let message = refusal(&PreTokenizer::Sequence(row));
    assert!(message.contains("hypotheses"), "{message}");
}

#[test]
fn a_malformed_pattern_is_malformed_and_not_unsupported() {
    let error = Streaming::new(&onig("(a"), &Limits::default()).expect_err("malformed");
    assert_eq!(error.kind(), ErrorKind::Format);
}

#[test]
fn without_splits_every_text_is_one_pretoken() {
    let trees = [
        PreTokenizer::default(),
        byte_level(false),
        PreTokenizer::Metaspace { replacement: '▁', prepend_scheme: PrependScheme::Always, split: false },
    ];
    for tree in trees {
        let streaming = streaming(&tree);
        assert!(streaming.is_trivial());
        let state = walk(&streaming, b"any \xE4\xB8 bytes", &[]);
        assert!(streaming.can_end(state));
        assert_eq!(streaming.cut(state), Streaming::DEAD);
    }
    assert!(!streaming(&byte_level(true)).is_trivial());
}

#[test]
fn a_mark_at_the_start_or_twice_is_dead_and_death_is_final() {
    for known in Known::ALL {
        let streaming = streaming(&tree_of(known));
        assert_eq!(streaming.cut(streaming.start()), Streaming::DEAD);
        assert!(streaming.can_end(streaming.start()), "the empty text");
        let marked = walk(&streaming, b"a ", &[]);
        let marked = streaming.cut(streaming.step(marked, b'.'));
        assert_eq!(streaming.cut(marked), Streaming::DEAD);
        assert!(!streaming.can_end(marked));
        assert_eq!(streaming.cut(Streaming::DEAD), Streaming::DEAD);
        assert!(!streaming.can_end(Streaming::DEAD));
        assert!((0..=255).all(|byte| streaming.step(Streaming::DEAD, byte) == Streaming::DEAD));
    }
}

#[test]
fn published_patterns_have_few_states() {
    for known in Known::ALL {
        assert!(streaming(&tree_of(known)).states() < 64, "{known:?}");
    }
}

#[test]
fn a_streaming_view_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Streaming>();
}
