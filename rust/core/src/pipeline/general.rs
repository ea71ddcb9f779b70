//! The long way: step by step, with or without alignment; and the reference that goes it with reference engines.

use std::sync::Arc;

use super::added::{Added, Part};
use super::engine::{Cancel, Engine, Scratch, Sink};
use super::{Encoder, MAX_TEXT, Specials, Template, to_i64};
use crate::error::{Error, Result};
use crate::formats::Model;
use crate::ids::TokenId;
use crate::normalize::{Aligned, View};
use crate::{trie, unigram, wordlevel, wordpiece};

/// Ids and where each lies in the text: id `i` at `offsets[2 i]..offsets[2 i + 1]`, in bytes.
pub type WithOffsets = (Vec<TokenId>, Vec<i64>);

/// What [`Encoder::walk`] comes by.
enum Walked<'a> {
    Piece(View<'a>),
    Token(TokenId, View<'a>),
}

fn cancelled() -> Error {
    Error::value("text", "encoding was cancelled", "")
}

type Each<'f> = dyn FnMut(Walked<'_>) -> Result<()> + 'f;

fn parts_of(added: &Added, text: &[u8], specials: Specials) -> Vec<Part> {
    let mut parts = Vec::new();
    let done: std::result::Result<(), std::convert::Infallible> = added.split(text, specials, |part| {
        parts.push(part);
        Ok(())
    });
    match done {
        Ok(()) => parts,
    }
}

impl Encoder {
    pub(super) fn encode_tree(
        &self,
        text: &[u8],
        first: bool,
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) -> Result<()> {
        self.tree.for_each(View::plain(text, first), &mut |piece| {
            if scratch.is_cancelled() {
                return Err(cancelled());
            }
            self.encode_piece(piece.bytes(), scratch, sink);
            Ok(())
        })
    }

    /// One pretoken, cut where no merge can bridge.
    fn encode_piece(&self, piece: &[u8], scratch: &mut Scratch, sink: &mut impl Sink) {
        let mut at = 0;
        while at < piece.len() {
            let end = self.engine.next_cut(piece, at);
            self.engine.piece(piece, at, end, scratch, sink);
            at = end;
        }
    }

    /// A text between raw added tokens, with alignment.
    pub(super) fn encode_aligned(
        &self,
        text: &[u8],
        specials: Specials,
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) -> Result<()> {
        self.walk_text(Aligned::from_text(text).view(), specials, &mut |walked| {
            match walked {
                Walked::Piece(piece) => self.encode_piece(piece.bytes(), scratch, sink),
                Walked::Token(id, _) => sink.push(id),
            }
            Ok(())
        })
    }

    fn walk_text(&self, raw: View<'_>, specials: Specials, each: &mut Each<'_>) -> Result<()> {
        let normalized = self.normalizer.apply_aligned(Aligned::from(raw))?;
        let view = normalized.view();
        let pretokens =
            |view: View<'_>, each: &mut Each<'_>| self.tree.for_each(view, &mut |piece| each(Walked::Piece(piece)));
        match &self.normalized_added {
            // A slice, even of the whole: it starts where its first byte came from, which a normalizer may have moved.
            None => pretokens(view.slice(0..view.bytes().len()), each),
            Some(added) => parts_of(added, view.bytes(), specials).into_iter().try_for_each(|part| match part {
                Part::Text(start, end) => pretokens(view.slice(start..end), each),
                Part::Token(id, start, end) => each(Walked::Token(id, view.slice(start..end))),
            }),
        }
    }

    /// Calls `each` with the parts of the text: ids of added tokens, and aligned pretokens between them.
    fn walk(&self, text: &[u8], specials: Specials, each: &mut Each<'_>) -> Result<()> {
        if text.len() > MAX_TEXT {
            return Err(Error::value("text", format!("{} bytes", text.len()), "cut it into texts below 4 GiB"));
        }
        let whole = Aligned::from_text(text);
        let view = whole.view();
        match &self.raw_added {
            None => self.walk_text(view, specials, each),
            Some(added) => parts_of(added, text, specials).into_iter().try_for_each(|part| match part {
                Part::Text(start, end) => self.walk_text(view.slice(start..end), specials, each),
                Part::Token(id, start, end) => each(Walked::Token(id, view.slice(start..end))),
            }),
        }
    }

