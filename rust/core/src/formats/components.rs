//! The steps around a model: normalizers, pre-tokenizers, post-processors and decoders, as data.

use crate::ids::TokenId;

/// A pattern of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This very text.
    Literal(String),
    /// A regular expression, in Oniguruma's syntax as `tokenizers` uses it.
    Regex(String),
    /// A regular expression, in fancy-regex's syntax as tiktoken uses it.
    FancyRegex(String),
}

/// A normalizer, as in `tokenizer.json`.
#[derive(Clone, Debug, PartialEq)]
pub enum Normalizer {
    /// One after the other.
    Sequence(Vec<Normalizer>),
    /// Unicode normal form C.
    Nfc,
    /// Unicode normal form D.
    Nfd,
    /// Unicode normal form KC.
    Nfkc,
    /// Unicode normal form KD.
    Nfkd,
    /// Lower-case, character by character.
    Lowercase,
    /// Removes white space at the ends.
    Strip {
        /// At the start.
        left: bool,
        /// At the end.
        right: bool,
    },
    /// Removes combining marks (Mn).
    StripAccents,
    /// Replaces every match.
    Replace {
        /// What to look for.
        pattern: Pattern,
        /// What to write instead.
        content: String,
    },
    /// Writes something before a text that is not empty.
    Prepend(String),
    /// BERT's clean-up.
    Bert {
        /// Removes control characters, makes white space a space.
        clean_text: bool,
        /// Puts spaces around CJK characters.
        handle_chinese_chars: bool,
        /// Removes accents; `None` does as `lowercase` says.
        strip_accents: Option<bool>,
        /// Lower-cases.
        lowercase: bool,
    },
    /// SentencePiece's compiled character map, as HF's `Precompiled` applies it (grapheme by grapheme).
    Precompiled(Vec<u8>),
    /// HF's `Nmt`.
    Nmt,
    /// Bytes become the characters of GPT-2's alphabet.
    ByteLevel,
    /// SentencePiece's own normalizer, with its exact rules (longest match from the left, not graphemes).
    SentencePiece(SentencePieceNormalizer),
}

impl Default for Normalizer {
    fn default() -> Self {
        Self::Sequence(Vec::new())
    }
}

/// The rules of SentencePiece's `normalizer_spec`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SentencePieceNormalizer {
    /// The compiled character map; empty for identity.
    pub charsmap: Vec<u8>,
    /// Writes a space before the text.
    pub add_dummy_prefix: bool,
    /// Removes spaces at the ends and makes runs of them one.
    pub remove_extra_whitespaces: bool,
    /// Space becomes `▁`.
    pub escape_whitespaces: bool,
    /// The space of `add_dummy_prefix` goes to the end.
    pub treat_whitespace_as_suffix: bool,
    /// Texts that pass through untouched (user-defined symbols), longest match first.
    pub protected: Vec<String>,
    /// Bytes outside well-formed UTF-8 stay as they are, for a model that has a token for every byte. Otherwise each
    /// becomes U+FFFD, as in SentencePiece itself.
    pub keep_invalid: bool,
}

/// A pre-tokenizer, as in `tokenizer.json`.
#[derive(Clone, Debug, PartialEq)]
pub enum PreTokenizer {
    /// One after the other, each on the pieces of the one before.
    Sequence(Vec<PreTokenizer>),
    /// GPT-2's: optional space in front, its pattern, then the byte alphabet.
    ByteLevel {
        /// Writes a space before a piece that does not start with white space.
        add_prefix_space: bool,
        /// Whether GPT-2's pattern cuts.
        use_regex: bool,
        /// Whether offsets leave white space out (a matter of the post-processor; kept for saving).
        trim_offsets: bool,
    },
    /// Cuts at a pattern.
    Split {
        /// The pattern.
        pattern: Pattern,
        /// What becomes of the matches.
        behavior: SplitBehavior,
        /// Cuts at what does not match instead.
        invert: bool,
    },
    /// SentencePiece's word mark.
    Metaspace {
        /// The mark, `▁`.
        replacement: char,
        /// When the mark is put in front.
        prepend_scheme: PrependScheme,
        /// Whether pieces are cut before every mark.
        split: bool,
    },
    /// White space, then punctuation (BERT).
    Bert,
    /// `\w+|[^\w\s]+`.
    Whitespace,
    /// At white space, which is removed.
    WhitespaceSplit,
    /// At every occurrence of one character, which is removed.
    CharDelimiterSplit(char),
    /// At punctuation.
    Punctuation(SplitBehavior),
    /// At digits.
    Digits {
        /// Every digit is a piece of its own.
        individual_digits: bool,
    },
    /// Where the Unicode script changes.
    UnicodeScripts,
    /// Every `n` characters.
    FixedLength(usize),
}

