//! Normalizers that look at one character at a time.

use std::sync::LazyLock;

use super::charset::CharSet;
use super::sink::Sink;
use super::tables;
use super::text::{Part, parts, units};

/// What becomes of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Keep,
    Drop,
    To(char),
    /// A space before and after.
    Surround,
    /// Its lower case, up to three characters.
    Lower,
}

/// A normalizer that treats every character alike, wherever it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PerChar {
    /// `char::to_lowercase` without context: a final sigma is a sigma.
    Lowercase,
    /// Removes general category M (not only Mn, whatever the name says).
    StripAccents,
    /// Removes controls, makes white space a space.
    Nmt,
    /// The same for BERT, by other rules.
    BertClean,
    /// Puts spaces around CJK.
    BertCjk,
    /// Removes Mn.
    BertAccents,
}

static COMBINING_MARK: LazyLock<CharSet> = LazyLock::new(|| CharSet::new(tables::COMBINING_MARK.iter().copied()));
static NONSPACING_MARK: LazyLock<CharSet> = LazyLock::new(|| CharSet::new(tables::NONSPACING_MARK.iter().copied()));
static BERT_REMOVED: LazyLock<CharSet> = LazyLock::new(|| CharSet::new(tables::BERT_REMOVED.iter().copied()));
static CJK: LazyLock<CharSet> = LazyLock::new(|| CharSet::new(tables::CJK.iter().copied()));

/// Where CJK ideographs, Hangul and private use lie: nothing has a lower case here. A shortcut, not a definition.
fn is_caseless_block(c: char) -> bool {
    ('\u{2e80}'..'\u{a640}').contains(&c) || ('\u{ac00}'..'\u{fb00}').contains(&c)
}

fn lower(c: char) -> Action {
    if c.is_ascii() {
        return if c.is_ascii_uppercase() { Action::To(c.to_ascii_lowercase()) } else { Action::Keep };
    }
    if is_caseless_block(c) {
        return Action::Keep;
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(l), None) if l == c => Action::Keep,
        (Some(l), None) => Action::To(l),
        _ => Action::Lower,
    }
}

fn nmt(c: char) -> Action {
    match u32::from(c) {
        0x01..=0x08 | 0x0B | 0x0E..=0x1F | 0x7F | 0x8F | 0x9F => Action::Drop,
        0x09 | 0x0A | 0x0C | 0x0D | 0x1680 | 0x200B..=0x200F | 0x2028 | 0x2029 | 0x2581 | 0xFEFF | 0xFFFD => {
            Action::To(' ')
        }
        _ => Action::Keep,
    }
}

impl PerChar {
    #[inline]
    fn action(self, c: char) -> Action {
        let drop_if = |drop| if drop { Action::Drop } else { Action::Keep };
        match self {
            Self::Lowercase => lower(c),
            Self::StripAccents => drop_if(COMBINING_MARK.contains(c)),
            Self::Nmt => nmt(c),
            Self::BertClean if BERT_REMOVED.contains(c) => Action::Drop,
            Self::BertClean if c != ' ' && c.is_whitespace() => Action::To(' '),
            Self::BertClean => Action::Keep,
            Self::BertCjk if CJK.contains(c) => Action::Surround,
            Self::BertCjk => Action::Keep,
            Self::BertAccents => drop_if(NONSPACING_MARK.contains(c)),
        }
    }

    /// Whether an ASCII byte stays.
    #[inline]
    fn keeps_ascii(self, byte: u8) -> bool {
        match self {
            Self::Lowercase => !byte.is_ascii_uppercase(),
            Self::StripAccents | Self::BertCjk | Self::BertAccents => true,
            Self::Nmt => byte >= b' ' && byte != 0x7F || byte == 0,
            Self::BertClean => byte >= b' ' && byte != 0x7F,
        }
    }

    /// The first byte that changes. O(n).
    pub(crate) fn first_change(self, text: &[u8]) -> Option<usize> {
        let plain = text.iter().position(|&b| !b.is_ascii() || !self.keeps_ascii(b))?;
        let changes = |c: Option<char>| c.is_some_and(|c| self.action(c) != Action::Keep);
        units(&text[plain..]).find(|&(_, _, c)| changes(c)).map(|(start, _, _)| plain + start)
    }

    /// Writes what `text` becomes. O(n).
    pub(crate) fn run<S: Sink>(self, text: &[u8], sink: &mut S) {
        for part in parts(text) {
            let text = match part {
                Part::Raw(raw) => {
                    sink.keep(raw);
                    continue;
                }
                Part::Text(text) => text,
            };
            let mut kept = 0;
            for (at, c) in text.char_indices() {
                let action = self.action(c);
                if action == Action::Keep {
                    continue;
                }
                if kept < at {
                    sink.keep(&text.as_bytes()[kept..at]);
                }
                kept = at + c.len_utf8();
                match action {
                    Action::Keep => {}
                    Action::Drop => sink.skip(c.len_utf8()),
                    Action::To(to) => sink.replace(to),
                    Action::Surround => {
                        sink.replace(' ');
                        sink.insert(c);
                        sink.insert(' ');
                    }
                    Action::Lower => {
                        for (i, l) in c.to_lowercase().enumerate() {
                            if i == 0 {
                                sink.replace(l);
                            } else {
                                sink.insert(l);
                            }
                        }
                    }
                }
            }
            sink.keep(&text.as_bytes()[kept..]);
        }
    }
}

/// What is left without white space at the ends (`char::is_whitespace`). O(white space), plus a check of the whole
/// text only where it ends in bytes that are not ASCII.
pub(crate) fn strip(text: &[u8], left: bool, right: bool) -> std::ops::Range<usize> {
    let mut start = 0;
    if left {
        while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
            match super::text::unit(rest) {
                (Some(c), len) if c.is_whitespace() => start += len,
                _ => break,
            }
        }
    }
    let mut end = text.len();
    while right && start < end {
        // White space characters have 1 to 3 bytes; none of their encodings ends another character's.
        let is_space = |len: usize| {
            let tail = text.get(end.checked_sub(len)?..end)?;
            let c = std::str::from_utf8(tail).ok()?.chars().next()?;
            (c.len_utf8() == len && c.is_whitespace()).then_some(len)
        };
        match (1..=3).find_map(is_space) {
            Some(len) if end - len >= start => end -= len,
            _ => break,
        }
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_shortcuts_agree_with_the_actions() {
        for c in '\0'..=char::MAX {
            if is_caseless_block(c) {
                assert!(c.to_lowercase().eq([c]), "{c:?}");
            }
        }
        use PerChar::*;
        for node in [Lowercase, StripAccents, Nmt, BertClean, BertCjk, BertAccents] {
            for byte in 0..128_u8 {
                let keeps = node.action(char::from(byte)) == Action::Keep;
                assert_eq!(node.keeps_ascii(byte), keeps, "{node:?} of {byte}");
            }
        }
    }

    /// `std` may move to newer Unicode data: this is FNV-1a over what was measured on the wheel, every character with a
    /// lower case of its own followed by it.
    #[test]
    fn test_lower_case_is_as_measured_on_the_wheel() {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let digest = ('\0'..=char::MAX)
            .filter(|c| !c.to_lowercase().eq([*c]))
            .flat_map(|c| std::iter::once(c).chain(c.to_lowercase()))
            .fold(0xcbf2_9ce4_8422_2325, |hash, c| u32::from(c).to_le_bytes().into_iter().fold(hash, step));
        assert_eq!(digest, 0xbaad_3434_ea5d_0924);
    }
}
