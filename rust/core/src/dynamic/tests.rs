//! The engine against the definition, and cases to check by hand.

use std::sync::Arc;

use super::*;
use crate::formats::tokenizer_json;
use crate::limits::Limits;
use crate::pipeline::Cancel;
use crate::vocab::Vocabulary;

/// A vocabulary of these tokens in order, then `<s>`, a special token, and `<a>`, an added one. No merges are needed.
fn identity(tokens: &[&str]) -> Identity {
    let vocab: serde_json::Map<String, serde_json::Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    let added = |id: usize, content: &str, special: bool| {
        serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": false, "special": special})
    };
    let document = serde_json::json!({
        "version": "1.0", "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "truncation": null, "padding": null,
        "added_tokens": [added(tokens.len(), "<s>", true), added(tokens.len() + 1, "<a>", false)],
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true},
    });
    let limits = Limits::default();
    let description = tokenizer_json::read(document.to_string().as_bytes(), &limits).expect("sound");
    Identity::new(Arc::new(Vocabulary::new(&description, &limits).expect("sound"))).expect("small")
}

fn run(base: &Base<'_>, then: Option<Transition<'_>>, identity: &Identity, options: &Options) -> Merged {
    merge(base, then, identity, options, &Cancel::default()).expect("sound")
}

/// Merges one text of one group.
fn one_text(ids: &[u32], identity: &Identity, options: &Options) -> Merged {
    let groups = vec![0; ids.len()];
    run(&Base { ids, offsets: &[0, ids.len() as i64], groups: &groups }, None, identity, options)
}

fn pairs(merged: &Merged) -> Vec<(u32, u32, u32, u32, u32)> {
    merged.merges.iter().map(|m| (m.left, m.right, m.token, m.count, m.replaced)).collect()
}

/// What the reference gives, from what the engine gave.
fn as_bytes(
    base: &Base<'_>,
    merged: &Merged,
    identity: &Identity,
) -> (Vec<Vec<reference::Token>>, Vec<reference::Step>) {
    let first = identity.first_new();
    let bytes_of = |id: u32| -> Vec<u8> {
        match id.checked_sub(first) {
            Some(k) => {
                let at = |k: u32| merged.new_offsets[k as usize] as usize;
                merged.new_bytes[at(k)..at(k + 1)].to_vec()
            }
            None => identity.vocabulary().token_bytes(id).unwrap_or_default().to_vec(),
        }
    };
    let token = |j: usize| {
        let (start, end) = (merged.starts[j] as usize, merged.starts[j + 1] as usize);
        if end == start + 1 {
            assert_eq!(merged.ids[j], base.ids[start], "a token that stayed has another id");
        }
        reference::Token { bytes: bytes_of(merged.ids[j]), start, end }
    };
    let text = |ends: &[i64]| (ends[0] as usize..ends[1] as usize).map(token).collect();
    let texts = merged.offsets.windows(2).map(text).collect();
    let steps = merged.merges.iter().map(|m| (bytes_of(m.left), bytes_of(m.right), m.count, m.replaced)).collect();
    for (k, ends) in merged.piece_offsets.windows(2).enumerate() {
        let pieces = &merged.pieces[ends[0] as usize..ends[1] as usize];
        assert!(pieces.len() > 1 && pieces.iter().all(|&id| id < first));
        let joined: Vec<u8> = pieces.iter().flat_map(|&id| bytes_of(id)).collect();
        assert_eq!(joined, bytes_of(first + k as u32), "pieces of new token {k}");
    }
    (texts, steps)
}

struct Draws(u64);

