//! The one way from a core error to a Python exception.

use anyvocab_core::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// The names of the classes, in the order of `errors.py`.
const NAMES: [&str; 7] = [
    "AnyvocabError",
    "TokenizerFormatError",
    "UnsupportedTokenizer",
    "LimitExceeded",
    "InvalidValue",
    "StorageError",
    "InternalError",
];

fn classes(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    let classes = CLASSES.get_or_try_init(py, || -> PyResult<Py<PyDict>> {
        let scope = PyDict::new(py);
        scope.set_item("__name__", "anyvocab._core")?;
        let code = std::ffi::CString::new(include_str!("errors.py"))
            .map_err(|e| pyo3::exceptions::PyRuntimeError::new_err(e.to_string()))?;
        py.run(&code, Some(&scope), None)?;
        Ok(scope.unbind())
    })?;
    Ok(classes.bind(py))
}

/// Adds the classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let classes = classes(module.py())?;
    for name in NAMES {
        if let Some(class) = classes.get_item(name)? {
            module.add(name, class)?;
        }
    }
    Ok(())
}

fn raise(py: Python<'_>, class: &str, error: &Error) -> PyResult<PyErr> {
    let class = classes(py)?.get_item(class)?.ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("no class"))?;
    let value = class.cast::<PyType>()?.call1((error.to_string(),))?;
    value.setattr("file", error.file())?;
    value.setattr("field", error.field())?;
    value.setattr("fix", error.fix())?;
    Ok(PyErr::from_value(value))
}

/// A core error as the exception of its kind.
pub(crate) fn to_py(error: Error) -> PyErr {
    let class = match error.kind() {
        ErrorKind::Format => "TokenizerFormatError",
        ErrorKind::Unsupported => "UnsupportedTokenizer",
        ErrorKind::Limit => "LimitExceeded",
        ErrorKind::Value => "InvalidValue",
        ErrorKind::Storage => "StorageError",
        _ => "AnyvocabError",
    };
    Python::attach(|py| raise(py, class, &error).unwrap_or_else(|e| e))
}

/// A panic of the core as `InternalError`.
pub(crate) fn internal(message: &str) -> PyErr {
    let error = Error::value("anyvocab", message.to_owned(), "this is a defect of anyvocab: please report it");
    Python::attach(|py| raise(py, "InternalError", &error).unwrap_or_else(|e| e))
}
