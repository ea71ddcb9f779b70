//! The tree of pre-tokenizers: cutting a text into the pieces that a model sees.
//!
//! [`Compiled`] runs a [`PreTokenizer`] exactly as `tokenizers` 0.23.3 does, piece by piece from the left and without
//! building lists: the pieces of a step are handed to the next step as they are found. Empty pieces are dropped
//! everywhere, as there.
//!
//! # The byte alphabet
//! `ByteLevel` writes every byte as a character of GPT-2's alphabet. Here the alphabet is applied to the vocabulary
//! instead, once, so the pieces of a tree that ends in `ByteLevel` are raw bytes ([`Output::RawBytes`]). Steps after
//! `ByteLevel` do see the alphabet (Falcon cuts at digits there, and the byte 0xB2 is the digit `²`); their pieces are
//! turned back into bytes. Only where such a step writes characters of its own (`Metaspace`), and before a model that
//! reads characters (Unigram), do the pieces stay in the alphabet ([`Output::Text`]).
//!
//! # Bytes that are not UTF-8
//! They are no white space, digit, punctuation, word character or script: they stay with the text around them, but
//! `Whitespace` and `UnicodeScripts` drop what they do not know, and so drop them too. `FixedLength` counts a maximal
//! subpart as one character.

mod classes;
mod cut;
mod rewrite;
mod tables;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::error::{Error, Result};
use crate::formats::description::{PreTokenizer, PrependScheme};
use crate::limits::Limits;
use crate::normalize::{Span, View};

pub(in crate::pretoken) use classes::is_punctuation;
pub(crate) use classes::own_script;
use cut::Cut;
use rewrite::Rewrite;

/// A compiled [`PreTokenizer`].
#[derive(Clone, Debug)]
pub struct Compiled {
    steps: Vec<Step>,
    output: Output,
}

/// What the bytes of a piece are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The alphabet of the vocabulary as the file writes it.
    Text,
    /// Raw bytes, where the file's vocabulary writes them in GPT-2's alphabet.
    RawBytes,
}

/// One step; sequences are flat.
#[derive(Clone, Debug)]
enum Step {
    /// Pieces are parts of the text.
    Cut(Box<Cut>),
    /// The text changes.
    Rewrite(Rewrite),
}

/// Receives pieces.
type Emit<'f> = dyn FnMut(View<'_>) -> Result<()> + 'f;

/// All pieces of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// The bytes of all pieces, one after the other.
    pub bytes: Vec<u8>,
    /// Where piece `i` ends in `bytes`; it starts where the one before ends.
    pub ends: Vec<usize>,
    /// The original bytes of each piece; empty when the text came without alignment.
    pub origins: Vec<Span>,
}

impl Pieces {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Piece `i`.
    pub fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.range(i)]
    }

    /// Where piece `i` lies in `bytes`.
    pub fn range(&self, i: usize) -> Range<usize> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        start..self.ends[i]
    }

    /// Every piece.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }
}

impl Compiled {
    /// Compiles `pre_tokenizer`. O(its size).
    ///
    /// # Errors
    /// A pattern that cannot be used, nesting over `limits.depth`, `FixedLength` of 0.
    pub fn new(pre_tokenizer: &PreTokenizer, limits: &Limits) -> Result<Self> {
        Self::compile(pre_tokenizer, false, limits)
    }

    /// The same with [`Output::Text`] always: for a model that reads characters, those of the alphabet too.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn of_text(pre_tokenizer: &PreTokenizer, limits: &Limits) -> Result<Self> {
        Self::compile(pre_tokenizer, true, limits)
    }

    fn compile(pre_tokenizer: &PreTokenizer, keeps_alphabet: bool, limits: &Limits) -> Result<Self> {
        let mut leaves = Vec::new();
        flatten(pre_tokenizer, limits, 0, &mut leaves)?;
        let last_byte_level = leaves.iter().rposition(|leaf| matches!(leaf, PreTokenizer::ByteLevel { .. }));
        let after = last_byte_level.map_or(&[][..], |at| &leaves[at + 1..]);
        let writes = |leaf: &&PreTokenizer| matches!(leaf, PreTokenizer::Metaspace { prepend_scheme, .. } if *prepend_scheme != PrependScheme::Never);
        let is_raw = last_byte_level.is_some() && !keeps_alphabet && !after.iter().any(writes);
        let output = if is_raw { Output::RawBytes } else { Output::Text };
        // The last `ByteLevel` has nothing to write when its bytes stay raw and nobody looks at its alphabet.
        let silent = last_byte_level.filter(|_| is_raw && after.is_empty());
        let mut steps = Vec::new();
        for (at, leaf) in leaves.iter().enumerate() {
            push_steps(leaf, Some(at) != silent, limits, &mut steps)?;
        }
        if output == Output::RawBytes && silent.is_none() {
            steps.push(Step::Rewrite(Rewrite::FromAlphabet));
        }
        Ok(Self { steps, output })
    }

    /// Whether every text is one piece, unchanged.
    pub fn is_identity(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a piece may hold bytes that the text does not have at its place. Otherwise all pieces are parts of the
    /// text, in order (some parts may be dropped).
    pub fn changes_text(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Rewrite(_)))
    }

    /// Whether a part of the text may be dropped.
    pub fn drops_text(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Cut(cut) if cut.drops()))
    }

    /// Whether a text may be more than one piece.
    pub fn cuts(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Cut(_)))
    }

    /// What the bytes of a piece are.
    pub fn output(&self) -> Output {
        self.output
    }

    /// Whether the pieces depend on where the text starts in the original beyond its first byte: a `Metaspace` that
    /// marks the first piece comes after a step. Then only aligned views give exact pieces, since `tokenizers` asks
    /// whether the piece's *original* bytes start at 0.
    pub fn needs_alignment(&self) -> bool {
        let is_first = |step: &Step| {
            matches!(step, Step::Rewrite(Rewrite::Metaspace { prepend_scheme: PrependScheme::First, .. }))
        };
        self.steps.iter().skip(1).any(is_first)
    }

    /// Calls `emit` with every piece of `text`, from the left.
    ///
    /// The pieces of an aligned text are aligned. O(n) per step, but for patterns with look-around; memory for the
    /// pieces that a step rewrites, nothing else.
    ///
    /// # Errors
    /// A pattern passed `Limits.backtrack_steps`, or `emit` failed.
    pub fn for_each(&self, text: View<'_>, emit: &mut Emit<'_>) -> Result<()> {
        walk(&self.steps, text, emit)
    }

    /// Returns the pieces of `text`, copied. See [`Self::for_each`].
    ///
    /// # Errors
    /// A pattern passed `Limits.backtrack_steps`.
    pub fn pieces(&self, text: View<'_>) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        self.for_each(text, &mut |piece| {
            pieces.bytes.extend_from_slice(piece.bytes());
            pieces.ends.push(pieces.bytes.len());
            pieces.origins.extend(piece.origin(0..piece.bytes().len()));
            Ok(())
        })?;
        Ok(pieces)
    }
}

