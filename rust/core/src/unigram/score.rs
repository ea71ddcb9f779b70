//! What every piece and an unknown character add to a path, in either implementation's numbers.

use super::UNK_PENALTY;
use crate::formats::{Unigram, UnigramFlavour};
use crate::{Error, Result};
use std::collections::HashSet;

/// SentencePiece: what a user-defined piece weighs per byte after its first, in nats.
const USER_DEFINED_PER_BYTE: f64 = 0.1;

/// Scores beyond this are refused; below it no sum overflows, in f32 with [`super::REBASE`] or in f64.
const MAX_SCORE: f64 = 1e30;

/// The numbers of a model.
pub(super) struct Scores {
    /// By position in the vocabulary; `None` for pieces that text never produces.
    pub(super) pieces: Vec<Option<f64>>,
    /// What an unknown character adds.
    pub(super) unk_score: f64,
}

impl Scores {
    pub(super) fn new(model: &Unigram) -> Result<Self> {
        if model.scores.len() != model.vocab.len() {
            return Err(Error::format(
                "model.vocab",
                format!("{} scores for {} pieces", model.scores.len(), model.vocab.len()),
                "give every piece one score",
            ));
        }
        for (i, score) in model.scores.iter().enumerate() {
            let field = || format!("model.vocab[{i}]");
            if score.is_nan() {
                return Err(Error::format(field(), "the score is not a number", "give it its log-probability"));
            }
            if score.abs() > MAX_SCORE {
                let found = format!("score {score} is beyond {MAX_SCORE:e} either way");
                return Err(Error::unsupported(field(), found, "scores are log-probabilities"));
            }
        }
        Ok(match model.flavour {
            UnigramFlavour::Tokenizers => Self::double(model),
            UnigramFlavour::SentencePiece => Self::single(model),
        })
    }

    fn double(model: &Unigram) -> Self {
        let never: HashSet<_> = model.never.iter().collect();
        let least = model.scores.iter().fold(f64::INFINITY, |least, score| least.min(*score));
        let pieces = model.vocab.iter().zip(&model.scores).map(|((spelling, id), score)| {
            let possible = !spelling.is_empty() && !never.contains(&id);
            possible.then_some(*score)
        });
        Self { pieces: pieces.collect(), unk_score: least - UNK_PENALTY }
    }

    fn single(model: &Unigram) -> Self {
        let never: HashSet<_> = model.never.iter().chain(&model.unk).collect();
        let user_defined: HashSet<_> = model.user_defined.iter().collect();
        let normal = model.vocab.iter().zip(&model.scores).filter(|((_, id), _)| {
            !never.contains(id) && !user_defined.contains(id) // sentencepiece starts its minimum at FLT_MAX
        });
        let least = normal.fold(f32::MAX, |least, (_, score)| least.min(*score as f32));
        let pieces = model.vocab.iter().zip(&model.scores).map(|((spelling, id), score)| {
            if spelling.is_empty() || never.contains(&id) {
                None
            } else if user_defined.contains(&id) {
                // Computed in f64 and kept in f32; measured with sentencepiece 0.2.3. (Up to 0.2.1 it was `length *
                // largest normal score - 0.1`, and sums with it were compared in f64.)
                Some(f64::from((spelling.len() as f64 * USER_DEFINED_PER_BYTE - USER_DEFINED_PER_BYTE) as f32))
            } else {
                Some(f64::from(*score as f32))
            }
        });
        // 10 is exact in both widths.
        Self { pieces: pieces.collect(), unk_score: f64::from(least - UNK_PENALTY as f32) }
    }
}
