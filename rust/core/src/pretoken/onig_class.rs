//! Oniguruma's character classes, said in the syntax of `regex-syntax`.

use crate::error::Result;
use crate::pretoken::onig_literal::{escaped, literal_escape, malformed, unsupported};

/// Deepest nesting of brackets.
const MAX_BRACKETS: usize = 32;

/// The class whose `[` is at `at`; moves behind its `]`. With `fold`, case does not count.
pub(super) fn parse(rest: &[char], at: &mut usize, fold: bool, depth: usize) -> Result<String> {
    if depth > MAX_BRACKETS {
        return Err(unsupported(&format!("nesting deeper than {MAX_BRACKETS} brackets")));
    }
    *at += 1;
    let mut out = String::from("[");
    if rest.get(*at) == Some(&'^') {
        *at += 1;
        out.push('^');
        if fold {
            return Err(unsupported("a negated class under (?i)"));
        }
    }
    let mut first = true;
    loop {
        let Some(&c) = rest.get(*at) else { return Err(malformed("premature end of a class")) };
        match c {
            ']' if !first => {
                *at += 1;
                if out.len() <= 2 || out.ends_with("&&") {
                    return Err(unsupported("an empty class"));
                }
                out.push(']');
                return Ok(if fold { format!("(?i:{out})") } else { out });
            }
            '[' if rest.get(*at + 1) == Some(&':') && posix_end(rest, *at).is_some() => {
                let end = posix_end(rest, *at).unwrap_or(*at);
                let name: String = rest[*at + 2..end].iter().collect();
                out.push_str(posix(&name, fold)?);
                *at = end + 2;
            }
            '[' => out.push_str(&parse(rest, at, fold, depth + 1)?),
            '&' if rest.get(*at + 1) == Some(&'&') => {
                if first || fold {
                    return Err(unsupported("&& without a left side or under (?i)"));
                }
                *at += 2;
                out.push_str("&&");
            }
            '\\' => match literal_escape(rest, at)? {
                Some(literal) => range(rest, at, literal, fold, &mut out)?,
                None => {
                    out.push_str(&class_escape(rest, at, fold)?);
                    if rest.get(*at) == Some(&'-') && rest.get(*at + 1).is_some_and(|&c| c != ']') {
                        return Err(unsupported("a range that starts with a class"));
                    }
                }
            },
            c => {
                *at += 1;
                range(rest, at, c, fold, &mut out)?;
            }
        }
        first = false;
    }
}

/// A character, or the range it starts.
fn range(rest: &[char], at: &mut usize, low: char, fold: bool, out: &mut String) -> Result<()> {
    let mut high = low;
    if low == '-' && rest.get(*at) == Some(&'-') && rest.get(*at + 1) != Some(&']') {
        return Err(unsupported("a range that starts with -"));
    }
    if low != '-' && rest.get(*at) == Some(&'-') {
        match rest.get(*at + 1) {
            None | Some(']') => {}
            Some('[') => return Err(unsupported("a range that ends with a class")),
            Some('&') if rest.get(*at + 2) == Some(&'&') => {}
            Some('\\') => {
                *at += 1;
                high = literal_escape(rest, at)?.ok_or_else(|| malformed("a class at the end of a range"))?;
            }
            Some(&c) => {
                *at += 2;
                high = c;
            }
        }
    }
    if high < low {
        return Err(malformed("an empty range in a class"));
    }
    if fold && !(low.is_ascii() && high.is_ascii()) {
        return Err(unsupported("a character that is not ASCII in a class under (?i)"));
    }
    out.push_str(&escaped(low));
    if high != low {
        out.push('-');
        out.push_str(&escaped(high));
    }
    Ok(())
}

/// An escape inside brackets that stands for a class.
fn class_escape(rest: &[char], at: &mut usize, fold: bool) -> Result<String> {
    let c = rest[*at + 1]; // literal_escape has seen it
    if matches!(c, 'p' | 'P') {
        return property(rest, at, fold);
    }
    *at += 2;
    Ok(match c {
        'd' => r"\d",
        'D' => r"\D",
        's' => r"\s",
        'S' => r"\S",
        'w' => r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]",
        'W' => r"[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]",
        'h' => "0-9A-Fa-f",
        'H' => "[^0-9A-Fa-f]",
        other => return Err(unsupported(&format!(r"\{other} in a class"))),
    }
    .to_owned())
}

/// Where the `:]` of the POSIX bracket at `at` is.
fn posix_end(rest: &[char], at: usize) -> Option<usize> {
    let end = rest.iter().skip(at + 2).take(12).position(|&c| c == ':')? + at + 2;
    (rest.get(end + 1) == Some(&']')).then_some(end)
}

