//! `_core.CoverModel`, `CoverState` and `Sweep`: bytes out of tokens.

use std::sync::{Arc, Mutex, PoisonError};

use anyvocab_core::cover::{self, DeviceSums, Exactness, Law, Needed, Policy, Wanted};
use anyvocab_core::index::Logits;
use anyvocab_core::{Error, Limits, TokenId};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::door;
use crate::error::to_py;
use crate::tokenizer::Tokenizer;

type Contexts<'py> = (Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<TokenId>>);
type Ids<'py> = Bound<'py, PyArray1<TokenId>>;
type WantedOf<'py> = (Option<Bound<'py, PyArray1<u64>>>, Ids<'py>, (u32, u32));
type Covers = Vec<(Vec<TokenId>, usize, f64, Vec<(TokenId, f64)>)>;

fn policy(name: &str) -> PyResult<Policy> {
    Ok(match name {
        "text" => Policy::Text,
        "end" => Policy::End,
        "forbid" => Policy::Forbid,
        "drop" => Policy::Drop,
        "spell" => Policy::Spell,
        "latent" => Policy::Latent,
        other => {
            let fix = "use \"text\", \"end\", \"forbid\", \"drop\", \"spell\" or \"latent\"";
            return Err(to_py(Error::value("policies", format!("{other:?}"), fix)));
        }
    })
}

fn law(name: &str, eps: f64, budget: usize) -> PyResult<Law> {
    match name {
        "local" => Ok(Law::Local),
        "canonical" => Ok(Law::Canonical),
        "marginal" => Ok(Law::Marginal { eps, budget }),
        other => {
            let fix = "use \"local\", \"canonical\" or \"marginal\"";
            Err(to_py(Error::value("law", format!("{other:?}"), fix)))
        }
    }
}

/// A row of logits: float32, or the bits of bfloat16 or float16.
#[derive(FromPyObject)]
enum Row<'py> {
    F32(PyReadonlyArray1<'py, f32>),
    Bits(PyReadonlyArray1<'py, u16>),
}

impl Row<'_> {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        half: &str,
        work: impl FnOnce(Logits<'_>) -> anyvocab_core::Result<T> + Send,
    ) -> PyResult<T> {
        let contiguous = |_| to_py(Error::value("row", "not contiguous", "give a contiguous array"));
        let logits = match self {
            Row::F32(row) => Logits::F32(row.as_slice().map_err(contiguous)?),
            Row::Bits(row) if half == "float16" => Logits::F16(row.as_slice().map_err(contiguous)?),
            Row::Bits(row) => Logits::Bf16(row.as_slice().map_err(contiguous)?),
        };
        door::short(py, || work(logits))
    }
}

fn wanted<'py>(py: Python<'py>, wanted: Wanted, places: u32) -> WantedOf<'py> {
    let mask = wanted.mask.map(|mask| cover::mask_words(&mask, places).into_pyarray(py));
    (mask, wanted.children.into_pyarray(py), (wanted.held.lo, wanted.held.hi))
}

/// The arguments of `feed_sums`, checked against what was wanted.
fn device_sums(
    wanted: &Wanted,
    log_base: f64,
    bytes: &PyReadonlyArray1<'_, f64>,
    counted: &PyReadonlyArray1<'_, f64>,
    children: &PyReadonlyArray1<'_, f64>,
    values: &PyReadonlyArray1<'_, f32>,
) -> PyResult<DeviceSums> {
    let list = |array: &PyReadonlyArray1<'_, f64>| array.as_array().to_vec();
    let wrong = |field: &str| to_py(Error::value(field, "not as long as was wanted", "give what wanted() names"));
    let bytes: [f64; 256] = list(bytes).try_into().map_err(|_| wrong("bytes"))?;
    let children = list(children);
    if children.len() != wanted.children.len() {
        return Err(wrong("children"));
    }
    if values.as_array().len() != wanted.held.len() as usize {
        return Err(wrong("values"));
    }
    Ok(DeviceSums {
        log_base,
        bytes: Box::new(bytes),
        counted: list(counted),
        children: wanted.children.iter().copied().zip(children).collect(),
        held: wanted.held,
        values: values.as_array().to_vec().into(),
    })
}

