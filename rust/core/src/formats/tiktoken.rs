//! Reader of tiktoken rank files: one line for each token, its bytes in base64 and its rank.
//!
//! The file has no merges: two neighbouring parts merge when together they are a token, the lowest rank first. That is
//! a merge table in which every cut of a token into two tokens has the token's rank. The pattern, too, is not in the
//! file; [`known`] has those of OpenAI's encodings.

mod encodings;

pub use encodings::{Known, known};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::ids::{NO_TOKEN, TokenId};
use crate::limits::Limits;

use super::table::{SpellingTable, seed_of};
use super::{
    AddedToken, Bpe, Decoder, Description, Merge, Model, Normalizer, Pattern, PostProcessor, PreTokenizer, Source,
    Spellings, SplitBehavior, Symbols,
};

/// Reads a rank file; `pattern` is tiktoken's own (the syntax of fancy-regex) and stays as it is.
///
/// The pattern's matches are the pieces, each emitted whole where it is a token. O(total length of all tokens) hash
/// lookups.
///
/// # Errors
/// [`crate::ErrorKind::Format`] for a malformed line, a token or rank that is there twice, a byte that is no token, and
/// a special token whose id is a rank; [`crate::ErrorKind::Limit`] over a bound of `limits`.
pub fn read(data: &[u8], pattern: &str, special_tokens: &[(String, u32)], limits: &Limits) -> Result<Description> {
    let bound = limits.file_bytes.min(u32::MAX as usize);
    if data.len() > bound {
        return Err(Error::limit("tiktoken file", data.len(), bound, "file_bytes"));
    }
    if pattern.len() > limits.pattern_bytes {
        return Err(Error::limit("pattern", pattern.len(), limits.pattern_bytes, "pattern_bytes"));
    }
    let (vocab, lines) = ranks(data, limits)?;
    let table = SpellingTable::new(&vocab, seed_of(data)).map_err(|(first, second)| {
        let found = format!("the token of line {} again", lines.number(first));
        Error::format(lines.field(second), found, "keep one of the two lines")
    })?;
    let total = vocab.len().saturating_add(special_tokens.len());
    let by_rank = order(&vocab, &lines, limits.max_id_for(total))?;
    let singles = single_bytes(&vocab, &table)?;
    let merges = merges(&vocab, &table, &by_rank, &singles, limits)?;
    let added_tokens = specials(special_tokens, &by_rank, limits.max_id_for(total), limits)?;
    Ok(Description {
        piece_kinds: Vec::new(),
        source: Source::Tiktoken,
        model: Model::Bpe(Bpe { vocab, merges, symbols: Symbols::RawBytes, ignore_merges: true, ..Bpe::default() }),
        added_tokens,
        normalizer: Normalizer::default(),
        pre_tokenizer: PreTokenizer::Split {
            pattern: Pattern::FancyRegex(pattern.to_owned()),
            behavior: SplitBehavior::Isolated,
            invert: false,
        },
        post_processor: PostProcessor::None,
        decoder: Decoder::RawBytes,
        declared_roles: Vec::new(),
        chat_template: None,
    })
}

/// Which line each entry stood on, for messages; blank lines make the two differ.
struct Lines {
    numbers: Vec<u32>,
}

impl Lines {
    fn number(&self, entry: usize) -> u32 {
        self.numbers.get(entry).copied().unwrap_or(0)
    }

    fn field(&self, entry: usize) -> String {
        format!("line {}", self.number(entry))
    }
}

fn ranks(data: &[u8], limits: &Limits) -> Result<(Spellings, Lines)> {
    let mut vocab = Spellings::default();
    let mut lines = Lines { numbers: Vec::new() };
    let mut start = 0;
    let mut number: u32 = 0;
    while start < data.len() {
        let end = memchr::memchr(b'\n', &data[start..]).map_or(data.len(), |n| start + n);
        let line = data[start..end].strip_suffix(b"\r").unwrap_or(&data[start..end]);
        start = end + 1;
        number = number.saturating_add(1);
        if line.is_empty() {
            continue;
        }
        let field = || format!("line {number}");
        if vocab.len() >= limits.tokens {
            return Err(Error::limit(field(), vocab.len() + 1, limits.tokens, "tokens"));
        }
        let Some(space) = memchr::memchr(b' ', line) else {
            return Err(Error::format(field(), "no space between the token and its rank", "not a tiktoken rank file?"));
        };
        let Some(rank) = decimal(&line[space + 1..]) else {
            let found = format!("{:?} is not a rank", String::from_utf8_lossy(&line[space + 1..]));
            return Err(Error::format(field(), found, "a rank is an integer below 2^32 - 1"));
        };
        let before = vocab.bytes.len();
        if let Err(e) = STANDARD.decode_vec(&line[..space], &mut vocab.bytes) {
            return Err(Error::format(field(), format!("the token is not base64: {e}"), "fetch the file again"));
        }
        let len = vocab.bytes.len() - before;
        if len > limits.token_bytes {
            return Err(Error::limit(field(), len, limits.token_bytes, "token_bytes"));
        }
        if len == 0 {
            return Err(Error::format(field(), "an empty token", "remove the line"));
        }
        vocab.ends.push(u32::try_from(vocab.bytes.len()).expect("shorter than the file, which is under 4 GiB"));
        vocab.ids.push(rank);
        lines.numbers.push(number);
    }
    Ok((vocab, lines))
}

