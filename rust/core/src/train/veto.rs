//! Which tokens may not be made.
//!
//! A rule looks at the bytes of the token alone, so a pair that makes a forbidden token is skipped for ever, as SuperBPE
//! does (Liu et al. 2025, arXiv:2503.13423: at most four words, no `": "` inside). The rules shape what is learnt; at
//! encoding time nothing remains of them.

use memchr::memmem;

use crate::error::{Error, Result};
use crate::formats::Pattern;
use crate::limits::Limits;
use crate::pretoken::Splitter;
use crate::pretoken::tree::own_script;

/// What a token must keep to; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Most words: pieces between spaces (byte 20) that are not empty.
    pub max_words: Option<usize>,
    /// Most bytes.
    pub max_bytes: Option<usize>,
    /// Most characters; of a token that begins or ends inside one, the characters that begin in it.
    pub max_chars: Option<usize>,
    /// Most digits (characters of the category N).
    pub max_digits: Option<usize>,
    /// Digits and letters do not share a token.
    pub digits_apart: bool,
    /// Letters of two scripts do not share a token; kana and Han count as one script.
    pub one_script: bool,
    /// Byte strings that no token holds.
    pub inside: Vec<Vec<u8>>,
    /// A regular expression, in Oniguruma's syntax, that matches nowhere in a token.
    pub pattern: Option<String>,
}

/// Compiled [`Rules`].
#[derive(Clone, Debug)]
pub struct Veto {
    rules: Rules,
    inside: Vec<memmem::Finder<'static>>,
    pattern: Option<Splitter>,
}

impl Veto {
    /// Compiles the rules.
    ///
    /// # Errors
    /// As [`Splitter::new`] for the pattern; `Value` for an empty byte string, which every token holds.
    pub fn new(rules: Rules, limits: &Limits) -> Result<Self> {
        if rules.inside.iter().any(Vec::is_empty) {
            return Err(Error::value("veto.inside", "an empty string, which every token holds", "leave it out"));
        }
        let inside = rules.inside.iter().map(|part| memmem::Finder::new(part).into_owned()).collect();
        let pattern = rules.pattern.clone().map(|text| Splitter::new(&Pattern::Regex(text), limits)).transpose();
        let pattern = pattern.map_err(|error| error.at("veto.pattern"))?;
        Ok(Self { rules, inside, pattern })
    }

    /// Whether a token may not be. O(n) for n bytes, but for a pattern that looks around.
    ///
    /// # Errors
    /// As [`Splitter::matches`].
    pub fn forbids(&self, token: &[u8]) -> Result<bool> {
        let rules = &self.rules;
        let over = |most: Option<usize>, count: &dyn Fn() -> usize| most.is_some_and(|most| count() > most);
        if over(rules.max_bytes, &|| token.len())
            || over(rules.max_chars, &|| token.iter().filter(|&&byte| byte & 0xC0 != 0x80).count())
            || over(rules.max_words, &|| words(token))
            || over(rules.max_digits, &|| chars(token).filter(|c| c.is_numeric()).count())
            || (rules.digits_apart && mixes_digits(token))
            || (rules.one_script && mixes_scripts(token))
            || self.inside.iter().any(|finder| finder.find(token).is_some())
        {
            return Ok(true);
        }
        match &self.pattern {
            Some(pattern) => pattern.matches(token).next().transpose().map(|found| found.is_some()),
            None => Ok(false),
        }
    }
}

/// The words of a token, as SuperBPE counts them.
pub fn words(token: &[u8]) -> usize {
    token.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).count()
}

/// The whole characters of a token.
fn chars(token: &[u8]) -> impl Iterator<Item = char> {
    token.utf8_chunks().flat_map(|chunk| chunk.valid().chars())
}

fn mixes_digits(token: &[u8]) -> bool {
    let (mut digits, mut letters) = (false, false);
    for c in chars(token) {
        digits |= c.is_numeric();
        letters |= c.is_alphabetic();
    }
    digits && letters
}

fn mixes_scripts(token: &[u8]) -> bool {
    let mut scripts = chars(token).filter(|c| c.is_alphabetic()).filter_map(own_script);
    scripts.next().is_some_and(|first| scripts.any(|script| script != first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbids(rules: Rules, token: &str) -> bool {
        let veto = Veto::new(rules, &Limits::default()).expect("rules that compile");
        veto.forbids(token.as_bytes()).expect("a short token")
    }

    #[test]
    fn no_rules_forbid_nothing() {
        for token in ["", "a b c d e f", "aб1", ": ", "12345"] {
            assert!(!forbids(Rules::default(), token));
        }
    }

    #[test]
    fn each_rule_forbids_what_it_names_and_not_what_lies_at_its_bound() {
        let with = |change: fn(&mut Rules)| {
            let mut rules = Rules::default();
            change(&mut rules);
            rules
        };
        for (rules, allowed, forbidden) in [
            (with(|r| r.max_words = Some(4)), " a b  c d ", "a b c d e"),
            (with(|r| r.max_bytes = Some(4)), "éé", "ééa"),
            (with(|r| r.max_chars = Some(3)), "ééé", "éééa"),
            (with(|r| r.max_digits = Some(2)), "a12", "1a2b3"),
            (with(|r| r.max_digits = Some(0)), "a", "٣"),
            (with(|r| r.digits_apart = true), " 12", "a1"),
            (with(|r| r.one_script = true), "naïve-1", "aб"),
            (with(|r| r.one_script = true), "漢字かな", "aかな"),
            (with(|r| r.inside = vec![b": ".to_vec()]), "a:b", "a: b"),
            (with(|r| r.pattern = Some(r"[.!?]\s".to_owned())), "e.g", "end. A"),
        ] {
            assert!(!forbids(rules.clone(), allowed), "{rules:?} {allowed:?}");
            assert!(forbids(rules.clone(), forbidden), "{rules:?} {forbidden:?}");
        }
    }

    #[test]
    fn a_cut_character_counts_where_it_begins() {
        let veto = Veto::new(Rules { max_chars: Some(1), ..Rules::default() }, &Limits::default()).expect("rules");
        assert!(!veto.forbids("é".as_bytes()).expect("short"));
        assert!(!veto.forbids(b"\xa9a").expect("short"), "the rest of a character, and one");
        assert!(veto.forbids(b"ab\xc3").expect("short"));
    }

    #[test]
    fn an_empty_string_is_refused() {
        let error = Veto::new(Rules { inside: vec![Vec::new()], ..Rules::default() }, &Limits::default());
        assert!(error.expect_err("every token holds it").to_string().contains("veto.inside"));
    }
}
