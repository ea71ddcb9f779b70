//! A bounded cache from pretokens to ids.
//!
//! Two set-associative tables with the key inline, so that a hit touches one cache line and no hash can be made to
//! collide into a long probe: a full set loses its older entry. Ids that do not fit beside the key, as is common outside
//! the scripts that a vocabulary was trained on, stand in a list of their own. Pretokens over 40 bytes are not cached.

use crate::ids::{NO_TOKEN, TokenId};

const SHORT_KEY: usize = 15;
const LONG_KEY: usize = 40;
const SHORT_IDS: usize = 4;
const LONG_IDS: usize = 5;

/// The ids of a pretoken, up to the first `NO_TOKEN`. Where that is the very first, there are more than fit: then the
/// second is their place in the list of the cache, and the third their number.
type Ids<const N: usize> = [TokenId; N];

/// 16 bytes of key (15 of text and its length), then up to four ids: half a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Short {
    key: u128,
    ids: Ids<SHORT_IDS>,
}

/// 40 bytes of key, its length, up to five ids: one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Long {
    words: [u64; 5],
    ids: Ids<LONG_IDS>,
    len: u32,
}

const NO_SHORT: Short = Short { key: 0, ids: [NO_TOKEN; SHORT_IDS] };
const NO_LONG: Long = Long { words: [0; 5], ids: [NO_TOKEN; LONG_IDS], len: 0 };

const FIRST_BITS: u32 = 12;
/// 2^17 sets of two: 8 MiB of short entries, 16 MiB of long ones, reached only by text with that many pretokens.
const LAST_BITS: u32 = 17;

/// Most ids of the list: 4 MiB. When it is full, all that is in it is forgotten.
const LIST_MAX: usize = 1 << 20;

/// The key of a short pretoken; 0 is no key, since the length is in the top byte.
pub(crate) type ShortKey = u128;

/// The key of a longer pretoken; a length of 0 is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LongKey {
    words: [u64; 5],
    len: u32,
}

/// The cache of one thread.
pub(crate) struct PieceCache {
    short: Vec<[Short; 2]>,
    short_bits: u32,
    short_count: usize,
    long: Vec<[Long; 2]>,
    long_bits: u32,
    long_count: usize,
    list: Vec<TokenId>,
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
            list: Vec::new(),
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

    /// The ids of a short pretoken, if it was seen; to be read with [`Self::listed`].
    #[inline]
    pub(crate) fn get_short(&self, key: ShortKey) -> Option<&Ids<SHORT_IDS>> {
        let set = &self.short[self.short_set(key)];
        if set[0].key == key {
            return Some(&set[0].ids);
        }
        if set[1].key == key { Some(&set[1].ids) } else { None }
    }

    /// The ids that did not fit beside the key; `None` when they did.
    #[inline]
    pub(crate) fn listed<const N: usize>(&self, ids: &Ids<N>) -> Option<&[TokenId]> {
        (ids[0] == NO_TOKEN).then(|| &self.list[ids[1] as usize..][..ids[2] as usize])
    }

    /// Appends what was found.
    #[inline]
    pub(crate) fn write<const N: usize>(&self, ids: &[TokenId; N], out: &mut Vec<TokenId>) {
        match self.listed(ids) {
            Some(ids) => out.extend_from_slice(ids),
            None => out.extend(ids.iter().take_while(|id| **id != NO_TOKEN)),
        }
    }

    /// The ids as an entry holds them.
    fn entry<const N: usize>(&mut self, ids: &[TokenId]) -> Ids<N> {
        let mut entry = [NO_TOKEN; N];
        if let Some(inline) = entry.get_mut(..ids.len()) {
            inline.copy_from_slice(ids);
            return entry;
        }
        if self.list.len() + ids.len() > LIST_MAX {
            self.list.clear();
            self.short
                .iter_mut()
                .flatten()
                .filter(|entry| entry.ids[0] == NO_TOKEN)
                .for_each(|entry| *entry = NO_SHORT);
            self.long.iter_mut().flatten().filter(|entry| entry.ids[0] == NO_TOKEN).for_each(|entry| *entry = NO_LONG);
        }
        let to_id = |n: usize| TokenId::try_from(n).expect("the list is shorter than 2^32");
        (entry[1], entry[2]) = (to_id(self.list.len()), to_id(ids.len()));
        self.list.extend_from_slice(ids);
        entry
    }

