//! Sets of characters with a fast membership test.

/// Code points below this are looked up in a bit map; the few above in their ranges.
const MAPPED: u32 = 0x2_0000;

/// A set of characters.
#[derive(Debug)]
pub(crate) struct CharSet {
    bits: Box<[u64]>,
    ranges: Vec<(u32, u32)>,
}

impl CharSet {
    /// The set of the characters in `ranges` (inclusive, ascending, apart). 16 KiB.
    pub(crate) fn new(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut bits = vec![0_u64; (MAPPED / 64) as usize].into_boxed_slice();
        let mut high = Vec::new();
        for (first, last) in ranges {
            for c in first..=last.min(MAPPED - 1) {
                bits[(c / 64) as usize] |= 1 << (c % 64);
            }
            if last >= MAPPED {
                high.push((first.max(MAPPED), last));
            }
        }
        Self { bits, ranges: high }
    }

    /// Whether `c` is in the set. O(1) below U+20000.
    #[inline]
    pub(crate) fn contains(&self, c: char) -> bool {
        let c = u32::from(c);
        match self.bits.get((c / 64) as usize) {
            Some(word) => word >> (c % 64) & 1 == 1,
            None => in_ranges(&self.ranges, c),
        }
    }
}

/// Whether `c` lies in one of `ranges` (inclusive, ascending, apart). O(log n).
pub(crate) fn in_ranges(ranges: &[(u32, u32)], c: u32) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= c);
    after > 0 && c <= ranges[after - 1].1
}
