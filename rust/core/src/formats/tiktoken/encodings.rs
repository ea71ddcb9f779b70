//! What OpenAI's encodings add to their rank files: the pattern and the special tokens. Public facts, as tiktoken 0.14
//! states them; a test compares them with the installed package.

/// The pattern and the special tokens of a named encoding.
pub type Known = (&'static str, Vec<(String, u32)>);

const R50K: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";

const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";

const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"|\s*[\r\n]+",
    r"|\s+(?!\S)",
    r"|\s+",
);

/// The pattern and special tokens of the encoding `name`, in tiktoken's names; `None` for another name.
///
/// `gpt2` shares `r50k_base`'s (its ranks are written in another file format); `p50k_base` and `p50k_edit` share one
/// rank file.
pub fn known(name: &str) -> Option<Known> {
    let (pattern, specials): (_, &[(&str, u32)]) = match name {
        "gpt2" | "r50k_base" | "p50k_base" => (R50K, &[("<|endoftext|>", 50256)]),
        "p50k_edit" => (
            R50K,
            &[
                ("<|endoftext|>", 50256),
                ("<|fim_prefix|>", 50281),
                ("<|fim_middle|>", 50282),
                ("<|fim_suffix|>", 50283),
            ],
        ),
        "cl100k_base" => (
            CL100K,
            &[
                ("<|endoftext|>", 100_257),
                ("<|fim_prefix|>", 100_258),
                ("<|fim_middle|>", 100_259),
                ("<|fim_suffix|>", 100_260),
                ("<|endofprompt|>", 100_276),
            ],
        ),
        "o200k_base" => (O200K, &[("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)]),
        "o200k_harmony" => return Some((O200K, harmony())),
        _ => return None,
    };
    Some((pattern, specials.iter().map(|&(text, id)| (text.to_owned(), id)).collect()))
}

/// The special tokens of `o200k_harmony`: named ones, and reserved ones for every other id up to 201 087.
///
/// tiktoken gives the id 200 018 two texts, `<|endofprompt|>` and `<|reserved_200018|>`. An id has one text here: the
/// first, which `o200k_base` has too.
fn harmony() -> Vec<(String, u32)> {
    let named = [
        (199_998, "<|startoftext|>"),
        (199_999, "<|endoftext|>"),
        (200_002, "<|return|>"),
        (200_003, "<|constrain|>"),
        (200_005, "<|channel|>"),
        (200_006, "<|start|>"),
        (200_007, "<|end|>"),
        (200_008, "<|message|>"),
        (200_012, "<|call|>"),
        (200_018, "<|endofprompt|>"),
    ];
    let text = |id: u32| {
        let found = named.iter().find(|(i, _)| *i == id);
        found.map_or_else(|| format!("<|reserved_{id}|>"), |(_, text)| (*text).to_owned())
    };
    (199_998..=201_087).map(|id| (text(id), id)).collect()
}
