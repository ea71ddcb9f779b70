//! A trained tokenizer as a description: byte-level BPE that stock `tokenizer.json` components say exactly.

use crate::decode::byte_alphabet;
use crate::error::{Error, Result};
use crate::formats::{
    AddedToken, Bpe, Decoder, Description, Merge, Model, Normalizer, Pattern, PostProcessor, PreTokenizer, Source,
    Spellings, SplitBehavior, Symbols,
};
use crate::ids::TokenId;
use crate::pretoken::known::spellings::{self, DEEPSEEK_CODER, DEEPSEEK_V3, DEEPSEEK_V3_TEXT, GPT2};
use crate::pretoken::{Flavour, Known};

use super::cutter::Cuts;
use super::tokens::Tokens;

/// The pre-tokenizer of cuts: `Split`s that isolate matches, then the byte alphabet.
///
/// # Errors
/// `Unsupported` for a scanner that no pattern spells.
pub fn pre_tokenizer(cuts: &Cuts) -> Result<PreTokenizer> {
    let split = |pattern: Pattern| PreTokenizer::Split { pattern, behavior: SplitBehavior::Isolated, invert: false };
    let regex = |text: &str| split(Pattern::Regex(text.to_owned()));
    let digits = || PreTokenizer::Digits { individual_digits: true };
    let mut parts = match cuts {
        // Chunks are cut while a tokenizer is trained, and not when it encodes.
        Cuts::Whole | Cuts::Chunks(_) => Vec::new(),
        Cuts::Runs(_) => {
            let found = "merges over runs of pretokens, which only Boundless encoders keep apart from those of words";
            let fix = "use superwords=Boundless(export=\"superbpe\"), whose ids differ in part";
            return Err(Error::unsupported("superwords", found, fix));
        }
        Cuts::Pattern(pattern) => vec![split(pattern.clone())],
        Cuts::Known(Known::DigitsGpt2) => vec![digits(), regex(GPT2)],
        Cuts::Known(Known::DeepSeekV3) => DEEPSEEK_V3.into_iter().chain([DEEPSEEK_V3_TEXT]).map(regex).collect(),
        Cuts::Known(Known::DeepSeekCoder) => {
            let mut parts: Vec<_> = DEEPSEEK_CODER.into_iter().map(regex).collect();
            parts.push(digits());
            parts
        }
        Cuts::Known(known) => {
            let spelt = |flavour| spellings::all().find(|(_, of, in_)| of == known && in_.contains(&flavour));
            let oniguruma = spelt(Flavour::Oniguruma).map(|(text, ..)| Pattern::Regex(text.to_owned()));
            let fancy = || spelt(Flavour::FancyRegex).map(|(text, ..)| Pattern::FancyRegex(text.to_owned()));
            let Some(pattern) = oniguruma.or_else(fancy) else {
                return Err(Error::unsupported("pattern", format!("{known:?}, which no pattern spells"), ""));
            };
            vec![split(pattern)]
        }
    };
    // A digit splitter and GPT-2's pattern are one component in published files, and recognised as such.
    if let Cuts::Known(Known::DigitsGpt2) = cuts {
        parts.pop();
        parts.push(PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: true, trim_offsets: true });
    } else {
        parts.push(PreTokenizer::ByteLevel { add_prefix_space: false, use_regex: false, trim_offsets: true });
    }
    Ok(if parts.len() == 1 { parts.swap_remove(0) } else { PreTokenizer::Sequence(parts) })
}

/// A byte-level BPE tokenizer.
///
/// `specials` are the spellings of the first ids, which have no bytes in `tokens`. Merges stand in the order of their
/// ranks; of a pair that comes twice the last place counts.
///
/// # Errors
/// As [`pre_tokenizer`].
pub fn byte_level_bpe(
    tokens: &Tokens,
    merges: &[(TokenId, TokenId, TokenId)],
    specials: &[String],
    cuts: &Cuts,
    normalizer: Option<Normalizer>,
) -> Result<Description> {
    let mut vocab = Spellings::default();
    let mut spelling = String::new();
    for (id, token) in (0..).zip(tokens.iter()) {
        spelling.clear();
        match specials.get(id as usize) {
            Some(special) => spelling.push_str(special),
            None => spelling.extend(token.iter().map(|&byte| byte_alphabet::char_of(byte))),
        }
        vocab.push(spelling.as_bytes(), id);
    }
    let merges = (0..).zip(merges).map(|(rank, &(left, right, product))| Merge { left, right, product, rank });
    let added_tokens = (0..).zip(specials).map(|(id, content)| AddedToken::special(id, content.clone()));
    let byte_level = Decoder::ByteLevel;
    Ok(Description {
        source: Source::TokenizerJson,
        model: Model::Bpe(Bpe { vocab, merges: merges.collect(), symbols: Symbols::Chars, ..Bpe::default() }),
        piece_kinds: Vec::new(),
        added_tokens: added_tokens.collect(),
        normalizer: normalizer.unwrap_or_default(),
        pre_tokenizer: pre_tokenizer(cuts)?,
        post_processor: PostProcessor::None,
        decoder: byte_level,
        declared_roles: Vec::new(),
        chat_template: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::PATTERN_NAMES;
    use super::*;
    use crate::pretoken::recognise;

    #[test]
    fn every_named_pattern_has_components_that_are_recognised_as_it() {
        for (name, known) in PATTERN_NAMES {
            let made = pre_tokenizer(&Cuts::Known(known)).expect("a spelling");
            assert_eq!(recognise(&made), Some(known), "{name}");
        }
    }
}
