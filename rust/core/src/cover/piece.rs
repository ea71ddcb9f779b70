//! What a context is in the middle of: the open pretoken, under each hypothesis about where it began.

use std::sync::Arc;

use super::added::Runs;
use super::longest::Matches;
use super::viterbi::Column;
use crate::ids::TokenId;
use crate::pretoken::streaming::StateId;

/// Bytes of a character that byte tokens have begun to spell, behind a leading 1: at most three, four while the last is
/// looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending(u64);

impl Pending {
    pub(super) const NONE: Self = Self(1);

    pub(super) fn bytes(self) -> ([u8; 4], usize) {
        let len = (63 - self.0.leading_zeros()) as usize / 8;
        let mut bytes = [0; 4];
        bytes[..len].copy_from_slice(&self.0.to_be_bytes()[8 - len..]);
        (bytes, len)
    }

    /// With one byte more; a character has four at most, and a complete one is never pending.
    pub(super) fn with(self, byte: u8) -> Self {
        Self((self.0 << 8) | u64::from(byte))
    }
}

/// The tokens of the open pretoken, as far as the next one depends on them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tail {
    /// There is none yet: the pretoken begins here.
    Fresh,
    /// BPE looks at the last one, and at a character that byte tokens have begun.
    Bpe {
        /// The last token.
        last: TokenId,
        /// What its character still lacks.
        pending: Pending,
        /// Whether there are more.
        many: bool,
    },
    /// A token that merges do not make: the pretoken is this token and ends here (`ignore_merges`).
    Whole,
    /// Longest match looks at the longer tokens that have begun.
    Longest(Matches),
    /// Unigram looks at the best paths to where tokens may have begun.
    Viterbi(Arc<Column>),
    /// The text has to be encoded again.
    Again,
}

impl Tail {
    /// The best paths; `None` before the first token.
    pub(super) fn column(&self) -> Option<&Column> {
        if let Self::Viterbi(column) = self { Some(column) } else { None }
    }

    /// Whether other texts are likely to have the same one.
    pub(super) fn comes_again(&self) -> bool {
        self.column().is_none_or(Column::comes_again)
    }
}

/// One hypothesis: where the open pretoken began, and what must hold of the text to come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// Where the pretoken began, in tokens from the root.
    pub(super) start: u32,
    /// The cutting machine.
    pub(super) stream: StateId,
    /// Added tokens that must not be completed.
    pub(super) runs: Runs,
    /// The tokens of the pretoken.
    pub(super) tail: Tail,
    /// Whether the segment between added tokens is still empty.
    pub(super) empty: bool,
}

#[cfg(test)]
mod tests {
    use super::Pending;

    #[test]
    fn pending_bytes_are_kept_in_order() {
        assert_eq!(Pending::NONE.bytes(), ([0; 4], 0));
        assert_eq!(Pending::NONE.with(0).bytes(), ([0; 4], 1));
        assert_eq!(Pending::NONE.with(0xF0).with(0x9F).with(0x00).bytes(), ([0xF0, 0x9F, 0, 0], 3));
        let four = Pending::NONE.with(0xF0).with(0x9F).with(0x98).with(0x94);
        assert_eq!(four.bytes(), ([0xF0, 0x9F, 0x98, 0x94], 4));
    }
}
