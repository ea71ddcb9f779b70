//! From a spelling to its entry: the hash table behind every reader that must resolve merges.
//!
//! Open addressing with 16-byte slots. A spelling of at most 8 bytes (most are) lies in its slot, so a lookup touches
//! one cache line and no spelling buffer; a longer one keeps its 64-bit hash there and is compared byte for byte.
//! Files are untrusted: the hash is seeded from the file's own bytes, so a set of colliding spellings would have to
//! contain the hash of itself. The seed changes no result, only the order inside the table.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

use super::Spellings;

/// Marks a free slot.
const FREE: u32 = u32::MAX;

/// Longest spelling that lies in its slot.
const SHORT: usize = 8;

#[derive(Clone, Copy)]
struct Slot {
    /// The bytes of a short spelling, the hash of a longer one.
    key: u64,
    /// Position in `Spellings`.
    entry: u32,
    /// Length in bytes.
    len: u32,
}

/// A key with its hash, ready to be looked up.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    key: u64,
    hash: u64,
    len: u32,
}

/// Spelling to entry, over one [`Spellings`] that it does not own.
pub(crate) struct SpellingTable {
    slots: Vec<Slot>,
    mask: usize,
    hasher: FixedState,
}

impl SpellingTable {
    /// A table over every spelling, or the entries `(first, second)` that spell the same.
    ///
    /// O(n) expected time, 32 to 64 bytes for each spelling.
    pub(crate) fn new(spellings: &Spellings, seed: u64) -> Result<Self, (usize, usize)> {
        let capacity = (spellings.len() * 2).next_power_of_two().max(16);
        let mut table = Self {
            slots: vec![Slot { key: 0, entry: FREE, len: 0 }; capacity],
            mask: capacity - 1,
            hasher: FixedState::with_seed(seed),
        };
        let mut start = 0;
        for (i, &end) in spellings.ends.iter().enumerate() {
            let spelling = &spellings.bytes[start..end as usize];
            start = end as usize;
            let probe = table.probe(spelling);
            match table.find(&probe, spelling, spellings) {
                Ok(first) => return Err((first as usize, i)),
                Err(at) => {
                    let entry = u32::try_from(i).expect("fewer entries than bytes, and bytes stay under 4 GiB");
                    table.slots[at] = Slot { key: probe.key, entry, len: probe.len };
                }
            }
        }
        Ok(table)
    }

    /// The entry of `spelling`.
    #[inline]
    pub(crate) fn get(&self, spelling: &[u8], spellings: &Spellings) -> Option<u32> {
        self.find(&self.probe(spelling), spelling, spellings).ok()
    }

    /// The entry of `left` followed by `right`; `scratch` is overwritten where the two are long.
    #[inline]
    pub(crate) fn get_joined(
        &self,
        left: &[u8],
        right: &[u8],
        scratch: &mut Vec<u8>,
        spellings: &Spellings,
    ) -> Option<u32> {
        if left.len() + right.len() <= SHORT && !left.is_empty() && !right.is_empty() {
            let key = pack(left) | pack(right) << (8 * left.len());
            let probe = self.short_probe(key, left.len() + right.len());
            return self.find(&probe, b"", spellings).ok();
        }
        scratch.clear();
        scratch.extend_from_slice(left);
        scratch.extend_from_slice(right);
        self.get(scratch, spellings)
    }

    #[inline]
    fn short_probe(&self, key: u64, len: usize) -> Probe {
        let mut hasher = self.hasher.build_hasher();
        // The length keeps a spelling of zero bytes apart from a shorter one: one multiplication, no second word.
        hasher.write_u64(key ^ (len as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Probe { key, hash: hasher.finish(), len: u32::try_from(len).expect("at most 8") }
    }

    #[inline]
    fn probe(&self, spelling: &[u8]) -> Probe {
        if spelling.len() <= SHORT {
            return self.short_probe(pack(spelling), spelling.len());
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(spelling);
        let hash = hasher.finish();
        Probe { key: hash, hash, len: u32::try_from(spelling.len()).unwrap_or(u32::MAX) }
    }

    /// The entry, or the free slot where the search ended.
    #[inline]
    fn find(&self, probe: &Probe, spelling: &[u8], spellings: &Spellings) -> Result<u32, usize> {
        // The table is at most half full, so the walk ends.
        let mut at = u32::try_from(probe.hash >> 32).expect("32 bits") as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot.entry == FREE {
                return Err(at);
            }
            if slot.key == probe.key
                && slot.len == probe.len
                && (probe.len as usize <= SHORT || spellings.get(slot.entry as usize) == spelling)
            {
                return Ok(slot.entry);
            }
            at = (at + 1) & self.mask;
        }
    }
}

/// At most 8 bytes, little end first, zeros above.
#[inline]
fn pack(bytes: &[u8]) -> u64 {
    let n = bytes.len();
    if n >= 8 {
        bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b))
    } else if let (Some(head), Some(tail)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << (8 * (n - 4))
    } else if let (Some(head), Some(tail)) = (bytes.first_chunk::<2>(), bytes.last_chunk::<2>()) {
        u64::from(u16::from_le_bytes(*head)) | u64::from(u16::from_le_bytes(*tail)) << (8 * (n - 2))
    } else {
        bytes.first().map_or(0, |&b| u64::from(b))
    }
}

/// A seed that depends on the whole of `data`: O(n), some gigabytes a second.
pub(crate) fn seed_of(data: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(data.len() as u64).build_hasher();
    hasher.write(data);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spellings(of: &[&[u8]]) -> Spellings {
        let mut s = Spellings::default();
        for (i, x) in of.iter().enumerate() {
            s.push(x, u32::try_from(i).expect("few"));
        }
        s
    }

    #[test]
    fn every_length_around_the_short_bound_is_found() {
        let text = b"abcdefghijklmnopqrstuvwxyz";
        let all: Vec<&[u8]> = (0..text.len()).map(|n| &text[..n]).collect();
        let s = spellings(&all);
        let table = SpellingTable::new(&s, 7).expect("all differ");
        let mut scratch = Vec::new();
        for n in 0..text.len() {
            assert_eq!(table.get(&text[..n], &s), u32::try_from(n).ok());
            for cut in 0..=n {
                assert_eq!(table.get_joined(&text[..cut], &text[cut..n], &mut scratch, &s), u32::try_from(n).ok());
            }
        }
        assert_eq!(table.get(b"b", &s), None);
    }

    #[test]
    fn zero_bytes_count() {
        let s = spellings(&[b"a", b"a\0", b"\0", b"", b"\0\0"]);
        let table = SpellingTable::new(&s, 1).expect("all differ");
        assert_eq!(table.get(b"a\0", &s), Some(1));
        assert_eq!(table.get(b"\0\0", &s), Some(4));
        assert_eq!(table.get(b"\0\0\0", &s), None);
    }

    #[test]
    fn the_first_duplicate_is_named() {
        let s = spellings(&[b"x", b"long enough to be hashed", b"y", b"long enough to be hashed"]);
        assert_eq!(SpellingTable::new(&s, 1).err(), Some((1, 3)));
    }
}
