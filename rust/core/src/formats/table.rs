//! From a spelling to its entry: the hash table behind every reader that must resolve merges.
//!
//! Open addressing over 4-byte slots (a tag of the hash above the entry's number), so that the slots of a real
//! vocabulary stay in the second-level cache, and one 16-byte record for each entry with its first 8 bytes: most
//! spellings are compared there, and the records of neighbouring ids, which merges visit in turn, lie together.
//! (Tried: 16-byte slots that hold the spelling. Four times the random memory, and slower beside a busy neighbour.)
//!
//! Files are untrusted: the hash is seeded from the file's own bytes, so a set of colliding spellings would have to
//! contain the hash of itself. The seed changes no result, only the order inside the table.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;

use super::Spellings;

/// Marks a free slot; no entry has all bits set, see [`SpellingTable::new`].
const FREE: u32 = u32::MAX;

/// Bytes of a spelling that its record holds.
const HEAD: usize = 8;

/// Where a spelling lies, and its first bytes.
#[derive(Clone, Copy)]
struct Record {
    head: u64,
    start: u32,
    len: u32,
}

/// A key with its hash, ready to be looked up.
#[derive(Clone, Copy)]
struct Probe {
    head: u64,
    hash: u64,
    len: usize,
}

/// Spelling to entry, over one [`Spellings`] that it does not own.
pub(crate) struct SpellingTable {
    slots: Vec<u32>,
    records: Vec<Record>,
    /// Bits of an entry's number in a slot; the tag has the others.
    bits: u32,
    /// `64 - log2(slots.len())`.
    shift: u32,
    hasher: FixedState,
}

impl SpellingTable {
    /// A table over every spelling, or the entries `(first, second)` that spell the same.
    ///
    /// O(n) expected time, 24 to 32 bytes for each spelling.
    pub(crate) fn new(spellings: &Spellings, seed: u64) -> Result<Self, (usize, usize)> {
        let count = u32::try_from(spellings.len()).expect("fewer entries than bytes, and bytes stay under 4 GiB");
        // One number more than there are entries: all ones is never used.
        let bits = u32::BITS - count.leading_zeros();
        assert!(bits < u32::BITS, "fewer than 2^31 entries: each takes more than two bytes of the file");
        let capacity = (spellings.len() * 2).next_power_of_two().max(16);
        let mut table = Self {
            slots: vec![FREE; capacity],
            records: Vec::with_capacity(spellings.len()),
            bits,
            shift: u64::BITS - capacity.trailing_zeros(),
            hasher: FixedState::with_seed(seed),
        };
        let mut start: u32 = 0;
        for (i, &end) in spellings.ends.iter().enumerate() {
            let spelling = &spellings.bytes[start as usize..end as usize];
            let probe = table.probe(spelling);
            match table.find(&probe, spelling, spellings) {
                Ok(first) => return Err((first as usize, i)),
                Err(at) => {
                    let entry = u32::try_from(i).expect("counted above");
                    table.slots[at] = table.tag(&probe) << bits | entry;
                    table.records.push(Record { head: probe.head, start, len: end - start });
                }
            }
            start = end;
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
        let len = left.len() + right.len();
        if len <= HEAD {
            let probe = self.short_probe(join(left, right), len);
            return self.find(&probe, b"", spellings).ok();
        }
        scratch.clear();
        scratch.extend_from_slice(left);
        scratch.extend_from_slice(right);
        self.get(scratch, spellings)
    }

    /// Whether `entry` spells `left` followed by `right`: a guess checked without the hash.
    #[inline]
    pub(crate) fn is_joined(&self, entry: u32, left: &[u8], right: &[u8], spellings: &Spellings) -> bool {
        let Some(record) = self.records.get(entry as usize) else { return false };
        let len = left.len() + right.len();
        if record.len as usize != len {
            return false;
        }
        if len <= HEAD {
            return record.head == join(left, right);
        }
        let spelling = &spellings.bytes[record.start as usize..][..len];
        spelling.starts_with(left) && spelling.ends_with(right)
    }

    #[inline]
    fn tag(&self, probe: &Probe) -> u32 {
        u32::try_from(probe.hash & 0xFFFF_FFFF).expect("32 bits") >> self.bits
    }

    #[inline]
    fn short_probe(&self, head: u64, len: usize) -> Probe {
        let mut hasher = self.hasher.build_hasher();
        // The length keeps a spelling with zero bytes apart from a shorter one.
        hasher.write_u64(head ^ (len as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Probe { head, hash: hasher.finish(), len }
    }

    #[inline]
    fn probe(&self, spelling: &[u8]) -> Probe {
        if spelling.len() <= HEAD {
            return self.short_probe(pack(spelling), spelling.len());
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(spelling);
        Probe { head: pack(spelling), hash: hasher.finish(), len: spelling.len() }
    }

    /// The entry, or the free slot where the search ended.
    #[inline]
    fn find(&self, probe: &Probe, spelling: &[u8], spellings: &Spellings) -> Result<u32, usize> {
        let tag = self.tag(probe);
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(probe.hash >> self.shift).expect("an index of slots");
        // At least half of the slots are free, so the walk ends.
        loop {
            let slot = self.slots[at & mask];
            if slot == FREE {
                return Err(at & mask);
            }
            if slot >> self.bits == tag {
                let entry = slot & ((1 << self.bits) - 1);
                let record = self.records[entry as usize];
                if record.head == probe.head
                    && record.len as usize == probe.len
                    && (probe.len <= HEAD
                        || spellings.bytes[record.start as usize + HEAD..][..probe.len - HEAD] == spelling[HEAD..])
                {
                    return Ok(entry);
                }
            }
            at += 1;
        }
    }
}

/// `left` and `right`, 8 bytes at most together, packed.
#[inline]
fn join(left: &[u8], right: &[u8]) -> u64 {
    // A shift by 64 happens only when nothing is left to shift in.
    pack(left) | pack(right).checked_shl(8 * u32::try_from(left.len()).expect("at most 8")).unwrap_or(0)
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
