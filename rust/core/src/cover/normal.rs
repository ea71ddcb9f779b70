//! Texts that the normalizer leaves as they are.
//!
//! Canonical encodings are of normalized text: a token that makes a text which the normalizer would change cannot be
//! canonical. For normal forms and character-wise steps a text is normal exactly when every stretch between two
//! characters that compose with nothing is; so only the end of the text has to be looked at again.

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfc_quick, is_nfkc_quick};

use crate::formats::Normalizer;
use crate::index::{Bits, VocabIndex};
use crate::normalize;

/// Bytes of text before a token that are looked at again, at most; no more than so many marks compose.
const WINDOW: usize = 256;

/// The test.
pub(super) struct Normal {
    normalizer: normalize::Compiled,
    /// Whether characters only ever change by themselves or by composing with neighbours.
    pub(super) local: bool,
}

impl Normal {
    pub(super) fn new(normalizer: normalize::Compiled, steps: &[&Normalizer]) -> Self {
        let local = steps.iter().all(|step| {
            matches!(
                step,
                Normalizer::Nfc | Normalizer::Nfd | Normalizer::Nfkc | Normalizer::Nfkd | Normalizer::Lowercase
            )
        });
        Self { normalizer, local }
    }

    /// Whether a text is normal as far as its characters are complete.
    pub(super) fn keeps(&self, text: &[u8]) -> bool {
        let complete = complete_len(text);
        self.normalizer.apply(&text[..complete]).is_ok_and(|normal| *normal == text[..complete])
    }

    /// Whether a token is normal wherever it stands, if it is normal by itself: nothing in front changes it.
    pub(super) fn stands_alone(&self, token: &[u8]) -> bool {
        let Some(first) = token.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) else {
            return false;
        };
        let text = std::iter::once(first);
        first.is_ascii()
            || (self.local
                && canonical_combining_class(first) == 0
                && is_nfc_quick(text.clone()) == IsNormalized::Yes
                && is_nfkc_quick(text) == IsNormalized::Yes)
    }

    /// The end of a text on which the next token can depend: from an ASCII character on.
    pub(super) fn window<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let from = text.len().saturating_sub(WINDOW);
        let at = text[from..].iter().rposition(u8::is_ascii).map_or(from, |at| from + at);
        &text[at..]
    }
}

/// The length without an incomplete character at the end.
pub(super) fn complete_len(text: &[u8]) -> usize {
    let from = text.len().saturating_sub(3);
    for at in (from..text.len()).rev() {
        let byte = text[at];
        if byte & 0xC0 == 0x80 {
            continue;
        }
        let wanted = match byte {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return text.len(),
        };
        // An incomplete character is one chunk of what is not UTF-8, up to the end.
        let tail = &text[at..];
        let open = tail.len() < wanted
            && std::str::from_utf8(tail).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none());
        return if open { at } else { text.len() };
    }
    text.len()
}

/// The normalizer's part in masks.
pub(super) struct NormalMasks {
    normal: Normal,
    /// Tokens that are normal by themselves.
    sound: Bits,
    /// Those among them that depend on what is in front: beginning with a character that may compose, and in the
    /// middle of a character.
    marks: Vec<u32>,
    middles: Vec<u32>,
}

impl NormalMasks {
    pub(super) fn new(normal: Normal, index: &VocabIndex) -> Self {
        let (mut sound, mut marks, mut middles) = (Bits::new(), Vec::new(), Vec::new());
        for place in 0..index.root().hi {
            let token = index.token(place);
            if !normal.keeps(token) {
                continue; // a stretch of a normal text is normal
            }
            sound.set(place, true);
            if token.first().is_some_and(|byte| byte & 0xC0 == 0x80) {
                middles.push(place);
            } else if !normal.stands_alone(token) {
                marks.push(place);
            }
        }
        Self { normal, sound, marks, middles }
    }

    fn holds(&self, window: &[u8], token: &[u8]) -> bool {
        self.normal.keeps(&[window, token].concat())
    }

    /// Whether a text stays normal with a token more; `text`: the end of what is normalized with it.
    pub(super) fn may_follow(&self, place: u32, token: &[u8], text: impl FnOnce() -> Vec<u8>) -> bool {
        let listed = |list: &[u32]| list.binary_search(&place).is_ok();
        self.sound.get(place)
            && ((!listed(&self.marks) && !listed(&self.middles)) || self.holds(self.normal.window(&text()), token))
    }

    /// Takes out of a mask what would not leave the text normal.
    pub(super) fn keep(&self, index: &VocabIndex, text: &[u8], mask: &mut Bits) {
        mask.and(&self.sound);
        let window = self.normal.window(text);
        let open = complete_len(window) < window.len();
        let middles = if open { self.middles.as_slice() } else { &[] };
        for &place in self.marks.iter().chain(middles) {
            if mask.get(place) && !self.holds(window, index.token(place)) {
                mask.set(place, false);
            }
        }
    }
}