fn walk(steps: &[Step], piece: View<'_>, emit: &mut Emit<'_>) -> Result<()> {
    if piece.is_empty() {
        return Ok(());
    }
    let Some((step, rest)) = steps.split_first() else { return emit(piece) };
    match step {
        Step::Cut(cut) if rest.is_empty() => {
            cut.for_each(piece.bytes(), |range| if range.is_empty() { Ok(()) } else { emit(piece.slice(range)) })
        }
        Step::Cut(cut) => cut.for_each(piece.bytes(), |range| walk(rest, piece.slice(range), emit)),
        Step::Rewrite(rewrite) => rewrite.apply(piece, |piece| walk(rest, piece, emit)),
    }
}

fn flatten<'p>(
    pre_tokenizer: &'p PreTokenizer,
    limits: &Limits,
    depth: usize,
    leaves: &mut Vec<&'p PreTokenizer>,
) -> Result<()> {
    if depth > limits.depth {
        return Err(Error::limit("pre_tokenizer", depth, limits.depth, "depth"));
    }
    match pre_tokenizer {
        PreTokenizer::Sequence(all) => all.iter().try_for_each(|leaf| flatten(leaf, limits, depth + 1, leaves)),
        leaf => {
            leaves.push(leaf);
            Ok(())
        }
    }
}

/// Adds the steps of one pre-tokenizer. `in_alphabet` says whether a `ByteLevel` writes its alphabet.
fn push_steps(leaf: &PreTokenizer, in_alphabet: bool, limits: &Limits, steps: &mut Vec<Step>) -> Result<()> {
    let mut cut = |cut: Cut| steps.push(Step::Cut(Box::new(cut)));
    match leaf {
        PreTokenizer::Sequence(_) => {}
        PreTokenizer::ByteLevel { add_prefix_space, use_regex, .. } => {
            if *add_prefix_space {
                steps.push(Step::Rewrite(Rewrite::PrefixSpace));
            }
            if *use_regex {
                steps.push(Step::Cut(Box::new(Cut::gpt2())));
            }
            if in_alphabet {
                steps.push(Step::Rewrite(Rewrite::ToAlphabet));
            }
        }
        PreTokenizer::Split { pattern, behavior, invert } => cut(Cut::pattern(pattern, *behavior, *invert, limits)?),
        PreTokenizer::Metaspace { replacement, prepend_scheme, split } => {
            steps
                .push(Step::Rewrite(Rewrite::Metaspace { replacement: *replacement, prepend_scheme: *prepend_scheme }));
            if *split {
                steps.push(Step::Cut(Box::new(Cut::before(*replacement))));
            }
        }
        PreTokenizer::Bert => {
            cut(Cut::whitespace());
            cut(Cut::punctuation(crate::formats::description::SplitBehavior::Isolated));
        }
        PreTokenizer::Whitespace => cut(Cut::words()),
        PreTokenizer::WhitespaceSplit => cut(Cut::whitespace()),
        PreTokenizer::CharDelimiterSplit(delimiter) => cut(Cut::delimiter(*delimiter)),
        PreTokenizer::Punctuation(behavior) => cut(Cut::punctuation(*behavior)),
        PreTokenizer::Digits { individual_digits } => cut(Cut::digits(*individual_digits)),
        PreTokenizer::UnicodeScripts => cut(Cut::scripts()),
        PreTokenizer::FixedLength(0) => {
            return Err(Error::format("pre_tokenizer.length", "0", "a piece has at least 1 character"));
        }
        PreTokenizer::FixedLength(length) => cut(Cut::fixed(*length)),
    }
    Ok(())
}
