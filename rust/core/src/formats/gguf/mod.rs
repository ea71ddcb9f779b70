//! Reader of the tokenizer inside GGUF files.
//!
//! Only the header and the metadata are read: `data` may be a prefix of the file that ends after them. A file that
//! carries its original `tokenizer.json` (`tokenizer.huggingface.json`) is read from that. Otherwise the keys under
//! `tokenizer.ggml.` are translated, and mean what llama.cpp makes of them:
//!
//! | `model` | described as |
//! |---|---|
//! | `llama` | SentencePiece BPE: merges from scores |
//! | `gpt2` | byte-level BPE; `pre` names the pre-tokenizer |
//! | `gemma4` | BPE over text with `▁` for spaces |
//! | `bert` | WordPiece; `▁` marks, which begin words here, become `##`, which continue them |
//! | `t5` | SentencePiece unigram |
//! | `rwkv` | greedy trie |
//!
//! Control, unknown and user-defined tokens are added tokens, as llama.cpp finds them when it parses special tokens.
//! llama.cpp applies no Unicode normal form, so none is described, even where the original tokenizer had one.

mod kv;
mod models;
mod pre;
#[cfg(test)]
mod tests;

use serde_json::json;

use crate::error::{Error, Result};
use crate::formats::sentencepiece::{PieceType, byte_of};
use crate::formats::{AddedToken, DeclaredRole, Description, PieceKind, PostProcessor, Source, tokenizer_json};
use crate::ids::TokenId;
use crate::limits::Limits;
use kv::Metadata;

/// Roles and the keys that declare them; the last three are names of old.
const ROLES: [(&str, &str); 18] = [
    ("bos", "tokenizer.ggml.bos_token_id"),
    ("eos", "tokenizer.ggml.eos_token_id"),
    ("eot", "tokenizer.ggml.eot_token_id"),
    ("eom", "tokenizer.ggml.eom_token_id"),
    ("unk", "tokenizer.ggml.unknown_token_id"),
    ("sep", "tokenizer.ggml.seperator_token_id"),
    ("pad", "tokenizer.ggml.padding_token_id"),
    ("mask", "tokenizer.ggml.mask_token_id"),
    ("cls", "tokenizer.ggml.cls_token_id"),
    ("fim_prefix", "tokenizer.ggml.fim_pre_token_id"),
    ("fim_suffix", "tokenizer.ggml.fim_suf_token_id"),
    ("fim_middle", "tokenizer.ggml.fim_mid_token_id"),
    ("fim_pad", "tokenizer.ggml.fim_pad_token_id"),
    ("fim_rep", "tokenizer.ggml.fim_rep_token_id"),
    ("fim_sep", "tokenizer.ggml.fim_sep_token_id"),
    ("fim_prefix", "tokenizer.ggml.prefix_token_id"),
    ("fim_suffix", "tokenizer.ggml.suffix_token_id"),
    ("fim_middle", "tokenizer.ggml.middle_token_id"),
];

/// The vocabulary as the file has it; ids are positions.
struct Tokens<'a> {
    /// Never empty: a token without text is called `[EMPTY_17]`, as in llama.cpp.
    texts: Vec<std::borrow::Cow<'a, str>>,
    scores: Option<Vec<f32>>,
    kinds: Vec<PieceType>,
}

/// Reads the tokenizer of a GGUF file, version 2 or 3, little endian.
///
/// O(metadata) time, and the time of [`tokenizer_json::read`] where the file carries that. `limits.file_bytes` bounds
/// the metadata, not `data`. Fails with `Format` for damaged metadata, with `Unsupported` for another version, a
/// big-endian file, and a `model` or `pre` that is not known, by its name; with `Limit` over a bound of `limits`.
pub fn read(data: &[u8], limits: &Limits) -> Result<Description> {
    let meta = Metadata::read(data, limits)?;
    let mut description = match meta.text("tokenizer.huggingface.json")? {
        Some(json) => {
            tokenizer_json::read(json.as_bytes(), limits).map_err(|e| e.in_file("tokenizer.huggingface.json"))?
        }
        None => models::describe(&meta, &Tokens::read(&meta, limits)?, limits)?,
    };
    description.source = Source::Gguf;
    description.chat_template = meta.text("tokenizer.chat_template")?.map(str::to_owned);
    let count = match meta.get("tokenizer.ggml.tokens") {
        Some(kv::Value::Array(_, count, _)) => count,
        _ => 0,
    };
    for (role, key) in ROLES {
        if let Some(id) = meta.id(key, count)?
            && !description.declared_roles.iter().any(|known| known.role == role)
        {
            description.declared_roles.push(DeclaredRole { role: role.to_owned(), id, field: key.to_owned() });
        }
    }
    Ok(description)
}

