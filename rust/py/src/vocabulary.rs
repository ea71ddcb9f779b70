//! `_core.Vocabulary`: every id's bytes and kind.

use std::sync::Arc;

use anyvocab_core::TokenId;
use anyvocab_core::pipeline::Encoder;
use anyvocab_core::vocab::{self, Kind};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::door;

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct Vocabulary {
    core: Arc<vocab::Vocabulary>,
    encoder: Arc<Encoder>,
}

/// (id, content, single_word, lstrip, rstrip, normalized, special).
type AddedRow = (TokenId, String, bool, bool, bool, bool, bool);

/// Ids, and for each the id with the same bytes in another vocabulary.
type Twins<'py> = (Bound<'py, PyArray1<TokenId>>, Bound<'py, PyArray1<TokenId>>);

impl Vocabulary {
    pub(crate) fn new(core: Arc<vocab::Vocabulary>, encoder: Arc<Encoder>) -> Self {
        Self { core, encoder }
    }
}

#[pymethods]
impl Vocabulary {
    fn __len__(&self) -> usize {
        self.core.len()
    }

    fn token_bytes<'py>(&self, py: Python<'py>, id: TokenId) -> Option<Bound<'py, PyBytes>> {
        self.core.token_bytes(id).map(|bytes| PyBytes::new(py, bytes))
    }

    fn spelling<'py>(&self, py: Python<'py>, id: TokenId) -> Option<Bound<'py, PyBytes>> {
        self.core.spelling(id).map(|bytes| PyBytes::new(py, bytes))
    }

    fn kind(&self, id: TokenId) -> &'static str {
        self.core.kind(id).name()
    }

    fn kinds<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u8>> {
        self.core.kinds().iter().map(|&kind| kind as u8).collect::<Vec<_>>().into_pyarray(py)
    }

    #[staticmethod]
    fn kind_names() -> Vec<&'static str> {
        Kind::ALL.iter().map(|kind| kind.name()).collect()
    }

    fn table<'py>(&self, py: Python<'py>) -> (Bound<'py, PyBytes>, Bound<'py, PyArray1<i64>>) {
        let (bytes, offsets) = self.core.table();
        (PyBytes::new(py, &bytes), offsets.into_pyarray(py))
    }

    fn ids_of<'py>(&self, py: Python<'py>, token: &[u8]) -> Bound<'py, PyArray1<TokenId>> {
        self.core.ids_of(token).into_pyarray(py)
    }

    fn ids_with_prefix<'py>(&self, py: Python<'py>, prefix: &[u8]) -> Bound<'py, PyArray1<TokenId>> {
        self.core.ids_with_prefix(prefix).to_vec().into_pyarray(py)
    }

    fn duplicates(&self, py: Python<'_>) -> PyResult<Vec<Vec<TokenId>>> {
        door::short(py, || Ok(self.core.duplicates().into_iter().map(<[_]>::to_vec).collect()))
    }

    fn twins_in<'py>(&self, py: Python<'py>, source: &Self, limit: usize) -> PyResult<Twins<'py>> {
        let (ids, twins) = door::short(py, || Ok(self.core.twins_in(&source.core, limit)))?;
        Ok((ids.into_pyarray(py), twins.into_pyarray(py)))
    }

    fn added_tokens(&self) -> Vec<AddedRow> {
        let tokens = self.encoder.description().added_tokens.iter();
        tokens.map(|t| (t.id, t.content.clone(), t.single_word, t.lstrip, t.rstrip, t.normalized, t.special)).collect()
    }

    fn unreachable<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<TokenId>>> {
        let ids = door::short(py, || self.encoder.unreachable(&self.core))?;
        Ok(ids.into_pyarray(py))
    }
}