    /// Remembers the ids of a short pretoken, of which there is at least one.
    pub(crate) fn put_short(&mut self, key: ShortKey, ids: &[TokenId]) {
        if ids.is_empty() {
            return;
        }
        if self.short_count * 2 > self.short.len() && self.short_bits < LAST_BITS {
            self.grow_short();
        }
        let entry = Short { key, ids: self.entry(ids) };
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

    /// The key of `text[start..end]`, 16 to 40 bytes long. Unaligned loads where the text goes on for 40 bytes.
    #[inline]
    pub(crate) fn long_key(text: &[u8], start: usize, end: usize) -> LongKey {
        let len = end - start;
        let mut words = [0; 5];
        let mut window = [0; LONG_KEY];
        let window = match text[start..].first_chunk() {
            Some(bytes) => bytes,
            None => {
                window[..len].copy_from_slice(&text[start..end]);
                &window
            }
        };
        for (i, (word, bytes)) in words.iter_mut().zip(window.as_chunks().0).enumerate() {
            let beyond = (8 * (i + 1)).saturating_sub(len).min(8);
            *word = u64::from_le_bytes(*bytes) & u64::MAX.checked_shr(8 * beyond as u32).unwrap_or(0);
        }
        LongKey { words, len: len as u32 }
    }

    fn long_set(&self, words: &[u64; 5]) -> usize {
        const FACTORS: [u64; 5] = [
            0x9E37_79B9_7F4A_7C15,
            0xBF58_476D_1CE4_E5B9,
            0x94D0_49BB_1331_11EB,
            0xD6E8_FEB8_6659_FD93,
            0xA076_1D64_78BD_642F,
        ];
        let products = words.iter().zip(FACTORS).map(|(&word, factor)| (word ^ (word >> 32)).wrapping_mul(factor));
        let mixed = products.fold(0_u64, |sum, product| sum.wrapping_add(product.rotate_left(32)));
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> (64 - self.long_bits)) as usize
    }

    /// The ids of a pretoken of 16 to 40 bytes, if it was seen; to be read with [`Self::listed`].
    #[inline]
    pub(crate) fn get_long(&self, key: &LongKey) -> Option<&Ids<LONG_IDS>> {
        if self.long.is_empty() {
            return None;
        }
        let set = &self.long[self.long_set(&key.words)];
        set.iter().find(|entry| entry.len == key.len && entry.words == key.words).map(|entry| &entry.ids)
    }

    /// Remembers the ids of a pretoken of 16 to 40 bytes, of which there is at least one.
    pub(crate) fn put_long(&mut self, key: LongKey, ids: &[TokenId]) {
        if ids.is_empty() {
            return;
        }
        if self.long.is_empty() {
            self.long = vec![[NO_LONG; 2]; 1 << self.long_bits];
        } else if self.long_count * 2 > self.long.len() && self.long_bits < LAST_BITS {
            self.grow_long();
        }
        let entry = Long { words: key.words, ids: self.entry(ids), len: key.len };
        self.insert_long(entry);
    }

    fn insert_long(&mut self, entry: Long) {
        let at = self.long_set(&entry.words);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn short(text: &[u8]) -> ShortKey {
        PieceCache::short_key(text, 0, text.len())
    }

    fn found<const N: usize>(cache: &PieceCache, ids: Option<&Ids<N>>) -> Option<Vec<TokenId>> {
        let ids = ids?;
        let inline = || ids.iter().copied().take_while(|&id| id != NO_TOKEN).collect();
        Some(cache.listed(ids).map_or_else(inline, <[TokenId]>::to_vec))
    }

    #[test]
    fn any_number_of_ids_is_found_again_after_growing() {
        let mut cache = PieceCache::new();
        let text = |i: u32| [&b"0123456789ABCDEF"[..(i % 16) as usize], &i.to_le_bytes()].concat();
        let ids = |i: u32| (0..=i % 23).collect::<Vec<_>>();
        let put = |cache: &mut PieceCache, i| match text(i) {
            text if PieceCache::is_short(text.len()) => cache.put_short(short(&text), &ids(i)),
            text => cache.put_long(PieceCache::long_key(&text, 0, text.len()), &ids(i)),
        };
        (0..20_000).for_each(|i| put(&mut cache, i));
        let mut kept = 0;
        for i in 0..20_000 {
            let text = text(i);
            let again = match PieceCache::is_short(text.len()) {
                true => found(&cache, cache.get_short(short(&text))),
                false => found(&cache, cache.get_long(&PieceCache::long_key(&text, 0, text.len()))),
            };
            kept += usize::from(again.is_some());
            assert!(again.is_none_or(|again| again == ids(i)), "{i}");
        }
        assert!(kept > 15_000, "{kept} of 20000 were not pushed out of their set");
    }

    #[test]
    fn a_full_list_forgets_what_is_in_it_and_nothing_else() {
        let mut cache = PieceCache::new();
        cache.put_short(short(b"few"), &[1, 2]);
        cache.put_short(short(b"many"), &vec![3; LIST_MAX - 5]);
        assert_eq!(found(&cache, cache.get_short(short(b"many"))).map(|ids| ids.len()), Some(LIST_MAX - 5));
        cache.put_short(short(b"more"), &[4; 6]);
        assert_eq!(found(&cache, cache.get_short(short(b"few"))), Some(vec![1, 2]));
        assert_eq!(found(&cache, cache.get_short(short(b"many"))), None);
        assert_eq!(found(&cache, cache.get_short(short(b"more"))), Some(vec![4; 6]));
    }

    #[test]
    fn a_key_does_not_depend_on_what_follows_the_pretoken() {
        for len in 1..=LONG_KEY {
            let text = [&vec![0xFF; len][..], &[0xAB; 60]].concat();
            let alone = &text[..len];
            match PieceCache::is_short(len) {
                true => assert_eq!(PieceCache::short_key(&text, 0, len), short(alone)),
                false => assert_eq!(PieceCache::long_key(&text, 0, len), PieceCache::long_key(alone, 0, len)),
            }
        }
    }
}
