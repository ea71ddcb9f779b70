//! SentencePiece's compiled character map: replacement rules in a double-array trie.
//!
//! The blob is `u32` (little endian) trie size in bytes, then so many bytes of double-array units, then the replacement
//! texts, each ended by NUL. A unit is darts-clone's 32 bits:
//!
//! ```text
//! node:  0 oooooooooooooooooooooo x l bbbbbbbb     o offset (22), x offset is times 256, l has a value, b label byte
//! value: 1 vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv         v where the replacement text starts
//! ```
//!
//! The child of the node at `p` for byte `b` is at `p ^ offset ^ b` if the unit there has the label `b`; the value of
//! the node at `p` is at `p ^ offset`. A step of a lookup eats a byte of the text, so no arrangement of units can loop.

use crate::error::{Error, Result};
use crate::limits::Limits;

/// Bytes of the size field before the trie.
const HEADER_LEN: usize = 4;
/// Bytes of one unit.
const UNIT_LEN: usize = 4;
/// The bit that marks a value unit.
const VALUE_BIT: u32 = 1 << 31;
/// The bit of a node that says it has a value.
const HAS_VALUE: u32 = 1 << 8;
/// The bit of a node that says its offset counts in blocks of 256.
const WIDE_OFFSET: u32 = 1 << 9;

/// Nodes that are visited when all rules are listed; maps of NFKC have 263,000.
const MAX_NODES: usize = 1 << 21;
/// Bytes of the longest left side that is listed; those of NFKC have up to 12.
const MAX_LEFT: usize = 1 << 10;

/// What the rules say about an ASCII byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ascii {
    /// No rule starts with it.
    Plain,
    /// Every rule that starts with it goes on with a byte from 0x80 up.
    PlainUnlessJoined,
    /// It has to be looked up.
    Lookup,
}

/// A compiled character map, checked so that no lookup can fail.
///
/// Lookups take at most as many steps as the text has bytes, and never read outside the blob.
#[derive(Clone)]
pub struct Charsmap {
    units: Vec<u32>,
    texts: Vec<u8>,
    ascii: [Ascii; 128],
}

impl std::fmt::Debug for Charsmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Charsmap({} units, {} bytes of replacements)", self.units.len(), self.texts.len())
    }
}

fn bad(found: String) -> Error {
    Error::format("precompiled_charsmap", found, "export the model again: its character map is damaged")
}

fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & WIDE_OFFSET) >> 6)
}

impl Charsmap {
    /// Reads and checks the blob of `normalizer_spec.precompiled_charsmap`.
    ///
    /// An empty blob is an error here: it stands for "no rules", and callers leave the map out.
    /// O(blob) time and memory. Fails when the sizes contradict each other, when a node's value lies outside the trie
    /// or when a value points outside the replacement texts.
    pub fn new(blob: &[u8], limits: &Limits) -> Result<Self> {
        if blob.len() > limits.file_bytes {
            return Err(Error::limit("precompiled_charsmap", blob.len(), limits.file_bytes, "file_bytes"));
        }
        let Some((header, rest)) = blob.split_first_chunk::<HEADER_LEN>() else {
            return Err(bad(format!("{} bytes, too short for the size of its trie", blob.len())));
        };
        let size = u32::from_le_bytes(*header) as usize;
        if size > rest.len() {
            return Err(bad(format!("a trie of {size} bytes in {} bytes", rest.len())));
        }
        if size == 0 || !size.is_multiple_of(UNIT_LEN) {
            return Err(bad(format!("a trie of {size} bytes, not a positive multiple of {UNIT_LEN}")));
        }
        let (trie, texts) = rest.split_at(size);
        let units: Vec<u32> = trie.as_chunks::<UNIT_LEN>().0.iter().map(|&b| u32::from_le_bytes(b)).collect();
        for (at, &unit) in units.iter().enumerate() {
            // Value units carry arbitrary bits and are never followed: their label is over 255.
            if unit & VALUE_BIT != 0 || unit & HAS_VALUE == 0 {
                continue;
            }
            let Some(&value) = units.get(at ^ offset(unit) as usize) else {
                return Err(bad(format!("unit {at} has its value outside the trie")));
            };
            let start = (value & !VALUE_BIT) as usize;
            if start > texts.len() {
                return Err(bad(format!("unit {at} points at byte {start} of {} bytes of replacements", texts.len())));
            }
        }
        let mut map = Self { units, texts: texts.to_vec(), ascii: [Ascii::Lookup; 128] };
        for byte in 0..128u8 {
            map.ascii[usize::from(byte)] = map.class_of(byte);
        }
        Ok(map)
    }

