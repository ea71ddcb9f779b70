//! Walking bytes as characters, with what is not UTF-8 kept apart.

/// A stretch of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    /// Well-formed UTF-8, as long as possible.
    Text(&'t str),
    /// One maximal subpart that is not UTF-8: 1 to 3 bytes.
    Raw(&'t [u8]),
}

/// The stretches of `text` from the left; their concatenation is `text`. O(n).
pub(crate) fn parts(text: &[u8]) -> Parts<'_> {
    Parts { rest: text }
}

/// Iterator of [`parts`].
#[derive(Clone, Debug)]
pub(crate) struct Parts<'t> {
    rest: &'t [u8],
}

impl<'t> Iterator for Parts<'t> {
    type Item = Part<'t>;

    fn next(&mut self) -> Option<Part<'t>> {
        if self.rest.is_empty() {
            return None;
        }
        let error = match std::str::from_utf8(self.rest) {
            Ok(text) => {
                self.rest = &[];
                return Some(Part::Text(text));
            }
            Err(error) => error,
        };
        let valid = error.valid_up_to();
        if valid > 0 {
            let (text, rest) = self.rest.split_at(valid);
            self.rest = rest;
            return Some(Part::Text(std::str::from_utf8(text).expect("valid up to here: from_utf8 said so")));
        }
        let (raw, rest) = self.rest.split_at(error.error_len().unwrap_or(self.rest.len()));
        self.rest = rest;
        Some(Part::Raw(raw))
    }
}

/// A character or, at bytes that are no character, `None`; with its length in bytes. `bytes` is not empty.
#[inline]
pub(crate) fn unit(bytes: &[u8]) -> (Option<char>, usize) {
    if bytes[0] < 0x80 {
        return (Some(char::from(bytes[0])), 1);
    }
    // A character has at most 4 bytes; what follows it may be cut.
    let head = &bytes[..bytes.len().min(4)];
    match std::str::from_utf8(head) {
        Ok(text) => text.chars().next().map_or((None, 1), |c| (Some(c), c.len_utf8())),
        Err(error) if error.valid_up_to() > 0 => {
            let text = std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default();
            text.chars().next().map_or((None, 1), |c| (Some(c), c.len_utf8()))
        }
        Err(error) => (None, error.error_len().unwrap_or(head.len())),
    }
}

/// The units of `text` from the left: characters, and maximal subparts that are none (`None`), each with its start and
/// its end. O(n).
pub(crate) fn units(text: &[u8]) -> impl Iterator<Item = (usize, usize, Option<char>)> + '_ {
    let mut base = 0;
    parts(text).flat_map(move |part| {
        let start = base;
        let (chars, raw) = match part {
            Part::Text(text) => {
                base += text.len();
                (text, None)
            }
            Part::Raw(bytes) => {
                base += bytes.len();
                ("", Some((start, base, None)))
            }
        };
        chars.char_indices().map(move |(i, c)| (start + i, start + i + c.len_utf8(), Some(c))).chain(raw)
    })
}

/// How many bytes at the start of `text` are ASCII.
#[inline]
pub(crate) fn ascii_prefix(text: &[u8]) -> usize {
    text.iter().position(|b| !b.is_ascii()).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn test_units_tile_the_text_and_agree_with_utf8_chunks(text in proptest::collection::vec(prop_oneof![Just(0xE2_u8), Just(0x82), Just(0xAC), Just(0xF0), any::<u8>()], 0..24)) {
            let mut expected = Vec::new();
            let mut at = 0;
            for chunk in text.utf8_chunks() {
                for c in chunk.valid().chars() {
                    expected.push((at, at + c.len_utf8(), Some(c)));
                    at += c.len_utf8();
                }
                if !chunk.invalid().is_empty() {
                    expected.push((at, at + chunk.invalid().len(), None));
                    at += chunk.invalid().len();
                }
            }
            prop_assert_eq!(units(&text).collect::<Vec<_>>(), expected.clone());
            for (start, end, c) in expected {
                prop_assert_eq!(unit(&text[start..]), (c, end - start));
            }
        }
    }
}
