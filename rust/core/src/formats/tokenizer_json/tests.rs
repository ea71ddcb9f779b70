//! What `tokenizers` accepts in more than one spelling, and the ids it gives. Every expected value was taken from the
//! released wheel, 0.23.3, unless a comment says otherwise.

use serde_json::{Value, json};

use super::*;
use crate::formats::{Decoder, Merge, PostProcessor, PreTokenizer, PrependScheme, SplitBehavior};

/// A document around a word-level model, with some fields replaced.
fn document(fields: Value) -> String {
    let mut document = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": null, "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
    });
    if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
    document.to_string()
}

fn describe(text: &str) -> Description {
    read(text.as_bytes(), &Limits::default()).expect("accepted")
}

fn added(id: u32, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true,
    })
}

fn ids(text: &str) -> Vec<(u32, String)> {
    describe(text).added_tokens.into_iter().map(|t| (t.id, t.content)).collect()
}

fn bpe(model: &str) -> (Vec<Merge>, Option<TokenId>) {
    match describe(&format!("{{\"model\": {model}}}")).model {
        Model::Bpe(bpe) => (bpe.merges, bpe.unk),
        other => panic!("{other:?}"),
    }
}

#[test]
fn added_tokens_have_the_ids_that_tokenizers_gives_them() {
    let of = |tokens: &[Value]| ids(&document(json!({"added_tokens": tokens})));
    let named = |list: &[(u32, &str)]| list.iter().map(|(id, t)| (*id, (*t).to_owned())).collect::<Vec<_>>();
    // The declared ids are not read: the model's id, or the next one.
    assert_eq!(of(&[added(5, "x"), added(9, "y")]), named(&[(2, "x"), (3, "y")]));
    assert_eq!(of(&[added(5, "b"), added(9, "y")]), named(&[(1, "b"), (2, "y")]));
    assert_eq!(of(&[added(3, "x"), added(2, "y")]), named(&[(2, "x"), (3, "y")]));
    // Empty and repeated ones are left out.
    assert_eq!(of(&[added(2, ""), added(2, "x"), added(3, "x")]), named(&[(2, "x")]));
}

#[test]
fn an_added_token_keeps_its_flags_and_may_have_a_comment() {
    let token = json!({
        "id": 2, "content": "x", "single_word": true, "lstrip": false, "rstrip": true, "normalized": true,
        "special": false, "comment": {"from": "a tool"},
    });
    let tokens = describe(&document(json!({"added_tokens": [token]}))).added_tokens;
    let expected = AddedToken {
        id: 2,
        content: "x".into(),
        single_word: true,
        lstrip: false,
        rstrip: true,
        normalized: true,
        special: false,
    };
    assert_eq!(tokens, [expected]);
}

