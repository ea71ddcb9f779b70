//! One id per word: a word is in the vocabulary or unknown.

use crate::bytetrie::ByteTrie;
use crate::formats::WordLevel;
use crate::{Error, Limits, Result, TokenId};

/// A whole-word encoder.
///
/// A trie and no hash table: a lookup costs the word's bytes, whatever the vocabulary.
#[derive(Clone, Debug)]
pub struct Engine {
    trie: ByteTrie,
    unk: Option<TokenId>,
}

/// Nothing: this engine needs no memory of its own. It stands here so that all engines are called alike.
#[derive(Clone, Debug, Default)]
pub struct Scratch;

impl Engine {
    /// Builds the encoder. O(total bytes of the spellings).
    ///
    /// Fails with `Format` when the unknown token is not in the vocabulary.
    pub fn new(model: &WordLevel, _limits: &Limits) -> Result<Self> {
        if let Some(unk) = model.unk.filter(|unk| !model.vocab.ids.contains(unk)) {
            return Err(Error::format("model.unk_token", format!("id {unk} is not in the vocabulary"), ""));
        }
        Ok(Self { trie: ByteTrie::new(model.vocab.iter())?, unk: model.unk })
    }

    /// Appends the id of one word: its own, or the unknown token's.
    ///
    /// O(n) time, n = `piece.len()`. An empty word has no id; an unknown word has none where the model has no unknown
    /// token (there `tokenizers` fails).
    pub fn encode(&self, piece: &[u8], _scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        out.extend(self.id(piece));
    }

    /// The same, and for the id the number of bytes it stands for: `piece.len()`.
    pub fn encode_with_lens(&self, piece: &[u8], _scratch: &mut Scratch, out: &mut Vec<TokenId>, lens: &mut Vec<u32>) {
        if let Some(id) = self.id(piece) {
            out.push(id);
            lens.push(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        }
    }

    fn id(&self, piece: &[u8]) -> Option<TokenId> {
        if piece.is_empty() { None } else { self.trie.get(piece).or(self.unk) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Spellings;

    fn engine(words: &[&str], unk: Option<TokenId>) -> Result<Engine> {
        let mut vocab = Spellings::default();
        for (id, word) in (0u32..).zip(words) {
            vocab.push(word.as_bytes(), id);
        }
        Engine::new(&WordLevel { vocab, unk }, &Limits::default())
    }

    fn encode(engine: &Engine, word: &[u8]) -> Vec<(TokenId, u32)> {
        let (mut out, mut lens) = (Vec::new(), Vec::new());
        engine.encode_with_lens(word, &mut Scratch, &mut out, &mut lens);
        let mut plain = Vec::new();
        engine.encode(word, &mut Scratch, &mut plain);
        assert_eq!(plain, out);
        out.into_iter().zip(lens).collect()
    }

    #[test]
    fn a_word_is_looked_up_whole() {
        let engine = engine(&["<unk>", "ab", "abc", ""], Some(0)).expect("a good model");
        assert_eq!(encode(&engine, b"ab"), [(1, 2)]);
        assert_eq!(encode(&engine, b"abc"), [(2, 3)]);
        assert_eq!(encode(&engine, b"a"), [(0, 1)]);
        assert_eq!(encode(&engine, b"ab\xff"), [(0, 3)]);
        assert_eq!(encode(&engine, b""), []);
    }

    #[test]
    fn without_an_unknown_token_an_unknown_word_is_dropped() {
        assert_eq!(encode(&engine(&["a"], None).expect("a good model"), b"b"), []);
    }

    #[test]
    fn an_unknown_token_outside_the_vocabulary_is_refused() {
        assert!(engine(&["a"], Some(1)).is_err());
    }
}
