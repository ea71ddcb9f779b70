//! More tokens for a tokenizer that exists: its ids and merges stay as they are, in order, and new ones follow.
//!
//! Pretokens are encoded with the merges there are, and learning goes on from there; wherever a new merge brings up a
//! pair that merged before, that merge is carried out, as the encoder will. What could not go on exactly is refused by
//! name.

use super::cutter::{Cuts, PATTERN_NAMES};
use super::merge::{Merges, Options, Progress, Trainer};
use super::tokens::Tokens;
use super::veto::Veto;
use super::words::{WordsView, reserved_bytes};
use crate::bpe::{BpeEngine, BpeInput, BpeScratch, byte_token_value};
use crate::decode::byte_alphabet;
use crate::error::{Error, Result};
use crate::formats::{Bpe, Description, Merge, Model, Normalizer, Pattern, PreTokenizer, SplitBehavior, Symbols};
use crate::ids::TokenId;
use crate::pipeline::{Cancel, is_byte_level, is_marked, normalizer_steps, pre_tokenizer_steps};
use crate::pretoken::recognise;

/// Pretokens between two looks at the flag that cancels.
const CANCEL_EVERY: usize = 1 << 12;

/// Bounds on what is learnt.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// How many tokens are added.
    pub tokens: usize,
    /// Pairs that occur less often are not merged.
    pub min_frequency: u64,
    /// The longest token, in bytes.
    pub max_length: super::MaxLength,
}

fn refuse<T>(field: &str, found: &str, fix: &str) -> Result<T> {
    Err(Error::unsupported(field, found, fix))
}

/// How a vocabulary that can be extended spells its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// As raw bytes (tiktoken).
    Raw,
    /// In GPT-2's byte alphabet.
    Alphabet,
    /// As characters, a space as `▁`; what is no character of it is written with `<0xNN>` (SentencePiece).
    Marked,
}

/// Cuts for a tokenizer that makes none: a word begins at a space, as SentencePiece has it, and runs of spaces and of
/// other white space stand alone. They decide what is learnt, not what the result makes of a text.
const WORDS: &str = r" ?[^ \t\n\r]+| +(?![^ \t\n\r])| +|[\t\n\r]+";

/// The model, if it is one that can be extended, and how it spells.
fn growing_bpe(description: &Description) -> Result<(&Bpe, Spelling)> {
    const FIX: &str = "a byte-level BPE (GPT-2, Llama 3, Qwen, o200k, ...) and a BPE with byte fallback (Llama 2, \
                       Mistral, Gemma, ...) can be extended";
    let bpe = match &description.model {
        Model::Bpe(bpe) => bpe,
        Model::Unigram(_) => return refuse("model", "a Unigram model, which has scores and no merges", FIX),
        Model::WordPiece(_) => return refuse("model", "a WordPiece model, which has no merges", FIX),
        Model::WordLevel(_) => return refuse("model", "a WordLevel model, which has no merges", FIX),
        Model::Trie(_) => return refuse("model", "a greedy trie, which has no merges", FIX),
    };
    if !bpe.continuing_subword_prefix.is_empty() || !bpe.end_of_word_suffix.is_empty() {
        return refuse("model", "a continuing prefix or an end-of-word suffix, which merges drop", FIX);
    }
    if !(bpe.user_defined.is_empty() && bpe.never.is_empty() && bpe.undone.is_empty()) {
        return refuse("model", "SentencePiece symbols that do not merge", FIX);
    }
    let spelling = match bpe.symbols {
        Symbols::RawBytes => Spelling::Raw,
        Symbols::Chars if is_byte_level(description) => Spelling::Alphabet,
        Symbols::Chars if bpe.byte_fallback && is_marked(description) => Spelling::Marked,
        Symbols::Chars => return refuse("model", "a BPE of characters, whose text loses what has no symbol", FIX),
    };
    if bpe.byte_fallback && spelling != Spelling::Marked {
        return refuse("model", "byte fallback in a model whose symbols are bytes", FIX);
    }
    Ok((bpe, spelling))
}