#[test]
fn merges_have_two_spellings_and_the_last_rank_of_a_pair_holds() {
    let model = |merges: &str| {
        format!(
            r#"{{"type": "BPE", "vocab": {{"a": 0, "b": 1, "ab": 2, "ba": 3, "a ": 4, "a a": 5}}, "merges": {merges}}}"#
        )
    };
    let m = |left, right, product, rank| Merge { left, right, product, rank };
    let two = vec![m(0, 1, 2, 0), m(1, 0, 3, 1)];
    assert_eq!(bpe(&model(r#"[["a", "b"], ["b", "a"]]"#)).0, two);
    assert_eq!(bpe(&model(r#"["a b", "b a"]"#)).0, two);
    assert_eq!(bpe(&model(r##"["#version: 0.2", "a b", "b a"]"##)).0, two);
    assert_eq!(bpe(&model(r#"[["a", "b"], ["b", "a"], ["a", "b"]]"#)).0, vec![m(1, 0, 3, 1), m(0, 1, 2, 2)]);
    assert_eq!(bpe(&model(r#"[["a ", "a"]]"#)).0, vec![m(4, 0, 5, 0)]);
    assert_eq!(bpe(&model(r#"[["\u0061", "\u0062"], [ "b" , "a" ] ]"#)).0, two);
    assert_eq!(bpe(&model("[]")).0, vec![]);
}

#[test]
fn fields_of_a_model_stand_in_any_order() {
    let fields = [
        r###""type": "BPE""###,
        r###""continuing_subword_prefix": "##""###,
        r###""vocab": {"a": 0, "##b": 1, "ab": 2}"###,
        r###""merges": [["a", "##b"]]"###,
    ];
    let merge = Merge { left: 0, right: 1, product: 2, rank: 0 };
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1], [0, 2, 3, 1], [1, 3, 2, 0]] {
        let body = order.map(|i| fields[i]).join(", ");
        assert_eq!(bpe(&format!("{{{body}}}")).0, [merge], "{body}");
    }
    // Without a type, the merges say what it is.
    assert_eq!(bpe(&format!("{{{}}}", fields[1..].join(", "))).0, [merge]);
}

#[test]
fn a_model_without_a_type_is_what_its_fields_fit() {
    let kind = |model: &str| match describe(&format!("{{\"model\": {model}}}")).model {
        Model::Bpe(_) => "BPE",
        Model::WordPiece(_) => "WordPiece",
        Model::WordLevel(_) => "WordLevel",
        Model::Unigram(_) => "Unigram",
        Model::Trie(_) => "Trie",
    };
    assert_eq!(kind(r#"{"vocab": {"a": 0}, "merges": []}"#), "BPE");
    let piece = r###"{"vocab": {"a": 0}, "unk_token": "a", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}"###;
    assert_eq!(kind(piece), "WordPiece");
    assert_eq!(kind(r#"{"vocab": {"a": 0}, "unk_token": "a"}"#), "WordLevel");
    assert_eq!(kind(r#"{"vocab": [["a", 0]], "unk_id": 0}"#), "Unigram");
    assert_eq!(kind(r#"{"vocab": [["a", 0]]}"#), "Unigram");
}

#[test]
fn an_unknown_token_that_no_byte_can_need_is_idle() {
    let alphabet: Vec<String> = crate::decode::byte_alphabet::CHARS
        .iter()
        .enumerate()
        .map(|(id, c)| format!("{}: {id}", Value::from(c.to_string())))
        .collect();
    let model =
        format!(r#"{{"type": "BPE", "unk_token": "<unk>", "vocab": {{{}}}, "merges": []}}"#, alphabet.join(", "));
    assert_eq!(bpe(&model).1, None);
}

#[test]
fn old_spellings_of_components_mean_what_they_meant() {
    let pre = |value: Value| describe(&document(json!({"pre_tokenizer": value}))).pre_tokenizer;
    let metaspace = |prepend_scheme, split| PreTokenizer::Metaspace { replacement: '▁', prepend_scheme, split };
    for (fields, expected) in [
        (json!({"add_prefix_space": true, "str_rep": "▁"}), metaspace(PrependScheme::Always, true)),
        // Today's wheel refuses this one; older ones took it as written here.
        (json!({"add_prefix_space": false}), metaspace(PrependScheme::Never, true)),
        (json!({}), metaspace(PrependScheme::Always, true)),
        (json!({"prepend_scheme": "first", "split": false}), metaspace(PrependScheme::First, false)),
        (json!({"prepend_scheme": "never", "add_prefix_space": false}), metaspace(PrependScheme::Never, true)),
    ] {
        let mut value = json!({"type": "Metaspace", "replacement": "▁"});
        if let (Some(value), Value::Object(fields)) = (value.as_object_mut(), fields) {
            value.extend(fields);
        }
        assert_eq!(pre(value.clone()), expected, "{value}");
    }
    assert_eq!(
        pre(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true})),
        PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: true, trim_offsets: true },
    );
    assert_eq!(pre(json!({"type": "Punctuation"})), PreTokenizer::Punctuation(SplitBehavior::Isolated));
    assert_eq!(pre(json!({"type": "FixedLength"})), PreTokenizer::FixedLength(5));
}

#[test]
fn a_decoder_of_nothing_joins_with_nothing_and_no_decoder_with_spaces() {
    let decoder = |value: Value| describe(&document(json!({"decoder": value}))).decoder;
    assert_eq!(decoder(Value::Null), Decoder::default());
    assert_eq!(decoder(json!({"type": "Sequence", "decoders": []})), Decoder::Fuse);
}

#[test]
fn templates_become_the_ids_around_a_text() {
    let post = |value: Value| describe(&document(json!({"post_processor": value}))).post_processor;
    let around = |value: Value| match post(value) {
        PostProcessor::Template { before, after, .. } => (before, after),
        other => panic!("{other:?}"),
    };
    assert_eq!(around(json!({"type": "BertProcessing", "sep": ["b", 1], "cls": ["a", 0]})), (vec![0], vec![1]));
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let template = json!({
        "type": "TemplateProcessing", "single": [special("x"), special("b"), text, special("b")], "pair": [],
        "special_tokens": {
            "x": {"id": "x", "ids": [1, 0], "tokens": ["b", "a"]}, "b": {"id": "b", "ids": [1], "tokens": ["b"]},
        },
    });
    assert_eq!(around(template), (vec![1, 0, 1], vec![1]));
}

#[test]
fn what_a_template_writes_are_parts_to_the_next_member_of_a_sequence() {
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let template = |single: Value, pair: Value| {
        let declared = json!({"b": {"id": "b", "ids": [1], "tokens": ["b"]}});
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": declared})
    };
    let ended = template(json!([text("A"), special("b")]), json!([text("B"), special("b"), text("A")]));
    let opened = template(json!([special("b"), text("A"), special("b")]), json!([text("A"), text("B")]));
    let bert = json!({"type": "BertProcessing", "sep": ["b", 1], "cls": ["a", 0]});
    let mut roberta = bert.clone();
    roberta["type"] = "RobertaProcessing".into();
    roberta["trim_offsets"] = true.into();
    roberta["add_prefix_space"] = true.into();
    let sequence = |members: &[&Value]| json!({"type": "Sequence", "processors": members});
    let read = |value: Value| {
        let path = document(json!({"post_processor": value}));
        super::read(path.as_bytes(), &Limits::default()).map(|described| match described.post_processor {
            PostProcessor::Sequence { before, after, .. } => (before, after),
            other => panic!("{other:?}"),
        })
    };
    let ids = |members: &[&Value]| read(sequence(members)).unwrap();
    // as `tokenizers` 0.23.3 writes them
    assert_eq!(ids(&[]), (vec![], vec![]));
    assert_eq!(ids(&[&ended, &ended]), (vec![1, 1], vec![]));
    assert_eq!(ids(&[&ended, &sequence(&[&bert])]), (vec![0], vec![1, 1, 1]));
    assert_eq!(ids(&[&ended, &roberta]), (vec![0], vec![1, 1, 1, 1]));
    assert_eq!(ids(&[&opened, &roberta]), (vec![0, 1, 1, 1], vec![1, 1, 1, 1]));
    assert_eq!(ids(&[&bert, &roberta]), (vec![0, 0], vec![1, 1]));
    let refused = read(sequence(&[&opened, &sequence(&[&bert, &opened])])).unwrap_err().to_string();
    assert!(refused.contains("processors[1].processors[1]: what stands before it makes 3 parts"), "{refused}");
    let lost = template(json!([text("A"), special("b")]), json!([]));
    let refused = read(sequence(&[&ended, &lost])).unwrap_err().to_string();
    assert!(refused.contains("processors[1]: the text stands 0 times"), "{refused}");
}

#[test]
fn what_encoding_never_does_is_ignored() {
    let text = document(json!({
        "truncation": {"max_length": 3, "direction": "Right", "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": "BatchLongest"}, "_comment": [1, 2, 3],
    }));
    describe(&text);
    describe(&text.replacen("\"version\":\"1.0\"", "\"x\":0", 1));
}
