use super::*;

/// All bytes in order, then `more` with the ranks that follow.
fn file(more: &[&[u8]]) -> Vec<u8> {
    let bytes: Vec<[u8; 1]> = (0..=255).map(|b| [b]).collect();
    let tokens = bytes.iter().map(|b| &b[..]).chain(more.iter().copied());
    let lines = tokens.enumerate().map(|(rank, token)| format!("{} {rank}\n", STANDARD.encode(token)));
    lines.collect::<String>().into_bytes()
}

fn model(data: &[u8]) -> Bpe {
    let description = read(data, r"\s+|\S+", &[], &Limits::default()).expect("well formed");
    match description.model {
        Model::Bpe(bpe) => bpe,
        other => panic!("{other:?}"),
    }
}

fn message(data: &[u8], specials: &[(String, u32)]) -> String {
    read(data, ".", specials, &Limits::default()).expect_err("malformed").to_string()
}

#[test]
fn every_cut_into_two_tokens_is_a_merge_with_the_tokens_rank() {
    // 256 = ab, 257 = bc, 258 = abc
    let bpe = model(&file(&[b"ab", b"bc", b"abc"]));
    let (a, b, c) = (97, 98, 99);
    let m = |left, right, product| Merge { left, right, product, rank: product };
    assert_eq!(bpe.merges, [m(a, b, 256), m(b, c, 257), m(a, 257, 258), m(256, c, 258)]);
    assert!(bpe.ignore_merges);
    assert_eq!(bpe.symbols, Symbols::RawBytes);
}

#[test]
fn lines_may_stand_in_any_order_and_ranks_may_have_holes() {
    let mut lines: Vec<String> = String::from_utf8(file(&[b"ab"])).expect("ascii").lines().map(str::to_owned).collect();
    lines.push(format!("{} 300", STANDARD.encode(b"abab")));
    lines.reverse();
    let bpe = model(lines.join("\r\n").as_bytes());
    assert_eq!(bpe.vocab.ids[0], 300);
    assert_eq!(bpe.merges.iter().map(|m| m.rank).collect::<Vec<_>>(), [256, 300]);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let good = file(&[b"ab"]);
    let with = |line: &str| [&good[..], line.as_bytes()].concat();
    assert!(message(&with("YWI= 300\n"), &[]).starts_with("line 258: the token of line 257 again"));
    assert!(message(&with("YWJj 7\n"), &[]).starts_with("line 258: the rank 7 of line 8 again"));
    assert!(message(&with("YWJj\n"), &[]).starts_with("line 258: no space"));
    for rank in ["-1", "1.5", "007", "4294967295", "99999999999999999999", "", "1 2"] {
        assert!(message(&with(&format!("YWJj {rank}\n")), &[]).contains("is not a rank"), "{rank}");
    }
    for token in ["YW", "YWI", "YW I=", "*", "YWI=="] {
        assert!(message(&with(&format!("{token} 300\n")), &[]).starts_with("line 258: "), "{token}");
    }
    assert!(message(&with(" 300\n"), &[]).contains("an empty token"));
    assert!(message(&with("YWJj 4000000\n"), &[]).contains("Limits.max_id"));
    assert!(message(b"IQ== 0\n", &[]).contains("the byte 0x00 is no token"));
    let special = |id| vec![("<|x|>".to_owned(), id)];
    assert!(message(&good, &special(97)).contains("which is a token of the file"));
    assert!(message(&good, &[special(300), special(301)].concat()).contains("there twice"));
}

#[test]
fn every_known_encoding_compiles_to_distinct_specials() {
    for name in ["gpt2", "r50k_base", "p50k_base", "p50k_edit", "cl100k_base", "o200k_base", "o200k_harmony"] {
        let (_, specials) = known(name).expect("a name of the list");
        let ids: std::collections::BTreeSet<u32> = specials.iter().map(|s| s.1).collect();
        assert_eq!(ids.len(), specials.len(), "{name}");
    }
    assert_eq!(known("o200k"), None);
}
