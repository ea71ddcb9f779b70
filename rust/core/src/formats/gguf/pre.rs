//! The names of `tokenizer.ggml.pre`: how the text of a byte-level BPE model is cut.
//!
//! A name stands for the tokenizer of a published model. The pattern is that model's own where llama.cpp cites it and
//! llama.cpp's otherwise; they differ in `(?i:'s)`, which also matches U+017F, and in the letters of o200k, which
//! llama.cpp approximates by ASCII case. Like llama.cpp, and unlike some of those models, nothing is normalized.

use crate::error::{Error, Result};
use crate::formats::{Pattern, PreTokenizer, SplitBehavior};
use crate::pretoken::known::spellings::{
    BLOOM, CL100K, DEEPSEEK_CODER, DEEPSEEK_V3, DEEPSEEK_V3_TEXT, GPT2, O200K, QWEN2, QWEN35, TEKKEN,
};

/// How one name cuts.
pub(super) struct Pre {
    /// One after the other; matches and what lies between them are pieces.
    patterns: &'static [&'static str],
    /// Whether a piece that is a token is emitted without merging.
    pub(super) ignore_merges: bool,
    /// Whether a text begins with the bos token where the file does not say.
    pub(super) add_bos: bool,
}

const DEEPSEEK_LLM_LETTERS: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// The pre-tokenizer of a name. Unknown names are refused by name.
pub(super) fn pre(name: &str) -> Result<Pre> {
    let (patterns, ignore_merges): (&'static [&'static str], bool) = match name {
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de" | "a.x-4.0" | "mellum"
        | "modern-bert" | "jina-v1-en" | "jina-v2-code" | "roberta-bpe" | "mpt" | "olmo" | "jais" | "trillion"
        | "granite-docling" | "exaone4" => (&[GPT2], false),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" | "glm4" | "glm5" => (&[CL100K], true),
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => (&[CL100K], false),
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "stablelm2" | "hunyuan" | "solar-open" | "megrez"
        | "grok-2" => (&[QWEN2], false),
        "qwen35" => (&[QWEN35], false),
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            (&[DIGIT, GPT2], false)
        }
        "deepseek-llm" => (
            &["[\r\n]", DEEPSEEK_LLM_LETTERS, "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", DEEPSEEK_CODER[3], r"\p{N}+"],
            false,
        ),
        "deepseek-coder" => {
            (&[DEEPSEEK_CODER[0], DEEPSEEK_CODER[1], DEEPSEEK_CODER[2], DEEPSEEK_CODER[3], DIGIT], false)
        }
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => {
            (&[DEEPSEEK_V3[0], DEEPSEEK_V3[1], DEEPSEEK_V3_TEXT], false)
        }
        "falcon" => (&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"], false),
        "poro-chat" | "bloom" | "gpt3-finnish" => (&[BLOOM], false),
        "viking" => (&[BLOOM, DIGIT], false),
        "tekken" => (&[TEKKEN], true),
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => (&[O200K], false),
        "superbpe" => (&[r"\p{N}+", r"(?=(\d{3})+(?!\d))"], false),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => (&[BAILING], false),
        "seed-coder" => (&[SEED_CODER], false),
        "default" => (&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"], false),
        _ => {
            return Err(Error::unsupported(
                "tokenizer.ggml.pre",
                format!("the pre-tokenizer {name:?}"),
                "use the model's tokenizer.json",
            ));
        }
    };
    let add_bos = ignore_merges && !name.starts_with("glm");
    Ok(Pre { patterns, ignore_merges, add_bos })
}

impl Pre {
    /// The cuts as components, and the byte alphabet at the end.
    pub(super) fn pre_tokenizer(&self) -> PreTokenizer {
        let split = |pattern: &&str| match *pattern {
            DIGIT => PreTokenizer::Digits { individual_digits: true },
            pattern => PreTokenizer::Split {
                pattern: Pattern::Regex(pattern.to_owned()),
                behavior: SplitBehavior::Isolated,
                invert: false,
            },
        };
        // GPT-2's own pattern as the last one is the one that the byte-level component has built in.
        let (last, first) = self.patterns.split_last().expect("every name has a pattern");
        let use_regex = *last == GPT2;
        let shown = if use_regex { first } else { self.patterns };
        let mut parts: Vec<PreTokenizer> = shown.iter().map(split).collect();
        parts.push(PreTokenizer::ByteLevel { add_prefix_space: false, use_regex, trim_offsets: true });
        if parts.len() == 1 { parts.swap_remove(0) } else { PreTokenizer::Sequence(parts) }
    }
}