/// A POSIX bracket.
fn posix(name: &str, fold: bool) -> Result<&'static str> {
    Ok(match name {
        "upper" | "lower" | "^upper" | "^lower" if fold => return Err(unsupported("[:upper:] under (?i)")),
        "alnum" => r"\p{Alphabetic}\p{Nd}",
        "^alnum" => r"[^\p{Alphabetic}\p{Nd}]",
        "alpha" => r"\p{Alphabetic}",
        "^alpha" => r"\P{Alphabetic}",
        "cntrl" => r"\p{Cc}",
        "^cntrl" => r"\P{Cc}",
        "digit" => r"\d",
        "^digit" => r"\D",
        "lower" => r"\p{Lowercase}",
        "^lower" => r"\P{Lowercase}",
        "punct" => r"\p{P}\p{S}",
        "^punct" => r"[^\p{P}\p{S}]",
        "space" => r"\s",
        "^space" => r"\S",
        "upper" => r"\p{Uppercase}",
        "^upper" => r"\P{Uppercase}",
        "xdigit" => "0-9A-Fa-f",
        "^xdigit" => "[^0-9A-Fa-f]",
        "word" => r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}",
        "^word" => r"[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]",
        other => return Err(unsupported(&format!("[:{other}:]"))),
    })
}

/// Names of `\p{...}` with the same members in both engines, as `regex-syntax` spells them.
///
/// Every one was compared with the wheel over all code points.
const PROPERTIES: &[(&str, &str)] = &[
    ("any", "Any"),
    ("alphabetic", "Alphabetic"),
    ("alpha", "Alphabetic"),
    ("lowercase", "Lowercase"),
    ("lower", "Lowercase"),
    ("uppercase", "Uppercase"),
    ("upper", "Uppercase"),
    ("whitespace", "White_Space"),
    ("space", "White_Space"),
    ("digit", "Nd"),
    ("punct", "P"),
    ("emoji", "Emoji"),
    ("extendedpictographic", "Extended_Pictographic"),
    ("letter", "L"),
    ("mark", "M"),
    ("number", "N"),
    ("punctuation", "P"),
    ("symbol", "S"),
    ("separator", "Z"),
    ("other", "C"),
    ("uppercaseletter", "Lu"),
    ("lowercaseletter", "Ll"),
    ("titlecaseletter", "Lt"),
    ("modifierletter", "Lm"),
    ("otherletter", "Lo"),
    ("decimalnumber", "Nd"),
];

/// General categories that may be asked for by their short names; `C` and `Cn` without surrogates, which no text holds.
const CATEGORIES: &[&str] = &[
    "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Ps", "Pe", "Pi",
    "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "C", "Cc", "Cf", "Cn", "Co",
];

/// Scripts; the same in both engines.
const SCRIPTS: &[&str] = &[
    "Arabic",
    "Armenian",
    "Bengali",
    "Bopomofo",
    "Common",
    "Cyrillic",
    "Devanagari",
    "Ethiopic",
    "Georgian",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hebrew",
    "Hiragana",
    "Inherited",
    "Kannada",
    "Katakana",
    "Khmer",
    "Lao",
    "Latin",
    "Malayalam",
    "Mongolian",
    "Myanmar",
    "Sinhala",
    "Tamil",
    "Telugu",
    "Thai",
    "Tibetan",
];

/// `\p{...}`, `\P{...}` or `\p{^...}` at `at`; moves behind it.
pub(super) fn property(rest: &[char], at: &mut usize, fold: bool) -> Result<String> {
    if fold {
        return Err(unsupported(r"\p under (?i)"));
    }
    let mut negated = rest[*at + 1] == 'P';
    if rest.get(*at + 2) != Some(&'{') {
        // Oniguruma reads `\pL` as the letters pL; nobody means that.
        return Err(unsupported(r"\p without braces"));
    }
    let mut from = *at + 3;
    if rest.get(from) == Some(&'^') {
        negated = !negated;
        from += 1;
    }
    let len = rest.iter().skip(from).take(40).position(|&c| c == '}').ok_or_else(|| malformed(r"unterminated \p{"))?;
    let name: String = rest[from..from + len].iter().collect();
    *at = from + len + 1;
    let key: String = name.chars().filter(|c| !matches!(c, ' ' | '_' | '-')).map(|c| c.to_ascii_lowercase()).collect();
    let known = PROPERTIES
        .iter()
        .find(|(spelt, _)| *spelt == key)
        .map(|(_, known)| *known)
        .or_else(|| CATEGORIES.iter().chain(SCRIPTS).copied().find(|known| known.to_ascii_lowercase() == key));
    let Some(known) = known else { return Err(unsupported(&format!(r"\p{{{name}}}"))) };
    Ok(format!(r"\{}{{{known}}}", if negated { 'P' } else { 'p' }))
}
