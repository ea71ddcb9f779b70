//! From a document to its pretokens.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use memchr::memrchr_iter;

use crate::error::{Error, ErrorKind, Result};
use crate::formats::description::{Normalizer, Pattern};
use crate::limits::Limits;
use crate::normalize;
use crate::pretoken::{Known, Scanner, ScannerVisitor, Splitter, with_scanner};

use super::superwords::chunks::{At, Chunks, Ends};
use super::superwords::{self, runs};

/// How a document is cut.
#[derive(Clone, Debug, PartialEq)]
pub enum Cuts {
    /// Not at all: a document is one pretoken.
    Whole,
    /// By a scanner.
    Known(Known),
    /// At the matches of a pattern, which are pretokens, as is what lies between them (`Isolated`).
    Pattern(Pattern),
    /// At random.
    Chunks(Chunks),
    /// As these cuts do, and then put together: runs of pretokens that hold letters ([`runs`]).
    Runs(Box<Cuts>),
}

/// The names that stand for published patterns, sorted.
pub const PATTERN_NAMES: [(&str, Known); 15] = [
    ("bloom", Known::Bloom),
    ("cl100k", Known::Cl100k),
    ("cl100k_ascii", Known::Cl100kAscii),
    ("cl100k_at_end", Known::Cl100kAtEnd),
    ("deepseek_coder", Known::DeepSeekCoder),
    ("deepseek_v3", Known::DeepSeekV3),
    ("gpt2", Known::Gpt2),
    ("kimi", Known::Kimi),
    ("llama3", Known::Cl100k),
    ("o200k", Known::O200k),
    ("qwen2", Known::Qwen2),
    ("qwen35", Known::Qwen35),
    ("starcoder", Known::DigitsGpt2),
    ("superbpe", Known::SuperBpe),
    ("tekken", Known::Tekken),
];

impl Cuts {
    /// What a user's word means: a name of [`PATTERN_NAMES`], `none` for no cuts, a recipe for superwords
    /// (`supertokens:...`, `boundless:...`), else a regular expression in Oniguruma's syntax.
    ///
    /// # Errors
    /// `Value` for a word that looks like a misspelt name.
    pub fn named(word: &str) -> Result<Self> {
        if word == "none" {
            return Ok(Self::Whole);
        }
        if let Some((_, known)) = PATTERN_NAMES.iter().find(|(name, _)| *name == word) {
            return Ok(Self::Known(*known));
        }
        if let Some(recipe) = superwords::named(word) {
            return recipe;
        }
        // As a regular expression such a word would match itself and cut nearly nothing.
        if word.is_empty() || word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            let names: Vec<&str> = PATTERN_NAMES.iter().map(|(name, _)| *name).collect();
            return Err(Error::value(
                "pattern",
                format!("{word:?} is neither a known name nor a pattern that cuts"),
                format!("use none, a regular expression or one of {}", names.join(", ")),
            ));
        }
        Ok(Self::Pattern(Pattern::Regex(word.to_owned())))
    }
}

/// The normalizer that a name stands for.
///
/// # Errors
/// `Value` for an unknown name.
pub fn normalizer_named(name: &str) -> Result<Normalizer> {
    match name {
        "nfc" => Ok(Normalizer::Nfc),
        "nfd" => Ok(Normalizer::Nfd),
        "nfkc" => Ok(Normalizer::Nfkc),
        "nfkd" => Ok(Normalizer::Nfkd),
        "lowercase" => Ok(Normalizer::Lowercase),
        other => Err(Error::value(
            "normalizer",
            format!("{other:?} is no normalizer that training knows"),
            "use nfc, nfd, nfkc, nfkd, lowercase or none",
        )),
    }
}

/// Receives pretokens, from the left.
pub trait PieceSink {
    /// One pretoken, `text[range]`; it is not empty. `Break` stops the cutting.
    ///
    /// It comes with the text around it, so that a reader of whole words may load them at once.
    fn piece(&mut self, text: &[u8], range: Range<usize>) -> ControlFlow<()>;
}

/// Cuts documents into pretokens, exactly as an encoder with the same normalizer and pattern does.
///
/// For UTF-8 they are those of `tokenizers`' `Split(pattern, "isolated")` before `ByteLevel(use_regex=False)`. Bytes that
/// are not UTF-8 match nothing and form pretokens of their own.
#[derive(Clone, Debug)]
pub struct Cutter {
    cuts: Compiled,
    /// `None` where nothing is changed.
    normalizer: Option<normalize::Compiled>,
    has_seams: bool,
    document_bytes: usize,
}

