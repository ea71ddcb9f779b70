//! Writer of `tokenizer.json`: a file that stock `tokenizers` loads and that gives the same ids.
//!
//! What came from a `tokenizer.json` goes back as it was. What came from elsewhere is said with stock components where
//! that is exact, and refused by name where it is not: an approximation would be found out in production.

mod components;
mod order;
mod pattern;
mod pretty;

use std::collections::BTreeMap;

use crate::decode::byte_alphabet;
use crate::error::{Error, Result};
use crate::formats::tokenizer_json::{number, spellings};
use crate::formats::{
    AddedToken, Bpe, Decoder, Description, Model, Normalizer, Source, Spellings, Symbols, Unigram, UnigramFlavour,
};
use crate::ids::TokenId;

use pretty::{Json, Pretty};

/// The tokenizer as a `tokenizer.json`.
///
/// Indented by two spaces, keys in the order of `tokenizers`, tokens by id: equal descriptions give equal bytes. Scores
/// are spelt so that the released wheel, which does not round correctly, reads back the same double. O(n log n) time.
///
/// # Errors
/// [`crate::ErrorKind::Unsupported`], naming it, for what no stock component says exactly: an RWKV trie, a SentencePiece
/// character map, single-precision scores of SentencePiece, merges of two tokens with one rank, a pattern that
/// Oniguruma may read differently, an id that `tokenizers` would not give back.
pub fn to_tokenizer_json(description: &Description) -> Result<Vec<u8>> {
    let parts = Parts::of(description)?;
    let mut out = Pretty::default();
    out.open(b'{');
    for (key, value) in [("version", Json::from("1.0")), ("truncation", Json::Null), ("padding", Json::Null)] {
        out.key(key);
        out.json(&value);
    }
    let mut added: Vec<&AddedToken> = description.added_tokens.iter().collect();
    added.sort_by_key(|t| t.id);
    out.key("added_tokens");
    out.json(&Json::List(added.iter().map(|t| added_token(t)).collect()));
    out.key("normalizer");
    out.json(&components::normalizer(&description.normalizer)?);
    out.key("pre_tokenizer");
    out.json(&parts.pre_tokenizer);
    out.key("post_processor");
    out.json(&components::post_processor(&description.post_processor, &|id| name_of(description, id)));
    out.key("decoder");
    out.json(&parts.decoder);
    out.key("model");
    model(&mut out, description, &added)?;
    out.close(b'}');
    Ok(out.finish())
}

/// The pipeline as JSON text, without tables: `format`, `normalizer`, `pre_tokenizer`, `model` (its type and flags),
/// `post_processor` and `decoder`, as `tokenizer.json` spells them.
///
/// What no stock component says is an object with `type` and `found`.
pub fn describe(description: &Description) -> String {
    let found = |type_name: &str, result: Result<Json>| {
        result.unwrap_or_else(|error| Json::component(type_name, [("found", Json::from(error.to_string().as_str()))]))
    };
    let mut out = Pretty::default();
    out.open(b'{');
    let (model, flags) = match &description.model {
        Model::Bpe(m) => (
            "BPE",
            vec![("byte_fallback", m.byte_fallback), ("fuse_unk", m.fuse_unk), ("ignore_merges", m.ignore_merges)],
        ),
        Model::Unigram(m) => ("Unigram", vec![("byte_fallback", m.byte_fallback), ("fuse_unk", m.fuse_unk)]),
        Model::WordPiece(_) => ("WordPiece", vec![]),
        Model::WordLevel(_) => ("WordLevel", vec![]),
        Model::Trie(_) => ("Trie", vec![]),
    };
    out.key("format");
    out.text(match description.source {
        Source::TokenizerJson => "tokenizer.json",
        Source::Tiktoken => "tiktoken",
        Source::SentencePiece => "sentencepiece",
        Source::Gguf => "gguf",
        Source::Rwkv => "rwkv",
    });
    out.key("normalizer");
    out.json(&found("Normalizer", components::normalizer(&without_tables(&description.normalizer))));
    out.key("pre_tokenizer");
    out.json(&found("PreTokenizer", components::pre_tokenizer(&description.pre_tokenizer)));
    out.key("model");
    out.open(b'{');
    out.key("type");
    out.text(model);
    for (name, flag) in flags {
        out.key(name);
        out.json(&Json::from(flag));
    }
    out.close(b'}');
    out.key("post_processor");
    out.json(&components::post_processor(&description.post_processor, &|id| name_of(description, id)));
    out.key("decoder");
    out.json(&found("Decoder", components::decoder(&description.decoder, &Json::Null)));
    out.close(b'}');
    String::from_utf8_lossy(&out.finish()).into_owned()
}

