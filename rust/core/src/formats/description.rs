//! The one internal description that every reader produces and every engine is built from.
//!
//! It says what the original tokenizer does, step by step, in the vocabulary of `tokenizer.json`; readers of other
//! formats translate into it. Nothing here computes: [`crate::normalize`], [`crate::pretoken`] and the engines do.

pub use super::components::*;
use crate::ids::TokenId;

/// A tokenizer as data.
#[derive(Clone, Debug)]
pub struct Description {
    /// The format it was read from.
    pub source: Source,
    /// The model: how a pretoken becomes ids.
    pub model: Model,
    /// What the file says an id is, where it is not an ordinary token (SentencePiece and GGUF do), by id.
    pub piece_kinds: Vec<(TokenId, PieceKind)>,
    /// Tokens found in the text before the model sees it, in the order of the file.
    pub added_tokens: Vec<AddedToken>,
    /// What happens to the text first; an empty `Sequence` for nothing.
    pub normalizer: Normalizer,
    /// How normalized text is cut; an empty `Sequence` for one piece.
    pub pre_tokenizer: PreTokenizer,
    /// What is put around the ids of a text.
    pub post_processor: PostProcessor,
    /// How ids become text; an empty `Sequence` joins with nothing (HF: joins with spaces).
    pub decoder: Decoder,
    /// Roles that the file itself declares (SentencePiece and GGUF do), with the field that said so.
    pub declared_roles: Vec<DeclaredRole>,
    /// The chat template, where the file carries one (GGUF).
    pub chat_template: Option<String>,
}

/// The format a description was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Hugging Face `tokenizer.json`.
    TokenizerJson,
    /// A tiktoken rank file.
    Tiktoken,
    /// A SentencePiece `.model`.
    SentencePiece,
    /// GGUF metadata.
    Gguf,
    /// An RWKV trie vocabulary.
    Rwkv,
}

/// What an id that is not an ordinary token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// Stands for what cannot be spelt.
    Unknown,
    /// A mark of the format (`<s>`): never arises from text, and decodes to nothing.
    Control,
    /// Found in the text as a whole, before the model splits it.
    UserDefined,
    /// One byte (`<0x0A>`): arises only where a character has no token.
    Byte(u8),
    /// Takes up an id and is never emitted.
    Unused,
}

/// A role that the file declares for an id: `("bos", 1, "trainer_spec.bos_id")`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredRole {
    /// `bos`, `eos`, `pad`, `unk`, `mask`, `eot`, `fim_prefix`, ...
    pub role: String,
    /// The id.
    pub id: TokenId,
    /// The field that said so.
    pub field: String,
}

/// Token spellings in one buffer: spelling `i` belongs to `ids[i]`.
///
/// A spelling is the token as the file writes it (`Ġthe`, `▁the`, `##ing`, `<0x0A>`); for rank files and RWKV it is
/// the raw bytes. Entries keep the file's order. Ids may have holes; a reader refuses duplicate ids and spellings.
#[derive(Clone, Debug, Default)]
pub struct Spellings {
    /// All spellings, one after the other.
    pub bytes: Vec<u8>,
    /// `ends[i]` is where spelling `i` ends; it starts where the one before ends.
    pub ends: Vec<u32>,
    /// The id of each spelling.
    pub ids: Vec<TokenId>,
}

impl Spellings {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Adds one.
    ///
    /// # Panics
    /// When the buffer passes 4 GiB; readers bound their input far below that.
    pub fn push(&mut self, spelling: &[u8], id: TokenId) {
        self.bytes.extend_from_slice(spelling);
        self.ends.push(u32::try_from(self.bytes.len()).expect("spellings stay under 4 GiB: Limits.file_bytes"));
        self.ids.push(id);
    }

    /// Spelling `i` as written.
    pub fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.bytes[start..self.ends[i] as usize]
    }

    /// Every spelling with its id, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], TokenId)> + Clone {
        (0..self.len()).map(|i| (self.get(i), self.ids[i]))
    }
}

/// The model.
#[derive(Clone, Debug)]
pub enum Model {
    /// Byte-pair encoding with a merge table.
    Bpe(Bpe),
    /// A unigram language model (Kudo 2018): the most probable segmentation.
    Unigram(Unigram),
    /// Greedy longest match from the left inside a word (BERT).
    WordPiece(WordPiece),
    /// One id per word, whole words only.
    WordLevel(WordLevel),
    /// Greedy longest match from the left over the whole text (RWKV World).
    Trie(Trie),
}

