//! Laws of the normalizers.

use proptest::prelude::*;

use super::forms::Form;
use super::sink::PlainSink;
use super::text::{Part, parts, units};
use super::*;
use crate::error::ErrorKind;
use crate::formats::description::Pattern;

fn compile(normalizer: &Normalizer) -> Compiled {
    Compiled::new(normalizer, &Limits::default()).expect("a sound normalizer")
}

fn replace(pattern: Pattern, content: &str) -> Normalizer {
    Normalizer::Replace { pattern, content: content.to_owned() }
}

fn literal(text: &str) -> Pattern {
    Pattern::Literal(text.to_owned())
}

/// A map that decomposes, joins, drops and lengthens.
fn charsmap() -> Vec<u8> {
    let rules: [(&str, &str); 6] =
        [("A", "a"), ("e\u{301}", "é"), ("\u{1}", ""), ("…", "..."), ("\r\n", "\n"), ("\u{301}", "")];
    let rules: Vec<(&[u8], &[u8])> = rules.iter().map(|(l, r)| (l.as_bytes(), r.as_bytes())).collect();
    charsmap::tests::blob(&rules)
}

fn every_kind() -> Vec<Normalizer> {
    use Normalizer::*;
    vec![
        Nfc,
        Nfd,
        Nfkc,
        Nfkd,
        Lowercase,
        StripAccents,
        Nmt,
        ByteLevel,
        Strip { left: true, right: true },
        Strip { left: false, right: true },
        Prepend("▁x".to_owned()),
        replace(literal(" "), "▁"),
        replace(literal("a"), ""),
        replace(literal(""), "-"),
        replace(Pattern::Regex(r"\s+".to_owned()), " "),
        Bert { clean_text: true, handle_chinese_chars: true, strip_accents: None, lowercase: true },
        Precompiled(charsmap()),
        SentencePiece(crate::formats::description::SentencePieceNormalizer {
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            keep_invalid: true,
            ..Default::default()
        }),
    ]
}