/// The normalizer with its character maps left out.
fn without_tables(normalizer: &Normalizer) -> Normalizer {
    match normalizer {
        Normalizer::Sequence(parts) => Normalizer::Sequence(parts.iter().map(without_tables).collect()),
        Normalizer::Precompiled(_) => Normalizer::Precompiled(Vec::new()),
        other => other.clone(),
    }
}

/// The text of an id, for a template.
fn name_of(description: &Description, id: TokenId) -> String {
    if let Some(token) = description.added_tokens.iter().find(|t| t.id == id) {
        return token.content.clone();
    }
    let vocab = spellings(&description.model);
    let entry = vocab.ids.iter().position(|&i| i == id);
    entry.map_or_else(|| id.to_string(), |entry| String::from_utf8_lossy(vocab.get(entry)).into_owned())
}

/// The components that depend on what a symbol of the model is.
struct Parts {
    pre_tokenizer: Json,
    decoder: Json,
}

impl Parts {
    fn of(description: &Description) -> Result<Self> {
        let raw_model = matches!(&description.model, Model::Bpe(bpe) if bpe.symbols == Symbols::RawBytes);
        if !raw_model {
            if contains_raw(&description.decoder) && !matches!(description.model, Model::Trie(_)) {
                return Err(Error::unsupported("decoder", "raw bytes, of a model that has none", ""));
            }
            let decoder = components::decoder(&description.decoder, &Json::Null)?;
            return Ok(Self { pre_tokenizer: components::pre_tokenizer(&description.pre_tokenizer)?, decoder });
        }
        // Raw bytes go through GPT-2's alphabet: the pieces are cut first, then spelt in it.
        let byte_level = components::byte_level(false, true, false);
        let steps = match components::pre_tokenizer(&description.pre_tokenizer)? {
            Json::Null => vec![byte_level],
            cut => vec![cut, byte_level],
        };
        let pre_tokenizer = Json::component("Sequence", [("pretokenizers", Json::List(steps))]);
        let decoder = components::decoder(&description.decoder, &components::byte_level(true, true, true))?;
        Ok(Self { pre_tokenizer, decoder })
    }
}

fn contains_raw(decoder: &Decoder) -> bool {
    match decoder {
        Decoder::RawBytes => true,
        Decoder::Sequence(members) => members.iter().any(contains_raw),
        _ => false,
    }
}

fn added_token(token: &AddedToken) -> Json {
    Json::object([
        ("id", token.id.into()),
        ("content", token.content.as_str().into()),
        ("single_word", token.single_word.into()),
        ("lstrip", token.lstrip.into()),
        ("rstrip", token.rstrip.into()),
        ("normalized", token.normalized.into()),
        ("special", token.special.into()),
    ])
}

fn model(out: &mut Pretty, description: &Description, added: &[&AddedToken]) -> Result<()> {
    match &description.model {
        Model::Bpe(bpe) => write_bpe(out, bpe, added),
        Model::Unigram(unigram) => write_unigram(out, unigram, added),
        Model::WordPiece(m) => {
            let vocab = Vocab::new(&m.vocab, false)?;
            vocab.check_added(added)?;
            let head = [
                ("unk_token", unk_text(m.unk, &vocab)?),
                ("continuing_subword_prefix", m.continuing_subword_prefix.as_str().into()),
                ("max_input_chars_per_word", m.max_input_chars_per_word.into()),
            ];
            start(out, "WordPiece", head);
            vocab.write(out);
            out.close(b'}');
            Ok(())
        }
        Model::WordLevel(m) => {
            let vocab = Vocab::new(&m.vocab, false)?;
            vocab.check_added(added)?;
            let unk = unk_text(m.unk, &vocab)?;
            start(out, "WordLevel", []);
            vocab.write(out);
            out.key("unk_token");
            out.json(&unk);
            out.close(b'}');
            Ok(())
        }
        Model::Trie(_) => {
            Err(Error::unsupported("model", "a greedy trie (RWKV)", "tokenizer.json has no such model; keep the file"))
        }
    }
}

