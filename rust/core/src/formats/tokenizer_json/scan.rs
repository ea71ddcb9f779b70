//! A strict pull scanner over JSON bytes: no recursion without a bound, no value built that nobody asked for.
//!
//! A string without escapes is a slice of the file. Strings are checked to be UTF-8, except by
//! [`Scanner::raw_string`], whose caller looks them up among strings that were.

use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};

use super::number;

/// Depth that no `Limits.depth` can raise: the scanner recurses once for each level.
const DEPTH_BOUND: usize = 512;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const SPACES: u64 = 0x2020_2020_2020_2020;

/// A position in a JSON document.
pub(super) struct Scanner<'a> {
    data: &'a [u8],
    pos: usize,
    /// What an error is about while the caller reads one large field.
    pub(super) field: &'static str,
    depth_limit: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of `data`.
    pub(super) fn new(data: &'a [u8], depth_limit: usize) -> Self {
        Self { data, pos: 0, field: "tokenizer.json", depth_limit: depth_limit.min(DEPTH_BOUND) }
    }

    /// The byte offset.
    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// Goes back to an offset taken earlier.
    pub(super) fn rewind(&mut self, pos: usize) {
        self.pos = pos;
    }

    /// An error at the present offset.
    #[cold]
    pub(super) fn error(&self, found: &str) -> Error {
        if self.pos >= self.data.len() {
            return Error::format(
                self.field,
                format!("the file ends at byte {}: {found}", self.data.len()),
                "the file is cut off: fetch it again",
            );
        }
        Error::format(self.field, format!("at byte {}: {found}", self.pos), "the file is not valid JSON there")
    }

    /// The next byte that is no white space, without taking it; 0 at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> u8 {
        match self.data.get(self.pos) {
            Some(&b) if b > b' ' => b,
            _ => self.peek_slow(),
        }
    }

    fn peek_slow(&mut self) -> u8 {
        while let Some(&b) = self.data.get(self.pos) {
            match b {
                b' ' => {
                    self.pos += 1;
                    while let Some(chunk) = self.data[self.pos..].first_chunk::<8>() {
                        if u64::from_le_bytes(*chunk) != SPACES {
                            break;
                        }
                        self.pos += 8;
                    }
                }
                b'\n' | b'\r' | b'\t' => self.pos += 1,
                _ => return b,
            }
        }
        0
    }

    /// Takes `byte`, after white space.
    #[inline]
    pub(super) fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        if self.peek() == byte && self.pos < self.data.len() {
            self.pos += 1;
            return Ok(());
        }
        Err(self.error(what))
    }

    /// After an element of an array or object: whether another follows. `close` is `]` or `}`.
    #[inline]
    pub(super) fn another(&mut self, close: u8) -> Result<bool> {
        match self.peek() {
            b',' => {
                self.pos += 1;
                Ok(true)
            }
            b if b == close => {
                self.pos += 1;
                Ok(false)
            }
            _ => Err(self.error(if close == b']' { "expected `,` or `]`" } else { "expected `,` or `}`" })),
        }
    }

    /// Takes the opening bracket and says whether an element follows.
    #[inline]
    pub(super) fn open(&mut self, open: u8, close: u8) -> Result<bool> {
        self.expect(open, if open == b'[' { "expected an array" } else { "expected an object" })?;
        if self.peek() == close && self.pos < self.data.len() {
            self.pos += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes a string: a slice of the file, or of `scratch` where it has escapes.
    pub(super) fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8]>
    where
        'a: 's,
    {
        self.peek();
        let start = self.pos;
        let text = self.raw_string(scratch)?;
        self.check_utf8(text, start)?;
        Ok(text)
    }

    /// Takes a string that may be any bytes between its quotes.
    #[inline]
    pub(super) fn raw_string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8]>
    where
        'a: 's,
    {
        self.expect(b'"', "expected a string")?;
        let start = self.pos;
        let end = self.plain_end(start);
        if self.data.get(end) == Some(&b'"') {
            self.pos = end + 1;
            return Ok(&self.data[start..end]);
        }
        scratch.clear();
        self.string_slow(start, scratch)?;
        Ok(scratch)
    }

    /// Takes a string and appends it to `out`.
    #[inline]
    pub(super) fn string_into(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.expect(b'"', "expected a string")?;
        let start = self.pos;
        let before = out.len();
        let end = self.plain_end(start);
        if self.data.get(end) == Some(&b'"') {
            self.pos = end + 1;
            out.extend_from_slice(&self.data[start..end]);
        } else {
            self.string_slow(start, out)?;
        }
        self.check_utf8(&out[before..], start)
    }

    /// Takes a string as text.
    pub(super) fn text(&mut self) -> Result<String> {
        let mut out = Vec::new();
        self.string_into(&mut out)?;
        Ok(String::from_utf8(out).expect("just checked"))
    }

    #[inline]
    fn check_utf8(&self, text: &[u8], start: usize) -> Result<()> {
        if text.is_ascii() || std::str::from_utf8(text).is_ok() {
            return Ok(());
        }
        Err(Error::format(
            self.field,
            format!("the string at byte {start} is not UTF-8"),
            "the file is damaged: fetch it again",
        ))
    }

    /// Where the run of bytes that stand for themselves ends: at a quote, a backslash, a control byte or the end.
    #[inline]
    fn plain_end(&self, start: usize) -> usize {
        let mut at = start;
        while let Some(chunk) = self.data[at..].first_chunk::<8>() {
            let x = u64::from_le_bytes(*chunk);
            let quote = x ^ (ONES * 0x22);
            let slash = x ^ (ONES * 0x5C);
            // The lowest set bit is exact in each term: a borrow starts only at a byte that matches.
            let stop = ((quote.wrapping_sub(ONES) & !quote)
                | (slash.wrapping_sub(ONES) & !slash)
                | (x.wrapping_sub(SPACES) & !x))
                & HIGHS;
            if stop != 0 {
                return at + stop.trailing_zeros() as usize / 8;
            }
            at += 8;
        }
        while self.data.get(at).is_some_and(|&b| b >= 0x20 && b != b'"' && b != b'\\') {
            at += 1;
        }
        at
    }

    fn string_slow(&mut self, start: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut from = start;
        loop {
            let end = self.plain_end(from);
            out.extend_from_slice(&self.data[from..end]);
            self.pos = end;
            match self.data.get(end) {
                Some(b'"') => {
                    self.pos = end + 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.pos = end + 1;
                    let c = self.escape()?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    from = self.pos;
                }
                Some(_) => return Err(self.error("a control character inside a string")),
                None => return Err(self.error("inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let Some(&b) = self.data.get(self.pos) else { return Err(self.error("inside an escape")) };
        let simple = match b {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.pos += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.error("an escape that JSON does not have")),
        };
        self.pos += 1;
        Ok(simple)
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let first = self.hex4()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        if first < 0xDC00 && self.data[self.pos..].starts_with(b"\\u") {
            self.pos += 2;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(code).expect("a pair of surrogates spells a character"));
            }
        }
        Err(self.error("a lone surrogate escape, which is no character"))
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.data.get(self.pos).and_then(|&b| char::from(b).to_digit(16));
            let Some(digit) = digit else { return Err(self.error("expected four hexadecimal digits")) };
            code = code * 16 + digit;
            self.pos += 1;
        }
        Ok(code)
    }

    /// Takes an unsigned integer below 2^32 - 1; `Ok(None)` leaves the scanner at something else.
    #[inline]
    pub(super) fn small_integer(&mut self) -> Option<u32> {
        let first = self.peek();
        if !first.is_ascii_digit() {
            return None;
        }
        let mut at = self.pos;
        let mut value: u64 = 0;
        while let Some(digit) = self.data.get(at).map(|b| b.wrapping_sub(b'0')).filter(|&d| d < 10) {
            value = value * 10 + u64::from(digit);
            at += 1;
            if value >= u64::from(u32::MAX) {
                return None;
            }
        }
        let leading_zero = first == b'0' && at > self.pos + 1;
        if leading_zero || matches!(self.data.get(at), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        self.pos = at;
        Some(u32::try_from(value).expect("checked against u32::MAX"))
    }

    /// The text of the scalar that starts here, cut short, for an error message.
    pub(super) fn glimpse(&mut self) -> String {
        self.peek();
        let rest = &self.data[self.pos..];
        let end = rest.iter().position(|b| matches!(b, b',' | b'}' | b']' | b'\n')).unwrap_or(rest.len()).min(40);
        String::from_utf8_lossy(&rest[..end]).into_owned()
    }

    /// Takes a number as `tokenizers` reads it (see [`number`]).
    #[inline]
    pub(super) fn float(&mut self) -> Result<f64> {
        self.peek();
        match number::parse(&self.data[self.pos..]) {
            Ok((value, len)) => {
                self.pos += len;
                Ok(value)
            }
            Err((found, at)) => {
                self.pos += at;
                Err(self.error(found))
            }
        }
    }

    /// Takes any value and builds it; duplicate keys are an error. `depth` is how deep the value stands.
    pub(super) fn value(&mut self, depth: usize) -> Result<Value> {
        match self.peek() {
            b'{' => {
                self.check_depth(depth)?;
                let mut map = Map::new();
                let mut more = self.open(b'{', b'}')?;
                while more {
                    let key = self.text()?;
                    self.expect(b':', "expected `:`")?;
                    let value = self.value(depth + 1)?;
                    if map.contains_key(&key) {
                        return Err(Error::format(
                            self.field,
                            format!("at byte {}: the key {key:?} is there twice", self.pos),
                            "keep one of them",
                        ));
                    }
                    map.insert(key, value);
                    more = self.another(b'}')?;
                }
                Ok(Value::Object(map))
            }
            b'[' => {
                self.check_depth(depth)?;
                let mut items = Vec::new();
                let mut more = self.open(b'[', b']')?;
                while more {
                    items.push(self.value(depth + 1)?);
                    more = self.another(b']')?;
                }
                Ok(Value::Array(items))
            }
            b'"' => Ok(Value::String(self.text()?)),
            b'-' | b'0'..=b'9' => {
                let start = self.pos;
                let float = self.float()?;
                let text = std::str::from_utf8(&self.data[start..self.pos]).unwrap_or("");
                let whole = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
                match whole.ok().or_else(|| Number::from_f64(float)) {
                    Some(n) => Ok(Value::Number(n)),
                    None => Err(self.error("a number out of range")),
                }
            }
            _ => self.keyword(),
        }
    }

    fn keyword(&mut self) -> Result<Value> {
        let rest = &self.data[self.pos..];
        for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
            if rest.starts_with(word.as_bytes()) {
                self.pos += word.len();
                return Ok(value);
            }
        }
        if [&b"null"[..], b"true", b"false"].iter().any(|word| !rest.is_empty() && word.starts_with(rest)) {
            self.pos = self.data.len();
        }
        Err(self.error("expected a value"))
    }

    /// Takes any value and drops it; the grammar and the depth are checked all the same.
    pub(super) fn skip(&mut self, depth: usize) -> Result<()> {
        match self.peek() {
            b'{' => {
                self.check_depth(depth)?;
                let mut more = self.open(b'{', b'}')?;
                while more {
                    self.skip_string()?;
                    self.expect(b':', "expected `:`")?;
                    self.skip(depth + 1)?;
                    more = self.another(b'}')?;
                }
                Ok(())
            }
            b'[' => {
                self.check_depth(depth)?;
                let mut more = self.open(b'[', b']')?;
                while more {
                    self.skip(depth + 1)?;
                    more = self.another(b']')?;
                }
                Ok(())
            }
            b'"' => self.skip_string(),
            b'-' | b'0'..=b'9' => self.float().map(|_| ()),
            _ => self.keyword().map(|_| ()),
        }
    }

    fn skip_string(&mut self) -> Result<()> {
        let mut scratch = Vec::new();
        self.string(&mut scratch).map(|_| ())
    }

    fn check_depth(&self, depth: usize) -> Result<()> {
        if depth >= self.depth_limit {
            let field = format!("{} at byte {}", self.field, self.pos);
            return Err(Error::limit(field, depth + 1, self.depth_limit, "depth"));
        }
        Ok(())
    }

    /// That nothing but white space is left.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.peek();
        if self.pos < self.data.len() {
            return Err(self.error("something follows the end of the document"));
        }
        Ok(())
    }
}
