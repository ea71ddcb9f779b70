//! Added tokens: found in the text before the model sees it.
//!
//! Leftmost, longest match, as in `tokenizers`; tokens marked `normalized` are searched in the normalized text, by their
//! own normalized content.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::error::{Error, Result};
use crate::formats::AddedToken;
use crate::ids::TokenId;

/// Above this many pattern bytes the automaton is an NFA: the DFA's table would not fit into the cache.
const DFA_BYTES: usize = 8 << 10;

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text between added tokens.
    Text(usize, usize),
    /// An added token, with the white space it takes along.
    Token(TokenId, usize, usize),
}

/// Which tokens are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// Every added token is found in the text, special ones included (the default of `tokenizers`).
    Parse,
    /// Special tokens are ordinary text (`encode_special_tokens` of `tokenizers`).
    Text,
}

/// The tokens searched in one of the two texts.
pub(crate) struct Added {
    automaton: AhoCorasick,
    tokens: Vec<AddedToken>,
    /// Longest pattern in bytes.
    pub(crate) longest: usize,
    /// Whether a match depends on, or takes, what is around it.
    pub(crate) has_context: bool,
}

impl Added {
    /// An automaton over `(pattern, token)`; `None` without tokens.
    pub(crate) fn new(patterns: Vec<(Vec<u8>, AddedToken)>) -> Result<Option<Self>> {
        let (patterns, tokens): (Vec<_>, Vec<_>) = patterns.into_iter().filter(|(p, _)| !p.is_empty()).unzip();
        if patterns.is_empty() {
            return Ok(None);
        }
        let total: usize = patterns.iter().map(Vec::len).sum();
        let kind = (total <= DFA_BYTES).then_some(AhoCorasickKind::DFA);
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(kind)
            .build(&patterns)
            .map_err(|e| Error::unsupported("added_tokens", e.to_string(), "remove added tokens"))?;
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        let has_context = tokens.iter().any(|t| t.lstrip || t.rstrip || t.single_word);
        Ok(Some(Self { automaton, tokens, longest, has_context }))
    }

    /// Calls `each` with the parts of `text`, which cover it from left to right.
    pub(crate) fn split<E>(
        &self,
        text: &[u8],
        specials: Specials,
        mut each: impl FnMut(Part) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut done = 0;
        for found in self.automaton.find_iter(text) {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if specials == Specials::Text && token.special {
                continue;
            }
            if token.single_word && (ends_with_word(&text[..start]) || starts_with_word(&text[end..])) {
                continue;
            }
            if token.lstrip {
                start = trim_end(&text[..start]).max(done);
            }
            if token.rstrip {
                end += trim_start(&text[end..]);
            }
            if end < start {
                continue; // the token before took more than this one; `tokenizers` panics
            }
            if done < start {
                each(Part::Text(done, start))?;
            }
            // The token before may have taken all of it as its white space: `tokenizers` drops what is empty.
            if start < end {
                each(Part::Token(token.id, start, end))?;
            }
            done = end;
        }
        if done < text.len() { each(Part::Text(done, text.len())) } else { Ok(()) }
    }

    /// The first byte of the text that may still become part of a token when more text follows.
    pub(crate) fn open_from(&self, text: &[u8]) -> usize {
        let window = text.len().saturating_sub(self.longest);
        (window..text.len()).find(|&at| self.patterns_continue(&text[at..])).unwrap_or(text.len())
    }

    fn patterns_continue(&self, tail: &[u8]) -> bool {
        self.tokens.iter().any(|t| t.content.len() > tail.len() && t.content.as_bytes().starts_with(tail))
    }
}

fn last_char(text: &[u8]) -> Option<char> {
    let start = (text.len().saturating_sub(4)..text.len()).rev().find(|&i| text[i] & 0xC0 != 0x80)?;
    std::str::from_utf8(&text[start..]).ok()?.chars().next()
}

fn first_char(text: &[u8]) -> Option<char> {
    text[..text.len().min(4)].utf8_chunks().next()?.valid().chars().next()
}

/// `\w` of the `regex` crate: letters, marks, decimal digits, connectors and joiners.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || c == '_'
        || (!c.is_ascii() && WORD.with(|set| set.is_match(c.encode_utf8(&mut [0; 4]).as_bytes())))
}

thread_local! {
    static WORD: regex_automata::meta::Regex =
        regex_automata::meta::Regex::new(r"^\w$").expect("a fixed pattern");
}

fn ends_with_word(text: &[u8]) -> bool {
    last_char(text).is_some_and(is_word)
}

fn starts_with_word(text: &[u8]) -> bool {
    first_char(text).is_some_and(is_word)
}

/// Where the white space at the end of `text` starts.
fn trim_end(text: &[u8]) -> usize {
    let mut end = text.len();
    while let Some(c) = last_char(&text[..end]).filter(|c| c.is_whitespace()) {
        end -= c.len_utf8();
    }
    end
}

/// How long the white space at the start of `text` is.
fn trim_start(text: &[u8]) -> usize {
    let mut start = 0;
    while let Some(c) = first_char(&text[start..]).filter(|c| c.is_whitespace()) {
        start += c.len_utf8();
    }
    start
}
