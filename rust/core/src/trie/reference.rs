//! The definition: at every position the longest token that fits.

use crate::formats::Trie;
use crate::ids::TokenId;
use std::collections::HashMap;

/// The ids of `text` and the number of bytes of each.
///
/// A byte at which no token fits is left out; [`super::Engine::new`] refuses vocabularies in which there is one.
pub fn encode(model: &Trie, text: &[u8]) -> Vec<(TokenId, usize)> {
    let vocab: HashMap<&[u8], TokenId> = model.vocab.iter().collect();
    let longest = vocab.keys().map(|token| token.len()).max().unwrap_or(0);
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let reach = longest.min(text.len() - at);
        match (1..=reach).rev().find_map(|len| Some((*vocab.get(&text[at..at + len])?, len))) {
            Some((id, len)) => {
                found.push((id, len));
                at += len;
            }
            None => at += 1,
        }
    }
    found
}
