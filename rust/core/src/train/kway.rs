//! Merging sorted counts: every pretoken once, its counts added up.

use super::counts::{LongSlot, ShortSlot, Sorted};
use super::runs::RunReader;
use crate::error::{Error, Result};
use crate::pipeline::Cancel;

/// Pretokens between two looks at [`Cancel`].
const TICKS: usize = 1 << 14;

/// Counted pretokens, sorted by bytes, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// All pretokens end to end.
    pub bytes: Vec<u8>,
    /// One more than there are pretokens: pretoken `i` is `bytes[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<i64>,
    /// How often each came, at least once.
    pub counts: Vec<u64>,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0], counts: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8], count: u64) {
        self.bytes.extend_from_slice(bytes);
        self.offsets.push(self.bytes.len() as i64);
        self.counts.push(count);
    }
}

/// Counts in order.
pub(super) enum Source {
    /// In memory, short pretokens.
    Short { slots: Vec<ShortSlot>, at: usize, bytes: [u8; 16] },
    /// In memory, longer ones.
    Long { slots: Vec<LongSlot>, arena: Vec<u8>, at: usize },
    /// In a file.
    Run(Box<RunReader>),
    /// A part of someone's arrays.
    Part { bytes: Vec<u8>, offsets: Vec<i64>, counts: Vec<u64>, at: usize },
}

impl Source {
    /// The two sources of a map.
    pub(super) fn of_map(sorted: Sorted) -> [Self; 2] {
        let first = sorted.short.first().map_or([0; 16], ShortSlot::bytes);
        [
            Self::Short { slots: sorted.short, at: 0, bytes: first },
            Self::Long { slots: sorted.long, arena: sorted.arena, at: 0 },
        ]
    }

    fn current(&self) -> Option<(&[u8], u64)> {
        match self {
            Self::Short { slots, at, bytes } => slots.get(*at).map(|slot| (&bytes[..slot.len()], slot.count)),
            Self::Long { slots, arena, at } => slots.get(*at).map(|slot| (slot.of(arena), slot.count)),
            Self::Run(reader) => reader.current(),
            Self::Part { bytes, offsets, counts, at } => {
                let range = |i: usize| usize::try_from(offsets[i]).expect("offsets were checked by merge_parts");
                counts.get(*at).map(|count| (&bytes[range(*at)..range(*at + 1)], *count))
            }
        }
    }

    fn advance(&mut self) -> Result<()> {
        match self {
            Self::Short { slots, at, bytes } => {
                *at += 1;
                if let Some(slot) = slots.get(*at) {
                    *bytes = slot.bytes();
                }
            }
            Self::Long { at, .. } | Self::Part { at, .. } => *at += 1,
            Self::Run(reader) => reader.advance()?,
        }
        Ok(())
    }
}

/// Merges sources; its result does not depend on their order.
///
/// A heap of the sources by their current pretokens. O(log sources) comparisons a pretoken of a source.
pub struct Merge {
    sources: Vec<Source>,
    /// Those that have an entry: no child's is smaller than its parent's.
    heap: Vec<usize>,
    key: Vec<u8>,
    pretokens: u64,
}

impl Merge {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        let heap = (0..sources.len()).filter(|&i| sources[i].current().is_some()).collect();
        let mut merge = Self { sources, heap, key: Vec::new(), pretokens: 0 };
        for at in (0..merge.heap.len() / 2).rev() {
            merge.sink(at);
        }
        merge
    }

    fn is_less(&self, a: usize, b: usize) -> bool {
        let key = |i: usize| self.sources[self.heap[i]].current().map(|(bytes, _)| bytes);
        key(a) < key(b)
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.is_less(child, least) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    /// The next pretoken and its count; `None` at the end.
    ///
    /// # Errors
    /// `Storage` for a run that cannot be read, `Value` for a count over `u64::MAX`.
    pub(super) fn next(&mut self) -> Result<Option<(&[u8], u64)>> {
        let mut total = 0_u64;
        let mut fresh = true;
        while let Some(&top) = self.heap.first() {
            let Some((bytes, count)) = self.sources[top].current() else { break };
            if fresh {
                self.key.clear();
                self.key.extend_from_slice(bytes);
                fresh = false;
            } else if bytes != self.key.as_slice() {
                break;
            }
            total = total.checked_add(count).ok_or_else(overflow)?;
            self.sources[top].advance()?;
            if self.sources[top].current().is_none() {
                self.heap.swap_remove(0);
            }
            self.sink(0);
        }
        if fresh {
            return Ok(None);
        }
        self.pretokens = self.pretokens.checked_add(total).ok_or_else(overflow)?;
        Ok(Some((&self.key, total)))
    }

    /// The next pretokens: up to `most` of them, and no further one once they have `most_bytes` bytes. Empty at the end.
    ///
    /// # Errors
    /// `Storage` for a run that cannot be read, `Value` for a count over `u64::MAX` and when it was cancelled.
    pub fn next_batch(&mut self, most: usize, most_bytes: usize, cancel: &Cancel) -> Result<Batch> {
        let mut batch = Batch::new();
        while batch.counts.len() < most && batch.bytes.len() < most_bytes {
            if batch.counts.len() % TICKS == TICKS - 1 && cancel.is_cancelled() {
                return Err(Error::value("counts", "merging was cancelled", ""));
            }
            let Some((bytes, count)) = self.next()? else { break };
            batch.push(bytes, count);
        }
        Ok(batch)
    }

    /// The sum of the counts that were given so far.
    pub fn pretokens(&self) -> u64 {
        self.pretokens
    }
}

pub(super) fn overflow() -> Error {
    Error::value("counts", "a count is over 2^64 - 1", "use smaller weights")
}

/// Merges arrays of counted pretokens, each sorted by bytes.
///
/// # Errors
/// `Value` for arrays that contradict one another or are not sorted, or a count over `u64::MAX`.
pub fn merge_parts(parts: Vec<Batch>) -> Result<Batch> {
    let mut sources = Vec::with_capacity(parts.len());
    for (i, part) in parts.into_iter().enumerate() {
        check_part(&part)
            .map_err(|found| Error::value(format!("parts[{i}]"), found, "give sorted counts, each once"))?;
        sources.push(Source::Part { bytes: part.bytes, offsets: part.offsets, counts: part.counts, at: 0 });
    }
    Merge::new(sources).next_batch(usize::MAX, usize::MAX, &Cancel::default())
}

fn check_part(part: &Batch) -> std::result::Result<(), &'static str> {
    let n = part.counts.len();
    if part.offsets.len() != n + 1 {
        return Err("there must be one offset more than counts");
    }
    let ends: Option<Vec<usize>> = part.offsets.iter().map(|&offset| usize::try_from(offset).ok()).collect();
    let ends = ends.ok_or("an offset is negative")?;
    if ends[0] != 0 || ends[n] != part.bytes.len() || ends.windows(2).any(|pair| pair[0] > pair[1]) {
        return Err("the offsets do not go from 0 to the end of the bytes");
    }
    let piece = |i: usize| &part.bytes[ends[i]..ends[i + 1]];
    if (1..n).any(|i| piece(i - 1) >= piece(i)) {
        return Err("the pretokens are not sorted, or one comes twice");
    }
    if part.counts.contains(&0) {
        return Err("a count is 0");
    }
    Ok(())
}
