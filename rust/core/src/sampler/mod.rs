//! Random tokenizers for training hypernetworks: Unigram models over the substrings of the latest texts.
//!
//! After algorithm 1 of Minixhofer et al. 2024 (arXiv:2405.07883), without what its published code gets wrong: substrings
//! start at characters (there, multi-byte first characters shift the starts), one splitter cuts for counting and for
//! encoding (there, two disagree on combining marks), sums are checked 64-bit numbers, and every number that is drawn is a
//! function of the seed, the step and, for noise, the substring's bytes. So a result depends on the batches in the queue,
//! the seed and the step alone: not on threads, on earlier batches or on the order of anything.
//!
//! [`reference`] is the definition, and says it in a few lines. Here the sums over the queue are kept: a batch that
//! comes is added, the one that goes is subtracted, and no text is looked at twice.

mod choose;
mod count;
mod draw;
mod key;
mod options;
pub mod reference;
mod sampled;
mod table;
#[cfg(test)]
mod tests;

pub use key::KEY_BYTES;
pub use options::{Distribution, Drawn, Ends, Options, RUN, SPACES, Shape, Whitespace};
pub use sampled::Sampled;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::bytetrie::ByteTrie;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pipeline::Cancel;
use crate::train::Cutter;
use choose::{Always, Chosen};
use draw::Draws;
use options::fixed_tokens;
use table::{Part, Table};

/// What a batch added, under each pattern.
type Batch = Vec<Part>;

/// Samples a tokenizer for every batch of texts.
///
/// After an error or a cancelled call it is as it was before the call.
#[derive(Debug)]
pub struct Sampler {
    options: Options,
    cutters: Vec<Arc<Cutter>>,
    table: Table,
    /// Slots: the bytes and the runs of white space; the source's other tokens.
    fixed: Vec<u32>,
    source: Vec<u32>,
    queue: VecDeque<Batch>,
    seed: u64,
    step: u64,
    threads: usize,
}

impl Sampler {
    /// A sampler with an empty queue.
    ///
    /// `source` holds the bytes of the source tokenizer's text tokens, in any order.
    ///
    /// # Errors
    /// `Value` for an option out of its range, no thread, or an empty source token; `Limit` for one over
    /// `Limits.token_bytes`; those of [`Cutter::new`] for a pattern.
    pub fn new(options: Options, source: &[&[u8]], seed: u64, threads: usize, limits: &Limits) -> Result<Self> {
        options.check()?;
        if threads == 0 {
            return Err(Error::value("threads", "0", "use at least 1"));
        }
        let most = limits.token_bytes.min(1 << 16);
        for token in source {
            if token.is_empty() {
                return Err(Error::value("source", "a token without bytes", "leave it out"));
            }
            if token.len() > most {
                return Err(Error::limit("source", token.len(), most, "token_bytes"));
            }
        }
        let cutters = options.patterns.iter().map(|cuts| Cutter::new(cuts, None, limits).map(Arc::new));
        let cutters = cutters.collect::<Result<Vec<_>>>()?;
        let fixed = fixed_tokens(options.whitespace);
        let known: BTreeSet<&[u8]> = fixed.iter().map(Vec::as_slice).collect();
        let others: BTreeSet<&[u8]> = source.iter().copied().filter(|token| !known.contains(token)).collect();
        let tokens: Vec<Vec<u8>> = fixed.iter().cloned().chain(others.into_iter().map(<[u8]>::to_vec)).collect();
        let (table, mut slots) = Table::new(&tokens, options.patterns.len());
        let source = slots.split_off(fixed.len());
        Ok(Self { options, cutters, table, fixed: slots, source, queue: VecDeque::new(), seed, step: 0, threads })
    }

    /// How it counts and draws.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The next step's number: how many were sampled, unless [`Self::replay`] said otherwise.
    pub fn next_step(&self) -> u64 {
        self.step
    }

    /// How many batches the queue holds.
    pub fn batches(&self) -> usize {
        self.queue.len()
    }

    /// How many slots the queue's substrings take; slots of a [`Sampled`] are below.
    pub fn slots(&self) -> usize {
        self.table.slots()
    }

    /// Pushes a batch, drops the oldest one over [`Options::queue_batches`], and samples a tokenizer for the next step.
    ///
    /// O(bytes of the batch · `max_bytes` / `stride` + substrings of the queue).
    ///
    /// # Errors
    /// Those of [`Cutter::cut`]; `Limit` for scores over `u64::MAX`; `Value` when `cancel` was set.
    pub fn step(&mut self, texts: &[&[u8]], cancel: &Cancel) -> Result<Sampled> {
        let (batch, sampled) = self.sample_with(texts, self.step, cancel)?;
        if self.is_full() {
            self.drop_oldest();
        }
        self.queue.push_back(batch);
        self.step += 1;
        Ok(sampled)
    }

