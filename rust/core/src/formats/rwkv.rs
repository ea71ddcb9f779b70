//! Reader of RWKV's trie vocabularies: lines of `id literal length`.
//!
//! The literal is Python source, `'...'` or `"..."` for text and `b'...'` for bytes, with Python's escapes. It is parsed
//! here, never evaluated. Id 0 is no token of the file: RWKV keeps it for the end of a text.

use crate::error::{Error, Result};
use crate::ids::{NO_TOKEN, TokenId};
use crate::limits::Limits;

use super::table::{SpellingTable, seed_of};
use super::{
    DeclaredRole, Decoder, Description, Model, Normalizer, PostProcessor, PreTokenizer, Source, Spellings, Trie,
};

/// Reads a vocabulary such as `rwkv_vocab_v20230424.txt`.
///
/// O(n) time. The length on each line, in bytes, is checked against the literal.
///
/// # Errors
/// [`crate::ErrorKind::Format`] for a malformed line, an id or token that is there twice, the id 0 and an empty token;
/// [`crate::ErrorKind::Limit`] over a bound of `limits`.
pub fn read(data: &[u8], limits: &Limits) -> Result<Description> {
    let bound = limits.file_bytes.min(u32::MAX as usize);
    if data.len() > bound {
        return Err(Error::limit("rwkv vocabulary", data.len(), bound, "file_bytes"));
    }
    let mut vocab = Spellings::default();
    let mut numbers: Vec<u32> = Vec::new();
    let mut number: u32 = 0;
    let mut start = 0;
    while start < data.len() {
        let end = memchr::memchr(b'\n', &data[start..]).map_or(data.len(), |n| start + n);
        let line = data[start..end].strip_suffix(b"\r").unwrap_or(&data[start..end]);
        start = end + 1;
        number = number.saturating_add(1);
        if line.is_empty() {
            continue;
        }
        let field = format!("line {number}");
        if vocab.len() >= limits.tokens {
            return Err(Error::limit(field, vocab.len() + 1, limits.tokens, "tokens"));
        }
        let id = read_line(line, &mut vocab.bytes, limits).map_err(|problem| problem.at(&field))?;
        vocab.ends.push(u32::try_from(vocab.bytes.len()).expect("no longer than the file, which is under 4 GiB"));
        vocab.ids.push(id);
        numbers.push(number);
    }
    check(&vocab, &numbers, seed_of(data), limits)?;
    Ok(Description {
        piece_kinds: Vec::new(),
        source: Source::Rwkv,
        model: Model::Trie(Trie { vocab }),
        added_tokens: Vec::new(),
        normalizer: Normalizer::default(),
        pre_tokenizer: PreTokenizer::default(),
        post_processor: PostProcessor::None,
        decoder: Decoder::RawBytes,
        declared_roles: vec![DeclaredRole { role: "eos".into(), id: 0, field: "id 0 (reserved by RWKV)".into() }],
        chat_template: None,
    })
}

/// Ids and spellings are unique, no id is over the bound.
fn check(vocab: &Spellings, numbers: &[u32], seed: u64, limits: &Limits) -> Result<()> {
    if vocab.is_empty() {
        return Err(Error::format("rwkv vocabulary", "no token", "the file is empty"));
    }
    let field = |entry: usize| format!("line {}", numbers.get(entry).copied().unwrap_or(0));
    let max_id = limits.max_id_for(vocab.len());
    let highest = vocab.ids.iter().copied().max().unwrap_or(0);
    if highest > max_id {
        let entry = vocab.ids.iter().position(|&id| id == highest).unwrap_or(0);
        return Err(Error::limit(field(entry), highest as usize, max_id as usize, "max_id"));
    }
    let mut owner = vec![usize::MAX; highest as usize + 1];
    for (entry, &id) in vocab.ids.iter().enumerate() {
        let first = std::mem::replace(&mut owner[id as usize], entry);
        if first != usize::MAX {
            let found = format!("the id {id} of {} again", field(first));
            return Err(Error::format(field(entry), found, "give each token its own id"));
        }
    }
    SpellingTable::new(vocab, seed).map(|_| ()).map_err(|(first, second)| {
        let found = format!("the token of {} again", field(first));
        Error::format(field(second), found, "keep one of the two lines")
    })
}

