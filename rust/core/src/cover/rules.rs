//! Texts that a SentencePiece character map leaves as they are.
//!
//! # Which texts those are
//! The map replaces the longest left side at every place, from the left; then white space may be taken away. Call a
//! character *dead* that is a left side and that no right side holds: no normalized text has it, and nothing more need be
//! known of the rules that mention it. If no other rule makes its left side longer (in characters), and none maps several
//! characters to themselves, then a text stays as it is exactly when no left side occurs in it: a rule that is applied
//! either shortens the text, which nothing makes up for, or leaves all lengths as they are and another character at its
//! place. [`Rules::new`] refuses all other maps; those of published models have no such rule.
//!
//! So a normalized text is one in which some strings do not occur, and what may follow it depends on the longest of its
//! ends that begins one of them.

use rustc_hash::FxHashSet;

use crate::normalize::charsmap::Charsmap;

/// Strings that do not occur in a normalized text.
pub(super) struct Rules {
    /// They, ascending; no two are equal.
    keys: Vec<Vec<u8>>,
    /// Whether one begins with the byte.
    begins: Box<[bool; 256]>,
    /// The length of the longest.
    longest: usize,
}

/// Ends of left sides: what a token may begin with that completes one.
pub(super) struct Tails<'r>(Vec<&'r [u8]>);

impl Rules {
    /// The strings of a map; `Err` says why its normalized texts are not told by strings.
    ///
    /// O(256 · nodes of the map) time: a tenth of a second for NFKC.
    pub(super) fn new(map: &Charsmap) -> Result<Self, String> {
        let rules = map.rules().ok_or("a character map with too many rules to list")?;
        let mut texts = Vec::with_capacity(rules.len());
        for (left, right) in &rules {
            match (std::str::from_utf8(left), std::str::from_utf8(right)) {
                (Ok(left), Ok(right)) => texts.push((left, right)),
                _ => return Err("a character map of parts of characters".to_owned()),
            }
        }
        let written: FxHashSet<char> = texts.iter().flat_map(|(_, right)| right.chars()).collect();
        let single = |left: &str| {
            let mut chars = left.chars();
            chars.next().filter(|_| chars.next().is_none())
        };
        let changed = texts.iter().filter(|(left, right)| left != right);
        let dead: FxHashSet<char> =
            changed.filter_map(|(left, _)| single(left)).filter(|c| !written.contains(c)).collect();
        let mut keys = Vec::new();
        for &(left, right) in &texts {
            let has_dead = left.chars().any(|c| dead.contains(&c));
            let is_key = match (left == right, has_dead) {
                (true, false) if single(left).is_none() => {
                    return Err(format!("a character map that keeps {left:?} from its other rules"));
                }
                (false, false) if right.chars().count() > left.chars().count() => {
                    return Err(format!("a character map that makes {right:?} of {left:?}"));
                }
                (true, false) => false,
                (false, false) => true,
                (_, true) => single(left).is_some(),
            };
            if is_key {
                keys.push(left.as_bytes().to_vec());
            }
        }
        keys.sort_unstable();
        let mut begins = Box::new([false; 256]);
        for key in &keys {
            begins[usize::from(key[0])] = true;
        }
        let longest = keys.iter().map(Vec::len).max().unwrap_or(0);
        Ok(Self { keys, begins, longest })
    }

    /// Whether a text stays as it is, as far as its characters are complete.
    pub(super) fn keeps(&self, text: &[u8]) -> bool {
        (0..text.len()).all(|at| !self.begins[usize::from(text[at])] || !self.starts(&text[at..]))
    }

    /// Whether a left side starts the text.
    fn starts(&self, text: &[u8]) -> bool {
        (1..=self.longest.min(text.len()))
            .any(|len| self.keys.binary_search_by(|key| key[..].cmp(&text[..len])).is_ok())
    }

    /// The longest end of a text that begins a left side; what may follow the text depends on nothing else.
    pub(super) fn window<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let from = (text.len() + 1).saturating_sub(self.longest);
        let begun = |end: &[u8]| {
            self.begins[usize::from(end[0])] && {
                let next = self.keys.partition_point(|key| &key[..] < end);
                self.keys.get(next).is_some_and(|key| key.starts_with(end))
            }
        };
        let at = (from..text.len()).find(|&at| begun(&text[at..])).unwrap_or(text.len());
        &text[at..]
    }

    /// The length of the longest left side, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The ends of all left sides.
    pub(super) fn tails(&self) -> Tails<'_> {
        let mut tails: Vec<&[u8]> = self.keys.iter().flat_map(|key| (1..key.len()).map(|at| &key[at..])).collect();
        tails.sort_unstable();
        tails.dedup();
        Tails(tails)
    }
}

