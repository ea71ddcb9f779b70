//! Which tokens may follow which context, against all short continuations of the text.

use super::*;

/// Contexts that are looked at, per tokenizer.
const CONTEXTS: usize = 64;
/// Longest text of a context, in bytes.
const BYTES: usize = 7;

/// Every token that may follow a canonical context follows its node, and no other; the text may end where it may.
fn agrees(tiny: &Tiny) {
    agrees_with(tiny, &[]);
}

fn agrees_with(tiny: &Tiny, policies: &[(TokenId, Policy)]) {
    let model = tiny.model_with(Law::Local, policies);
    let index = model.index();
    let mut random = Random(0x5EED_0001);
    let mut open: Vec<(Vec<TokenId>, Arc<Node>)> = vec![(Vec::new(), model.root(true))];
    for round in 0..CONTEXTS {
        if open.is_empty() {
            return;
        }
        // Short ones all, and some of the long ones, of which there are many more.
        let at = if round % 2 == 0 { 0 } else { random.below(open.len()) };
        let (ids, node) = open.remove(at);
        let shown = || {
            let text = tiny.bytes(&ids).escape_ascii().to_string();
            format!("{}: {ids:?} {text:?} {:?}", tiny.name, node.groups)
        };
        assert_eq!(model.ends(&node), tiny.is_complete(&ids), "may it end? {}", shown());
        let mask = model.mask(&node);
        for place in 0..index.root().hi {
            let longer = [&ids[..], &[index.id(place)]].concat();
            let wanted = tiny.is_canonical(&longer);
            let child = model.child(&node, index.id(place));
            let token = || format!("{:?} behind {}", index.token(place).escape_ascii().to_string(), shown());
            assert_eq!(child.is_some(), wanted, "child: {}", token());
            assert_eq!(mask.as_ref().is_none_or(|mask| mask.get(place)), wanted, "mask: {}", token());
            if let Some(child) = child
                && child.pos() <= BYTES
            {
                open.push((longer, child));
            }
        }
    }
}

fn named(all: Vec<Tiny>, name: &str) -> Tiny {
    all.into_iter().find(|tiny| tiny.name == name).expect("a name of the list")
}

#[test]
fn gpt2_continues_as_its_encoder_does() {
    agrees(&named(tokenizers::patterns(), "gpt2"));
}

#[test]
fn cl100k_continues_as_its_encoder_does() {
    agrees(&named(tokenizers::patterns(), "cl100k"));
}

#[test]
fn o200k_continues_as_its_encoder_does() {
    agrees(&named(tokenizers::patterns(), "o200k"));
}

#[test]
fn qwen2_continues_as_its_encoder_does() {
    agrees(&named(tokenizers::patterns(), "qwen2"));
}

#[test]
fn deepseek_continues_as_its_encoder_does() {
    agrees(&named(tokenizers::patterns(), "deepseek-v3"));
}

#[test]
fn superbpe_continues_as_its_encoder_does() {
    agrees(&named(tokenizers::patterns(), "superbpe"));
}

#[test]
fn without_cuts_pairs_alone_decide() {
    agrees(&tokenizers::uncut());
}

#[test]
fn tokens_that_no_merge_makes_stand_alone() {
    agrees(&tokenizers::ignore_merges());
}

#[test]
fn no_token_is_taken_where_a_longer_one_matches() {
    agrees(&tokenizers::longest_match());
}

#[test]
fn added_tokens_of_the_normalized_text_cut_it() {
    agrees(&tokenizers::added_tokens(true));
}

#[test]
fn added_tokens_of_the_raw_text_cut_it() {
    agrees(&tokenizers::added_tokens(false));
}

#[test]
fn a_text_that_is_composed_continues_composed() {
    agrees(&tokenizers::normalized("NFC"));
}

#[test]
fn a_text_that_is_decomposed_continues_decomposed() {
    agrees(&tokenizers::normalized("NFD"));
}

#[test]
fn sentencepiece_bpe_continues_as_its_encoder_does() {
    tokenizers::sentencepiece().iter().for_each(agrees);
}

#[test]
fn texts_that_are_mapped_and_stripped_continue_as_they_are() {
    normalizers::all().iter().for_each(agrees);
}

#[test]
fn unigram_continues_as_its_encoder_does() {
    tokenizers::unigram().iter().for_each(agrees);
}

#[test]
fn unigram_of_random_pieces_continues_as_its_encoder_does() {
    (0..12).map(tokenizers::random_unigram).for_each(|tiny| agrees(&tiny));
}

#[test]
fn ids_that_take_no_part_change_nothing_for_others() {
    for tiny in tokenizers::unigram().iter().chain(&[tokenizers::uncut(), tokenizers::patterns().remove(0)]) {
        agrees_with(tiny, &[(0x05, Policy::End), (0x06, Policy::Drop), (0x07, Policy::Forbid)]);
    }
}