fn contexts<'py>(py: Python<'py>, needed: Needed) -> Contexts<'py> {
    (needed.ids.into_pyarray(py), needed.parents.into_pyarray(py), needed.tokens.into_pyarray(py))
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct CoverModel(Arc<cover::CoverModel>);

#[pymethods]
impl CoverModel {
    #[new]
    #[pyo3(signature = (tokenizer, rows, law, policies, *, eps=0.0, budget=64))]
    fn new(
        py: Python<'_>,
        tokenizer: &Tokenizer,
        rows: usize,
        law: &str,
        policies: Vec<(TokenId, String)>,
        eps: f64,
        budget: usize,
    ) -> PyResult<Self> {
        let law = self::law(law, eps, budget)?;
        let policies =
            policies.iter().map(|(id, name)| Ok((*id, policy(name)?))).collect::<PyResult<Vec<(TokenId, Policy)>>>()?;
        let made =
            door::short(py, || cover::CoverModel::new(&tokenizer.encoder, rows, law, &policies, &Limits::default()))?;
        Ok(Self(Arc::new(made)))
    }

    #[getter]
    fn reencoded(&self) -> Option<String> {
        match self.0.exactness() {
            Exactness::Exact => None,
            Exactness::Reencoded(reason) => Some(reason.clone()),
        }
    }

    fn start(&self, py: Python<'_>, first: bool) -> PyResult<CoverState> {
        let state = door::short(py, || Ok(cover::CoverState::new(&self.0, first)))?;
        Ok(CoverState(Mutex::new(state)))
    }

    /// The id at each place, where each first byte's places begin, forbidden rows, counted ids.
    fn layout<'py>(&self, py: Python<'py>) -> (Ids<'py>, Bound<'py, PyArray1<u32>>, Ids<'py>, Ids<'py>) {
        let layout = self.0.layout();
        (
            layout.ids.into_pyarray(py),
            layout.bounds.into_pyarray(py),
            layout.forbidden.into_pyarray(py),
            layout.counted.into_pyarray(py),
        )
    }

    fn released<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        self.0.released().into_pyarray(py)
    }
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct CoverState(Mutex<cover::CoverState>);