    fn class_of(&self, byte: u8) -> Ascii {
        let Some(node) = self.child(self.root(), byte) else { return Ascii::Plain };
        let goes_on = |range: std::ops::Range<u8>| range.into_iter().any(|b| self.child(node.base, b).is_some());
        if node.value.is_none() && !goes_on(0..128) { Ascii::PlainUnlessJoined } else { Ascii::Lookup }
    }

    fn root(&self) -> u32 {
        offset(self.units[0]) // Not empty: checked in `new`.
    }

    /// The node reached from a node with this `base` (its position ^ its offset) by `byte`; NUL ends a key and leads
    /// nowhere.
    #[inline]
    fn child(&self, base: u32, byte: u8) -> Option<Node> {
        let at = base ^ u32::from(byte);
        let unit = *self.units.get(at as usize)?;
        if unit & (VALUE_BIT | 0xFF) != u32::from(byte) || byte == 0 {
            return None;
        }
        let base = at ^ offset(unit);
        let value = if unit & HAS_VALUE == 0 { None } else { self.units.get(base as usize).map(|v| v & !VALUE_BIT) };
        Some(Node { base, value })
    }

    /// The rules whose left sides start `text`, shortest first: length of the left side, start of the right side.
    #[inline]
    fn matches<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, u32)> + 'a {
        let mut base = Some(self.root());
        text.iter()
            .enumerate()
            .map_while(move |(i, &byte)| {
                let node = self.child(base?, byte);
                base = node.as_ref().map(|n| n.base);
                node.map(|n| (i + 1, n.value))
            })
            .filter_map(|(len, value)| Some((len, value?)))
    }

    /// The replacement text that starts at `start` and ends before the next NUL (or with the blob).
    fn text(&self, start: u32) -> &[u8] {
        let tail = self.texts.get(start as usize..).unwrap_or_default();
        &tail[..memchr::memchr(0, tail).unwrap_or(tail.len())]
    }

    /// The longest rule whose left side starts `text`: how many bytes it replaces, and by what.
    ///
    /// This is how SentencePiece applies the map. O(longest left side) time, nothing is allocated.
    #[inline]
    pub fn longest_prefix(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        self.matches(text).last().map(|(len, start)| (len, self.text(start)))
    }

    /// The shortest rule whose left side starts `text`: how many bytes its left side has, and its right side.
    ///
    /// `tokenizers` looks a whole grapheme up this way and replaces all of it by the right side.
    #[inline]
    pub fn shortest_prefix(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        self.matches(text).next().map(|(len, start)| (len, self.text(start)))
    }

    /// All rules as left and right sides, in the order of the left sides; `None` where there are too many or too long
    /// ones, as in a trie that comes back to itself.
    ///
    /// O(256 · nodes) time; a unit may be the node of several left sides.
    pub(crate) fn rules(&self) -> Option<Vec<(Vec<u8>, &[u8])>> {
        let mut rules = Vec::new();
        let mut open = vec![(self.root(), Vec::new())];
        let mut nodes = 0;
        while let Some((base, left)) = open.pop() {
            nodes += 1;
            if nodes > MAX_NODES || left.len() > MAX_LEFT {
                return None;
            }
            for byte in (1..=255_u8).rev() {
                let Some(node) = self.child(base, byte) else { continue };
                let longer = [&left[..], &[byte]].concat();
                if let Some(start) = node.value {
                    rules.push((longer.clone(), self.text(start)));
                }
                open.push((node.base, longer));
            }
        }
        rules.sort_unstable();
        Some(rules)
    }

    /// How many bytes at the start of `text` are ASCII that no rule touches.
    ///
    /// A lower bound: the last byte before a non-ASCII one is left out when some rule could join the two.
    #[inline]
    pub fn plain_ascii_len(&self, text: &[u8]) -> usize {
        let plain = |i: usize| match self.ascii.get(usize::from(text[i])) {
            Some(Ascii::Plain) => true,
            Some(Ascii::PlainUnlessJoined) => text.get(i + 1).is_none_or(u8::is_ascii),
            Some(Ascii::Lookup) | None => false,
        };
        (0..text.len()).find(|&i| !plain(i)).unwrap_or(text.len())
    }
}

