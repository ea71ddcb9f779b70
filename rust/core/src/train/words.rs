//! Counted words as sequences of symbols: which bytes are the alphabet, and in which order they get ids.

use std::cmp::Reverse;

use super::merge::Trainer;
use super::tokens::Tokens;
use crate::decode::byte_alphabet;
use crate::error::{Error, Result};
use crate::ids::TokenId;

/// Bytes of memory that merging takes for each symbol of the words where they hardly repeat: 4 for the symbol, up to 12
/// for the places of pairs, the rest for the pairs. Measured, not a bound; see benches/record/2026-11-28-train.md.
pub const MERGING_BYTES: u64 = 22;

/// Counted pretokens: pretoken `i` is `bytes[offsets[i]..offsets[i + 1]]` and occurs `counts[i]` times.
#[derive(Clone, Copy, Debug)]
pub struct WordsView<'w> {
    bytes: &'w [u8],
    offsets: &'w [i64],
    counts: &'w [u64],
}

impl<'w> WordsView<'w> {
    /// Checks that the arrays fit together.
    ///
    /// # Errors
    /// `Value` when they do not.
    pub fn new(bytes: &'w [u8], offsets: &'w [i64], counts: &'w [u64]) -> Result<Self> {
        check_offsets(offsets, bytes.len(), counts.len())?;
        Ok(Self { bytes, offsets, counts })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// One of them, and its count.
    pub(super) fn get(&self, at: usize) -> (&'w [u8], u64) {
        (&self.bytes[index(self.offsets[at])..index(self.offsets[at + 1])], self.counts[at])
    }

    /// About how much memory merging them takes, in bytes: [`MERGING_BYTES`] for each of their bytes and ends.
    pub fn merging_memory(&self) -> u64 {
        (self.bytes.len() as u64 + self.len() as u64) * MERGING_BYTES
    }

    /// That merging them takes no more than so much memory, by [`WordsView::merging_memory`].
    ///
    /// # Errors
    /// `Value` that names both, and what to do.
    pub fn check_memory(&self, memory: u64) -> Result<()> {
        let needed = self.merging_memory();
        if needed <= memory {
            return Ok(());
        }
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let found = format!(
            "merging {} MB of different pretokens takes about {} MB of memory, and {} MB may be used",
            megabytes(self.bytes.len() as u64),
            megabytes(needed),
            memory / 1_000_000
        );
        let fix = "learn from less text (a limit for each source, fewer resamplings), or allow more memory";
        Err(Error::value("memory", found, fix))
    }

    /// Every pretoken with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'w [u8], u64)> {
        let (bytes, counts) = (self.bytes, self.counts);
        self.offsets.windows(2).zip(counts).map(move |(ends, &count)| (&bytes[index(ends[0])..index(ends[1])], count))
    }
}

fn index(offset: i64) -> usize {
    usize::try_from(offset).expect("not negative and within the bytes: check_offsets")
}

/// That `offsets` cut `length` elements into `rows` rows.
///
/// # Errors
/// `Value` naming the first offset that does not fit.
pub fn check_offsets(offsets: &[i64], length: usize, rows: usize) -> Result<()> {
    let wrong = |found: String| Err(Error::value("offsets", found, "offsets rise from 0 to the number of elements"));
    if offsets.len() != rows + 1 {
        return wrong(format!("{} offsets for {rows} rows", offsets.len()));
    }
    let end = i64::try_from(length).unwrap_or(i64::MAX);
    if (offsets[0], offsets[rows]) != (0, end) {
        return wrong(format!("{}..{} for {length} elements", offsets[0], offsets[rows]));
    }
    match offsets.windows(2).position(|ends| ends[0] > ends[1]) {
        Some(row) => wrong(format!("row {row} is {}..{}", offsets[row], offsets[row + 1])),
        None => Ok(()),
    }
}

/// Which bytes have tokens of their own before anything is learnt.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Alphabet {
    /// Bytes that are in whether they occur or not.
    pub initial: Vec<u8>,
    /// At most so many bytes: the most frequent ones, initial bytes before all others, of equals the one whose character
    /// comes first. (`tokenizers` chooses among equals by the order of a hash map.)
    pub limit: Option<usize>,
}

impl Alphabet {
    /// All 256 bytes.
    pub fn bytes() -> Self {
        Self { initial: (0..=u8::MAX).collect(), limit: None }
    }

    /// The bytes of the alphabet, in the order of their characters in GPT-2's byte alphabet: the order of their ids.
    pub fn of(&self, words: WordsView<'_>) -> Vec<u8> {
        let mut counts = [0_u128; 256];
        for (word, count) in words.iter() {
            for &byte in word {
                counts[usize::from(byte)] += u128::from(count);
            }
        }
        for &byte in &self.initial {
            counts[usize::from(byte)] = u128::MAX;
        }
        let mut kept: Vec<u8> = (0..=u8::MAX).filter(|&byte| counts[usize::from(byte)] > 0).collect();
        let character = |byte: u8| byte_alphabet::char_of(byte);
        if let Some(limit) = self.limit {
            kept.sort_by_key(|&byte| (Reverse(counts[usize::from(byte)]), character(byte)));
            kept.truncate(limit);
        }
        kept.sort_by_key(|&byte| character(byte));
        kept
    }
}

/// [`Alphabet::of`] for words that come in several parts, without a limit.
///
/// # Errors
/// That of the first part that is none.
pub fn joint_alphabet<'w>(initial: &[u8], parts: impl Iterator<Item = Result<WordsView<'w>>>) -> Result<Vec<u8>> {
    let mut all = Alphabet { initial: initial.to_vec(), limit: None };
    for part in parts {
        all.initial = all.of(part?);
    }
    all.initial.sort_by_key(|&byte| byte_alphabet::char_of(byte));
    all.initial.dedup();
    Ok(all.initial)
}

