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
///
/// The inner loop of every component: characters of 1 to 3 bytes are decoded in place.
#[inline(always)]
pub(crate) fn unit(bytes: &[u8]) -> (Option<char>, usize) {
    let lead = bytes[0];
    if lead < 0x80 {
        return (Some(char::from(lead)), 1);
    }
    if let [_, second, third, ..] = *bytes
        && lead & 0xF0 == 0xE0
    {
        let tails = u32::from(second ^ 0x80) << 6 | u32::from(third ^ 0x80);
        let c = u32::from(lead & 0xF) << 12 | tails;
        // A byte that is no continuation sets a bit above its six; from_u32 refuses surrogates.
        if (second ^ 0x80 | third ^ 0x80) < 0x40
            && c >= 0x800
            && let Some(c) = char::from_u32(c)
        {
            return (Some(c), 3);
        }
    } else if let [_, second, ..] = *bytes
        && (0xC2..0xE0).contains(&lead)
        && second & 0xC0 == 0x80
    {
        return (char::from_u32(u32::from(lead & 0x1F) << 6 | u32::from(second & 0x3F)), 2);
    }
    any_unit(bytes)
}

/// [`unit`] in full, after table 3-7 of the Unicode standard.
#[inline(never)]
fn any_unit(bytes: &[u8]) -> (Option<char>, usize) {
    let at = |i: usize| u32::from(bytes.get(i).copied().unwrap_or(0)); // 0 continues nothing
    let is_tail = |b: u32| b & 0xC0 == 0x80;
    let lead = at(0);
    match lead {
        0..0x80 => (char::from_u32(lead), 1),
        0xC2..0xE0 => {
            let second = at(1);
            if is_tail(second) { (char::from_u32((lead & 0x1F) << 6 | second & 0x3F), 2) } else { (None, 1) }
        }
        0xE0..0xF0 => {
            let (second, third) = (at(1), at(2));
            let low = if lead == 0xE0 { 0xA0 } else { 0x80 };
            let high = if lead == 0xED { 0x9F } else { 0xBF };
            if second < low || second > high {
                (None, 1)
            } else if !is_tail(third) {
                (None, 2)
            } else {
                (char::from_u32((lead & 0xF) << 12 | (second & 0x3F) << 6 | third & 0x3F), 3)
            }
        }
        0xF0..0xF5 => {
            let (second, third, fourth) = (at(1), at(2), at(3));
            let low = if lead == 0xF0 { 0x90 } else { 0x80 };
            let high = if lead == 0xF4 { 0x8F } else { 0xBF };
            if second < low || second > high {
                (None, 1)
            } else if !is_tail(third) {
                (None, 2)
            } else if !is_tail(fourth) {
                (None, 3)
            } else {
                let head = (lead & 7) << 18 | (second & 0x3F) << 12;
                (char::from_u32(head | (third & 0x3F) << 6 | fourth & 0x3F), 4)
            }
        }
        _ => (None, 1),
    }
}

/// The units of `text` from the left: characters, and maximal subparts that are none (`None`), each with its start and
/// its end. O(n).
#[inline]
pub(crate) fn units(text: &[u8]) -> impl Iterator<Item = (usize, usize, Option<char>)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let (c, len) = unit(rest);
        let start = at;
        at += len;
        Some((start, at, c))
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