    /// The tokenizer that [`Self::step`] would sample if `step` were next; the queue stays as it is.
    ///
    /// # Errors
    /// Those of [`Self::step`].
    pub fn peek(&mut self, texts: &[&[u8]], step: u64, cancel: &Cancel) -> Result<Sampled> {
        let (batch, sampled) = self.sample_with(texts, step, cancel)?;
        if self.is_full() {
            let Self { table, queue, .. } = self;
            for (pattern, part) in queue[0].iter().enumerate() {
                table.add(pattern, part).expect("the sums were so before the new batch came");
            }
        }
        self.take_back(&batch);
        Ok(sampled)
    }

    /// Empties the queue, pushes these batches and goes on with `step`.
    ///
    /// A sampler of the same options, source and seed that has seen the last [`Options::queue_batches`] batches before a
    /// step samples from there on what the first one did.
    ///
    /// # Errors
    /// Those of [`Self::step`]; the queue then holds the batches before the one that failed.
    pub fn replay(&mut self, batches: &[Vec<&[u8]>], step: u64, cancel: &Cancel) -> Result<()> {
        while !self.queue.is_empty() {
            let Self { table, queue, .. } = self;
            for (pattern, part) in queue[0].iter().enumerate() {
                table.subtract(pattern, part);
            }
            self.drop_oldest();
        }
        for texts in &batches[batches.len().saturating_sub(self.options.queue_batches)..] {
            let batch = self.add(texts, cancel)?;
            self.queue.push_back(batch);
        }
        self.step = step;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.queue.len() == self.options.queue_batches
    }

    /// Samples with the batch added and, when the queue is full, the oldest one subtracted; on success the table is left so,
    /// on an error as it was.
    fn sample_with(&mut self, texts: &[&[u8]], step: u64, cancel: &Cancel) -> Result<(Batch, Sampled)> {
        let batch = self.add(texts, cancel)?;
        let is_full = self.is_full();
        let Self { table, queue, .. } = self;
        if is_full {
            for (pattern, part) in queue[0].iter().enumerate() {
                table.subtract(pattern, part);
            }
        }
        match self.sample(step, cancel) {
            Ok(sampled) => Ok((batch, sampled)),
            Err(error) => {
                let Self { table, queue, .. } = self;
                if is_full {
                    for (pattern, part) in queue[0].iter().enumerate() {
                        table.add(pattern, part).expect("the sums were so before the new batch came");
                    }
                }
                self.take_back(&batch);
                Err(error)
            }
        }
    }

    /// Counts a batch and adds it to the sums; on an error nothing is added.
    fn add(&mut self, texts: &[&[u8]], cancel: &Cancel) -> Result<Batch> {
        let mut batch = Batch::new();
        for pattern in 0..self.cutters.len() {
            let added = self.add_under(pattern, texts, cancel);
            match added {
                Ok(part) => batch.push(part),
                Err(error) => {
                    self.take_back(&batch);
                    return Err(error);
                }
            }
        }
        Ok(batch)
    }

    fn add_under(&mut self, pattern: usize, texts: &[&[u8]], cancel: &Cancel) -> Result<Part> {
        let pretokens = count::pretokens(&self.cutters[pattern], texts, self.threads, cancel)?;
        let part = self.table.count(&pretokens, &self.options)?;
        let added = check(cancel).and_then(|()| self.table.add(pattern, &part));
        match added {
            Ok(()) => Ok(part),
            Err(error) => {
                self.table.release(&part);
                Err(error)
            }
        }
    }

    /// Takes back what [`Self::add`] did.
    fn take_back(&mut self, batch: &Batch) {
        for (pattern, part) in batch.iter().enumerate() {
            self.table.subtract(pattern, part);
            self.table.release(part);
        }
    }

    /// Lets go of the oldest batch, whose scores were subtracted.
    fn drop_oldest(&mut self) {
        for part in self.queue.pop_front().iter().flatten() {
            self.table.release(part);
        }
    }

    fn sample(&self, step: u64, cancel: &Cancel) -> Result<Sampled> {
        let draws = Draws::new(self.seed, step);
        let drawn = self.options.draw(&draws);
        let always = Always { fixed: &self.fixed, source: &self.source };
        let Chosen { slots, scores } =
            choose::choose(&self.table, &always, self.options.whitespace, &drawn, &draws, self.threads, cancel);
        check(cancel)?;
        let (mut bytes, mut offsets) = (Vec::new(), vec![0]);
        for &slot in &slots {
            self.table.with_bytes(slot, |token| bytes.extend_from_slice(token));
            offsets.push(bytes.len());
        }
        let births = slots.iter().map(|&slot| self.table.birth(slot)).collect();
        let keys = (0_u32..).zip(offsets.windows(2)).map(|(id, ends)| (&bytes[ends[0]..ends[1]], id));
        let trie = ByteTrie::new(keys)?;
        let (cutter, cuts) = (Arc::clone(&self.cutters[drawn.pattern]), self.options.patterns[drawn.pattern].clone());
        Ok(Sampled { bytes, offsets, scores, slots, births, trie, cutter, cuts, drawn, step })
    }
}

fn check(cancel: &Cancel) -> Result<()> {
    if cancel.is_cancelled() { Err(Error::value("sampler", "sampling was cancelled", "")) } else { Ok(()) }
}