#[derive(Clone, Debug)]
enum Compiled {
    Whole,
    Scanner(Known),
    Splitter(Box<Splitter>),
    /// The second finds pretokens, where cuts fall between them.
    Chunks(Chunks, Option<Box<Cutter>>),
    Runs(Box<Cutter>),
}

impl Cutter {
    /// Compiles a pattern and a normalizer.
    ///
    /// # Errors
    /// Those of [`Splitter::new`] and of [`normalize::Compiled::new`].
    pub fn new(cuts: &Cuts, normalizer: Option<&Normalizer>, limits: &Limits) -> Result<Self> {
        let compiled = match cuts {
            Cuts::Whole => Compiled::Whole,
            Cuts::Known(known) => Compiled::Scanner(*known),
            Cuts::Pattern(pattern) => {
                let splitter = Splitter::new(pattern, limits)?;
                splitter.known().map_or_else(|| Compiled::Splitter(Box::new(splitter)), Compiled::Scanner)
            }
            Cuts::Chunks(chunks) => {
                chunks.check()?;
                let inner = match &chunks.at {
                    At::Pretokens { cuts, .. } => Some(Box::new(Self::new(cuts, None, limits)?)),
                    At::Characters | At::Graphemes => None,
                };
                Compiled::Chunks(chunks.clone(), inner)
            }
            Cuts::Runs(cuts) => Compiled::Runs(Box::new(Self::new(cuts, None, limits)?)),
        };
        let built = normalizer.map(|n| normalize::Compiled::new(n, limits)).transpose()?;
        // SuperBPE's second stage keeps letters and single spaces together.
        let has_seams = matches!(compiled, Compiled::Scanner(known) if known != Known::SuperBpe)
            && normalizer.is_none_or(keeps_seams);
        Ok(Self {
            cuts: compiled,
            normalizer: built.filter(|built| !built.is_identity()),
            has_seams,
            document_bytes: limits.document_bytes.min(u32::MAX as usize),
        })
    }

    /// The scanner it cuts with, if it has one.
    pub fn known(&self) -> Option<Known> {
        match self.cuts {
            Compiled::Scanner(known) => Some(known),
            Compiled::Whole | Compiled::Splitter(_) | Compiled::Chunks(..) | Compiled::Runs(_) => None,
        }
    }

    /// Whether a document may come in blocks ([`Self::final_prefix`] may find something).
    pub fn streams(&self) -> bool {
        self.has_seams || (matches!(self.cuts, Compiled::Scanner(_)) && self.normalizer.is_none())
    }

    /// Hands the pretokens of `text[range]` to `sink`; `Break` when the sink broke off.
    ///
    /// The ends of the range are the ends of the text or places where a pretoken is known to end ([`Self::last_seam`],
    /// [`Self::final_prefix`]). O(n) with a scanner or a linear pattern.
    ///
    /// # Errors
    /// A look-around pattern passed `Limits.backtrack_steps`, the normalizer `Limits.text_growth`, or, where a text has
    /// to be held whole, the text `Limits.document_bytes`.
    pub fn cut(&self, text: &[u8], range: Range<usize>, sink: &mut impl PieceSink) -> Result<ControlFlow<()>> {
        if range.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(normalizer) = &self.normalizer else {
            return self.cut_normalized(text, range, sink);
        };
        self.check_length(range.len(), "a document")?;
        let changed: Cow<'_, [u8]> = normalizer.apply(&text[range])?;
        let whole = 0..changed.len();
        if whole.is_empty() { Ok(ControlFlow::Continue(())) } else { self.cut_normalized(&changed, whole, sink) }
    }

    fn cut_normalized(&self, text: &[u8], range: Range<usize>, sink: &mut impl PieceSink) -> Result<ControlFlow<()>> {
        match &self.cuts {
            Compiled::Scanner(known) => {
                Ok(with_scanner(*known, Walk { text: &text[range.start..], stop: range.len(), sink }))
            }
            Compiled::Whole => {
                self.check_length(range.len(), "a document that is one pretoken")?;
                Ok(sink.piece(text, range))
            }
            Compiled::Splitter(splitter) => {
                self.check_length(range.len(), "a document")?;
                split(splitter, &text[range], sink)
            }
            Compiled::Chunks(chunks, inner) => {
                self.check_length(range.len(), "a document that is cut at random")?;
                let document = &text[range];
                let mut ends = Ends(Vec::new());
                if let Some(inner) = inner {
                    let _ = inner.cut(document, 0..document.len(), &mut ends)?;
                }
                Ok(chunks.cut(document, &ends.0, sink))
            }
            Compiled::Runs(inner) => {
                self.check_length(range.len(), "a document whose pretokens are put together")?;
                let document = &text[range];
                let mut ends = Ends(Vec::new());
                let _ = inner.cut(document, 0..document.len(), &mut ends)?;
                Ok(runs::join(document, &ends.0, sink))
            }
        }
    }

