//! tiktoken's patterns in Oniguruma's syntax.
//!
//! tiktoken compiles patterns with fancy-regex, `tokenizers` with Oniguruma in Ruby's syntax. The two differ in what
//! `$` and `^` mean (there: the ends of the text; here: of a line), in `x{1,3}+` (there: possessive; here: one or more
//! times), and in what few patterns use. The first two are rewritten; of the rest, whatever might differ is refused.

use crate::error::{Error, Result};

/// `pattern` rewritten.
///
/// # Errors
/// [`crate::ErrorKind::Unsupported`] naming the construct that cannot be kept for certain.
pub(super) fn to_oniguruma(pattern: &str) -> Result<String> {
    Converter { rest: pattern, out: String::new(), groups: Vec::new(), atom: None }.run()
}

struct Converter<'p> {
    rest: &'p str,
    out: String,
    /// Where each open group starts in `out`.
    groups: Vec<usize>,
    /// Where the atom that a quantifier would apply to starts in `out`.
    atom: Option<usize>,
}

fn refuse<T>(what: &str) -> Result<T> {
    Err(Error::unsupported(
        "pre_tokenizer.pattern",
        format!("{what}, which Oniguruma may read differently"),
        "rewrite the pattern",
    ))
}

/// Pairs of letters that some one character folds to: `ß`, and the ligatures of `ff`, `fi`, `fl` and `st`.
const FOLDED_PAIRS: [&str; 5] = ["ss", "ff", "fi", "fl", "st"];