impl Default for PreTokenizer {
    fn default() -> Self {
        Self::Sequence(Vec::new())
    }
}

/// When Metaspace puts its mark in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrependScheme {
    /// Only at the start of the whole text.
    First,
    /// Never.
    Never,
    /// At the start of every piece between added tokens.
    Always,
}

/// What becomes of the matches of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitBehavior {
    /// They go.
    Removed,
    /// Each is a piece.
    Isolated,
    /// Each ends the piece before it.
    MergedWithPrevious,
    /// Each starts the piece after it.
    MergedWithNext,
    /// Runs of them are a piece.
    Contiguous,
}

/// What is put around the ids of a text.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum PostProcessor {
    /// Nothing.
    #[default]
    None,
    /// One after the other. What a template writes are parts to the next, as a pair of texts is: the ids are not those
    /// of the members nested into each other.
    Sequence {
        /// The members, those of inner sequences too.
        members: Vec<PostProcessor>,
        /// Ids before the text after all of them.
        before: Vec<TokenId>,
        /// Ids after the text after all of them.
        after: Vec<TokenId>,
    },
    /// Special ids before and after a single text (`TemplateProcessing`, `BertProcessing`, `RobertaProcessing`).
    Template {
        /// Ids before the text.
        before: Vec<TokenId>,
        /// Ids after the text.
        after: Vec<TokenId>,
        /// The component as the file has it, for saving.
        json: serde_json::Value,
    },
    /// `ByteLevel`: trims offsets, no ids; kept for saving.
    ByteLevel {
        /// The component as the file has it.
        json: serde_json::Value,
    },
}

/// How ids become text.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoder {
    /// One after the other.
    Sequence(Vec<Decoder>),
    /// The byte alphabet back to bytes.
    ByteLevel,
    /// `##` and spaces between words.
    WordPiece {
        /// The mark of a continuing token.
        prefix: String,
        /// English clean-up of spaces before punctuation.
        cleanup: bool,
    },
    /// `▁` to a space.
    Metaspace {
        /// The mark.
        replacement: char,
        /// With `Always` or `First`, the first token loses its leading mark.
        prepend_scheme: PrependScheme,
    },
    /// The suffix of BPE (`</w>`) to a space.
    BpeSuffix(String),
    /// `<0xNN>` to bytes.
    ByteFallback,
    /// Joins all tokens.
    Fuse,
    /// Replaces in every token.
    Replace {
        /// What to look for.
        pattern: Pattern,
        /// What to write instead.
        content: String,
    },
    /// Strips a character from the ends of every token.
    Strip {
        /// The character.
        content: char,
        /// At most so many at the start.
        start: usize,
        /// At most so many at the end.
        stop: usize,
    },
    /// CTC.
    Ctc {
        /// The padding token.
        pad_token: String,
        /// The word delimiter.
        word_delimiter_token: String,
        /// English clean-up.
        cleanup: bool,
    },
    /// Spellings are raw bytes already (tiktoken, RWKV).
    RawBytes,
    /// SentencePiece's own rules, which look at [`Description::piece_kinds`]: a control token is nothing, an unknown
    /// one is `unk_surface`, a byte token its byte, any other its spelling with `▁` as a space.
    ///
    /// While the text is still empty, a token of the last sort loses one leading `▁` as [`LeadingMark`] says. Unlike
    /// SentencePiece, bytes that are not UTF-8 come out as they are, not as U+FFFD.
    SentencePiece {
        /// What becomes of a mark at the start of the text.
        leading: LeadingMark,
        /// What an unknown token looks like (` ⁇ `).
        unk_surface: String,
    },
}

/// What becomes of a `▁` at the start of a decoded text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadingMark {
    /// It is a space (neither `add_dummy_prefix` nor `remove_extra_whitespaces`).
    Keep,
    /// The first token that starts with one loses it, if no text precedes (`add_dummy_prefix` alone).
    DropFirst,
    /// Every token loses one until there is text (`remove_extra_whitespaces`).
    DropUntilText,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::Sequence(Vec::new())
    }
}
