//! Finding the matches of a pattern in bytes.

use std::ops::Range;
use std::str::Utf8Chunks;

use memchr::memmem;
use regex_automata::{Input, meta, util::syntax};

use super::known::{Known, Scanner, ScannerVisitor, with_scanner};
use super::onig::{self, Alternative};
use crate::error::{Error, Result};
use crate::formats::description::Pattern;
use crate::limits::Limits;

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
///
/// The leftmost match wins, and among those the one a backtracking engine finds first. Patterns without look-around,
/// back-references, atomic groups and possessive repetitions run in linear time, as do those whose only look-around is
/// an alternative `\s+(?!\S)` or ` +(?!\S)` at the top, and the recognised ones.
#[derive(Clone, Debug)]
pub struct Splitter {
    engine: Engine,
    known: Option<Known>,
}

#[derive(Clone, Debug)]
enum Engine {
    /// This very text, which is not empty.
    Literal(Box<memmem::Finder<'static>>),
    /// Match and non-match can be told from the first byte of a piece.
    Scanner(Known),
    /// In linear time; pattern `i` gives `trims[i]` characters back.
    Linear { regex: meta::Regex, trims: Vec<usize> },
    /// By backtracking.
    LookAround(Box<fancy_regex::Regex>),
}

impl Splitter {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Format`] for a pattern that does not parse, `Unsupported` for syntax whose meaning cannot be
    /// kept exactly, `Limit` for one over `limits.pattern_bytes` or `limits.regex_bytes`.
    pub fn new(pattern: &Pattern, limits: &Limits) -> Result<Self> {
        let (text, flavour) = match pattern {
            Pattern::Literal(text) => (text, None),
            Pattern::Regex(text) => (text, Some(Flavour::Oniguruma)),
            Pattern::FancyRegex(text) => (text, Some(Flavour::FancyRegex)),
        };
        if text.len() > limits.pattern_bytes {
            return Err(Error::limit("pattern", text.len(), limits.pattern_bytes, "pattern_bytes"));
        }
        let known = flavour.and_then(|flavour| Known::of_pattern(text, flavour));
        if let Some(known) = known.filter(|known| known.is_covering_pattern()) {
            return Ok(Self { engine: Engine::Scanner(known), known: Some(known) });
        }
        let engine = match flavour {
            None if text.is_empty() => linear(&[String::new()], vec![0], limits)?,
            None => Engine::Literal(Box::new(memmem::Finder::new(text.as_bytes()).into_owned())),
            Some(Flavour::FancyRegex) => look_around(text, limits)?,
            Some(Flavour::Oniguruma) => oniguruma(text, limits)?,
        };
        Ok(Self { engine, known })
    }

    /// The pattern of `ByteLevel { use_regex: true }`.
    pub fn gpt2() -> Self {
        Self { engine: Engine::Scanner(Known::Gpt2), known: Some(Known::Gpt2) }
    }

    /// The matches in `text`, from the left, as `tokenizers` iterates them: they do not overlap, and an empty match
    /// directly after another match is passed over.
    ///
    /// Each item is `Err` only where a look-around pattern passes `Limits.backtrack_steps`; nothing follows it.
    pub fn matches<'s, 't>(&'s self, text: &'t [u8]) -> Matches<'s, 't> {
        let chunks = text.utf8_chunks();
        Matches { splitter: self, chunks, chunk: "", start: 0, next_start: 0, at: 1, last_end: None }
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
            Engine::Literal(finder) => Ok(finder
                .find(&chunk.as_bytes()[from..])
                .map(|start| from + start..from + start + finder.needle().len())),
            Engine::Scanner(known) => {
                let end =
                    (from < chunk.len()).then(|| with_scanner(*known, Next { text: chunk.as_bytes(), pos: from }));
                Ok(end.map(|end| from..end))
            }
            Engine::Linear { regex, trims } => Ok(regex.search(&Input::new(chunk).range(from..)).map(|found| {
                let cut = &chunk[found.range()];
                let trimmed = match trims[found.pattern().as_usize()] {
                    0 => 0,
                    n => cut.char_indices().rev().nth(n - 1).map_or(cut.len(), |(at, _)| cut.len() - at),
                };
                found.start()..found.end() - trimmed
            })),
            Engine::LookAround(regex) => {
                regex.find_from_pos(chunk, from).map(|found| found.map(|m| m.range())).map_err(|e| {
                    Error::value(
                        "pattern",
                        format!("matching stopped: {e}"),
                        "raise Limits.backtrack_steps if you trust this file",
                    )
                })
            }
        }
    }

    /// The recognised pattern, for which [`known`](crate::pretoken::known) has a scanner.
    pub fn known(&self) -> Option<Known> {
        self.known
    }
}

/// One step of a scanner.
struct Next<'t> {
    text: &'t [u8],
    pos: usize,
}

impl ScannerVisitor<usize> for Next<'_> {
    #[inline]
    fn visit<S: Scanner>(self, scanner: S) -> usize {
        scanner.next(self.text, self.pos)
    }
}

/// An engine for a pattern in Oniguruma's syntax.
fn oniguruma(text: &str, limits: &Limits) -> Result<Engine> {
    let alternatives = onig::translate(text, limits)?.alternatives;
    if alternatives.iter().any(|a| matches!(a, Alternative::Fancy(_))) {
        let joined: Vec<&str> = alternatives.iter().map(Alternative::fancy).collect();
        return look_around(&joined.join("|"), limits);
    }
    // `\s+(?!\S)` takes a whole run at the end of the text, and else all of it but the last character. The search is
    // leftmost-first over the list, so the places of the alternatives are kept.
    let (mut patterns, mut trims): (Vec<String>, Vec<usize>) = (Vec::new(), Vec::new());
    for alternative in alternatives {
        let parts: &[(&str, usize)] = match &alternative {
            Alternative::Plain(text) => {
                if let (Some(last), Some(0)) = (patterns.last_mut(), trims.last()) {
                    last.push('|');
                    last.push_str(text);
                    continue;
                }
                &[(text.as_str(), 0)]
            }
            Alternative::SpacesBeforeSpace => &[(r"\s+\z", 0), (r"\s{2,}", 1)],
            // Behind the blanks: the end, other white space, or anything else.
            Alternative::BlanksBeforeSpace => &[(r" +\z", 0), (r" +[\s&&[^ ]]", 1), (r" {2,}", 1)],
            Alternative::Fancy(_) => unreachable!("handled above"),
        };
        for (text, trim) in parts {
            patterns.push((*text).to_owned());
            trims.push(*trim);
        }
    }
    linear(&patterns, trims, limits)
}

fn linear(patterns: &[String], trims: Vec<usize>, limits: &Limits) -> Result<Engine> {
    let config = meta::Config::new().nfa_size_limit(Some(limits.regex_bytes)).onepass_size_limit(Some(1 << 20));
    let regex = meta::Builder::new()
        .configure(config)
        .syntax(syntax::Config::new().nest_limit(250))
        .build_many(patterns)
        .map_err(|e| match e.size_limit() {
            Some(limit) => over(limit, limits),
            None => Error::format("pattern", e.syntax_error().map_or(e.to_string(), ToString::to_string), ""),
        })?;
    Ok(Engine::Linear { regex, trims })
}

fn over(limit: usize, limits: &Limits) -> Error {
    Error::limit("pattern", limit.saturating_add(1), limits.regex_bytes, "regex_bytes")
}

fn look_around(text: &str, limits: &Limits) -> Result<Engine> {
    let regex = fancy_regex::RegexBuilder::new(text)
        .backtrack_limit(limits.backtrack_steps)
        .delegate_size_limit(limits.regex_bytes)
        .build()
        .map_err(|e| {
            let text = e.to_string();
            if text.contains("size limit") {
                over(limits.regex_bytes, limits)
            } else {
                Error::format("pattern", text, "")
            }
        })?;
    Ok(Engine::LookAround(Box::new(regex)))
}

/// Iterator of [`Splitter::matches`].
#[derive(Clone, Debug)]
pub struct Matches<'s, 't> {
    splitter: &'s Splitter,
    chunks: Utf8Chunks<'t>,
    /// The chunk in hand.
    chunk: &'t str,
    /// Where it starts in the text, and where what follows it does.
    start: usize,
    next_start: usize,
    /// Where the search goes on, from the start of the chunk; behind its end when it is done.
    at: usize,
    /// Where the last match in this chunk ended.
    last_end: Option<usize>,
}

impl Matches<'_, '_> {
    /// Goes to the next chunk that is not empty; `false` at the end of the text.
    fn next_chunk(&mut self) -> bool {
        for chunk in self.chunks.by_ref() {
            self.start = self.next_start;
            self.next_start += chunk.valid().len() + chunk.invalid().len();
            if !chunk.valid().is_empty() {
                self.chunk = chunk.valid();
                self.at = 0;
                self.last_end = None;
                return true;
            }
        }
        false
    }
}

impl Iterator for Matches<'_, '_> {
    type Item = Result<Range<usize>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.at > self.chunk.len() && !self.next_chunk() {
                return None;
            }
            match self.splitter.find_in(self.chunk, self.at) {
                Err(e) => {
                    self.chunks = b"".utf8_chunks();
                    self.at = self.chunk.len() + 1;
                    return Some(Err(e));
                }
                Ok(None) => self.at = self.chunk.len() + 1,
                Ok(Some(m)) if m.is_empty() && self.last_end == Some(m.end) => {
                    // As in onig's FindMatches: step over one character and search again.
                    self.at += self.chunk[self.at..].chars().next().map_or(1, char::len_utf8);
                }
                Ok(Some(m)) => {
                    self.at = m.end;
                    self.last_end = Some(m.end);
                    return Some(Ok(self.start + m.start..self.start + m.end));
                }
            }
        }
    }
}