impl Converter<'_> {
    fn run(mut self) -> Result<String> {
        while let Some(c) = self.rest.chars().next() {
            let start = self.out.len();
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => {
                    self.group()?;
                    continue;
                }
                ')' => {
                    let Some(opened) = self.groups.pop() else { return refuse("a `)` without its `(`") };
                    self.take(1);
                    self.atom = Some(opened);
                    continue;
                }
                '|' => {
                    self.take(1);
                    self.atom = None;
                    continue;
                }
                '$' | '^' => {
                    self.rest = &self.rest[1..];
                    self.out.push_str(if c == '$' { r"\z" } else { r"\A" });
                    self.atom = None;
                    continue;
                }
                '*' | '+' | '?' => {
                    self.simple_quantifier()?;
                    continue;
                }
                '{' => {
                    self.interval()?;
                    continue;
                }
                ']' | '}' => {
                    self.out.push('\\');
                    self.take(1);
                }
                c => self.take(c.len_utf8()),
            }
            self.atom = Some(start);
        }
        if !self.groups.is_empty() {
            return refuse("a `(` without its `)`");
        }
        Ok(self.out)
    }

    /// Copies `len` bytes.
    fn take(&mut self, len: usize) {
        self.out.push_str(&self.rest[..len]);
        self.rest = &self.rest[len..];
    }

    /// An escape; the same inside and outside a class.
    fn escape(&mut self) -> Result<()> {
        let Some(kind) = self.rest[1..].chars().next() else { return refuse("a backslash at the end") };
        match kind {
            'p' | 'P' => {
                let end = self.rest.find('}').unwrap_or(0);
                let name = self.rest.get(3..end).unwrap_or("");
                // General categories, the one kind of name that both know alike.
                let category = matches!(name.len(), 1 | 2)
                    && name.starts_with(['L', 'M', 'N', 'P', 'S', 'Z', 'C'])
                    && name.bytes().all(|b| b.is_ascii_alphabetic());
                if !self.rest[2..].starts_with('{') || !category {
                    return refuse(&format!("the property \\{kind}{{{name}}}"));
                }
                self.take(end + 1);
                Ok(())
            }
            's' | 'S' | 'd' | 'D' | 'r' | 'n' | 't' => {
                self.take(2);
                Ok(())
            }
            c if c.is_ascii_punctuation() => {
                self.take(2);
                Ok(())
            }
            c => refuse(&format!("the escape \\{c}")),
        }
    }

    fn class(&mut self) -> Result<()> {
        self.take(1);
        if self.rest.starts_with('^') {
            self.take(1);
        }
        if self.rest.starts_with(']') {
            return refuse("a class that starts with `]`");
        }
        loop {
            match self.rest.chars().next() {
                None => return refuse("a class without its `]`"),
                Some(']') => {
                    self.take(1);
                    return Ok(());
                }
                Some('[') => return refuse("a class inside a class"),
                Some('\\') => self.escape()?,
                Some(c) => {
                    if ["&&", "--", "~~"].iter().any(|op| self.rest.starts_with(op)) {
                        return refuse("a set operation in a class");
                    }
                    self.take(c.len_utf8());
                }
            }
        }
    }

    fn group(&mut self) -> Result<()> {
        let opened = self.out.len();
        let kinds = ["(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"];
        if let Some(kind) = kinds.iter().find(|kind| self.rest.starts_with(**kind)) {
            if *kind == "(?i:" {
                self.check_case_folding()?;
            }
            self.take(kind.len());
        } else if self.rest.starts_with("(?") {
            return refuse("a flag or named group");
        } else {
            self.take(1);
        }
        self.groups.push(opened);
        self.atom = None;
        Ok(())
    }

    /// Oniguruma also folds one character to two (`ß` to `ss`): refused where the group could meet one.
    fn check_case_folding(&self) -> Result<()> {
        let end = self.rest.find(')').unwrap_or(self.rest.len());
        let body = self.rest[4..end].to_ascii_lowercase();
        let plain = body.is_ascii() && !body.contains(['(', '\\', '*', '+', '?', '{']);
        let whole = body.matches('[').count() == body.matches(']').count();
        if !plain || !whole || FOLDED_PAIRS.iter().any(|pair| body.contains(pair)) {
            return refuse("case folding of more than ASCII letters");
        }
        Ok(())
    }

    fn simple_quantifier(&mut self) -> Result<()> {
        if self.atom.take().is_none() {
            return refuse("a quantifier of nothing or of a quantifier");
        }
        self.take(1);
        if self.rest.starts_with(['+', '?']) {
            self.take(1);
        }
        Ok(())
    }

    fn interval(&mut self) -> Result<()> {
        let end = self.rest.find('}').unwrap_or(0);
        let bounds = self.rest.get(1..end).unwrap_or("");
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let fixed = digits(bounds);
        let ranged = bounds.split_once(',').is_some_and(|(low, high)| digits(low) && (high.is_empty() || digits(high)));
        if !fixed && !ranged {
            return refuse("a `{` that opens no interval");
        }
        let Some(atom) = self.atom.take() else { return refuse("a quantifier of nothing or of a quantifier") };
        self.take(end + 1);
        if self.rest.starts_with('+') {
            self.rest = &self.rest[1..];
            self.out.insert_str(atom, "(?>");
            self.out.push(')');
        } else if self.rest.starts_with('?') {
            if fixed {
                return refuse("a lazy interval of one length");
            }
            self.take(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_rewritten() {
        for (tiktoken, oniguruma) in [
            (r"\p{N}{1,3}+|\s++$", r"(?>\p{N}{1,3})|\s++\z"),
            (r"(?:ab|c){2}+d", r"(?>(?:ab|c){2})d"),
            (r"^[^\r\n]*+", r"\A[^\r\n]*+"),
            (r"'(?i:[sdmt]|ll|ve|re)", r"'(?i:[sdmt]|ll|ve|re)"),
            (r"a{2,}?", r"a{2,}?"),
            ("a]}", r"a\]\}"),
        ] {
            assert_eq!(to_oniguruma(tiktoken).as_deref(), Ok(oniguruma), "{tiktoken}");
        }
    }

    #[test]
    fn what_might_differ_is_refused() {
        for pattern in [
            r"\w+",
            r"\bx",
            r"(?i)x",
            r"(?m:^x)",
            r"(?i:ss)",
            r"(?i:é)",
            r"(?i:s+)",
            r"(?i:(s)ss)",
            r"(?i:[)]ss)",
            r"[a&&b]",
            r"[[:alpha:]]",
            r"[]a]",
            r"x{2}?",
            r"x{,2}",
            r"{",
            r"x**",
            r"+",
            r"(",
            r")",
            r"\p{Han}",
            r"\pL",
            r"\x41",
            r"(?<n>x)",
            r"\",
            r"[a",
        ] {
            assert!(to_oniguruma(pattern).is_err(), "{pattern}");
        }
    }
}
