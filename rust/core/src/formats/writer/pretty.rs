//! JSON with two spaces of indentation and keys in the order they are given, as `tokenizers` saves it.

use serde_json::Value;

/// A small JSON document that keeps the order of its keys.
#[derive(Clone, Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// A number, spelt.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<char> for Json {
    fn from(value: char) -> Self {
        Self::Text(value.to_string())
    }
}

impl From<usize> for Json {
    fn from(value: usize) -> Self {
        Self::Number(value.to_string())
    }
}

impl From<u32> for Json {
    fn from(value: u32) -> Self {
        Self::Number(value.to_string())
    }
}

impl Json {
    /// An object with these keys in this order.
    pub(super) fn object<const N: usize>(entries: [(&str, Json); N]) -> Self {
        Self::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// A component: its `type`, then its fields.
    pub(super) fn component<const N: usize>(kind: &str, fields: [(&str, Json); N]) -> Self {
        let mut entries = vec![("type".to_owned(), Self::from(kind))];
        entries.extend(fields.into_iter().map(|(key, value)| (key.to_owned(), value)));
        Self::Object(entries)
    }

    /// A value of `serde_json`, the keys of its objects in the order of `order`, then by name.
    pub(super) fn ordered(value: &Value, order: &[&str]) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => Self::Number(n.to_string()),
            Value::String(s) => Self::Text(s.clone()),
            Value::Array(items) => Self::List(items.iter().map(|item| Self::ordered(item, order)).collect()),
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort_by_key(|key| (order.iter().position(|o| o == key).unwrap_or(order.len()), key.as_str()));
                Self::Object(keys.into_iter().map(|key| (key.clone(), Self::ordered(&map[key], order))).collect())
            }
        }
    }
}

/// A document in the making.
#[derive(Default)]
pub(super) struct Pretty {
    out: Vec<u8>,
    depth: usize,
    /// Whether the open list or object has a member already.
    filled: Vec<bool>,
}

impl Pretty {
    /// Opens a list or object.
    pub(super) fn open(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.depth += 1;
        self.filled.push(false);
    }

    /// Closes it.
    pub(super) fn close(&mut self, bracket: u8) {
        self.depth -= 1;
        if self.filled.pop().unwrap_or(false) {
            self.line();
        }
        self.out.push(bracket);
    }

    fn line(&mut self) {
        self.out.push(b'\n');
        for _ in 0..self.depth {
            self.out.extend_from_slice(b"  ");
        }
    }

    /// Starts the next member of a list.
    pub(super) fn item(&mut self) {
        if let Some(filled) = self.filled.last_mut() {
            if *filled {
                self.out.push(b',');
            }
            *filled = true;
        }
        self.line();
    }

    /// Starts the next member of an object.
    pub(super) fn key(&mut self, key: &str) {
        self.item();
        self.text(key);
        self.out.extend_from_slice(b": ");
    }

    /// A string.
    pub(super) fn text(&mut self, text: &str) {
        self.out.push(b'"');
        let mut plain = 0;
        for (at, byte) in text.bytes().enumerate() {
            let short = match byte {
                b'"' => b'"',
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x08 => b'b',
                0x0C => b'f',
                0..=0x1F => b'u',
                _ => continue,
            };
            self.out.extend_from_slice(&text.as_bytes()[plain..at]);
            plain = at + 1;
            self.out.extend_from_slice(&[b'\\', short]);
            if short == b'u' {
                self.out.extend_from_slice(format!("{byte:04x}").as_bytes());
            }
        }
        self.out.extend_from_slice(&text.as_bytes()[plain..]);
        self.out.push(b'"');
    }

    /// A number or keyword, spelt.
    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A small document.
    pub(super) fn json(&mut self, json: &Json) {
        match json {
            Json::Null => self.raw("null"),
            Json::Bool(true) => self.raw("true"),
            Json::Bool(false) => self.raw("false"),
            Json::Number(n) => self.raw(n),
            Json::Text(s) => self.text(s),
            Json::List(items) => {
                self.open(b'[');
                for item in items {
                    self.item();
                    self.json(item);
                }
                self.close(b']');
            }
            Json::Object(entries) => {
                self.open(b'{');
                for (key, value) in entries {
                    self.key(key);
                    self.json(value);
                }
                self.close(b'}');
            }
        }
    }

    /// The bytes.
    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }
}
