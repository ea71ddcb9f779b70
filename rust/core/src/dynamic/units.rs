//! What tokens merge inside of: pretokens, or words and sentences of the text, as numbers for its tokens.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::normalize::text::units;
use crate::pipeline::{Cancel, Encoder, Pretokens, Specials, Template, in_runs};

/// A unit of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A word begins at every white-space character and reaches to the next one: ` the` is a word, and so is each but
    /// the last space of a run. White space is Unicode's.
    ///
    /// The published `word` boundary (arXiv:2411.18553) refuses pairs that do not split into one word or have a space,
    /// a tab or a line feed after the first character; these are the same where white space is of those three.
    Word,
    /// A sentence ends
    /// - after marks that end sentences (`. ! ? …` and `؟ ۔ । ॥`), with closing quotes and brackets after them, where
    ///   white space other than a line break follows;
    /// - after `。！？｡`, with closing quotes and brackets after them;
    /// - after line breaks.
    ///
    /// A rule of punctuation, which knows no abbreviations. The published `sentence` boundary is not about sentences:
    /// it refuses white space after a pair's first character, and merges all else that is not special.
    Sentence,
    /// The whole text is one.
    Text,
}

/// What a merge may not cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The ends of a pretoken.
    Pretoken,
    /// Those of a unit of the text.
    Unit(Unit),
    /// Those of a pretoken at first, later only those of the text.
    Superword,
}

/// Numbers for the base tokens of some texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Tokens merge inside equal ones.
    pub groups: Vec<u32>,
    /// Those of [`super::Transition`], under [`Boundary::Superword`].
    pub later: Option<Vec<u32>>,
    /// The white-space separated word of each token, -1 for none: see [`labelled_words`].
    pub words: Vec<i32>,
}

impl Numbers {
    /// Numbers the tokens of `base`, which are those of `texts`. O(texts + tokens).
    pub fn new(texts: &[&[u8]], base: &Pretokens, boundary: Boundary) -> Self {
        let by_unit = |unit: Unit| {
            let mut out = Vec::with_capacity(base.ids.len());
            each_text(texts, base, |text, spans| numbers(unit, text, spans, &mut out));
            out
        };
        let (groups, later) = match boundary {
            Boundary::Pretoken => (base.numbers.clone(), None),
            Boundary::Unit(unit) => (by_unit(unit), None),
            Boundary::Superword => (base.numbers.clone(), Some(by_unit(Unit::Text))),
        };
        let mut words = Vec::with_capacity(base.ids.len());
        each_text(texts, base, |text, spans| labelled_words(text, spans, &mut words));
        Self { groups, later, words }
    }

    /// Appends the numbers of further texts, under the same boundary.
    fn extend(&mut self, more: Self) {
        self.groups.extend(more.groups);
        if let (Some(later), Some(more)) = (&mut self.later, more.later) {
            later.extend(more);
        }
        self.words.extend(more.words);
    }
}

/// The base tokens of texts and their numbers, on up to `threads` threads; the result does not depend on how many.
///
/// # Errors
/// As [`Encoder::encode_with_pretokens`].
pub fn read(
    encoder: &Encoder,
    texts: &[&[u8]],
    specials: Specials,
    template: Template,
    boundary: Boundary,
    threads: usize,
    cancel: &Arc<Cancel>,
) -> Result<(Pretokens, Numbers)> {
    let mut parts = in_runs(texts, threads, |texts| -> Result<(Pretokens, Numbers)> {
        let base = encoder.encode_with_pretokens(texts, specials, template, cancel)?;
        let numbers = Numbers::new(texts, &base, boundary);
        Ok((base, numbers))
    })
    .into_iter();
    let nothing = || (Pretokens { offsets: vec![0], ..Pretokens::default() }, Numbers::default());
    let Some(first) = parts.next() else { return Ok(nothing()) };
    let (mut base, mut numbers) = first?;
    for part in parts {
        let (more, of_more) = part?;
        base.extend(&more);
        numbers.extend(of_more);
    }
    Ok((base, numbers))
}

/// Calls `each` with every text and the spans of its tokens.
fn each_text(texts: &[&[u8]], base: &Pretokens, mut each: impl FnMut(&[u8], &[i64])) {
    let at = |i: usize| 2 * usize::try_from(base.offsets[i]).expect("an offset is a length");
    for (i, text) in texts.iter().enumerate() {
        each(text, &base.spans[at(i)..at(i + 1)]);
    }
}

