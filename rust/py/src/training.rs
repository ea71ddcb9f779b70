//! `_core.train_words` and its kin: arrays in, merges out; `_core.Veto`: which tokens may not be made.

use anyvocab_core::pipeline::Cancel;
use anyvocab_core::train::merge::Trainer;
use anyvocab_core::train::words::{self, byte_trainer, check_offsets, check_vocabulary, reserved_bytes};
use anyvocab_core::train::{
    self, Alphabet, Cuts, MaxLength, Merges, Options, Parity, Rules, Tokens, WordsView, describe, extend,
    normalizer_named, parity, seeds,
};
use anyvocab_core::{Error, Limits, TokenId};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::door;
use crate::error::to_py;
use crate::tokenizer::Tokenizer;

type Words<'py> = (PyReadonlyArray1<'py, u8>, PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, u64>);

/// (left, right, product) of each merge, its count, all tokens end to end, their offsets, why it ended.
pub(crate) type Learnt<'py> = (
    Bound<'py, PyArray2<TokenId>>,
    Bound<'py, PyArray1<u64>>,
    Bound<'py, PyArray1<u8>>,
    Bound<'py, PyArray1<i64>>,
    &'static str,
);

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct TrainProgress(pub(crate) train::Progress);

#[pymethods]
impl TrainProgress {
    #[new]
    fn new() -> Self {
        Self(train::Progress::default())
    }

    #[getter]
    fn merges(&self) -> usize {
        self.0.merges()
    }
}

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct Veto(pub(crate) train::Veto);

#[pymethods]
impl Veto {
    #[new]
    #[pyo3(signature = (
        *, max_words=None, max_bytes=None, max_chars=None, max_digits=None, digits_apart=false, one_script=false,
        inside=Vec::new(), pattern=None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    fn new(
        py: Python<'_>,
        max_words: Option<usize>,
        max_bytes: Option<usize>,
        max_chars: Option<usize>,
        max_digits: Option<usize>,
        digits_apart: bool,
        one_script: bool,
        inside: Vec<Vec<u8>>,
        pattern: Option<String>,
    ) -> PyResult<Self> {
        let rules = Rules { max_words, max_bytes, max_chars, max_digits, digits_apart, one_script, inside, pattern };
        door::short(py, || train::Veto::new(rules, &Limits::default())).map(Self)
    }

    fn forbids(&self, py: Python<'_>, token: PyBackedBytes) -> PyResult<bool> {
        door::short(py, || self.0.forbids(&token))
    }
}

pub(crate) fn max_length(max_bytes: Option<usize>, max_token_length: Option<usize>) -> PyResult<MaxLength> {
    match (max_bytes, max_token_length) {
        (None, None) => Ok(MaxLength::None),
        (Some(most), None) => Ok(MaxLength::Bytes(most)),
        (None, Some(bound)) => Ok(MaxLength::HuggingFace(bound)),
        (Some(_), Some(_)) => {
            let found = "a bound beside max_token_bytes";
            Err(to_py(Error::value("max_token_length", found, "give one of the two")))
        }
    }
}

fn to_i64(offsets: &[usize]) -> Vec<i64> {
    let to = |&offset| i64::try_from(offset).expect("an allocation is below 2^63 bytes");
    if offsets.is_empty() { vec![0] } else { offsets.iter().map(to).collect() }
}

pub(crate) fn learnt<'py>(py: Python<'py>, merges: &Merges) -> PyResult<Learnt<'py>> {
    let (bytes, offsets) = merges.tokens.table();
    let flat: Vec<TokenId> = merges.merges.iter().flat_map(|m| [m.left, m.right, m.product]).collect();
    let counts: Vec<u64> = merges.merges.iter().map(|m| m.count).collect();
    Ok((
        PyArray1::from_vec(py, flat).reshape([counts.len(), 3])?,
        counts.into_pyarray(py),
        bytes.to_vec().into_pyarray(py),
        to_i64(offsets).into_pyarray(py),
        merges.stop.name(),
    ))
}

