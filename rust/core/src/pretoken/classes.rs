//! The classes of characters that patterns ask for, as one table.
//!
//! The tables come from `regex-syntax` (Unicode 16.0), so no code point is listed by hand but the exceptions below.
//! Measured over all code points: the wheels `tokenizers` 0.23.3 (Oniguruma) and `tiktoken` 0.14.0 (fancy-regex) have the
//! same `\p{L}`, `\p{N}`, `\p{P}`, `\p{S}`, `\p{M}`, every two-letter general category, `\p{Han}`, `\s` and `\d` as
//! `regex-syntax` 0.8.12; they differ in `\w` and the POSIX brackets.

use std::sync::OnceLock;

use regex_syntax::hir::{Class as HirClass, HirKind};

/// A set of classes: of one character, or a mask to test it with.
///
/// Every well-formed character is in exactly one of [`UPPER`], [`LOWER`], [`CASELESS`], [`MARK`], [`NUMBER`],
/// [`SPACE`], [`PUNCT`], [`SYMBOL`], [`LATER_NUMBER`] and [`OTHER`]; the rest are marks beside these. What is not a
/// well-formed character has the empty set.
pub type Class = u16;

/// `\p{Lu}\p{Lt}`.
pub const UPPER: Class = 1;
/// `\p{Ll}`.
pub const LOWER: Class = 1 << 1;
/// `\p{Lm}\p{Lo}`.
pub const CASELESS: Class = 1 << 2;
/// `\p{M}`.
pub const MARK: Class = 1 << 3;
/// `\p{N}`.
pub const NUMBER: Class = 1 << 4;
/// `\s`: all of `\p{Z}` and seven controls.
pub const SPACE: Class = 1 << 5;
/// `\p{P}`.
pub const PUNCT: Class = 1 << 6;
/// `\p{S}`.
pub const SYMBOL: Class = 1 << 7;
/// Numbers of Unicode 17 that 16 does not know: the `Digits` pre-tokenizer of `tokenizers` asks Rust's
/// `char::is_numeric`, which in the wheel knows them, while its patterns do not.
pub const LATER_NUMBER: Class = 1 << 8;
/// Any other character: controls, format characters, private use, unassigned.
pub const OTHER: Class = 1 << 9;
/// `[\r\n]`, beside [`SPACE`].
pub const NEWLINE: Class = 1 << 10;
/// `/`, beside [`PUNCT`].
pub const SLASH: Class = 1 << 11;
/// `\p{Han}`.
pub const HAN: Class = 1 << 12;
/// `[一-龥ࠀ-一가-퟿]`, as the pre-tokenizers of deepseek-coder write it.
pub const CODER_CJK: Class = 1 << 13;
/// `[一-龥぀-ゟ゠-ヿ]`, as DeepSeek-V3's writes it.
pub const V3_CJK: Class = 1 << 14;

/// `\p{L}`.
pub const LETTER: Class = UPPER | LOWER | CASELESS;
/// `[^\s\p{L}\p{N}]`.
pub const SIGN: Class = MARK | PUNCT | SYMBOL | LATER_NUMBER | OTHER;
/// What Rust's `char::is_numeric` accepts in the wheel (Unicode 17).
pub const NUMERIC: Class = NUMBER | LATER_NUMBER;

/// [`LATER_NUMBER`], measured with the wheel's `Digits` over all code points.
const LATER_NUMBERS: [(u32, u32); 2] = [(0x11DE0, 0x11DE9), (0x16FF4, 0x16FF6)];
const CODER_CJK_RANGES: [(u32, u32); 3] = [(0x4E00, 0x9FA5), (0x0800, 0x4E00), (0xAC00, 0xD7FF)];
const V3_CJK_RANGES: [(u32, u32); 3] = [(0x4E00, 0x9FA5), (0x3040, 0x309F), (0x30A0, 0x30FF)];

