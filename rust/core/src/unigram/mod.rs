//! Unigram: the most probable segmentation (Kudo 2018), with the arithmetic of one of its two implementations.
//!
//! Both implementations run the same dynamic programme over the character boundaries of a piece: at every boundary,
//! from left to right, every token that fits there offers its end a score, and an offer counts when it is strictly
//! better than the best one so far. Where no token is just the next character, that character offers itself as
//! unknown, ten nats below the least probable piece. Only the numbers differ:
//!
//! | | `Tokenizers` | `SentencePiece` |
//! |---|---|---|
//! | scores, sums | f64 | f32 |
//! | sums start anew | never | at every place whose best sum is beyond 100 000 either way, for all open paths |
//! | least score over | all pieces | the normal pieces |
//! | user-defined pieces | as any other | `0.1 * length in bytes - 0.1`, whatever their score |
//! | a run of unknowns that is a token | is that token | is unknown |
//!
//! Sums are carried through a whole piece, so the result for a piece depends on the piece alone, but the result for a
//! text is not that of its parts put together: the rounding of a sum depends on all that came before. A caller
//! hands over exactly the pieces that the original model sees (SentencePiece: the whole normalized text) and may cache
//! by whole piece.
//!
//! Bytes that are not part of a well-formed UTF-8 sequence: for `Tokenizers`, which never sees any, each is one
//! character (matched by no token unless a spelling has that very byte) and takes part in the unknown run around it;
//! its byte fallback is its own `<0xNN>`. For `SentencePiece` each such byte is U+FFFD, as its normalizer has it.

mod candidates;
mod encode;
pub mod reference;
mod running;
mod score;
#[cfg(test)]
mod tests;

pub(crate) use candidates::Candidates;
pub use encode::Scratch;
pub(crate) use encode::character_len;
pub(crate) use running::Running;

use crate::bytetrie::ByteTrie;
use crate::formats::{Unigram, UnigramFlavour};
use crate::ids::NO_TOKEN;
use crate::{Error, Limits, Result, TokenId};
use score::Scores;

/// How far an unknown character lies below the least probable piece, in nats; both implementations name it so.
pub const UNK_PENALTY: f64 = 10.0;

/// SentencePiece counts sums anew when they pass this, for f32 to keep its digits (measured with 0.2.3; 0.2.1 did not).
pub const REBASE: f64 = 100_000.0;

/// A unigram encoder.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Spelling to rank - 1; ranks number the pieces that text can produce, from 1, in the order of their spellings, so
    /// that the tokens on one path of the trie lie side by side in `scores`. Rank 0 is no token.
    trie: ByteTrie,
    /// By rank; rank 0 has minus infinity.
    scores: Vec<f64>,
    /// By rank: id and length in bytes.
    tokens: Vec<(TokenId, u32)>,
    unk: Option<TokenId>,
    /// The rank of the unknown piece where text can spell it (`Tokenizers`); else [`encode::UNKNOWN`].
    unk_rank: u32,
    unk_score: f64,
    /// The `<0xNN>` tokens, [`NO_TOKEN`] where there is none; `None` without byte fallback.
    byte_ids: Option<Box<[TokenId; 256]>>,
    fuse_unk: bool,
    flavour: UnigramFlavour,
}

impl Engine {
    /// Builds the encoder. O(total bytes of the spellings), plus a sort.
    ///
    /// Fails with `Format` when scores and pieces differ in number, when the unknown piece is none of them, or when a
    /// score is not a number; with `Unsupported` when a score is beyond 1e30 either way, infinite ones included.
    pub fn new(model: &Unigram, _limits: &Limits) -> Result<Self> {
        let Scores { pieces, unk_score } = Scores::new(model)?;
        if let Some(unk) = model.unk.filter(|unk| !model.vocab.ids.contains(unk)) {
            return Err(Error::format("model.unk_id", format!("id {unk} is not in the vocabulary"), ""));
        }
        let mut order: Vec<usize> = (0..model.vocab.len()).filter(|&i| pieces[i].is_some()).collect();
        order.sort_by_key(|&i| model.vocab.get(i)); // stable: of equal spellings the last one counts, as in a map
        order.reverse();
        order.dedup_by_key(|i| model.vocab.get(*i));
        order.reverse();
        let token = |&i: &usize| {
            (model.vocab.ids[i], u32::try_from(model.vocab.get(i).len()).expect("tokens are under 4 GiB: Spellings"))
        };
        let tokens: Vec<(TokenId, u32)> = std::iter::once((NO_TOKEN, 0)).chain(order.iter().map(token)).collect();
        let score = |&i: &usize| pieces[i].expect("order holds the pieces with a score");
        let scores = std::iter::once(f64::NEG_INFINITY).chain(order.iter().map(score)).collect();
        let trie = ByteTrie::new((0u32..).zip(&order).map(|(n, &i)| (model.vocab.get(i), n)))?;
        let unk_rank =
            (0u32..).zip(&tokens).skip(1).find(|(_, token)| Some(token.0) == model.unk).map(|(rank, _)| rank);
        let mut byte_ids = Box::new([NO_TOKEN; 256]);
        for (spelling, id) in model.vocab.iter() {
            if let Some(byte) = fallback_byte(spelling) {
                byte_ids[usize::from(byte)] = id;
            }
        }
        Ok(Self {
            trie,
            scores,
            tokens,
            unk: model.unk,
            unk_rank: unk_rank.unwrap_or(encode::UNKNOWN),
            unk_score,
            byte_ids: model.byte_fallback.then_some(byte_ids),
            fuse_unk: model.fuse_unk,
            flavour: model.flavour,
        })
    }

    /// The memory of the trie and the tables, in bytes.
    pub fn memory(&self) -> usize {
        self.trie.memory() + size_of_val(&self.scores[..]) + size_of_val(&self.tokens[..])
    }

    /// Appends the ids of one piece.
    ///
    /// Equals [`reference::encode`]. O(n · m) time, n = `piece.len()`, m = longest token; at most 20 bytes of
    /// `scratch` per byte of the longest stretch without a place that no token spans. Where the model has no
    /// unknown piece (and no byte fallback) unknown characters are dropped; there the originals fail.
    pub fn encode(&self, piece: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>) {
        self.each(piece, scratch, |id, _| out.push(id));
    }

    /// The same, and for each id the number of bytes of `piece` it stands for; they sum to `piece.len()` unless unknown
    /// characters are dropped.
    ///
    /// A `<0xNN>` token stands for its own byte; where SentencePiece writes the three tokens of U+FFFD for one byte,
    /// the last of them stands for it.
    pub fn encode_with_lens(&self, piece: &[u8], scratch: &mut Scratch, out: &mut Vec<TokenId>, lens: &mut Vec<u32>) {
        self.each(piece, scratch, |id, len| {
            out.push(id);
            lens.push(u32::try_from(len).unwrap_or(u32::MAX));
        });
    }
}

/// The byte that `<0xNN>` (two upper-case hexadecimal digits) stands for.
fn fallback_byte(spelling: &[u8]) -> Option<u8> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    };
    match spelling {
        [b'<', b'0', b'x', high, low, b'>'] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}
