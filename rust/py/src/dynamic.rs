//! `_core.DynamicMerger`: base tokens and their merges; `_core.LzwEncoder`, `_core.LzwDecoder`: hypertokens.

use std::sync::{Arc, Mutex, PoisonError};

use anyvocab_core::dynamic::{self, Base, Identity, Options, Share, Target, Transition, lzw, units};
use anyvocab_core::pipeline::{Cancel, Encoder, Template};
use anyvocab_core::{Error, TokenId};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::counting::choice;
use crate::door;
use crate::error::to_py;
use crate::tokenizer::{Tokenizer, contiguous, specials};

type Ids<'py> = Bound<'py, PyArray1<TokenId>>;
type Offsets<'py> = Bound<'py, PyArray1<i64>>;

/// Ids, offsets, spans, groups, the later groups where asked for, words.
type Given<'py> = (Ids<'py>, Offsets<'py>, Offsets<'py>, Ids<'py>, Option<Ids<'py>>, Bound<'py, PyArray1<i32>>);

/// Left, right, token, count, replaced: one of each for every merge.
type Merges<'py> = (Ids<'py>, Ids<'py>, Ids<'py>, Ids<'py>, Ids<'py>);

/// Calls with less end within milliseconds.
const LONG_BATCH: usize = 1 << 14;

fn target(kind: &str, parts: u64, of: u64) -> PyResult<Target> {
    let share = Share { parts, of };
    let kinds = [
        ("none", Target::None),
        ("tokens", Target::Tokens(parts)),
        ("of_base", Target::OfBase(share)),
        ("of_open", Target::OfOpen(share)),
    ];
    choice("target", kind, &kinds)
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct DynamicMerger {
    encoder: Arc<Encoder>,
    identity: Identity,
}

#[pymethods]
impl DynamicMerger {
    #[new]
    fn new(py: Python<'_>, tokenizer: &Tokenizer) -> PyResult<Self> {
        let encoder = Arc::clone(&tokenizer.encoder);
        let identity = door::short(py, || Identity::new(Arc::clone(encoder.vocabulary()?)))?;
        Ok(Self { encoder, identity })
    }

    fn base<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedBytes>,
        specials: &str,
        template: bool,
        boundary: &str,
        threads: usize,
    ) -> PyResult<Given<'py>> {
        let units = [
            ("pretoken", units::Boundary::Pretoken),
            ("word", units::Boundary::Unit(units::Unit::Word)),
            ("sentence", units::Boundary::Unit(units::Unit::Sentence)),
            ("superword", units::Boundary::Superword),
        ];
        let boundary = choice("boundary", boundary, &units)?;
        let specials = self::specials(specials)?;
        let template = if template { Template::With } else { Template::Without };
        let (cancel, texts) = (Arc::new(Cancel::default()), texts.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        let work = || units::read(&self.encoder, &texts, specials, template, boundary, threads, &cancel);
        let (base, numbers) = door::long(py, &cancel, work)?;
        Ok((
            base.ids.into_pyarray(py),
            base.offsets.into_pyarray(py),
            base.spans.into_pyarray(py),
            numbers.groups.into_pyarray(py),
            numbers.later.map(|later| later.into_pyarray(py)),
            numbers.words.into_pyarray(py),
        ))
    }

    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    #[pyo3(signature = (ids, offsets, groups, later, *, transition, max_merges, target, min_count, max_bytes))]
    fn merge(
        &self,
        py: Python<'_>,
        ids: PyReadonlyArray1<'_, TokenId>,
        offsets: PyReadonlyArray1<'_, i64>,
        groups: PyReadonlyArray1<'_, u32>,
        later: Option<PyReadonlyArray1<'_, u32>>,
        transition: u64,
        max_merges: u64,
        target: (String, u64, u64),
        min_count: u32,
        max_bytes: usize,
    ) -> PyResult<DynamicMerged> {
        let target = self::target(&target.0, target.1, target.2)?;
        let options = Options { max_merges, target, min_count, max_bytes };
        let (ids, groups) = (contiguous(&ids)?, contiguous(&groups)?);
        let offsets: Vec<i64> = offsets.as_array().iter().copied().collect();
        let later = later.map(|later| contiguous(&later)).transpose()?;
        let base = Base { ids: &ids, offsets: &offsets, groups: &groups };
        let then = later.as_deref().map(|groups| Transition { after: transition, groups });
        let cancel = Cancel::default();
        let work = || dynamic::merge(&base, then, &self.identity, &options, &cancel);
        let merged = if ids.len() < LONG_BATCH { door::short(py, work)? } else { door::long(py, &cancel, work)? };
        Ok(DynamicMerged { merged: Mutex::new(Some(merged)) })
    }
}

