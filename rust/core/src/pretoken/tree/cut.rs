//! Steps whose pieces are parts of the text.

use std::ops::Range;

use super::classes::{WordClass, is_punctuation, script, word_class};
use crate::error::Result;
use crate::formats::description::{Pattern, SplitBehavior};
use crate::limits::Limits;
use crate::normalize::replace::Search;
use crate::normalize::text::units;
use crate::pretoken::Splitter;

/// A way to cut.
#[derive(Clone, Debug)]
pub(super) enum Cut {
    /// At matches.
    Matches { matcher: Matcher, behavior: SplitBehavior, invert: bool },
    /// Before every occurrence.
    Before(Matcher),
    /// `\w+|[^\w\s]+` are the pieces.
    Words,
    /// Where the script changes.
    Scripts,
    /// Every so many characters.
    Fixed(usize),
}

/// What finds matches.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Search(Search),
    Class(fn(char) -> bool),
}

impl Cut {
    pub(super) fn pattern(pattern: &Pattern, behavior: SplitBehavior, invert: bool, limits: &Limits) -> Result<Self> {
        Ok(Self::Matches { matcher: Matcher::Search(Search::new(pattern, limits)?), behavior, invert })
    }

    pub(super) fn gpt2() -> Self {
        let matcher = Matcher::Search(Search::Regex(Box::new(Splitter::gpt2())));
        Self::Matches { matcher, behavior: SplitBehavior::Isolated, invert: false }
    }

    pub(super) fn whitespace() -> Self {
        Self::class(char::is_whitespace, SplitBehavior::Removed)
    }

    pub(super) fn punctuation(behavior: SplitBehavior) -> Self {
        Self::class(is_punctuation, behavior)
    }

    pub(super) fn digits(individual: bool) -> Self {
        Self::class(char::is_numeric, if individual { SplitBehavior::Isolated } else { SplitBehavior::Contiguous })
    }

    pub(super) fn delimiter(delimiter: char) -> Self {
        let matcher = Matcher::Search(Search::literal(delimiter));
        Self::Matches { matcher, behavior: SplitBehavior::Removed, invert: false }
    }

    /// `MergedWithNext` of single characters: neighbours are not merged, so every one of them starts a piece.
    pub(super) fn before(mark: char) -> Self {
        Self::Before(Matcher::Search(Search::literal(mark)))
    }

    pub(super) fn words() -> Self {
        Self::Words
    }

    pub(super) fn scripts() -> Self {
        Self::Scripts
    }

    pub(super) fn fixed(length: usize) -> Self {
        Self::Fixed(length)
    }

    fn class(class: fn(char) -> bool, behavior: SplitBehavior) -> Self {
        Self::Matches { matcher: Matcher::Class(class), behavior, invert: false }
    }

    /// Whether a part of the text may be in no piece.
    pub(super) fn drops(&self) -> bool {
        match self {
            Self::Matches { behavior, .. } => *behavior == SplitBehavior::Removed,
            Self::Words | Self::Scripts => true,
            Self::Before(_) | Self::Fixed(_) => false,
        }
    }

    /// Calls `emit` with the pieces of `text`, which is not empty; empty pieces may be among them.
    pub(super) fn for_each(&self, text: &[u8], mut emit: impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        match self {
            Self::Matches { matcher, behavior: SplitBehavior::Removed, invert: true } => matcher.for_each(text, emit),
            Self::Matches { matcher, behavior, invert } => {
                let mut joiner = Joiner::new(*behavior, *invert, emit);
                let mut end = 0;
                matcher.for_each(text, |found| {
                    if end != found.start {
                        joiner.push(end..found.start, false)?;
                    }
                    end = found.end;
                    joiner.push(found, true)
                })?;
                if end != text.len() {
                    joiner.push(end..text.len(), false)?;
                }
                joiner.finish()
            }
            Self::Before(matcher) => {
                let mut start = 0;
                matcher.for_each(text, |found| {
                    let piece = start..found.start;
                    start = found.start;
                    emit(piece)
                })?;
                emit(start..text.len())
            }
            Self::Words => {
                let class = |c: Option<char>| c.map_or(WordClass::Gap, word_class);
                runs(text, class, |range, class| if class == WordClass::Gap { Ok(()) } else { emit(range) })
            }
            Self::Scripts => {
                let mut last = None;
                let mut start = None;
                for (at, _, c) in units(text) {
                    let Some(script) = c.and_then(script) else { continue };
                    if last != Some(script) {
                        // What is before the first script is in no piece.
                        if let Some(start) = start {
                            emit(start..at)?;
                        }
                        (last, start) = (Some(script), Some(at));
                    }
                }
                start.map_or(Ok(()), |start| emit(start..text.len()))
            }
            Self::Fixed(length) => {
                let (mut start, mut count) = (0, 0);
                for (at, _, _) in units(text) {
                    if count == *length {
                        emit(start..at)?;
                        (start, count) = (at, 0);
                    }
                    count += 1;
                }
                emit(start..text.len())
            }
        }
    }
}

/// Calls `emit` with the longest runs of units of one class.
fn runs<T: Copy + PartialEq>(
    text: &[u8],
    class: impl Fn(Option<char>) -> T,
    mut emit: impl FnMut(Range<usize>, T) -> Result<()>,
) -> Result<()> {
    let mut run: Option<(usize, T)> = None;
    for (at, _, c) in units(text) {
        let class = class(c);
        match run {
            Some((_, current)) if current == class => {}
            Some((start, current)) => {
                emit(start..at, current)?;
                run = Some((at, class));
            }
            None => run = Some((at, class)),
        }
    }
    run.map_or(Ok(()), |(start, class)| emit(start..text.len(), class))
}

impl Matcher {
    fn for_each(&self, text: &[u8], mut found: impl FnMut(Range<usize>) -> Result<()>) -> Result<()> {
        match self {
            Self::Search(search) => search.for_each(text, found),
            Self::Class(class) => {
                units(text).filter(|&(_, _, c)| c.is_some_and(class)).try_for_each(|(start, end, _)| found(start..end))
            }
        }
    }
}

/// Joins matches and the text between them as a [`SplitBehavior`] says, from the left with one item held back.
struct Joiner<F> {
    behavior: SplitBehavior,
    invert: bool,
    emit: F,
    held: Option<Range<usize>>,
    /// Whether the item before was a match; true for neither at the start.
    after_match: bool,
}

impl<F: FnMut(Range<usize>) -> Result<()>> Joiner<F> {
    fn new(behavior: SplitBehavior, invert: bool, emit: F) -> Self {
        Self { behavior, invert, emit, held: None, after_match: false }
    }

    /// Takes the next item; items tile the text.
    fn push(&mut self, item: Range<usize>, is_match: bool) -> Result<()> {
        let is_match = is_match != self.invert;
        let joins = match self.behavior {
            SplitBehavior::Removed if is_match => return Ok(()),
            SplitBehavior::Removed | SplitBehavior::Isolated => return (self.emit)(item),
            // A match joins the text before it, but a match joins no match.
            SplitBehavior::MergedWithPrevious => is_match && !self.after_match,
            SplitBehavior::MergedWithNext => !is_match && self.after_match,
            SplitBehavior::Contiguous => is_match == self.after_match,
        };
        self.after_match = is_match;
        match &mut self.held {
            Some(held) if joins => held.end = item.end,
            held => {
                if let Some(done) = held.replace(item) {
                    (self.emit)(done)?;
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.held.take().map_or(Ok(()), |held| (self.emit)(held))
    }
}
