//! Typed errors: what is wrong, where, and how to mend it.

use std::fmt;

/// The result of a fallible construction.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a tokenizer could not be built.
///
/// Opaque around a [`ErrorKind`]; its `Display` names the field, the finding and the fix. The caller that knows the
/// file's name adds it with [`Error::in_file`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    file: Option<String>,
    field: String,
    found: String,
    fix: String,
}

/// The class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file is malformed, truncated or contradicts itself.
    Format,
    /// The file is well formed and asks for something that cannot be represented exactly.
    Unsupported,
    /// The file is over a bound of [`crate::Limits`].
    Limit,
    /// A caller's argument is out of range (an id that is no token, say).
    Value,
    /// A file of ours could not be written or read back: a full disk, say.
    Storage,
}

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        field: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { kind, file: None, field: shortened(field.into()), found: shortened(found.into()), fix: fix.into() }
    }

    /// The same error about another field.
    #[must_use]
    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    /// A malformed file: `field` (`model.merges[17]`), what was `found` there, and how to mend it.
    pub fn format(field: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, field, found, fix)
    }

    /// A component that cannot be represented exactly.
    pub fn unsupported(field: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, field, found, fix)
    }

    /// A value over a bound: `field`, its value, the bound and the name of the bound.
    pub fn limit(field: impl Into<String>, value: usize, bound: usize, name: &str) -> Self {
        Self::new(
            ErrorKind::Limit,
            field,
            format!("{value} is over the limit of {bound}"),
            format!("raise Limits.{name} if you trust this file"),
        )
    }

    /// A caller's argument out of range.
    pub fn value(field: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(ErrorKind::Value, field, found, fix)
    }

    /// The same error with the name of the file it came from.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The field it is about, as a path (`model.merges[17]`).
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The file it is about, where known.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// How to mend it; empty when there is nothing to say.
    pub fn fix(&self) -> &str {
        &self.fix
    }
}

/// The text, or both its ends where it is long: a field may be named after a token of 80,000 bytes.
fn shortened(text: String) -> String {
    const LONGEST: usize = 600;
    const END: usize = 200;
    if text.len() <= LONGEST {
        return text;
    }
    let boundary = |at: usize| (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let (head, tail) = (boundary(END), boundary(text.len() - END));
    format!("{} ... {}", &text[..head], &text[tail..])
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        write!(f, "{}: {}", self.field, self.found)?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
