//! The second stage: chunks or runs as sequences of tokens, and merges learnt from them.
//!
//! Every counted chunk is encoded once and kept as ids. Pairs of neighbours are counted; then sequences are
//! cut where nothing can cross (see `split`), equal parts are put together, and the merges are learnt from what is left,
//! usually a small part. Whether the cuts were allowed is known only afterwards: a merge below the bound, or a token that
//! arose in two ways, has them made again.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::encode::Stage;
use super::log::{self, Log};
use super::runs::Runs;
use super::split::{Ends, Seams, Segments, Whole};
use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::pipeline::{Cancel, PieceScratch};
use crate::train::merge::{MaxLength, Merges, Options, Progress, Stop, Trainer};
use crate::train::runs::MakeFile;
use crate::train::tokens::Tokens;
use crate::train::veto::Veto;
use crate::train::words::WordsView;

/// A thread takes so many chunks at a time.
const ITEM: usize = 1 << 10;

/// The first bound is the count of the n-th most frequent pair over this, where n merges are asked for.
const FIRST_BOUND: u64 = 2;
/// A bound that was too high is divided by this.
const NEXT_BOUND: u64 = 4;

/// What a counted byte string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Text, encoded by all merges.
    Chunks,
    /// Runs of pretokens ([`super::runs`]), of which those that are one token each stay together.
    Runs,
}

enum Encoder {
    Chunks(Box<Stage>),
    Runs(Runs),
}

/// What bounds the learning.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Ends at so many tokens, those that were there included.
    pub vocab_size: usize,
    /// Ends at so many merges.
    pub max_merges: usize,
    /// Pairs that occur less often are not merged.
    pub min_frequency: u64,
    /// The longest token.
    pub max_length: MaxLength,
    /// Byte strings that no merge may make.
    pub reserved: Vec<Vec<u8>>,
    /// Where the first cuts are made: between tokens that stand side by side less often; 1 for nowhere, `None` for a
    /// guess. The result does not depend on it.
    pub least: Option<u64>,
}

/// What was learnt, and from how much.
#[derive(Clone, Debug)]
pub struct Learnt {
    /// The merges, in the order of their ranks, and all tokens.
    pub merges: Merges,
    /// Sequences were cut where tokens stand side by side less often.
    pub least: u64,
    /// How many different sequences were left, and their tokens.
    pub sequences: usize,
    /// Tokens of these sequences.
    pub positions: usize,
    /// How often the cuts were made.
    pub rounds: usize,
}

/// What one thread keeps between calls.
struct Worker {
    scratch: Option<PieceScratch>,
    positions: u64,
    /// Counts times pairs, for all sequences: all counts of pairs are at most this.
    total: u128,
}

/// Sequences of tokens.
pub struct Sequences {
    tokens: Tokens,
    merges: Vec<(TokenId, TokenId, TokenId)>,
    encoder: Encoder,
    workers: Vec<Worker>,
    log: Log,
}

impl Sequences {
    /// No sequences yet. `merges` are those of the first stage, in the order of their ranks.
    ///
    /// Sequences take up to `memory_bytes`, further ones go to a file.
    ///
    /// # Errors
    /// Those of the encoder; `Value` for no thread.
    pub fn new(
        tokens: Tokens,
        merges: Vec<(TokenId, TokenId, TokenId)>,
        unit: Unit,
        threads: usize,
        memory_bytes: usize,
        make_file: MakeFile,
    ) -> Result<Self> {
        if threads == 0 {
            return Err(Error::value("threads", "0", "use at least 1"));
        }
        let encoder = match unit {
            Unit::Chunks => Encoder::Chunks(Box::new(Stage::new(&tokens, &merges)?)),
            Unit::Runs => Encoder::Runs(Runs::new(&tokens, &merges)?),
        };
        let worker = || Worker {
            scratch: match &encoder {
                Encoder::Chunks(stage) => Some(stage.scratch()),
                Encoder::Runs(_) => None,
            },
            positions: 0,
            total: 0,
        };
        let workers = (0..threads).map(|_| worker()).collect();
        let log = Log::new(memory_bytes, make_file);
        Ok(Self { tokens, merges, encoder, workers, log })
    }

