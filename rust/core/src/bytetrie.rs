//! A static trie over bytes in one flat array (a double array).
//!
//! One slot of eight bytes per node. A node knows the `base` of its children: the child for byte `b` lies in slot
//! `base ^ b` and carries `b` as its label. No two nodes share a base, so a slot that carries the right label is the
//! right child, and one load both checks the step and says what lies beyond it:
//!
//! ```text
//! bit  63........36 35.........9 8        7......0
//!      base (28)    value + 1    occupied label      value + 1 = 0: no key ends here
//! ```
//!
//! Base 0 is given to no node with children, so a leaf, whose base is 0, has none: the label in slot `0 ^ b` would
//! have to be `b`, which is only so for a child of base 0.

use crate::{Error, Result};

const OCCUPIED: u64 = 1 << 8;
const LABEL: u64 = 0x1ff; // label and the occupied bit
const VALUE_SHIFT: u32 = 9;
const VALUE_BITS: u32 = 27;
const VALUE: u64 = (1 << VALUE_BITS) - 1;
const BASE_SHIFT: u32 = 36;
const MAX_SLOTS: usize = 1 << 28;
/// Blocks in which the builder still looks for room; more makes the array denser and the building slower.
const OPEN_BLOCKS: usize = 16;

/// The largest value a key may have.
pub const MAX_VALUE: u32 = (1 << VALUE_BITS) - 2;

/// A map from byte strings to `u32`, walked byte by byte.
///
/// Eight bytes per node; a node per distinct non-empty prefix of the keys.
#[derive(Clone, Debug)]
pub struct ByteTrie {
    slots: Vec<u64>,
    root: Node,
    longest: usize,
}

/// A place in a [`ByteTrie`]: what was read so far is a prefix of some key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(u64);

impl Node {
    /// The value of the key that ends here.
    #[inline(always)]
    pub fn value(self) -> Option<u32> {
        self.number().checked_sub(1)
    }

    /// One more than the value of the key that ends here; 0 where none does. For code without branches.
    #[inline(always)]
    pub fn number(self) -> u32 {
        // 27 bits.
        ((self.0 >> VALUE_SHIFT) & VALUE) as u32
    }

    /// Whether no key goes on from here.
    #[inline(always)]
    pub fn is_leaf(self) -> bool {
        self.base() == 0
    }

    #[inline(always)]
    fn base(self) -> usize {
        // 28 bits.
        (self.0 >> BASE_SHIFT) as usize
    }
}

impl ByteTrie {
    /// Builds the trie of `keys`. Of equal keys the last one's value counts; an empty key is the root's value.
    ///
    /// O(total bytes of the keys) plus a sort. Fails with `Limit` when the array would pass 2^28 slots and with
    /// `Unsupported` when a value is over [`MAX_VALUE`].
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a [u8], u32)>) -> Result<Self> {
        let mut keys: Vec<(&[u8], u32)> = keys.into_iter().collect();
        if let Some((_, value)) = keys.iter().find(|(_, value)| *value > MAX_VALUE) {
            return Err(Error::unsupported("vocab", format!("value {value} is over {MAX_VALUE}"), ""));
        }
        keys.sort_by_key(|(key, _)| *key); // stable: of equal keys the last stays last
        keys.dedup_by(|later, kept| {
            let equal = later.0 == kept.0;
            if equal {
                kept.1 = later.1;
            }
            equal
        });
        Builder::default().build(&keys)
    }

    /// The place before the first byte.
    #[inline(always)]
    pub fn root(&self) -> Node {
        self.root
    }

    /// The place after one more byte, if some key goes on with it. One load.
    #[inline(always)]
    pub fn child(&self, node: Node, byte: u8) -> Option<Node> {
        let slot = *self.slots.get(node.base() ^ usize::from(byte))?;
        if slot & LABEL == OCCUPIED | u64::from(byte) { Some(Node(slot)) } else { None }
    }

    /// The value of `key`. O(`key`'s length).
    pub fn get(&self, key: &[u8]) -> Option<u32> {
        let mut node = self.root;
        for &byte in key {
            node = self.child(node, byte)?;
        }
        node.value()
    }

    /// The longest non-empty key that `bytes` starts with: its length and value. O(longest key).
    #[inline]
    pub fn longest_prefix(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let mut node = self.root;
        let mut found = None;
        for (i, &byte) in bytes.iter().enumerate() {
            match self.child(node, byte) {
                Some(next) => node = next,
                None => break,
            }
            if let Some(value) = node.value() {
                found = Some((i + 1, value));
            }
        }
        found
    }

    /// The length of the longest key, in bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The size of the array, in bytes.
    pub fn memory(&self) -> usize {
        self.slots.len() * size_of::<u64>()
    }
}

