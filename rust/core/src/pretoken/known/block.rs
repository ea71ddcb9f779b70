//! Where pieces end in the next 64 bytes of ASCII, all at once.
//!
//! One bit per byte and a mask per class: the places where classes meet come out of a few operations on the masks, with
//! no branch for every piece. What a mask cannot tell (text that is not ASCII, white space that goes on behind the
//! block) is left to [`super::Scanner::next`].

use crate::pretoken::known::eye::{ANY_ASCII, EXACT, NONE};

/// Bytes in a block.
pub(super) const BLOCK: usize = 64;

/// A block with fewer ASCII bytes at its start is not worth the work; whole words of eight.
const WORTHWHILE: usize = 24;

/// The classes of a block, one bit per byte; bytes from `len` on are unknown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) len: u32,
    pub(super) lower: u64,
    pub(super) upper: u64,
    pub(super) digit: u64,
    /// `\s`.
    pub(super) space: u64,
    pub(super) newline: u64,
    /// The space bar's character alone.
    pub(super) blank: u64,
    pub(super) quote: u64,
    pub(super) slash: u64,
    /// `\p{S}`.
    pub(super) symbol: u64,
    /// Neither letter, digit, white space, punctuation nor symbol.
    pub(super) control: u64,
}

/// Eight bytes at a time, anywhere.
#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
mod portable {
    use super::{BLOCK, Masks};

    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;

    /// The high bit of every byte of `y` (all below 0x80) that lies in `low..=high`.
    #[inline(always)]
    fn within(y: u64, low: u8, high: u8) -> u64 {
        (y + ONES * u64::from(0x80 - low)) & !(y + ONES * u64::from(0x7F - high)) & HIGHS
    }

