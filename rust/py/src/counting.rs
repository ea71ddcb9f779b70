//! `_core.Counter`: counts pretokens; `_core.CountBatches`: the counts, sorted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyvocab_core::pipeline::Cancel;
use anyvocab_core::train::{self, Batch, Cuts, Cutter, Documents, Invalid, MakeFile, Merge, RunFile, Settings};
use anyvocab_core::{Error, Limits};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::door;
use crate::error::to_py;

/// Calls with fewer bytes end within milliseconds.
const LONG_TEXT: usize = 1 << 20;

type Arrays<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<u64>>);
type Views<'py> = (PyReadonlyArray1<'py, u8>, PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, u64>);

/// A file that is gone when it is closed; on Unix nothing of it is left after a crash either.
struct Temporary {
    file: File,
    path: Option<PathBuf>,
}

impl Temporary {
    fn make(folder: &Path, number: &AtomicU64) -> io::Result<Self> {
        loop {
            let number = number.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".anyvocab-counts-{}-{number}.tmp", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) if cfg!(unix) => {
                    std::fs::remove_file(&path)?;
                    return Ok(Self { file, path: None });
                }
                Ok(file) => return Ok(Self { file, path: Some(path) }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path); // a file that stays behind is no reason to fail
        }
    }
}

impl Read for Temporary {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for Temporary {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Temporary {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

pub(crate) fn files_in(folder: PathBuf) -> MakeFile {
    let number = AtomicU64::new(0);
    Box::new(move || Ok(Box::new(Temporary::make(&folder, &number)?) as Box<dyn RunFile>))
}

pub(crate) fn choice<T: Copy>(field: &str, given: &str, choices: &[(&str, T)]) -> PyResult<T> {
    choices.iter().find(|(name, _)| *name == given).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
        to_py(Error::value(field, format!("{given:?} is no choice"), format!("use {}", names.join(" or "))))
    })
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct Counter(Mutex<train::Counter>);

impl Counter {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        bytes: usize,
        work: impl FnOnce(&mut train::Counter, &Cancel) -> anyvocab_core::Result<T> + Send,
    ) -> PyResult<T> {
        let cancel = Cancel::default();
        let work = || work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), &cancel);
        if bytes < LONG_TEXT { door::short(py, work) } else { door::long(py, &cancel, work) }
    }
}

#[pymethods]
impl Counter {
    #[new]
    #[pyo3(signature = (
        pattern, *, spill_folder, normalizer=None, threads=2, memory_bytes=1 << 30, invalid="bytes", documents="file",
        document_bytes=None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    fn new(
        py: Python<'_>,
        pattern: &str,
        spill_folder: PathBuf,
        normalizer: Option<&str>,
        threads: usize,
        memory_bytes: usize,
        invalid: &str,
        documents: &str,
        document_bytes: Option<usize>,
    ) -> PyResult<Self> {
        let invalid = choice("invalid", invalid, &[("bytes", Invalid::Bytes), ("error", Invalid::Error)])?;
        let documents = choice("documents", documents, &[("file", Documents::Texts), ("line", Documents::Lines)])?;
        let mut limits = Limits::default();
        limits.document_bytes = document_bytes.unwrap_or(limits.document_bytes);
        let settings = Settings { threads, memory_bytes, invalid, documents };
        let counter = door::short(py, || {
            let normalizer = normalizer.map(train::normalizer_named).transpose()?;
            let cutter = Cutter::new(&Cuts::named(pattern)?, normalizer.as_ref(), &limits)?;
            train::Counter::new(cutter, settings, files_in(spill_folder))
        })?;
        Ok(Self(Mutex::new(counter)))
    }

    #[pyo3(signature = (texts, weight=1))]
    fn add(&self, py: Python<'_>, texts: Vec<PyBackedBytes>, weight: u64) -> PyResult<()> {
        let views: Vec<&[u8]> = texts.iter().map(AsRef::as_ref).collect();
        let bytes = views.iter().map(|text| text.len()).sum();
        self.with(py, bytes, |counter, cancel| counter.add(&views, weight, cancel))
    }

    #[pyo3(signature = (block, weight=1))]
    fn feed(&self, py: Python<'_>, block: PyBackedBytes, weight: u64) -> PyResult<()> {
        self.with(py, LONG_TEXT, |counter, cancel| counter.feed(&block, weight, cancel))
    }

    fn end_document(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, LONG_TEXT, train::Counter::end_document)
    }

    fn totals(&self, py: Python<'_>) -> PyResult<(u64, u64, u64)> {
        let totals = self.with(py, 0, |counter, _| Ok(counter.totals()))?;
        Ok((totals.documents, totals.bytes, totals.pretokens))
    }

    fn usage(&self, py: Python<'_>) -> PyResult<(usize, usize, usize)> {
        self.with(py, 0, |counter, _| Ok(counter.usage()))
    }

    fn finish(&self, py: Python<'_>) -> PyResult<CountBatches> {
        Ok(CountBatches(Mutex::new(self.with(py, LONG_TEXT, |counter, _| counter.finish())?)))
    }
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct CountBatches(Mutex<Merge>);

#[pymethods]
impl CountBatches {
    fn next_batch<'py>(&self, py: Python<'py>, most: usize, most_bytes: usize) -> PyResult<Option<Arrays<'py>>> {
        let cancel = Cancel::default();
        let work = || self.0.lock().unwrap_or_else(PoisonError::into_inner).next_batch(most, most_bytes, &cancel);
        let batch = door::long(py, &cancel, work)?;
        Ok((!batch.counts.is_empty()).then(|| arrays(py, batch)))
    }
}

fn arrays(py: Python<'_>, batch: Batch) -> Arrays<'_> {
    (batch.bytes.into_pyarray(py), batch.offsets.into_pyarray(py), batch.counts.into_pyarray(py))
}

#[pyfunction]
pub(crate) fn merge_counts<'py>(py: Python<'py>, parts: Vec<Views<'py>>) -> PyResult<Arrays<'py>> {
    let parts = parts.iter().map(|(bytes, offsets, counts)| Batch {
        bytes: bytes.as_array().iter().copied().collect(),
        offsets: offsets.as_array().iter().copied().collect(),
        counts: counts.as_array().iter().copied().collect(),
    });
    let parts: Vec<Batch> = parts.collect();
    let merged = door::short(py, || train::merge_parts(parts))?;
    Ok(arrays(py, merged))
}

#[pyfunction]
pub(crate) fn pattern_names() -> Vec<&'static str> {
    train::PATTERN_NAMES.iter().map(|(name, _)| *name).collect()
}
