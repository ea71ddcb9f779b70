//! The first count of all pairs.

use std::cmp::Reverse;

use super::{Engine, Entry, key_of, pair_of, place};
use crate::ids::TokenId;
use crate::pipeline::Cancel;

/// Up to so many ids, as of bytes and special tokens, pairs are counted in a square first.
const DENSE_IDS: usize = 1 << 10;

/// Places between two looks at the flag that cancels.
const CANCEL_EVERY: usize = 1 << 14;

impl Engine {
    /// Counts all pairs and lists their places, in the order of the text.
    pub(super) fn count(&mut self, cancel: &Cancel) {
        let ids = self.lengths.len();
        let dense = ids <= DENSE_IDS;
        // Each pair has a number: its cell of a square, or its slot in the table once all pairs are there.
        if !dense
            && !self.each_pair(cancel, |engine, key, _, count| {
                engine.counts.add(key, count);
            })
        {
            return;
        }
        let cell = |key: u64| {
            let (left, right) = pair_of(key);
            left as usize * ids + right as usize
        };
        let mut ends = vec![0_u32; if dense { ids * ids } else { self.counts.slots() }];
        let mut sums = vec![0_i64; if dense { ids * ids } else { 0 }];
        let counted = self.each_pair(cancel, |engine, key, _, count| {
            if dense {
                ends[cell(key)] += 1;
                sums[cell(key)] += count;
            } else {
                ends[engine.counts.slot(key)] += 1;
            }
        });
        if !counted {
            return;
        }
        let mut total = 0;
        for end in &mut ends {
            let len = *end;
            *end = total; // a start for now: filling moves it to the end
            total += len;
        }
        let mut pool = vec![0; total as usize];
        let filled = self.each_pair(cancel, |engine, key, at, _| {
            let end = &mut ends[if dense { cell(key) } else { engine.counts.slot(key) }];
            pool[*end as usize] = place(at);
            *end += 1;
        });
        if !filled {
            return;
        }
        self.pool = pool;
        let mut start = 0;
        let mut entries = Vec::new();
        for (number, &end) in ends.iter().enumerate().filter(|(number, end)| {
            let before = number.checked_sub(1).map_or(0, |before| ends[before]);
            before < **end
        }) {
            let (key, count) = if dense {
                let id = |at: usize| TokenId::try_from(at).expect("below DENSE_IDS");
                (key_of(id(number / ids), id(number % ids)), sums[number])
            } else {
                self.counts.at(number)
            };
            entries.push(Entry { count, key: Reverse(key), start, len: end - start });
            start = end;
        }
        for entry in entries {
            if dense {
                self.counts.add(entry.key(), entry.count);
            }
            self.enqueue(entry);
        }
    }

    /// Calls `each` with every pair that may merge, its place and its word's count, from the left; `false` when it was
    /// cancelled.
    fn each_pair(&mut self, cancel: &Cancel, mut each: impl FnMut(&mut Self, u64, usize, i64)) -> bool {
        for (count, places) in self.layout.counts() {
            for at in places {
                if at % CANCEL_EVERY == 0 && cancel.is_cancelled() {
                    return false;
                }
                if let Some(key) = self.pair_at(at) {
                    each(self, key, at, count);
                }
            }
        }
        true
    }

    /// The pair that starts at a place of the fresh layout, if it may merge at all.
    #[inline]
    fn pair_at(&self, at: usize) -> Option<u64> {
        let left = self.layout.token_at(at)?;
        let (_, right) = self.layout.next(at)?;
        self.allows(left, right).then(|| key_of(left, right))
    }
}