/// How training cuts texts as the tokenizer does: a pattern in the words of [`Cuts::named`], and a normalizer's name.
///
/// # Errors
/// `Unsupported` for a model that cannot be extended, and for steps before it that training cannot carry out.
pub fn cuts_of(description: &Description) -> Result<(String, Option<String>)> {
    let (_, spelling) = growing_bpe(description)?;
    if spelling == Spelling::Marked {
        return Ok((WORDS.to_owned(), None)); // words are encoded as they stand: see `extend`
    }
    let normalizer = match normalizer_steps(&description.normalizer).as_slice() {
        [] => None,
        [Normalizer::Nfc] => Some("nfc"),
        [Normalizer::Nfd] => Some("nfd"),
        [Normalizer::Nfkc] => Some("nfkc"),
        [Normalizer::Nfkd] => Some("nfkd"),
        [Normalizer::Lowercase] => Some("lowercase"),
        _ => return refuse("normalizer", "a normalizer that training does not know", "count and train anew"),
    };
    let pattern = match recognise(&description.pre_tokenizer) {
        Some(known) => PATTERN_NAMES.iter().find(|(_, named)| *named == known).map(|(name, _)| (*name).to_owned()),
        None => match pre_tokenizer_steps(&description.pre_tokenizer).as_slice() {
            [] | [PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: false, .. }] => Some("none".to_owned()),
            [
                PreTokenizer::Split { pattern: Pattern::Regex(text), behavior: SplitBehavior::Isolated, invert: false },
                PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: false, .. },
            ] => Some(text.clone()),
            _ => None,
        },
    };
    match pattern {
        // A word of letters would be taken for a name.
        Some(pattern) if Cuts::named(&pattern).is_ok() => Ok((pattern, normalizer.map(str::to_owned))),
        _ => refuse(
            "pre_tokenizer",
            "cuts that training does not know",
            "one pattern with behaviour `Isolated` and no prefix space, or those of a published model, can be extended",
        ),
    }
}

/// The bytes of every id; special and other added tokens, and ids that are none, are empty.
///
/// A token with a mark has a space in its place. `<0xNN>` and the unknown token are empty, too: they arise from no merge.
fn tokens_of(description: &Description, bpe: &Bpe, spelling: Spelling) -> Result<Tokens> {
    let added = description.added_tokens.iter().map(|token| token.id);
    let ids = bpe.vocab.ids.iter().copied().chain(added.clone());
    let size = ids.max().map_or(0, |id| id as usize + 1);
    let mut bytes: Vec<Vec<u8>> = vec![Vec::new(); size];
    let mut fallback = 0;
    for (spelt, id) in bpe.vocab.iter() {
        let token = &mut bytes[id as usize];
        match spelling {
            Spelling::Raw => token.extend_from_slice(spelt),
            Spelling::Alphabet => {
                if byte_alphabet::decode_into(spelt, token).is_none() {
                    token.clear(); // a spelling outside the alphabet never arises from text
                }
            }
            Spelling::Marked if byte_token_value(spelt).is_some() => fallback += 1,
            Spelling::Marked if Some(id) == bpe.unk => {}
            Spelling::Marked => *token = unmarked(spelt),
        }
    }
    if spelling == Spelling::Marked && fallback < 256 {
        return refuse(
            "model.vocab",
            &format!("{fallback} of 256 tokens for bytes, so that some texts lose bytes"),
            "a vocabulary with <0x00> to <0xFF> can be extended",
        );
    }
    for id in added {
        bytes[id as usize].clear();
    }
    let mut tokens = Tokens::new();
    for token in bytes {
        tokens.push(&token)?;
    }
    if spelling == Spelling::Marked {
        return Ok(tokens);
    }
    // Many published vocabularies lack what no character that is assigned begins with: C0 and C1, F1 and above (but
    // for private use).
    match (0..=0xF0).find(|byte| !matches!(byte, 0xC0 | 0xC1) && tokens.id_of(&[*byte]).is_none()) {
        None => Ok(tokens),
        Some(byte) => refuse(
            "model.vocab",
            &format!("no token for the byte {byte:#04x}, so that some texts lose bytes"),
            "a vocabulary with the bytes of all characters can be extended",
        ),
    }
}

/// A spelling with spaces for its marks. Text with `▁` in it is read like text with spaces, so none is mistaken.
fn unmarked(spelt: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(spelt).replace('▁', " ").into_bytes()
}

/// The bytes that no merge may make: those of the spellings that stand for something else.
fn reserved(description: &Description, bpe: &Bpe, spelling: Spelling) -> Vec<Vec<u8>> {
    let added = description.added_tokens.iter().map(|token| token.content.clone());
    if spelling != Spelling::Marked {
        return reserved_bytes(&added.collect::<Vec<_>>());
    }
    let aside = |(spelt, id): &(&[u8], TokenId)| byte_token_value(spelt).is_some() || Some(*id) == bpe.unk;
    let spelt = bpe.vocab.iter().filter(aside).map(|(spelt, _)| unmarked(spelt));
    added.map(|content| unmarked(content.as_bytes())).chain(spelt).collect()
}

