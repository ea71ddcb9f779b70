//! Dynamic tokenization: the tokens of a batch, merged by what the batch repeats.
//!
//! After Feher et al. 2024 (arXiv:2411.18553). Starting from base tokens, the most frequent pair of neighbours in the
//! whole batch becomes one token, again and again. [`reference`] is the definition, line by line; [`merge`] gives the
//! same in time that grows with the number of replacements.
//!
//! # What may merge
//! Two neighbours of one text whose [`Base::groups`] numbers are equal (in the default, the number of their pretoken),
//! that are both made from text: a special or an added token never merges, nor does one without bytes. The published
//! program asks its pre-tokenizer about the decoded pair instead and takes any pair that does not decode for valid, so
//! it merges `<s>` into an emoji; on text where every pair decodes, both agree but where a pair of one pretoken has
//! white space after its first character (Llama 3's `.\n`): the published program refuses it, here the pretoken decides.
//!
//! # Which pair
//! The one with the most occurrences, overlapping ones counted (`a a a` has `a a` twice). Among equals the one whose
//! first occurrence, texts in order and tokens from the left, comes first.
//!
//! # What a token is
//! Its bytes. Pairs of different pieces that give equal bytes make one new token; a pair that gives the bytes of a base
//! token becomes that token. So base ids with equal bytes count as one in pairs, and keep their id where they stay.
//!
//! [`units`] numbers words and sentences, which serve as groups; [`lzw`] is another engine, which works online.

mod engine;
pub mod lzw;
pub mod reference;
#[cfg(test)]
mod tests;
mod tokens;
pub mod units;

pub use engine::merge;
pub use tokens::Identity;

use crate::error::{Error, Result};
use crate::ids::TokenId;

/// The base tokens of a batch: text `i` has tokens `offsets[i]..offsets[i + 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// All ids.
    pub ids: &'a [TokenId],
    /// From 0 to the number of ids.
    pub offsets: &'a [i64],
    /// Neighbours merge only where these are equal; one number for each id.
    pub groups: &'a [u32],
}

/// How far merging goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most merges.
    pub max_merges: u64,
    /// The merge by which the batch has no more tokens than this is the last.
    pub target: Target,
    /// Least occurrences of a pair that is merged.
    pub min_count: u32,
    /// Longest token that a merge makes, in bytes: a pair that would give a longer one is no candidate.
    pub max_bytes: usize,
}

/// How many tokens are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// None are: other stops decide.
    None,
    /// So many in the whole batch.
    Tokens(u64),
    /// As many as are left when this share of the base tokens is gone.
    OfBase(Share),
    /// As many as are left when this share of the places between neighbours that may merge is closed.
    OfOpen(Share),
}

/// A share as a fraction, so that a tenth of 30 is 3 and no rounding decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The numerator.
    pub parts: u64,
    /// The denominator, not 0.
    pub of: u64,
}

impl Share {
    /// The least whole number that is at least this share of `total`.
    fn of(self, total: u64) -> u64 {
        let share = (u128::from(total) * u128::from(self.parts)).div_ceil(u128::from(self.of.max(1)));
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

/// Longest token of a merge unless said otherwise: what keeps the work on one endless pretoken linear.
pub const MAX_BYTES: usize = 4096;

impl Default for Options {
    fn default() -> Self {
        Self { max_merges: u64::MAX, target: Target::None, min_count: 1, max_bytes: MAX_BYTES }
    }
}

/// Why merging ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No pair is left.
    Exhausted,
    /// [`Options::max_merges`] were made.
    MaxMerges,
    /// [`Options::target`] was reached.
    Target,
    /// Every pair left has fewer occurrences than [`Options::min_count`].
    MinCount,
}

impl Stop {
    /// The name that Python sees.
    pub fn name(self) -> &'static str {
        match self {
            Stop::Exhausted => "exhausted",
            Stop::MaxMerges => "max_merges",
            Stop::Target => "target",
            Stop::MinCount => "min_count",
        }
    }
}

/// One merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The left token, a base id or a new one.
    pub left: TokenId,
    /// The right token.
    pub right: TokenId,
    /// What they became.
    pub token: TokenId,
    /// Occurrences of the pair, overlapping ones counted.
    pub count: u32,
    /// How many of them were replaced.
    pub replaced: u32,
}