/// Writes the number of the unit of each token to `out`, rising from 0 in each text.
///
/// `spans` holds the start and end of each token in the text, in bytes. A token that reaches into several units has a
/// number that no other has, and so merges with none. One with an empty span is in the unit of the byte at its place.
/// O(text + tokens).
pub fn numbers(unit: Unit, text: &[u8], spans: &[i64], out: &mut Vec<u32>) {
    let starts = match unit {
        Unit::Word => word_starts(text),
        Unit::Sentence => sentence_starts(text),
        Unit::Text => Vec::new(),
    };
    // The unit of a byte: how many units begin at it or before it, the one at 0 left out.
    let mut at = Cursor { starts: &starts, passed: 0 };
    let mut alone = u32::try_from(starts.len()).unwrap_or(u32::MAX);
    for span in spans.chunks_exact(2) {
        let Range { start, end } = range(span, text.len());
        let first = at.unit_of(start.min(text.len().saturating_sub(1)));
        let last = at.unit_of(end.max(start + 1).min(text.len().max(1)) - 1);
        out.push(if first == last {
            first
        } else {
            alone = alone.wrapping_add(1);
            alone
        });
    }
}

/// Writes the number of the word of each token to `out`: how many words end before the first byte of the token that is
/// no white space. -1 for a token without such a byte. Words are what white space separates, as labels count them.
///
/// O(text + tokens).
pub fn labelled_words(text: &[u8], spans: &[i64], out: &mut Vec<i32>) {
    let mut starts: Vec<usize> = Vec::new();
    let mut blanks: Vec<Range<usize>> = Vec::new();
    let mut in_word = false;
    for (start, end, c) in units(text) {
        if c.is_some_and(char::is_whitespace) {
            match blanks.last_mut().filter(|blank| blank.end == start) {
                Some(blank) => blank.end = end,
                None => blanks.push(start..end),
            }
            in_word = false;
        } else if !in_word {
            starts.push(start);
            in_word = true;
        }
    }
    for span in spans.chunks_exact(2) {
        let Range { mut start, end } = range(span, text.len());
        let after = blanks.partition_point(|blank| blank.end <= start);
        if let Some(blank) = blanks.get(after).filter(|blank| blank.start <= start) {
            start = blank.end;
        }
        let begun = starts.partition_point(|&word| word <= start);
        out.push(if start < end { i32::try_from(begun).unwrap_or(i32::MAX) - 1 } else { -1 });
    }
}

fn range(span: &[i64], len: usize) -> Range<usize> {
    let at = |position: i64| usize::try_from(position).unwrap_or(0).min(len);
    at(span[0])..at(span[1])
}

/// Finds units from the left; steps back where a normalizer moved a token.
struct Cursor<'s> {
    starts: &'s [usize],
    passed: usize,
}

impl Cursor<'_> {
    fn unit_of(&mut self, byte: usize) -> u32 {
        while self.passed > 0 && self.starts[self.passed - 1] > byte {
            self.passed -= 1;
        }
        while self.starts.get(self.passed).is_some_and(|&start| start <= byte) {
            self.passed += 1;
        }
        u32::try_from(self.passed).unwrap_or(u32::MAX)
    }
}

/// Where words begin, but for the one at 0.
fn word_starts(text: &[u8]) -> Vec<usize> {
    let is_start = |(start, _, c): (usize, usize, Option<char>)| {
        (start > 0 && c.is_some_and(char::is_whitespace)).then_some(start)
    };
    units(text).filter_map(is_start).collect()
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What has been read of the end of a sentence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Nothing of it.
    Nothing,
    /// Marks that need white space behind them.
    Mark,
    /// Marks that need nothing.
    FullMark,
    /// Line breaks.
    LineBreak,
}