impl Tails<'_> {
    /// Whether a token can complete a left side that began before it, or go on with one.
    pub(super) fn meet(&self, token: &[u8]) -> bool {
        let next = self.0.partition_point(|tail| *tail < token);
        self.0.get(next).is_some_and(|tail| tail.starts_with(token))
            || (1..token.len()).any(|len| self.0.binary_search(&&token[..len]).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::SentencePieceNormalizer;
    use crate::limits::Limits;
    use crate::normalize::charsmap::tests::blob;
    use crate::normalize::sentencepiece::SpNormalizer;

    fn rules(rules: &[(&str, &str)]) -> Result<Rules, String> {
        let bytes: Vec<(&[u8], &[u8])> = rules.iter().map(|(l, r)| (l.as_bytes(), r.as_bytes())).collect();
        Rules::new(&Charsmap::new(&blob(&bytes), &Limits::default()).expect("a sound map"))
    }

    #[test]
    fn maps_whose_texts_no_strings_tell_are_refused() {
        let refused = |map: &[(&str, &str)]| rules(map).err().expect("refused");
        assert!(refused(&[("ab", "ab"), ("bc", "d")]).contains("keeps \"ab\""));
        assert!(refused(&[("ab", "abc"), ("c", "a")]).contains("makes \"abc\" of \"ab\""));
        // Lengthening is harmless where the left side cannot occur.
        assert!(rules(&[("½", "1/2"), ("½x", "1/2x"), ("ab", "c")]).is_ok());
    }

    /// Every text of up to six units, against the normalizer itself, and every end of it against its window.
    #[test]
    fn a_text_without_left_sides_is_one_that_stays() {
        let map = [
            ("e\u{301}", "é"),
            ("a\u{301}\u{302}", "x"),
            ("e\u{301}\u{302}", "ê"),
            ("ab", "b"),
            ("Ａ", "A"),
            ("\u{1}", ""),
            ("½", "1/2"),
            ("½ab", "1"),
            ("ba\u{301}", "é"),
        ];
        let bytes: Vec<(&[u8], &[u8])> = map.iter().map(|(l, r)| (l.as_bytes(), r.as_bytes())).collect();
        let spec = SentencePieceNormalizer {
            charsmap: blob(&bytes),
            add_dummy_prefix: false,
            remove_extra_whitespaces: false,
            escape_whitespaces: false,
            treat_whitespace_as_suffix: false,
            protected: Vec::new(),
            keep_invalid: true,
        };
        let normalizer = SpNormalizer::new(&spec, &Limits::default()).expect("a sound map");
        let rules = rules(&map).expect("strings tell its texts");
        let units: Vec<&[u8]> = ["a", "e", "b", "\u{301}", "\u{302}", "Ａ", "½"]
            .iter()
            .map(|unit| unit.as_bytes())
            .chain([&b"\xCC"[..]])
            .collect();
        let stays = |text: &[u8]| {
            let mut out = Vec::new();
            normalizer.normalize(text, &mut out, None);
            out == text
        };
        let mut texts = vec![Vec::new()];
        let mut from = 0;
        for _ in 0..4 {
            let until = texts.len();
            for at in from..until {
                texts.extend(units.iter().map(|unit| [&texts[at][..], unit].concat()).collect::<Vec<_>>());
            }
            from = until;
        }
        let tails = rules.tails();
        for text in &texts {
            assert_eq!(rules.keeps(text), stays(text), "{:?}", text.escape_ascii().to_string());
            if !stays(text) {
                continue;
            }
            for unit in &units {
                let longer = [text, *unit].concat();
                let window = [rules.window(text), *unit].concat();
                assert_eq!(rules.keeps(&window), stays(&longer), "{:?}", longer.escape_ascii().to_string());
                assert!(
                    tails.meet(unit) || rules.keeps(unit) == stays(&longer),
                    "{:?}",
                    longer.escape_ascii().to_string()
                );
            }
        }
    }
}
