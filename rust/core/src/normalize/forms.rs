//! Unicode normal forms, as of Unicode 9.
//!
//! `tokenizers` carries the data of Unicode 9 (`unicode-normalization-alignments`); characters that came later are
//! inert there. By the stability policy of Unicode nothing else changed since, so the tables of
//! `unicode-normalization` serve with the characters of [`NEWER`] taken out.
//!
//! # How
//! Every character has a *class* per form: 0 for a stable starter (the form leaves it alone and nothing joins it from
//! the left), 1..=254 for a mark that stays as long as the classes do not fall (its combining class), [`UNSTABLE`] for
//! the rest. A text without unstable characters and falling classes is normalized already. Otherwise only the
//! stretch from the stable starter before to the next stable starter is decomposed, sorted and composed.

use std::ops::Range;
use std::sync::LazyLock;

use unicode_normalization::{IsNormalized, char as ucd, is_nfc_quick, is_nfkc_quick};

use super::charset::in_ranges;
use super::sink::Sink;
use super::tables::NEWER;
use super::text::{Part, ascii_prefix, parts, unit, units};

/// The class of a character that the form may change.
const UNSTABLE: u8 = 255;
/// Code points from here on are inert, but for [`COMPATIBILITY_IDEOGRAPHS`].
const MAPPED: u32 = 0x2_0000;
/// CJK Compatibility Ideographs Supplement: all have canonical decompositions.
const COMPATIBILITY_IDEOGRAPHS: Range<u32> = 0x2_F800..0x2_FA1E;
/// Code points in one block of a [`Classes`].
const BLOCK: usize = 128;

/// A normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// C rather than D.
    pub(crate) compose: bool,
    /// K.
    pub(crate) compat: bool,
}

/// The classes of the characters below [`MAPPED`]; equal blocks are stored once.
struct Classes {
    index: Vec<u16>,
    blocks: Vec<u8>,
}

static CLASSES: [LazyLock<Classes>; 4] = [
    LazyLock::new(|| Classes::new(Form { compose: false, compat: false })),
    LazyLock::new(|| Classes::new(Form { compose: false, compat: true })),
    LazyLock::new(|| Classes::new(Form { compose: true, compat: false })),
    LazyLock::new(|| Classes::new(Form { compose: true, compat: true })),
];

impl Classes {
    /// Asks the data for 131072 characters: some milliseconds, once.
    fn new(form: Form) -> Self {
        let mut classes = Self { index: Vec::new(), blocks: Vec::new() };
        let mut seen = std::collections::HashMap::new();
        for block in 0..MAPPED / 128 {
            let row: Vec<u8> =
                (block * 128..(block + 1) * 128).map(|c| char::from_u32(c).map_or(0, |c| form.class_of(c))).collect();
            let next = u16::try_from(classes.blocks.len() / BLOCK).expect("1024 blocks at most");
            let at = *seen.entry(row).or_insert_with_key(|row| {
                classes.blocks.extend_from_slice(row);
                next
            });
            classes.index.push(at);
        }
        classes
    }

    #[inline]
    fn get(&self, c: char) -> u8 {
        let c = u32::from(c);
        match self.index.get(c as usize / BLOCK) {
            Some(&block) => self.blocks[usize::from(block) * BLOCK + c as usize % BLOCK],
            None if COMPATIBILITY_IDEOGRAPHS.contains(&c) => UNSTABLE,
            None => 0,
        }
    }
}

fn is_newer(c: char) -> bool {
    in_ranges(NEWER, u32::from(c))
}

fn combining_class(c: char) -> u8 {
    if is_newer(c) { 0 } else { ucd::canonical_combining_class(c) }
}

/// A character of a decomposed stretch, with its combining class and its change: 0 takes the place of a character of
/// the source, 1 is new, -n also stands for the n characters after.
type Item = (u8, char, isize);

