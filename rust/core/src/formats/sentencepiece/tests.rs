//! Tiny hand-made models; ids checked by hand, and hostile files.

use proptest::prelude::*;

use super::reference::{Reference, decode};
use super::*;
use crate::error::ErrorKind;
use crate::formats::{Merge, PieceKind};

/// A writer of `ModelProto`, as small as the tests need.
#[derive(Clone, Default)]
pub(crate) struct Proto(pub(crate) Vec<u8>);

impl Proto {
    pub(crate) fn varint(mut self, field: u64, mut value: u64) -> Self {
        for part in [field << 3, value] {
            value = part;
            while value >= 0x80 {
                self.0.push((value & 0x7F) as u8 | 0x80);
                value >>= 7;
            }
            self.0.push(value as u8);
        }
        self
    }

    pub(crate) fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut this = self.varint(field, bytes.len() as u64);
        let at = this.0.len() - if bytes.len() < 0x80 { 1 } else { 2 };
        // The key was written for a varint; a run of bytes has wire type 2.
        let key = (0..at).rev().find(|&i| i == 0 || this.0[i - 1] & 0x80 == 0).expect("a key");
        this.0[key] |= 2;
        this.0.extend_from_slice(bytes);
        this
    }

    pub(crate) fn float(mut self, field: u8, value: f32) -> Self {
        self.0.push(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}

/// Types by their numbers.
pub(crate) const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;
const BYTE: u64 = 6;
/// Model types by their numbers.
const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

pub(crate) fn piece(spelling: &str, score: f32, kind: u64) -> Proto {
    Proto::default().bytes(1, spelling.as_bytes()).float(2, score).varint(3, kind)
}

fn model(kind: u64, pieces: &[(&str, f32, u64)], trainer: Proto, normalizer: Proto) -> Vec<u8> {
    let mut proto = Proto::default();
    for &(spelling, score, kind) in pieces {
        proto = proto.bytes(1, &piece(spelling, score, kind).0);
    }
    proto.bytes(2, &trainer.varint(3, kind).0).bytes(3, &normalizer.0).0
}

const START: [(&str, f32, u64); 3] = [("<unk>", 0., UNKNOWN), ("<s>", 0., CONTROL), ("</s>", 0., CONTROL)];

/// ▁ a b c, then ab (-1), bc (-1), ▁a (-2), abc (-3): ids 3..=10.
fn small() -> Vec<u8> {
    let mut pieces = START.to_vec();
    pieces.extend([("▁", -9., NORMAL), ("a", -9., NORMAL), ("b", -9., NORMAL), ("c", -9., NORMAL)]);
    pieces.extend([("ab", -1., NORMAL), ("bc", -1., NORMAL), ("▁a", -2., NORMAL), ("abc", -3., NORMAL)]);
    model(BPE, &pieces, Proto::default(), Proto::default())
}

fn ok(data: &[u8]) -> Description {
    read(data, &Limits::default()).expect("a sound model")
}

fn refused(data: &[u8]) -> String {
    read(data, &Limits::default()).expect_err("a bad model").to_string()
}

fn bpe(description: &Description) -> &crate::formats::Bpe {
    match &description.model {
        Model::Bpe(model) => model,
        other => panic!("not BPE: {other:?}"),
    }
}

#[test]
fn test_scores_become_ranks_and_equal_scores_equal_ranks() {
    let description = ok(&small());
    let merge = |left, right, product, rank| Merge { left, right, product, rank };
    assert_eq!(
        bpe(&description).merges,
        [merge(4, 5, 7, 0), merge(5, 6, 8, 0), merge(3, 4, 9, 1), merge(7, 6, 10, 2), merge(4, 8, 10, 2)]
    );
    let reference = Reference::new(&description);
    assert_eq!(reference.encode(b"abc"), [3, 10]); // ab first (leftmost of -1), then abc
    assert_eq!(reference.encode(b" a  bc "), [9, 3, 8]);
    assert_eq!(reference.encode("axyb".as_bytes()), [9, 0, 5]); // x and y: one unknown
    assert_eq!(decode(&description, &[1, 9, 3, 8, 0, 2]), " a bc \u{2047} ".trim_start().as_bytes());
}

#[test]
fn test_roles_kinds_and_defaults_are_those_of_the_format() {
    let description = ok(&small());
    assert_eq!(description.piece_kinds, [(0, PieceKind::Unknown), (1, PieceKind::Control), (2, PieceKind::Control)]);
    let roles: Vec<_> = description.declared_roles.iter().map(|r| (r.role.as_str(), r.id, r.field.as_str())).collect();
    let field = |name| format!("trainer_spec.{name}_id");
    assert_eq!(roles, [("unk", 0, &*field("unk")), ("bos", 1, &*field("bos")), ("eos", 2, &*field("eos"))]);
    assert!(description.added_tokens.is_empty());
    let Normalizer::SentencePiece(spec) = &description.normalizer else { panic!() };
    assert!(spec.add_dummy_prefix && spec.remove_extra_whitespaces && spec.escape_whitespaces && !spec.keep_invalid);
    let trainer = Proto::default().bytes(46, b"</s>").varint(43, u64::MAX).bytes(44, b"?");
    let spec = Proto::default().varint(3, 0).varint(4, 0).varint(5, 0);
    let mut pieces = START.to_vec();
    pieces.push(("a", 0., NORMAL));
    let description = ok(&model(BPE, &pieces, trainer, spec));
    let bos = description.declared_roles.iter().find(|r| r.role == "bos").expect("a bos");
    assert_eq!((bos.id, bos.field.as_str()), (2, "trainer_spec.bos_piece"));
    assert_eq!(description.decoder, Decoder::SentencePiece { leading: LeadingMark::Keep, unk_surface: "?".to_owned() });
}

#[test]
fn test_user_defined_pieces_are_found_first_and_never_merge() {
    let mut pieces = START.to_vec();
    pieces.extend([("▁", -9., NORMAL), ("a", -9., NORMAL), ("b", -9., NORMAL), ("ab", -1., NORMAL)]);
    pieces.extend([("bb", 0., USER_DEFINED), ("<x>", 0., USER_DEFINED), ("bba", -1., NORMAL), ("▁a", -2., NORMAL)]);
    let description = ok(&model(BPE, &pieces, Proto::default(), Proto::default()));
    assert_eq!(bpe(&description).user_defined, [7, 8]);
    let reference = Reference::new(&description);
    assert_eq!(reference.encode(b"abba<x>b"), [10, 7, 4, 8, 5]);
    assert_eq!(reference.encode(b"abbb"), [10, 7, 5]);
    assert_eq!(reference.encode(b"<s>"), [3, 0]); // a control piece is never found in text
}

#[test]
fn test_byte_fallback_keeps_any_bytes() {
    let names: Vec<String> = (0..256).map(|b| format!("<0x{b:02X}>")).collect();
    let mut pieces = START.to_vec();
    pieces.extend(names.iter().map(|name| (name.as_str(), 0., BYTE)));
    pieces.extend([("▁", -9., NORMAL), ("a", -9., NORMAL), ("\0", 0., NORMAL)]);
    let trainer = Proto::default().varint(35, 1);
    let spec = Proto::default().varint(4, 0);
    let data = model(BPE, &pieces, trainer.clone(), spec.clone());
    let description = ok(&data);
    let reference = Reference::new(&description);
    assert_eq!(reference.encode("aé".as_bytes()), [259, 260, 3 + 0xC3, 3 + 0xA9]);
    assert_eq!(bpe(&description).undone, [261]); // "\0" stands aside for <0x00>
    assert_eq!(reference.encode(b"\0a"), [259, 3, 260]);
    let text = b"a\xFF b\xE2\x96 \0";
    assert_eq!(decode(&description, &reference.encode(text)), text);
    pieces.truncate(261);
    pieces.remove(100);
    assert!(refused(&model(BPE, &pieces, trainer, spec.clone())).contains("<0x61>"));
    assert!(refused(&model(BPE, &pieces, Proto::default(), spec)).contains("byte_fallback"));
}

#[test]
fn test_unused_pieces_merge_and_are_undone() {
    let mut pieces = START.to_vec();
    pieces.extend([("▁", -9., NORMAL), ("a", -9., NORMAL), ("b", -9., NORMAL), ("ab", -1., UNUSED)]);
    pieces.extend([("abab", -2., UNUSED), ("c", -9., UNUSED), ("ca", -3., NORMAL), ("abc", -4., NORMAL)]);
    let description = ok(&model(BPE, &pieces, Proto::default(), Proto::default()));
    assert_eq!(bpe(&description).undone, [6, 7, 8]);
    let reference = Reference::new(&description);
    assert_eq!(reference.encode(b"ababcab"), [3, 4, 5, 4, 5, 0, 4, 5]);
    assert_eq!(reference.encode(b"abc"), [3, 10]);
    assert_eq!(reference.encode(b"cca"), [3, 0, 9]);
    pieces.push(("ba", -9., NORMAL));
    pieces.push(("aba", -1., UNUSED));
    let error = read(&model(BPE, &pieces, Proto::default(), Proto::default()), &Limits::default()).expect_err("two");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("2 ways"), "{error}");
}