/// Where sentences begin, but for the one at 0.
fn sentence_starts(text: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut seen = Seen::Nothing;
    for (start, _, c) in units(text) {
        let c = c.unwrap_or('\u{FFFD}');
        let next = match c {
            '.' | '!' | '?' | '…' | '؟' | '۔' | '।' | '॥' if seen == Seen::FullMark => Seen::FullMark,
            '.' | '!' | '?' | '…' | '؟' | '۔' | '।' | '॥' => Seen::Mark,
            '。' | '！' | '？' | '｡' => Seen::FullMark,
            '"' | '\'' | ')' | ']' | '}' | '’' | '”' | '»' | '›' | '」' | '』' | '）' | '】' | '》'
                if matches!(seen, Seen::Mark | Seen::FullMark) =>
            {
                seen
            }
            c if is_line_break(c) => Seen::LineBreak,
            _ => Seen::Nothing,
        };
        let ends = match seen {
            Seen::Nothing => false,
            Seen::Mark => c.is_whitespace() && !is_line_break(c),
            Seen::FullMark => next != Seen::FullMark && next != Seen::LineBreak,
            Seen::LineBreak => next != Seen::LineBreak,
        };
        if ends {
            starts.push(start);
        }
        seen = next;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the bytes of a text, as tokens.
    fn of_bytes(unit: Unit, text: &[u8]) -> Vec<u32> {
        let spans: Vec<i64> = (0..text.len() as i64).flat_map(|at| [at, at + 1]).collect();
        let mut out = Vec::new();
        numbers(unit, text, &spans, &mut out);
        out
    }

    /// The units of a text.
    fn pieces(unit: Unit, text: &str) -> Vec<String> {
        let numbers = of_bytes(unit, text.as_bytes());
        let mut bytes = text.bytes();
        let cut = numbers.chunk_by(|a, b| a == b).map(|run| bytes.by_ref().take(run.len()).collect());
        cut.map(|piece| String::from_utf8(piece).expect("units begin at characters")).collect()
    }

    #[test]
    fn every_white_space_character_begins_a_word() {
        assert_eq!(pieces(Unit::Word, "one two"), ["one", " two"]);
        assert_eq!(pieces(Unit::Word, "  a\n\nb\u{3000}c "), [" ", " a", "\n", "\nb", "\u{3000}c", " "]);
        assert_eq!(pieces(Unit::Word, ""), [""; 0]);
    }

    #[test]
    fn bytes_that_are_not_utf8_stay_in_their_word() {
        assert_eq!(of_bytes(Unit::Word, b"a\xff \xf0\x9f b"), [0, 0, 1, 1, 1, 2, 2]);
    }

    #[test]
    fn a_sentence_ends_at_its_mark_its_quotes_and_at_line_breaks() {
        assert_eq!(pieces(Unit::Sentence, "One. Two?! Three"), ["One.", " Two?!", " Three"]);
        assert_eq!(
            pieces(Unit::Sentence, "He said \"no.\" Then 3.5 of v1.2"),
            ["He said \"no.\"", " Then 3.5 of v1.2"]
        );
        assert_eq!(pieces(Unit::Sentence, "a\n\nb.\nc"), ["a\n\n", "b.\n", "c"]);
        assert_eq!(pieces(Unit::Sentence, "漢字。「かな。」あ！？い"), ["漢字。", "「かな。」", "あ！？", "い"]);
        assert_eq!(pieces(Unit::Sentence, "यह है। वह"), ["यह है।", " वह"]);
        assert_eq!(pieces(Unit::Sentence, ".. ."), ["..", " ."]);
    }

    #[test]
    fn a_text_is_one_unit() {
        assert_eq!(pieces(Unit::Text, "a b. c\nd"), ["a b. c\nd"]);
    }

    #[test]
    fn a_token_in_two_words_shares_its_number_with_none() {
        let mut out = Vec::new();
        //                                 "ab c d": "a", "b c", " d", and an empty span at each end
        numbers(Unit::Word, b"ab c d", &[0, 0, 0, 1, 1, 4, 4, 6, 6, 6], &mut out);
        assert_eq!((out[0], out[1], out[3], out[4]), (0, 0, 2, 2));
        assert!(![0, 1, 2].contains(&out[2]));
    }

    #[test]
    fn labels_count_words_at_the_first_byte_that_is_no_white_space() {
        let mut out = Vec::new();
        //  "  ab  c": "  ", " ab" as [1, 4), "b", "  ", " c", "", "ab  c"
        labelled_words(b"  ab  c", &[0, 2, 1, 4, 3, 4, 4, 6, 5, 7, 7, 7, 2, 7], &mut out);
        assert_eq!(out, [-1, 0, 0, -1, 1, -1, 0]);
    }
}