/// Texts of what normalizers care about, with bytes that are no UTF-8.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "a",
        "A",
        "e",
        "é",
        "É",
        "\u{301}",
        "\u{323}",
        "\u{345}",
        " ",
        "  ",
        "\t",
        "\r\n",
        "\u{3000}",
        "中",
        "한",
        "\u{1112}",
        "\u{1161}",
        "\u{11ab}",
        "ﬁ",
        "İ",
        "…",
        "\u{1}",
        "\u{200d}",
        "👩",
        "\u{1ac1}",
        "\u{2f800}",
        "\u{f73}",
        "ﷺ",
    ];
    let piece = prop_oneof![
        9 => proptest::sample::select(pieces.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::sample::select(vec![vec![0xFF, 0x80], vec![0xC3], vec![0xE2, 0x82], vec![0xED, 0xA0, 0x80]]),
        1 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn raw(text: &[u8]) -> Vec<u8> {
    parts(text).filter_map(|part| if let Part::Raw(raw) = part { Some(raw) } else { None }).flatten().copied().collect()
}

/// The definition of a normal form: the whole of every well-formed stretch is decomposed, sorted and composed.
fn form_reference(form: Form, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts(text) {
        match part {
            Part::Raw(raw) => out.extend_from_slice(raw),
            Part::Text(text) => {
                let mut items = Vec::new();
                form.normalize(text, &mut items);
                out.extend(items.iter().map(|item| item.1).collect::<String>().bytes());
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn test_both_ways_give_the_same_bytes_and_spans_lie_in_order(text in texts(), first in 0..18_usize, second in 0..18_usize) {
        let kinds = every_kind();
        let compiled = compile(&Normalizer::Sequence(vec![kinds[first].clone(), kinds[second].clone()]));
        let plain = compiled.apply(&text).expect("no bound is near");
        let aligned = compiled.apply_aligned(Aligned::from_text(&text)).expect("no bound is near");
        prop_assert_eq!(aligned.bytes(), &plain[..]);
        let spans = aligned.spans();
        prop_assert_eq!(spans.len(), plain.len());
        let len = u32::try_from(text.len()).expect("short");
        for span in &spans {
            prop_assert!(span.start <= span.end && span.end <= len, "{:?} in {}", span, len);
        }
        for pair in spans.windows(2) {
            prop_assert!(pair[0].start <= pair[1].start && pair[0].end <= pair[1].end, "{:?}", spans);
        }
        if compiled.keeps_start() && !spans.is_empty() {
            prop_assert_eq!(spans[0].start, 0);
        }
    }

    #[test]
    fn test_bytes_outside_utf8_stay(text in texts(), kind in 0..18_usize) {
        let kind = &every_kind()[kind];
        if *kind != Normalizer::ByteLevel {
            let normalized = compile(kind).apply(&text).expect("no bound is near");
            prop_assert_eq!(raw(&normalized), raw(&text));
        }
    }

    #[test]
    fn test_normal_forms_agree_with_their_definition(text in texts(), compose: bool, compat: bool) {
        let form = Form { compose, compat };
        let wanted = form_reference(form, &text);
        let mut sink = PlainSink::new(0, usize::MAX);
        form.run(&text, &mut sink);
        prop_assert_eq!(sink.finish().expect("no bound"), wanted.clone());
        prop_assert_eq!(form.first_change(&text).is_none(), wanted == text);
    }

    #[test]
    fn test_a_view_and_its_list_of_spans_agree(text in texts(), cut in 0..40_usize) {
        let whole = Aligned::from_text(&text);
        let starts: Vec<usize> = units(&text).map(|(start, _, _)| start).collect();
        let at = starts.get(cut).copied().unwrap_or(text.len());
        let tail = whole.slice(at..text.len());
        prop_assert_eq!(tail.spans(), &whole.spans()[at..]);
        for i in 0..text.len() {
            prop_assert_eq!(whole.view().origin(i..i + 1), Some(whole.spans()[i]));
        }
    }
}

#[test]
fn test_nothing_is_copied_where_nothing_changes() {
    for (kind, text) in [
        (Normalizer::Nfc, "é한中 nai\u{308}"),
        (Normalizer::Nfkc, "abc"),
        (Normalizer::Lowercase, "straße 中"),
        (replace(literal("x"), "y"), "abc"),
        (Normalizer::Nmt, "abc"),
        (Normalizer::Precompiled(charsmap()), "abc é"),
    ] {
        let compiled = compile(&kind);
        let changed = matches!(kind, Normalizer::Nfc); // i and a diaeresis are composed
        assert_eq!(matches!(compiled.apply(text.as_bytes()).expect("small"), Cow::Owned(_)), changed, "{kind:?}");
    }
    let strip = compile(&Normalizer::Strip { left: true, right: true });
    assert!(matches!(strip.apply(b" a b ").expect("small"), Cow::Borrowed(b"a b")));
}

#[test]
fn test_a_cluster_is_replaced_whole_by_its_shortest_rule() {
    let compiled = compile(&Normalizer::Precompiled(charsmap()));
    let of =
        |text: &str| String::from_utf8(compiled.apply(text.as_bytes()).expect("small").into_owned()).expect("UTF-8");
    assert_eq!(of("A\u{301}"), "a"); // the accent goes with its cluster
    assert_eq!(of("e\u{301}"), "é");
    assert_eq!(of("x\u{301}"), "x");
    assert_eq!(of("\r\n\u{1}…"), "\n...");
    assert_eq!(of("A\u{301}\u{301}\u{301}"), "a"); // 7 bytes: character by character
}

#[test]
fn test_text_growth_is_bounded() {
    let doubling = replace(literal("a"), "aa");
    let compiled = compile(&Normalizer::Sequence(vec![doubling; 60]));
    let error = compiled.apply(b"a").expect_err("2^60 bytes");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("text_growth"));
    assert!(compiled.apply_aligned(Aligned::from_text(b"a")).is_err());
}

#[test]
fn test_nesting_is_bounded() {
    let mut nested = Normalizer::Nfc;
    for _ in 0..100 {
        nested = Normalizer::Sequence(vec![nested]);
    }
    assert_eq!(Compiled::new(&nested, &Limits::default()).expect_err("too deep").kind(), ErrorKind::Limit);
}

#[test]
fn test_hostile_megabytes_take_linear_time() {
    const LEN: usize = 1 << 20;
    let marks: String = std::iter::once('a').chain("\u{301}\u{323}".chars().cycle().take(LEN / 2)).collect();
    let texts: [Vec<u8>; 6] = [
        marks.into_bytes(),
        "👩\u{200d}".repeat(LEN / 7).into_bytes(),
        "🇦".repeat(LEN / 4).into_bytes(),
        "क\u{94d}".repeat(LEN / 6).into_bytes(),
        b"\xE2\x82".repeat(LEN / 2),
        vec![b' '; LEN],
    ];
    for kind in every_kind() {
        let compiled = compile(&kind);
        for text in &texts {
            // A quadratic step would take hours.
            assert!(compiled.apply(text).expect("grows by less").len() <= 8 * LEN);
        }
    }
}
