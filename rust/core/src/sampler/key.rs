//! Short byte strings as one integer, whose order is theirs.

/// Longest byte string that fits a [`Key`].
pub const KEY_BYTES: usize = 15;

/// A byte string of at most [`KEY_BYTES`] bytes: the bytes from the top, zeros behind them, and the length in the lowest
/// byte. So keys compare as their bytes do, and a shorter one comes before a longer one that it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(u128);

impl Key {
    /// The key of `bytes`; `None` where they are too long.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > KEY_BYTES {
            return None;
        }
        Some(Self::cut(window(bytes, 0), bytes.len()))
    }

    /// The key of the first `len` bytes of a window, `1 <= len <= KEY_BYTES`.
    #[inline]
    pub(super) fn cut(window: u128, len: usize) -> Self {
        Self((window & !(u128::MAX >> (8 * len))) | len as u128)
    }

    /// How many bytes it has.
    #[inline]
    pub(super) fn len(self) -> usize {
        usize::from(self.0 as u8)
    }

    /// Its bytes, of which the first [`Self::len`] count.
    #[inline]
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Its two halves.
    #[inline]
    pub(super) fn words(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }
}

/// The 16 bytes from `start` on, zeros behind the end. One load where the text goes on for so long.
#[inline]
pub(super) fn window(text: &[u8], start: usize) -> u128 {
    let rest = &text[start..];
    match rest.first_chunk() {
        Some(bytes) => u128::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 16];
            bytes[..rest.len()].copy_from_slice(rest);
            u128::from_be_bytes(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_as_their_bytes_and_give_them_back() {
        let all: [&[u8]; 9] = [
            b"",
            b"\0",
            b"\0\0",
            b"a",
            b"a\0",
            b"ab",
            b"abcdefghijklmno",
            b"b",
            "\u{10ffff}\u{10ffff}\u{10ffff}".as_bytes(),
        ];
        let mut sorted = all.to_vec();
        sorted.sort_unstable();
        let mut keys: Vec<Key> = all.iter().map(|bytes| Key::new(bytes).expect("short")).collect();
        keys.sort_unstable();
        let back: Vec<Vec<u8>> = keys.iter().map(|key| key.bytes()[..key.len()].to_vec()).collect();
        assert_eq!(back, sorted);
        assert_eq!(Key::new(&[7; 16]), None);
    }

    #[test]
    fn a_key_cut_from_a_text_is_that_of_the_bytes_alone() {
        let text = b"0123456789abcdefghijklmnop";
        for start in 0..text.len() {
            for len in 1..=KEY_BYTES.min(text.len() - start) {
                assert_eq!(Some(Key::cut(window(text, start), len)), Key::new(&text[start..start + len]));
            }
        }
    }
}
