//! GPT-2's byte alphabet: a printable character for each of the 256 bytes.
//!
//! Printable bytes of Latin-1 stand for themselves; the other 68 take the characters from U+0100 on, in order.

/// The character of each byte.
pub const CHARS: [char; 256] = chars();

/// The byte of each character below U+0144; 256 stands for none.
const BYTES: [u16; 0x144] = bytes();

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

const fn chars() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut byte = 0_u8;
    let mut next = 0x100_u32;
    loop {
        table[byte as usize] = if is_printable(byte) {
            byte as char
        } else {
            let c = char::from_u32(next).expect("U+0100..U+0144 are characters");
            next += 1;
            c
        };
        if byte == 255 {
            return table;
        }
        byte += 1;
    }
}

const fn bytes() -> [u16; 0x144] {
    let mut table = [256; 0x144];
    let mut byte = 0;
    while byte < 256 {
        table[CHARS[byte] as usize] = byte as u16;
        byte += 1;
    }
    table
}

/// The character that stands for `byte`.
pub fn char_of(byte: u8) -> char {
    CHARS[usize::from(byte)]
}

/// The byte that `c` stands for.
pub fn byte_of(c: char) -> Option<u8> {
    BYTES.get(c as usize).and_then(|&byte| u8::try_from(byte).ok())
}

/// Appends the bytes that `spelling` stands for; `None` (with `out` partly written) when a character stands for none.
pub fn decode_into(spelling: &[u8], out: &mut Vec<u8>) -> Option<()> {
    for c in std::str::from_utf8(spelling).ok()?.chars() {
        out.push(byte_of(c)?);
    }
    Some(())
}