/// A node of the trie, as a lookup needs it.
struct Node {
    /// Its position ^ its offset.
    base: u32,
    /// Where its replacement text starts.
    value: Option<u32>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    /// Builds a blob from rules, one byte range of 256 units per node: wasteful and obviously right.
    pub(crate) fn blob(rules: &[(&[u8], &[u8])]) -> Vec<u8> {
        // Nodes are prefixes of left sides; node k has its children in block k + 1, reached by offset (k + 1) << 8.
        let mut prefixes: Vec<&[u8]> = vec![b""];
        for (left, _) in rules {
            prefixes.extend((1..=left.len()).map(|n| &left[..n]));
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        let place = |prefix: &[u8]| -> usize {
            let Some((&last, parent)) = prefix.split_last() else { return 0 };
            let k = prefixes.binary_search(&parent).expect("every prefix is a node");
            ((k + 1) << 8) | usize::from(last)
        };
        let mut units = vec![0u32; (prefixes.len() + 1) << 8];
        let mut texts = Vec::new();
        for (k, prefix) in prefixes.iter().enumerate() {
            let at = place(prefix);
            // base = at ^ offset must be (k + 1) << 8: the offset has the low byte of `at` in it, so it is not wide.
            let offset = u32::try_from(at ^ ((k + 1) << 8)).expect("small");
            units[at] |= (offset << 10) | prefix.last().map_or(0, |&b| u32::from(b));
            if let Some((_, right)) = rules.iter().find(|(left, _)| left == prefix) {
                units[at] |= HAS_VALUE;
                units[(k + 1) << 8] = VALUE_BIT | u32::try_from(texts.len()).expect("small");
                texts.extend_from_slice(right);
                texts.push(0);
            }
        }
        let mut blob = u32::try_from(units.len() * UNIT_LEN).expect("small").to_le_bytes().to_vec();
        blob.extend(units.iter().flat_map(|u| u.to_le_bytes()));
        blob.extend(texts);
        blob
    }

    fn map(rules: &[(&[u8], &[u8])]) -> Charsmap {
        Charsmap::new(&blob(rules), &Limits::default()).expect("a sound map")
    }

    #[test]
    fn test_the_longest_rule_wins_and_the_shortest_can_be_asked_for() {
        let map = map(&[(b"a", b"1"), (b"abc", b"3"), (b"x", b"")]);
        assert_eq!(map.longest_prefix(b"abcd"), Some((3, &b"3"[..])));
        assert_eq!(map.shortest_prefix(b"abcd"), Some((1, &b"1"[..])));
        assert_eq!(map.longest_prefix(b"abd"), Some((1, &b"1"[..])));
        assert_eq!(map.longest_prefix(b"xyz"), Some((1, &b""[..])));
        assert_eq!(map.longest_prefix(b"bc"), None);
        assert_eq!(map.longest_prefix(b""), None);
        assert_eq!(map.longest_prefix(b"\0a"), None);
    }

    #[test]
    fn test_plain_ascii_stops_where_a_rule_could_start() {
        let map = map(&[("a\u{300}".as_bytes(), "à".as_bytes()), (b"\t", b" "), (b"fi", b"F")]);
        assert_eq!(map.plain_ascii_len(b"hello a bad\tcat"), 11);
        assert_eq!(map.plain_ascii_len("ba\u{300}".as_bytes()), 1);
        assert_eq!(map.plain_ascii_len(b"bfx"), 1);
        assert_eq!(map.plain_ascii_len("é".as_bytes()), 0);
        assert_eq!(map.plain_ascii_len(b"a"), 1);
    }

    #[test]
    fn test_damaged_blobs_are_refused() {
        let good = blob(&[(b"a", b"1")]);
        for len in 0..good.len() {
            match Charsmap::new(&good[..len], &Limits::default()) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Format),
                // A replacement text may end with the blob, as in a C++ string.
                Ok(_) => assert!(len >= good.len() - 2),
            }
        }
        let refused = |blob: &[u8]| Charsmap::new(blob, &Limits::default()).expect_err("damaged").to_string();
        assert!(refused(&[0, 0, 0, 0]).contains("multiple of 4"));
        assert!(refused(&[5, 0, 0, 0, 1, 2, 3, 4, 5]).contains("multiple of 4"));
        assert!(refused(&[4, 0, 0, 0, 0, 0xFF, 0xFF, 0x7F]).contains("outside the trie"));
        let mut far = good.clone();
        far[4 + 2 * 256 * 4 + 2] = 1; // the value of "a" becomes 1 << 16
        assert!(refused(&far).contains("65536"));
        let small = Limits { file_bytes: 10, ..Limits::default() };
        assert_eq!(Charsmap::new(&good, &small).expect_err("too large").kind(), ErrorKind::Limit);
    }

    #[test]
    fn test_a_cyclic_trie_ends_with_the_text() {
        // Root at 0 with base 256 for 'a'; the node at 256 ^ 'a' has base 256 again and no value.
        let mut units = vec![0u32; 512];
        units[0] = 256 << 10;
        units[256 | usize::from(b'a')] = (u32::from(b'a') << 10) | u32::from(b'a');
        let mut blob = 2048u32.to_le_bytes().to_vec();
        blob.extend(units.iter().flat_map(|u| u.to_le_bytes()));
        let map = Charsmap::new(&blob, &Limits::default()).expect("cycles alone do no harm");
        assert_eq!(map.longest_prefix(&[b'a'; 100_000]), None);
        assert_eq!(map.rules(), None, "it has a cycle");
    }

    proptest! {
        #[test]
        fn test_lookup_equals_a_scan_of_the_rules(
            rules in proptest::collection::btree_map(proptest::collection::vec(1u8..5, 1..4), proptest::collection::vec(1u8..9, 0..3), 0..12),
            text in proptest::collection::vec(0u8..6, 0..8),
        ) {
            let rules: Vec<(&[u8], &[u8])> = rules.iter().map(|(l, r)| (&l[..], &r[..])).collect();
            let map = map(&rules);
            let listed = map.rules().expect("few and short");
            prop_assert!(listed.iter().map(|(l, r)| (&l[..], *r)).eq(rules.iter().copied()));
            let best = rules.iter().filter(|(l, _)| text.starts_with(l)).max_by_key(|(l, _)| l.len()).map(|(l, r)| (l.len(), *r));
            prop_assert_eq!(map.longest_prefix(&text), best);
            let plain = map.plain_ascii_len(&text);
            for i in 0..plain {
                prop_assert_eq!(map.longest_prefix(&text[i..]), None);
            }
        }

        #[test]
        fn test_random_bytes_never_panic(mut blob in proptest::collection::vec(any::<u8>(), 4..600), units in 1u32..64, text in proptest::collection::vec(any::<u8>(), 0..40)) {
            blob[..4].copy_from_slice(&(units * 4).to_le_bytes());
            if let Ok(map) = Charsmap::new(&blob, &Limits::default()) {
                for i in 0..text.len() {
                    let _ = map.longest_prefix(&text[i..]);
                    let _ = map.shortest_prefix(&text[i..]);
                }
            }
        }
    }
}