impl Draws {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[test]
fn overlapping_occurrences_are_counted_and_not_replaced() {
    let identity = identity(&["a", "b"]);
    let merged = one_text(&[0, 0, 0, 0, 0], &identity, &Options { max_merges: 1, ..Options::default() });
    //  a a a a a: four times "a a", two replaced: aa aa a
    assert_eq!(pairs(&merged), [(0, 0, 4, 4, 2)]);
    assert_eq!((merged.ids.as_slice(), merged.starts.as_slice()), (&[4, 4, 0][..], &[0, 2, 4, 5][..]));
    assert_eq!(merged.stop, Stop::MaxMerges);
}

#[test]
fn among_equals_the_first_occurrence_decides() {
    let identity = identity(&["a", "b", "c", "d"]);
    //  c d | a b c d a b: "a b" and "c d" twice each; "c d" is seen first
    let base = Base { ids: &[2, 3, 0, 1, 2, 3, 0, 1], offsets: &[0, 2, 8], groups: &[0; 8] };
    let merged = run(&base, None, &identity, &Options { min_count: 2, ..Options::default() });
    assert_eq!(pairs(&merged), [(2, 3, 6, 2, 2), (0, 1, 7, 2, 2)]);
    assert_eq!((merged.ids.as_slice(), merged.offsets.as_slice()), (&[6, 7, 6, 7][..], &[0, 1, 4][..]));
    assert_eq!(merged.stop, Stop::MinCount);
}

#[test]
fn equal_bytes_are_one_token() {
    let identity = identity(&["a", "b", "c", "ab", "<0x61>"]);
    //  a bc, ab c: both "abc"; the bytes of "ab" are a base token's; <0x61> is an "a" too and stays what it is
    let base =
        Base { ids: &[0, 1, 2, 3, 2, 4, 1, 4, 2], offsets: &[0, 3, 5, 7, 9], groups: &[0, 0, 0, 1, 1, 2, 2, 3, 4] };
    let merged = run(&base, None, &identity, &Options::default());
    assert_eq!(pairs(&merged), [(0, 1, 3, 2, 2), (3, 2, 7, 2, 2)]);
    assert_eq!(merged.ids, [7, 7, 3, 4, 2]);
    assert_eq!((merged.new_bytes.as_slice(), merged.pieces.as_slice()), (&b"abc"[..], &[3, 2][..]));
    assert_eq!(merged.stop, Stop::Exhausted);
}

#[test]
fn special_and_added_tokens_texts_and_groups_keep_apart() {
    let identity = identity(&["a", "b"]);
    let (special, added) = (2, 3);
    let base = Base { ids: &[special, 0, added, 0, 1, 0, 0], offsets: &[0, 5, 6, 7], groups: &[0, 0, 0, 0, 1, 1, 1] };
    let merged = run(&base, None, &identity, &Options::default());
    assert_eq!((merged.ids.as_slice(), merged.open, merged.stop), (base.ids, 0, Stop::Exhausted));
}

#[test]
fn a_share_stops_at_the_first_merge_that_reaches_it() {
    let identity = identity(&["a", "b", "c", "d"]);
    let ids = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]; // ab cd ab cd ab
    let tokens = |target| one_text(&ids, &identity, &Options { target, ..Options::default() }).ids.len();
    assert_eq!(tokens(Target::OfBase(Share { parts: 3, of: 10 })), 7);
    assert_eq!(tokens(Target::OfBase(Share { parts: 31, of: 100 })), 5);
    assert_eq!(tokens(Target::OfBase(Share { parts: 0, of: 1 })), 10);
    assert_eq!(tokens(Target::OfOpen(Share { parts: 1, of: 3 })), 7); // 3 of 9
    assert_eq!(tokens(Target::OfOpen(Share { parts: 1, of: 1 })), 1);
    assert_eq!(tokens(Target::Tokens(6)), 5);
    assert_eq!(
        one_text(&ids, &identity, &Options { target: Target::Tokens(0), ..Options::default() }).stop,
        Stop::Exhausted
    );
}

#[test]
fn a_token_longer_than_the_bound_is_not_made() {
    let identity = identity(&["a", "b"]);
    let merged = one_text(&[0; 8], &identity, &Options { max_bytes: 3, ..Options::default() });
    assert_eq!((merged.ids.as_slice(), merged.stop), (&[4, 4, 4, 4][..], Stop::Exhausted));
}

