//! A set of places, one bit each.

use super::Interval;

const WORD: u32 = u64::BITS;

/// A set of places of a [`super::VocabIndex`], one bit per place in sorted order.
///
/// It has no fixed size: a place beyond the last word is not in the set, and inserting one makes the set longer
/// (an eighth of a byte for each place up to it). Sets of different lengths combine as sets do.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of the places `0..places`.
    pub fn full(places: u32) -> Self {
        let mut bits = Self::new();
        bits.insert_range(Interval { lo: 0, hi: places });
        bits
    }

    /// Whether `place` is in the set.
    #[inline]
    pub fn get(&self, place: u32) -> bool {
        self.words.get((place / WORD) as usize).is_some_and(|word| word >> (place % WORD) & 1 == 1)
    }

    /// Puts `place` into the set, or takes it out.
    pub fn set(&mut self, place: u32, member: bool) {
        let (at, bit) = ((place / WORD) as usize, 1 << (place % WORD));
        if member {
            self.reach(at + 1);
            self.words[at] |= bit;
        } else if let Some(word) = self.words.get_mut(at) {
            *word &= !bit;
        }
    }

    /// Puts every place of `at` into the set. O(length / 64).
    pub fn insert_range(&mut self, at: Interval) {
        if at.is_empty() {
            return;
        }
        let (first, last) = ((at.lo / WORD) as usize, ((at.hi - 1) / WORD) as usize);
        self.reach(last + 1);
        let from = u64::MAX << (at.lo % WORD);
        let to = u64::MAX >> (WORD - 1 - (at.hi - 1) % WORD);
        if first == last {
            self.words[first] |= from & to;
        } else {
            self.words[first] |= from;
            self.words[first + 1..last].fill(u64::MAX);
            self.words[last] |= to;
        }
    }

    fn reach(&mut self, words: usize) {
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// Keeps what is in both sets.
    pub fn and(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        for (word, with) in self.words.iter_mut().zip(&other.words) {
            *word &= with;
        }
    }

    /// Adds what is in `other`.
    pub fn or(&mut self, other: &Self) {
        self.reach(other.words.len());
        for (word, with) in self.words.iter_mut().zip(&other.words) {
            *word |= with;
        }
    }

    /// Takes out what is in `other`.
    pub fn and_not(&mut self, other: &Self) {
        for (word, with) in self.words.iter_mut().zip(&other.words) {
            *word &= !with;
        }
    }

    /// How many places are in the set.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// How many places of `at` are in the set. O(length / 64).
    pub fn count_in(&self, at: Interval) -> u32 {
        let held = u32::try_from(self.words.len()).unwrap_or(u32::MAX).saturating_mul(WORD);
        let (mut lo, hi, mut count) = (at.lo, at.hi.min(held), 0);
        while lo < hi {
            let width = (hi - lo).min(WORD);
            count += (self.word(lo) & u64::MAX >> (WORD - width)).count_ones();
            lo += width;
        }
        count
    }

    /// The places in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).step_by(WORD as usize).zip(&self.words).flat_map(|(first, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(first + bit)
            })
        })
    }

    /// The 64 bits from `place` on, the first of them the lowest.
    #[inline(always)]
    pub(super) fn word(&self, place: u32) -> u64 {
        let (at, shift) = ((place / WORD) as usize, place % WORD);
        let low = self.words.get(at).copied().unwrap_or(0);
        let high = self.words.get(at + 1).copied().unwrap_or(0);
        // In two steps, as a shift by 64 is none.
        low >> shift | (high << 1) << (WORD - 1 - shift)
    }
}

/// Equal as sets: zero words at the end do not count.
impl PartialEq for Bits {
    fn eq(&self, other: &Self) -> bool {
        let (short, long) = if self.words.len() <= other.words.len() { (self, other) } else { (other, self) };
        let (same, rest) = long.words.split_at(short.words.len());
        short.words == same && rest.iter().all(|&word| word == 0)
    }
}

impl Eq for Bits {}

impl FromIterator<u32> for Bits {
    fn from_iter<I: IntoIterator<Item = u32>>(places: I) -> Self {
        let mut bits = Self::new();
        for place in places {
            bits.set(place, true);
        }
        bits
    }
}