impl<'a> Tokens<'a> {
    fn read(meta: &Metadata<'a>, limits: &Limits) -> Result<Self> {
        let key = "tokenizer.ggml.tokens";
        let Some(texts) = meta.strings(key, limits.tokens, "tokens", limits)? else {
            return Err(Error::format(key, "no tokens", "is this the file that holds the tokenizer?"));
        };
        let texts: Vec<_> = texts
            .into_iter()
            .enumerate()
            .map(|(i, text)| if text.is_empty() { format!("[EMPTY_{i}]").into() } else { text.into() })
            .collect();
        let kinds = match meta.numbers("tokenizer.ggml.token_type", texts.len())? {
            None => vec![PieceType::Normal; texts.len()],
            Some(numbers) => numbers.into_iter().map(kind_of).collect(),
        };
        Ok(Self { scores: meta.numbers("tokenizer.ggml.scores", texts.len())?, texts, kinds })
    }

    fn len(&self) -> usize {
        self.texts.len()
    }

    /// The ids of some types.
    fn of(&self, wanted: &[PieceType]) -> Vec<TokenId> {
        (0u32..).zip(&self.kinds).filter(|(_, kind)| wanted.contains(kind)).map(|(id, _)| id).collect()
    }

    /// What is said about every token that is not a normal one.
    fn piece_kinds(&self) -> Vec<(TokenId, PieceKind)> {
        let kind = |i: usize| match self.kinds[i] {
            PieceType::Normal => None,
            PieceType::Unknown => Some(PieceKind::Unknown),
            PieceType::Control => Some(PieceKind::Control),
            PieceType::UserDefined => Some(PieceKind::UserDefined),
            PieceType::Unused => Some(PieceKind::Unused),
            PieceType::Byte => byte_of(&self.texts[i]).map(PieceKind::Byte),
        };
        (0u32..).zip(0..self.len()).filter_map(|(id, i)| Some((id, kind(i)?))).collect()
    }

    /// The tokens that are found in text as a whole.
    fn added(&self) -> Vec<AddedToken> {
        let added = |(id, kind): (TokenId, &PieceType)| {
            let special = matches!(kind, PieceType::Control | PieceType::Unknown);
            (special || *kind == PieceType::UserDefined)
                .then(|| AddedToken { special, ..AddedToken::special(id, self.texts[id as usize].to_string()) })
        };
        (0u32..).zip(&self.kinds).filter_map(added).collect()
    }

    /// Ids before and after a text, and the component that says so.
    fn template(&self, before: Option<TokenId>, after: Option<TokenId>) -> PostProcessor {
        if before.is_none() && after.is_none() {
            return PostProcessor::None;
        }
        let text = |id: TokenId| self.texts[id as usize].to_string();
        let special =
            |id: Option<TokenId>, n: u32| id.map(|id| json!({"SpecialToken": {"id": text(id), "type_id": n}}));
        let sequence = |name: &str, n: u32| Some(json!({"Sequence": {"id": name, "type_id": n}}));
        let parts = |parts: &[Option<serde_json::Value>]| parts.iter().flatten().cloned().collect::<Vec<_>>();
        let single = parts(&[special(before, 0), sequence("A", 0), special(after, 0)]);
        let second = parts(&[special(before, 1), sequence("B", 1), special(after, 1)]);
        let pair = [single.clone(), second].concat();
        let tokens: serde_json::Map<String, serde_json::Value> = [before, after]
            .into_iter()
            .flatten()
            .map(|id| (text(id), json!({"id": text(id), "ids": [id], "tokens": [text(id)]})))
            .collect();
        PostProcessor::Template {
            json: json!({
                "type": "TemplateProcessing",
                "single": single,
                "pair": pair,
                "special_tokens": tokens,
            }),
            before: before.into_iter().collect(),
            after: after.into_iter().collect(),
        }
    }
}

/// The type of a number of `tokenizer.ggml.token_type`; 0 and unknown ones are "undefined", which llama.cpp treats as
/// text.
fn kind_of(number: f32) -> PieceType {
    match number {
        2.0 => PieceType::Unknown,
        3.0 => PieceType::Control,
        4.0 => PieceType::UserDefined,
        5.0 => PieceType::Unused,
        6.0 => PieceType::Byte,
        _ => PieceType::Normal,
    }
}
