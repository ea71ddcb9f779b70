//! Reader of SentencePiece `.model` files.
//!
//! The file is a protocol-buffer message. [`read`] checks it as SentencePiece 0.2.3 does when it loads a model, and
//! describes what the model does to a text: its own normalizer, no pre-tokenizer, then BPE (merges derived from
//! scores), unigram or characters.

mod pieces;
mod proto;
#[cfg(test)]
mod reference;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

pub(crate) use pieces::{PieceTable, byte_of};
pub(crate) use proto::PieceType;

use crate::error::{Error, Result};
use crate::formats::{
    DeclaredRole, Decoder, Description, LeadingMark, Model, Normalizer, PostProcessor, PreTokenizer,
    SentencePieceNormalizer, Source,
};
use crate::limits::Limits;
use crate::normalize::charsmap::Charsmap;
use proto::{ModelProto, ModelType, NormalizerSpec, TrainerSpec};

/// Reads a SentencePiece model.
///
/// Control pieces (`<s>`) are never found in text, as in SentencePiece; there are no added tokens, and nothing is put
/// around a text. A model with all byte pieces keeps bytes outside UTF-8 and so decodes to what it was given;
/// SentencePiece itself turns each into U+FFFD.
///
/// O(data · log pieces) time. Fails with a [`crate::ErrorKind::Format`] error that names the field and the place in
/// the file when it is damaged; with `Unsupported` for the model type "word", a denormalizer, and the two cases of
/// [`crate::formats::Bpe::undone`] and of characters without a piece; with `Limit` over a bound of `limits`.
pub fn read(data: &[u8], limits: &Limits) -> Result<Description> {
    if data.len() > limits.file_bytes {
        return Err(Error::limit("file", data.len(), limits.file_bytes, "file_bytes"));
    }
    let proto = ModelProto::read(data, limits)?;
    if proto.pieces.is_empty() {
        return Err(proto::no_pieces(data.len()));
    }
    if !proto.denormalizer.charsmap.is_empty() {
        return Err(Error::unsupported(
            "denormalizer_spec.precompiled_charsmap",
            "a character map for decoding",
            "train the model without a denormalizer",
        ));
    }
    let trainer = &proto.trainer;
    let table = PieceTable::new(
        proto.pieces.iter().map(|piece| piece.spelling).collect(),
        proto.pieces.iter().map(|piece| piece.score).collect(),
        proto.pieces.iter().map(|piece| piece.kind).collect(),
        trainer.byte_fallback,
        |i| format!("pieces[{i}]"),
    )?;
    if !trainer.byte_fallback {
        if let Some(id) = table.of_kind(PieceType::Byte).first() {
            let found = "a byte piece although trainer_spec.byte_fallback is false";
            return Err(Error::format(format!("pieces[{id}]"), found, "set byte_fallback"));
        }
        if table.of_kind(PieceType::Unknown).is_empty() {
            return Err(Error::format("pieces", "no unknown piece", "one piece has the type unknown"));
        }
    }
    let model = match trainer.model_type {
        ModelType::Bpe => Model::Bpe(table.bpe(trainer.byte_fallback, true, limits)?),
        ModelType::Char => Model::Bpe(table.bpe(trainer.byte_fallback, false, limits)?),
        ModelType::Unigram => Model::Unigram(table.unigram(trainer.byte_fallback)?),
        ModelType::Word => {
            return Err(Error::unsupported(
                "trainer_spec.model_type",
                "the model type \"word\"",
                "unigram, bpe and char models are supported",
            ));
        }
    };
    Ok(Description {
        source: Source::SentencePiece,
        model,
        piece_kinds: table.piece_kinds(),
        added_tokens: Vec::new(),
        normalizer: Normalizer::SentencePiece(normalizer(&proto, &table, limits)?),
        pre_tokenizer: PreTokenizer::default(),
        post_processor: PostProcessor::None,
        decoder: decoder(&proto.normalizer, trainer.unk_surface),
        declared_roles: roles(trainer, &table),
        chat_template: None,
    })
}

fn normalizer(proto: &ModelProto<'_>, table: &PieceTable<'_>, limits: &Limits) -> Result<SentencePieceNormalizer> {
    let spec = &proto.normalizer;
    if !spec.charsmap.is_empty() {
        Charsmap::new(spec.charsmap, limits)?;
    }
    Ok(SentencePieceNormalizer {
        charsmap: spec.charsmap.to_vec(),
        add_dummy_prefix: spec.add_dummy_prefix,
        remove_extra_whitespaces: spec.remove_extra_whitespaces,
        escape_whitespaces: spec.escape_whitespaces,
        treat_whitespace_as_suffix: proto.trainer.treat_whitespace_as_suffix,
        protected: table.user_defined(),
        keep_invalid: proto.trainer.byte_fallback, // then all 256 byte pieces are there: checked by PieceTable::new
    })
}

fn decoder(spec: &NormalizerSpec<'_>, unk_surface: &str) -> Decoder {
    let leading = match (spec.remove_extra_whitespaces, spec.add_dummy_prefix) {
        (true, _) => LeadingMark::DropUntilText,
        (false, true) => LeadingMark::DropFirst,
        (false, false) => LeadingMark::Keep,
    };
    Decoder::SentencePiece { leading, unk_surface: unk_surface.to_owned() }
}

/// The roles as SentencePiece answers for them: by the name of the piece, which must have the right type.
fn roles(trainer: &TrainerSpec<'_>, table: &PieceTable<'_>) -> Vec<DeclaredRole> {
    const ROLES: [&str; 4] = ["unk", "bos", "eos", "pad"];
    let role = |which: usize| {
        let wanted = if which == 0 { PieceType::Unknown } else { PieceType::Control };
        let (id, kind) = table.find(trainer.pieces[which])?;
        let declared = i64::from(trainer.ids[which]) == i64::from(id);
        (kind == wanted).then(|| DeclaredRole {
            role: ROLES[which].to_owned(),
            id,
            field: format!("trainer_spec.{}_{}", ROLES[which], if declared { "id" } else { "piece" }),
        })
    };
    (0..ROLES.len()).filter_map(role).collect()
}
