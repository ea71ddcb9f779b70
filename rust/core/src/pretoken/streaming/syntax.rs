//! Patterns as trees, read from fancy-regex's syntax (which [`crate::pretoken::onig`] writes too).

use regex_syntax::hir::{Class as HirClass, HirKind};

use super::alphabet::Sets;
use crate::error::Result;
use crate::pretoken::streaming::unsupported;

/// Deepest nesting of groups.
const MAX_DEPTH: usize = 64;

/// A pattern. Sets are named by their index in [`Sets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    /// One character of a set.
    Set(usize),
    /// One after the other; nothing at all when empty.
    Concat(Vec<Tree>),
    /// The first that leads to a match; never empty.
    Alternation(Vec<Tree>),
    /// `low` to `high` times, as many as possible first when greedy.
    Repeat { body: Box<Tree>, low: usize, high: Option<usize>, greedy: bool },
    /// The next character is in the set, or there is none and `at_end`.
    Ahead { set: usize, at_end: bool, negated: bool },
    /// The same for the character before.
    Behind { set: usize, at_start: bool, negated: bool },
    /// Whether a pattern matches from here.
    Look { body: Box<Tree>, negated: bool },
}

impl Tree {
    /// Whether it may match without a character.
    pub(super) fn is_nullable(&self) -> bool {
        match self {
            Self::Set(_) => false,
            Self::Concat(parts) => parts.iter().all(Self::is_nullable),
            Self::Alternation(parts) => parts.iter().any(Self::is_nullable),
            Self::Repeat { body, low, .. } => *low == 0 || body.is_nullable(),
            Self::Ahead { .. } | Self::Behind { .. } | Self::Look { .. } => true,
        }
    }

    /// The set, where it is one character of a set.
    fn as_set(&self, sets: &mut Sets) -> Option<usize> {
        match self {
            Self::Set(set) => Some(*set),
            Self::Alternation(parts) => {
                let mut union = parts.first()?.as_set(sets)?;
                for part in &parts[1..] {
                    let set = part.as_set(sets)?;
                    union = sets.union(union, set);
                }
                Some(union)
            }
            _ => None,
        }
    }
}

/// The options in force.
#[derive(Clone, Copy, Default)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_all: bool,
}

/// Reads a pattern.
///
/// # Errors
/// `Unsupported` naming what has no counterpart here: back-references, look-behind of more than one character, atomic
/// groups and possessive repetitions of more than one set, nested repetitions of what may be empty.
pub(super) fn parse(pattern: &str, sets: &mut Sets) -> Result<Tree> {
    let mut parser = Parser { text: pattern, at: 0, sets };
    let tree = parser.alternation(&mut Flags::default(), 0)?;
    match parser.peek() {
        None => Ok(tree),
        Some(_) => Err(unsupported("an unmatched )")),
    }
}

/// One character after the other, each by itself.
pub(super) fn literal(text: &str, sets: &mut Sets) -> Tree {
    let set = |c: char| Tree::Set(sets.add(vec![(u32::from(c), u32::from(c))]));
    concat(text.chars().map(set).collect())
}

fn concat(mut parts: Vec<Tree>) -> Tree {
    match parts.len() {
        1 => parts.remove(0),
        _ => Tree::Concat(parts),
    }
}

