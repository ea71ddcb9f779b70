//! The header and the metadata of a GGUF file; never the tensors.
//!
//! `GGUF`, version (u32), number of tensors (u64), number of pairs (u64), then the pairs: key (string), type (u32),
//! value. A string is a u64 length and its bytes; an array is a type, a u64 count and the values. Little endian.

use std::fmt;

use crate::error::{Error, Result};
use crate::limits::Limits;

/// What the keys that matter begin with.
const PREFIX: &[u8] = b"tokenizer.";

/// Type numbers of values.
const TYPE_BOOL: u32 = 7;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// A value of the metadata.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    Float,
    Bool(bool),
    String(&'a [u8]),
    /// The type of the elements, how many, and their bytes.
    Array(u32, usize, &'a [u8]),
}

/// The pairs under `tokenizer.`, in the order of the file.
pub(super) struct Metadata<'a> {
    pairs: Vec<(&'a str, Value<'a>)>,
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    /// Largest offset that may be read.
    bound: usize,
    depth: usize,
}

fn damaged(field: &str, found: impl fmt::Display, at: usize) -> Error {
    Error::format(field, format!("{found} at byte {at}"), "is this a GGUF file, whole up to the end of its metadata?")
}

/// Bytes of one value of a scalar type.
fn width(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | TYPE_BOOL => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: u64, field: &str) -> Result<&'a [u8]> {
        let rest = &self.data[self.at..];
        let Some(taken) = usize::try_from(len).ok().and_then(|len| rest.get(..len)) else {
            return Err(damaged(field, format_args!("{len} bytes are announced and {} are left", rest.len()), self.at));
        };
        let end = self.at + taken.len();
        if end > self.bound {
            return Err(Error::limit(field, end, self.bound, "file_bytes"));
        }
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self, field: &str) -> Result<u32> {
        self.take(4, field).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes were taken")))
    }

    fn u64(&mut self, field: &str) -> Result<u64> {
        self.take(8, field).map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes were taken")))
    }

    fn string(&mut self, field: &str) -> Result<&'a [u8]> {
        let len = self.u64(field)?;
        self.take(len, field)
    }

    fn value(&mut self, kind: u32, field: &str, depth: usize) -> Result<Value<'a>> {
        if let Some(width) = width(kind) {
            let bytes = self.take(width as u64, field)?;
            let mut wide = [0; 8];
            wide[..width].copy_from_slice(bytes);
            let unsigned = u64::from_le_bytes(wide);
            let shift = 64 - 8 * width; // the sign of a narrow integer is moved to the top and back
            return Ok(match kind {
                0 | 2 | 4 | 10 => Value::Unsigned(unsigned),
                1 | 3 | 5 | 11 => Value::Signed((unsigned << shift).cast_signed() >> shift),
                TYPE_BOOL => Value::Bool(unsigned != 0),
                _ => Value::Float,
            });
        }
        match kind {
            TYPE_STRING => Ok(Value::String(self.string(field)?)),
            TYPE_ARRAY => self.array(field, depth),
            _ => Err(damaged(field, format_args!("the unknown value type {kind}"), self.at)),
        }
    }

    fn array(&mut self, field: &str, depth: usize) -> Result<Value<'a>> {
        if depth == self.depth {
            return Err(Error::limit(field, depth + 1, self.depth, "depth"));
        }
        let kind = self.u32(field)?;
        let count = self.u64(field)?;
        let start = self.at;
        if let Some(width) = width(kind) {
            self.take(count.saturating_mul(width as u64), field)?;
        } else {
            // The shortest string or array takes eight bytes: a larger count cannot be true.
            if count > (self.data.len() - start) as u64 / 8 {
                return Err(damaged(field, format_args!("an array of {count} values in what is left"), start));
            }
            for _ in 0..count {
                self.value(kind, field, depth + 1)?;
            }
        }
        let count = usize::try_from(count).expect("every value took at least one byte in memory");
        Ok(Value::Array(kind, count, &self.data[start..self.at]))
    }
}

