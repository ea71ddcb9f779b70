//! One function for each `tokenizer.ggml.model`.

use super::kv::Metadata;
use super::pre;
use super::{Tokens, kind_of};
use crate::error::{Error, Result};
use crate::formats::sentencepiece::{PieceTable, PieceType};
use crate::formats::table::{SpellingTable, seed_of};
use crate::formats::{
    Bpe, Decoder, Description, LeadingMark, Merge, Model, Normalizer, Pattern, PostProcessor, PreTokenizer,
    SentencePieceNormalizer, Source, Spellings, SplitBehavior, Trie, WordPiece,
};
use crate::ids::TokenId;
use crate::limits::Limits;

const MODEL: &str = "tokenizer.ggml.model";
const MERGES: &str = "tokenizer.ggml.merges";
/// What an unknown token decodes to in SentencePiece.
const UNK_SURFACE: &str = " \u{2047} ";

/// Describes the model that the metadata names.
pub(super) fn describe(meta: &Metadata<'_>, tokens: &Tokens<'_>, limits: &Limits) -> Result<Description> {
    let pre = meta.text("tokenizer.ggml.pre")?;
    match meta.text(MODEL)? {
        Some("llama") => llama(meta, tokens, limits),
        Some("gemma4") => gemma(meta, tokens, limits),
        Some("gpt2") if pre == Some("gemma4") => gemma(meta, tokens, limits),
        Some("gpt2") => gpt2(meta, tokens, pre, limits),
        Some("bert") => bert(meta, tokens),
        Some("t5") => t5(meta, tokens, limits),
        Some("rwkv") => rwkv(tokens),
        Some(other) => Err(Error::unsupported(MODEL, format!("the model {other:?}"), "use the model's tokenizer.json")),
        None => Err(Error::format(MODEL, "not there", "is this the file that holds the tokenizer?")),
    }
}

/// What every model has in common.
fn base(tokens: &Tokens<'_>, model: Model) -> Description {
    Description {
        source: Source::Gguf,
        model,
        piece_kinds: tokens.piece_kinds(),
        added_tokens: tokens.added(),
        normalizer: Normalizer::default(),
        pre_tokenizer: PreTokenizer::default(),
        post_processor: PostProcessor::None,
        decoder: Decoder::default(),
        declared_roles: Vec::new(),
        chat_template: None,
    }
}

/// Bos before and eos after a text, as the file says or by default.
fn template(
    meta: &Metadata<'_>,
    tokens: &Tokens<'_>,
    (add_bos, add_eos): (bool, bool),
    defaults: [Option<TokenId>; 2],
) -> Result<PostProcessor> {
    let one = |add: bool, name: &str, default: Option<TokenId>| -> Result<Option<TokenId>> {
        let add = meta.bool(&format!("tokenizer.ggml.add_{name}_token"))?.unwrap_or(add);
        let id = meta.id(&format!("tokenizer.ggml.{name}_token_id"), tokens.len())?;
        Ok(id.or(default.filter(|&id| (id as usize) < tokens.len())).filter(|_| add))
    };
    Ok(tokens.template(one(add_bos, "bos", defaults[0])?, one(add_eos, "eos", defaults[1])?))
}

fn pieces<'a>(tokens: &'a Tokens<'_>) -> Result<PieceTable<'a>> {
    let Some(scores) = &tokens.scores else {
        return Err(Error::format("tokenizer.ggml.scores", "no scores", "this model is defined by them"));
    };
    let byte_fallback = tokens.kinds.contains(&PieceType::Byte);
    let texts = tokens.texts.iter().map(|text| &**text).collect();
    // Some files call every special token unknown; the first is the one.
    let mut kinds = tokens.kinds.clone();
    for kind in kinds.iter_mut().filter(|kind| **kind == PieceType::Unknown).skip(1) {
        *kind = PieceType::Control;
    }
    PieceTable::new(texts, scores.clone(), kinds, byte_fallback, |i| format!("tokenizer.ggml.tokens[{i}]"))
}

