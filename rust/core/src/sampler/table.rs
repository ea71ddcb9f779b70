//! The scores of all substrings of the queue: one slot for each, which a later batch may use again.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::count::{Pretokens, substrings};
use super::key::Key;
use super::options::{Options, is_spaced};
use crate::error::{Error, ErrorKind, Result};

/// A fixed seed: runs are alike; no result depends on the order of a table.
const SEED: u64 = 0x736c_6f74_7300;

/// What one batch added under one pattern: slots with scores above 0, each slot once.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    scores: Vec<(u32, u64)>,
    total: u64,
}

/// The substrings of the queue and the tokens that always count, each in a slot.
///
/// A slot is given back when the last part that names it goes; a substring that comes again later has a new birth, so
/// that what a caller keeps by slot can be told from what another substring left there.
#[derive(Debug)]
pub(super) struct Table {
    places: HashTable<u32>,
    /// By slot. Long tokens, which no substring equals, have no key.
    keys: Vec<Option<Key>>,
    /// By slot: the bytes of tokens that always count and are too long for a key; their slots come first.
    long: Vec<Vec<u8>>,
    /// By slot: whether a substring of two or more white-space bytes is there.
    spaced: Vec<bool>,
    /// By slot: the parts that name it, and one for what always counts; 0 for a free slot.
    holders: Vec<u32>,
    /// By slot: how many slots had been filled before.
    births: Vec<u64>,
    next_birth: u64,
    free: Vec<u32>,
    /// By pattern and slot.
    sums: Vec<Vec<u64>>,
    /// By pattern.
    totals: Vec<u64>,
    /// By slot, all 0 between calls: what the batch at hand has so far.
    batch: Vec<u64>,
}

#[inline]
fn hash(key: Key) -> u64 {
    let mut hasher = FixedState::with_seed(SEED).build_hasher();
    let (high, low) = key.words();
    hasher.write_u64(high);
    hasher.write_u64(low);
    hasher.finish()
}

impl Table {
    /// A table in which `tokens` always count; their slots are returned in their order.
    pub(super) fn new(tokens: &[Vec<u8>], patterns: usize) -> (Self, Vec<u32>) {
        let mut table = Self {
            places: HashTable::new(),
            keys: Vec::new(),
            long: Vec::new(),
            spaced: Vec::new(),
            holders: Vec::new(),
            births: Vec::new(),
            next_birth: 1,
            free: Vec::new(),
            sums: vec![Vec::new(); patterns],
            totals: vec![0; patterns],
            batch: Vec::new(),
        };
        let mut long: Vec<&Vec<u8>> = tokens.iter().filter(|token| Key::new(token).is_none()).collect();
        long.sort_unstable();
        long.dedup();
        for token in &long {
            table.fill(None, is_spaced(token));
        }
        table.long = long.into_iter().cloned().collect();
        let slots = tokens.iter().map(|token| match Key::new(token) {
            Some(key) => table.slot_of(key),
            None => as_slot(table.long.partition_point(|other| other < token)),
        });
        let slots: Vec<u32> = slots.collect();
        table.holders.fill(1);
        (table, slots)
    }

    /// How many slots there are, free ones included.
    pub(super) fn slots(&self) -> usize {
        self.keys.len()
    }

    /// The bytes in a slot that is not free.
    pub(super) fn with_bytes<T>(&self, slot: u32, work: impl FnOnce(&[u8]) -> T) -> T {
        match self.keys[slot as usize] {
            Some(key) => work(&key.bytes()[..key.len()]),
            None => work(&self.long[slot as usize]),
        }
    }

    /// The key in a slot that is not free; `None` for a long token.
    #[inline]
    pub(super) fn key(&self, slot: u32) -> Option<Key> {
        self.keys[slot as usize]
    }

    pub(super) fn birth(&self, slot: u32) -> u64 {
        self.births[slot as usize]
    }

    pub(super) fn is_spaced(&self, slot: u32) -> bool {
        self.spaced[slot as usize]
    }

    /// The scores under a pattern, by slot, and their sum.
    pub(super) fn scores(&self, pattern: usize) -> (&[u64], u64) {
        (&self.sums[pattern], self.totals[pattern])
    }