/// The classes of ASCII bytes; 0 for the others.
pub static ASCII: [Class; 256] = ascii_classes();

/// [`ASCII`], for what is computed at compile time.
pub const fn ascii_classes() -> [Class; 256] {
    let mut table = [0; 256];
    let mut b = 0u8;
    while b < 0x80 {
        table[b as usize] = match b {
            b'A'..=b'Z' => UPPER,
            b'a'..=b'z' => LOWER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => SPACE | NEWLINE,
            b'\t' | 0x0B | 0x0C | b' ' => SPACE,
            b'$' | b'+' | b'<'..=b'>' | b'^' | b'`' | b'|' | b'~' => SYMBOL,
            b'/' => PUNCT | SLASH,
            b'!'..=b'~' => PUNCT,
            _ => OTHER,
        };
        b += 1;
    }
    table
}

/// Code points per block of [`Classes`]: those that the last byte of a character tells apart.
const BLOCK: usize = 64;

/// The classes of all code points: blocks of [`BLOCK`], equal blocks stored once.
#[derive(Debug)]
pub struct Classes {
    block_of: Box<[u16]>,
    blocks: Box<[Class]>,
    /// The block of a character of two bytes by the low bits of its first; one of zeros where none is well formed.
    two: [u16; 32],
    /// The same for three bytes, by the low bits of the first two.
    three: Box<[u16; 1024]>,
}

