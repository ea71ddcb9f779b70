//! The definition of what a [`Known`] cuts: its patterns, one after the other, run by fancy-regex. Slow and short.

use std::ops::Range;

use super::known::{Known, spellings};

/// One digit of `Digits { individual_digits: true }`: [`super::classes::NUMERIC`].
const DIGIT: &str = r"[\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}]";

/// The patterns of `known` in fancy-regex's syntax, in the order in which they cut.
pub fn patterns(known: Known) -> Vec<String> {
    let ascii = |pattern: &str| {
        pattern.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])")
    };
    let one = |pattern: &str| vec![pattern.to_owned()];
    match known {
        Known::Gpt2 => one(spellings::GPT2),
        Known::DigitsGpt2 => vec![DIGIT.to_owned(), spellings::GPT2.to_owned()],
        Known::Cl100k => one(spellings::CL100K),
        Known::Cl100kAtEnd => one(spellings::CL100K_TIKTOKEN),
        Known::Cl100kAscii => one(&ascii(spellings::CL100K)),
        Known::Qwen2 => one(spellings::QWEN2),
        Known::Qwen2Ascii => one(&ascii(spellings::QWEN2)),
        Known::Qwen35 => one(spellings::QWEN35),
        Known::O200k => one(spellings::O200K),
        Known::Tekken => one(spellings::TEKKEN),
        Known::Kimi => one(spellings::KIMI),
        Known::DeepSeekCoder => spellings::DEEPSEEK_CODER.into_iter().chain([DIGIT]).map(str::to_owned).collect(),
        Known::DeepSeekV3 => {
            spellings::DEEPSEEK_V3.into_iter().chain([spellings::DEEPSEEK_V3_TEXT]).map(str::to_owned).collect()
        }
        Known::SuperBpe => one(spellings::SUPERBPE),
        Known::Bloom => one(spellings::BLOOM),
    }
}

/// Patterns, compiled.
#[derive(Debug)]
pub struct Reference {
    regexes: Vec<fancy_regex::Regex>,
}

impl Reference {
    /// Compiles patterns.
    ///
    /// # Panics
    /// When one does not compile.
    pub fn new(patterns: &[String]) -> Self {
        let compile = |p: &String| fancy_regex::Regex::new(p).expect("a reference pattern compiles");
        Self { regexes: patterns.iter().map(compile).collect() }
    }

    /// The reference of `known`.
    pub fn of(known: Known) -> Self {
        Self::new(&patterns(known))
    }

    /// Cuts `text` by every pattern in turn, each on the pieces of the one before, matches isolated.
    ///
    /// # Panics
    /// When a match passes fancy-regex's backtrack limit.
    pub fn pieces(&self, text: &[u8]) -> Vec<Range<usize>> {
        let whole = 0..text.len();
        let mut pieces = if whole.is_empty() { Vec::new() } else { vec![whole] };
        for regex in &self.regexes {
            pieces = pieces.into_iter().flat_map(|piece| isolate(regex, text, piece)).collect();
        }
        pieces
    }
}

/// Cuts one piece at the matches of `regex`; each stretch of well-formed UTF-8 in it is a text of its own.
fn isolate(regex: &fancy_regex::Regex, text: &[u8], piece: Range<usize>) -> Vec<Range<usize>> {
    let mut cut = Vec::new();
    let (mut done, mut start) = (piece.start, piece.start);
    for chunk in text[piece.clone()].utf8_chunks() {
        for found in regex.find_iter(chunk.valid()) {
            let found = found.expect("reference texts stay under the backtrack limit");
            let (from, to) = (start + found.start(), start + found.end());
            if done < from {
                cut.push(done..from);
            }
            if from < to {
                cut.push(from..to);
            }
            done = to;
        }
        start += chunk.valid().len() + chunk.invalid().len();
    }
    if done < piece.end {
        cut.push(done..piece.end);
    }
    cut
}