/// Opens the model with its type and small fields.
fn start<const N: usize>(out: &mut Pretty, kind: &str, fields: [(&str, Json); N]) {
    out.open(b'{');
    out.key("type");
    out.text(kind);
    for (key, value) in fields {
        out.key(key);
        out.json(&value);
    }
}

/// The text of the unknown token; a name that is no token where there is none, for the field is required.
fn unk_text(unk: Option<TokenId>, vocab: &Vocab) -> Result<Json> {
    match unk {
        Some(id) => vocab.text(id).map(Json::from),
        None => {
            Ok(Json::from(["[UNK]", "<unk>", "<no unknown token>"].into_iter().find(|t| !vocab.has(t)).unwrap_or("")))
        }
    }
}

fn write_bpe(out: &mut Pretty, bpe: &Bpe, added: &[&AddedToken]) -> Result<()> {
    let mut vocab = Vocab::new(&bpe.vocab, bpe.symbols == Symbols::RawBytes)?;
    if vocab.check_added(added).is_err() {
        // In the model's vocabulary a token keeps its id, and no merge makes it.
        vocab.take_in(added)?;
        vocab.check_added(added)?;
    }
    check_symbols(bpe)?;
    let optional = |text: &str| if text.is_empty() { Json::Null } else { Json::from(text) };
    let unk = match bpe.unk {
        Some(id) => Json::from(vocab.text(id)?),
        None => Json::Null,
    };
    let head = [
        ("dropout", Json::Null),
        ("unk_token", unk),
        ("continuing_subword_prefix", optional(&bpe.continuing_subword_prefix)),
        ("end_of_word_suffix", optional(&bpe.end_of_word_suffix)),
        ("fuse_unk", bpe.fuse_unk.into()),
        ("byte_fallback", bpe.byte_fallback.into()),
        ("ignore_merges", bpe.ignore_merges.into()),
    ];
    start(out, "BPE", head);
    vocab.write(out);
    out.key("merges");
    out.open(b'[');
    for merge in order::strict(bpe)? {
        out.item();
        out.open(b'[');
        for id in [merge.left, merge.right] {
            out.item();
            out.text(vocab.text(id)?);
        }
        out.close(b']');
    }
    out.close(b']');
    out.close(b'}');
    Ok(())
}

/// What SentencePiece says of single tokens and `tokenizers` cannot: refused where it could change ids.
fn check_symbols(bpe: &Bpe) -> Result<()> {
    let refuse = |what: &str| Err(Error::unsupported("model.vocab", what, "tokenizer.json has no such tokens"));
    if !bpe.user_defined.is_empty() {
        return refuse("user-defined symbols, which never merge");
    }
    if !bpe.undone.is_empty() {
        return refuse("unused pieces, which are undone after merging");
    }
    // A longer spelling is no symbol in `tokenizers` either.
    let never: hashbrown::HashSet<TokenId> = bpe.never.iter().copied().collect();
    let one = |s: &[u8]| std::str::from_utf8(s).is_ok_and(|s| s.chars().count() == 1);
    if bpe.vocab.iter().any(|(spelling, id)| never.contains(&id) && one(spelling)) {
        return refuse("a control token of one character, which text never becomes");
    }
    Ok(())
}