/// 256 slots that still have room.
struct Block {
    start: usize,
    /// Slots that hold no node.
    free: [u64; 4],
    /// Bases (by their low eight bits) that no node has yet.
    bases: [u64; 4],
}

/// Keys `keys[low..high]` share their first `depth` bytes, which lead to `slot` (`None`: the root).
struct Task {
    low: usize,
    high: usize,
    depth: usize,
    slot: Option<usize>,
}

#[derive(Default)]
struct Builder {
    slots: Vec<u64>,
    open: Vec<Block>,
}

impl Builder {
    /// Builds from sorted, distinct keys. Depth first, so that a chain of nodes lies close together (placing what leads
    /// to probable pieces first instead made unigram encoding with 250 000 pieces a fifth slower); on a stack of its own,
    /// so that long keys are no danger.
    fn build(mut self, keys: &[(&[u8], u32)]) -> Result<ByteTrie> {
        let mut root = Node(0);
        let mut stack = vec![Task { low: 0, high: keys.len(), depth: 0, slot: None }];
        let mut children: Vec<(u8, usize, usize)> = Vec::new(); // byte, low, high
        while let Some(Task { mut low, high, depth, slot }) = stack.pop() {
            let mut node = 0u64;
            if low < high && keys[low].0.len() == depth {
                node |= (u64::from(keys[low].1) + 1) << VALUE_SHIFT;
                low += 1;
            }
            children.clear();
            for (i, (key, _)) in keys[low..high].iter().enumerate() {
                match children.last_mut() {
                    Some((byte, _, end)) if *byte == key[depth] => *end = low + i + 1,
                    _ => children.push((key[depth], low + i, low + i + 1)),
                }
            }
            if !children.is_empty() {
                let base = self.place(&children)?;
                node |= (base as u64) << BASE_SHIFT;
                for &(byte, low, high) in children.iter().rev() {
                    let slot = base ^ usize::from(byte);
                    self.slots[slot] = OCCUPIED | u64::from(byte);
                    stack.push(Task { low, high, depth: depth + 1, slot: Some(slot) });
                }
            }
            match slot {
                Some(slot) => self.slots[slot] |= node,
                None => root = Node(node),
            }
        }
        let longest = keys.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        Ok(ByteTrie { slots: self.slots, root, longest })
    }

    /// Finds and takes a base whose slots for `children` are free.
    fn place(&mut self, children: &[(u8, usize, usize)]) -> Result<usize> {
        let mut found = None;
        for (i, block) in self.open.iter().enumerate().rev() {
            if let Some(low_bits) = block.base_for(children) {
                found = Some((i, low_bits));
                break;
            }
        }
        let (i, low_bits) = match found {
            Some(found) => found,
            None => {
                self.add_block()?;
                let i = self.open.len() - 1;
                let low_bits = self.open[i].base_for(children).expect("an empty block has room for every set of bytes");
                (i, low_bits)
            }
        };
        let block = &mut self.open[i];
        block.bases[low_bits >> 6] &= !(1 << (low_bits & 63));
        for &(byte, ..) in children {
            let slot = low_bits ^ usize::from(byte);
            block.free[slot >> 6] &= !(1 << (slot & 63));
        }
        let base = block.start + low_bits;
        if block.free == [0; 4] {
            self.open.remove(i);
        }
        Ok(base)
    }

