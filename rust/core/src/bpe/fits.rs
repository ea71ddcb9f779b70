//! A memory of which token was found to follow which.
//!
//! Asked is for the longest of a token `right` and its prefixes that may follow the token `left`. The answer depends on
//! the two alone, so remembering it changes no result: the tokens that a text can go on with are its longest match and
//! those prefixes of the match that are tokens, whatever the text is; and which of them may follow `left` is a matter of
//! pairs ([`super::linear`], fact 1). Where the search turned back does depend on the text, and is looked at afterwards.
//!
//! In English text, with supertokens, half of what is asked for is new, whatever the size of the memory; a quarter of
//! the answers is [`NOTHING_FITS`], which costs a test of every prefix where it is not remembered.

use crate::bytetrie::MAX_VALUE;
use crate::ids::TokenId;

/// Slots: 2^16 of them, 512 KiB, direct-mapped, exact keys.
const SLOT_BITS: u32 = 16;

/// Ids of a [`ByteTrie`](crate::bytetrie::ByteTrie) have 27 bits, and the largest is not used.
const ID_BITS: u32 = 27;
const ANSWER_BITS: u32 = 10;
const ANSWER: u64 = (1 << ANSWER_BITS) - 1;

/// Neither `right` nor any of its prefixes.
pub(super) const NOTHING_FITS: u64 = ANSWER;
/// Not `right`; nobody has asked for its prefixes yet, or it takes too many steps to one that fits.
pub(super) const ANOTHER: u64 = ANSWER - 1;

const _: () = assert!(2 * ID_BITS + ANSWER_BITS == 64 && MAX_VALUE < (1 << ID_BITS) - 1);

/// `left << 37 | right << 10 | answer`; all ones: nothing. Answers below [`ANOTHER`] count the prefixes that are tokens
/// and longer than the one that fits, `right` included.
type Slot = u64;

/// See the module.
#[derive(Default)]
pub(super) struct Fits(Vec<Slot>);

impl Fits {
    /// Makes room, once.
    pub(super) fn prepare(&mut self) {
        if self.0.is_empty() {
            self.0 = vec![Slot::MAX; 1 << SLOT_BITS];
        }
    }

    /// The answer for `left` and `right`, if it is remembered, and the slot of it.
    #[inline]
    pub(super) fn recall(&self, left: TokenId, right: TokenId) -> (Option<u64>, usize) {
        let key = key_of(left, right);
        let mixed = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (key >> 7)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let slot = (mixed >> (64 - SLOT_BITS)) as usize;
        let found = self.0[slot];
        ((found >> ANSWER_BITS == key).then_some(found & ANSWER), slot)
    }

    /// Puts an answer into the slot that [`Fits::recall`] gave.
    #[inline]
    pub(super) fn remember(&mut self, slot: usize, (left, right): (TokenId, TokenId), answer: u64) {
        self.0[slot] = key_of(left, right) << ANSWER_BITS | answer;
    }
}

#[inline]
fn key_of(left: TokenId, right: TokenId) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}
