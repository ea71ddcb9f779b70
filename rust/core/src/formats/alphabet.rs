//! GPT-2's byte alphabet: a printable character for every byte.

/// The character of each byte: printable Latin-1 stands for itself, the 68 others follow from U+0100 on.
pub(crate) fn byte_alphabet() -> [char; 256] {
    let mut alphabet = ['\0'; 256];
    let mut next = 0x100;
    for byte in 0..=u8::MAX {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        alphabet[usize::from(byte)] = if printable {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).expect("U+0100..U+0144")
        };
    }
    alphabet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_is_a_capital_g_with_a_dot() {
        let alphabet = byte_alphabet();
        assert_eq!((alphabet[0x20], alphabet[0x0A], alphabet[0xAD], alphabet[0x41]), ('Ġ', 'Ċ', 'Ń', 'A'));
        assert_eq!(alphabet.iter().collect::<std::collections::BTreeSet<_>>().len(), 256);
    }
}
