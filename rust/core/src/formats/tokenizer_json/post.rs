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
    if f.component()? != "Sequence" {
        return Ok(read_one(path, &f, value, is_token)?.0);
    }
    let (mut members, mut steps) = (Vec::new(), Vec::new());
    flatten(&f, is_token, &mut members, &mut steps)?;
    let (before, after) = put_around(&steps)?;
    Ok(PostProcessor::Sequence { members, before, after })
}

/// The members of a sequence and of those inside it, and what each does to the parts of a text.
fn flatten(
    f: &Fields<'_>,
    is_token: &dyn Fn(TokenId) -> bool,
    members: &mut Vec<PostProcessor>,
    steps: &mut Vec<(String, Step)>,
) -> Result<()> {
    f.only(&["processors"])?;
    for (i, item) in f.array("processors")?.iter().enumerate() {
        let path = format!("{}.processors[{i}]", f.path);
        if item.is_null() {
            return Err(wrong(&path, item, "an object"));
        }
        let inner = Fields::new(&path, item)?;
        if inner.component()? == "Sequence" {
            flatten(&inner, is_token, members, steps)?;
        } else {
            let (member, step) = read_one(&path, &inner, item, is_token)?;
            members.push(member);
            steps.push((path, step));
        }
    }
    Ok(())
}

/// What a member of a sequence does to the parts it is given. The text is the one part there is at first; what a
/// template writes are parts again, which the next member sees as it would see a pair of texts.
enum Step {
    /// Nothing to the ids.
    Keep,
    /// `first` before the first part, `other` before the others, `sep` after each.
    Around { first: Vec<TokenId>, other: Vec<TokenId>, sep: TokenId },
    /// `single` for one part, `pair` for two.
    Template { single: Vec<Slot>, pair: Vec<Slot> },
}

/// A place in a template.
enum Slot {
    /// The first part or the second.
    Part(usize),
    /// The ids of a special token.
    Special(Vec<TokenId>),
}

/// The ids of a part; `None` stands for the text.
type Part = Vec<Option<TokenId>>;

/// What the steps put before and after a text, one after the other as `tokenizers` runs them.
fn put_around(steps: &[(String, Step)]) -> Result<(Vec<TokenId>, Vec<TokenId>)> {
    let mut parts: Vec<Part> = vec![vec![None]];
    for (path, step) in steps {
        parts = match step {
            Step::Keep => parts,
            Step::Around { first, other, sep } => {
                let around = |(i, part): (usize, Part)| {
                    let before = if i == 0 { first } else { other };
                    before.iter().copied().map(Some).chain(part).chain([Some(*sep)]).collect()
                };
                parts.into_iter().enumerate().map(around).collect()
            }
            Step::Template { single, pair } => {
                let template = match parts.len() {
                    1 => single,
                    2 => pair,
                    n => {
                        let found = format!("what stands before it makes {n} parts; a template is for one or two");
                        return Err(Error::unsupported(path, found, "write the whole as one TemplateProcessing"));
                    }
                };
                let filled = template.iter().map(|slot| match slot {
                    Slot::Part(at) => parts.get(*at).cloned().unwrap_or_default(),
                    Slot::Special(ids) => ids.iter().copied().map(Some).collect(),
                });
                filled.collect()
            }
        };
        let texts = parts.iter().flatten().filter(|id| id.is_none()).count();
        if texts != 1 {
            let found = format!("the text stands {texts} times in what it makes of the parts before it");
            return Err(Error::unsupported(path, found, "write the whole as one TemplateProcessing"));
        }
    }
    let whole = parts.concat();
    let text = whole.iter().position(Option::is_none).unwrap_or(whole.len());
    let ids = |part: &[Option<TokenId>]| part.iter().copied().flatten().collect();
    Ok((ids(&whole[..text]), ids(&whole[text..])))
}

/// Reads what is no sequence.
fn read_one(
    path: &str,
    f: &Fields<'_>,
    value: &Value,
    is_token: &dyn Fn(TokenId) -> bool,
) -> Result<(PostProcessor, Step)> {
    match f.component()? {
        "ByteLevel" => {
            f.only(&["add_prefix_space", "trim_offsets", "use_regex"])?;
            f.bool("add_prefix_space")?;
            f.bool("trim_offsets")?;
            Ok((PostProcessor::ByteLevel { json: value.clone() }, Step::Keep))
        }
        "BertProcessing" => {
            f.only(&["sep", "cls"])?;
            around(f, value, false, is_token)
        }
        "RobertaProcessing" => {
            f.only(&["sep", "cls", "trim_offsets", "add_prefix_space"])?;
            f.bool("trim_offsets")?;
            f.bool("add_prefix_space")?;
            around(f, value, true, is_token)
        }
        "TemplateProcessing" => {
            f.only(&["single", "pair", "special_tokens"])?;
            template(f, value, is_token)
        }
        other => {
            Err(Error::unsupported(format!("{path}.type"), format!("the post-processor {other:?} is unknown"), ""))
        }
    }
}

/// `cls` before a text and `sep` after it; a second text has `sep` before it too where `doubled` (RoBERTa).
fn around(
    f: &Fields<'_>,
    value: &Value,
    doubled: bool,
    is_token: &dyn Fn(TokenId) -> bool,
) -> Result<(PostProcessor, Step)> {
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
    let (cls, sep) = (one("cls")?, one("sep")?);
    let step = Step::Around { first: vec![cls], other: if doubled { vec![sep] } else { Vec::new() }, sep };
    Ok((PostProcessor::Template { before: vec![cls], after: vec![sep], json: value.clone() }, step))
}

fn known(path: &str, id: TokenId, is_token: &dyn Fn(TokenId) -> bool) -> Result<TokenId> {
    if is_token(id) {
        return Ok(id);
    }
    Err(Error::format(path, format!("the id {id} is no token"), "add the token to model.vocab or added_tokens"))
}

/// `single` becomes the ids before and after `$A`; both templates must name special tokens that are declared.
fn template(f: &Fields<'_>, value: &Value, is_token: &dyn Fn(TokenId) -> bool) -> Result<(PostProcessor, Step)> {
    let specials_path = f.at("special_tokens");
    let specials = Fields::new(&specials_path, f.required("special_tokens")?)?;
    let slots = |name: &str| -> Result<Vec<Slot>> {
        let slot = |(i, piece): (usize, &Value)| {
            let path = format!("{}.{name}[{i}]", f.path);
            match read_piece(&path, piece)? {
                Piece::Text('B') if name == "single" => {
                    Err(Error::format(path, "a single text has no sequence B", "use A"))
                }
                Piece::Text(text) => Ok(Slot::Part(usize::from(text == 'B'))),
                Piece::Special(name) => Ok(Slot::Special(special(&specials, &path, name, is_token)?)),
            }
        };
        f.array(name)?.iter().enumerate().map(slot).collect()
    };
    let (single, pair) = (slots("single")?, slots("pair")?);
    let texts = single.iter().filter(|slot| matches!(slot, Slot::Part(_))).count();
    if texts != 1 {
        let found = format!("the text stands {texts} times in the template");
        return Err(Error::unsupported(f.at("single"), found, "write {\"Sequence\": {\"id\": \"A\"}} once"));
    }
    let (mut before, mut after, mut is_before) = (Vec::new(), Vec::new(), true);
    for slot in &single {
        match slot {
            Slot::Part(_) => is_before = false,
            Slot::Special(ids) if is_before => before.extend(ids),
            Slot::Special(ids) => after.extend(ids),
        }
    }
    let post = PostProcessor::Template { before, after, json: value.clone() };
    Ok((post, Step::Template { single, pair }))
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