fn sentencepiece_normalizer(
    meta: &Metadata<'_>,
    charsmap: &[u8],
    (prefix, extra): (bool, bool),
    keep_invalid: bool,
) -> Result<SentencePieceNormalizer> {
    Ok(SentencePieceNormalizer {
        charsmap: charsmap.to_vec(),
        add_dummy_prefix: meta.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(prefix),
        remove_extra_whitespaces: extra,
        escape_whitespaces: true,
        treat_whitespace_as_suffix: false,
        protected: Vec::new(),
        keep_invalid,
    })
}

fn sentencepiece_decoder(spec: &SentencePieceNormalizer) -> Decoder {
    let leading = match (spec.remove_extra_whitespaces, spec.add_dummy_prefix) {
        (true, _) => LeadingMark::DropUntilText,
        (false, true) => LeadingMark::DropFirst,
        (false, false) => LeadingMark::Keep,
    };
    Decoder::SentencePiece { leading, unk_surface: UNK_SURFACE.to_owned() }
}

/// SentencePiece BPE. User-defined tokens are added tokens here: llama.cpp cuts the text at them before it normalizes.
fn llama(meta: &Metadata<'_>, tokens: &Tokens<'_>, limits: &Limits) -> Result<Description> {
    let byte_fallback = tokens.kinds.contains(&PieceType::Byte);
    let mut bpe = pieces(tokens)?.bpe(byte_fallback, true, limits)?;
    bpe.never.append(&mut bpe.user_defined);
    bpe.never.sort_unstable();
    let spec = sentencepiece_normalizer(meta, &[], (true, false), byte_fallback)?;
    let mut description = base(tokens, Model::Bpe(bpe));
    description.decoder = sentencepiece_decoder(&spec);
    description.normalizer = Normalizer::SentencePiece(spec);
    description.post_processor = template(meta, tokens, (true, false), [Some(1), Some(2)])?;
    Ok(description)
}

fn t5(meta: &Metadata<'_>, tokens: &Tokens<'_>, limits: &Limits) -> Result<Description> {
    let byte_fallback = tokens.kinds.contains(&PieceType::Byte);
    let charsmap = meta.bytes("tokenizer.ggml.precompiled_charsmap")?.unwrap_or_default();
    if !charsmap.is_empty() {
        crate::normalize::charsmap::Charsmap::new(charsmap, limits)?;
    }
    let extra = meta.bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false);
    let spec = sentencepiece_normalizer(meta, charsmap, (false, extra), byte_fallback)?;
    let mut unigram = pieces(tokens)?.unigram(byte_fallback)?;
    unigram.never.append(&mut unigram.user_defined);
    unigram.never.sort_unstable();
    let mut description = base(tokens, Model::Unigram(unigram));
    description.decoder = sentencepiece_decoder(&spec);
    description.normalizer = Normalizer::SentencePiece(spec);
    description.post_processor = template(meta, tokens, (false, true), [None, Some(1)])?;
    Ok(description)
}

fn vocab(tokens: &Tokens<'_>, limits: &Limits) -> Result<(Spellings, SpellingTable)> {
    let mut vocab = Spellings::default();
    for (text, id) in tokens.texts.iter().zip(0u32..) {
        vocab.push(text.as_bytes(), id);
    }
    if vocab.bytes.len() > limits.file_bytes {
        return Err(Error::limit("tokenizer.ggml.tokens", vocab.bytes.len(), limits.file_bytes, "file_bytes"));
    }
    match SpellingTable::new(&vocab, seed_of(&vocab.bytes)) {
        Ok(table) => Ok((vocab, table)),
        Err((first, second)) => {
            let found = format!("{:?} again, after token {first}", tokens.texts[second]);
            Err(Error::format(format!("tokenizer.ggml.tokens[{second}]"), found, "no two tokens may be spelt alike"))
        }
    }
}