/// Byte-pair encoding.
#[derive(Clone, Debug, Default)]
pub struct Bpe {
    /// The tokens.
    pub vocab: Spellings,
    /// The merges. Ranks of different merges may be equal: then the leftmost applicable one goes first.
    pub merges: Vec<Merge>,
    /// How spellings and the model's input relate.
    pub symbols: Symbols,
    /// The token for what has no symbol; without one such input is dropped, as `tokenizers` does.
    pub unk: Option<TokenId>,
    /// Whether neighbouring unknowns become one token.
    pub fuse_unk: bool,
    /// Whether a character without a symbol becomes its `<0xNN>` tokens (all of them present) before `unk` is used.
    pub byte_fallback: bool,
    /// Whether a pretoken that is a token is emitted whole, without merging.
    pub ignore_merges: bool,
    /// Written before every symbol of a pretoken but the first; empty for none.
    pub continuing_subword_prefix: String,
    /// Written after the last symbol of a pretoken (CLIP: `</w>`); empty for none.
    pub end_of_word_suffix: String,
    /// Tokens that are found in the model's input before it is cut into symbols: at every place, from the left, the
    /// longest that matches. Such a symbol never merges (SentencePiece: user-defined symbols).
    pub user_defined: Vec<TokenId>,
    /// Tokens that are no symbol, even where their spelling is a single character (SentencePiece: control, unknown and
    /// byte tokens). Byte fallback and `unk` still write theirs.
    pub never: Vec<TokenId>,
    /// Symbols that take part in merging and are undone at the end (SentencePiece: unused pieces): a token of this list
    /// becomes the two sides of the merge that makes it, and those in turn; one that no merge makes is unknown. At most
    /// one merge makes each.
    pub undone: Vec<TokenId>,
}

/// What one symbol of a BPE model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Symbols {
    /// One character of the spelling; the pipeline has turned the text into the spelling's alphabet (a byte-level
    /// pre-tokenizer, Metaspace, or nothing). The form of `tokenizer.json`.
    #[default]
    Chars,
    /// One raw byte: spellings are raw bytes (tiktoken).
    RawBytes,
}

/// A merge of two tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The left token.
    pub left: TokenId,
    /// The right token.
    pub right: TokenId,
    /// The merged token.
    pub product: TokenId,
    /// The priority: lower goes first.
    pub rank: u32,
}

/// A unigram model.
#[derive(Clone, Debug, Default)]
pub struct Unigram {
    /// The pieces; ids are 0..n in order.
    pub vocab: Spellings,
    /// Log-probability of each piece, nats, by position in `vocab`.
    pub scores: Vec<f64>,
    /// The unknown piece.
    pub unk: Option<TokenId>,
    /// Whether an unknown character becomes its `<0xNN>` tokens.
    pub byte_fallback: bool,
    /// Whether neighbouring unknowns become one token (always, in `tokenizers`; never with `byte_fallback` tokens).
    pub fuse_unk: bool,
    /// What differs between the two implementations of the same model.
    pub flavour: UnigramFlavour,
    /// Pieces that score as [`UnigramFlavour::SentencePiece`] says, whatever their own score (user-defined symbols).
    pub user_defined: Vec<TokenId>,
    /// Pieces that are never produced from text (SentencePiece: control, unknown, unused and byte pieces).
    pub never: Vec<TokenId>,
}

/// Whose arithmetic decides ties between segmentations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UnigramFlavour {
    /// `tokenizers`: f64 scores.
    #[default]
    Tokenizers,
    /// SentencePiece 0.2.2 and later: f32 scores and sums; of equal sums the first found wins (the leftmost start, then
    /// the shorter piece). A user-defined piece of `n` bytes scores `0.1 * (n - 1)`, computed in f64 and rounded to f32,
    /// and competes like any other. When the best sum at a position is beyond ±100000, it is subtracted from the sums
    /// of all positions reached so far from there on (itself included) before going on.
    SentencePiece,
}

/// A WordPiece model.
#[derive(Clone, Debug, Default)]
pub struct WordPiece {
    /// The tokens.
    pub vocab: Spellings,
    /// The token for a word that cannot be spelt.
    pub unk: Option<TokenId>,
    /// Written before every token of a word but the first (`##`).
    pub continuing_subword_prefix: String,
    /// A longer word, in characters, is unknown.
    pub max_input_chars_per_word: usize,
}

/// A whole-word model.
#[derive(Clone, Debug, Default)]
pub struct WordLevel {
    /// The words.
    pub vocab: Spellings,
    /// The token for other words.
    pub unk: Option<TokenId>,
}

/// A greedy trie model; spellings are raw bytes.
#[derive(Clone, Debug, Default)]
pub struct Trie {
    /// The tokens.
    pub vocab: Spellings,
}

/// A token that is found in the text before the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id.
    pub id: TokenId,
    /// The text that stands for it.
    pub content: String,
    /// Whether it matches whole words only.
    pub single_word: bool,
    /// Whether it takes white space on its left with it.
    pub lstrip: bool,
    /// Whether it takes white space on its right with it.
    pub rstrip: bool,
    /// Whether it is searched in the normalized text (and normalized itself).
    pub normalized: bool,
    /// Whether it is a special token: one that decoding may leave out.
    pub special: bool,
}

impl AddedToken {
    /// A special token that is found wherever its text stands, as it stands.
    pub fn special(id: TokenId, content: impl Into<String>) -> Self {
        Self {
            id,
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }
}
