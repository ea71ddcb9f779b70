//! Characters as a small alphabet, and UTF-8 read into it byte by byte.
//!
//! Patterns ask for sets of characters. Characters that are in the same sets behave alike, so they are one *class*. The
//! decoder is the trie of all well-formed characters with a class at every leaf and equal subtrees stored once.

use crate::error::{Error, Result};
use crate::pretoken::streaming::unsupported;

/// A set of classes: bit `c` stands for class `c`.
pub(super) type Mask = u128;

/// Most classes: one bit of a [`Mask`] each.
const MAX_CLASSES: usize = 128;

/// Tails of a lead byte: `0x80..=0xBF`.
const TAILS: usize = 64;

/// One more than the largest code point.
const CODE_POINTS: usize = 0x11_0000;

const SURROGATES: std::ops::RangeInclusive<u32> = 0xD800..=0xDFFF;

/// Sets of code points, each stored once and named by its index.
#[derive(Debug, Default)]
pub(super) struct Sets {
    sets: Vec<Vec<(u32, u32)>>,
}

impl Sets {
    /// The name of a set, given as inclusive ranges, sorted and apart.
    pub(super) fn add(&mut self, ranges: Vec<(u32, u32)>) -> usize {
        self.sets.iter().position(|set| *set == ranges).unwrap_or_else(|| {
            self.sets.push(ranges);
            self.sets.len() - 1
        })
    }

    /// The name of the union of two sets.
    pub(super) fn union(&mut self, a: usize, b: usize) -> usize {
        let mut all = [self.sets[a].as_slice(), &self.sets[b]].concat();
        all.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        self.add(joined)
    }
}

/// What a byte leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Read {
    /// No well-formed character goes on like that.
    Malformed,
    /// A whole character, of this class.
    Class(u8),
    /// The start of a character: a node of the trie.
    Node(u16),
}

/// The classes, and the decoder.
#[derive(Clone, Debug)]
pub(super) struct Alphabet {
    /// By the first byte of a character.
    first: Box<[Read; 256]>,
    /// By the low six bits of a later byte. Node 0 stands for "between characters" and is not used here.
    nodes: Vec<[Read; TAILS]>,
    /// The classes a node can lead to.
    reach: Vec<Mask>,
    classes: usize,
}

impl Alphabet {
    /// The coarsest classes that tell `sets` apart, and every set as a mask of them. About a millisecond.
    ///
    /// # Errors
    /// `Unsupported` for more than 128 classes.
    pub(super) fn new(sets: &Sets) -> Result<(Self, Vec<Mask>)> {
        let mut changes: Vec<(u32, usize)> = Vec::new();
        for (i, set) in sets.sets.iter().enumerate() {
            changes.extend(set.iter().flat_map(|&(first, last)| [(first, i), (last + 1, i)]));
        }
        changes.sort_unstable();
        let mut members = vec![false; sets.sets.len()];
        let mut known: hashbrown::HashMap<Vec<bool>, u8> = hashbrown::HashMap::new();
        let mut masks = vec![0; sets.sets.len()];
        let mut flat = vec![0u8; CODE_POINTS];
        let mut start = 0u32;
        let mut changes = changes.into_iter().peekable();
        loop {
            let end = changes.peek().map_or(0x11_0000, |&(at, _)| at);
            let only_surrogates = SURROGATES.contains(&start) && end <= *SURROGATES.end() + 1;
            if start < end && !only_surrogates {
                let next = known.len();
                let class = match known.get(&members) {
                    Some(&class) => class,
                    None if next == MAX_CLASSES => return Err(too_many()),
                    None => {
                        let class = u8::try_from(next).map_err(|_| too_many())?;
                        known.insert(members.clone(), class);
                        for (mask, _) in masks.iter_mut().zip(&members).filter(|(_, inside)| **inside) {
                            *mask |= 1 << class;
                        }
                        class
                    }
                };
                flat[start as usize..end as usize].fill(class);
            }
            let Some((at, set)) = changes.next() else { break };
            start = at;
            members[set] = !members[set];
        }
        let classes = known.len();
        Ok((Self::trie(&flat, classes), masks))
    }

    fn trie(flat: &[u8], classes: usize) -> Self {
        let mut trie = Self {
            first: Box::new([Read::Malformed; 256]),
            nodes: vec![[Read::Malformed; TAILS]],
            reach: vec![0],
            classes,
        };
        let mut index = hashbrown::HashMap::new();
        // Level by level from the last byte: blocks of 64 characters, blocks of 64 blocks, and so on.
        let leaves: Vec<Read> = flat
            .iter()
            .zip(0u32..)
            .map(|(&class, c)| if SURROGATES.contains(&c) { Read::Malformed } else { Read::Class(class) })
            .collect();
        let two = trie.level(&leaves, &mut index);
        let mut long = two.clone();
        long[..32].fill(Read::Malformed); // below U+0800 three bytes are too many
        let three = trie.level(&long, &mut index);
        let mut long = three.clone();
        long[..16].fill(Read::Malformed); // below U+10000 four are
        let four = trie.level(&long, &mut index);
        trie.first[..0x80].copy_from_slice(&leaves[..0x80]);
        trie.first[0xC2..0xE0].copy_from_slice(&two[2..32]);
        trie.first[0xE0..0xF0].copy_from_slice(&three[..16]);
        trie.first[0xF0..0xF5].copy_from_slice(&four[..5]);
        trie
    }

    /// One node per 64 entries of the level below; a node without any character is none.
    fn level(&mut self, below: &[Read], index: &mut hashbrown::HashMap<[Read; TAILS], u16>) -> Vec<Read> {
        let mut level = Vec::with_capacity(below.len() / TAILS + 1);
        let mut last: Option<(&[Read], Read)> = None;
        for block in below.chunks(TAILS) {
            // Neighbours are mostly alike, and hashing costs more than comparing.
            if let Some((same, read)) = last
                && same == block
            {
                level.push(read);
                continue;
            }
            let mut node = [Read::Malformed; TAILS];
            node[..block.len()].copy_from_slice(block);
            let reach = node.iter().fold(0, |mask, &read| mask | self.reach_of(read));
            let read = if reach == 0 {
                Read::Malformed
            } else {
                Read::Node(*index.entry(node).or_insert_with(|| {
                    self.nodes.push(node);
                    self.reach.push(reach);
                    u16::try_from(self.nodes.len() - 1).expect("at most 17408 + 272 + 5 nodes")
                }))
            };
            last = Some((block, read));
            level.push(read);
        }
        level
    }

    /// The classes of the characters that a read byte leads to.
    pub(super) fn reach_of(&self, read: Read) -> Mask {
        match read {
            Read::Malformed => 0,
            Read::Class(class) => 1 << class,
            Read::Node(node) => self.reach[usize::from(node)],
        }
    }

    /// What `byte` is after the bytes that led to `node`; 0 between characters.
    #[inline]
    pub(super) fn read(&self, node: u32, byte: u8) -> Read {
        if node == 0 {
            self.first[usize::from(byte)]
        } else if byte & 0xC0 == 0x80 {
            self.nodes[node as usize][usize::from(byte & 0x3F)]
        } else {
            Read::Malformed
        }
    }

    /// How many classes there are; at least 1.
    pub(super) fn classes(&self) -> usize {
        self.classes
    }

    /// How many nodes there are, node 0 included.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }
}

fn too_many() -> Error {
    unsupported(format!("patterns that tell more than {MAX_CLASSES} kinds of characters apart"))
}