/// Merges of the form `left right`, cut at the first space that is not the first byte; the first of equal pairs counts.
fn merges(meta: &Metadata<'_>, vocab: &Spellings, table: &SpellingTable, limits: &Limits) -> Result<Vec<Merge>> {
    let Some(lines) = meta.strings(MERGES, limits.merges, "merges", limits)? else {
        return Err(Error::format(MERGES, "no merges", "this model is defined by them"));
    };
    let mut merges = Vec::with_capacity(lines.len());
    let mut scratch = Vec::new();
    for (line, rank) in lines.into_iter().zip(0u32..) {
        let bytes = line.as_bytes();
        let bad = |what: &str| {
            Error::format(
                format!("{MERGES}[{rank}]"),
                format!("{what} in {line:?}"),
                "a merge joins two tokens to a third",
            )
        };
        let space = bytes.iter().skip(1).position(|&b| b == b' ').map(|at| at + 1);
        let Some((left, right)) = space.map(|at| (&bytes[..at], &bytes[at + 1..])) else {
            return Err(bad("no space between two tokens"));
        };
        let id = |entry: Option<u32>, what| entry.map(|i| vocab.ids[i as usize]).ok_or_else(|| bad(what));
        merges.push(Merge {
            left: id(table.get(left, vocab), "a left side that is no token")?,
            right: id(table.get(right, vocab), "a right side that is no token")?,
            product: id(table.get_joined(left, right, &mut scratch, vocab), "a product that is no token")?,
            rank,
        });
    }
    merges.sort_unstable_by_key(|merge| (merge.left, merge.right, merge.rank));
    merges.dedup_by_key(|merge| (merge.left, merge.right));
    merges.sort_unstable_by_key(|merge| merge.rank);
    Ok(merges)
}

fn gpt2(meta: &Metadata<'_>, tokens: &Tokens<'_>, pre: Option<&str>, limits: &Limits) -> Result<Description> {
    let Some(name) = pre else {
        let found = "not there, so how the text is cut is not known";
        return Err(Error::unsupported(
            "tokenizer.ggml.pre",
            found,
            "convert the model again with a converter of today",
        ));
    };
    let pre = pre::pre(name)?;
    let (vocab, table) = vocab(tokens, limits)?;
    let merges = merges(meta, &vocab, &table, limits)?;
    let mut description = base(
        tokens,
        Model::Bpe(Bpe {
            vocab,
            merges,
            ignore_merges: pre.ignore_merges,
            never: tokens.of(&[PieceType::Control, PieceType::Unknown, PieceType::UserDefined, PieceType::Unused]),
            ..Bpe::default()
        }),
    );
    description.pre_tokenizer = pre.pre_tokenizer();
    description.decoder = Decoder::ByteLevel;
    description.post_processor = template(meta, tokens, (pre.add_bos, false), [None, None])?;
    Ok(description)
}

/// BPE over text in which spaces are `▁`, cut around runs of newlines; what has no token becomes its bytes.
fn gemma(meta: &Metadata<'_>, tokens: &Tokens<'_>, limits: &Limits) -> Result<Description> {
    let (vocab, table) = vocab(tokens, limits)?;
    let merges = merges(meta, &vocab, &table, limits)?;
    let mut description = base(
        tokens,
        Model::Bpe(Bpe {
            vocab,
            merges,
            unk: tokens.of(&[PieceType::Unknown]).first().copied(),
            fuse_unk: true,
            byte_fallback: true,
            never: tokens.of(&[PieceType::Control, PieceType::Unknown, PieceType::UserDefined, PieceType::Byte]),
            ..Bpe::default()
        }),
    );
    description.normalizer =
        Normalizer::Replace { pattern: Pattern::Literal(" ".to_owned()), content: "▁".to_owned() };
    description.pre_tokenizer = PreTokenizer::Split {
        pattern: Pattern::Regex("\\n+".to_owned()),
        behavior: SplitBehavior::Isolated,
        invert: false,
    };
    description.decoder = Decoder::Sequence(vec![
        Decoder::Replace { pattern: Pattern::Literal("▁".to_owned()), content: " ".to_owned() },
        Decoder::ByteFallback,
        Decoder::Fuse,
    ]);
    description.post_processor = template(meta, tokens, (true, false), [None, None])?;
    Ok(description)
}