impl CoverState {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut cover::CoverState) -> anyvocab_core::Result<T> + Send,
    ) -> PyResult<T> {
        door::short(py, || work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl CoverState {
    fn push(&self, py: Python<'_>, data: PyBackedBytes) -> PyResult<()> {
        self.with(py, |state| {
            state.push(&data);
            Ok(())
        })
    }

    fn rollback(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.with(py, |state| state.rollback(count))
    }

    fn fork(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(Self(Mutex::new(self.with(py, |state| Ok(state.clone()))?)))
    }

    fn needed<'py>(&self, py: Python<'py>, mass_only: bool) -> PyResult<Contexts<'py>> {
        Ok(contexts(py, self.with(py, |state| Ok(state.needed(mass_only)))?))
    }

    fn wanted<'py>(&self, py: Python<'py>, id: u64) -> PyResult<WantedOf<'py>> {
        let (wanted, places) = self.with(py, |state| Ok((state.wanted(id)?, state.model().index().root().hi)))?;
        Ok(self::wanted(py, wanted, places))
    }

    #[expect(clippy::too_many_arguments, reason = "one argument for each array")]
    fn feed_sums(
        &self,
        py: Python<'_>,
        id: u64,
        log_base: f64,
        masses: PyReadonlyArray1<'_, f64>,
        counted: PyReadonlyArray1<'_, f64>,
        children: PyReadonlyArray1<'_, f64>,
        values: PyReadonlyArray1<'_, f32>,
    ) -> PyResult<()> {
        let wanted = self.with(py, |state| state.wanted(id))?;
        let sums = device_sums(&wanted, log_base, &masses, &counted, &children, &values)?;
        self.with(py, |state| state.feed_sums(id, &sums))
    }

    #[pyo3(signature = (id, row, *, half="bfloat16"))]
    fn feed(&self, py: Python<'_>, id: u64, row: Row<'_>, half: &str) -> PyResult<()> {
        row.with(py, half, |logits| self.0.lock().unwrap_or_else(PoisonError::into_inner).feed(id, logits))
    }

    fn logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        Ok(self.with(py, |state| state.logprobs())?.to_vec().into_pyarray(py))
    }

    fn log_mass(&self, py: Python<'_>) -> PyResult<f64> {
        self.with(py, |state| state.log_mass())
    }

    fn missing_mass(&self, py: Python<'_>) -> PyResult<f64> {
        self.with(py, |state| state.missing_mass())
    }

    fn covers(&self, py: Python<'_>, most: usize) -> PyResult<Covers> {
        let covers = self.with(py, |state| state.covers(most))?;
        Ok(covers.into_iter().map(|cover| (cover.tokens, cover.open, cover.log_mass, cover.tops)).collect())
    }

    fn pick<'py>(&self, py: Python<'py>, u: f64) -> PyResult<Option<(Ids<'py>, usize, f64)>> {
        let picked = self.with(py, |state| state.pick(u))?;
        Ok(picked.map(|picked| (picked.tokens.into_pyarray(py), picked.open, picked.share)))
    }

    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let text = self.with(py, |state| Ok(state.text().to_vec()))?;
        Ok(PyBytes::new(py, &text))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |state| Ok(state.len()))
    }

    fn sweep(&self, py: Python<'_>, text: PyBackedBytes) -> PyResult<Sweep> {
        let sweep = self.with(py, |state| cover::Sweep::new(state, &text))?;
        Ok(Sweep(Mutex::new(sweep)))
    }
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct Sweep(Mutex<cover::Sweep>);

impl Sweep {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut cover::Sweep) -> anyvocab_core::Result<T> + Send,
    ) -> PyResult<T> {
        door::short(py, || work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl Sweep {
    fn needed<'py>(&self, py: Python<'py>) -> PyResult<Contexts<'py>> {
        Ok(contexts(py, self.with(py, |sweep| Ok(sweep.needed().clone()))?))
    }

    fn wanted<'py>(&self, py: Python<'py>, id: u64) -> PyResult<WantedOf<'py>> {
        let (wanted, places) = self.with(py, |sweep| Ok((sweep.wanted(id)?, sweep.places())))?;
        Ok(self::wanted(py, wanted, places))
    }

    #[expect(clippy::too_many_arguments, reason = "one argument for each array")]
    fn feed_sums(
        &self,
        py: Python<'_>,
        id: u64,
        log_base: f64,
        masses: PyReadonlyArray1<'_, f64>,
        counted: PyReadonlyArray1<'_, f64>,
        children: PyReadonlyArray1<'_, f64>,
        values: PyReadonlyArray1<'_, f32>,
    ) -> PyResult<()> {
        let wanted = self.with(py, |sweep| sweep.wanted(id))?;
        let sums = device_sums(&wanted, log_base, &masses, &counted, &children, &values)?;
        self.with(py, |sweep| sweep.feed_sums(id, &sums))
    }

    #[pyo3(signature = (id, row, *, half="bfloat16"))]
    fn feed(&self, py: Python<'_>, id: u64, row: Row<'_>, half: &str) -> PyResult<()> {
        row.with(py, half, |logits| self.0.lock().unwrap_or_else(PoisonError::into_inner).feed(id, logits))
    }

    fn logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let rows = self.with(py, |sweep| sweep.logprobs())?;
        let shape = [rows.len(), cover::NEXT_BYTE_LEN];
        PyArray1::from_vec(py, rows.concat()).reshape(shape)
    }
}
