//! Oniguruma's syntax, said in that of `regex-syntax` and fancy-regex.
//!
//! `tokenizers` compiles patterns with Oniguruma's default syntax. It differs from the Rust engines in what is written
//! alike (`(?m)`, `^`, `{1,3}+`, `\w`, `[[:punct:]]`, `\h`) and in what is written otherwise (`\p{^L}`, `{,3}`).
//! [`translate`] rewrites the first kind and the second; what has no exact counterpart is refused by name. The facts
//! were measured with the wheel, which is built with Oniguruma 6.9.

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pretoken::onig_class;
use crate::pretoken::onig_literal::{escaped, literal_escape, malformed, unsupported};

/// What `\w` is outside brackets: the table that Oniguruma asks for Latin-1 also holds the six digits above `\x7F`.
pub(super) const WORD: &str = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE}]";
const NOT_WORD: &str = r"[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE}]";

/// Deepest nesting of groups; fancy-regex's parser takes 64.
const MAX_GROUPS: usize = 50;

/// Most nodes of a pattern once its counted repetitions are written out.
const MAX_NODES: usize = 1 << 20;

/// A translated pattern: its alternatives at the top, in order.
#[derive(Debug)]
pub(super) struct Translation {
    pub(super) alternatives: Vec<Alternative>,
}

/// One alternative at the top of a pattern.
#[derive(Debug)]
pub(super) enum Alternative {
    /// For `regex-automata`.
    Plain(String),
    /// Has look-around, a back-reference, an atomic group or a possessive repetition: for fancy-regex.
    Fancy(String),
    /// `\s+(?!\S)`.
    SpacesBeforeSpace,
    /// ` +(?!\S)`.
    BlanksBeforeSpace,
}

impl Alternative {
    /// The alternative in fancy-regex's syntax.
    pub(super) fn fancy(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Fancy(text) => text,
            Self::SpacesBeforeSpace => r"\s+(?!\S)",
            Self::BlanksBeforeSpace => r"\x{20}+(?!\S)",
        }
    }
}

/// Translates a pattern.
///
/// # Errors
/// `Format` for what Oniguruma refuses too, `Unsupported` for what cannot be said exactly, `Limit` for repetitions that
/// multiply beyond bounds.
pub(super) fn translate(pattern: &str, limits: &Limits) -> Result<Translation> {
    let mut parser = Parser {
        rest: pattern.chars().collect(),
        at: 0,
        out: String::with_capacity(pattern.len() * 2),
        fancy: false,
        named: false,
        groups: 0,
        fold: Vec::new(),
        nodes: 0,
        max_nodes: MAX_NODES.min(limits.regex_bytes),
    };
    let mut alternatives = Vec::new();
    let mut modes = Modes::default();
    loop {
        parser.out.clear();
        parser.fancy = false;
        parser.sequence(&mut modes, 0)?;
        let text = std::mem::take(&mut parser.out);
        alternatives.push(match text.as_str() {
            r"\s+(?!\S)" => Alternative::SpacesBeforeSpace,
            r"\x{20}+(?!\S)" => Alternative::BlanksBeforeSpace,
            _ if parser.fancy => Alternative::Fancy(text),
            _ => Alternative::Plain(text),
        });
        match parser.peek() {
            Some('|') => parser.at += 1,
            Some(_) => return Err(malformed("unmatched )")),
            None => return Ok(Translation { alternatives }),
        }
    }
}

