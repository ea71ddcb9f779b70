//! Encoded sequences, kept until they are read again: in memory up to a budget, in a file beyond it.
//!
//! A block is 32-bit words: for each sequence its length, the low and the high half of its count, and its ids.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::ids::TokenId;
use crate::train::runs::{MakeFile, RunFile, storage};

/// A block is handed over when it has so many words.
pub(super) const BLOCK: usize = 1 << 16;

/// Adds a sequence to a block.
pub(super) fn push(block: &mut Vec<u32>, ids: &[TokenId], count: u64) {
    block.push(u32::try_from(ids.len()).expect("a sequence is shorter than its document, which is under 4 GiB"));
    block.extend([(count & u64::from(u32::MAX)) as u32, (count >> 32) as u32]);
    block.extend_from_slice(ids);
}

/// The sequences of a block and their counts.
pub(super) fn sequences(block: &[u32]) -> impl Iterator<Item = (&[TokenId], u64)> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let (&[length, low, high], tail) = rest.split_first_chunk::<3>()?;
        let (ids, tail) = tail.split_at_checked(length as usize)?;
        rest = tail;
        Some((ids, u64::from(low) | u64::from(high) << 32))
    })
}

/// The file, and the words of each block in it.
type Spilt = (Box<dyn RunFile>, Vec<usize>);

/// Blocks of sequences.
pub(super) struct Log {
    held: Vec<Vec<u32>>,
    held_bytes: usize,
    budget: usize,
    make: MakeFile,
    spilt: Mutex<Option<Spilt>>,
}

impl Log {
    pub(super) fn new(budget: usize, make: MakeFile) -> Self {
        Self { held: Vec::new(), held_bytes: 0, budget, make, spilt: Mutex::new(None) }
    }

    /// Adds a block.
    ///
    /// # Errors
    /// `Storage` when the file cannot be made or written.
    pub(super) fn add(&mut self, mut block: Vec<u32>) -> Result<()> {
        let bytes = block.len() * size_of::<u32>();
        if bytes == 0 {
            return Ok(());
        }
        if self.held_bytes + bytes <= self.budget {
            self.held_bytes += bytes;
            block.shrink_to_fit();
            self.held.push(block);
            return Ok(());
        }
        let spilt = self.spilt.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (file, blocks) = match spilt {
            Some(spilt) => spilt,
            None => {
                let file = (self.make)().map_err(|e| storage("making a file for sequences", &e))?;
                spilt.insert((file, Vec::new()))
            }
        };
        let mut data = Vec::with_capacity(bytes);
        block.iter().for_each(|word| data.extend_from_slice(&word.to_le_bytes()));
        file.seek(SeekFrom::End(0))
            .and_then(|_| file.write_all(&data))
            .map_err(|e| storage("writing sequences", &e))?;
        blocks.push(block.len());
        Ok(())
    }

    /// Whether some blocks are in a file.
    pub(super) fn is_spilt(&self) -> bool {
        self.spilt.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Starts reading, from any number of threads.
    ///
    /// # Errors
    /// `Storage` when the file cannot be read.
    pub(super) fn read(&self) -> Result<Reading<'_>> {
        let mut spilt = self.spilt.lock().unwrap_or_else(PoisonError::into_inner);
        let blocks = match spilt.as_mut() {
            None => 0,
            Some((file, blocks)) => {
                file.seek(SeekFrom::Start(0)).map_err(|e| storage("reading sequences", &e))?;
                blocks.len()
            }
        };
        Ok(Reading { log: self, next: Mutex::new((0..self.held.len(), 0..blocks)) })
    }
}

/// Blocks that are still to be read.
pub(super) struct Reading<'l> {
    log: &'l Log,
    next: Mutex<(Range<usize>, Range<usize>)>,
}

impl Reading<'_> {
    /// Calls `work` with the next block; `false` when there is none.
    ///
    /// # Errors
    /// `Storage` when the file cannot be read.
    pub(super) fn with_next(&self, work: impl FnOnce(&[u32])) -> Result<bool> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = next.0.next() {
            drop(next);
            work(&self.log.held[at]);
            return Ok(true);
        }
        let Some(at) = next.1.next() else { return Ok(false) };
        let mut spilt = self.log.spilt.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((file, blocks)) = spilt.as_mut() else { return Ok(false) };
        let mut data = vec![0; blocks[at] * size_of::<u32>()];
        file.read_exact(&mut data).map_err(|e| storage("reading sequences", &e))?;
        drop(spilt);
        drop(next);
        let block: Vec<u32> = data.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        work(&block);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn what_was_added_is_read_again_twice_from_memory_and_from_the_file() {
        let mut log = Log::new(100, Box::new(|| Ok(Box::new(Cursor::new(Vec::new())) as Box<dyn RunFile>)));
        for number in 0..9_u32 {
            let mut block = Vec::new();
            push(&mut block, &[number, 7, 8], 1 << 40 | u64::from(number));
            push(&mut block, &[number], 1);
            log.add(block).expect("memory");
        }
        assert!(log.is_spilt());
        for _ in 0..2 {
            let reading = log.read().expect("memory");
            let mut all = Vec::new();
            while reading
                .with_next(|block| all.extend(sequences(block).map(|(ids, count)| (ids.to_vec(), count))))
                .expect("memory")
            {}
            let expected = (0..9).flat_map(|n| [(vec![n, 7, 8], 1 << 40 | u64::from(n)), (vec![n], 1)]);
            assert_eq!(all, expected.collect::<Vec<_>>());
        }
    }
}
