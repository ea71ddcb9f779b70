//! `_core.Tokenizer`: reads a file, encodes, decodes.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use anyvocab_core::formats::{self, Description};
use anyvocab_core::pipeline::{Cancel, Encoder, Specials, Template};
use anyvocab_core::{Error, Limits, TokenId};
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::door;
use crate::error::to_py;
use crate::incremental::IncrementalEncoder;
use crate::vocabulary::Vocabulary;

/// Texts from this size on are encoded on a thread of their own, so that Ctrl-C is heard.
const LONG_TEXT: usize = 4 << 20;

type Offsets<'py> = Bound<'py, PyArray2<i64>>;
type Ids<'py> = Bound<'py, PyArray1<TokenId>>;

#[pyclass(frozen, module = "anyvocab._core")]
pub(crate) struct Tokenizer {
    pub(crate) encoder: Arc<Encoder>,
    vocabulary: OnceLock<Py<Vocabulary>>,
}

pub(crate) fn specials(name: &str) -> PyResult<Specials> {
    match name {
        "parse" => Ok(Specials::Parse),
        "text" => Ok(Specials::Text),
        other => Err(to_py(Error::value("specials", format!("{other:?}"), "use \"parse\" or \"text\""))),
    }
}

fn template(with: bool) -> Template {
    if with { Template::With } else { Template::Without }
}

fn limits_from(given: Option<HashMap<String, u64>>) -> PyResult<Limits> {
    let mut limits = Limits::default();
    for (name, value) in given.unwrap_or_default() {
        let size = usize::try_from(value).unwrap_or(usize::MAX);
        match name.as_str() {
            "file_bytes" => limits.file_bytes = size,
            "depth" => limits.depth = size,
            "tokens" => limits.tokens = size,
            "max_id" => limits.max_id = Some(u32::try_from(value).unwrap_or(u32::MAX - 1)),
            "token_bytes" => limits.token_bytes = size,
            "merges" => limits.merges = size,
            "pattern_bytes" => limits.pattern_bytes = size,
            "regex_bytes" => limits.regex_bytes = size,
            "backtrack_steps" => limits.backtrack_steps = size,
            other => {
                let fix = "use file_bytes, depth, tokens, max_id, token_bytes, merges, pattern_bytes, regex_bytes or backtrack_steps";
                return Err(to_py(Error::value("limits", format!("no limit is called {other:?}"), fix)));
            }
        }
    }
    Ok(limits)
}

fn read(
    data: &[u8],
    format: &str,
    pattern: Option<&str>,
    special_tokens: &[(String, u32)],
    limits: &Limits,
) -> anyvocab_core::Result<Description> {
    match format {
        "tokenizer.json" => formats::tokenizer_json::read(data, limits),
        "tiktoken" => {
            let pattern = pattern.ok_or_else(|| {
                Error::value(
                    "pattern",
                    "a rank file does not say how text is split",
                    "name the encoding or give the pattern",
                )
            })?;
            match formats::tiktoken::known(pattern) {
                Some((known, specials)) => {
                    let own: Vec<_> = specials.iter().map(|(text, id)| ((*text).to_owned(), *id)).collect();
                    let given = if special_tokens.is_empty() { own.as_slice() } else { special_tokens };
                    formats::tiktoken::read(data, known, given, limits)
                }
                None => formats::tiktoken::read(data, pattern, special_tokens, limits),
            }
        }
        "sentencepiece" => formats::sentencepiece::read(data, limits),
        "gguf" => formats::gguf::read(data, limits),
        "rwkv" => formats::rwkv::read(data, limits),
        other => Err(Error::value(
            "format",
            format!("{other:?}"),
            "use \"tokenizer.json\", \"tiktoken\", \"sentencepiece\", \"gguf\" or \"rwkv\"",
        )),
    }
}

impl Tokenizer {
    pub(crate) fn description(&self) -> &Description {
        self.encoder.description()
    }
}

#[pymethods]
impl Tokenizer {
    #[staticmethod]
    #[pyo3(signature = (data, format, *, file=None, pattern=None, special_tokens=None, limits=None))]
    fn from_bytes(
        py: Python<'_>,
        data: PyBackedBytes,
        format: &str,
        file: Option<&str>,
        pattern: Option<&str>,
        special_tokens: Option<HashMap<String, u32>>,
        limits: Option<HashMap<String, u64>>,
    ) -> PyResult<Self> {
        let limits = limits_from(limits)?;
        let mut special_tokens: Vec<_> = special_tokens.unwrap_or_default().into_iter().collect();
        special_tokens.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        let encoder = door::short(py, || {
            let described = read(&data, format, pattern, &special_tokens, &limits);
            let built = described.and_then(|description| Encoder::new(Arc::new(description), &limits));
            built.map_err(|error| match file {
                Some(file) => error.in_file(file),
                None => error,
            })
        })?;
        Ok(Self { encoder: Arc::new(encoder), vocabulary: OnceLock::new() })
    }

