//! Post-processors: what is put around the ids of a single text.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::formats::PostProcessor;
use crate::ids::TokenId;

use super::fields::{Fields, as_id, wrong};

/// Reads `post_processor`; `null` is nothing. `is_token` says whether an id is one of this tokenizer: a template that
/// writes another is refused, where `tokenizers` would write it and fail to decode it.
pub(super) fn read(path: &str, value: &Value, is_token: &dyn Fn(TokenId) -> bool) -> Result<PostProcessor> {
    if value.is_null() {
        return Ok(PostProcessor::None);
    }
    let f = Fields::new(path, value)?;
    match f.component()? {
        "Sequence" => {
            f.only(&["processors"])?;
            let mut all = Vec::new();
            for (i, item) in f.array("processors")?.iter().enumerate() {
                let path = format!("{path}.processors[{i}]");
                if item.is_null() {
                    return Err(wrong(&path, item, "an object"));
                }
                all.push(read(&path, item, is_token)?);
            }
            Ok(PostProcessor::Sequence(all))
        }
        "ByteLevel" => {
            f.only(&["add_prefix_space", "trim_offsets", "use_regex"])?;
            f.bool("add_prefix_space")?;
            f.bool("trim_offsets")?;
            Ok(PostProcessor::ByteLevel { json: value.clone() })
        }
        "BertProcessing" => {
            f.only(&["sep", "cls"])?;
            around(&f, value, is_token)
        }
        "RobertaProcessing" => {
            f.only(&["sep", "cls", "trim_offsets", "add_prefix_space"])?;
            f.bool("trim_offsets")?;
            f.bool("add_prefix_space")?;
            around(&f, value, is_token)
        }
        "TemplateProcessing" => {
            f.only(&["single", "pair", "special_tokens"])?;
            template(&f, value, is_token)
        }
        other => Err(Error::unsupported(f.at("type"), format!("the post-processor {other:?} is unknown"), "")),
    }
}

fn around(f: &Fields<'_>, value: &Value, is_token: &dyn Fn(TokenId) -> bool) -> Result<PostProcessor> {
    let one = |name: &str| -> Result<TokenId> {
        let path = f.at(name);
        match f.array(name)? {
            [Value::String(_), id] => {
                let id = as_id(id).ok_or_else(|| Error::format(&*path, format!("{id} is not a token id"), ""))?;
                known(&path, id, is_token)
            }
            _ => Err(Error::format(path, "not a pair of a token and its id", "")),
        }
    };
    Ok(PostProcessor::Template { before: vec![one("cls")?], after: vec![one("sep")?], json: value.clone() })
}

fn known(path: &str, id: TokenId, is_token: &dyn Fn(TokenId) -> bool) -> Result<TokenId> {
    if is_token(id) {
        return Ok(id);
    }
    Err(Error::format(path, format!("the id {id} is no token"), "add the token to model.vocab or added_tokens"))
}

/// `single` becomes the ids before and after `$A`; both templates must name special tokens that are declared.
fn template(f: &Fields<'_>, value: &Value, is_token: &dyn Fn(TokenId) -> bool) -> Result<PostProcessor> {
    let specials_path = f.at("special_tokens");
    let specials = Fields::new(&specials_path, f.required("special_tokens")?)?;
    let (mut before, mut after, mut texts) = (Vec::new(), Vec::new(), 0_usize);
    for (i, piece) in f.array("single")?.iter().enumerate() {
        let path = format!("{}.single[{i}]", f.path);
        match read_piece(&path, piece)? {
            Piece::Text('A') => texts += 1,
            Piece::Text(other) => {
                return Err(Error::format(path, format!("a single text has no sequence {other}"), "use A"));
            }
            Piece::Special(name) => {
                let ids = special(&specials, &path, name, is_token)?;
                if texts == 0 {
                    before.extend(ids)
                } else {
                    after.extend(ids)
                };
            }
        }
    }
    if texts != 1 {
        let found = format!("the text stands {texts} times in the template");
        return Err(Error::unsupported(f.at("single"), found, "write {\"Sequence\": {\"id\": \"A\"}} once"));
    }
    for (i, piece) in f.array("pair")?.iter().enumerate() {
        let path = format!("{}.pair[{i}]", f.path);
        if let Piece::Special(name) = read_piece(&path, piece)? {
            special(&specials, &path, name, is_token)?;
        }
    }
    Ok(PostProcessor::Template { before, after, json: value.clone() })
}

enum Piece<'a> {
    Text(char),
    Special(&'a str),
}

fn read_piece<'a>(path: &str, piece: &'a Value) -> Result<Piece<'a>> {
    let Value::Object(map) = piece else { return Err(wrong(path, piece, "an object")) };
    let mut entries = map.iter();
    let (Some((kind, body)), None) = (entries.next(), entries.next()) else {
        return Err(Error::format(path, "not one of {\"Sequence\": ...} and {\"SpecialToken\": ...}", ""));
    };
    let path = format!("{path}.{kind}");
    let f = Fields::new(&path, body)?;
    f.size("type_id")?;
    match (kind.as_str(), f.str("id")?) {
        ("Sequence", "A") => Ok(Piece::Text('A')),
        ("Sequence", "B") => Ok(Piece::Text('B')),
        ("SpecialToken", name) => Ok(Piece::Special(name)),
        _ => Err(Error::unsupported(path, "an unknown piece of a template", "")),
    }
}

/// The ids that a special token of a template stands for.
fn special(
    specials: &Fields<'_>,
    used_at: &str,
    name: &str,
    is_token: &dyn Fn(TokenId) -> bool,
) -> Result<Vec<TokenId>> {
    let Some(body) = specials.get(name) else {
        let found = format!("{name:?} is not in {}", specials.path);
        return Err(Error::format(used_at, found, "declare it there with its ids"));
    };
    let path = format!("{}[{name:?}]", specials.path);
    let f = Fields::new(&path, body)?;
    let ids_path = f.at("ids");
    let ids = f.array("ids")?.iter().map(|id| {
        let id = as_id(id).ok_or_else(|| Error::format(&*ids_path, format!("{id} is not a token id"), ""))?;
        known(&ids_path, id, is_token)
    });
    ids.collect()
}
