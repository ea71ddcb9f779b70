//! The `added_tokens` of a file and the ids they really have.
//!
//! `tokenizers` does not read their ids: a token whose text is in the model's vocabulary has the id it has there, and
//! every other gets the next one, counted from the number of the model's tokens, in the order of the file. That is
//! mirrored, since those are the ids the wheel gives. What the wheel accepts and cannot mean is refused: two added
//! tokens that declare one id, and a count that runs into an id of the model (its vocabulary has holes).

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::formats::{AddedToken, Spellings};
use crate::ids::TokenId;
use crate::limits::Limits;

use super::scan::Scanner;
use crate::formats::table::SpellingTable;

/// The six fields beside the id, all of them required.
const FLAGS: [&str; 5] = ["single_word", "lstrip", "rstrip", "normalized", "special"];

/// Takes the array as the file has it; `id` is the declared one.
pub(super) fn read(scan: &mut Scanner<'_>, limits: &Limits) -> Result<Vec<AddedToken>> {
    scan.field = "added_tokens";
    let mut tokens = Vec::new();
    let mut more = scan.open(b'[', b']')?;
    let mut key = Vec::new();
    while more {
        if tokens.len() >= limits.tokens {
            return Err(Error::limit("added_tokens", tokens.len() + 1, limits.tokens, "tokens"));
        }
        tokens.push(read_one(scan, tokens.len(), &mut key, limits)?);
        more = scan.another(b']')?;
    }
    scan.field = "tokenizer.json";
    Ok(tokens)
}

fn read_one(scan: &mut Scanner<'_>, index: usize, scratch: &mut Vec<u8>, limits: &Limits) -> Result<AddedToken> {
    let path = |name: &str| format!("added_tokens[{index}].{name}");
    let mut id = None;
    let mut content = None;
    let mut flags = [None; FLAGS.len()];
    let mut more = scan.open(b'{', b'}')?;
    while more {
        let key = scan.string(scratch)?;
        let flag = FLAGS.iter().position(|name| name.as_bytes() == key);
        let twice = match (key, flag) {
            (b"id", _) => id.is_some(),
            (b"content", _) => content.is_some(),
            (_, Some(at)) => flags[at].is_some(),
            _ => false,
        };
        if twice {
            let name = String::from_utf8_lossy(key).into_owned();
            return Err(Error::format(path(&name), "the field is there twice", "keep one of them"));
        }
        if key == b"id" {
            scan.expect(b':', "expected `:`")?;
            let Some(value) = scan.small_integer() else {
                let found = format!("{} is not a token id", scan.glimpse());
                return Err(Error::format(path("id"), found, "an id is an integer below 2^32 - 1"));
            };
            id = Some(value);
        } else if key == b"content" {
            scan.expect(b':', "expected `:`")?;
            if scan.peek() != b'"' {
                return Err(Error::format(path("content"), format!("{} is not a string", scan.glimpse()), ""));
            }
            let text = scan.text()?;
            if text.len() > limits.token_bytes {
                return Err(Error::limit(path("content"), text.len(), limits.token_bytes, "token_bytes"));
            }
            content = Some(text);
        } else if let Some(at) = flag {
            scan.expect(b':', "expected `:`")?;
            // Nothing but a keyword is built: a list of a million numbers would be a large value.
            let value = if matches!(scan.peek(), b't' | b'f') { scan.value(3)?.as_bool() } else { None };
            let Some(value) = value else {
                return Err(Error::format(path(FLAGS[at]), format!("{} is not a boolean", scan.glimpse()), ""));
            };
            flags[at] = Some(value);
        } else {
            // `tokenizers` ignores what it does not know here, and files carry comments of their tools.
            scan.expect(b':', "expected `:`")?;
            scan.skip(3)?;
        }
        more = scan.another(b'}')?;
    }
    let missing = |name: &str| Error::format(path(name), "the field is missing", "");
    let mut flag = |at: usize| flags[at].take().ok_or_else(|| missing(FLAGS[at]));
    Ok(AddedToken {
        id: id.ok_or_else(|| missing("id"))?,
        content: content.ok_or_else(|| missing("content"))?,
        single_word: flag(0)?,
        lstrip: flag(1)?,
        rstrip: flag(2)?,
        normalized: flag(3)?,
        special: flag(4)?,
    })
}

/// The same tokens with the ids that `tokenizers` gives them; empty ones and repeated ones are left out.
pub(super) fn assign(
    declared: Vec<AddedToken>,
    vocab: &Spellings,
    table: &SpellingTable,
    is_model_id: &dyn Fn(TokenId) -> bool,
) -> Result<Vec<AddedToken>> {
    let mut next = TokenId::try_from(vocab.len()).expect("bounded by Limits.tokens");
    let mut by_content: HashMap<String, usize> = HashMap::new();
    let mut by_declared: HashMap<TokenId, usize> = HashMap::new();
    let mut tokens: Vec<AddedToken> = Vec::with_capacity(declared.len());
    for (index, mut token) in declared.into_iter().enumerate() {
        let path = format!("added_tokens[{index}]");
        if token.content.is_empty() {
            continue;
        }
        if let Some(&at) = by_content.get(&token.content) {
            let first = &tokens[at];
            let same = AddedToken { id: first.id, ..token.clone() };
            if same == *first {
                continue;
            }
            let found = format!("{:?} is there twice, with other flags", token.content);
            return Err(Error::format(path, found, "keep one of the two"));
        }
        if let Some(&at) = by_declared.get(&token.id) {
            let found = format!("{:?} and {:?} declare one id, {}", tokens[at].content, token.content, token.id);
            return Err(Error::format(path, found, "give each its own id"));
        }
        by_declared.insert(token.id, tokens.len());
        if let Some(entry) = table.get(token.content.as_bytes(), vocab) {
            token.id = vocab.ids[entry as usize];
        } else {
            if is_model_id(next) {
                return Err(Error::format(
                    path,
                    format!("{:?} gets the id {next}, which model.vocab already uses", token.content),
                    "model.vocab has holes: put the added token into model.vocab with its id",
                ));
            }
            token.id = next;
            next += 1;
        }
        by_content.insert(token.content.clone(), tokens.len());
        tokens.push(token);
    }
    Ok(tokens)
}
