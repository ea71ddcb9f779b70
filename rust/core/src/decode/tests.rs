//! Laws of the decoders.

use proptest::prelude::*;

use super::*;
use crate::formats::description::Pattern;

fn compile(decoder: &Decoder) -> Compiled {
    Compiled::new(decoder, &Limits::default()).expect("a sound decoder")
}

fn llama() -> Decoder {
    Decoder::Sequence(vec![
        Decoder::Replace { pattern: Pattern::Literal("▁".to_owned()), content: " ".to_owned() },
        Decoder::ByteFallback,
        Decoder::Fuse,
        Decoder::Strip { content: ' ', start: 1, stop: 0 },
    ])
}

fn metaspace() -> Decoder {
    Decoder::Metaspace { replacement: '▁', prepend_scheme: PrependScheme::Always }
}

#[test]
fn test_the_byte_alphabet_is_a_bijection() {
    let mut seen = std::collections::BTreeSet::new();
    for byte in 0..=255_u8 {
        let c = byte_alphabet::char_of(byte);
        assert!(seen.insert(c) && !c.is_whitespace() && !c.is_control());
        assert_eq!(byte_alphabet::byte_of(c), Some(byte));
    }
    assert_eq!(('\0'..=char::MAX).filter(|&c| byte_alphabet::byte_of(c).is_some()).count(), 256);
    assert_eq!(byte_alphabet::char_of(b' '), 'Ġ');
    assert_eq!(byte_alphabet::char_of(b'\n'), 'Ċ');
    assert_eq!(byte_alphabet::char_of(0xAD), 'Ń');
    assert_eq!(byte_alphabet::char_of(b'a'), 'a');
}

#[test]
fn test_a_token_in_the_middle_of_a_text() {
    let word_piece = Decoder::WordPiece { prefix: "##".to_owned(), cleanup: true };
    let cases: [(&Decoder, &str, &[u8]); 14] = [
        (&llama(), "▁x", b" x"),
        (&llama(), "▁▁", b"  "),
        (&llama(), "<0x0A>", b"\n"),
        (&llama(), "<0xE2>", b"\xE2"),
        (&metaspace(), "▁x", b" x"),
        (&Decoder::ByteLevel, "Ġx", b" x"),
        (&Decoder::ByteLevel, "Ã", b"\xC3"),
        (&Decoder::ByteLevel, "<|日|>", "<|日|>".as_bytes()),
        (&word_piece, "##ing", b"ing"),
        (&word_piece, "x", b" x"),
        (&word_piece, ".", b"."),
        (&Decoder::BpeSuffix("</w>".to_owned()), "x</w>", b"x "),
        (&Decoder::RawBytes, "▁x", "▁x".as_bytes()),
        (&Decoder::default(), "x", b"x"),
    ];
    for (decoder, spelling, bytes) in cases {
        assert_eq!(compile(decoder).token_bytes(spelling).expect("small"), bytes, "{spelling} {decoder:?}");
    }
}

#[test]
fn test_bytes_that_are_no_utf8_come_out_as_they_are() {
    let decode = |tokens: &[&str]| compile(&llama()).decode(tokens.iter().copied()).expect("small");
    assert_eq!(decode(&["▁a", "<0xE2>", "<0x82>", "b"]), b"a\xE2\x82b");
    assert_eq!(decode(&["<0xE2>", "<0x82>", "<0xAC>"]), "€".as_bytes());
    assert_eq!(compile(&Decoder::ByteLevel).decode(["Ã", "x"]).expect("small"), b"\xC3x");
}

#[test]
fn test_no_decoder_joins_with_spaces_and_an_inner_empty_sequence_does_not() {
    assert_eq!(compile(&Decoder::default()).decode(["a", "b"]).expect("small"), b"a b");
    let empty = Decoder::Sequence(vec![Decoder::default()]);
    assert_eq!(compile(&empty).decode(["a", "b"]).expect("small"), b"ab");
}

#[test]
fn test_sentencepiece_drops_marks_at_the_start_as_told() {
    let decode = |leading, tokens: &[(&str, Option<PieceKind>)]| {
        let decoder = Decoder::SentencePiece { leading, unk_surface: " ⁇ ".to_owned() };
        let tokens = tokens.iter().map(|&(text, kind)| Token { spelling: text.as_bytes(), kind });
        String::from_utf8(compile(&decoder).decode(tokens).expect("small")).expect("UTF-8")
    };
    let text = [("<s>", Some(PieceKind::Control)), ("▁", None), ("▁a▁", None), ("▁b", None)];
    assert_eq!(decode(LeadingMark::Keep, &text), "  a  b");
    assert_eq!(decode(LeadingMark::DropFirst, &text), " a  b");
    assert_eq!(decode(LeadingMark::DropUntilText, &text), "a  b");
    let odd = [("<unk>", Some(PieceKind::Unknown)), ("<0x41>", Some(PieceKind::Byte(0x41))), ("▁c", None)];
    assert_eq!(decode(LeadingMark::DropFirst, &odd), " ⁇ A c");
}

#[test]
fn test_stripping_more_than_there_is_leaves_nothing() {
    let strip = Decoder::Strip { content: 'x', start: 3, stop: 3 };
    assert_eq!(compile(&strip).decode(["xx", "x", "", "axxxx"]).expect("small"), b"ax");
}

proptest! {
    #[test]
    fn test_a_text_is_its_tokens_in_a_row(tokens in proptest::collection::vec(proptest::sample::select(vec!["a", "▁b", "▁", "<0x41>", "<0xE2>", "Ġc", "é", "日"]), 0..8)) {
        for decoder in [Decoder::ByteLevel, Decoder::RawBytes, llama(), metaspace()] {
            let compiled = compile(&decoder);
            let whole = compiled.decode(tokens.iter().copied()).expect("small");
            let mut parts = Vec::new();
            for token in &tokens {
                parts.extend(compiled.token_bytes(*token).expect("small"));
            }
            // Only spaces at the start may be gone.
            prop_assert!(parts.ends_with(&whole));
            prop_assert!(parts[..parts.len() - whole.len()].iter().all(|&b| b == b' '));
        }
    }
}
