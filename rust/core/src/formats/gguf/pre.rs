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

const DEEPSEEK_LLM_LETTERS: &str = "\\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+";
const DEEPSEEK_LLM_MARKS: &str = "\\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+";
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
        "deepseek-llm" => {
            (&["[\r\n]", DEEPSEEK_LLM_LETTERS, DEEPSEEK_LLM_MARKS, "\\s+$", DEEPSEEK_CODER[3], r"\p{N}+"], false)
        }
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
