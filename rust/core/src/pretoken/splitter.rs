//! Finding the matches of a pattern in bytes.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::formats::description::Pattern;
use crate::limits::Limits;
use crate::pretoken::known::Known;

/// Whose regular expressions: the syntax, and the meaning where the two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Oniguruma with its default syntax, as `tokenizers` uses it.
    Oniguruma,
    /// fancy-regex, as tiktoken uses it.
    FancyRegex,
}

/// A compiled [`Pattern`].
///
/// Text may be arbitrary bytes. It is taken as a row of *chunks*, the longest runs of well-formed UTF-8; the bytes
/// between chunks match nothing, and each chunk is matched as a text of its own (an anchor sees its ends).
#[derive(Clone, Debug)]
pub struct Splitter {
    engine: Engine,
    known: Option<Known>,
}

#[derive(Clone, Debug)]
enum Engine {
    Regex(Box<fancy_regex::Regex>),
}

impl Splitter {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Format`] for a pattern that does not parse, `Unsupported` for syntax whose meaning cannot be
    /// kept exactly, `Limit` for one over `limits.pattern_bytes` or `limits.regex_bytes`.
    pub fn new(pattern: &Pattern, limits: &Limits) -> Result<Self> {
        let source = match pattern {
            Pattern::Literal(text) => fancy_regex::escape(text).into_owned(),
            Pattern::Regex(text) | Pattern::FancyRegex(text) => text.clone(),
        };
        if source.len() > limits.pattern_bytes {
            return Err(Error::limit("pattern", source.len(), limits.pattern_bytes, "pattern_bytes"));
        }
        let regex = fancy_regex::RegexBuilder::new(&source)
            .backtrack_limit(limits.backtrack_steps)
            .delegate_size_limit(limits.regex_bytes)
            .build()
            .map_err(|e| Error::format("pattern", e.to_string(), ""))?;
        Ok(Self { engine: Engine::Regex(Box::new(regex)), known: None })
    }

    /// The pattern of `ByteLevel { use_regex: true }`.
    pub fn gpt2(limits: &Limits) -> Result<Self> {
        let pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
        Self::new(&Pattern::Regex(pattern.to_owned()), limits)
    }

    /// The matches in `text`, from the left, as `tokenizers` iterates them: they do not overlap, and an empty match
    /// directly after another match is passed over.
    ///
    /// Each item is `Err` only where a look-around pattern passes `Limits.backtrack_steps`; nothing follows it.
    pub fn matches<'s, 't>(&'s self, text: &'t [u8]) -> Matches<'s, 't> {
        Matches { splitter: self, text, at: 0, last_end: None, failed: false }
    }

    /// The leftmost match that starts at `from` or later, with all of `text` visible to look-around.
    ///
    /// O(n) per call even for a near match, since `text` is checked for well-formedness: use [`Self::matches`] to walk
    /// over a text.
    ///
    /// # Errors
    /// A look-around pattern passed `Limits.backtrack_steps`.
    pub fn next_match(&self, text: &[u8], from: usize) -> Result<Option<Range<usize>>> {
        let mut start = 0;
        for chunk in text.utf8_chunks() {
            let valid = chunk.valid();
            let end = start + valid.len();
            if from <= end && !valid.is_empty() {
                let inside = from.saturating_sub(start);
                if let Some(range) = self.find_in(valid, inside)? {
                    return Ok(Some(range.start + start..range.end + start));
                }
            }
            start = end + chunk.invalid().len();
        }
        Ok(None)
    }

    /// The leftmost match at or after `from` in a chunk.
    fn find_in(&self, chunk: &str, from: usize) -> Result<Option<Range<usize>>> {
        match &self.engine {
            Engine::Regex(regex) => regex
                .find_from_pos(chunk, from)
                .map(|found| found.map(|m| m.range()))
                .map_err(|e| Error::value("pattern", e.to_string(), "raise Limits.backtrack_steps")),
        }
    }

    /// The recognised pattern, for which [`known`](crate::pretoken::known) has a scanner.
    pub fn known(&self) -> Option<Known> {
        self.known
    }
}

/// Iterator of [`Splitter::matches`].
#[derive(Clone, Debug)]
pub struct Matches<'s, 't> {
    splitter: &'s Splitter,
    text: &'t [u8],
    at: usize,
    last_end: Option<usize>,
    failed: bool,
}

impl Iterator for Matches<'_, '_> {
    type Item = Result<Range<usize>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed && self.at <= self.text.len() {
            match self.splitter.next_match(self.text, self.at) {
                Err(e) => {
                    self.failed = true;
                    return Some(Err(e));
                }
                Ok(None) => self.at = self.text.len() + 1,
                Ok(Some(m)) if m.is_empty() && self.last_end == Some(m.end) => {
                    // As in onig's FindMatches: step over one character and search again.
                    self.at += 1;
                    while self.text.get(self.at).is_some_and(|b| (0x80..0xC0).contains(b)) {
                        self.at += 1;
                    }
                }
                Ok(Some(m)) => {
                    self.at = m.end;
                    self.last_end = Some(m.end);
                    return Some(Ok(m));
                }
            }
        }
        None
    }
}
