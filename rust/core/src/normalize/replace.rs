//! Replacing every match of a pattern.

use std::ops::Range;

use memchr::memmem::Finder;

use super::sink::Sink;
use crate::error::Result;
use crate::formats::description::Pattern;
use crate::limits::Limits;
use crate::pretoken::Splitter;

/// A pattern whose matches are walked over.
#[derive(Clone, Debug)]
pub(crate) enum Search {
    /// A text that is not empty.
    Literal(Box<Finder<'static>>),
    /// Anything else; an empty literal matches between all characters, as the empty regular expression does.
    Regex(Box<Splitter>),
}

impl Search {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// Those of [`Splitter::new`].
    pub(crate) fn new(pattern: &Pattern, limits: &Limits) -> Result<Self> {
        match pattern {
            Pattern::Literal(text) if !text.is_empty() => {
                Ok(Self::Literal(Box::new(Finder::new(text.as_bytes()).into_owned())))
            }
            Pattern::Literal(_) => Self::new(&Pattern::Regex(String::new()), limits),
            Pattern::Regex(_) | Pattern::FancyRegex(_) => {
                Splitter::new(pattern, limits).map(|splitter| Self::Regex(Box::new(splitter)))
            }
        }
    }

    /// Every `c`.
    pub(crate) fn literal(c: char) -> Self {
        Self::Literal(Box::new(Finder::new(c.encode_utf8(&mut [0; 4])).into_owned()))
    }

    /// Calls `found` with every match, from the left, until one of them fails. An empty match directly after another
    /// match is none.
    pub(crate) fn for_each(&self, text: &[u8], mut found: impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        match self {
            Self::Literal(finder) => {
                let len = finder.needle().len();
                if let [byte] = finder.needle() {
                    memchr::memchr_iter(*byte, text).try_for_each(|at| found(at..at + 1))
                } else {
                    finder.find_iter(text).try_for_each(|at| found(at..at + len))
                }
            }
            Self::Regex(splitter) => splitter.matches(text).try_for_each(|m| found(m?)),
        }
    }

    fn first(&self, text: &[u8]) -> Result<Option<usize>> {
        match self {
            Self::Literal(finder) => Ok(finder.find(text)),
            Self::Regex(splitter) => Ok(splitter.matches(text).next().transpose()?.map(|m| m.start)),
        }
    }
}

/// `Replace`.
#[derive(Clone, Debug)]
pub(crate) struct Replace {
    search: Search,
    content: String,
}

impl Replace {
    pub(crate) fn new(pattern: &Pattern, content: &str, limits: &Limits) -> Result<Self> {
        Ok(Self { search: Search::new(pattern, limits)?, content: content.to_owned() })
    }

    /// Whether the first character of a text always leaves something: what is replaced is one character, by something.
    pub(crate) fn keeps_start(&self) -> bool {
        let is_char = |needle: &[u8]| std::str::from_utf8(needle).is_ok_and(|text| text.chars().count() == 1);
        !self.content.is_empty() && matches!(&self.search, Search::Literal(finder) if is_char(finder.needle()))
    }

    /// Where the first match starts. The replacement has to see the whole text again: patterns look around.
    pub(crate) fn first_change(&self, text: &[u8]) -> Result<Option<usize>> {
        self.search.first(text)
    }

    /// Writes `text` with its matches replaced. Every character of the replacement belongs to the last character of
    /// the match; for an empty match, to the character before it.
    pub(crate) fn run<S: Sink>(&self, text: &[u8], sink: &mut S) -> Result<()> {
        let mut kept = 0;
        self.search.for_each(text, |found| {
            sink.keep(&text[kept..found.start]);
            sink.skip(found.len());
            sink.insert_str(&self.content);
            kept = found.end;
            Ok(())
        })?;
        sink.keep(&text[kept..]);
        Ok(())
    }
}