/// A merged batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// All ids: base ids, and from [`Identity::first_new`] on new ones in the order in which they were made.
    pub ids: Vec<TokenId>,
    /// Text `i` has `ids[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<i64>,
    /// Token `j` stands for the base tokens `starts[j]..starts[j + 1]`, counted through the whole batch.
    pub starts: Vec<i64>,
    /// The bytes of new token `k`: `new_bytes[new_offsets[k]..new_offsets[k + 1]]`.
    pub new_bytes: Vec<u8>,
    /// See `new_bytes`.
    pub new_offsets: Vec<i64>,
    /// The base ids that new token `k` was first made of: `pieces[piece_offsets[k]..piece_offsets[k + 1]]`. What was
    /// itself made by a merge and is a base token counts as that token.
    pub pieces: Vec<TokenId>,
    /// See `pieces`.
    pub piece_offsets: Vec<i64>,
    /// The merges in order.
    pub merges: Vec<Merge>,
    /// Why there are not more.
    pub stop: Stop,
    /// How many places between base tokens the groups allow to close.
    pub open: u64,
}

/// The groups that hold from some merge on.
#[derive(Clone, Copy, Debug)]
pub struct Transition<'a> {
    /// After so many merges, or earlier when none is left under the first groups.
    pub after: u64,
    /// The groups from there on.
    pub groups: &'a [u32],
}

impl Base<'_> {
    /// Checks the shape; positions are 32 bits wide inside.
    fn check(&self, then: Option<&Transition<'_>>) -> Result<()> {
        let n = self.ids.len();
        if u32::try_from(n).is_err() {
            return Err(Error::value("ids", format!("{n} tokens"), "merge batches of fewer than 2^32 tokens"));
        }
        let rises = self.offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let ends = (self.offsets.first().copied(), self.offsets.last().copied());
        if !rises || ends != (Some(0), i64::try_from(n).ok()) {
            let found = format!("they do not rise from 0 to {n}");
            return Err(Error::value("offsets", found, "give texts + 1 numbers, text i at offsets[i]..offsets[i + 1]"));
        }
        for (field, groups) in [("groups", Some(self.groups)), ("transition.groups", then.map(|then| then.groups))] {
            if let Some(groups) = groups.filter(|groups| groups.len() != n) {
                return Err(Error::value(field, format!("{} for {n} tokens", groups.len()), "give one for each token"));
            }
        }
        Ok(())
    }

    /// Whether the place before each token may be closed, under `groups`.
    fn open(&self, groups: &[u32], identity: &Identity) -> Vec<bool> {
        let mut open = vec![false; self.ids.len() + 1];
        for at in 1..self.ids.len() {
            let (left, right) = (self.ids[at - 1], self.ids[at]);
            open[at] = groups[at - 1] == groups[at] && identity.merges(left) && identity.merges(right);
        }
        for &at in self.offsets {
            // Checked to lie in 0..=n.
            open[usize::try_from(at).unwrap_or(0)] = false;
        }
        open
    }

    /// How many places may be closed at some time.
    fn places(&self, then: Option<&Transition<'_>>, identity: &Identity) -> u64 {
        let mut open = self.open(self.groups, identity);
        if let Some(then) = then {
            let later = self.open(then.groups, identity);
            open.iter_mut().zip(later).for_each(|(open, later)| *open |= later);
        }
        open.iter().map(|&open| u64::from(open)).sum()
    }
}

impl Options {
    fn check(&self) -> Result<()> {
        if self.min_count == 0 {
            return Err(Error::value("min_count", "0", "a pair that occurs has at least 1"));
        }
        match self.target {
            Target::OfBase(Share { of: 0, .. }) | Target::OfOpen(Share { of: 0, .. }) => {
                Err(Error::value("target", "a share with the denominator 0", "give a fraction"))
            }
            _ => Ok(()),
        }
    }

    /// The number of tokens that is enough, of `tokens` with `open` places to close.
    fn enough(&self, tokens: u64, open: u64) -> u64 {
        match self.target {
            Target::None => 0,
            Target::Tokens(target) => target,
            Target::OfBase(share) => tokens.saturating_sub(share.of(tokens)),
            Target::OfOpen(share) => tokens.saturating_sub(share.of(open)),
        }
    }
}