    /// The ids of a text and where each lies in it, in bytes.
    ///
    /// Where the pipeline leaves the text as it is, a token's range holds exactly its bytes, also inside a character.
    /// Where it changed the text, a range spans the whole characters that the token came from. The ids of the template
    /// have empty ranges at the ends of the text.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_with_offsets(
        &self,
        text: &[u8],
        specials: Specials,
        template: Template,
        cancel: Option<&Arc<Cancel>>,
    ) -> Result<WithOffsets> {
        self.encode_parts(text, specials, template, cancel, |_| ())
    }

    /// [`Encoder::encode_with_offsets`], which also says how many ids there are after each part of the text: after
    /// each id of the template, each added token and each pretoken.
    pub(super) fn encode_parts(
        &self,
        text: &[u8],
        specials: Specials,
        template: Template,
        cancel: Option<&Arc<Cancel>>,
        mut part_ends: impl FnMut(usize),
    ) -> Result<WithOffsets> {
        let mut scratch = self.pool.take();
        scratch.cancel = cancel.cloned();
        let (mut ids, mut offsets, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        if template == Template::With {
            ids.extend_from_slice(&self.before);
            offsets.resize(2 * ids.len(), 0);
            (1..=ids.len()).for_each(&mut part_ends);
        }
        let done = self.walk(text, specials, &mut |walked| {
            if scratch.is_cancelled() {
                return Err(cancelled());
            }
            match walked {
                Walked::Token(id, view) => {
                    let origin =
                        view.origin(0..view.bytes().len()).unwrap_or(crate::normalize::Span { start: 0, end: 0 });
                    ids.push(id);
                    offsets.extend([i64::from(origin.start), i64::from(origin.end)]);
                }
                Walked::Piece(piece) => {
                    spans.clear();
                    let bytes = piece.bytes();
                    // The short way's engine knows both spellings of a space, so the steps' `▁` will do.
                    self.engine.encode_with_spans(bytes, &mut scratch, &mut ids, &mut spans);
                    for &(start, end) in &spans {
                        let (start, end) = match piece.unchanged_at() {
                            Some(base) => (base + start, base + end),
                            None => {
                                let range = start as usize..end as usize;
                                let origin = piece.origin(range).unwrap_or(crate::normalize::Span { start: 0, end: 0 });
                                (origin.start, origin.end)
                            }
                        };
                        offsets.extend([i64::from(start), i64::from(end)]);
                    }
                }
            }
            part_ends(ids.len());
            Ok(())
        });
        self.pool.give(scratch);
        done?;
        if template == Template::With {
            (1..=self.after.len()).for_each(|n| part_ends(ids.len() + n));
            ids.extend_from_slice(&self.after);
            offsets.resize(2 * ids.len(), to_i64(text.len()));
        }
        Ok((ids, offsets))
    }

    /// The ids of a text by the definitions: every step of the description, reference engines, no cuts, no cache.
    ///
    /// O(n²) in the longest pretoken. What [`Encoder::encode`] is judged by.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_reference(&self, text: &[u8], specials: Specials) -> Result<Vec<TokenId>> {
        let mut ids = Vec::new();
        self.walk(text, specials, &mut |walked| {
            match walked {
                Walked::Token(id, _) => ids.push(id),
                Walked::Piece(piece) => self.reference_piece(piece.bytes(), &mut ids),
            }
            Ok(())
        })?;
        Ok(ids)
    }

    fn reference_piece(&self, piece: &[u8], ids: &mut Vec<TokenId>) {
        let pairs = match (&self.engine, &self.description.model) {
            (Engine::Bpe(engine), _) => return ids.extend(engine.encode_reference(piece)),
            (_, Model::Unigram(model)) => unigram::reference::encode(model, piece),
            (_, Model::WordPiece(model)) => wordpiece::reference::encode(model, piece),
            (_, Model::Trie(model)) => trie::reference::encode(model, piece),
            (Engine::WordLevel(engine), _) => return engine.encode(piece, &mut wordlevel::Scratch, ids),
            _ => return,
        };
        ids.extend(pairs.into_iter().map(|(id, _)| id));
    }

    /// The text as the normalizer leaves it; added tokens are not looked for.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn normalize(&self, text: &[u8]) -> Result<Vec<u8>> {
        Ok(self.normalizer.apply(text)?.into_owned())
    }

    /// The pretokens of a text; an added token is a piece of its own.
    ///
    /// In byte-level tokenizers they are raw bytes, elsewhere they are written as the vocabulary is (`▁the`).
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn pretokenize(&self, text: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut pieces = Vec::new();
        self.walk(text, Specials::Parse, &mut |walked| {
            let (Walked::Piece(view) | Walked::Token(_, view)) = walked;
            pieces.push(view.bytes().to_vec());
            Ok(())
        })?;
        Ok(pieces)
    }
}