/// A decimal below `2^32 - 1`, digits only, no leading zeros.
fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut value: u64 = 0;
    for b in text {
        if !b.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(b - b'0');
    }
    u32::try_from(value).ok().filter(|&v| v != NO_TOKEN)
}

/// Entries by rank: `order[rank]` is an entry or [`NO_TOKEN`].
fn order(vocab: &Spellings, lines: &Lines, max_id: TokenId) -> Result<Vec<u32>> {
    let highest = vocab.ids.iter().copied().max().unwrap_or(0);
    if highest > max_id {
        return Err(Error::limit("rank", highest as usize, max_id as usize, "max_id"));
    }
    let mut by_rank = vec![NO_TOKEN; highest as usize + 1];
    for (entry, &rank) in vocab.ids.iter().enumerate() {
        let slot = &mut by_rank[rank as usize];
        if *slot != NO_TOKEN {
            let first = lines.number(*slot as usize);
            let found = format!("the rank {rank} of line {first} again");
            return Err(Error::format(lines.field(entry), found, "give each token its own rank"));
        }
        *slot = u32::try_from(entry).expect("fewer entries than bytes");
    }
    Ok(by_rank)
}

/// The id of each byte.
fn single_bytes(vocab: &Spellings, table: &SpellingTable) -> Result<[TokenId; 256]> {
    let mut singles = [NO_TOKEN; 256];
    for byte in 0..=u8::MAX {
        let Some(entry) = table.get(&[byte], vocab) else {
            let found = format!("the byte 0x{byte:02X} is no token");
            return Err(Error::format("tiktoken file", found, "every single byte must be a token"));
        };
        singles[usize::from(byte)] = vocab.ids[entry as usize];
    }
    Ok(singles)
}

/// Every cut of every token into two tokens, by rank, then by the length of the left part.
fn merges(
    vocab: &Spellings,
    table: &SpellingTable,
    by_rank: &[u32],
    singles: &[TokenId; 256],
    limits: &Limits,
) -> Result<Vec<Merge>> {
    let mut merges = Vec::new();
    let id_of = |part: &[u8]| match part {
        [byte] => Some(singles[usize::from(*byte)]),
        _ => table.get(part, vocab).map(|entry| vocab.ids[entry as usize]),
    };
    // A long token has as many cuts as bytes, each hashed whole: bounded before it is begun.
    let work: u64 = vocab.iter().map(|(t, _)| (t.len() as u64).pow(2)).sum();
    if work > MERGE_WORK {
        return Err(Error::unsupported(
            "tiktoken file",
            format!("the squared lengths of the tokens sum to {work}"),
            "rank files of language models stay under 2^32",
        ));
    }
    for (rank, &entry) in by_rank.iter().enumerate() {
        if entry == NO_TOKEN {
            continue;
        }
        let rank = u32::try_from(rank).expect("a rank of the file");
        let token = vocab.get(entry as usize);
        for cut in 1..token.len() {
            let Some(left) = id_of(&token[..cut]) else { continue };
            let Some(right) = id_of(&token[cut..]) else { continue };
            if merges.len() >= limits.merges {
                return Err(Error::limit("tiktoken file", merges.len() + 1, limits.merges, "merges"));
            }
            merges.push(Merge { left, right, product: rank, rank });
        }
    }
    Ok(merges)
}

/// Bound on the sum of squared token lengths: about a second of hashing.
const MERGE_WORK: u64 = 1 << 32;

fn specials(
    special_tokens: &[(String, u32)],
    by_rank: &[u32],
    max_id: TokenId,
    limits: &Limits,
) -> Result<Vec<AddedToken>> {
    let mut added: Vec<AddedToken> = Vec::with_capacity(special_tokens.len());
    let (mut contents, mut ids) = (hashbrown::HashSet::new(), hashbrown::HashSet::new());
    for (i, (content, id)) in special_tokens.iter().enumerate() {
        let field = format!("special_tokens[{i}]");
        if content.is_empty() {
            return Err(Error::format(field, "an empty text", "name the special token"));
        }
        if content.len() > limits.token_bytes {
            return Err(Error::limit(field, content.len(), limits.token_bytes, "token_bytes"));
        }
        if *id > max_id {
            return Err(Error::limit(field, *id as usize, max_id as usize, "max_id"));
        }
        if by_rank.get(*id as usize).is_some_and(|&entry| entry != NO_TOKEN) {
            let found = format!("{content:?} has the id {id}, which is a token of the file");
            return Err(Error::format(field, found, "special tokens have ids of their own"));
        }
        if !ids.insert(*id) || !contents.insert(content.as_str()) {
            let found = format!("{content:?} with the id {id}: the text or the id is there twice");
            return Err(Error::format(field, found, "keep one of them"));
        }
        added.push(AddedToken::special(*id, content.clone()));
    }
    added.sort_by_key(|t| t.id);
    Ok(added)
}

#[cfg(test)]
mod tests;