struct Parser<'p> {
    text: &'p str,
    at: usize,
    sets: &'p mut Sets,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Up to `)` or the end, which stay.
    fn alternation(&mut self, flags: &mut Flags, depth: usize) -> Result<Tree> {
        if depth > MAX_DEPTH {
            return Err(unsupported(format!("groups nested deeper than {MAX_DEPTH}")));
        }
        let mut alternatives = Vec::new();
        loop {
            let mut parts = Vec::new();
            while !matches!(self.peek(), None | Some('|' | ')')) {
                if let Some(atom) = self.atom(flags, depth)? {
                    let repeated = self.repetitions(atom)?;
                    parts.push(repeated);
                }
            }
            alternatives.push(concat(parts));
            if !self.eat("|") {
                break;
            }
        }
        Ok(if alternatives.len() == 1 { alternatives.remove(0) } else { Tree::Alternation(alternatives) })
    }

    /// One thing that may be repeated; `None` for an option setting.
    fn atom(&mut self, flags: &mut Flags, depth: usize) -> Result<Option<Tree>> {
        let Some(c) = self.peek() else { return Ok(None) };
        let start = self.at;
        let tree = match c {
            '(' => return self.group(flags, depth),
            '[' => {
                self.bracket()?;
                self.set(start, *flags)?
            }
            '\\' => return self.escape(*flags).map(Some),
            '^' => {
                self.at += 1;
                let set = self.line_ends(flags.multi_line);
                Tree::Behind { set, at_start: true, negated: false }
            }
            '$' => {
                self.at += 1;
                let set = self.line_ends(flags.multi_line);
                Tree::Ahead { set, at_end: true, negated: false }
            }
            '*' | '+' | '?' | '{' => return Err(unsupported(format!("{c} that repeats nothing"))),
            c => {
                self.at += c.len_utf8();
                self.set(start, *flags)?
            }
        };
        Ok(Some(tree))
    }

    fn line_ends(&mut self, multi_line: bool) -> usize {
        self.sets.add(if multi_line { vec![(0x0A, 0x0A)] } else { Vec::new() })
    }

    /// The set that the text from `start` on spells.
    fn set(&mut self, start: usize, flags: Flags) -> Result<Tree> {
        let spelling = &self.text[start..self.at];
        let refused = || unsupported(format!("{spelling} in a pattern"));
        let hir = regex_syntax::ParserBuilder::new()
            .case_insensitive(flags.fold)
            .dot_matches_new_line(flags.dot_all)
            .build()
            .parse(spelling)
            .map_err(|_| refused())?;
        let ranges = match hir.kind() {
            HirKind::Class(HirClass::Unicode(class)) => {
                class.iter().map(|r| (u32::from(r.start()), u32::from(r.end()))).collect()
            }
            HirKind::Class(HirClass::Bytes(class)) if class.is_ascii() => {
                class.iter().map(|r| (u32::from(r.start()), u32::from(r.end()))).collect()
            }
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0).map(|text| text.chars().collect()) {
                Ok::<Vec<char>, _>(one) if one.len() == 1 => vec![(u32::from(one[0]), u32::from(one[0]))],
                _ => return Err(refused()),
            },
            // What regex-syntax makes of `[^\s\S]`.
            HirKind::Alternation(none) if none.is_empty() => Vec::new(),
            _ => return Err(refused()),
        };
        Ok(Tree::Set(self.sets.add(ranges)))
    }

    /// Moves behind the bracket that opens here.
    fn bracket(&mut self) -> Result<()> {
        let mut depth = 0usize;
        let mut first = false;
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                '[' => {
                    depth += 1;
                    self.eat("^");
                    first = true;
                    continue;
                }
                ']' if !first => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                '\\' => self.at += self.peek().map_or(0, char::len_utf8),
                _ => {}
            }
            first = false;
        }
        Err(unsupported("a class without its ]"))
    }

    fn escape(&mut self, flags: Flags) -> Result<Tree> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.peek() else { return Err(unsupported(r"\ at the end of a pattern")) };
        self.at += c.len_utf8();
        match c {
            'p' | 'P' | 'x' | 'u' if self.peek() == Some('{') => {
                let len = self.rest().find('}').ok_or_else(|| unsupported(format!(r"\{c}{{ without its }}")))?;
                self.at += len + 1;
            }
            'p' | 'P' => self.at += self.peek().map_or(0, char::len_utf8),
            'x' | 'u' => {
                let digits = if c == 'x' { 2 } else { 4 };
                self.at += self.rest().chars().take(digits).take_while(char::is_ascii_hexdigit).count();
            }
            'A' => {
                let set = self.line_ends(false);
                return Ok(Tree::Behind { set, at_start: true, negated: false });
            }
            'z' => {
                let set = self.line_ends(false);
                return Ok(Tree::Ahead { set, at_end: true, negated: false });
            }
            'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'n' | 'r' | 't' | 'f' | 'v' | 'a' => {}
            c if c.is_ascii_alphanumeric() => return Err(unsupported(format!(r"\{c} in a pattern"))),
            _ => {}
        }
        self.set(start, flags)
    }

    fn group(&mut self, flags: &mut Flags, depth: usize) -> Result<Option<Tree>> {
        enum Kind {
            Plain,
            Ahead { negated: bool },
            Behind { negated: bool },
            Atomic,
        }
        let mut inner = *flags;
        self.at += 1;
        let kind = if !self.eat("?") || self.eat(":") {
            Kind::Plain
        } else if self.eat("=") {
            Kind::Ahead { negated: false }
        } else if self.eat("!") {
            Kind::Ahead { negated: true }
        } else if self.eat("<=") {
            Kind::Behind { negated: false }
        } else if self.eat("<!") {
            Kind::Behind { negated: true }
        } else if self.eat(">") {
            Kind::Atomic
        } else {
            let mut on = true;
            loop {
                let c = self.peek();
                match c {
                    Some('-') => on = false,
                    Some('i') => inner.fold = on,
                    Some('m') => inner.multi_line = on,
                    Some('s') => inner.dot_all = on,
                    Some(':' | ')') => break,
                    other => {
                        return Err(unsupported(format!(
                            "(?{} in a pattern",
                            other.map_or(String::new(), String::from)
                        )));
                    }
                }
                self.at += 1;
            }
            if self.eat(")") {
                *flags = inner;
                return Ok(None);
            }
            self.at += 1;
            Kind::Plain
        };
        let body = self.alternation(&mut inner, depth + 1)?;
        if !self.eat(")") {
            return Err(unsupported("a group without its )"));
        }
        Ok(Some(match kind {
            Kind::Plain => body,
            Kind::Atomic => self.possessive(body)?,
            Kind::Ahead { negated } => match body.as_set(self.sets) {
                Some(set) => Tree::Ahead { set, at_end: false, negated },
                None => Tree::Look { body: Box::new(body), negated },
            },
            Kind::Behind { negated } => match body.as_set(self.sets) {
                Some(set) => Tree::Behind { set, at_start: false, negated },
                None => return Err(unsupported("look-behind of more than one character")),
            },
        }))
    }

    /// What repeats the atom just read.
    fn repetitions(&mut self, mut tree: Tree) -> Result<Tree> {
        loop {
            let (low, high) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    let (low, high, len) =
                        interval(self.rest()).ok_or_else(|| unsupported("{ that is no repetition"))?;
                    self.at += len - 1;
                    (low, high)
                }
                _ => return Ok(tree),
            };
            self.at += 1;
            if high.is_none() && tree.is_nullable() {
                return Err(unsupported("an endless repetition of what may be empty"));
            }
            if high.is_some_and(|high| high < low) {
                return Err(unsupported("a repetition that counts down"));
            }
            let greedy = !self.eat("?");
            tree = Tree::Repeat { body: Box::new(tree), low, high, greedy };
            if greedy && self.eat("+") {
                tree = self.possessive(tree)?;
            }
        }
    }

    /// `(?>tree)`. For a set this is a set that stops only where it must: `X++` is `X+(?!X)`.
    fn possessive(&mut self, tree: Tree) -> Result<Tree> {
        if tree.as_set(self.sets).is_some() {
            return Ok(tree);
        }
        if let Tree::Repeat { body, low, high, greedy: true } = &tree
            && let Some(set) = body.as_set(self.sets)
        {
            let repeat = |low, high| Tree::Repeat { body: body.clone(), low, high, greedy: true };
            let full = |times| repeat(times, Some(times));
            let stop = Tree::Ahead { set, at_end: false, negated: true };
            return Ok(match *high {
                None => Tree::Concat(vec![tree.clone(), stop]),
                Some(high) if high == *low => tree,
                Some(high) => {
                    Tree::Alternation(vec![full(high), Tree::Concat(vec![repeat(*low, Some(high - 1)), stop])])
                }
            });
        }
        Err(unsupported("an atomic group or a possessive repetition of more than one character"))
    }
}

/// `{n}`, `{n,}` or `{n,m}` at the start: the bounds and the length.
fn interval(text: &str) -> Option<(usize, Option<usize>, usize)> {
    let close = text.find('}')?;
    let number = |s: &str| s.parse::<usize>().ok().filter(|_| s.bytes().all(|b| b.is_ascii_digit()));
    let (low, high) = match text[1..close].split_once(',') {
        None => (number(&text[1..close])?, Some(number(&text[1..close])?)),
        Some((low, "")) => (number(low)?, None),
        Some((low, high)) => (number(low)?, Some(number(high)?)),
    };
    Some((low, high, close + 1))
}
