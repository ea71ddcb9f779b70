//! A bounded cache from pretokens to ids.
//!
//! Two set-associative tables with the key inline, so that a hit touches one cache line and no hash can be made to
//! collide into a long probe: a full set loses its older entry. Pretokens over 40 bytes are not cached.

use crate::ids::{NO_TOKEN, TokenId};

const SHORT_KEY: usize = 15;
const LONG_KEY: usize = 40;
const SHORT_IDS: usize = 4;
const LONG_IDS: usize = 5;

/// 16 bytes of key (15 of text and its length), then up to four ids: half a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Short {
    key: u128,
    ids: [TokenId; SHORT_IDS],
}

/// 40 bytes of key, its length, up to five ids: one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Long {
    key: [u64; 5],
    ids: [TokenId; LONG_IDS],
    len: u32,
}

const NO_SHORT: Short = Short { key: 0, ids: [NO_TOKEN; SHORT_IDS] };
const NO_LONG: Long = Long { key: [0; 5], ids: [NO_TOKEN; LONG_IDS], len: 0 };

const FIRST_BITS: u32 = 12;
/// 2^17 sets of two: 8 MiB of short entries, 16 MiB of long ones, reached only by text with that many pretokens.
const LAST_BITS: u32 = 17;

/// The key of a short pretoken; 0 is no key, since the length is in the top byte.
pub(crate) type ShortKey = u128;

/// The cache of one thread.
pub(crate) struct PieceCache {
    short: Vec<[Short; 2]>,
    short_bits: u32,
    short_count: usize,
    long: Vec<[Long; 2]>,
    long_bits: u32,
    long_count: usize,
}

impl PieceCache {
    pub(crate) fn new() -> Self {
        Self {
            short: vec![[NO_SHORT; 2]; 1 << FIRST_BITS],
            short_bits: FIRST_BITS,
            short_count: 0,
            long: Vec::new(),
            long_bits: FIRST_BITS - 2,
            long_count: 0,
        }
    }

    /// The key of `text[start..end]`, 1..=15 bytes long. One unaligned load where the text goes on for 16 bytes.
    #[inline]
    pub(crate) fn short_key(text: &[u8], start: usize, end: usize) -> ShortKey {
        let len = end - start;
        let word = match text.get(start..start + 16) {
            Some(window) => u128::from_le_bytes(window.try_into().expect("the window is 16 bytes")),
            None => {
                let mut window = [0; 16];
                window[..len].copy_from_slice(&text[start..end]);
                u128::from_le_bytes(window)
            }
        };
        (word & ((1 << (8 * len)) - 1)) | ((len as u128) << 120)
    }

    #[inline]
    fn short_set(&self, key: ShortKey) -> usize {
        let (low, high) = (key as u64, (key >> 64) as u64);
        let mixed = (low ^ high.rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ high;
        (mixed.wrapping_mul(0xD6E8_FEB8_6659_FD93) >> (64 - self.short_bits)) as usize
    }

    /// The ids of a short pretoken, if it was seen: an array that ends at the first `NO_TOKEN`.
    #[inline]
    pub(crate) fn get_short(&self, key: ShortKey) -> Option<&[TokenId; SHORT_IDS]> {
        let set = &self.short[self.short_set(key)];
        if set[0].key == key {
            return Some(&set[0].ids);
        }
        if set[1].key == key { Some(&set[1].ids) } else { None }
    }

    /// Remembers the ids of a short pretoken; more than four are not kept.
    pub(crate) fn put_short(&mut self, key: ShortKey, ids: &[TokenId]) {
        if ids.len() > SHORT_IDS || ids.is_empty() {
            return;
        }
        if self.short_count * 2 > self.short.len() && self.short_bits < LAST_BITS {
            self.grow_short();
        }
        let mut entry = Short { key, ids: [NO_TOKEN; SHORT_IDS] };
        entry.ids[..ids.len()].copy_from_slice(ids);
        let at = self.short_set(key);
        let set = &mut self.short[at];
        self.short_count += usize::from(set[1].key == 0);
        *set = [entry, set[0]];
    }

    fn grow_short(&mut self) {
        self.short_bits = (self.short_bits + 2).min(LAST_BITS);
        let old = std::mem::replace(&mut self.short, vec![[NO_SHORT; 2]; 1 << self.short_bits]);
        self.short_count = 0;
        for entry in old.into_iter().flat_map(|set| [set[1], set[0]]).filter(|entry| entry.key != 0) {
            let at = self.short_set(entry.key);
            let set = &mut self.short[at];
            self.short_count += usize::from(set[1].key == 0);
            *set = [entry, set[0]];
        }
    }

    /// Whether a pretoken of this length can be in the second table.
    #[inline]
    pub(crate) fn is_long(len: usize) -> bool {
        len > SHORT_KEY && len <= LONG_KEY
    }

    /// Whether a pretoken of this length can be in the first table.
    #[inline]
    pub(crate) fn is_short(len: usize) -> bool {
        len <= SHORT_KEY
    }

    fn long_key(piece: &[u8]) -> [u64; 5] {
        let mut window = [0; LONG_KEY];
        window[..piece.len()].copy_from_slice(piece);
        let mut key = [0; 5];
        for (word, bytes) in key.iter_mut().zip(window.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
        }
        key
    }

    fn long_set(&self, key: &[u64; 5]) -> usize {
        let mixed = key.iter().fold(0_u64, |h, &w| (h.rotate_left(23) ^ w).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        ((mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> (64 - self.long_bits)) as usize
    }

    /// The ids of a pretoken of 16 to 40 bytes, if it was seen.
    pub(crate) fn get_long(&self, piece: &[u8]) -> Option<&[TokenId]> {
        if self.long.is_empty() {
            return None;
        }
        let key = Self::long_key(piece);
        let set = &self.long[self.long_set(&key)];
        let entry = set.iter().find(|entry| entry.len as usize == piece.len() && entry.key == key)?;
        let n = entry.ids.iter().position(|&id| id == NO_TOKEN).unwrap_or(LONG_IDS);
        Some(&entry.ids[..n])
    }

    /// Remembers the ids of a pretoken of 16 to 40 bytes; more than five are not kept.
    pub(crate) fn put_long(&mut self, piece: &[u8], ids: &[TokenId]) {
        if ids.len() > LONG_IDS || ids.is_empty() {
            return;
        }
        if self.long.is_empty() {
            self.long = vec![[NO_LONG; 2]; 1 << self.long_bits];
        } else if self.long_count * 2 > self.long.len() && self.long_bits < LAST_BITS {
            self.grow_long();
        }
        let mut entry = Long { key: Self::long_key(piece), ids: [NO_TOKEN; LONG_IDS], len: piece.len() as u32 };
        entry.ids[..ids.len()].copy_from_slice(ids);
        self.insert_long(entry);
    }

    fn insert_long(&mut self, entry: Long) {
        let at = self.long_set(&entry.key);
        let set = &mut self.long[at];
        self.long_count += usize::from(set[1].len == 0);
        *set = [entry, set[0]];
    }

    fn grow_long(&mut self) {
        self.long_bits = (self.long_bits + 2).min(LAST_BITS);
        let old = std::mem::replace(&mut self.long, vec![[NO_LONG; 2]; 1 << self.long_bits]);
        self.long_count = 0;
        for entry in old.into_iter().flat_map(|set| [set[1], set[0]]).filter(|entry| entry.len != 0) {
            self.insert_long(entry);
        }
    }
}
