//! Classes of characters, as the pre-tokenizers of `tokenizers` see them.

use std::sync::LazyLock;

use super::tables;
use crate::normalize::charset::CharSet;

static PUNCTUATION: LazyLock<CharSet> = LazyLock::new(|| CharSet::new(tables::PUNCTUATION.iter().copied()));

/// `\w` of the `regex` crate: alphabetic, marks, decimal digits, connector punctuation, join controls.
static WORD: LazyLock<CharSet> = LazyLock::new(|| {
    let hir = regex_syntax::parse(r"\w").expect("a constant pattern");
    let ranges: Vec<(u32, u32)> = match hir.kind() {
        regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            class.ranges().iter().map(|r| (u32::from(r.start()), u32::from(r.end()))).collect()
        }
        _ => Vec::new(),
    };
    CharSet::new(ranges)
});

/// ASCII punctuation and Unicode's category P, as of Unicode 8.
#[inline]
pub(in crate::pretoken) fn is_punctuation(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_punctuation() } else { PUNCTUATION.contains(c) }
}

/// What a character is to `\w+|[^\w\s]+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordClass {
    /// White space, or bytes that are no character.
    Gap,
    /// `\w`.
    Word,
    /// `[^\w\s]`.
    Other,
}

#[inline]
pub(super) fn word_class(c: char) -> WordClass {
    if c.is_ascii() {
        return match c {
            '\t'..='\r' | ' ' => WordClass::Gap,
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => WordClass::Word,
            _ => WordClass::Other,
        };
    }
    if WORD.contains(c) {
        WordClass::Word
    } else if c.is_whitespace() {
        WordClass::Gap
    } else {
        WordClass::Other
    }
}

/// The script of a character; kana count as Han, spaces and unassigned characters have none.
#[inline]
pub(super) fn script(c: char) -> Option<u8> {
    let c = u32::from(c);
    let after = tables::SCRIPTS.partition_point(|&(first, ..)| first <= c);
    let (_, last, script) = *tables::SCRIPTS.get(after.checked_sub(1)?)?;
    (c <= last).then_some(script)
}

/// The script of a character that belongs to one: kana count as Han; marks and signs that all scripts share have none.
pub(crate) fn own_script(c: char) -> Option<u8> {
    const COMMON: u8 = 0;
    const INHERITED: u8 = 3;
    script(c).filter(|&script| script != COMMON && script != INHERITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a over the code points of a class: the classes below come from `std` and `regex-syntax`, whose data may
    /// move with their versions.
    fn digest(is_in: impl Fn(char) -> bool) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        ('\0'..=char::MAX)
            .filter(|&c| is_in(c))
            .fold(0xcbf2_9ce4_8422_2325, |hash, c| u32::from(c).to_le_bytes().into_iter().fold(hash, step))
    }

    #[test]
    fn test_classes_are_those_measured_on_the_wheel() {
        assert_eq!(digest(is_punctuation), 0x44cc_3f6f_89db_db6f);
        assert_eq!(digest(char::is_whitespace), 0x07db_14e6_e1f1_a2f5);
        assert_eq!(digest(char::is_numeric), 0xa1b0_6be6_9293_73bb);
        assert_eq!(digest(|c| word_class(c) == WordClass::Word), 0x156e_6c7c_1c2c_0c26);
        assert_eq!(digest(|c| script(c).is_none()), 0xf120_d8d9_32f2_5191);
    }

    #[test]
    fn shared_marks_belong_to_no_script() {
        assert!(" .1!\u{301}\u{200d}…、".chars().all(|c| own_script(c).is_none()));
        assert!(own_script('a').is_some() && own_script('a') != own_script('а'), "Latin and Cyrillic");
        assert_eq!(own_script('あ'), own_script('漢'));
    }
}