#[test]
fn test_what_cannot_be_described_exactly_is_refused_by_name() {
    let with = |more: &[(&'static str, f32, u64)]| [&START[..], more].concat();
    let bare = Proto::default;
    assert!(refused(&model(3, &with(&[("a", 0., NORMAL)]), bare(), bare())).contains("\"word\""));
    assert!(refused(&model(9, &with(&[("a", 0., NORMAL)]), bare(), bare())).contains("model type 9"));
    assert!(refused(&model(BPE, &with(&[("a", 0., 7)]), bare(), bare())).contains("pieces[3].type"));
    let through = refused(&model(BPE, &with(&[("b", 0., NORMAL), ("ab", 0., NORMAL)]), bare(), bare()));
    assert!(through.starts_with("pieces[4]: \"ab\" can be merged from the character 'a'"), "{through}");
    assert!(refused(&model(BPE, &with(&[("ab", 0., NORMAL)]), bare(), bare())).contains("'a'"));
    assert!(refused(&model(BPE, &with(&[("a", 0., NORMAL), ("ab", 0., NORMAL)]), bare(), bare())).contains("'b'"));
    let denormalizer = [model(BPE, &START, bare(), bare()), bare().bytes(5, &bare().bytes(2, b"x").0).0].concat();
    assert!(refused(&denormalizer).contains("denormalizer_spec"));
}

#[test]
fn test_contradictions_are_refused_with_the_piece() {
    let with = |more: &[(&'static str, f32, u64)]| {
        model(BPE, &[&START[..], more].concat(), Proto::default(), Proto::default())
    };
    assert!(refused(&with(&[("", 0., NORMAL)])).contains("pieces[3]: an empty piece"));
    assert!(refused(&with(&[("<s>", 0., NORMAL)])).contains("pieces[3]: \"<s>\" again, after pieces[1]"));
    assert!(refused(&with(&[("u", 0., UNKNOWN)])).contains("second unknown piece"));
    assert!(refused(&with(&[("a\0", 0., NORMAL)])).contains("NUL"));
    assert!(refused(&with(&[("a", f32::NAN, NORMAL)])).contains("not a number"));
    assert!(refused(&with(&[("<0x4>", 0., BYTE)])).contains("<0x0A>"));
    assert!(refused(&model(BPE, &START[1..], Proto::default(), Proto::default())).contains("no unknown piece"));
    let unigram = |score| model(UNIGRAM, &[START[0], ("a", score, NORMAL)], Proto::default(), Proto::default());
    assert!(refused(&unigram(f32::INFINITY)).contains("inf"));
    assert!(refused(&model(UNIGRAM, &START, Proto::default(), Proto::default())).contains("none that text"));
    let map = model(BPE, &START, Proto::default(), Proto::default().bytes(2, b"xy"));
    assert!(refused(&map).contains("precompiled_charsmap"));
}

#[test]
fn test_a_unigram_model_keeps_scores_and_lists_what_text_never_becomes() {
    let pieces = [START[0], START[1], ("a", -1.5, NORMAL), ("b", 0., USER_DEFINED), ("c", -2., UNUSED)];
    let description = ok(&model(UNIGRAM, &pieces, Proto::default(), Proto::default()));
    let Model::Unigram(unigram) = &description.model else { panic!() };
    assert_eq!(unigram.scores, [0., 0., -1.5, 0., -2.]);
    assert_eq!((unigram.unk, &unigram.user_defined[..], &unigram.never[..]), (Some(0), &[3][..], &[0, 1, 4][..]));
}

#[test]
fn test_a_char_model_is_bpe_without_merges() {
    let pieces = [START[0], ("▁", -1., NORMAL), ("a", -1., NORMAL), ("aa", -1., NORMAL), ("bb", -1., USER_DEFINED)];
    let description = ok(&model(4, &pieces, Proto::default(), Proto::default()));
    assert_eq!(Reference::new(&description).encode(b"aabbbx"), [1, 2, 2, 4, 0]);
}

#[test]
fn test_wire_errors_name_the_field_and_the_byte() {
    assert_eq!(refused(b""), "pieces: none, and the file ends at byte 0; is this a whole SentencePiece .model file?");
    assert!(refused(b"{\"version\"").starts_with("(field 15): wire type 3, a group or none at all, at byte 0"));
    assert!(refused(&[0x0A, 0x05, 0x0A]).starts_with("(field 1): 5 bytes are announced and 1 are left at byte 2"));
    assert!(
        refused(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]).contains("bytes are announced")
    );
    assert!(refused(&[0xFF; 11]).starts_with("(key): a varint of more than 64 bits at byte 0"));
    assert!(refused(&[0x00]).contains("field number 0"));
    assert!(refused(&[0x08, 0x01]).starts_with("pieces: a varint where a message belongs, at byte 0"));
    assert!(refused(&[0x0A, 2, 0x08, 1]).starts_with("pieces[0].piece: a varint where a text belongs, at byte 2"));
    assert!(
        refused(&[0x0A, 4, 0x0A, 2, b'a', 0xFF]).starts_with("pieces[0].piece: a text that is not UTF-8 at byte 5")
    );
    assert!(refused(&[0x12, 2, 0x1A, 0]).starts_with("trainer_spec.model_type: a run of bytes"));
}

#[test]
fn test_limits_hold() {
    let small = small();
    let refused = |limits: Limits| read(&small, &limits).expect_err("over a limit");
    for limits in [
        Limits { file_bytes: 20, ..Limits::default() },
        Limits { tokens: 10, ..Limits::default() },
        Limits { token_bytes: 4, ..Limits::default() },
        Limits { merges: 4, ..Limits::default() },
    ] {
        assert_eq!(refused(limits).kind(), ErrorKind::Limit);
    }
}

#[test]
fn test_every_truncation_gives_a_typed_answer() {
    let data = small();
    for len in 0..data.len() {
        // A cut between two fields is a smaller, well-formed message; all others are damaged.
        if let Err(error) = read(&data[..len], &Limits::default()) {
            assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Unsupported), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn test_flipped_bytes_never_panic(at in 0usize..200, byte in any::<u8>(), more in 0usize..200, other in any::<u8>()) {
        let mut data = small();
        let len = data.len();
        data[at % len] = byte;
        data[more % len] ^= other;
        let _ = read(&data, &Limits::default());
    }

    #[test]
    fn test_random_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&data, &Limits::default());
    }

    #[test]
    fn test_merges_are_all_splits_into_two_pieces(words in proptest::collection::btree_set("[abé]{2,5}", 0..30)) {
        let mut pieces = START.to_vec();
        pieces.extend([("a", -1., NORMAL), ("b", -2., NORMAL), ("é", -3., NORMAL)]);
        pieces.extend(words.iter().zip([0.5, -4., -4., -9.].iter().cycle()).map(|(w, &s)| (w.as_str(), s, NORMAL)));
        let description = ok(&model(BPE, &pieces, Proto::default(), Proto::default()));
        let id = |s: &str| pieces.iter().position(|p| p.0 == s).map(|i| i as u32);
        let mut wanted = Vec::new();
        for (i, p) in pieces.iter().enumerate().skip(3) {
            for (cut, _) in p.0.char_indices().skip(1) {
                if let (Some(left), Some(right)) = (id(&p.0[..cut]), id(&p.0[cut..])) {
                    wanted.push((left, right, i as u32));
                }
            }
        }
        let merges = &bpe(&description).merges;
        let mut found: Vec<_> = merges.iter().map(|m| (m.left, m.right, m.product)).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(found, wanted);
        for pair in merges.windows(2) {
            let score = |m: &Merge| pieces[m.product as usize].1;
            prop_assert_eq!(pair[0].rank.cmp(&pair[1].rank), score(&pair[1]).partial_cmp(&score(&pair[0])).unwrap());
        }
    }
}