    /// The high bits of the bytes, as eight neighbouring bits.
    #[inline(always)]
    fn gather(highs: u64) -> u64 {
        // Byte k's bit is moved by 7 * (7 - k) to bit 56 + k, and nothing else reaches the top byte.
        (highs >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }

    #[inline(always)]
    pub(super) fn masks(block: &[u8; BLOCK]) -> (u64, Masks) {
        let (mut masks, mut wide) = (Masks::default(), 0);
        for (k, bytes) in block.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_le_bytes(*bytes);
            let ascii = !word & HIGHS;
            let y = word & !HIGHS;
            let shift = 8 * k;
            let put = |mask: &mut u64, highs: u64| *mask |= gather(highs & ascii) << shift;
            let blank = within(y, b' ', b' ');
            wide |= gather(word & HIGHS) << shift;
            put(&mut masks.lower, within(y, b'a', b'z'));
            put(&mut masks.upper, within(y, b'A', b'Z'));
            put(&mut masks.digit, within(y, b'0', b'9'));
            put(&mut masks.space, within(y, b'\t', b'\r') | blank);
            put(&mut masks.newline, within(y, b'\n', b'\n') | within(y, b'\r', b'\r'));
            put(&mut masks.blank, blank);
            put(&mut masks.quote, within(y, b'\'', b'\''));
            put(&mut masks.slash, within(y, b'/', b'/'));
            let one = |b: u8| within(y, b, b);
            let rest = one(b'$') | one(b'+') | one(b'^') | one(b'`') | one(b'|') | one(b'~');
            put(&mut masks.symbol, within(y, b'<', b'>') | rest);
            put(&mut masks.control, (within(y, 0, 31) & !within(y, b'\t', b'\r')) | one(0x7F));
        }
        (wide, masks)
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
use super::sse2::masks;
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
use portable::masks;

impl Masks {
    /// The masks of the block at `pos`; `None` when the text ends in it or too little of it is ASCII.
    #[inline(always)]
    pub(super) fn of(text: &[u8], pos: usize) -> Option<Self> {
        let block = text.get(pos..)?.first_chunk::<BLOCK>()?;
        let start =
            block.as_chunks::<8>().0[..WORTHWHILE / 8].iter().fold(0, |all, word| all | u64::from_le_bytes(*word));
        if start & 0x8080_8080_8080_8080 != 0 {
            return None;
        }
        let (wide, masks) = masks(block);
        Some(Self { len: wide.trailing_zeros(), ..masks })
    }

    #[inline(always)]
    fn letter(&self) -> u64 {
        self.lower | self.upper
    }

    /// `[^\s\p{L}\p{N}]`.
    #[inline(always)]
    fn sign(&self) -> u64 {
        !(self.letter() | self.digit | self.space)
    }

    /// The starts of runs.
    #[inline(always)]
    fn starts(mask: u64) -> u64 {
        mask & !(mask << 1)
    }

    /// Keeps of `cuts` what the first `len` bytes decide.
    ///
    /// A cut needs three bytes from it on (a contraction), and white space needs its run's end; the piece at the start
    /// of the block needs no cut.
    #[inline(always)]
    fn certain(&self, cuts: u64, len: u32) -> u64 {
        let known = if len == 64 { u64::MAX } else { (1 << len) - 1 };
        // The last byte that is no white space: a run that touches the end of what is known lies behind it.
        let solid = 64 - (!self.space & known).leading_zeros();
        let keep = solid.min(len.saturating_sub(3));
        cuts & ((1u64 << keep.min(63)) - 1) & !1
    }
}

/// The length of the contraction at `i` (`'s`, `'ll`); ASCII letters only.
#[inline(always)]
fn contraction<const FOLD: u8>(text: &[u8], i: usize) -> Option<u32> {
    let fold = |b: u8| if FOLD == EXACT { b } else { b | 0x20 };
    let second = match fold(*text.get(i + 1)?) {
        b's' | b't' | b'm' | b'd' => return Some(2),
        b'r' | b'v' => b'e',
        b'l' => b'l',
        _ => return None,
    };
    (fold(*text.get(i + 2)?) == second).then_some(3)
}

/// Cuts of GPT-2's pattern; with `DIGITS`, behind `Digits`.
#[inline(always)]
pub(super) fn gpt2<const DIGITS: bool>(text: &[u8], pos: usize) -> u64 {
    let Some(masks) = Masks::of(text, pos) else { return 0 };
    let (letter, sign) = (masks.letter(), masks.sign());
    let behind_blank = masks.blank << 1;
    let mut cuts = (Masks::starts(letter) | Masks::starts(sign)) & !behind_blank;
    // The last of a run of white space stays with what follows, or alone.
    let mut last = masks.space & !(masks.space >> 1);
    if DIGITS {
        cuts |= masks.digit;
        last &= !(masks.digit >> 1);
    } else {
        cuts |= Masks::starts(masks.digit) & !behind_blank;
    }
    cuts |= Masks::starts(masks.space) | last;
    let mut quotes = masks.quote & Masks::starts(sign) & !behind_blank & (letter >> 1);
    while quotes != 0 {
        let i = quotes.trailing_zeros();
        quotes &= quotes - 1;
        if let Some(len) = contraction::<EXACT>(text, pos + i as usize) {
            cuts = cut_out(cuts, i + 1, i + len);
        }
    }
    masks.certain(cuts, masks.len)
}

/// Cuts of deepseek-coder's sequence.
#[inline(always)]
pub(super) fn coder(text: &[u8], pos: usize) -> u64 {
    let Some(masks) = Masks::of(text, pos) else { return 0 };
    let letter = masks.letter();
    let punct = masks.sign() & !(masks.symbol | masks.control);
    let runs = Masks::starts(letter) | Masks::starts(punct);
    let in_front = masks.space & !masks.newline & (runs >> 1);
    let unmatched = !(letter | punct | masks.digit | masks.newline);
    let cuts = (runs & !(in_front << 1)) | in_front | Masks::starts(unmatched) | masks.newline | masks.digit;
    masks.certain(cuts, masks.len)
}

/// Clears the cuts in `from..to` and sets the one at `to`.
#[inline(always)]
fn cut_out(cuts: u64, from: u32, to: u32) -> u64 {
    let below = |n: u32| if n < 64 { (1u64 << n) - 1 } else { u64::MAX };
    (cuts & !(below(to) & !below(from))) | if to < 64 { 1 << to } else { 0 }
}

/// Cuts of the families of cl100k and, with `CASED`, o200k.
///
/// `FOLD` and `DIGITS` as there; with `SLASH`, slashes behind line ends behind signs go with them. With `STRETCHES`,
/// digits are cut out first and white space before them ends its text, and controls are left to the scanner: the third
/// pattern of DeepSeek-V3, which is cl100k without contractions over ASCII.
#[inline(always)]
pub(super) fn lines<
    const FOLD: u8,
    const DIGITS: usize,
    const CASED: bool,
    const SLASH: bool,
    const STRETCHES: bool,
>(
    text: &[u8],
    pos: usize,
) -> u64 {
    let Some(masks) = Masks::of(text, pos) else { return 0 };
    let (letter, sign) = (masks.letter(), masks.sign());
    let behind_blank = masks.blank << 1;
    let flat = masks.space & !masks.newline;
    let mut len = masks.len;

    // Line ends directly behind signs go with them: a carry runs through each such run and leaves it empty.
    let tail_starts = masks.newline & (sign << 1);
    let carried = masks.newline.wrapping_add(tail_starts);
    let tail = masks.newline & !carried;
    if SLASH {
        let odd = masks.slash & (tail << 1);
        if odd != 0 {
            len = len.min(odd.trailing_zeros());
        }
    }

    // A word takes one character in front: white space, or a sign that is alone and has no blank of its own.
    let words = Masks::starts(letter);
    let sign_starts = Masks::starts(sign);
    let in_front = (flat | (sign_starts & !behind_blank)) & (words >> 1);
    let mut cuts = (words & !(in_front << 1)) | (sign_starts & !behind_blank);
    if CASED {
        cuts |= masks.upper & (masks.lower << 1);
    }

    // White space that is left: cut at its start, behind its last line end, and before its last character.
    cuts |= Masks::starts(masks.space & !tail) | (masks.space & !tail & (tail << 1));
    let last = flat & !(masks.space >> 1);
    cuts |= if STRETCHES { last & !(masks.digit >> 1) } else { last };
    if STRETCHES {
        len = len.min(masks.control.trailing_zeros());
    }
    let after_line = Masks::starts(flat) & (masks.newline << 1);
    cuts |= after_line;
    // Such a stretch that another line end follows does not count; rare enough to leave to the scanner.
    let again = flat.wrapping_add(after_line) & !flat & masks.newline;
    if again != 0 {
        len = len.min(again.trailing_zeros());
    }

    if DIGITS == 1 {
        cuts |= masks.digit;
    } else {
        let mut starts = Masks::starts(masks.digit);
        cuts |= starts;
        // Every third digit of a run starts a piece.
        loop {
            starts = (starts << 3) & masks.digit & (masks.digit << 1) & (masks.digit << 2) & (masks.digit << 3);
            if starts == 0 {
                break;
            }
            cuts |= starts;
        }
    }

    if FOLD != NONE {
        let mut quotes = masks.quote & sign_starts & !behind_blank & (letter >> 1);
        if CASED {
            quotes &= letter << 1;
        }
        let mut after = 64;
        while quotes != 0 {
            let i = quotes.trailing_zeros();
            quotes &= quotes - 1;
            // A word has one contraction at most: behind one, the quote stands in front of a word.
            if CASED && i == after {
                continue;
            }
            if let Some(len) = contraction::<ANY_ASCII>(text, pos + i as usize) {
                after = i + len;
                cuts = cut_out(cuts, if CASED { i } else { i + 1 }, after);
            }
        }
    }
    masks.certain(cuts, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_the_masks_agree_for_every_byte_everywhere() {
        for b in 0..=255u8 {
            for at in 0..BLOCK {
                let mut block = [b'a'.wrapping_add(b); BLOCK];
                block[at] = b;
                assert_eq!(portable::masks(&block), masks(&block), "{b} at {at}");
            }
        }
    }
}