/// WordPiece. The file writes `▁word` for `word` and `ing` for `##ing`; special tokens are as they were.
fn bert(meta: &Metadata<'_>, tokens: &Tokens<'_>) -> Result<Description> {
    const PREFIX: &str = "##";
    let mut vocab = Spellings::default();
    for ((text, kind), id) in tokens.texts.iter().zip(&tokens.kinds).zip(0u32..) {
        let bracketed = text.starts_with('[') && text.ends_with(']');
        let spelling = match text.strip_prefix('▁') {
            _ if *kind != PieceType::Normal => text.to_string(),
            Some(word) => word.to_owned(),
            None if bracketed => text.to_string(),
            None => format!("{PREFIX}{text}"),
        };
        vocab.push(spelling.as_bytes(), id);
    }
    if let Err((first, second)) = SpellingTable::new(&vocab, seed_of(&vocab.bytes)) {
        let found = format!("spelt like token {first}");
        return Err(Error::format(
            format!("tokenizer.ggml.tokens[{second}]"),
            found,
            "no two tokens may be spelt alike",
        ));
    }
    let id = |name: &str| meta.id(&format!("tokenizer.ggml.{name}_token_id"), tokens.len());
    let lowercase = meta.bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
    let strip_accents = meta.bool("tokenizer.ggml.normalizer.strip_accents")?;
    let unk = id("unknown")?;
    let mut description = base(
        tokens,
        Model::WordPiece(WordPiece {
            vocab,
            unk,
            continuing_subword_prefix: PREFIX.to_owned(),
            max_input_chars_per_word: 100,
        }),
    );
    description.normalizer =
        Normalizer::Bert { clean_text: true, handle_chinese_chars: true, strip_accents, lowercase };
    description.pre_tokenizer = PreTokenizer::Bert;
    description.decoder = Decoder::WordPiece { prefix: PREFIX.to_owned(), cleanup: true };
    let before = match id("cls")? {
        Some(cls) => Some(cls),
        None => id("bos")?,
    };
    description.post_processor = tokens.template(before, id("seperator")?);
    Ok(description)
}

/// A greedy trie. Tokens are written with `\t`, `\n`, `\r`, `\xNN`; another escaped character stands for itself.
fn rwkv(tokens: &Tokens<'_>) -> Result<Description> {
    let mut vocab = Spellings::default();
    let mut bytes = Vec::new();
    for ((text, kind), id) in tokens.texts.iter().zip(&tokens.kinds).zip(0u32..) {
        if *kind != kind_of(1.0) {
            continue; // special tokens are found as added tokens
        }
        bytes.clear();
        if !unescape(text.as_bytes(), &mut bytes) || bytes.is_empty() {
            let found = format!("{text:?}, whose escapes end in the middle");
            return Err(Error::format(format!("tokenizer.ggml.tokens[{id}]"), found, "escapes are \\t \\n \\r \\xNN"));
        }
        vocab.push(&bytes, id);
    }
    if let Err((first, second)) = SpellingTable::new(&vocab, seed_of(&vocab.bytes)) {
        let (first, second) = (vocab.ids[first], vocab.ids[second]);
        let found = format!("the bytes of token {first} again");
        return Err(Error::format(format!("tokenizer.ggml.tokens[{second}]"), found, "no two tokens may be alike"));
    }
    let mut description = base(tokens, Model::Trie(Trie { vocab }));
    description.decoder = Decoder::RawBytes;
    Ok(description)
}

/// Appends what `text` stands for; false when an escape is cut off or names no byte.
fn unescape(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return false };
                out.push(high << 4 | low);
                tail
            }
            (b'\\', [] | [b'x', ..]) => return false,
            (b'\\', [other, tail @ ..]) => {
                out.push(match other {
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'r' => b'\r',
                    other => *other,
                });
                tail
            }
            (byte, tail) => {
                out.push(*byte);
                tail
            }
        };
    }
    true
}
