//! From ids to bytes: by concatenation where the decoder amounts to that, else step by step.

use super::{Encoder, is_byte_level};
use crate::decode::Token;
use crate::error::{Error, Result};
use crate::formats::{Decoder, Description, Model, Pattern};
use crate::ids::TokenId;
use crate::vocab::{Kind, Vocabulary};

/// What the decoder amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joining {
    /// The tokens' bytes, one after the other.
    Concatenated,
    /// The same, less one space at the start of the text.
    WithoutFirstSpace,
    /// Something else.
    Steps,
}

impl Joining {
    pub(super) fn of(description: &Description) -> Self {
        let mut steps = Vec::new();
        flatten(&description.decoder, &mut steps);
        let replaces_mark = |step: &Decoder| matches!(step, Decoder::Replace { pattern: Pattern::Literal(from), content } if from == "▁" && content == " ");
        match steps.as_slice() {
            [Decoder::ByteLevel] if spells_bytes(description) => Self::Concatenated,
            [Decoder::RawBytes] => Self::Concatenated,
            [replace, Decoder::ByteFallback, Decoder::Fuse] if replaces_mark(replace) && spells_marks(description) => {
                Self::Concatenated
            }
            [replace, Decoder::ByteFallback, Decoder::Fuse, Decoder::Strip { content: ' ', start: 1, stop: 0 }]
                if replaces_mark(replace) && spells_marks(description) =>
            {
                Self::WithoutFirstSpace
            }
            _ => Self::Steps,
        }
    }
}

/// Whether the vocabulary reads a token's bytes off the byte alphabet and from nothing else, as the decoder does.
fn spells_bytes(description: &Description) -> bool {
    let is_plain = match &description.model {
        Model::Bpe(model) => model.end_of_word_suffix.is_empty() && !model.byte_fallback,
        Model::Unigram(model) => !model.byte_fallback,
        Model::WordLevel(_) => true,
        Model::WordPiece(_) | Model::Trie(_) => false,
    };
    is_plain && is_byte_level(description)
}

/// Whether the vocabulary reads `▁` as a space and `<0xNN>` as a byte, as the decoder does.
fn spells_marks(description: &Description) -> bool {
    let falls_back = match &description.model {
        Model::Bpe(model) => model.end_of_word_suffix.is_empty() && model.byte_fallback,
        Model::Unigram(model) => model.byte_fallback,
        Model::WordPiece(_) | Model::WordLevel(_) | Model::Trie(_) => false,
    };
    falls_back && !is_byte_level(description)
}

fn flatten<'d>(decoder: &'d Decoder, out: &mut Vec<&'d Decoder>) {
    match decoder {
        Decoder::Sequence(parts) => parts.iter().for_each(|part| flatten(part, out)),
        part => out.push(part),
    }
}

impl Encoder {
    /// The bytes that ids stand for, as the original's decoder joins them, without replacing invalid UTF-8.
    ///
    /// An added token is its content, whatever the decoder makes of its characters; where the normalizer changes the
    /// content it is searched by, it is what the decoder makes of that, as in `tokenizers` since 0.23. A special one is
    /// left out by `skip_special` all the same. O(total bytes).
    ///
    /// # Errors
    /// `Value` for an id that no token has.
    pub fn decode(&self, ids: &[TokenId], skip_special: bool) -> Result<Vec<u8>> {
        let vocabulary = self.vocabulary()?;
        let absent = |at: usize, id: TokenId| {
            let found = format!("ids[{at}] = {id} is no token of this vocabulary of {}", vocabulary.len());
            Error::value("ids", found, "leave padded and unused ids out")
        };
        let skips = |id: TokenId| skip_special && vocabulary.kind(id) == Kind::Control;
        if self.joining == Joining::Steps {
            let mut tokens = Vec::with_capacity(ids.len());
            for (at, &id) in ids.iter().enumerate() {
                let spelling = vocabulary.spelling(id).ok_or_else(|| absent(at, id))?;
                let spelling = self.respelt(id).unwrap_or(spelling);
                if !skips(id) {
                    let kinds = &self.description.piece_kinds;
                    let kind = kinds.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| kinds[at].1);
                    tokens.push(Token { spelling, kind });
                }
            }
            return self.decoder.decode(tokens);
        }
        let mut out = Vec::with_capacity(ids.len() * 4);
        for (at, &id) in ids.iter().enumerate() {
            let bytes = vocabulary.decoded(id).ok_or_else(|| absent(at, id))?;
            if skips(id) {
                continue;
            }
            match self.respelt(id) {
                Some(spelling) => out.extend_from_slice(&self.decoder.token_bytes(spelling)?),
                None => out.extend_from_slice(bytes),
            }
        }
        if self.joining == Joining::WithoutFirstSpace && out.first() == Some(&b' ') {
            out.remove(0);
        }
        Ok(out)
    }

    /// The normalized content of an added token, where that is another.
    fn respelt(&self, id: TokenId) -> Option<&[u8]> {
        let at = self.respelt.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.respelt[at].1)
    }

    /// Every id's bytes and kind; built when first asked for.
    ///
    /// # Errors
    /// `Limit` when an id is over the bound.
    pub fn vocabulary(&self) -> Result<&std::sync::Arc<Vocabulary>> {
        if let Some(vocabulary) = self.vocabulary.get() {
            return Ok(vocabulary);
        }
        let made = std::sync::Arc::new(Vocabulary::new(&self.description, &self.limits)?);
        Ok(self.vocabulary.get_or_init(|| made))
    }
}