impl<'a> Metadata<'a> {
    /// Reads the header and the metadata. O(metadata) time; borrows from `data`.
    pub(super) fn read(data: &'a [u8], limits: &Limits) -> Result<Self> {
        let mut reader = Reader { data, at: 0, bound: limits.file_bytes, depth: limits.depth };
        if reader.take(4, "magic")? != b"GGUF" {
            return Err(damaged("magic", "no \"GGUF\"", 0));
        }
        let version = reader.u32("version")?;
        if version.swap_bytes() <= 3 && version > 3 {
            return Err(Error::unsupported("version", "a big-endian file", "convert it to little endian"));
        }
        if !(2..=3).contains(&version) {
            return Err(Error::unsupported("version", format!("version {version}"), "versions 2 and 3 are supported"));
        }
        reader.u64("tensor_count")?;
        let count = reader.u64("metadata_kv_count")?;
        let mut this = Self { pairs: Vec::new() };
        for i in 0..count {
            let at = reader.at;
            let key = reader.string("metadata key")?;
            let Ok(name) = std::str::from_utf8(key) else {
                return Err(damaged("metadata key", format_args!("key {i} is not UTF-8"), at));
            };
            let kind = reader.u32(name)?;
            let value = reader.value(kind, name, 0)?;
            if key.starts_with(PREFIX) {
                if this.get(name).is_some() {
                    return Err(damaged(name, "the key again", at));
                }
                this.pairs.push((name, value));
                // A tokenizer has some twenty keys; the search for repeated ones is quadratic.
                if this.pairs.len() > 1024 {
                    return Err(damaged(name, "more than 1024 keys under tokenizer.", at));
                }
            }
        }
        Ok(this)
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        self.pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// The text of a key, if it is there.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(error) => Err(Error::format(key, format!("not UTF-8 after {} bytes", error.valid_up_to()), "")),
            },
            Some(other) => Err(mismatch(key, other, "a string")),
        }
    }

    /// The truth value of a key, if it is there.
    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(mismatch(key, other, "a truth value")),
        }
    }

    /// The token id of a key, if it is there; -1 stands for none, as some converters write it.
    pub(super) fn id(&self, key: &str, tokens: usize) -> Result<Option<u32>> {
        let id = match self.get(key) {
            None | Some(Value::Signed(-1)) => return Ok(None),
            Some(Value::Unsigned(id)) => Some(id),
            Some(Value::Signed(id)) => u64::try_from(id).ok(),
            Some(other) => return Err(mismatch(key, other, "an id")),
        };
        match id.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < tokens) {
            Some(id) => Ok(Some(id)),
            // llama.cpp warns and goes on without; 2^32 - 1 is a -1 written unsigned.
            None if id == Some(u64::from(u32::MAX)) => Ok(None),
            None => Err(Error::format(key, format!("an id beyond the {tokens} tokens"), "correct the id")),
        }
    }

    /// The strings of an array, if the key is there; each is UTF-8 of at most `limits.token_bytes` bytes.
    pub(super) fn strings(&self, key: &str, most: usize, bound: &str, limits: &Limits) -> Result<Option<Vec<&'a str>>> {
        let (kind, count, bytes) = match self.get(key) {
            None => return Ok(None),
            Some(Value::Array(kind, count, bytes)) => (kind, count, bytes),
            Some(other) => return Err(mismatch(key, other, "an array of strings")),
        };
        if kind != TYPE_STRING {
            return Err(Error::format(key, format!("an array of type {kind}"), "an array of strings belongs there"));
        }
        if count > most {
            return Err(Error::limit(key, count, most, bound));
        }
        let mut reader = Reader { data: bytes, at: 0, bound: usize::MAX, depth: 0 };
        let mut strings = Vec::with_capacity(count);
        for i in 0..count {
            let text = reader.string(key)?;
            if text.len() > limits.token_bytes {
                return Err(Error::limit(format!("{key}[{i}]"), text.len(), limits.token_bytes, "token_bytes"));
            }
            match std::str::from_utf8(text) {
                Ok(text) => strings.push(text),
                Err(_) => return Err(Error::format(format!("{key}[{i}]"), "not UTF-8", "tokens are text")),
            }
        }
        Ok(Some(strings))
    }

    /// The values of an array of i32, u32 or f32, as f32, if the key is there; there must be `count` of them or more.
    pub(super) fn numbers(&self, key: &str, count: usize) -> Result<Option<Vec<f32>>> {
        let (kind, found, bytes) = match self.get(key) {
            None => return Ok(None),
            Some(Value::Array(kind, found, bytes)) => (kind, found, bytes),
            Some(other) => return Err(mismatch(key, other, "an array of numbers")),
        };
        if !(4..=6).contains(&kind) {
            return Err(Error::format(key, format!("an array of type {kind}"), "32-bit numbers belong there"));
        }
        if found < count {
            return Err(Error::format(key, format!("{found} values for {count} tokens"), "one for each token"));
        }
        #[expect(clippy::cast_precision_loss, reason = "llama.cpp reads integer scores as floats, too")]
        let number = |b: &[u8; 4]| match kind {
            4 => u32::from_le_bytes(*b) as f32,
            5 => i32::from_le_bytes(*b) as f32,
            _ => f32::from_le_bytes(*b),
        };
        Ok(Some(bytes.as_chunks::<4>().0.iter().take(count).map(number).collect()))
    }

    /// The bytes of an array of bytes, if the key is there.
    pub(super) fn bytes(&self, key: &str) -> Result<Option<&'a [u8]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(0 | 1, _, bytes)) => Ok(Some(bytes)),
            Some(other) => Err(mismatch(key, other, "an array of bytes")),
        }
    }
}

fn mismatch(key: &str, found: Value<'_>, wanted: &str) -> Error {
    let found = match found {
        Value::Unsigned(_) | Value::Signed(_) => "an integer",
        Value::Float => "a float",
        Value::Bool(_) => "a truth value",
        Value::String(_) => "a string",
        Value::Array(..) => "an array",
    };
    Error::format(key, format!("{found} where {wanted} belongs"), "the file is damaged or of a kind of its own")
}