impl Classes {
    /// The table; built at the first call (about a millisecond).
    pub fn get() -> &'static Self {
        static TABLE: OnceLock<Classes> = OnceLock::new();
        TABLE.get_or_init(Self::build)
    }

    fn build() -> Self {
        let mut flat = vec![OTHER; 0x11_0000];
        let groups = [
            (r"\p{Lu}|\p{Lt}", UPPER),
            (r"\p{Ll}", LOWER),
            (r"\p{Lm}|\p{Lo}", CASELESS),
            (r"\p{M}", MARK),
            (r"\p{N}", NUMBER),
            (r"\p{P}", PUNCT),
            (r"\p{S}", SYMBOL),
            (r"\s", SPACE),
        ];
        for (pattern, class) in groups {
            for (first, last) in class_ranges(pattern) {
                flat[first as usize..=last as usize].fill(class);
            }
        }
        for (first, last) in LATER_NUMBERS {
            flat[first as usize..=last as usize].fill(LATER_NUMBER);
        }
        let beside = [(class_ranges(r"\p{Han}"), HAN), (CODER_CJK_RANGES.to_vec(), CODER_CJK)];
        for (ranges, class) in beside.into_iter().chain([(V3_CJK_RANGES.to_vec(), V3_CJK)]) {
            for (first, last) in ranges {
                flat[first as usize..=last as usize].iter_mut().for_each(|c| *c |= class);
            }
        }
        flat[..128].copy_from_slice(&ASCII[..128]);

        let mut seen = hashbrown::HashMap::new();
        let mut blocks = Vec::new();
        let block_of = flat
            .chunks(BLOCK)
            .map(|block| {
                *seen.entry(block).or_insert_with(|| {
                    blocks.extend_from_slice(block);
                    u16::try_from(blocks.len() / BLOCK - 1).expect("0x110000 / 64 = 17408 blocks at most")
                })
            })
            .collect::<Box<[u16]>>();
        let none = u16::try_from(blocks.len() / BLOCK).expect("at most one more than there are");
        blocks.resize(blocks.len() + BLOCK, 0);
        let (mut two, mut three) = ([none; 32], Box::new([none; 1024]));
        // What takes more bytes than it needs, and surrogates, are not well formed.
        two[2..].copy_from_slice(&block_of[2..32]);
        three[32..].copy_from_slice(&block_of[32..1024]);
        three[0xD800 / BLOCK..0xE000 / BLOCK].fill(none);
        Self { block_of, blocks: blocks.into(), two, three }
    }

    /// The classes of a code point.
    ///
    /// # Panics
    /// For a number over 0x10FFFF.
    #[inline(always)]
    pub fn of(&self, code_point: u32) -> Class {
        let code_point = code_point as usize;
        let block = self.block_of[code_point / BLOCK] as usize;
        self.blocks[block * BLOCK + code_point % BLOCK]
    }

    /// The classes and the length of the well-formed character at `at`; `(0, 1)` where none starts.
    ///
    /// # Panics
    /// When `at` is not inside `text`.
    #[inline(always)]
    pub fn at(&self, text: &[u8], at: usize) -> (Class, usize) {
        let first = text[at];
        if first < 0x80 { (ASCII[first as usize], 1) } else { self.at_wide(text, at) }
    }

    /// [`Self::at`] for a well-formed character of two or three bytes, with at least one more byte behind two; `None` for
    /// all else.
    #[inline(always)]
    pub(super) fn at_common(&self, text: &[u8], at: usize) -> Option<(Class, usize)> {
        let &[a, b, c] = text.get(at..)?.first_chunk()?;
        let (b, c) = (usize::from(b ^ 0x80), usize::from(c ^ 0x80)); // below 64 for the second and later bytes
        let (class, len) = if a & 0xF0 == 0xE0 && (b | c) < BLOCK {
            let block = self.three[usize::from(a & 0x0F) << 6 | b];
            (self.blocks[usize::from(block) * BLOCK + c], 3)
        } else if a & 0xE0 == 0xC0 && b < BLOCK {
            (self.blocks[usize::from(self.two[usize::from(a & 0x1F)]) * BLOCK + b], 2)
        } else {
            return None;
        };
        (class != 0).then_some((class, len))
    }

    /// [`Self::at`] for a byte that is not ASCII.
    #[inline]
    pub fn at_wide(&self, text: &[u8], at: usize) -> (Class, usize) {
        if let Some(found) = self.at_common(text, at) {
            return found;
        }
        self.at_rare(text, at)
    }

    #[inline(never)]
    fn at_rare(&self, text: &[u8], at: usize) -> (Class, usize) {
        let first = text[at];
        let tail = |b: u8| b & 0xC0 == 0x80;
        let bits = |b: u8| u32::from(b & 0x3F);
        if first < 0xE0 {
            if let Some(&[_, b]) = text[at..].first_chunk::<2>()
                && first >= 0xC2
                && tail(b)
            {
                return (self.of(u32::from(first & 0x1F) << 6 | bits(b)), 2);
            }
        } else if first < 0xF0 {
            if let Some(&[_, b, c]) = text[at..].first_chunk::<3>() {
                let code_point = u32::from(first & 0x0F) << 12 | bits(b) << 6 | bits(c);
                if tail(b) && tail(c) && code_point >= 0x800 && !(0xD800..0xE000).contains(&code_point) {
                    return (self.of(code_point), 3);
                }
            }
        } else if let Some(&[_, b, c, d]) = text[at..].first_chunk::<4>()
            && first < 0xF5
        {
            let code_point = u32::from(first & 0x07) << 18 | bits(b) << 12 | bits(c) << 6 | bits(d);
            if tail(b) && tail(c) && tail(d) && (0x1_0000..0x11_0000).contains(&code_point) {
                return (self.of(code_point), 4);
            }
        }
        (0, 1)
    }
}

/// The code points of a class expression of `regex-syntax`.
pub(super) fn class_ranges(pattern: &str) -> Vec<(u32, u32)> {
    let hir = regex_syntax::parse(pattern).expect("the classes asked for here are spelt as regex-syntax knows them");
    match hir.kind() {
        HirKind::Class(HirClass::Unicode(class)) => {
            class.iter().map(|r| (u32::from(r.start()), u32::from(r.end()))).collect()
        }
        other => unreachable!("{pattern} is one class, not {other:?}"),
    }
}
