//! The wire format of protocol buffers: fields one after the other, every length checked.

use std::fmt;

use crate::error::{Error, Result};

/// Largest field number of the format.
const MAX_FIELD: u64 = (1 << 29) - 1;
/// Longest varint, in bytes: 64 bits in groups of seven.
const MAX_VARINT: usize = 10;

/// Which message is being read; errors name fields by it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    Model,
    Piece(usize),
    Named(&'static str),
}

impl Path {
    /// The full name of a field of this message.
    pub(super) fn field(self, name: impl fmt::Display) -> String {
        match self {
            Self::Model => name.to_string(),
            Self::Piece(i) => format!("pieces[{i}].{name}"),
            Self::Named(message) => format!("{message}.{name}"),
        }
    }
}

/// A field's value as the wire has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64,
    /// The bytes, and where they start in the file.
    Bytes(&'a [u8], usize),
}

/// A field: its number, its value, and where it starts in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
    at: usize,
    path: Path,
}

/// Reads the fields of one message.
pub(super) struct Message<'a> {
    rest: &'a [u8],
    /// Where `rest` starts in the file.
    at: usize,
    path: Path,
}

pub(super) fn damaged(field: String, found: impl fmt::Display, at: usize) -> Error {
    Error::format(field, format!("{found} at byte {at}"), "is this a whole SentencePiece .model file?")
}

impl<'a> Message<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize, path: Path) -> Self {
        Self { rest: bytes, at, path }
    }

    fn error(&self, field: impl fmt::Display, found: impl fmt::Display, at: usize) -> Error {
        damaged(self.path.field(field), found, at)
    }

    /// The next field; `None` at the end of the message.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.at;
        let key = self.varint("(key)")?;
        let (number, wire) = (key >> 3, key & 7);
        if number == 0 || number > MAX_FIELD {
            return Err(self.error("(key)", format_args!("field number {number}"), at));
        }
        let number = u32::try_from(number).expect("at most 2^29 - 1: checked above");
        let name = format_args!("(field {number})");
        let value = match wire {
            0 => Value::Varint(self.varint(name)?),
            1 => self.take(8, name).map(|_| Value::Fixed64)?,
            2 => {
                let at = self.at;
                let len = self.varint(name)?;
                let Ok(len) = usize::try_from(len) else {
                    return Err(self.error(name, format_args!("a length of {len}"), at));
                };
                let start = self.at;
                Value::Bytes(self.take(len, name)?, start)
            }
            5 => {
                let bytes = self.take(4, name)?;
                Value::Fixed32(bytes.try_into().expect("four bytes were taken"))
            }
            _ => return Err(self.error(name, format_args!("wire type {wire}, a group or none at all,"), at)),
        };
        Ok(Some(Field { number, value, at, path: self.path }))
    }

    fn take(&mut self, len: usize, name: impl fmt::Display) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            let found = format!("{len} bytes are announced and {} are left", self.rest.len());
            return Err(self.error(name, found, self.at));
        };
        self.rest = rest;
        self.at += len;
        Ok(taken)
    }

    fn varint(&mut self, name: impl fmt::Display) -> Result<u64> {
        let mut value = 0u64;
        for i in 0..MAX_VARINT {
            let Some(&byte) = self.rest.get(i) else {
                return Err(self.error(name, "a cut-off varint", self.at));
            };
            if i == MAX_VARINT - 1 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.error(name, "a varint of more than 64 bits", self.at))
    }
}

impl<'a> Field<'a> {
    fn mismatch(&self, name: &str, wanted: &str) -> Error {
        damaged(self.path.field(name), format_args!("{:?} where {wanted} belongs,", Kind(self.value)), self.at)
    }

    /// The value of an `int32` or enum field.
    pub(super) fn int32(&self, name: &str) -> Result<i32> {
        match self.value {
            // Negative numbers are written as 64 bits; the format keeps the low half.
            #[expect(clippy::cast_possible_truncation, reason = "the format's own rule")]
            Value::Varint(n) => Ok(n as i32),
            _ => Err(self.mismatch(name, "a number")),
        }
    }

    /// The value of a `bool` field.
    pub(super) fn bool(&self, name: &str) -> Result<bool> {
        match self.value {
            Value::Varint(n) => Ok(n != 0),
            _ => Err(self.mismatch(name, "a truth value")),
        }
    }

    /// The value of a `float` field.
    pub(super) fn float(&self, name: &str) -> Result<f32> {
        match self.value {
            Value::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(self.mismatch(name, "a float")),
        }
    }

    /// The value of a `bytes` field.
    pub(super) fn bytes(&self, name: &str) -> Result<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes, _) => Ok(bytes),
            _ => Err(self.mismatch(name, "bytes")),
        }
    }

    /// The value of a `string` field.
    pub(super) fn string(&self, name: &str) -> Result<&'a str> {
        let Value::Bytes(bytes, at) = self.value else { return Err(self.mismatch(name, "a text")) };
        std::str::from_utf8(bytes).map_err(|error| {
            damaged(self.path.field(name), "a text that is not UTF-8", at.saturating_add(error.valid_up_to()))
        })
    }

    /// The fields of a message field.
    pub(super) fn message(&self, name: &str, path: Path) -> Result<Message<'a>> {
        match self.value {
            Value::Bytes(bytes, at) => Ok(Message::new(bytes, at, path)),
            _ => Err(self.mismatch(name, "a message")),
        }
    }
}

/// How an error names what it found.
struct Kind<'a>(Value<'a>);

impl fmt::Debug for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Value::Varint(_) => "a varint",
            Value::Fixed32(_) => "four bytes",
            Value::Fixed64 => "eight bytes",
            Value::Bytes(..) => "a run of bytes",
        })
    }
}