    /// Counts the substrings of pretokens under a pattern, and holds their slots; the sums stay as they are.
    ///
    /// # Errors
    /// `Limit` when the score of the batch passes `u64::MAX`; nothing is held then.
    pub(super) fn count(&mut self, pretokens: &Pretokens<'_>, options: &Options) -> Result<Part> {
        let mut part = Part::default();
        let (mut bounds, mut total) = (Vec::new(), Some(0_u64));
        let short = pretokens.short.iter().map(|(key, count)| (key.bytes(), key.len(), *count));
        for (bytes, len, count) in short {
            substrings(&bytes[..len], options, &mut bounds, |key, len| {
                total = self.score(key, len, count, total, &mut part.scores);
            });
        }
        for piece in &pretokens.long {
            substrings(piece, options, &mut bounds, |key, len| {
                total = self.score(key, len, 1, total, &mut part.scores);
            });
        }
        for (slot, score) in &mut part.scores {
            *score = std::mem::take(&mut self.batch[*slot as usize]);
            self.holders[*slot as usize] += 1; // below 2^32: a part holds 12 bytes for it
        }
        match total {
            Some(total) => {
                part.total = total;
                Ok(part)
            }
            None => {
                self.release(&part);
                Err(too_much("the scores of a batch pass 2^64"))
            }
        }
    }

    /// Adds a score to the batch; returns the total with it, `None` when one before or this one was too much.
    #[inline]
    fn score(
        &mut self,
        key: Key,
        len: usize,
        count: u64,
        total: Option<u64>,
        touched: &mut Vec<(u32, u64)>,
    ) -> Option<u64> {
        let score = count.checked_mul(len as u64)?;
        let total = total?.checked_add(score)?;
        let slot = self.slot_of(key);
        let sum = &mut self.batch[slot as usize];
        if *sum == 0 {
            touched.push((slot, 0));
        }
        *sum += score; // at most `total`
        Some(total)
    }

    /// Adds a part's scores to the sums.
    ///
    /// # Errors
    /// `Limit` when the total passes `u64::MAX`; the sums are as before then.
    pub(super) fn add(&mut self, pattern: usize, part: &Part) -> Result<()> {
        let total = &mut self.totals[pattern];
        *total = total.checked_add(part.total).ok_or_else(|| too_much("the scores of the queue pass 2^64"))?;
        let sums = &mut self.sums[pattern];
        for (slot, score) in &part.scores {
            sums[*slot as usize] += score; // at most the total
        }
        Ok(())
    }

    /// Takes back what [`Self::add`] did.
    pub(super) fn subtract(&mut self, pattern: usize, part: &Part) {
        self.totals[pattern] -= part.total;
        let sums = &mut self.sums[pattern];
        for (slot, score) in &part.scores {
            sums[*slot as usize] -= score;
        }
    }

    /// Lets go of a part's slots, which have no score of it any more.
    pub(super) fn release(&mut self, part: &Part) {
        for &(slot, _) in &part.scores {
            let holders = &mut self.holders[slot as usize];
            *holders -= 1;
            if *holders == 0 {
                let key = self.keys[slot as usize].expect("long tokens always count, so they are held");
                if let Ok(place) = self.places.find_entry(hash(key), |&other| other == slot) {
                    place.remove();
                }
                self.free.push(slot);
            }
        }
    }

    /// The slot of a key, filled now if there is none.
    #[inline]
    fn slot_of(&mut self, key: Key) -> u32 {
        match self.places.find(hash(key), |&slot| self.keys[slot as usize] == Some(key)) {
            Some(&slot) => slot,
            None => self.new_slot(key),
        }
    }

    #[cold]
    #[inline(never)]
    fn new_slot(&mut self, key: Key) -> u32 {
        let slot = self.fill(Some(key), is_spaced(&key.bytes()[..key.len()]));
        let keys = &self.keys;
        self.places.insert_unique(hash(key), slot, |&slot| hash(keys[slot as usize].expect("short: in the table")));
        slot
    }

    fn fill(&mut self, key: Option<Key>, is_spaced: bool) -> u32 {
        let birth = self.next_birth;
        self.next_birth += 1;
        match self.free.pop() {
            Some(slot) => {
                let at = slot as usize;
                (self.keys[at], self.spaced[at], self.births[at]) = (key, is_spaced, birth);
                slot
            }
            None => {
                let slot = as_slot(self.keys.len());
                self.keys.push(key);
                self.spaced.push(is_spaced);
                self.births.push(birth);
                self.holders.push(0);
                self.batch.push(0);
                self.sums.iter_mut().for_each(|sums| sums.push(0));
                slot
            }
        }
    }
}

/// A slot takes some 60 bytes, so there are never 2^32 of them on a machine of our day.
fn as_slot(at: usize) -> u32 {
    u32::try_from(at).expect("fewer than 2^32 slots: 240 GiB of them")
}

fn too_much(found: &str) -> Error {
    Error::new(ErrorKind::Limit, "texts", found, "push smaller batches, or hold fewer of them")
}