impl Form {
    fn classes(self) -> &'static Classes {
        &CLASSES[usize::from(self.compose) * 2 + usize::from(self.compat)]
    }

    /// The class of `c`, from the data.
    fn class_of(self, c: char) -> u8 {
        // Two large blocks are not worth asking for, and Hangul syllables are decomposed by a rule.
        match c {
            '\u{3400}'..='\u{9fff}' => return 0,
            '\u{ac00}'..='\u{d7a3}' => return if self.compose { 0 } else { UNSTABLE },
            _ if is_newer(c) => return 0,
            _ => {}
        }
        let stays = if self.compose {
            let quick = if self.compat { is_nfkc_quick(std::iter::once(c)) } else { is_nfc_quick(std::iter::once(c)) };
            quick == IsNormalized::Yes
        } else {
            let mut same = true;
            self.decompose(c, |d| same &= d == c);
            same
        };
        if stays { ucd::canonical_combining_class(c) } else { UNSTABLE }
    }

    fn decompose(self, c: char, mut emit: impl FnMut(char)) {
        if is_newer(c) {
            emit(c);
        } else if self.compat {
            ucd::decompose_compatible(c, emit);
        } else {
            ucd::decompose_canonical(c, emit);
        }
    }

    /// The next stretch of `text` at or after `from` that may change; it starts and ends where nothing joins.
    /// `from` is the start of the text or the end of such a stretch.
    fn next_unstable(self, text: &str, from: usize) -> Option<Range<usize>> {
        let classes = self.classes();
        let bytes = text.as_bytes();
        let (mut at, mut starter, mut last) = (from, from, 0);
        while let Some(&byte) = bytes.get(at) {
            if byte < 0x80 {
                (starter, last) = (at, 0);
                at += 1;
                continue;
            }
            let (c, len) = unit(&bytes[at..]);
            let class = c.map_or(0, |c| classes.get(c));
            if class == UNSTABLE || (class != 0 && class < last) {
                let is_stable = |c: Option<char>| c.is_none_or(|c| classes.get(c) == 0);
                let next = units(&bytes[at + len..]).find(|&(_, _, c)| is_stable(c)).map(|(start, _, _)| start);
                return Some(starter..next.map_or(bytes.len(), |next| at + len + next));
            }
            if class == 0 {
                starter = at;
            }
            last = class;
            at += len;
        }
        None
    }

    /// Normalizes a stretch into `items`: the definition of UAX 15, with changes as `tokenizers` counts them.
    pub(crate) fn normalize(self, stretch: &str, items: &mut Vec<Item>) {
        items.clear();
        for c in stretch.chars() {
            let mut change = 0;
            self.decompose(c, |d| {
                items.push((combining_class(d), d, change));
                change = 1;
            });
        }
        for run in items.chunk_by_mut(|_, b| b.0 != 0) {
            // Only the first of a run can be a starter; it sorts first.
            run.sort_by_key(|item| item.0);
        }
        if self.compose {
            compose(items);
        }
    }

    /// Where the first stretch starts that is not in this form; `None` when the whole text is.
    pub(crate) fn first_change(self, text: &[u8]) -> Option<usize> {
        let mut base = ascii_prefix(text);
        if base == text.len() {
            return None;
        }
        // A mark may join the last ASCII character.
        base = base.saturating_sub(1);
        let mut items = Vec::new();
        for part in parts(&text[base..]) {
            let text = match part {
                Part::Raw(raw) => {
                    base += raw.len();
                    continue;
                }
                Part::Text(text) => text,
            };
            let mut at = 0;
            while let Some(stretch) = self.next_unstable(text, at) {
                self.normalize(&text[stretch.clone()], &mut items);
                if !text[stretch.clone()].chars().eq(items.iter().map(|item| item.1)) {
                    return Some(base + stretch.start);
                }
                at = stretch.end;
            }
            base += text.len();
        }
        None
    }

    /// Normalizes `text`, which starts where nothing joins. O(n log n) for n marks on one base, O(n) otherwise.
    pub(crate) fn run<S: Sink>(self, text: &[u8], sink: &mut S) {
        let mut items = Vec::new();
        for part in parts(text) {
            let text = match part {
                Part::Raw(raw) => {
                    sink.keep(raw);
                    continue;
                }
                Part::Text(text) => text,
            };
            let mut at = 0;
            while let Some(stretch) = self.next_unstable(text, at) {
                sink.keep(&text.as_bytes()[at..stretch.start]);
                self.normalize(&text[stretch.clone()], &mut items);
                for &(_, c, change) in &items {
                    emit(sink, c, change);
                }
                at = stretch.end;
            }
            sink.keep(&text.as_bytes()[at..]);
        }
    }
}