    fn add_block(&mut self) -> Result<()> {
        let start = self.slots.len();
        if start + 256 > MAX_SLOTS {
            return Err(Error::limit("vocab", start + 256, MAX_SLOTS, "tokens"));
        }
        if self.open.len() == OPEN_BLOCKS {
            self.open.remove(0);
        }
        self.slots.resize(start + 256, 0);
        let mut bases = [u64::MAX; 4];
        if start == 0 {
            bases[0] &= !1; // base 0 is every leaf's
        }
        self.open.push(Block { start, free: [u64::MAX; 4], bases });
        Ok(())
    }
}

impl Block {
    /// The low eight bits of the smallest base of this block whose slots for `children` are all free.
    fn base_for(&self, children: &[(u8, usize, usize)]) -> Option<usize> {
        let mut good = self.bases;
        for &(byte, ..) in children {
            let byte = usize::from(byte);
            for (word, good) in good.iter_mut().enumerate() {
                // Bit b of `good` stays when slot b ^ byte is free.
                *good &= permuted(self.free[word ^ (byte >> 6)], byte & 63);
            }
            if good == [0; 4] {
                return None;
            }
        }
        let word = good.iter().position(|word| *word != 0)?;
        Some(word * 64 + good[word].trailing_zeros() as usize)
    }
}

/// `word` with bit `i` moved to `i ^ by`, `by < 64`.
fn permuted(mut word: u64, by: usize) -> u64 {
    const LOW: [u64; 6] = [
        0x5555_5555_5555_5555,
        0x3333_3333_3333_3333,
        0x0f0f_0f0f_0f0f_0f0f,
        0x00ff_00ff_00ff_00ff,
        0x0000_ffff_0000_ffff,
        0x0000_0000_ffff_ffff,
    ];
    for (i, low) in LOW.iter().enumerate() {
        if by >> i & 1 == 1 {
            let shift = 1 << i;
            word = ((word >> shift) & low) | ((word & low) << shift);
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn check(map: &BTreeMap<Vec<u8>, u32>, probes: &[Vec<u8>]) {
        let trie = ByteTrie::new(map.iter().map(|(key, value)| (key.as_slice(), *value))).expect("small keys");
        for (key, value) in map {
            assert_eq!(trie.get(key), Some(*value), "{key:?}");
        }
        for probe in probes {
            assert_eq!(trie.get(probe), map.get(probe).copied(), "{probe:?}");
            let longest = (1..=probe.len()).rev().find_map(|n| map.get(&probe[..n]).map(|value| (n, *value)));
            assert_eq!(trie.longest_prefix(probe), longest, "{probe:?}");
        }
    }

    #[test]
    fn permuting_moves_every_bit_by_xor() {
        for by in 0..64 {
            for bit in 0..64 {
                assert_eq!(permuted(1 << bit, by), 1 << (bit ^ by));
            }
        }
    }

    #[test]
    fn an_empty_trie_holds_nothing() {
        check(&BTreeMap::new(), &[vec![], vec![0], vec![255, 1]]);
    }

    #[test]
    fn of_equal_keys_the_last_counts() {
        let trie = ByteTrie::new([(&b"a"[..], 1), (b"b", 2), (b"a", 3)]).expect("small keys");
        assert_eq!((trie.get(b"a"), trie.get(b"b")), (Some(3), Some(2)));
    }

    #[test]
    fn values_over_the_maximum_are_refused() {
        assert!(ByteTrie::new([(&b"a"[..], MAX_VALUE)]).is_ok());
        assert!(ByteTrie::new([(&b"a"[..], MAX_VALUE + 1)]).is_err());
    }

    #[test]
    fn all_strings_of_two_bytes_are_found() {
        let map = (0..=u16::MAX).map(|n| (n.to_be_bytes().to_vec(), u32::from(n))).collect();
        check(&map, &[vec![1], vec![1, 2, 3], vec![]]);
    }

    #[test]
    fn a_key_of_a_million_bytes_is_found() {
        let key: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let trie = ByteTrie::new([(&key[..], 7)]).expect("one key");
        assert_eq!((trie.get(&key), trie.get(&key[..999_999])), (Some(7), None));
        assert_eq!(trie.longest_prefix(&[&key[..], b"x"].concat()), Some((1_000_000, 7)));
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(
            map in prop::collection::btree_map(prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..6), 0..1000u32, 0..300),
            probes in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..8), 0..100),
        ) {
            check(&map, &probes);
        }
    }
}