/// The options in force.
#[derive(Clone, Copy, Default)]
struct Modes {
    fold: bool,
    dot_all: bool,
    extended: bool,
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    out: String,
    fancy: bool,
    named: bool,
    groups: usize,
    /// Neighbouring letters under case folding, for the folds that join them.
    fold: Vec<char>,
    nodes: usize,
    max_nodes: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.rest.get(self.at + i) == Some(&c))
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.looking_at(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn count(&mut self, nodes: usize) -> Result<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.max_nodes {
            return Err(Error::limit("pattern", self.nodes, self.max_nodes, "regex_bytes"));
        }
        Ok(())
    }

    /// One alternative: up to `|`, `)` or the end, which stay.
    fn sequence(&mut self, modes: &mut Modes, depth: usize) -> Result<()> {
        if depth > MAX_GROUPS {
            return Err(unsupported(&format!("nesting deeper than {MAX_GROUPS} groups")));
        }
        let start = self.at;
        self.fold.clear();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            if modes.extended && c.is_ascii_whitespace() {
                self.at += 1;
                continue;
            }
            if modes.extended && c == '#' {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
                continue;
            }
            if self.eat("(?#") {
                while self.peek().is_some_and(|c| c != ')') {
                    self.at += if self.peek() == Some('\\') { 2 } else { 1 };
                }
                if !self.eat(")") {
                    return Err(malformed("unterminated comment"));
                }
                continue;
            }
            let nodes = self.nodes;
            let from = self.out.len();
            if !self.atom(modes, depth, start)? {
                continue;
            }
            self.count(1)?;
            self.repetitions(modes, from, nodes)?;
        }
        Ok(())
    }

    /// One thing that may be repeated; `false` for an option setting, which may not.
    fn atom(&mut self, modes: &mut Modes, depth: usize, start: usize) -> Result<bool> {
        let Some(c) = self.peek() else { return Ok(false) };
        if c != '\\' && !c.is_alphabetic() {
            self.fold.clear();
        }
        match c {
            '(' => return self.group(modes, depth, start),
            '[' => {
                let class = onig_class::parse(&self.rest, &mut self.at, modes.fold, 0)?;
                self.out.push_str(&class);
            }
            '.' => {
                self.at += 1;
                self.out.push_str(if modes.dot_all { "(?s:.)" } else { r"[^\n]" });
            }
            '^' => {
                // Not behind a line end that ends the text.
                self.at += 1;
                self.fancy = true;
                self.out.push_str(r"(?:\A|(?m:^)(?!\z))");
            }
            '$' => {
                self.at += 1;
                self.out.push_str("(?m:$)");
            }
            '\\' => self.escape(modes)?,
            '*' | '+' | '?' => return Err(malformed("a repetition of nothing")),
            '{' if interval(&self.rest[self.at..]).is_some() => {
                return Err(malformed("a repetition of nothing"));
            }
            c => {
                self.at += 1;
                self.literal(c, modes)?;
            }
        }
        Ok(true)
    }

    fn literal(&mut self, c: char, modes: &Modes) -> Result<()> {
        if !modes.fold {
            self.out.push_str(&escaped(c));
            return Ok(());
        }
        if !c.is_ascii() {
            return Err(unsupported("a letter that is not ASCII under (?i)"));
        }
        self.fold.push(c.to_ascii_lowercase());
        // Oniguruma folds these pairs to one character too: (?i:ss) matches U+00DF.
        if let [.., a, b] = self.fold.as_slice()
            && matches!((a, b), ('s', 's') | ('s', 't') | ('f', 'f' | 'i' | 'l'))
        {
            return Err(unsupported(&format!("{a}{b} under (?i)")));
        }
        self.out.push_str("(?i:");
        self.out.push_str(&escaped(c));
        self.out.push(')');
        Ok(())
    }

    fn escape(&mut self, modes: &Modes) -> Result<()> {
        let Some(&c) = self.rest.get(self.at + 1) else { return Err(malformed("end of pattern at \\")) };
        if let Some(literal) = literal_escape(&self.rest, &mut self.at)? {
            if !literal.is_ascii_alphabetic() {
                self.fold.clear();
            }
            return self.literal(literal, modes);
        }
        self.fold.clear();
        if matches!(c, 'p' | 'P') {
            let property = onig_class::property(&self.rest, &mut self.at, modes.fold)?;
            self.out.push_str(&property);
            return Ok(());
        }
        self.at += 2;
        let text = match c {
            'd' => r"\d",
            'D' => r"\D",
            's' => r"\s",
            'S' => r"\S",
            'w' => WORD,
            'W' => NOT_WORD,
            'h' => "[0-9A-Fa-f]",
            'H' => "[^0-9A-Fa-f]",
            'N' => r"[^\n]",
            'O' => "(?s:.)",
            'A' => r"\A",
            'z' => r"\z",
            'Z' => r"(?=\n?\z)",
            'R' => r"(?>\r\n|[\n-\r\x{85}\x{2028}\x{2029}])",
            'b' | 'B' => {
                self.fancy = true;
                let (same, other) = if c == 'b' { ("!", "=") } else { ("=", "!") };
                self.out.push_str(&format!("(?:(?<={WORD})(?{same}{WORD})|(?<!{WORD})(?{other}{WORD}))"));
                return Ok(());
            }
            '1'..='9' if !self.named && !self.peek().is_some_and(|c| c.is_ascii_digit()) => {
                if modes.fold {
                    return Err(unsupported("a back-reference under (?i)"));
                }
                let group = c.to_digit(10).unwrap_or(0) as usize;
                if group > self.groups {
                    return Err(unsupported("a reference to a later group"));
                }
                self.fancy = true;
                self.out.push_str(&format!(r"(?:\{c})"));
                return Ok(());
            }
            other => return Err(unsupported(&format!(r"\{other}"))),
        };
        self.fancy |= matches!(c, 'Z' | 'R');
        self.out.push_str(text);
        Ok(())
    }

    /// A group, or an option setting (`false`).
    fn group(&mut self, modes: &mut Modes, depth: usize, start: usize) -> Result<bool> {
        let at_start = self.at == start;
        self.at += 1;
        let mut inner = *modes;
        let mut look_around = true;
        let open = if !self.eat("?") {
            if self.looking_at("*") {
                return Err(unsupported("(*"));
            }
            look_around = false;
            if self.named {
                "(?:"
            } else {
                self.groups += 1;
                "("
            }
        } else if self.eat(":") {
            look_around = false;
            "(?:"
        } else if self.eat("=") {
            "(?="
        } else if self.eat("!") {
            "(?!"
        } else if self.eat(">") {
            "(?>"
        } else if self.eat("<=") {
            "(?<="
        } else if self.eat("<!") {
            "(?<!"
        } else if self.looking_at("<") || self.looking_at("'") {
            // Named groups make plain ones non-capturing; without references the name is of no matter.
            if self.groups > 0 {
                return Err(unsupported("named and plain groups together"));
            }
            self.named = true;
            let close = if self.looking_at("<") { '>' } else { '\'' };
            self.at += 1;
            while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                self.at += 1;
            }
            if self.peek() != Some(close) {
                return Err(malformed("unterminated group name"));
            }
            self.at += 1;
            look_around = false;
            "(?:"
        } else {
            let mut on = true;
            loop {
                match self.peek() {
                    Some('-') => on = false,
                    Some('i') => inner.fold = on,
                    Some('m') => inner.dot_all = on,
                    Some('x') => inner.extended = on,
                    Some(':' | ')') => break,
                    other => return Err(unsupported(&format!("(?{}", other.map_or(String::new(), String::from)))),
                }
                self.at += 1;
            }
            if self.eat(")") {
                // In the middle, `a(?i)b|c` means `a(?i:b|c)`.
                if !at_start {
                    return Err(unsupported("an option in the middle of a group"));
                }
                if depth == 0 && !self.out.is_empty() {
                    return Err(unsupported("an option in the middle of a pattern"));
                }
                *modes = inner;
                return Ok(false);
            }
            self.at += 1;
            look_around = false;
            "(?:"
        };
        self.fancy |= look_around;
        self.out.push_str(open);
        loop {
            self.sequence(&mut inner, depth + 1)?;
            match self.peek() {
                Some('|') => {
                    self.at += 1;
                    self.out.push('|');
                }
                Some(_) => break,
                None => return Err(malformed("end of pattern with unmatched (")),
            }
        }
        self.at += 1;
        self.out.push(')');
        self.fold.clear();
        Ok(true)
    }

    /// What repeats the atom that starts at `from` in the output; `nodes` is the count before it.
    fn repetitions(&mut self, modes: &Modes, from: usize, nodes: usize) -> Result<()> {
        let mut repeated = false;
        loop {
            if modes.extended {
                while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
                    self.at += 1;
                }
            }
            let (low, high) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => match interval(&self.rest[self.at..]) {
                    Some((low, high, len)) => {
                        self.at += len - 1;
                        (low, high)
                    }
                    None => return Ok(()),
                },
                _ => return Ok(()),
            };
            let counted = self.rest[self.at] == '}';
            let sign = self.rest[self.at];
            self.at += 1;
            self.fold.clear();
            if high.is_some_and(|high| high < low) {
                return Err(unsupported("an interval that counts down"));
            }
            if repeated {
                self.out.insert_str(from, "(?:");
                self.out.push(')');
            }
            repeated = true;
            let body = self.nodes - nodes;
            self.count(body.saturating_mul(high.unwrap_or(low).max(1) - 1))?;
            if counted {
                let high_text = high.map_or(String::new(), |h| h.to_string());
                if high == Some(low) {
                    self.out.push_str(&format!("{{{low}}}"));
                    // `a{2}?` is `(?:a{2})?`.
                } else {
                    self.out.push_str(&format!("{{{low},{high_text}}}"));
                    if self.eat("?") {
                        self.out.push('?');
                    }
                }
                // `a{2}+` is `(?:a{2})+`: the next round.
            } else {
                self.out.push(sign);
                if self.eat("?") {
                    self.out.push('?');
                } else if self.eat("+") {
                    self.fancy = true;
                    self.out.push('+');
                }
            }
        }
    }
}

/// `{n}`, `{n,}`, `{,m}` or `{n,m}` at the start: the bounds and the length.
fn interval(rest: &[char]) -> Option<(usize, Option<usize>, usize)> {
    let close = rest.iter().take(16).position(|&c| c == '}')?;
    let text: String = rest.get(1..close)?.iter().collect();
    let number = |s: &str| s.parse::<usize>().ok().filter(|_| s.bytes().all(|b| b.is_ascii_digit()));
    let (low, high) = match text.split_once(',') {
        None => (number(&text)?, Some(number(&text)?)),
        Some(("", "")) => return None,
        Some((low, "")) => (number(low)?, None),
        Some(("", high)) => (0, Some(number(high)?)),
        Some((low, high)) => (number(low)?, Some(number(high)?)),
    };
    Some((low, high, close + 1))
}
