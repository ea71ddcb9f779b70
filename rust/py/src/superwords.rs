//! `_core.Sequences`: the second stage of superwords; `_core.BoundlessEncoder`: encoding with supermerges.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyvocab_core::TokenId;
use anyvocab_core::pipeline::Cancel;
use anyvocab_core::train::superwords::{self, Bounds, Unit};
use anyvocab_core::train::words::reserved_bytes;
use anyvocab_core::train::{self, Cuts, WordsView, normalizer_named};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::counting::{choice, files_in};
use crate::door;
use crate::training::{Learnt, TrainProgress, Veto, learnt, max_length, tokens, triples};

/// What was learnt; then the bound of the cuts, the sequences and tokens left, and how often the cuts were made.
type LearntSequences<'py> = (Learnt<'py>, (u64, usize, usize, usize));

/// Ids end to end, and where each row begins.
type Ragged<'py> = (Bound<'py, PyArray1<TokenId>>, Bound<'py, PyArray1<i64>>);

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct Sequences(Mutex<superwords::Sequences>);

#[pymethods]
impl Sequences {
    #[new]
    #[pyo3(signature = (
        token_data, token_offsets, merges, *, unit, spill_folder, threads=2, memory_bytes=1 << 30
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    fn new(
        py: Python<'_>,
        token_data: PyReadonlyArray1<'_, u8>,
        token_offsets: PyReadonlyArray1<'_, i64>,
        merges: PyReadonlyArray2<'_, TokenId>,
        unit: &str,
        spill_folder: PathBuf,
        threads: usize,
        memory_bytes: usize,
    ) -> PyResult<Self> {
        let unit = choice("unit", unit, &[("chunks", Unit::Chunks), ("runs", Unit::Runs)])?;
        let (token_data, token_offsets) = (token_data.as_slice()?, token_offsets.as_slice()?);
        let merges = triples(Some(&merges))?;
        let made = door::short(py, || {
            let tokens = tokens(token_data, token_offsets)?;
            superwords::Sequences::new(tokens, merges, unit, threads, memory_bytes, files_in(spill_folder))
        })?;
        Ok(Self(Mutex::new(made)))
    }

    fn add(
        &self,
        py: Python<'_>,
        data: PyReadonlyArray1<'_, u8>,
        offsets: PyReadonlyArray1<'_, i64>,
        counts: PyReadonlyArray1<'_, u64>,
    ) -> PyResult<()> {
        let (data, offsets, counts) = (data.as_slice()?, offsets.as_slice()?, counts.as_slice()?);
        let cancel = Cancel::default();
        door::long(py, &cancel, || {
            let words = WordsView::new(data, offsets, counts)?;
            self.0.lock().unwrap_or_else(PoisonError::into_inner).add(words, &cancel)
        })
    }

    #[getter]
    fn positions(&self, py: Python<'_>) -> PyResult<u64> {
        door::short(py, || Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).positions()))
    }

    #[getter]
    fn is_spilt(&self, py: Python<'_>) -> PyResult<bool> {
        door::short(py, || Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).is_spilt()))
    }

    #[pyo3(signature = (
        *, vocab_size=None, max_merges=None, min_frequency=2, max_token_bytes=None, max_token_length=None, veto=None,
        specials=Vec::new(), least=None, progress=None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    fn learn<'py>(
        &self,
        py: Python<'py>,
        vocab_size: Option<usize>,
        max_merges: Option<usize>,
        min_frequency: u64,
        max_token_bytes: Option<usize>,
        max_token_length: Option<usize>,
        veto: Option<&Veto>,
        specials: Vec<String>,
        least: Option<u64>,
        progress: Option<&TrainProgress>,
    ) -> PyResult<LearntSequences<'py>> {
        let bounds = Bounds {
            vocab_size: vocab_size.unwrap_or(usize::MAX),
            max_merges: max_merges.unwrap_or(usize::MAX),
            min_frequency,
            max_length: max_length(max_token_bytes, max_token_length)?,
            reserved: reserved_bytes(&specials),
            least,
        };
        let (cancel, unseen) = (Cancel::default(), train::Progress::default());
        let progress = progress.map_or(&unseen, |progress| &progress.0);
        let done = door::long(py, &cancel, || {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.learn(&bounds, veto.map(|veto| &veto.0), &cancel, progress)
        })?;
        Ok((learnt(py, &done.merges)?, (done.least, done.sequences, done.positions, done.rounds)))
    }
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct BoundlessEncoder(superwords::BoundlessEncoder);

#[pymethods]
impl BoundlessEncoder {
    #[new]
    #[pyo3(signature = (token_data, token_offsets, merges, supermerges, *, pattern, normalizer=None))]
    fn new(
        py: Python<'_>,
        token_data: PyReadonlyArray1<'_, u8>,
        token_offsets: PyReadonlyArray1<'_, i64>,
        merges: PyReadonlyArray2<'_, TokenId>,
        supermerges: PyReadonlyArray2<'_, TokenId>,
        pattern: &str,
        normalizer: Option<&str>,
    ) -> PyResult<Self> {
        let (token_data, token_offsets) = (token_data.as_slice()?, token_offsets.as_slice()?);
        let (merges, supermerges) = (triples(Some(&merges))?, triples(Some(&supermerges))?);
        door::short(py, || {
            let tokens = tokens(token_data, token_offsets)?;
            let normalizer = normalizer.map(normalizer_named).transpose()?;
            let cuts = Cuts::named(pattern)?;
            superwords::BoundlessEncoder::new(&tokens, &merges, &supermerges, &cuts, normalizer.as_ref())
        })
        .map(Self)
    }

    fn encode_batch<'py>(&self, py: Python<'py>, texts: Vec<PyBackedBytes>) -> PyResult<Ragged<'py>> {
        let views: Vec<&[u8]> = texts.iter().map(AsRef::as_ref).collect();
        let cancel = Cancel::default();
        let (ids, offsets) = door::long(py, &cancel, || self.0.encode_batch(&views, &cancel))?;
        Ok((ids.into_pyarray(py), offsets.into_pyarray(py)))
    }
}