    #[getter]
    fn format(&self) -> &'static str {
        use formats::Source;
        match self.encoder.description().source {
            Source::TokenizerJson => "tokenizer.json",
            Source::Tiktoken => "tiktoken",
            Source::SentencePiece => "sentencepiece",
            Source::Gguf => "gguf",
            Source::Rwkv => "rwkv",
        }
    }

    #[getter]
    fn model_type(&self) -> &'static str {
        use formats::Model;
        match &self.encoder.description().model {
            Model::Bpe(_) => "BPE",
            Model::Unigram(_) => "Unigram",
            Model::WordPiece(_) => "WordPiece",
            Model::WordLevel(_) => "WordLevel",
            Model::Trie(_) => "Trie",
        }
    }

    #[getter]
    fn vocabulary(&self, py: Python<'_>) -> PyResult<Py<Vocabulary>> {
        if let Some(vocabulary) = self.vocabulary.get() {
            return Ok(vocabulary.clone_ref(py));
        }
        let core = door::short(py, || self.encoder.vocabulary().cloned())?;
        let made = Py::new(py, Vocabulary::new(core, Arc::clone(&self.encoder)))?;
        Ok(self.vocabulary.get_or_init(|| made).clone_ref(py))
    }

    #[getter]
    fn chat_template(&self) -> Option<&str> {
        self.encoder.description().chat_template.as_deref()
    }

    fn declared_roles(&self) -> Vec<(String, TokenId, String)> {
        let roles = self.encoder.description().declared_roles.iter();
        roles.map(|role| (role.role.clone(), role.id, role.field.clone())).collect()
    }

    fn encode<'py>(&self, py: Python<'py>, text: PyBackedBytes, specials: &str, template: bool) -> PyResult<Ids<'py>> {
        let (specials, template) = (self::specials(specials)?, self::template(template));
        let cancel = Arc::new(Cancel::default());
        let work = || self.encoder.encode_until(&text, specials, template, Some(&cancel));
        let ids = if text.len() < LONG_TEXT { door::short(py, work)? } else { door::long(py, &cancel, work)? };
        Ok(ids.into_pyarray(py))
    }

    fn encode_with_offsets<'py>(
        &self,
        py: Python<'py>,
        text: PyBackedBytes,
        specials: &str,
        template: bool,
    ) -> PyResult<(Ids<'py>, Offsets<'py>)> {
        let (specials, template) = (self::specials(specials)?, self::template(template));
        let cancel = Arc::new(Cancel::default());
        let work = || self.encoder.encode_with_offsets(&text, specials, template, Some(&cancel));
        let (ids, spans) = if text.len() < LONG_TEXT { door::short(py, work)? } else { door::long(py, &cancel, work)? };
        let rows = ids.len();
        let offsets = PyArray1::from_vec(py, spans);
        Ok((ids.into_pyarray(py), numpy::PyArrayMethods::reshape(&offsets, [rows, 2])?))
    }

    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedBytes>,
        specials: &str,
        template: bool,
        threads: usize,
    ) -> PyResult<(Ids<'py>, Bound<'py, PyArray1<i64>>)> {
        let (specials, template) = (self::specials(specials)?, self::template(template));
        let views: Vec<&[u8]> = texts.iter().map(AsRef::as_ref).collect();
        let cancel = Arc::new(Cancel::default());
        let work = || self.encoder.encode_batch(&views, specials, template, threads, &cancel);
        let bytes: usize = views.iter().map(|text| text.len()).sum();
        let done =
            if bytes < LONG_TEXT && threads < 2 { door::short(py, work)? } else { door::long(py, &cancel, work)? };
        // Without a result the work was cancelled, and then the door has raised already.
        let ragged = done.unwrap_or_default();
        Ok((ragged.ids.into_pyarray(py), ragged.offsets.into_pyarray(py)))
    }

    fn encode_reference<'py>(&self, py: Python<'py>, text: PyBackedBytes, specials: &str) -> PyResult<Ids<'py>> {
        let specials = self::specials(specials)?;
        let ids = door::short(py, || self.encoder.encode_reference(&text, specials))?;
        Ok(ids.into_pyarray(py))
    }

    fn count(&self, py: Python<'_>, text: PyBackedBytes, specials: &str) -> PyResult<usize> {
        let specials = self::specials(specials)?;
        let cancel = Arc::new(Cancel::default());
        let work = || self.encoder.count(&text, specials, Some(&cancel));
        if text.len() < LONG_TEXT { door::short(py, work) } else { door::long(py, &cancel, work) }
    }

    fn normalize<'py>(&self, py: Python<'py>, text: PyBackedBytes) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = door::short(py, || self.encoder.normalize(&text))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn pretokenize<'py>(&self, py: Python<'py>, text: PyBackedBytes) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let pieces = door::short(py, || self.encoder.pretokenize(&text))?;
        Ok(pieces.iter().map(|piece| PyBytes::new(py, piece)).collect())
    }

    fn decode<'py>(
        &self,
        py: Python<'py>,
        ids: PyReadonlyArray1<'_, TokenId>,
        skip_special: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let ids = contiguous(&ids)?;
        let bytes = door::short(py, || self.encoder.decode(&ids, skip_special))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn is_canonical(&self, py: Python<'_>, ids: PyReadonlyArray1<'_, TokenId>) -> PyResult<bool> {
        let ids = contiguous(&ids)?;
        door::short(py, || self.encoder.is_canonical(&ids))
    }

    fn incremental(&self, specials: &str) -> PyResult<IncrementalEncoder> {
        Ok(IncrementalEncoder::new(Arc::clone(&self.encoder), self::specials(specials)?))
    }

    fn to_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let json = door::short(py, || formats::writer::to_tokenizer_json(self.encoder.description()))?;
        Ok(PyBytes::new(py, &json))
    }

    fn components(&self) -> String {
        formats::writer::describe(self.encoder.description())
    }
}

/// The ids of an array that need not be contiguous.
pub(crate) fn contiguous(ids: &PyReadonlyArray1<'_, TokenId>) -> PyResult<Vec<TokenId>> {
    Ok(ids.as_array().iter().copied().collect())
}
