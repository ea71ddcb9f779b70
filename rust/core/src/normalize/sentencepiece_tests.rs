//! Golden cases (checked against the `sentencepiece` wheel 0.2.3) and agreement with the definition.

use super::*;
use crate::normalize::charsmap::tests::blob;
use proptest::prelude::*;

/// `normalizer.cc`, line by line: no runs, no classes.
fn reference(spec: &SentencePieceNormalizer, text: &[u8]) -> (Vec<u8>, Vec<Origin>) {
    let map = (!spec.charsmap.is_empty()).then(|| Charsmap::new(&spec.charsmap, &Limits::default()).expect("sound"));
    let prefix = |text: &[u8]| -> (Vec<u8>, usize) {
        let longest = spec.protected.iter().filter(|p| text.starts_with(p.as_bytes())).map(String::len).max();
        if let Some(len) = longest.filter(|&len| len > 0) {
            return (text[..len].to_vec(), len);
        }
        if let Some((len, by)) = map.as_ref().and_then(|map| map.longest_prefix(text)) {
            return (by.to_vec(), len);
        }
        let chunk = text.utf8_chunks().next().expect("not empty");
        match chunk.valid().chars().next() {
            Some(c) => (c.to_string().into_bytes(), c.len_utf8()),
            None if spec.keep_invalid => (text[..1].to_vec(), 1),
            None => ("\u{FFFD}".into(), 1),
        }
    };
    let space: &[u8] = if spec.escape_whitespaces { "▁".as_bytes() } else { b" " };
    let mut out: Vec<(u8, Origin)> = Vec::new();
    let push = |out: &mut Vec<(u8, Origin)>, bytes: &[u8], from: (usize, usize)| {
        out.extend(bytes.iter().map(|&b| (b, (from.0 as u32, from.1 as u32))));
    };
    let mut at = 0;
    while spec.remove_extra_whitespaces && at < text.len() {
        let (piece, len) = prefix(&text[at..]);
        if piece != b" " {
            break;
        }
        at += len;
    }
    if at == text.len() {
        return Default::default();
    }
    if !spec.treat_whitespace_as_suffix && spec.add_dummy_prefix {
        push(&mut out, space, (at, at));
    }
    let mut after_space = spec.remove_extra_whitespaces;
    while at < text.len() {
        let (mut piece, len) = prefix(&text[at..]);
        while after_space && piece.first() == Some(&b' ') {
            piece.remove(0);
        }
        for &b in &piece {
            push(&mut out, if b == b' ' { space } else { std::slice::from_ref(&b) }, (at, at + len));
        }
        if !piece.is_empty() {
            after_space = piece.ends_with(b" ");
        }
        at += len;
        if !spec.remove_extra_whitespaces {
            after_space = false;
        }
    }
    if spec.remove_extra_whitespaces {
        while out.len() >= space.len() && out[out.len() - space.len()..].iter().map(|p| p.0).eq(space.iter().copied()) {
            at = out[out.len() - space.len()].1.0 as usize;
            out.truncate(out.len() - space.len());
        }
    }
    if spec.treat_whitespace_as_suffix && spec.add_dummy_prefix {
        push(&mut out, space, (at, at));
    }
    out.into_iter().unzip()
}

fn both(spec: &SentencePieceNormalizer, text: &[u8]) -> (Vec<u8>, Vec<Origin>) {
    let engine = SpNormalizer::new(spec, &Limits::default()).expect("sound");
    let (mut out, mut origin) = (b"before ".to_vec(), vec![(7, 7); 7]);
    engine.normalize(text, &mut out, Some(&mut origin));
    let mut plain = Vec::new();
    engine.normalize(text, &mut plain, None);
    assert_eq!(plain, out[7..]);
    (plain, origin[7..].to_vec())
}

fn normalize(spec: &SentencePieceNormalizer, text: &str) -> String {
    let (out, origin) = both(spec, text.as_bytes());
    assert_eq!((out.clone(), origin), reference(spec, text.as_bytes()));
    String::from_utf8(out).expect("UTF-8 stays UTF-8")
}

/// What most models have: no map, all three white-space rules.
fn usual() -> SentencePieceNormalizer {
    SentencePieceNormalizer {
        add_dummy_prefix: true,
        remove_extra_whitespaces: true,
        escape_whitespaces: true,
        ..Default::default()
    }
}

#[test]
fn test_spaces_are_folded_marked_and_trimmed() {
    assert_eq!(normalize(&usual(), "  hello   world  "), "▁hello▁world");
    assert_eq!(normalize(&usual(), ""), "");
    assert_eq!(normalize(&usual(), "   "), "");
    assert_eq!(normalize(&usual(), "a\tb"), "▁a\tb");
    assert_eq!(normalize(&usual(), "a ▁ b▁"), "▁a▁▁▁b");
}

