//! The definition, line by line, in either implementation's arithmetic.

use super::score::Scores;
use super::{REBASE, fallback_byte};
use crate::formats::{Unigram, UnigramFlavour};
use crate::ids::TokenId;
use std::collections::HashMap;

/// A token of a path, or an unknown character.
#[derive(Clone, Copy)]
struct Step {
    score: f64,
    start: usize,
    /// `None`: unknown.
    id: Option<TokenId>,
}

/// The ids of `piece` and the number of bytes of each; a model without scores for all pieces encodes nothing.
pub fn encode(model: &Unigram, piece: &[u8]) -> Vec<(TokenId, usize)> {
    let Ok(Scores { pieces, unk_score }) = Scores::new(model) else { return Vec::new() };
    let all: HashMap<&[u8], TokenId> = model.vocab.iter().collect();
    let vocab: HashMap<&[u8], (TokenId, f64)> =
        model.vocab.iter().zip(pieces).filter_map(|((spelling, id), score)| Some((spelling, (id, score?)))).collect();
    let single = model.flavour == UnigramFlavour::SentencePiece;

    // The text as the model sees it, and for each of its bytes how many bytes of `piece` it stands for.
    let (mut text, mut weight, mut characters) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in piece.utf8_chunks() {
        for character in chunk.valid().chars() {
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            characters.push(character.len_utf8());
        }
        weight.resize(text.len(), 1);
        for byte in chunk.invalid() {
            if single {
                text.extend_from_slice("\u{fffd}".as_bytes());
                weight.extend([0, 0, 1]);
                characters.push(3);
            } else {
                text.push(*byte);
                weight.push(1);
                characters.push(1);
            }
        }
    }

    // The best path to every place.
    let longest = vocab.keys().map(|spelling| spelling.len()).max().unwrap_or(0);
    let mut best: Vec<Option<Step>> = vec![None; text.len() + 1];
    let offer = |end: &mut Option<Step>, sum: f64, start: usize, id: Option<TokenId>| {
        if end.is_none_or(|end| sum > end.score) {
            *end = Some(Step { score: sum, start, id });
        }
    };
    let add = |a: f64, b: f64| if single { f64::from(a as f32 + b as f32) } else { a + b };
    let mut start = 0;
    for character in characters {
        let mut before = best[start].map_or(0.0, |step| step.score);
        if single && before.abs() > REBASE {
            for step in best[start + 1..].iter_mut().take(longest.max(4)).flatten() {
                step.score = f64::from((step.score - before) as f32);
            }
            before = 0.0;
        }
        let mut alone = false;
        for len in 1..=longest.min(text.len() - start) {
            if let Some((id, score)) = vocab.get(&text[start..start + len]) {
                offer(&mut best[start + len], add(*score, before), start, Some(*id));
                alone |= len == character;
            }
        }
        if !alone {
            offer(&mut best[start + character], add(unk_score, before), start, None);
        }
        start += character;
    }

    // Back along the path; neighbouring unknowns become one.
    let mut path: Vec<(usize, usize, Option<TokenId>)> = Vec::new(); // start, end, id; last first
    let mut end = text.len();
    while end > 0 {
        let step = best[end].expect("every character offers its end a path");
        let id = step.id.filter(|id| Some(*id) != model.unk);
        match path.last_mut() {
            Some((start, _, None)) if id.is_none() && model.fuse_unk => *start = step.start,
            _ => path.push((step.start, end, id)),
        }
        end = step.start;
    }
    path.reverse();

    let mut found = Vec::new();
    let len = |start: usize, end: usize| weight[start..end].iter().sum();
    for (start, end, id) in path {
        let looked_up = if single { None } else { vocab.get(&text[start..end]).map(|(id, _)| *id) };
        let bytes: Option<Vec<TokenId>> = text[start..end].iter().map(|byte| byte_token(&all, *byte)).collect();
        match (id.or(looked_up), bytes, model.unk) {
            (Some(id), ..) => found.push((id, len(start, end))),
            (None, Some(ids), _) if model.byte_fallback => {
                found.extend(ids.into_iter().zip(weight[start..end].iter().copied()));
            }
            (None, _, Some(unk)) => found.push((unk, len(start, end))),
            (None, ..) => {}
        }
    }
    found
}

/// The id of `<0xNN>`.
fn byte_token(vocab: &HashMap<&[u8], TokenId>, byte: u8) -> Option<TokenId> {
    let spelling = format!("<0x{byte:02X}>").into_bytes();
    debug_assert_eq!(fallback_byte(&spelling), Some(byte));
    vocab.get(spelling.as_slice()).copied()
}
