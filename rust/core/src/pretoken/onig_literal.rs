//! Single characters in Oniguruma's syntax: what an escape stands for, and how a character is written.

use crate::error::{Error, Result};

pub(super) fn unsupported(what: &str) -> Error {
    Error::unsupported("pattern", format!("{what} has no exact counterpart here"), "write the pattern without it")
}

pub(super) fn malformed(what: impl Into<String>) -> Error {
    Error::format("pattern", what, "")
}

/// A character that no engine reads as syntax.
pub(super) fn escaped(c: char) -> String {
    if c.is_ascii_alphanumeric() || !c.is_ascii() { c.to_string() } else { format!(r"\x{{{:X}}}", u32::from(c)) }
}

/// The character that an escape at `at` stands for, if it stands for one; moves behind it.
pub(super) fn literal_escape(rest: &[char], at: &mut usize) -> Result<Option<char>> {
    let Some(&c) = rest.get(*at + 1) else { return Err(malformed("end of pattern at \\")) };
    let hex = |from: usize, most: usize| -> (u32, usize) {
        let digits = rest.iter().skip(from).take(most).take_while(|c| c.is_ascii_hexdigit()).count();
        let value =
            rest[from.min(rest.len())..][..digits].iter().fold(0u32, |v, c| v * 16 + c.to_digit(16).unwrap_or(0));
        (value, digits)
    };
    let from_number = |value: u32| char::from_u32(value).ok_or_else(|| malformed("a code point out of range"));
    let (found, len) = match c {
        't' => ('\t', 2),
        'n' => ('\n', 2),
        'r' => ('\r', 2),
        'f' => ('\x0C', 2),
        'v' => ('\x0B', 2),
        'a' => ('\x07', 2),
        'e' => ('\x1B', 2),
        'x' if rest.get(*at + 2) == Some(&'{') => {
            let (value, digits) = hex(*at + 3, 7);
            if digits == 0 || rest.get(*at + 3 + digits) != Some(&'}') {
                return Err(malformed(r"unterminated \x{"));
            }
            (from_number(value)?, digits + 4)
        }
        'x' => {
            let (value, digits) = hex(*at + 2, 2);
            if digits == 0 || value > 0x7F {
                return Err(unsupported(r"\x with a byte that is no character"));
            }
            (from_number(value)?, digits + 2)
        }
        'u' => {
            let (value, digits) = hex(*at + 2, 4);
            if digits != 4 {
                return Err(malformed(r"\u with fewer than four digits"));
            }
            (from_number(value)?, 6)
        }
        '0' if !rest.get(*at + 2).is_some_and(char::is_ascii_digit) => ('\0', 2),
        c if c.is_ascii_alphanumeric() => return Ok(None),
        c if c.is_ascii() => (c, 2),
        _ => return Err(unsupported("an escaped character that is not ASCII")),
    };
    *at += len;
    Ok(Some(found))
}
