//! Typed access to a small component, with the path of every field in the errors.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A wrong type at `path`.
pub(super) fn wrong(path: &str, value: &Value, wanted: &str) -> Error {
    Error::format(path, format!("{} where {wanted} belongs", kind(value)), "")
}

/// The fields of one component object.
pub(super) struct Fields<'a> {
    /// The object's path.
    pub(super) path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// `value` as an object.
    pub(super) fn new(path: &str, value: &'a Value) -> Result<Self> {
        match value {
            Value::Object(map) => Ok(Self { path: path.to_owned(), map }),
            other => Err(wrong(path, other, "an object")),
        }
    }

    /// The component's `type`.
    pub(super) fn component(&self) -> Result<&'a str> {
        self.str("type")
    }

    /// The path of a field.
    pub(super) fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// A field that may be missing.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    /// A field that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&'a Value> {
        self.map.get(name).ok_or_else(|| Error::format(self.at(name), "the field is missing", ""))
    }

    /// A string.
    pub(super) fn str(&self, name: &str) -> Result<&'a str> {
        match self.required(name)? {
            Value::String(s) => Ok(s),
            other => Err(wrong(&self.at(name), other, "a string")),
        }
    }

    /// A boolean.
    pub(super) fn bool(&self, name: &str) -> Result<bool> {
        match self.required(name)? {
            Value::Bool(b) => Ok(*b),
            other => Err(wrong(&self.at(name), other, "a boolean")),
        }
    }

    /// A boolean that may be missing or null.
    pub(super) fn optional_bool(&self, name: &str) -> Result<Option<bool>> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(other) => Err(wrong(&self.at(name), other, "a boolean")),
        }
    }

    /// A string that may be missing or null.
    pub(super) fn optional_str(&self, name: &str) -> Result<Option<&'a str>> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(other) => Err(wrong(&self.at(name), other, "a string")),
        }
    }

    /// An unsigned integer.
    pub(super) fn size(&self, name: &str) -> Result<usize> {
        let value = self.required(name)?;
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| self.bad_number(name, value, "an unsigned integer"))
    }

    fn bad_number(&self, name: &str, value: &Value, wanted: &str) -> Error {
        match value {
            Value::Number(n) => Error::format(self.at(name), format!("{n} is not {wanted}"), ""),
            other => wrong(&self.at(name), other, wanted),
        }
    }

    /// One character.
    pub(super) fn char(&self, name: &str) -> Result<char> {
        let text = self.str(name)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(Error::format(self.at(name), format!("{text:?} where one character belongs"), "")),
        }
    }

    /// An array.
    pub(super) fn array(&self, name: &str) -> Result<&'a [Value]> {
        match self.required(name)? {
            Value::Array(items) => Ok(items),
            other => Err(wrong(&self.at(name), other, "an array")),
        }
    }

    /// Refuses a field that is none of `known` and switches something on: it might change ids.
    ///
    /// `null`, `false`, `0`, `""`, `[]` and `{}` pass: a later version wrote down that it does not use a feature.
    pub(super) fn only(&self, known: &[&str]) -> Result<()> {
        for (name, value) in self.map {
            if name == "type" || known.contains(&name.as_str()) || is_off(value) {
                continue;
            }
            return Err(Error::unsupported(
                self.at(name),
                "an unknown field of this component, which might change ids",
                "remove the field if it has no effect",
            ));
        }
        Ok(())
    }
}

/// Whether a value stands for "not used".
pub(super) fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

/// A token id: an integer below `2^32 - 1`.
pub(super) fn as_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|&id| id != crate::ids::NO_TOKEN)
}