pub(crate) fn triples(merges: Option<&PyReadonlyArray2<'_, TokenId>>) -> PyResult<Vec<(TokenId, TokenId, TokenId)>> {
    let Some(merges) = merges else { return Ok(Vec::new()) };
    let rows = merges.as_array();
    if rows.ncols() != 3 {
        let found = format!("{} columns", rows.ncols());
        return Err(to_py(Error::value("merges", found, "a merge is (left, right, product)")));
    }
    Ok(rows.rows().into_iter().map(|row| (row[0], row[1], row[2])).collect())
}

/// Tokens from a table as `Vocabulary.table` gives it.
pub(crate) fn tokens(bytes: &[u8], offsets: &[i64]) -> anyvocab_core::Result<Tokens> {
    check_offsets(offsets, bytes.len(), offsets.len().saturating_sub(1))?;
    let mut tokens = Tokens::new();
    for ends in offsets.windows(2) {
        let [start, end] = [ends[0], ends[1]].map(|end| usize::try_from(end).unwrap_or(0));
        tokens.push(&bytes[start..end])?;
    }
    Ok(tokens)
}

#[pyfunction]
#[pyo3(signature = (
    data, offsets, counts, *, specials, alphabet, limit_alphabet=None, vocab_size, min_frequency=2,
    max_token_bytes=None, max_token_length=None, veto=None, seed_tokens=Vec::new(), memory=None, progress=None
))]
#[allow(clippy::too_many_arguments)] // keyword arguments of Python
pub(crate) fn train_words<'py>(
    py: Python<'py>,
    data: PyReadonlyArray1<'py, u8>,
    offsets: PyReadonlyArray1<'py, i64>,
    counts: PyReadonlyArray1<'py, u64>,
    specials: Vec<String>,
    alphabet: Vec<u8>,
    limit_alphabet: Option<usize>,
    vocab_size: usize,
    min_frequency: u64,
    max_token_bytes: Option<usize>,
    max_token_length: Option<usize>,
    veto: Option<&Veto>,
    seed_tokens: Vec<Vec<u8>>,
    memory: Option<u64>,
    progress: Option<&TrainProgress>,
) -> PyResult<Learnt<'py>> {
    let (data, offsets, counts) = (data.as_slice()?, offsets.as_slice()?, counts.as_slice()?);
    let options = Options {
        vocab_size,
        min_frequency,
        max_length: max_length(max_token_bytes, max_token_length)?,
        reserved: reserved_bytes(&specials),
        ..Options::default()
    };
    let (cancel, unseen) = (Cancel::default(), train::Progress::default());
    let progress = progress.map_or(&unseen, |progress| &progress.0);
    let merges = door::long(py, &cancel, || {
        let words = WordsView::new(data, offsets, counts)?;
        let alphabet = Alphabet { initial: alphabet, limit: limit_alphabet }.of(words);
        check_vocabulary(&specials, &alphabet, vocab_size)?;
        memory.map_or(Ok(()), |memory| words.check_memory(memory))?;
        let trainer = byte_trainer(words, specials.len(), &alphabet)?;
        let initial = trainer.tokens().len();
        let learnt = trainer.train(&options, veto.map(|veto| &veto.0), &cancel, progress)?;
        if seed_tokens.is_empty() {
            return Ok(learnt);
        }
        seeds::add_seeds(learnt, &seed_tokens, initial, &[], vocab_size)
    })?;
    learnt(py, &merges)
}

