//! The pre-tokenizer read byte by byte, with marks where it cuts.
//!
//! A language model over bytes needs to know which token sequences can begin a canonical encoding, before it knows how
//! the text goes on; and a pre-tokenizer looks ahead. [`Streaming`] is an automaton that reads bytes and *marks* (here a
//! pretoken ends and another begins) and knows at every point whether some continuation makes all the marks right.
//!
//! # Definitions
//! `B(x)` are the positions strictly inside the text `x` at which one piece ends and the next begins. A *marked prefix*
//! is a string of `n` bytes with a set `M` of marked positions in `1..=n`. It is *alive* when there is a continuation `y`
//! (any bytes, or none) such that `B(x·y)` and `M` hold the same positions below `n`, and position `n` is in `B(x·y)` if
//! it is in `M`. (When it is not, nothing is said about it yet: a mark or a byte may follow.) The state of a marked
//! prefix is [`Streaming::DEAD`] exactly when it is not alive.
//!
//! # How it works
//! `layers` reads the tree of pre-tokenizers as a row of splits, `syntax` their patterns; `alphabet` finds the classes of
//! characters that they tell apart. `layer` turns each split into a machine that guesses what lies ahead and keeps what
//! must come true. `automaton` puts the layers together, drops the guesses that no text makes true, and makes the rest
//! deterministic and minimal; this happens once, so a step is two table look-ups, nothing is locked or allocated, and the
//! number of states is known. Bytes are decoded in front of it: a state here is a state of the automaton and a node in the
//! trie of UTF-8.
//!
//! Bytes that are not UTF-8 mean what they mean to [`super::Splitter`]: they end the text around them and match nothing.

mod alphabet;
mod automaton;
mod layer;
mod layers;
mod program;
mod syntax;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::error::{Error, Result};
use crate::formats::description::PreTokenizer;
use crate::limits::Limits;

use alphabet::{Alphabet, Read, Sets};
use automaton::{Automaton, State};
use layer::Layer;

/// The streaming view of a pre-tokenizer. Immutable; any number of threads may read it.
///
/// Positions are those of the text that is cut. Where the pre-tokenizer writes a space or a mark in front of the text
/// (`ByteLevel { add_prefix_space: true }`, `Metaspace`), the caller writes it too; behind `Metaspace`, the text is the
/// original one, whose spaces stand for marks.
#[derive(Clone)]
pub struct Streaming {
    alphabet: Alphabet,
    automaton: Automaton,
    /// The low bits of a [`StateId`], which hold the node of `alphabet`.
    node_bits: u32,
}

/// What a [`Streaming`] knows of the bytes and marks so far. Two prefixes in the same state go on alike.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StateId(u32);

impl StateId {
    /// The state as a number, for tables of the caller.
    pub fn as_u32(self) -> u32 {
        self.0
    }
}

impl Streaming {
    /// No continuation makes the marks right.
    pub const DEAD: StateId = StateId(automaton::DEAD);

    /// Builds the automaton of a pre-tokenizer. Published patterns have 10 to 51 states.
    ///
    /// # Errors
    /// `Unsupported` naming the component or the part of a pattern that cannot be modelled exactly, or the bound on
    /// states that was passed; a caller then asks the encoder itself, text by text. Whatever
    /// [`super::Splitter::new`] says about a pattern.
    pub fn new(pre_tokenizer: &PreTokenizer, limits: &Limits) -> Result<Self> {
        let mut sets = Sets::default();
        let splits = layers::splits(pre_tokenizer, limits, &mut sets)?;
        let (alphabet, masks) = Alphabet::new(&sets)?;
        let layers: Vec<Layer> =
            splits.iter().map(|split| Layer::new(split, &masks, alphabet.classes())).collect::<Result<_>>()?;
        let automaton = Automaton::new(&layers, alphabet.classes())?;
        // Under 2^15 nodes (`Alphabet::level`) and at most 2^12 states (`automaton::MAX_STATES`): 27 bits.
        let node_bits = usize::BITS - (alphabet.nodes() - 1).leading_zeros();
        Ok(Self { alphabet, automaton, node_bits })
    }

    /// The state before the first byte of a text.
    pub fn start(&self) -> StateId {
        self.id(self.automaton.start(), 0)
    }

    /// The state behind `byte`, with no mark before it. O(1), no allocation.
    #[inline]
    pub fn step(&self, state: StateId, byte: u8) -> StateId {
        let (mut at, mut node) = self.parts(state);
        let mut read = self.alphabet.read(node, byte);
        if read == Read::Malformed && node != 0 {
            // The bytes before will be no character; this one starts anew.
            at = self.automaton.read_malformed(at);
            node = 0;
            read = self.alphabet.read(node, byte);
        }
        match read {
            Read::Class(class) => self.id(self.automaton.read(at, class), 0),
            Read::Malformed => self.id(self.automaton.read_malformed(at), 0),
            Read::Node(node) => {
                let completes = self.automaton.open(at) & self.alphabet.reach_of(read) != 0;
                let breaks = self.automaton.read_malformed(at) != automaton::DEAD;
                if completes || breaks { self.id(at, u32::from(node)) } else { Self::DEAD }
            }
        }
    }

    /// The state with a mark here; dead at the start of a text and behind another mark. O(1), no allocation.
    ///
    /// Inside of a character there is no boundary, so a mark behind the first bytes of one says that they will be no
    /// character.
    #[inline]
    pub fn cut(&self, state: StateId) -> StateId {
        let (at, node) = self.parts(state);
        let at = if node == 0 { at } else { self.automaton.read_malformed(at) };
        // Two neighbouring units that are no characters have no boundary between them, so a byte that would have
        // continued the character is refused behind the mark like any other malformed one.
        self.id(self.automaton.cut(at), 0)
    }

    /// Whether the text may end here: the marks are exactly its boundaries. Never directly behind a mark. O(1).
    #[inline]
    pub fn can_end(&self, state: StateId) -> bool {
        let (at, node) = self.parts(state);
        self.automaton.may_end(if node == 0 { at } else { self.automaton.read_malformed(at) })
    }

    /// Whether nothing is ever cut: every text is one pretoken.
    pub fn is_trivial(&self) -> bool {
        self.automaton.never_cuts()
    }

    /// The number of states between characters, [`Self::DEAD`] included.
    pub fn states(&self) -> usize {
        self.automaton.len()
    }

    #[inline]
    fn parts(&self, state: StateId) -> (State, u32) {
        (state.0 >> self.node_bits, state.0 & ((1 << self.node_bits) - 1))
    }

    #[inline]
    fn id(&self, at: State, node: u32) -> StateId {
        StateId(at << self.node_bits | node)
    }
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").field("states", &self.states()).finish_non_exhaustive()
    }
}

/// The error for what the automaton cannot model.
fn unsupported(what: impl Into<String>) -> Error {
    let what: String = what.into();
    Error::unsupported(
        "pre_tokenizer",
        format!("{what}: not modelled byte by byte"),
        "compare encodings of whole texts instead",
    )
}