/// A merged batch, to be taken once: its arrays are Python's then.
#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct DynamicMerged {
    merged: Mutex<Option<dynamic::Merged>>,
}

/// Ids, offsets, starts; the new tokens' bytes and offsets, their pieces and offsets; the merges; why it stopped; the
/// places that the groups allow to close.
type Taken<'py> = (
    (Ids<'py>, Offsets<'py>, Offsets<'py>),
    (Bound<'py, PyBytes>, Offsets<'py>),
    (Ids<'py>, Offsets<'py>),
    Merges<'py>,
    &'static str,
    u64,
);

#[pymethods]
impl DynamicMerged {
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Taken<'py>> {
        let merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner).take();
        let merged = merged.ok_or_else(|| to_py(Error::value("merged", "it was taken before", "take it once")))?;
        let column = |of: fn(&dynamic::Merge) -> u32| merged.merges.iter().map(of).collect::<Vec<_>>().into_pyarray(py);
        let merges = (column(|m| m.left), column(|m| m.right), column(|m| m.token), column(|m| m.count));
        let merges = (merges.0, merges.1, merges.2, merges.3, column(|m| m.replaced));
        Ok((
            (merged.ids.into_pyarray(py), merged.offsets.into_pyarray(py), merged.starts.into_pyarray(py)),
            (PyBytes::new(py, &merged.new_bytes), merged.new_offsets.into_pyarray(py)),
            (merged.pieces.into_pyarray(py), merged.piece_offsets.into_pyarray(py)),
            merges,
            merged.stop.name(),
            merged.open,
        ))
    }
}

fn rules(first_code: u32, capacity: u32, max_pieces: u32, disabled: Vec<TokenId>) -> PyResult<lzw::Rules> {
    lzw::Rules::new(first_code, capacity, max_pieces, disabled).map_err(to_py)
}

fn book<'py>(py: Python<'py>, codebook: &lzw::Codebook) -> (Ids<'py>, Offsets<'py>) {
    let (ids, offsets) = codebook.table();
    (ids.into_pyarray(py), offsets.into_pyarray(py))
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct LzwEncoder {
    encoder: Mutex<lzw::Encoder>,
}

#[pymethods]
impl LzwEncoder {
    #[new]
    fn new(first_code: u32, capacity: u32, max_pieces: u32, disabled: Vec<TokenId>) -> PyResult<Self> {
        let encoder = lzw::Encoder::new(rules(first_code, capacity, max_pieces, disabled)?);
        Ok(Self { encoder: Mutex::new(encoder) })
    }

    /// Takes ids, and at the end of a sequence those that wait.
    fn push<'py>(&self, py: Python<'py>, ids: PyReadonlyArray1<'_, TokenId>, end: bool) -> PyResult<Ids<'py>> {
        let ids = contiguous(&ids)?;
        let codes =
            door::short(py, || self.encoder.lock().unwrap_or_else(PoisonError::into_inner).push_all(&ids, end))?;
        Ok(codes.into_pyarray(py))
    }

    fn codebook<'py>(&self, py: Python<'py>) -> (Ids<'py>, Offsets<'py>) {
        book(py, self.encoder.lock().unwrap_or_else(PoisonError::into_inner).codebook())
    }
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct LzwDecoder {
    decoder: Mutex<lzw::Decoder>,
}

#[pymethods]
impl LzwDecoder {
    #[new]
    fn new(first_code: u32, capacity: u32, max_pieces: u32, disabled: Vec<TokenId>) -> PyResult<Self> {
        let decoder = lzw::Decoder::new(rules(first_code, capacity, max_pieces, disabled)?);
        Ok(Self { decoder: Mutex::new(decoder) })
    }

    fn push<'py>(&self, py: Python<'py>, codes: PyReadonlyArray1<'_, TokenId>) -> PyResult<Ids<'py>> {
        let codes = contiguous(&codes)?;
        let ids = door::short(py, || Ok(self.decoder.lock().unwrap_or_else(PoisonError::into_inner).push_all(&codes)))?;
        Ok(ids.into_pyarray(py))
    }

    fn codebook<'py>(&self, py: Python<'py>) -> (Ids<'py>, Offsets<'py>) {
        book(py, self.decoder.lock().unwrap_or_else(PoisonError::into_inner).codebook())
    }

    #[getter]
    fn faults(&self) -> u64 {
        self.decoder.lock().unwrap_or_else(PoisonError::into_inner).faults()
    }
}
