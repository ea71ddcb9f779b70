//! `_core.IncrementalEncoder`: a growing text.

use std::sync::{Arc, Mutex, PoisonError};

use anyvocab_core::TokenId;
use anyvocab_core::pipeline::{Encoder, Incremental, Specials};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::door;

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct IncrementalEncoder(Mutex<Incremental>);

impl IncrementalEncoder {
    pub(crate) fn new(encoder: Arc<Encoder>, specials: Specials) -> Self {
        Self(Mutex::new(Incremental::new(encoder, specials)))
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Incremental) -> anyvocab_core::Result<T> + Send,
    ) -> PyResult<T> {
        door::short(py, || work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl IncrementalEncoder {
    fn append(&self, py: Python<'_>, text: PyBackedBytes) -> PyResult<()> {
        self.with(py, |incremental| incremental.append(&text))
    }

    fn rollback(&self, py: Python<'_>, nbytes: usize) -> PyResult<()> {
        self.with(py, |incremental| incremental.rollback(nbytes))
    }

    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<TokenId>>> {
        Ok(self.with(py, |incremental| incremental.ids())?.into_pyarray(py))
    }

    fn stable(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |incremental| Ok(incremental.stable()))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |incremental| Ok(incremental.len()))
    }
}