/// A trainer of the words' bytes.
///
/// Ids: the `reserved` ones (special tokens, which have no bytes) from 0 on, then the alphabet. Bytes outside the
/// alphabet are left out of the words, as in `tokenizers`.
///
/// # Errors
/// As [`Trainer::push`].
pub fn byte_trainer(words: WordsView<'_>, reserved: usize, alphabet: &[u8]) -> Result<Trainer> {
    let mut tokens = Tokens::new();
    for _ in 0..reserved {
        tokens.push(b"")?;
    }
    let mut id_of = [None::<TokenId>; 256];
    for &byte in alphabet {
        id_of[usize::from(byte)] = Some(tokens.push(&[byte])?);
    }
    let mut trainer = Trainer::new(tokens);
    trainer.reserve(words.len(), words.bytes.len());
    for (word, count) in words.iter() {
        trainer.push(word.iter().filter_map(|&byte| id_of[usize::from(byte)]), count)?;
    }
    Ok(trainer)
}

/// The bytes that the vocabulary would spell as a special token is spelt: no merge may make them.
pub fn reserved_bytes(specials: &[String]) -> Vec<Vec<u8>> {
    let of = |special: &String| {
        let mut bytes = Vec::new();
        byte_alphabet::decode_into(special.as_bytes(), &mut bytes).map(|()| bytes)
    };
    specials.iter().filter_map(of).collect()
}

/// That special tokens, the alphabet and the size asked for go together.
///
/// # Errors
/// `Value` for a special token that is empty, there twice, or spelt as a byte of the alphabet, and for a vocabulary too
/// small for both.
pub fn check_vocabulary(specials: &[String], alphabet: &[u8], vocab_size: usize) -> Result<()> {
    for (number, special) in specials.iter().enumerate() {
        let wrong = |found: String, fix: &str| Err(Error::value(format!("special_tokens[{number}]"), found, fix));
        if special.is_empty() {
            return wrong("an empty text".to_owned(), "leave it out");
        }
        if let Some(first) = specials[..number].iter().position(|other| other == special) {
            return wrong(format!("{special:?} is special_tokens[{first}] already"), "leave one of them out");
        }
        if let [bytes] = reserved_bytes(std::slice::from_ref(special)).as_slice()
            && let [byte] = bytes.as_slice()
            && alphabet.contains(byte)
        {
            return wrong(
                format!("{special:?} is the spelling of the byte {byte:#04x} of the alphabet"),
                "use a longer text, such as <|...|>",
            );
        }
    }
    let least = specials.len() + alphabet.len();
    if vocab_size < least {
        let found = format!(
            "{vocab_size} is less than {least}, the {} special tokens and {} bytes of the alphabet",
            specials.len(),
            alphabet.len()
        );
        return Err(Error::value("vocab_size", found, format!("use at least {least}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_in_the_order_of_its_characters() {
        let words = WordsView::new(b" a\n!", &[0, 2, 4], &[1, 3]).expect("they fit");
        // `!` and `a` stand for themselves, `\n` is Ċ (U+010A), the space Ġ (U+0120).
        assert_eq!(Alphabet::default().of(words), b"!a\n ");
        assert_eq!(Alphabet { initial: b"z".to_vec(), limit: None }.of(words), b"!az\n ");
        assert_eq!(Alphabet { initial: b"z".to_vec(), limit: Some(2) }.of(words), b"!z");
        assert_eq!(Alphabet::bytes().of(words).len(), 256);
    }

    #[test]
    fn words_that_take_more_memory_than_allowed_are_refused_with_both_numbers() {
        let bytes = vec![b'a'; 3_000_000];
        let words = WordsView::new(&bytes, &[0, 3_000_000], &[1]).expect("they fit");
        let needed = 3_000_001 * MERGING_BYTES;
        assert_eq!((words.merging_memory(), words.check_memory(needed)), (needed, Ok(())));
        let error = words.check_memory(needed - 1).expect_err("a byte too little").to_string();
        let (megabytes, least) = (needed.div_ceil(1_000_000), needed / 1_000_000);
        assert!(error.contains(&format!("3 MB of different pretokens takes about {megabytes} MB")), "{error}");
        assert!(error.contains(&format!("and {least} MB may be used")), "{error}");
    }

    #[test]
    fn contradictory_special_tokens_are_named() {
        let check = |specials: &[&str], size| {
            let specials: Vec<String> = specials.iter().map(ToString::to_string).collect();
            check_vocabulary(&specials, b"ab ", size).map_err(|error| error.to_string())
        };
        assert_eq!(check(&["<s>", "c", "Ċ"], 6), Ok(()));
        for (specials, size, found) in [
            (&["<s>", "<e>", "<s>"][..], 9, "\"<s>\" is special_tokens[0] already"),
            (&["a"], 9, "the byte 0x61"),
            (&["Ġ"], 9, "the byte 0x20"),
            (&[""], 9, "empty"),
            (&["<s>"], 3, "3 is less than 4"),
        ] {
            let error = check(specials, size).expect_err("contradictory");
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn offsets_that_do_not_fit_are_named() {
        for (offsets, found) in [
            (&[0, 2][..], "2 offsets for 2 rows"),
            (&[0, 3, 2], "row 1 is 3..2"),
            (&[0, 1, 3], "0..3 for 2 elements"),
            (&[-1, 1, 2], "-1..2 for 2 elements"),
        ] {
            let error = WordsView::new(b"ab", offsets, &[1, 1]).expect_err("they do not fit").to_string();
            assert!(error.contains(found), "{error}");
        }
    }
}
