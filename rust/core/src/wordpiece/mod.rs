//! WordPiece: greedy longest match from the left inside a word (BERT), as `tokenizers` does it.
//!
//! The first token of a word is spelt as it stands, every later one with the continuing prefix (`##`) before it. A
//! word that cannot be spelt this way, or is too long, is one unknown token.
//!
//! Matching is by bytes. For text and spellings in well-formed UTF-8 this equals matching by characters; a byte that is
//! not part of a well-formed sequence counts as one character (for the length bound) and is matched only by a spelling
//! that has it, so with an ordinary vocabulary its word is unknown.

pub mod reference;
#[cfg(test)]
mod tests;

use crate::bytetrie::ByteTrie;
use crate::formats::WordPiece;
use crate::{Error, Limits, Result, TokenId};

/// A WordPiece encoder.
#[derive(Clone, Debug)]
pub struct Engine {
    /// All tokens as they stand.
    first: ByteTrie,
    /// The tokens with the continuing prefix, without it.
    later: ByteTrie,
    unk: Option<TokenId>,
    max_chars: usize,
}

/// Nothing: this engine needs no memory of its own. It stands here so that all engines are called alike.
#[derive(Clone, Debug, Default)]
pub struct Scratch;

impl Engine {
    /// Builds the encoder. O(total bytes of the spellings).
    ///
    /// Fails with `Format` when the unknown token is not in the vocabulary.
    pub fn new(model: &WordPiece, _limits: &Limits) -> Result<Self> {
        if let Some(unk) = model.unk.filter(|unk| !model.vocab.ids.contains(unk)) {
            return Err(Error::format("model.unk_token", format!("id {unk} is not in the vocabulary"), ""));
        }
        let prefix = model.continuing_subword_prefix.as_bytes();
        Ok(Self {
            first: ByteTrie::new(model.vocab.iter())?,
            later: ByteTrie::new(
                model.vocab.iter().filter_map(|(spelling, id)| Some((spelling.strip_prefix(prefix)?, id))),
            )?,
            unk: model.unk,
            max_chars: model.max_input_chars_per_word,
        })
    }

    /// Appends the ids of one word.
    ///
    /// Equals [`reference::encode`]. O(n · m) time, n = `piece.len()`, m = longest token. An empty word has no id; a
    /// word that cannot be spelt has none where the model has no unknown token (there `tokenizers` fails).
    pub fn encode(&self, piece: &[u8], _scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        let start = out.len();
        if !self.each(piece, |id, _| out.push(id)) {
            out.truncate(start);
            out.extend(self.unk);
        }
    }

    /// The same, and for each id the number of bytes it stands for; they sum to `piece.len()` unless the word is
    /// dropped.
    pub fn encode_with_lens(&self, piece: &[u8], _scratch: &mut Scratch, out: &mut Vec<TokenId>, lens: &mut Vec<u32>) {
        let start = (out.len(), lens.len());
        let spelt = self.each(piece, |id, len| {
            out.push(id);
            lens.push(u32::try_from(len).expect("tokens are under 4 GiB: Spellings"));
        });
        if !spelt {
            out.truncate(start.0);
            lens.truncate(start.1);
            if let Some(unk) = self.unk {
                out.push(unk);
                lens.push(u32::try_from(piece.len()).unwrap_or(u32::MAX));
            }
        }
    }

    /// Whether the word could be spelt.
    #[inline(always)]
    fn each(&self, piece: &[u8], mut emit: impl FnMut(TokenId, usize)) -> bool {
        // No word has more characters than bytes.
        if piece.len() > self.max_chars && char_count(piece) > self.max_chars {
            return false;
        }
        let mut rest = piece;
        let mut trie = &self.first;
        while !rest.is_empty() {
            let Some((len, id)) = trie.longest_prefix(rest) else { return false };
            emit(id, len);
            rest = &rest[len..];
            trie = &self.later;
        }
        true
    }
}

/// The characters of `bytes`; a byte that is not part of a well-formed sequence counts as one.
fn char_count(bytes: &[u8]) -> usize {
    bytes.utf8_chunks().map(|chunk| chunk.valid().chars().count() + chunk.invalid().len()).sum()
}