/// Writes a character with a change as `tokenizers` counts them.
pub(crate) fn emit<S: Sink>(sink: &mut S, c: char, change: isize) {
    if change > 0 {
        sink.insert(c);
    } else {
        sink.replace(c);
        if change < 0 {
            sink.skip_chars(change.unsigned_abs());
        }
    }
}

/// Canonical composition, in place.
fn compose(items: &mut Vec<Item>) {
    let mut written = 0;
    let mut starter = None;
    // The class of the last mark kept since the starter.
    let mut last: Option<u8> = None;
    for at in 0..items.len() {
        let (class, c, change) = items[at];
        if let Some(starter) = starter {
            let base: &mut Item = &mut items[starter];
            if last.is_none_or(|last| last < class)
                && let Some(product) = ucd::compose(base.1, c).filter(|&product| !is_newer(product))
            {
                base.1 = product;
                base.2 += change - 1;
                continue;
            }
        }
        if class == 0 {
            (starter, last) = (Some(written), None);
        } else if starter.is_some() {
            last = Some(class);
        }
        items[written] = (class, c, change);
        written += 1;
    }
    items.truncate(written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalize::sink::PlainSink;

    const FORMS: [Form; 4] = [
        Form { compose: false, compat: false },
        Form { compose: false, compat: true },
        Form { compose: true, compat: false },
        Form { compose: true, compat: true },
    ];

    fn run(form: Form, text: &str) -> String {
        let mut sink = PlainSink::new(0, usize::MAX);
        form.run(text.as_bytes(), &mut sink);
        String::from_utf8(sink.finish().expect("no bound")).expect("valid")
    }

    #[test]
    fn test_stable_characters_are_those_that_the_form_leaves_alone() {
        let mut items = Vec::new();
        for form in FORMS {
            for c in '\0'..=char::MAX {
                let text = c.to_string();
                form.normalize(&text, &mut items);
                let full: String = items.iter().map(|item| item.1).collect();
                assert_eq!(run(form, &text), full, "{form:?} of {c:?}");
                if form.classes().get(c) == 0 {
                    assert_eq!(full, text, "{form:?} of {c:?}");
                    assert_eq!(combining_class(c), 0);
                }
            }
        }
    }

    #[test]
    fn test_marks_are_sorted_and_composed() {
        let [nfd, nfkd, nfc, nfkc] = FORMS;
        assert_eq!(run(nfc, "e\u{301}"), "é");
        assert_eq!(run(nfd, "é"), "e\u{301}");
        assert_eq!(run(nfc, "a\u{301}\u{323}"), "ạ\u{301}");
        assert_eq!(run(nfd, "a\u{301}\u{323}"), "a\u{323}\u{301}");
        assert_eq!(run(nfkc, "ﬁ²"), "fi2");
        assert_eq!(run(nfkd, "한"), "\u{1112}\u{1161}\u{11ab}");
        assert_eq!(run(nfc, "\u{1112}\u{1161}\u{11ab}"), "한");
        assert_eq!(run(nfc, "\u{301}a"), "\u{301}a");
        // A mark of Unicode 14 and a decomposition of Unicode 15: not for tokenizers.
        assert_eq!(run(nfd, "a\u{1ac1}\u{323}"), "a\u{1ac1}\u{323}");
        assert_eq!(run(nfkd, "\u{1e030}"), "\u{1e030}");
    }
}
