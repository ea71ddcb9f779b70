//! The vocabulary sorted by bytes: a node of its trie is an interval of the order, and a sum of probabilities is a sum
//! over an interval.
//!
//! ```text
//! place      0     1     2      3       4     5         the tokens that begin with `a` are the interval 0..4,
//! token      a     ab    abc    abc     b     ca        those that begin with `ab` are 1..4; those that end there
//! id         7     2     0      9       1     4         come first: 1..2
//! ```
//!
//! No node of the trie is stored. Walking is binary search ([`VocabIndex::narrow`]), and the mass below a node is
//! summed when it is asked for, over the interval and over nothing else ([`root_sums`], [`slice_sums`]): a difference of
//! running sums would lose the small intervals, and few of the nodes are ever asked for.
//!
//! Byte strings that several ids share stand side by side, by id; their masses add up. Tokens without bytes have no
//! place. Rows of the model that belong to no token take part in the normaliser and in nothing else.

mod bits;
mod blocks;
mod logits;
#[cfg(test)]
mod reference;
mod sums;
#[cfg(test)]
mod tests;

pub use bits::Bits;
pub use logits::Logits;
pub use sums::{RootSums, gather, interval_log_mass, root_sums, slice_sums};

use crate::{Error, Result, TokenId};

const NO_PLACE: u32 = u32::MAX;
const BYTES: usize = 256;

/// A stretch `lo..hi` of the sorted tokens: those below one node of the trie.
///
/// The depth of the node, that is how many bytes the tokens share, is kept by the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interval {
    /// The first place.
    pub lo: u32,
    /// One past the last place.
    pub hi: u32,
}

impl Interval {
    /// How many places it has.
    pub fn len(self) -> u32 {
        self.hi.saturating_sub(self.lo)
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.lo >= self.hi
    }

    fn range(self) -> std::ops::Range<usize> {
        self.lo as usize..self.hi.max(self.lo) as usize
    }
}

/// The tokens of a vocabulary in the order of their bytes. Immutable.
///
/// About 16 bytes a token and the tokens' bytes.
#[derive(Clone, Debug)]
pub struct VocabIndex {
    /// By place.
    ids: Box<[TokenId]>,
    /// By id, one for each row; [`NO_PLACE`] where the row is no token with bytes.
    places: Box<[u32]>,
    /// By place, and one more: where the token's bytes start in `bytes`.
    starts: Box<[u32]>,
    bytes: Box<[u8]>,
    /// Where the tokens begin whose first byte is at least `b`; one more for the end.
    roots: Box<[u32; BYTES + 1]>,
    /// The rows without a place, ascending.
    others: Box<[TokenId]>,
    empty: Box<[TokenId]>,
    longest: u32,
}

fn to_u32(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::limit("tokens", number, u32::MAX as usize, "vocabulary bytes"))
}

/// The first eight bytes as a number that sorts as they do; shorter tokens are filled up with zeros.
fn head(token: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (to, &from) in bytes.iter_mut().zip(token) {
        *to = from;
    }
    u64::from_be_bytes(bytes)
}