fn write_unigram(out: &mut Pretty, unigram: &Unigram, added: &[&AddedToken]) -> Result<()> {
    let refuse = |field: &str, what: &str| Err(Error::unsupported(field, what, "tokenizer.json cannot say that"));
    if unigram.flavour == UnigramFlavour::SentencePiece {
        return refuse("model.scores", "SentencePiece's single-precision scores, which decide ties differently");
    }
    if !unigram.user_defined.is_empty() || !unigram.never.is_empty() {
        return refuse("model.vocab", "pieces that are always or never matched");
    }
    if unigram.vocab.ids.iter().enumerate().any(|(i, &id)| id as usize != i) {
        return refuse("model.vocab", "pieces whose ids are not 0, 1, 2, ...");
    }
    Vocab::new(&unigram.vocab, false)?.check_added(added)?;
    start(out, "Unigram", [("unk_id", unigram.unk.map_or(Json::Null, Json::from))]);
    out.key("vocab");
    out.open(b'[');
    for ((spelling, id), &score) in unigram.vocab.iter().zip(&unigram.scores) {
        let Some(score) = number::spell(score) else {
            let found = format!("no decimal spelling that tokenizers reads as {score:e}");
            return Err(Error::unsupported(format!("model.vocab[{id}]"), found, ""));
        };
        out.item();
        out.open(b'[');
        out.item();
        out.text(utf8(spelling, id)?);
        out.item();
        out.raw(&score);
        out.close(b']');
    }
    out.close(b']');
    out.key("byte_fallback");
    out.json(&unigram.byte_fallback.into());
    out.close(b'}');
    Ok(())
}

fn utf8(spelling: &[u8], id: TokenId) -> Result<&str> {
    std::str::from_utf8(spelling).map_err(|_| {
        let found = "a spelling that is not UTF-8, outside a byte-level model";
        Error::unsupported(format!("model.vocab, id {id}"), found, "JSON has text only")
    })
}

/// The model's vocabulary as text, by id.
struct Vocab {
    by_id: BTreeMap<TokenId, String>,
    by_text: hashbrown::HashMap<String, TokenId>,
}

impl Vocab {
    /// `raw` spellings are bytes and become characters of the byte alphabet.
    fn new(spellings: &Spellings, raw: bool) -> Result<Self> {
        let mut vocab = Self { by_id: BTreeMap::new(), by_text: hashbrown::HashMap::with_capacity(spellings.len()) };
        for (spelling, id) in spellings.iter() {
            let text = if raw {
                spelling.iter().map(|&b| byte_alphabet::char_of(b)).collect()
            } else {
                utf8(spelling, id)?.to_owned()
            };
            vocab.insert(id, text)?;
        }
        Ok(vocab)
    }

    fn insert(&mut self, id: TokenId, text: String) -> Result<()> {
        let clash = self.by_text.insert(text.clone(), id).is_some() | self.by_id.insert(id, text.clone()).is_some();
        if clash {
            let found = format!("{text:?} with the id {id}: the text or the id is in the model already");
            return Err(Error::unsupported("model.vocab", found, ""));
        }
        Ok(())
    }

    fn has(&self, text: &str) -> bool {
        self.by_text.contains_key(text)
    }

    fn text(&self, id: TokenId) -> Result<&str> {
        let found = self.by_id.get(&id).map(String::as_str);
        found.ok_or_else(|| Error::value("model.vocab", format!("the id {id} is no token of the model"), ""))
    }

    /// That `tokenizers` gives every added token its id: the model's, or the next one in turn.
    fn check_added(&self, added: &[&AddedToken]) -> Result<()> {
        let mut next = TokenId::try_from(self.by_id.len()).unwrap_or(TokenId::MAX);
        for token in added {
            let given = self.by_text.get(&token.content).copied().unwrap_or(next);
            if given == next && !self.by_text.contains_key(&token.content) {
                next = next.saturating_add(1);
            }
            if given != token.id {
                let found =
                    format!("{:?} has the id {}, and tokenizers would give it {given}", token.content, token.id);
                return Err(Error::unsupported("added_tokens", found, "tokenizer.json cannot hold this id"));
            }
        }
        Ok(())
    }

    /// Puts the added tokens among the model's, where they keep ids that do not follow each other.
    fn take_in(&mut self, added: &[&AddedToken]) -> Result<()> {
        for token in added {
            if self.by_text.get(&token.content) == Some(&token.id) {
                continue;
            }
            if token.single_word {
                // Where it is not matched as a word, the model would know it as a piece.
                let found = format!("{:?}, a single-word token whose id does not follow the model's", token.content);
                return Err(Error::unsupported("added_tokens", found, ""));
            }
            self.insert(token.id, token.content.clone())?;
        }
        Ok(())
    }

    fn write(&self, out: &mut Pretty) {
        out.key("vocab");
        out.open(b'{');
        for (id, text) in &self.by_id {
            out.key(text);
            out.raw(&id.to_string());
        }
        out.close(b'}');
    }
}
