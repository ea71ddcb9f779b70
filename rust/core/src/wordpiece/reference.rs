//! The definition, in the order in which `tokenizers` tries things: the whole rest first, then one shorter, ...

use crate::formats::WordPiece;
use crate::ids::TokenId;
use std::collections::HashMap;

/// The ids of `word` and the number of bytes of each.
pub fn encode(model: &WordPiece, word: &[u8]) -> Vec<(TokenId, usize)> {
    let vocab: HashMap<&[u8], TokenId> = model.vocab.iter().collect();
    let unknown = || model.unk.map(|unk| (unk, word.len())).into_iter().collect();
    if super::char_count(word) > model.max_input_chars_per_word {
        return unknown();
    }
    let mut found = Vec::new();
    let mut start = 0;
    while start < word.len() {
        let mut end = word.len();
        loop {
            if end == start {
                return unknown();
            }
            let mut spelling = Vec::new();
            if start > 0 {
                spelling.extend_from_slice(model.continuing_subword_prefix.as_bytes());
            }
            spelling.extend_from_slice(&word[start..end]);
            if let Some(id) = vocab.get(spelling.as_slice()) {
                found.push((*id, end - start));
                start = end;
                break;
            }
            end -= 1;
        }
    }
    found
}
