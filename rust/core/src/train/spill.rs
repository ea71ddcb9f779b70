//! Maps that are full, written out as runs.

use std::sync::{Mutex, PoisonError};

use super::counts::CountMap;
use super::kway::{Merge, Source};
use super::runs::{MakeFile, RunFile, RunReader, RunWriter, storage};
use crate::error::Result;

/// So many runs of one level are merged into one of the next: few files are open at any time, and each count is written
/// once more for every power of this in the number of runs.
const FAN_IN: usize = 64;

type Run = (u32, Box<dyn RunFile>);

/// The runs of one count, which any thread may add to.
pub(super) struct Spill {
    make: MakeFile,
    runs: Mutex<Vec<Run>>,
}

impl Spill {
    pub(super) fn new(make: MakeFile) -> Self {
        Self { make, runs: Mutex::new(Vec::new()) }
    }

    /// Writes a map as a run, and empties it.
    ///
    /// # Errors
    /// `Storage` when a file cannot be made or written; `Value` for a count over `u64::MAX`.
    pub(super) fn write(&self, map: &mut CountMap) -> Result<()> {
        let file = self.merged(Source::of_map(map.take_sorted()).into())?;
        let mut ready = self.push((0, file));
        while let Some((level, runs)) = ready {
            let sources = readers(runs)?;
            let file = self.merged(sources)?;
            ready = self.push((level + 1, file));
        }
        Ok(())
    }

    fn merged(&self, sources: Vec<Source>) -> Result<Box<dyn RunFile>> {
        let file = (self.make)().map_err(|e| storage("making a file for counts", &e))?;
        let mut writer = RunWriter::new(file)?;
        let mut merge = Merge::new(sources);
        while let Some((bytes, count)) = merge.next()? {
            writer.push(bytes, count)?;
        }
        writer.finish()
    }

    /// Adds a run; takes those of its level out when they are to be merged.
    fn push(&self, run: Run) -> Option<(u32, Vec<Run>)> {
        let level = run.0;
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.push(run);
        if runs.iter().filter(|run| run.0 == level).count() < FAN_IN {
            return None;
        }
        Some((level, runs.extract_if(.., |run| run.0 == level).collect()))
    }

    /// How many runs there are.
    pub(super) fn len(&self) -> usize {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The runs, to be read; none are left.
    ///
    /// # Errors
    /// `Storage` for a run that cannot be read.
    pub(super) fn take_sources(&self) -> Result<Vec<Source>> {
        readers(std::mem::take(&mut *self.runs.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn readers(runs: Vec<Run>) -> Result<Vec<Source>> {
    runs.into_iter().map(|(_, file)| Ok(Source::Run(Box::new(RunReader::new(file)?)))).collect()
}
