//! How often each pretoken came: a map made for few bytes a pretoken and for sorting in place.
//!
//! Pretokens of up to 15 bytes, nearly all of them, are their own key: sixteen bytes, the last of which is the length.
//! With the count that makes 24 bytes, in a table of open addressing. Longer ones stand in an arena, and a second table
//! of 24 bytes each points there. Order comes from sorting alone, so the hash may differ from run to run.

use std::hash::BuildHasher;
use std::ops::Range;

/// Longest pretoken that is its own key.
pub(super) const SHORT: usize = 15;
const FIRST_SLOTS: usize = 1 << 10;

/// A pretoken of at most [`SHORT`] bytes and its count; `high == 0` where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShortSlot {
    low: u64,
    /// The length in its top byte.
    high: u64,
    pub(super) count: u64,
}

impl ShortSlot {
    /// The bytes, of which the first [`Self::len`] count.
    pub(super) fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.low.to_le_bytes());
        bytes[8..].copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.high.to_le_bytes()[7])
    }

    /// Orders as the bytes do: padded with zeros first, then the shorter before the longer.
    fn order(&self) -> (u64, u64) {
        (self.low.swap_bytes(), self.high.swap_bytes())
    }
}

/// A longer pretoken, `arena[start..start + len]`, and its count; `len == 0` where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LongSlot {
    start: u64,
    len: u32,
    hash: u32,
    pub(super) count: u64,
}

impl LongSlot {
    pub(super) fn of<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        let start = usize::try_from(self.start).expect("an arena's place is an index");
        &arena[start..start + self.len as usize]
    }
}

/// The pretokens of a map in order: short ones and longer ones, each sorted by their bytes.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) short: Vec<ShortSlot>,
    pub(super) long: Vec<LongSlot>,
    pub(super) arena: Vec<u8>,
}

/// Counts of pretokens.
#[derive(Debug)]
pub(super) struct CountMap {
    short: Vec<ShortSlot>,
    short_len: usize,
    long: Vec<LongSlot>,
    long_len: usize,
    arena: Vec<u8>,
    seed: (u64, u64),
    /// Most bytes it may grow to, growing included.
    budget: usize,
    overflowed: bool,
}

/// Whether a map can take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Left,
    /// It holds what it may: to be taken by [`CountMap::take_sorted`].
    Full,
}

impl CountMap {
    /// An empty map that asks to be emptied before it would grow over `budget` bytes.
    ///
    /// One pretoken more may pass the budget, and so may the first table.
    pub(super) fn new(budget: usize) -> Self {
        let state = foldhash::fast::RandomState::default();
        let seed = (state.hash_one(0_u64), state.hash_one(1_u64));
        Self {
            short: Vec::new(),
            short_len: 0,
            long: Vec::new(),
            long_len: 0,
            arena: Vec::new(),
            seed,
            budget,
            overflowed: false,
        }
    }

    /// Adds `weight` to the count of `text[range]`, which is not empty and shorter than 4 GiB.
    #[inline]
    pub(super) fn add(&mut self, text: &[u8], range: Range<usize>, weight: u64) -> Room {
        if range.len() <= SHORT {
            let (low, high) = short_key(text, range);
            self.add_short(low, high, weight)
        } else {
            self.add_long(&text[range], weight)
        }
    }

    /// Whether a count passed `u64::MAX`; the counts are wrong then.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// How many pretokens it holds.
    pub(super) fn len(&self) -> usize {
        self.short_len + self.long_len
    }

    /// Bytes on the heap.
    pub(super) fn bytes_used(&self) -> usize {
        self.short.capacity() * size_of::<ShortSlot>()
            + self.long.capacity() * size_of::<LongSlot>()
            + self.arena.capacity()
    }

    #[inline]
    fn add_short(&mut self, low: u64, high: u64, weight: u64) -> Room {
        let mask = self.short.len().wrapping_sub(1);
        let mut at = fold(low ^ self.seed.0, high ^ self.seed.1);
        loop {
            let Some(slot) = self.short.get_mut(at as usize & mask) else {
                return self.grow_short(low, high, weight); // no table yet
            };
            if slot.high == high && slot.low == low {
                let (count, over) = slot.count.overflowing_add(weight);
                slot.count = count;
                self.overflowed |= over;
                return Room::Left;
            }
            if slot.high == 0 {
                return self.new_short(at as usize & mask, ShortSlot { low, high, count: weight });
            }
            at = at.wrapping_add(1);
        }
    }

    #[cold]
    #[inline(never)]
    fn new_short(&mut self, at: usize, new: ShortSlot) -> Room {
        self.short[at] = new;
        self.short_len += 1;
        if self.short_len * 4 <= self.short.len() * 3 {
            return Room::Left;
        }
        if self.grown(self.short.len() * size_of::<ShortSlot>()) > self.budget {
            return Room::Full;
        }
        self.rehash_short(self.short.len() * 2);
        Room::Left
    }