/// What is wrong with a line.
enum Problem {
    Format(String),
    Limit(usize, usize),
}

impl Problem {
    fn at(self, field: &str) -> Error {
        match self {
            Self::Format(found) => Error::format(field, found, "a line is: id, Python literal, length in bytes"),
            Self::Limit(value, bound) => Error::limit(field, value, bound, "token_bytes"),
        }
    }
}

fn wrong<T>(found: impl Into<String>) -> std::result::Result<T, Problem> {
    Err(Problem::Format(found.into()))
}

/// Appends the token to `out` and returns its id.
fn read_line(line: &[u8], out: &mut Vec<u8>, limits: &Limits) -> std::result::Result<TokenId, Problem> {
    let (Some(first), Some(last)) = (memchr::memchr(b' ', line), memchr::memrchr(b' ', line)) else {
        return wrong("no space");
    };
    if first == last {
        return wrong("one space where two belong");
    }
    let number = |text: &[u8]| std::str::from_utf8(text).ok().filter(|t| is_decimal(t)).and_then(|t| t.parse().ok());
    let id: Option<u32> = number(&line[..first]);
    let Some(id) = id.filter(|&id| id != NO_TOKEN) else {
        return wrong(format!("{:?} is not a token id", String::from_utf8_lossy(&line[..first])));
    };
    if id == 0 {
        return wrong("the id 0, which stands for the end of a text");
    }
    let before = out.len();
    literal(&line[first + 1..last], out)?;
    let len = out.len() - before;
    if number(&line[last + 1..]).and_then(|n| usize::try_from(n).ok()) != Some(len) {
        let declared = String::from_utf8_lossy(&line[last + 1..]);
        return wrong(format!("the literal has {len} bytes where the line says {declared:?}"));
    }
    if len == 0 {
        return wrong("an empty token");
    }
    if len > limits.token_bytes {
        return Err(Problem::Limit(len, limits.token_bytes));
    }
    Ok(id)
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

/// Appends the value of a Python string or bytes literal, in UTF-8 or raw.
fn literal(source: &[u8], out: &mut Vec<u8>) -> std::result::Result<(), Problem> {
    let (is_bytes, quoted) = source.strip_prefix(b"b").map_or((false, source), |rest| (true, rest));
    let quote = match quoted.first() {
        Some(&q @ (b'\'' | b'"')) => q,
        _ => return wrong("no string or bytes literal"),
    };
    if quoted.len() < 2 || quoted.last() != Some(&quote) {
        return wrong("the literal does not end with its quote");
    }
    let Ok(body) = std::str::from_utf8(&quoted[1..quoted.len() - 1]) else { return wrong("not UTF-8") };
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => rest = escape(rest, is_bytes, out)?,
            c if c == char::from(quote) => return wrong("a quote inside the literal"),
            c if is_bytes && !c.is_ascii() => return wrong("a bytes literal with a character that is not ASCII"),
            // A raw line feed cannot be here, and Python takes every other character as it is.
            c => push(out, c),
        }
    }
    Ok(())
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Appends what an escape stands for and returns the text after it; `rest` starts after the backslash.
///
/// Unknown escapes, which Python keeps with a warning, and `\N{name}` are refused: no RWKV vocabulary has them.
fn escape<'t>(rest: &'t str, is_bytes: bool, out: &mut Vec<u8>) -> std::result::Result<&'t str, Problem> {
    let Some(kind) = rest.chars().next() else { return wrong("a backslash at the end, which escapes the quote") };
    let after = &rest[kind.len_utf8()..];
    let simple = match kind {
        '\\' | '\'' | '"' => Some(kind),
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'v' => Some('\u{b}'),
        _ => None,
    };
    if let Some(c) = simple {
        push(out, c);
        return Ok(after);
    }
    let (digits, radix, text) = match kind {
        'x' => (2, 16, after),
        'u' if !is_bytes => (4, 16, after),
        'U' if !is_bytes => (8, 16, after),
        '0'..='7' => (rest.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count(), 8, rest),
        _ => return wrong(format!("the escape \\{kind} is unknown")),
    };
    let value = text.get(..digits).filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()));
    let Some(value) = value.and_then(|t| u32::from_str_radix(t, radix).ok()) else {
        return wrong(format!("the escape \\{kind} lacks its {digits} digits"));
    };
    if is_bytes {
        match u8::try_from(value) {
            Ok(byte) => out.push(byte),
            Err(_) => return wrong(format!("an octal escape of {value} in a bytes literal")),
        }
    } else {
        match char::from_u32(value) {
            Some(c) => push(out, c),
            None => return wrong(format!("the escape of U+{value:04X}, which is no character")),
        }
    }
    Ok(&text[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<(TokenId, Vec<u8>)> {
        match read(text.as_bytes(), &Limits::default()).expect("well formed").model {
            Model::Trie(trie) => trie.vocab.iter().map(|(s, id)| (id, s.to_vec())).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn message(text: &str) -> String {
        read(text.as_bytes(), &Limits::default()).expect_err("malformed").to_string()
    }

    #[test]
    fn literals_are_pythons() {
        // The values are those of Python's eval.
        for (source, value) in [
            (r"'a b'", &b"a b"[..]),
            (r#""it's""#, b"it's"),
            (r#"'say "hi"'"#, b"say \"hi\""),
            (r"'\n\t\r\\\'\x41'", b"\n\t\r\\'A"),
            (r"'\x80'", b"\xC2\x80"),
            (r"b'\x80\xff'", b"\x80\xFF"),
            (r"'\u200b'", b"\xE2\x80\x8B"),
            (r"'\U0001f600'", b"\xF0\x9F\x98\x80"),
            (r"'\0\12\1018'", b"\0\nA8"),
            (r"b'\377'", b"\xFF"),
            (r"'\a\b\f\v'", b"\x07\x08\x0C\x0B"),
            ("'é'", b"\xC3\xA9"),
        ] {
            let line = format!("1 {source} {}", value.len());
            assert_eq!(tokens(&line), [(1, value.to_vec())], "{source}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (line, found) in [
            ("1 'a'", "one space"),
            ("x 'a' 1", "is not a token id"),
            ("-1 'a' 1", "is not a token id"),
            ("01 'a' 1", "is not a token id"),
            ("4294967295 'a' 1", "is not a token id"),
            ("4000000000 'a' 1", "Limits.max_id"),
            ("0 'a' 1", "the id 0"),
            ("1 '' 0", "an empty token"),
            ("1 'a' 2", "has 1 bytes where the line says \"2\""),
            ("1 'a' -1", "has 1 bytes"),
            ("1 a 1", "no string or bytes literal"),
            ("1 ' 1", "does not end"),
            ("1 'a\" 1", "does not end"),
            ("1 'a'b' 3", "a quote inside"),
            (r"1 'a\' 2", "a backslash at the end"),
            (r"1 '\q' 2", "is unknown"),
            (r"1 '\N{DASH}' 1", "is unknown"),
            (r"1 b'\u0041' 1", "is unknown"),
            (r"1 '\x4' 1", "lacks its 2 digits"),
            (r"1 '\x+4' 1", "lacks its 2 digits"),
            (r"1 '\ud800' 3", "no character"),
            (r"1 '\U00110000' 4", "no character"),
            (r"1 b'\777' 1", "an octal escape"),
            ("1 b'é' 2", "not ASCII"),
            ("1 __import__('os') 1", "no string or bytes literal"),
            ("1 'a'+'b' 2", "a quote inside"),
        ] {
            let message = message(&format!("7 'z' 1\n{line}\n"));
            assert!(message.starts_with("line 2: ") && message.contains(found), "{line}: {message}");
        }
        assert!(message("1 'a' 1\n2 'a' 1").starts_with("line 2: the token of line 1 again"));
        assert!(message("1 'a' 1\n\n1 'b' 1").starts_with("line 3: the id 1 of line 1 again"));
        assert!(message("").contains("no token"));
    }
}