#[test]
fn test_a_llama_normalizer_only_marks_spaces() {
    let spec = SentencePieceNormalizer { remove_extra_whitespaces: false, ..usual() };
    assert_eq!(normalize(&spec, "  hello  é "), "▁▁▁hello▁▁é▁");
    assert_eq!(normalize(&spec, " "), "▁▁");
    assert_eq!(normalize(&spec, ""), "");
}

#[test]
fn test_the_dummy_space_can_go_to_the_end() {
    let spec = SentencePieceNormalizer { treat_whitespace_as_suffix: true, ..usual() };
    assert_eq!(normalize(&spec, " hello  world "), "hello▁world▁");
    let bare = SentencePieceNormalizer { escape_whitespaces: false, ..usual() };
    assert_eq!(normalize(&bare, " hello  world "), " hello world");
}

#[test]
fn test_protected_texts_pass_through_the_map() {
    let map = blob(&[(b"a", b"b"), (b"ab", b" "), (b"\t", b" "), ("½".as_bytes(), "1⁄2".as_bytes())]);
    let spec = SentencePieceNormalizer { charsmap: map, protected: vec!["aa".into(), "a".into()], ..usual() };
    assert_eq!(normalize(&spec, "aab½"), "▁aab1⁄2");
    let spec = SentencePieceNormalizer { protected: vec!["<a b>".into()], ..spec };
    assert_eq!(normalize(&spec, "\t <a b>\tab\tb"), "▁<a▁b>▁b");
}

#[test]
fn test_every_byte_outside_utf8_is_replaced_or_kept() {
    let text = b"a\xE2\x96b\xFF\xF0\x9F\x98\xED\xA0\x80";
    let (out, origin) = both(&usual(), text);
    assert_eq!(out, "▁a\u{FFFD}\u{FFFD}b\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}".as_bytes());
    assert_eq!((out, origin), reference(&usual(), text));
    let keep = SentencePieceNormalizer { keep_invalid: true, ..usual() };
    let (out, origin) = both(&keep, text);
    assert_eq!(out, [MARK, text].concat());
    assert_eq!((out, origin), reference(&keep, text));
}

#[test]
fn test_origins_name_the_chunk_each_byte_came_from() {
    let map = blob(&[("ﬁ".as_bytes(), b"fi"), (b"\n", b" ")]);
    let spec = SentencePieceNormalizer { charsmap: map, ..usual() };
    let (out, origin) = both(&spec, "ﬁ\n\né ".as_bytes());
    assert_eq!(out, "▁fi▁é".as_bytes());
    assert_eq!(origin, [[(0, 0); 3].as_slice(), &[(0, 3); 2], &[(3, 4); 3], &[(5, 7); 2]].concat());
}

fn specs() -> impl Strategy<Value = SentencePieceNormalizer> {
    let maps = prop_oneof![
        Just(Vec::new()),
        Just(blob(&[
            (b"\t", b" "),
            (b"a", b""),
            ("e\u{301}".as_bytes(), "é".as_bytes()),
            ("é".as_bytes(), b"  e "),
            (b" b", b"b "),
            ("x".as_bytes(), "▁".as_bytes()),
        ])),
        Just(blob(&[(b"cb", b"B"), ("▁".as_bytes(), b" "), ("c\u{301}".as_bytes(), b"C")])),
    ];
    let protected = prop_oneof![
        Just(vec![]),
        Just(vec!["b".to_owned(), "bc".into(), "é".into(), "é ".into()]),
        Just(vec![" ".to_owned(), "▁".into(), "\t\t".into()]),
    ];
    (maps, protected, any::<[bool; 5]>()).prop_map(|(charsmap, protected, flags)| SentencePieceNormalizer {
        charsmap,
        protected,
        add_dummy_prefix: flags[0],
        remove_extra_whitespaces: flags[1],
        escape_whitespaces: flags[2],
        treat_whitespace_as_suffix: flags[3],
        keep_invalid: flags[4],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn test_runs_equal_the_definition(spec in specs(), text in "[abcex \t▁é\u{301}]{0,12}") {
        prop_assert_eq!(both(&spec, text.as_bytes()), reference(&spec, text.as_bytes()));
    }

    #[test]
    fn test_runs_equal_the_definition_on_any_bytes(
        spec in specs(),
        text in proptest::collection::vec(prop_oneof![Just(b' '), Just(0xE2), Just(0x96), Just(0x81), Just(b'b'), any::<u8>()], 0..16),
    ) {
        prop_assert_eq!(both(&spec, &text), reference(&spec, &text));
    }
}