#[pyfunction]
#[pyo3(signature = (
    symbols, offsets, counts, token_data, token_offsets, *, inherited=None, vocab_size=None, max_merges=None,
    min_frequency=2, max_token_bytes=None, veto=None, reserved=Vec::new(), progress=None
))]
#[allow(clippy::too_many_arguments)] // keyword arguments of Python
pub(crate) fn train_sequences<'py>(
    py: Python<'py>,
    symbols: PyReadonlyArray1<'py, TokenId>,
    offsets: PyReadonlyArray1<'py, i64>,
    counts: PyReadonlyArray1<'py, u64>,
    token_data: PyReadonlyArray1<'py, u8>,
    token_offsets: PyReadonlyArray1<'py, i64>,
    inherited: Option<PyReadonlyArray2<'py, TokenId>>,
    vocab_size: Option<usize>,
    max_merges: Option<usize>,
    min_frequency: u64,
    max_token_bytes: Option<usize>,
    veto: Option<&Veto>,
    reserved: Vec<Vec<u8>>,
    progress: Option<&TrainProgress>,
) -> PyResult<Learnt<'py>> {
    let (symbols, offsets, counts) = (symbols.as_slice()?, offsets.as_slice()?, counts.as_slice()?);
    let (token_data, token_offsets) = (token_data.as_slice()?, token_offsets.as_slice()?);
    let options = Options {
        vocab_size: vocab_size.unwrap_or(usize::MAX),
        max_merges: max_merges.unwrap_or(usize::MAX),
        min_frequency,
        max_length: max_length(max_token_bytes, None)?,
        reserved,
        inherited: triples(inherited.as_ref())?,
        ..Options::default()
    };
    let (cancel, unseen) = (Cancel::default(), train::Progress::default());
    let progress = progress.map_or(&unseen, |progress| &progress.0);
    let merges = door::long(py, &cancel, || {
        check_offsets(offsets, symbols.len(), counts.len())?;
        let mut trainer = Trainer::new(tokens(token_data, token_offsets)?);
        trainer.reserve(counts.len(), symbols.len());
        for (ends, &count) in offsets.windows(2).zip(counts) {
            let [start, end] = [ends[0], ends[1]].map(|end| usize::try_from(end).unwrap_or(0));
            trainer.push(symbols[start..end].iter().copied(), count)?;
        }
        trainer.train(&options, veto.map(|veto| &veto.0), &cancel, progress)
    })?;
    learnt(py, &merges)
}

/// As `Learnt`, then the number of the language that chose each merge (-1 for all), and the tokens of each at the end.
type Slices<'a> = (&'a [u8], &'a [i64], &'a [u64]);
type LearntParity<'py> = (Learnt<'py>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>);

#[pyfunction]
#[pyo3(signature = (
    languages, sizes, *, measured=None, together=None, global_merges=0, window=0, share=2.0, specials, alphabet,
    vocab_size, min_frequency=2, max_token_bytes=None, veto=None, progress=None
))]
#[allow(clippy::too_many_arguments)] // keyword arguments of Python
pub(crate) fn train_parity<'py>(
    py: Python<'py>,
    languages: Vec<Words<'py>>,
    sizes: Vec<f64>,
    measured: Option<Vec<Words<'py>>>,
    together: Option<Words<'py>>,
    global_merges: usize,
    window: usize,
    share: f64,
    specials: Vec<String>,
    alphabet: Vec<u8>,
    vocab_size: usize,
    min_frequency: u64,
    max_token_bytes: Option<usize>,
    veto: Option<&Veto>,
    progress: Option<&TrainProgress>,
) -> PyResult<LearntParity<'py>> {
    fn views<'a>(words: &'a [Words<'_>]) -> PyResult<Vec<Slices<'a>>> {
        words.iter().map(|w| Ok((w.0.as_slice()?, w.1.as_slice()?, w.2.as_slice()?))).collect()
    }
    let measured_words = measured.unwrap_or_default();
    let together_words: Vec<Words<'py>> = together.into_iter().collect();
    let (own, texts, all) = (views(&languages)?, views(&measured_words)?, views(&together_words)?);
    if sizes.len() != own.len() || !(texts.is_empty() || texts.len() == own.len()) {
        let found = format!("{} languages, {} sizes, {} measured texts", own.len(), sizes.len(), texts.len());
        return Err(to_py(Error::value("parity", found, "give one of each for every language")));
    }
    let options = Options {
        vocab_size,
        min_frequency,
        max_length: max_length(max_token_bytes, None)?,
        reserved: reserved_bytes(&specials),
        ..Options::default()
    };
    let (cancel, unseen) = (Cancel::default(), train::Progress::default());
    let progress = progress.map_or(&unseen, |progress| &progress.0);
    let done = door::long(py, &cancel, || {
        let views = own.iter().chain(&texts).chain(&all).map(|w| WordsView::new(w.0, w.1, w.2));
        let alphabet = words::joint_alphabet(&alphabet, views)?;
        check_vocabulary(&specials, &alphabet, vocab_size)?;
        let trainer = |w: &Slices<'_>| byte_trainer(WordsView::new(w.0, w.1, w.2)?, specials.len(), &alphabet);
        let mut languages = Vec::with_capacity(own.len());
        for (number, words) in own.iter().enumerate() {
            let measured = texts.get(number).map(&trainer).transpose()?;
            languages.push(parity::Language { words: trainer(words)?, measured, size: sizes[number] });
        }
        let all = all.first().map(trainer).transpose()?;
        let turns = Parity { global_merges, window, share };
        train::train_parity(languages, all, turns, &options, veto.map(|veto| &veto.0), &cancel, progress)
    })?;
    let number = |chooser: &Option<usize>| chooser.map_or(-1, |number| i64::try_from(number).unwrap_or(i64::MAX));
    let chosen: Vec<i64> = done.chosen_by.iter().map(number).collect();
    Ok((learnt(py, &done.learnt)?, chosen.into_pyarray(py), done.measured_tokens.into_pyarray(py)))
}