    /// The error for a text that has to be held whole and is too long for that.
    pub(super) fn check_length(&self, length: usize, what: &str) -> Result<()> {
        if length <= self.document_bytes {
            return Ok(());
        }
        let found = format!("{what} has {length} bytes or more, over the limit of {}", self.document_bytes);
        let fix = if self.streams() {
            "cut the documents, use documents=\"line\", or raise Limits.document_bytes"
        } else {
            "use documents=\"line\", a known pattern, or raise Limits.document_bytes"
        };
        Err(Error::new(ErrorKind::Limit, "document", found, fix))
    }

    /// The last place inside `text[range]` where a text can be cut in two without changing a pretoken of either part.
    ///
    /// That is between an ASCII lower-case letter and a space. With every scanner but SuperBPE's a pretoken ends there: a
    /// space is only ever the start of one, or in a run that holds no letter. What stands before looks no further, since
    /// that letter ends every run that is not the word itself, and no contraction begins with a space. Unicode's normal
    /// forms neither join a space to what stands before it nor change the letter.
    pub fn last_seam(&self, text: &[u8], range: Range<usize>) -> Option<usize> {
        if !self.has_seams {
            return None;
        }
        let start = range.start;
        memrchr_iter(b' ', &text[range])
            .map(|at| start + at)
            .find(|&at| at > start && text[at - 1].is_ascii_lowercase())
    }

    /// Where the pretokens that no further byte can change end in `text`, the start of a document; 0 when there is none.
    ///
    /// O(bytes after the last seam), O(n) without one.
    pub fn final_prefix(&self, text: &[u8]) -> usize {
        match (self.last_seam(text, 0..text.len()), &self.cuts) {
            (Some(seam), _) => seam,
            (None, Compiled::Scanner(known)) if self.normalizer.is_none() => with_scanner(*known, Settled { text }),
            _ => 0,
        }
    }
}

/// Whether [`Cutter::last_seam`] holds before the normalizer when it holds behind it.
fn keeps_seams(normalizer: &Normalizer) -> bool {
    match normalizer {
        Normalizer::Nfc | Normalizer::Nfd | Normalizer::Nfkc | Normalizer::Nfkd | Normalizer::Lowercase => true,
        Normalizer::Sequence(all) => all.iter().all(keeps_seams),
        _ => false,
    }
}

/// All pieces of `text` up to `stop`, where one ends.
struct Walk<'a, 's, S> {
    text: &'a [u8],
    stop: usize,
    sink: &'s mut S,
}

impl<P: PieceSink> ScannerVisitor<ControlFlow<()>> for Walk<'_, '_, P> {
    #[inline]
    fn visit<S: Scanner>(self, scanner: S) -> ControlFlow<()> {
        let mut start = 0;
        for end in scanner.pieces(self.text) {
            self.sink.piece(self.text, start..end)?;
            if end >= self.stop {
                break;
            }
            start = end;
        }
        ControlFlow::Continue(())
    }
}

/// The end of the pieces that stay as they are whatever is appended.
struct Settled<'a> {
    text: &'a [u8],
}

impl ScannerVisitor<usize> for Settled<'_> {
    fn visit<S: Scanner>(self, scanner: S) -> usize {
        let mut at = 0;
        while at < self.text.len() {
            let (end, reach) = scanner.next_with_reach(self.text, at);
            if reach > self.text.len() {
                break;
            }
            at = end;
        }
        at
    }
}

fn split(splitter: &Splitter, text: &[u8], sink: &mut impl PieceSink) -> Result<ControlFlow<()>> {
    let mut done = 0;
    for found in splitter.matches(text) {
        let found = found?;
        if done < found.start && sink.piece(text, done..found.start).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        done = found.end;
        if !found.is_empty() && sink.piece(text, found).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    if done < text.len() { Ok(sink.piece(text, done..text.len())) } else { Ok(ControlFlow::Continue(())) }
}