/// Learns tokens beyond those of `description` from pretokens that were cut as [`cuts_of`] says.
///
/// The first of the new ids is the smallest above all there are. A merge may also make a token that exists, in another
/// way. One pass of encoding over the pretokens, then as [`Trainer::train`]. A character that only `<0xNN>` can write
/// ends what merges around it.
///
/// # Errors
/// `Unsupported` as [`cuts_of`]; those of [`Trainer::train`].
pub fn extend(
    description: &Description,
    words: WordsView<'_>,
    growth: Growth,
    veto: Option<&Veto>,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Merges> {
    let (bpe, spelling) = growing_bpe(description)?;
    let tokens = tokens_of(description, bpe, spelling)?;
    let mut ranked: Vec<&Merge> = bpe.merges.iter().collect();
    ranked.sort_by_key(|merge| (merge.rank, merge.product, merge.left, merge.right));
    // A merge of a token that is added, or of a spelling outside the alphabet, has nothing to act on.
    let joins = |merge: &&&Merge| {
        let [left, right, product] = [merge.left, merge.right, merge.product].map(|id| tokens.get(id));
        !left.is_empty() && !right.is_empty() && product.strip_prefix(left) == Some(right)
    };
    let inherited = ranked.iter().filter(joins).map(|merge| (merge.left, merge.right, merge.product)).collect();
    let options = Options {
        vocab_size: tokens.len().saturating_add(growth.tokens),
        min_frequency: growth.min_frequency,
        max_length: growth.max_length,
        reserved: reserved(description, bpe, spelling),
        inherited,
        ..Options::default()
    };
    let marked = spelling == Spelling::Marked;
    let spelt: Vec<bool> = (0..=u8::MAX).map(|byte| marked || tokens.id_of(&[byte]).is_some()).collect();
    let apart: Vec<bool> = tokens.iter().map(<[u8]>::is_empty).collect();
    let input = BpeInput { byte_level: spelling == Spelling::Alphabet, space_is: marked.then_some('▁') };
    let engine = BpeEngine::new(bpe, input)?;
    let mut scratch = BpeScratch::default();
    let mut trainer = Trainer::new(tokens);
    let mut ids: Vec<TokenId> = Vec::new();
    for (number, (word, count)) in words.iter().enumerate() {
        if number % CANCEL_EVERY == 0 && cancel.is_cancelled() {
            break; // training ends at once then, and says so
        }
        if word.iter().any(|&byte| !spelt[usize::from(byte)]) {
            continue; // the encoder would lose that byte, and merge what stands around it
        }
        ids.clear();
        engine.encode(word, &mut scratch, &mut ids);
        for run in ids.split(|&id| apart[id as usize]).filter(|run| !run.is_empty()) {
            trainer.push(run.iter().copied(), count)?;
        }
    }
    trainer.train(&options, veto, cancel, progress)
}

/// `description` with the new tokens and merges of [`extend`] at the end.
///
/// # Errors
/// As [`cuts_of`].
pub fn extended(
    description: &Description,
    tokens: &Tokens,
    merges: &[(TokenId, TokenId, TokenId)],
) -> Result<Description> {
    let (bpe, spelling) = growing_bpe(description)?;
    let old = tokens_of(description, bpe, spelling)?.len();
    let mut description = description.clone();
    let Model::Bpe(bpe) = &mut description.model else { return refuse("model", "no BPE", "") };
    let mut written = String::new();
    for id in old..tokens.len() {
        let id = TokenId::try_from(id).expect("ids are below 2^31");
        written.clear();
        match spelling {
            Spelling::Raw => bpe.vocab.push(tokens.get(id), id),
            Spelling::Alphabet => {
                written.extend(tokens.get(id).iter().map(|&byte| byte_alphabet::char_of(byte)));
                bpe.vocab.push(written.as_bytes(), id);
            }
            Spelling::Marked => {
                written.push_str(&String::from_utf8_lossy(tokens.get(id)).replace(' ', "▁"));
                bpe.vocab.push(written.as_bytes(), id);
            }
        }
    }
    let mut rank = bpe.merges.iter().map(|merge| merge.rank).max().map_or(0, |last| last.saturating_add(1));
    for &(left, right, product) in merges {
        bpe.merges.push(Merge { left, right, product, rank });
        rank = rank.saturating_add(1);
    }
    Ok(description)
}
