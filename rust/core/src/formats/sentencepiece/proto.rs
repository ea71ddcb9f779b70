//! `ModelProto` of `sentencepiece_model.proto`: the fields that decide what a model does.
//!
//! As protocol buffers have it: unknown fields are skipped, a later value of a field replaces an earlier one, and the
//! fields of a message given twice are merged.

use super::wire::{Message, Path, damaged};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// `trainer_spec.model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum ModelType {
    #[default]
    Unigram,
    Bpe,
    Word,
    Char,
}

/// `pieces[i].type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) spelling: &'a str,
    pub(super) score: f32,
    pub(super) kind: PieceType,
}

#[derive(Debug)]
pub(super) struct TrainerSpec<'a> {
    pub(super) model_type: ModelType,
    pub(super) treat_whitespace_as_suffix: bool,
    pub(super) byte_fallback: bool,
    pub(super) unk_surface: &'a str,
    /// Ids and pieces of unk, bos, eos and pad.
    pub(super) ids: [i32; 4],
    pub(super) pieces: [&'a str; 4],
}

impl Default for TrainerSpec<'_> {
    fn default() -> Self {
        Self {
            model_type: ModelType::default(),
            treat_whitespace_as_suffix: false,
            byte_fallback: false,
            unk_surface: " \u{2047} ",
            ids: [0, 1, 2, -1],
            pieces: ["<unk>", "<s>", "</s>", "<pad>"],
        }
    }
}

#[derive(Debug)]
pub(super) struct NormalizerSpec<'a> {
    pub(super) charsmap: &'a [u8],
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) escape_whitespaces: bool,
}

impl Default for NormalizerSpec<'_> {
    fn default() -> Self {
        Self { charsmap: &[], add_dummy_prefix: true, remove_extra_whitespaces: true, escape_whitespaces: true }
    }
}

#[derive(Debug, Default)]
pub(super) struct ModelProto<'a> {
    pub(super) pieces: Vec<Piece<'a>>,
    pub(super) trainer: TrainerSpec<'a>,
    pub(super) normalizer: NormalizerSpec<'a>,
    pub(super) denormalizer: NormalizerSpec<'a>,
}

impl<'a> ModelProto<'a> {
    /// Reads the message. O(data) time; borrows texts and maps from `data`.
    pub(super) fn read(data: &'a [u8], limits: &Limits) -> Result<Self> {
        let mut model = Self::default();
        let mut fields = Message::new(data, 0, Path::Model);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    let i = model.pieces.len();
                    if i == limits.tokens {
                        return Err(Error::limit("pieces", i + 1, limits.tokens, "tokens"));
                    }
                    model.pieces.push(read_piece(field.message("pieces", Path::Piece(i))?, i, limits)?);
                }
                2 => {
                    model.trainer.merge(field.message("trainer_spec", Path::Named("trainer_spec"))?)?;
                }
                3 => {
                    model.normalizer.merge(field.message("normalizer_spec", Path::Named("normalizer_spec"))?)?;
                }
                5 => {
                    let path = Path::Named("denormalizer_spec");
                    model.denormalizer.merge(field.message("denormalizer_spec", path)?)?;
                }
                _ => {}
            }
        }
        Ok(model)
    }
}

fn read_piece<'a>(mut fields: Message<'a>, i: usize, limits: &Limits) -> Result<Piece<'a>> {
    let mut piece = Piece { spelling: "", score: 0.0, kind: PieceType::Normal };
    while let Some(field) = fields.next()? {
        match field.number {
            1 => piece.spelling = field.string("piece")?,
            2 => piece.score = field.float("score")?,
            3 => {
                piece.kind = match field.int32("type")? {
                    1 => PieceType::Normal,
                    2 => PieceType::Unknown,
                    3 => PieceType::Control,
                    4 => PieceType::UserDefined,
                    5 => PieceType::Unused,
                    6 => PieceType::Byte,
                    other => {
                        return Err(Error::unsupported(
                            Path::Piece(i).field("type"),
                            format!("the unknown type {other}"),
                            "types 1 to 6 are known",
                        ));
                    }
                }
            }
            _ => {}
        }
    }
    if piece.spelling.len() > limits.token_bytes {
        let field = Path::Piece(i).field("piece");
        return Err(Error::limit(field, piece.spelling.len(), limits.token_bytes, "token_bytes"));
    }
    Ok(piece)
}

impl<'a> TrainerSpec<'a> {
    fn merge(&mut self, mut fields: Message<'a>) -> Result<()> {
        const IDS: [&str; 4] = ["unk_id", "bos_id", "eos_id", "pad_id"];
        const PIECES: [&str; 4] = ["unk_piece", "bos_piece", "eos_piece", "pad_piece"];
        while let Some(field) = fields.next()? {
            match field.number {
                3 => {
                    self.model_type = match field.int32("model_type")? {
                        1 => ModelType::Unigram,
                        2 => ModelType::Bpe,
                        3 => ModelType::Word,
                        4 => ModelType::Char,
                        other => {
                            return Err(Error::unsupported(
                                "trainer_spec.model_type",
                                format!("the unknown model type {other}"),
                                "unigram (1), bpe (2) and char (4) are supported",
                            ));
                        }
                    }
                }
                24 => self.treat_whitespace_as_suffix = field.bool("treat_whitespace_as_suffix")?,
                35 => self.byte_fallback = field.bool("byte_fallback")?,
                44 => self.unk_surface = field.string("unk_surface")?,
                n @ 40..=43 => {
                    let which = (n - 40) as usize;
                    self.ids[which] = field.int32(IDS[which])?;
                }
                n @ 45..=48 => {
                    let which = (n - 45) as usize;
                    let piece = field.string(PIECES[which])?;
                    // An empty name stands for the usual one, as in model_interface.cc.
                    self.pieces[which] = if piece.is_empty() { Self::default().pieces[which] } else { piece };
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl<'a> NormalizerSpec<'a> {
    fn merge(&mut self, mut fields: Message<'a>) -> Result<()> {
        while let Some(field) = fields.next()? {
            match field.number {
                2 => self.charsmap = field.bytes("precompiled_charsmap")?,
                3 => self.add_dummy_prefix = field.bool("add_dummy_prefix")?,
                4 => self.remove_extra_whitespaces = field.bool("remove_extra_whitespaces")?,
                5 => self.escape_whitespaces = field.bool("escape_whitespaces")?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The error of a file without pieces.
pub(super) fn no_pieces(len: usize) -> Error {
    damaged("pieces".to_owned(), "none, and the file ends", len)
}