#[pyfunction]
#[pyo3(signature = (token_data, token_offsets, merges, *, specials, pattern, normalizer=None))]
pub(crate) fn bpe_json<'py>(
    py: Python<'py>,
    token_data: PyReadonlyArray1<'py, u8>,
    token_offsets: PyReadonlyArray1<'py, i64>,
    merges: PyReadonlyArray2<'py, TokenId>,
    specials: Vec<String>,
    pattern: &str,
    normalizer: Option<&str>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (token_data, token_offsets) = (token_data.as_slice()?, token_offsets.as_slice()?);
    let merges = triples(Some(&merges))?;
    let json = door::short(py, || {
        let tokens = tokens(token_data, token_offsets)?;
        let normalizer = normalizer.map(normalizer_named).transpose()?;
        let described = describe::byte_level_bpe(&tokens, &merges, &specials, &Cuts::named(pattern)?, normalizer)?;
        anyvocab_core::formats::writer::to_tokenizer_json(&described)
    })?;
    Ok(PyBytes::new(py, &json))
}

#[pyfunction]
pub(crate) fn cuts_of(py: Python<'_>, tokenizer: &Tokenizer) -> PyResult<(String, Option<String>)> {
    door::short(py, || extend::cuts_of(tokenizer.description()))
}

#[pyfunction]
#[pyo3(signature = (
    tokenizer, data, offsets, counts, *, tokens, min_frequency=2, max_token_bytes=None, veto=None, progress=None
))]
#[allow(clippy::too_many_arguments)] // keyword arguments of Python
pub(crate) fn extend_words<'py>(
    py: Python<'py>,
    tokenizer: &Tokenizer,
    data: PyReadonlyArray1<'py, u8>,
    offsets: PyReadonlyArray1<'py, i64>,
    counts: PyReadonlyArray1<'py, u64>,
    tokens: usize,
    min_frequency: u64,
    max_token_bytes: Option<usize>,
    veto: Option<&Veto>,
    progress: Option<&TrainProgress>,
) -> PyResult<Learnt<'py>> {
    let (data, offsets, counts) = (data.as_slice()?, offsets.as_slice()?, counts.as_slice()?);
    let growth = extend::Growth { tokens, min_frequency, max_length: max_length(max_token_bytes, None)? };
    let (cancel, unseen) = (Cancel::default(), train::Progress::default());
    let progress = progress.map_or(&unseen, |progress| &progress.0);
    let merges = door::long(py, &cancel, || {
        let words = WordsView::new(data, offsets, counts)?;
        extend::extend(tokenizer.description(), words, growth, veto.map(|veto| &veto.0), &cancel, progress)
    })?;
    learnt(py, &merges)
}

#[pyfunction]
pub(crate) fn extended_json<'py>(
    py: Python<'py>,
    tokenizer: &Tokenizer,
    token_data: PyReadonlyArray1<'py, u8>,
    token_offsets: PyReadonlyArray1<'py, i64>,
    merges: PyReadonlyArray2<'py, TokenId>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (token_data, token_offsets) = (token_data.as_slice()?, token_offsets.as_slice()?);
    let merges = triples(Some(&merges))?;
    let json = door::short(py, || {
        let tokens = tokens(token_data, token_offsets)?;
        let described = extend::extended(tokenizer.description(), &tokens, &merges)?;
        anyvocab_core::formats::writer::to_tokenizer_json(&described)
    })?;
    Ok(PyBytes::new(py, &json))
}