#[test]
fn groups_change_at_the_transition_or_when_nothing_is_left() {
    let identity = identity(&["a", "b"]);
    let base = Base { ids: &[0, 1, 0, 1], offsets: &[0, 4], groups: &[0, 0, 1, 2] };
    let at = |after| run(&base, Some(Transition { after, groups: &[0; 4] }), &identity, &Options::default());
    //  ab | a | b at first; then everything
    assert_eq!(pairs(&at(0)), [(0, 1, 4, 2, 2), (4, 4, 5, 1, 1)]);
    assert_eq!(pairs(&at(9)), [(0, 1, 4, 1, 1), (4, 0, 5, 1, 1), (5, 1, 6, 1, 1)]);
    assert_eq!(at(0).open, 3);
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let identity = identity(&["a", "b"]);
    let refused = |ids: &[u32], offsets: &[i64], groups: &[u32], options: Options| {
        let base = Base { ids, offsets, groups };
        merge(&base, None, &identity, &options, &Cancel::default()).map(|_| ()).expect_err("refused").field().to_owned()
    };
    let options = Options::default();
    assert_eq!(refused(&[0, 1], &[0, 1], &[0, 0], options), "offsets");
    assert_eq!(refused(&[0, 1], &[], &[0, 0], options), "offsets");
    assert_eq!(refused(&[0, 1], &[0, 2, 1, 2], &[0, 0], options), "offsets");
    assert_eq!(refused(&[0, 1], &[0, 2], &[0], options), "groups");
    assert_eq!(refused(&[0, 9], &[0, 2], &[0, 0], options), "ids[1]");
    assert_eq!(refused(&[0], &[0, 1], &[0], Options { min_count: 0, ..options }), "min_count");
    let cancel = Cancel::default();
    cancel.cancel();
    assert!(merge(&Base { ids: &[0], offsets: &[0, 1], groups: &[0] }, None, &identity, &options, &cancel).is_err());
}

#[test]
fn the_engine_is_the_reference_on_random_batches() {
    // Few letters, so that runs, overlaps and ties abound; some merges give base tokens; two ids are "a".
    let identity = identity(&["a", "b", "c", "ab", "ba", "aab", "<0x61>"]);
    let mut draws = Draws(11);
    for round in 0..3000 {
        let (texts, letters) = (draws.below(5), 1 + draws.below(9));
        let (mut ids, mut offsets, mut groups) = (Vec::new(), vec![0], Vec::new());
        let long = draws.below(3) == 0;
        for _ in 0..texts {
            let mut group = 0;
            for _ in 0..draws.below(if long { 120 } else { 12 }) {
                ids.push(draws.below(letters) as u32);
                group += u32::from(draws.below(6) == 0);
                groups.push(group);
            }
            offsets.push(ids.len() as i64);
        }
        let wide = vec![0; ids.len()];
        let base = Base { ids: &ids, offsets: &offsets, groups: &groups };
        let then = (draws.below(3) == 0).then(|| Transition { after: draws.below(20), groups: &wide });
        let share = Share { parts: draws.below(11), of: 10 };
        let target = match draws.below(6) {
            0 => Target::Tokens(draws.below(100)),
            1 => Target::OfBase(share),
            2 => Target::OfOpen(share),
            _ => Target::None,
        };
        let options = Options {
            max_merges: if draws.below(3) == 0 { draws.below(30) } else { u64::MAX },
            target,
            min_count: 1 + draws.below(3) as u32,
            max_bytes: if draws.below(4) == 0 { 1 + draws.below(9) as usize } else { MAX_BYTES },
        };
        let merged = run(&base, then, &identity, &options);
        let (texts, steps, stop) = reference::merge(&base, then, &identity, &options).expect("sound");
        let ours = as_bytes(&base, &merged, &identity);
        assert_eq!((ours, merged.stop), ((texts, steps), stop), "{round}: {base:?} {then:?} {options:?}");
    }
}
