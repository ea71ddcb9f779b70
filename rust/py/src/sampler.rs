//! `_core.TokenizerSampler`: samples tokenizers; `_core.SampledTokenizer`: one of them.

use std::sync::{Mutex, PoisonError};

use anyvocab_core::pipeline::Cancel;
use anyvocab_core::sampler::{Distribution, Ends, Options, Sampled, Sampler, Shape, Whitespace};
use anyvocab_core::train::Cuts;
use anyvocab_core::{Error, Limits, TokenId};
use numpy::{IntoPyArray, PyArray1, ToPyArray};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::counting::choice;
use crate::door;
use crate::error::to_py;

type Ragged<'py> = (Bound<'py, PyArray1<TokenId>>, Bound<'py, PyArray1<i64>>);

/// A distribution as Python gives it: its name, two parameters, and its range.
type Given = (String, f64, f64, f64, f64);

fn distribution(field: &str, (shape, first, second, low, high): &Given) -> PyResult<Distribution> {
    let shapes = [
        ("fixed", Shape::Fixed(*first)),
        ("normal", Shape::Normal { mean: *first, std: *second }),
        ("lognormal", Shape::LogNormal { median: *first, sigma: *second }),
    ];
    Ok(Distribution { shape: choice(field, shape, &shapes)?, low: *low, high: *high })
}

fn views(texts: &[PyBackedBytes]) -> Vec<&[u8]> {
    texts.iter().map(AsRef::as_ref).collect()
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct TokenizerSampler {
    sampler: Mutex<Sampler>,
    patterns: Vec<String>,
}

impl TokenizerSampler {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Sampler, &Cancel) -> anyvocab_core::Result<T> + Send,
    ) -> PyResult<T> {
        let cancel = Cancel::default();
        door::long(py, &cancel, || work(&mut self.sampler.lock().unwrap_or_else(PoisonError::into_inner), &cancel))
    }

    fn sampled(&self, sampled: Sampled) -> SampledTokenizer {
        let pattern = self.patterns[sampled.drawn().pattern].clone();
        SampledTokenizer { sampled, pattern }
    }
}

#[pymethods]
impl TokenizerSampler {
    #[new]
    #[pyo3(signature = (
        source, *, seed, threads, queue_batches, max_bytes, stride, ends, vocab_size, noise, whitespace, patterns,
        near_probability, greedy_probability
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    fn new(
        py: Python<'_>,
        source: Vec<PyBackedBytes>,
        seed: u64,
        threads: usize,
        queue_batches: usize,
        max_bytes: usize,
        stride: usize,
        ends: &str,
        vocab_size: Given,
        noise: Given,
        whitespace: &str,
        patterns: Vec<String>,
        near_probability: f64,
        greedy_probability: f64,
    ) -> PyResult<Self> {
        let cuts = patterns.iter().map(|pattern| Cuts::named(pattern).map_err(to_py));
        let options = Options {
            queue_batches,
            max_bytes,
            stride,
            ends: choice("ends", ends, &[("characters", Ends::Characters), ("bytes", Ends::Bytes)])?,
            vocab_size: distribution("vocab_size", &vocab_size)?,
            noise: distribution("noise", &noise)?,
            whitespace: choice("whitespace", whitespace, &[("runs", Whitespace::Runs), ("none", Whitespace::Learnt)])?,
            patterns: cuts.collect::<PyResult<_>>()?,
            near_probability,
            greedy_probability,
        };
        let source = views(&source);
        let sampler = door::short(py, || Sampler::new(options, &source, seed, threads, &Limits::default()))?;
        Ok(Self { sampler: Mutex::new(sampler), patterns })
    }

    fn step(&self, py: Python<'_>, texts: Vec<PyBackedBytes>) -> PyResult<SampledTokenizer> {
        let texts = views(&texts);
        Ok(self.sampled(self.with(py, |sampler, cancel| sampler.step(&texts, cancel))?))
    }

    fn peek(&self, py: Python<'_>, texts: Vec<PyBackedBytes>, step: u64) -> PyResult<SampledTokenizer> {
        let texts = views(&texts);
        Ok(self.sampled(self.with(py, |sampler, cancel| sampler.peek(&texts, step, cancel))?))
    }

    fn replay(&self, py: Python<'_>, batches: Vec<Vec<PyBackedBytes>>, step: u64) -> PyResult<()> {
        let batches: Vec<Vec<&[u8]>> = batches.iter().map(|texts| views(texts)).collect();
        self.with(py, |sampler, cancel| sampler.replay(&batches, step, cancel))
    }

    /// The next step's number, the batches in the queue, the slots.
    fn state(&self, py: Python<'_>) -> PyResult<(u64, usize, usize)> {
        self.with(py, |sampler, _| Ok((sampler.next_step(), sampler.batches(), sampler.slots())))
    }
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct SampledTokenizer {
    sampled: Sampled,
    pattern: String,
}

#[pymethods]
impl SampledTokenizer {
    fn __len__(&self) -> usize {
        self.sampled.len()
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.sampled.drawn().vocab_size
    }

    #[getter]
    fn noise(&self) -> f64 {
        self.sampled.drawn().noise
    }

    #[getter]
    fn pattern(&self) -> &str {
        &self.pattern
    }

    #[getter]
    fn source_share(&self) -> f64 {
        self.sampled.drawn().source_share
    }

    #[getter]
    fn is_greedy(&self) -> bool {
        self.sampled.drawn().is_greedy
    }

    #[getter]
    fn step(&self) -> u64 {
        self.sampled.step()
    }

    fn table<'py>(&self, py: Python<'py>) -> (Bound<'py, PyBytes>, Bound<'py, PyArray1<i64>>) {
        let (bytes, offsets) = self.sampled.table();
        let offsets = offsets.iter().map(|&at| i64::try_from(at).expect("an allocation is below 2^63 bytes"));
        (PyBytes::new(py, bytes), offsets.collect::<Vec<_>>().into_pyarray(py))
    }

    fn scores<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.sampled.scores().to_pyarray(py)
    }

    fn slots<'py>(&self, py: Python<'py>) -> (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<u64>>) {
        let (slots, births) = self.sampled.slots();
        (slots.to_pyarray(py), births.to_pyarray(py))
    }

    fn encode_batch<'py>(&self, py: Python<'py>, texts: Vec<PyBackedBytes>, threads: usize) -> PyResult<Ragged<'py>> {
        if threads == 0 {
            return Err(to_py(Error::value("threads", "0", "use at least 1")));
        }
        let (cancel, texts) = (Cancel::default(), views(&texts));
        let (ids, offsets) = door::long(py, &cancel, || self.sampled.encode_batch(&texts, threads, &cancel))?;
        Ok((ids.into_pyarray(py), offsets.into_pyarray(py)))
    }

    fn to_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &door::short(py, || self.sampled.to_json())?))
    }
}