    /// Encodes counted chunks or runs, on all threads.
    ///
    /// # Errors
    /// `Value` for bytes that are no run, for counts that add up to over 2^63, and when it was cancelled; `Storage` when
    /// the file cannot be written.
    pub fn add(&mut self, words: WordsView<'_>, cancel: &Cancel) -> Result<()> {
        let next = AtomicUsize::new(0);
        let (encoder, next) = (&self.encoder, &next);
        let work = move |worker: &mut Worker| -> Option<Vec<Vec<u32>>> {
            let mut blocks = vec![Vec::new()];
            let (mut ids, mut parts) = (Vec::new(), Vec::new());
            loop {
                let start = next.fetch_add(ITEM, Ordering::Relaxed);
                if start >= words.len() || cancel.is_cancelled() {
                    return Some(blocks);
                }
                for at in start..words.len().min(start + ITEM) {
                    let (bytes, count) = words.get(at);
                    match (encoder, &mut worker.scratch) {
                        (Encoder::Chunks(stage), Some(scratch)) => {
                            ids.clear();
                            stage.encode(bytes, scratch, &mut ids);
                            worker.take(&ids, count, &mut blocks);
                        }
                        (Encoder::Runs(runs), _) => {
                            parts.clear();
                            if !runs.encode(bytes, &mut parts) {
                                return None;
                            }
                            parts.iter().for_each(|ids| worker.take(ids, count, &mut blocks));
                        }
                        (Encoder::Chunks(_), None) => {}
                    }
                }
            }
        };
        let done: Vec<_> = if let ([worker], true) | ([worker, ..], true) = (&mut self.workers[..], words.len() <= ITEM)
        {
            vec![work(worker)]
        } else {
            std::thread::scope(|scope| {
                let spawned: Vec<_> = self.workers.iter_mut().map(|worker| scope.spawn(|| work(worker))).collect();
                spawned.into_iter().map(|w| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
            })
        };
        if cancel.is_cancelled() {
            return Err(Error::value("sequences", "encoding was cancelled", ""));
        }
        let total: u128 = self.workers.iter().map(|worker| worker.total).sum();
        if total > i64::MAX.unsigned_abs().into() {
            let found = "the counts of all pairs add up to over 2^63";
            return Err(Error::value("counts", found, "divide the counts by a common factor"));
        }
        for blocks in done {
            let Some(blocks) = blocks else {
                let found = "bytes that are no runs of pretokens";
                return Err(Error::value("counts", found, "count with the pattern boundless:PATTERN"));
            };
            blocks.into_iter().try_for_each(|block| self.log.add(block))?;
        }
        Ok(())
    }

    /// How many tokens all sequences have, each counted once.
    pub fn positions(&self) -> u64 {
        self.workers.iter().map(|worker| worker.positions).sum()
    }

    /// Whether some sequences are in a file.
    pub fn is_spilt(&self) -> bool {
        self.log.is_spilt()
    }

    /// Learns merges of at least two tokens of the first stage.
    ///
    /// The most frequent pair is merged wherever it occurs, again and again, of equals the smallest (left id, right id);
    /// a pair whose token `veto` forbids is skipped. Merges of the first stage are carried out where their pairs come up.
    /// The result is that of [`Bounds::least`] 1, whatever that is, and does not depend on threads or memory.
    ///
    /// # Errors
    /// Those of [`Trainer::train`]; `Storage` when the file cannot be read.
    pub fn learn(
        &mut self,
        bounds: &Bounds,
        veto: Option<&Veto>,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Learnt> {
        let inherited = match self.encoder {
            Encoder::Chunks(_) => self.merges.clone(),
            Encoder::Runs(_) => Vec::new(), // merges of words stay within pretokens
        };
        let options = Options {
            vocab_size: bounds.vocab_size,
            max_merges: bounds.max_merges,
            min_frequency: bounds.min_frequency,
            max_length: bounds.max_length,
            reserved: bounds.reserved.clone(),
            inherited,
            every_occurrence: true,
        };
        let wanted = bounds.vocab_size.saturating_sub(self.tokens.len()).min(bounds.max_merges);
        let floor = bounds.min_frequency.max(1);
        let mut ends = Ends::new(self.tokens.len());
        let mut seams = self.seams(&ends, cancel)?;
        let guess = || (seams.nth_count(wanted) / FIRST_BOUND).max(floor);
        let mut least = bounds.least.unwrap_or_else(guess).max(1);
        let mut rounds = 0;
        loop {
            rounds += 1;
            let mut segments = self.segments(&seams.whole(least, &ends), cancel)?;
            let (sequences, positions) = (segments.len(), segments.positions());
            let mut trainer = Trainer::new(self.tokens.clone());
            trainer.reserve(sequences, positions);
            segments.sorted().try_for_each(|(ids, count)| trainer.push(ids.iter().copied(), count))?;
            drop(segments);
            let merges = trainer.train(&options, veto, cancel, progress)?;
            let is_cancelled = merges.stop == Stop::Cancelled;
            let lowest = merges.merges.iter().map(|merge| merge.count).min().unwrap_or(u64::MAX);
            let is_high = least > floor && (merges.stop == Stop::Exhausted || lowest < least);
            let changed = least > 1 && ends.learn(&merges.merges, &options.inherited);
            if is_cancelled || !(is_high || changed) {
                return Ok(Learnt { merges, least, sequences, positions, rounds });
            }
            if changed {
                seams = self.seams(&ends, cancel)?;
            }
            if is_high {
                least = (least / NEXT_BOUND).min(lowest).max(floor);
            }
        }
    }

    /// Counts what stands side by side.
    fn seams(&self, ends: &Ends, cancel: &Cancel) -> Result<Seams> {
        let seams = Seams::new(self.positions());
        self.read(cancel, |(): &mut (), ids, count| seams.add(ids, count, ends))?;
        Ok(seams)
    }

    /// The parts of all sequences.
    fn segments(&self, whole: &Whole<'_>, cancel: &Cancel) -> Result<Segments> {
        let done = self.read(cancel, |segments: &mut Segments, ids, count| {
            whole.split(ids, |part| segments.add(part, count));
        })?;
        let mut done = done.into_iter();
        let mut all = done.next().unwrap_or_default();
        done.for_each(|segments| all.extend(&segments));
        Ok(all)
    }

    /// Reads all sequences on all threads; what each of them made of its share.
    fn read<T: Default + Send>(
        &self,
        cancel: &Cancel,
        work: impl Fn(&mut T, &[TokenId], u64) + Sync,
    ) -> Result<Vec<T>> {
        let reading = self.log.read()?;
        let read = || -> Result<T> {
            let mut made = T::default();
            let mut take = |block: &[u32]| log::sequences(block).for_each(|(ids, count)| work(&mut made, ids, count));
            while !cancel.is_cancelled() && reading.with_next(&mut take)? {}
            Ok(made)
        };
        let read = &read;
        std::thread::scope(|scope| {
            let workers: Vec<_> = self.workers.iter().map(|_| scope.spawn(read)).collect();
            workers.into_iter().map(|w| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        })
    }
}

impl Worker {
    fn take(&mut self, ids: &[TokenId], count: u64, blocks: &mut Vec<Vec<u32>>) {
        if ids.len() < 2 || count == 0 {
            return;
        }
        self.positions += ids.len() as u64;
        self.total += (ids.len() as u128 - 1) * u128::from(count);
        if self.total > i64::MAX.unsigned_abs().into() {
            return; // told by the caller
        }
        if blocks.last().is_none_or(|block| block.len() >= log::BLOCK) {
            blocks.push(Vec::with_capacity(log::BLOCK + ids.len()));
        }
        if let Some(block) = blocks.last_mut() {
            log::push(block, ids, count);
        }
    }
}