    #[cold]
    fn grow_short(&mut self, low: u64, high: u64, weight: u64) -> Room {
        self.rehash_short(FIRST_SLOTS);
        self.add_short(low, high, weight)
    }

    fn rehash_short(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.short, vec![ShortSlot::default(); slots]);
        let mask = slots - 1;
        for slot in old.into_iter().filter(|slot| slot.high != 0) {
            let mut at = fold(slot.low ^ self.seed.0, slot.high ^ self.seed.1) as usize & mask;
            while self.short[at].high != 0 {
                at = (at + 1) & mask;
            }
            self.short[at] = slot;
        }
    }

    /// Bytes at the peak of an allocation of twice `old` bytes while the old one is still there.
    fn grown(&self, old: usize) -> usize {
        self.bytes_used() + 2 * old
    }

    #[inline(never)]
    fn add_long(&mut self, piece: &[u8], weight: u64) -> Room {
        if self.long.is_empty() {
            self.long = vec![LongSlot::default(); FIRST_SLOTS / 4];
        }
        let hash = hash_long(piece, self.seed);
        let len = u32::try_from(piece.len()).expect("a pretoken is shorter than 4 GiB: checked by the cutter");
        let mask = self.long.len() - 1;
        let mut at = spread(hash) & mask;
        loop {
            let slot = &mut self.long[at];
            if slot.len == 0 {
                break;
            }
            if slot.hash == hash && slot.len == len && slot.of(&self.arena) == piece {
                let (count, over) = slot.count.overflowing_add(weight);
                slot.count = count;
                self.overflowed |= over;
                return Room::Left;
            }
            at = (at + 1) & mask;
        }
        let start = self.arena.len() as u64;
        self.arena.extend_from_slice(piece);
        self.long[at] = LongSlot { start, len, hash, count: weight };
        self.long_len += 1;
        // The arena doubles, too: what its next growth takes counts as used.
        let arena_next = if self.arena.len() * 8 > self.arena.capacity() * 7 { self.arena.capacity() } else { 0 };
        let is_crowded = self.long_len * 4 > self.long.len() * 3;
        let table_next = if is_crowded { self.long.len() * size_of::<LongSlot>() } else { 0 };
        if self.grown(arena_next + table_next) > self.budget && (arena_next > 0 || is_crowded) {
            return Room::Full;
        }
        if is_crowded {
            self.rehash_long(self.long.len() * 2);
        }
        Room::Left
    }

    fn rehash_long(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.long, vec![LongSlot::default(); slots]);
        let mask = slots - 1;
        for slot in old.into_iter().filter(|slot| slot.len != 0) {
            let mut at = spread(slot.hash) & mask;
            while self.long[at].len != 0 {
                at = (at + 1) & mask;
            }
            self.long[at] = slot;
        }
    }

    /// Everything in it, sorted without further memory; the map is empty then, and without memory.
    pub(super) fn take_sorted(&mut self) -> Sorted {
        let mut short = std::mem::take(&mut self.short);
        let mut long = std::mem::take(&mut self.long);
        let arena = std::mem::take(&mut self.arena);
        (self.short_len, self.long_len) = (0, 0);
        short.retain(|slot| slot.high != 0);
        short.sort_unstable_by_key(ShortSlot::order);
        long.retain(|slot| slot.len != 0);
        long.sort_unstable_by(|a, b| a.of(&arena).cmp(b.of(&arena)));
        Sorted { short, long, arena }
    }
}

/// The key of `text[range]`, 1..=15 bytes long. One load where the text goes on for 16 bytes.
#[inline]
fn short_key(text: &[u8], range: Range<usize>) -> (u64, u64) {
    let len = range.len();
    let window: [u8; 16] = match text.get(range.start..range.start + 16) {
        Some(window) => window.try_into().expect("the window is 16 bytes"),
        None => {
            let mut window = [0; 16];
            window[..len].copy_from_slice(&text[range]);
            window
        }
    };
    let word = u128::from_le_bytes(window) & ((1 << (8 * len)) - 1);
    (word as u64, (word >> 64) as u64 | ((len as u64) << 56))
}

/// Both halves of the product, mixed: every bit of the inputs moves every bit of the result.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn hash_long(piece: &[u8], seed: (u64, u64)) -> u32 {
    let mut state = seed.0 ^ piece.len() as u64;
    let (words, rest) = piece.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), seed.1);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    (fold(state ^ u64::from_le_bytes(last), seed.1) >> 32) as u32
}

/// A place for the 32 bits of a hash: the table's mask takes the low bits.
#[inline]
fn spread(hash: u32) -> usize {
    (u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize
}
