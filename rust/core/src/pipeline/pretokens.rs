//! Texts as ids that know their pretoken.

use std::sync::Arc;

use super::engine::Cancel;
use super::shape::normalizer_steps;
use super::{Encoder, Specials, Template, to_i64};
use crate::error::{Error, Result};
use crate::formats::Normalizer;
use crate::ids::TokenId;
use crate::vocab::Vocabulary;

/// The ids of texts, each with its pretoken and its place; text `i` has the ids `offsets[i]..offsets[i + 1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pretokens {
    /// All ids.
    pub ids: Vec<TokenId>,
    /// One more than there are texts.
    pub offsets: Vec<i64>,
    /// Id `i` lies in its text at the bytes `spans[2 i]..spans[2 i + 1]`, as [`Encoder::encode_with_offsets`] says.
    pub spans: Vec<i64>,
    /// The number of each id's pretoken, in every text from 0 and rising; an added token, a special token and an id of
    /// the template have one of their own.
    pub numbers: Vec<u32>,
}

impl Pretokens {
    /// Appends those of further texts.
    pub(crate) fn extend(&mut self, more: &Self) {
        let before = to_i64(self.ids.len());
        self.offsets.extend(more.offsets[1..].iter().map(|offset| before + offset));
        self.ids.extend_from_slice(&more.ids);
        self.spans.extend_from_slice(&more.spans);
        self.numbers.extend_from_slice(&more.numbers);
    }
}

impl Encoder {
    /// The ids of texts, where they lie, and the pretokens they are in.
    ///
    /// Pretokens are the tokenizer's own. One that makes no cuts (SentencePiece's BPE and Unigram, RWKV) has these: a
    /// pretoken begins at every token that begins with a space, and wherever a run of other ASCII white space (line
    /// breaks, tabs) begins or ends. If it marks the ends of words, where the token before ends with a space.
    ///
    /// # Errors
    /// As [`Encoder::encode`], for the first text that fails; `Value` when cancelled.
    pub fn encode_with_pretokens(
        &self,
        texts: &[&[u8]],
        specials: Specials,
        template: Template,
        cancel: &Arc<Cancel>,
    ) -> Result<Pretokens> {
        let rule = if self.tree.cuts() && !self.is_marked() { None } else { Some(self.by_space()?) };
        let mut all = Pretokens { offsets: vec![0], ..Pretokens::default() };
        let mut ends = Vec::new();
        for text in texts {
            ends.clear();
            if cancel.is_cancelled() {
                return Err(Error::value("text", "encoding was cancelled", ""));
            }
            let (ids, spans) = self.encode_parts(text, specials, template, Some(cancel), |end| ends.push(end))?;
            let mut number = 0;
            let mut start = 0;
            for &end in &ends {
                for i in start..end {
                    let cut = i > start && rule.as_ref().is_some_and(|rule| rule.cuts(ids[i - 1], ids[i]));
                    number += u32::from(cut);
                    all.numbers.push(number);
                }
                // A part without ids takes no number: pretokens of tokens are counted, not those of texts.
                number += u32::from(end > start);
                start = end;
            }
            all.ids.extend_from_slice(&ids);
            all.spans.extend_from_slice(&spans);
            all.offsets.push(to_i64(all.ids.len()));
        }
        Ok(all)
    }

    fn by_space(&self) -> Result<BySpace<'_>> {
        let is_suffix = |step: &Normalizer| matches!(step, Normalizer::SentencePiece(spec) if spec.escape_whitespaces && spec.treat_whitespace_as_suffix);
        let marks_ends = normalizer_steps(&self.description().normalizer).into_iter().any(is_suffix);
        Ok(BySpace { vocabulary: self.vocabulary()?, marks_ends })
    }
}

/// The pretokens of a tokenizer that makes no cuts.
struct BySpace<'v> {
    vocabulary: &'v Vocabulary,
    marks_ends: bool,
}

impl BySpace<'_> {
    /// Whether a pretoken ends between two neighbours.
    fn cuts(&self, left: TokenId, right: TokenId) -> bool {
        let last = self.vocabulary.token_bytes(left).and_then(<[u8]>::last).copied();
        let first = self.vocabulary.token_bytes(right).and_then(<[u8]>::first).copied();
        let at_space = if self.marks_ends { last == Some(b' ') } else { first == Some(b' ') };
        let is_break = |byte: Option<u8>| byte.is_some_and(|b| matches!(b, b'\t'..=b'\r'));
        at_space || is_break(last) != is_break(first)
    }
}