impl VocabIndex {
    /// Sorts the tokens that stand for bytes, each with its id; `rows` is the number of rows of the model's logits.
    ///
    /// Tokens may come in any order. Those without bytes get no place and are listed by [`VocabIndex::empty`].
    /// O(n log n).
    ///
    /// # Errors
    /// An id twice, an id that has no row, or more than 2³² - 1 rows or bytes.
    pub fn new<'a>(tokens: impl Iterator<Item = (TokenId, &'a [u8])>, rows: usize) -> Result<Self> {
        if to_u32(rows)? == NO_PLACE {
            return Err(Error::value("rows", format!("{rows} rows"), format!("have fewer than {NO_PLACE}")));
        }
        let (mut sorted, mut empty) = (Vec::new(), Vec::new());
        let mut places = vec![NO_PLACE; rows].into_boxed_slice();
        for (id, bytes) in tokens {
            let Some(place) = places.get_mut(id as usize) else {
                return Err(Error::value(
                    format!("tokens[{id}]"),
                    format!("the token has no row: the logits have {rows}"),
                    "leave out the tokens beyond the model's rows",
                ));
            };
            if *place != NO_PLACE {
                return Err(Error::value(format!("tokens[{id}]"), "the id comes twice", "give every id once"));
            }
            *place = 0; // until the order is known: seen
            if bytes.is_empty() {
                empty.push(id);
            } else {
                sorted.push((head(bytes), bytes, id));
            }
        }
        // Most pairs differ in their first eight bytes, which lie in the array itself.
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)).then(a.2.cmp(&b.2)));
        empty.sort_unstable();
        for &id in &empty {
            places[id as usize] = NO_PLACE;
        }
        let size = sorted.iter().map(|token| token.1.len()).sum();
        to_u32(size)?;
        let mut bytes = Vec::with_capacity(size);
        let mut starts = Vec::with_capacity(sorted.len() + 1);
        let mut roots = Box::new([0; BYTES + 1]);
        let mut longest = 0;
        for (place, (_, token, id)) in (0..).zip(&sorted) {
            places[*id as usize] = place;
            starts.push(to_u32(bytes.len())?);
            bytes.extend_from_slice(token);
            roots[usize::from(token[0]) + 1] = place + 1;
            longest = longest.max(token.len());
        }
        starts.push(to_u32(bytes.len())?);
        for byte in 0..BYTES {
            roots[byte + 1] = roots[byte + 1].max(roots[byte]);
        }
        Ok(Self {
            ids: sorted.iter().map(|token| token.2).collect(),
            others: (0..).zip(&places).filter(|&(_, &place)| place == NO_PLACE).map(|(id, _)| id).collect(),
            places,
            starts: starts.into(),
            bytes: bytes.into(),
            roots,
            empty: empty.into(),
            longest: to_u32(longest)?,
        })
    }

    /// How many tokens have a place.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many rows the model's logits have.
    pub fn rows(&self) -> usize {
        self.places.len()
    }

    /// The ids of the tokens without bytes, ascending; they have no place.
    pub fn empty(&self) -> &[TokenId] {
        &self.empty
    }

    /// The id at a place.
    ///
    /// # Panics
    /// Where there is no such place.
    pub fn id(&self, place: u32) -> TokenId {
        self.ids[place as usize]
    }

    /// The ids by place.
    pub fn ids(&self) -> &[TokenId] {
        &self.ids
    }

    /// The place of an id; `None` where it is no token with bytes.
    pub fn place(&self, id: TokenId) -> Option<u32> {
        self.places.get(id as usize).copied().filter(|&place| place != NO_PLACE)
    }

    /// The bytes of the token at a place.
    ///
    /// # Panics
    /// Where there is no such place.
    #[inline]
    pub fn token(&self, place: u32) -> &[u8] {
        let place = place as usize;
        &self.bytes[self.starts[place] as usize..self.starts[place + 1] as usize]
    }

    /// How many bytes the token at a place has, without looking at them.
    ///
    /// # Panics
    /// Where there is no such place.
    #[inline]
    pub fn token_len(&self, place: u32) -> u32 {
        let place = place as usize;
        self.starts[place + 1] - self.starts[place]
    }

    /// How many bytes the longest token has; 0 where there is none.
    pub fn longest(&self) -> u32 {
        self.longest
    }

    /// All places.
    pub fn root(&self) -> Interval {
        Interval { lo: 0, hi: self.roots[BYTES] }
    }

    /// The tokens of `at` whose byte number `depth` is `byte`; an empty interval where there is none.
    ///
    /// The tokens of `at` share their first `depth` bytes. O(log n); O(1) at the root.
    pub fn narrow(&self, at: Interval, depth: u32, byte: u8) -> Interval {
        if depth == 0 && at == self.root() {
            let byte = usize::from(byte);
            return Interval { lo: self.roots[byte], hi: self.roots[byte + 1] };
        }
        let lo = self.first(at, |place| self.byte(place, depth) < Some(byte));
        let hi = self.first(Interval { lo, ..at }, |place| self.byte(place, depth) == Some(byte));
        Interval { lo, hi }
    }

    /// The tokens of `at` that have no byte beyond the `depth` that all share: they come first. O(log n).
    pub fn ending(&self, at: Interval, depth: u32) -> Interval {
        Interval { hi: self.first(at, |place| self.token_len(place) <= depth), ..at }
    }

    /// The next bytes of `at`, whose tokens share `depth` bytes, each with its tokens; ascending, none of them empty.
    ///
    /// O(log k) for an interval of k tokens.
    pub fn children(&self, at: Interval, depth: u32) -> impl Iterator<Item = (u8, Interval)> + '_ {
        let mut rest = Interval { lo: self.ending(at, depth).hi, ..at };
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let byte = self.byte(rest.lo, depth)?;
            let child = Interval { hi: self.leap(rest, |place| self.byte(place, depth) == Some(byte)), ..rest };
            rest.lo = child.hi;
            Some((byte, child))
        })
    }

    #[inline]
    fn byte(&self, place: u32, depth: u32) -> Option<u8> {
        self.token(place).get(depth as usize).copied()
    }

    /// The first place of `at` of which `before` is not true, its end if there is none. Binary search.
    #[inline]
    fn first(&self, at: Interval, before: impl Fn(u32) -> bool) -> u32 {
        let Interval { mut lo, mut hi } = at;
        while lo < hi {
            let middle = lo.midpoint(hi);
            if before(middle) {
                lo = middle + 1;
            } else {
                hi = middle;
            }
        }
        lo
    }

    /// The same for an answer near the beginning: in steps of 1, 2, 4... and then between the last two.
    #[inline]
    fn leap(&self, at: Interval, before: impl Fn(u32) -> bool) -> u32 {
        let (mut lo, mut step) = (at.lo, 1);
        while lo < at.hi {
            let probe = lo.saturating_add(step - 1).min(at.hi - 1);
            if !before(probe) {
                return self.first(Interval { lo, hi: probe }, before);
            }
            (lo, step) = (probe + 1, step * 2);
        }
        lo
    }
}
