//! Identity: what every id stands for, in bytes.
//!
//! `▁x`, `Ġx` and a word-initial WordPiece `x` are the bytes ` x`; `<0x0A>` and `Ċ` are the byte 0A; `x</w>` is `x `.
//! Read from the tokenizer's data, never from a class name.

use std::sync::OnceLock;

use crate::bpe::byte_token_value;
use crate::decode::byte_alphabet;
use crate::error::{Error, Result};
use crate::formats::{Decoder, Description, Model, PieceKind, Spellings, Symbols};
use crate::ids::TokenId;
use crate::limits::Limits;

/// What kind of token an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// No token has this id.
    Hole = 0,
    /// Arises from text through the model.
    Text = 1,
    /// Stands for one byte that no text token spells (`<0x0A>`).
    Byte = 2,
    /// Never stands for text: bos, eos, padding, unknown, turn markers.
    Control = 3,
    /// Found in the text before the model sees it.
    Added = 4,
    /// Reserved; never produced.
    Unused = 5,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 6] = [Kind::Hole, Kind::Text, Kind::Byte, Kind::Control, Kind::Added, Kind::Unused];

    /// The name that Python sees.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hole => "hole",
            Kind::Text => "text",
            Kind::Byte => "byte",
            Kind::Control => "control",
            Kind::Added => "added",
            Kind::Unused => "unused",
        }
    }
}

/// Every id's bytes, spelling and kind; immutable.
pub struct Vocabulary {
    kinds: Vec<Kind>,
    bytes: Table,
    spellings: Table,
    /// Ids with bytes, sorted by (bytes, id), once somebody asked.
    sorted: OnceLock<Vec<TokenId>>,
}

/// One byte string per id, in one buffer.
#[derive(Default)]
struct Table {
    data: Vec<u8>,
    ranges: Vec<(u32, u32)>,
}

impl Table {
    fn with_ids(n: usize) -> Self {
        Self { data: Vec::new(), ranges: vec![(0, 0); n] }
    }

    fn set(&mut self, id: TokenId, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.data.len();
        write(&mut self.data);
        let to_u32 = |n: usize| u32::try_from(n).expect("token bytes stay under 4 GiB: Limits.file_bytes");
        self.ranges[id as usize] = (to_u32(start), to_u32(self.data.len()));
    }

    fn get(&self, id: TokenId) -> &[u8] {
        let (start, end) = self.ranges[id as usize];
        &self.data[start as usize..end as usize]
    }
}

impl Vocabulary {
    /// Reads the identity of every token. O(vocabulary · log vocabulary).
    ///
    /// # Errors
    /// `Limit` when an id is over [`Limits::max_id`].
    pub fn new(description: &Description, limits: &Limits) -> Result<Self> {
        let spellings = spellings_of(&description.model);
        let tokens = spellings.len() + description.added_tokens.len();
        let largest = spellings.ids.iter().copied().chain(description.added_tokens.iter().map(|t| t.id)).max();
        let size = match largest {
            Some(id) if id > limits.max_id_for(tokens) => {
                return Err(Error::limit("model.vocab", id as usize, limits.max_id_for(tokens) as usize, "max_id"));
            }
            Some(id) => id as usize + 1,
            None => 0,
        };
        let mut this = Self {
            kinds: vec![Kind::Hole; size],
            bytes: Table::with_ids(size),
            spellings: Table::with_ids(size),
            sorted: OnceLock::new(),
        };
        let style = Style::of(description);
        for (spelling, id) in spellings.iter() {
            this.spellings.set(id, |out| out.extend_from_slice(spelling));
            this.kinds[id as usize] = style.kind(spelling, id);
            this.bytes.set(id, |out| style.write(spelling, out));
        }
        for (id, kind) in piece_kinds(description) {
            this.kinds[id as usize] = kind;
        }
        for token in &description.added_tokens {
            this.spellings.set(token.id, |out| out.extend_from_slice(token.content.as_bytes()));
            this.bytes.set(token.id, |out| out.extend_from_slice(token.content.as_bytes()));
            this.kinds[token.id as usize] = if token.special { Kind::Control } else { Kind::Added };
        }
        Ok(this)
    }

    /// One more than the largest id.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there is no id at all.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    fn len_u32(&self) -> u32 {
        u32::try_from(self.kinds.len()).expect("ids are u32")
    }

    /// The kind of an id; a hole for ids beyond the vocabulary.
    pub fn kind(&self, id: TokenId) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Hole)
    }

    /// The kinds of all ids.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    fn has_bytes(&self, id: TokenId) -> bool {
        matches!(self.kind(id), Kind::Text | Kind::Byte | Kind::Added)
    }

    /// The bytes that an id stands for in a text; `None` for control, unused and absent ids.
    pub fn token_bytes(&self, id: TokenId) -> Option<&[u8]> {
        self.has_bytes(id).then(|| self.bytes.get(id))
    }

    /// The token as its file writes it; `None` for a hole.
    pub fn spelling(&self, id: TokenId) -> Option<&[u8]> {
        (self.kind(id) != Kind::Hole).then(|| self.spellings.get(id))
    }

    /// Ids with exactly these bytes, ascending; a real token comes before its byte-fallback twin.
    pub fn ids_of(&self, token: &[u8]) -> Vec<TokenId> {
        let mut ids: Vec<_> = self.range(token, |bytes| bytes == token).to_vec();
        ids.sort_by_key(|&id| (self.kind(id) == Kind::Byte, id));
        ids
    }

    /// Ids whose bytes start with `prefix`, sorted by their bytes.
    pub fn ids_with_prefix(&self, prefix: &[u8]) -> &[TokenId] {
        self.range(prefix, |bytes| bytes.starts_with(prefix))
    }

    fn range(&self, from: &[u8], inside: impl Fn(&[u8]) -> bool) -> &[TokenId] {
        let sorted = self.sorted();
        let start = sorted.partition_point(|&id| self.bytes.get(id) < from);
        let len = sorted[start..].partition_point(|&id| inside(self.bytes.get(id)));
        &sorted[start..start + len]
    }

    /// Ids with bytes, sorted by (bytes, id). Sorted when first asked for.
    pub fn sorted(&self) -> &[TokenId] {
        self.sorted.get_or_init(|| {
            let mut sorted: Vec<_> = (0..self.len_u32()).filter(|&id| self.has_bytes(id)).collect();
            sorted.sort_unstable_by(|&a, &b| self.bytes.get(a).cmp(self.bytes.get(b)).then(a.cmp(&b)));
            sorted
        })
    }

    /// Ids with the same bytes, a slice for each byte string, ascending by bytes; empty tokens are left out.
    fn groups(&self) -> impl Iterator<Item = &[TokenId]> {
        let sorted = self.range(&[0], |_| true); // the empty string alone is less
        sorted.chunk_by(|&a, &b| self.bytes.get(a) == self.bytes.get(b))
    }

    /// The ids of every byte string that several ids share, ascending, by their first id; empty tokens are left out.
    /// O(V), and the sort of [`sorted`](Self::sorted) where nobody asked before.
    pub fn duplicates(&self) -> Vec<&[TokenId]> {
        let mut shared: Vec<_> = self.groups().filter(|ids| ids.len() > 1).collect();
        shared.sort_unstable_by_key(|ids| ids[0]);
        shared
    }

    /// The ids of `self` whose bytes `source` has below id `limit`, by their bytes, and the id there.
    ///
    /// Among several of `source` the first of the same kind, else the first that is no byte-fallback token, else the
    /// first. Empty tokens have no twin. O(V of both), and two sorts where nobody asked before.
    pub fn twins_in(&self, source: &Self, limit: usize) -> (Vec<TokenId>, Vec<TokenId>) {
        let mut theirs = source.groups().peekable();
        let (mut ids, mut twins) = (Vec::new(), Vec::new());
        for mine in self.groups() {
            let token = self.bytes.get(mine[0]);
            while theirs.next_if(|group| source.bytes.get(group[0]) < token).is_some() {}
            let Some(group) = theirs.next_if(|group| source.bytes.get(group[0]) == token) else { continue };
            let usable = &group[..group.partition_point(|&id| (id as usize) < limit)];
            let Some(any) = usable.iter().copied().min_by_key(|&id| (source.kind(id) == Kind::Byte, id)) else {
                continue;
            };
            let of_kind = Kind::ALL.map(|kind| usable.iter().copied().find(|&id| source.kind(id) == kind));
            for &id in mine {
                ids.push(id);
                twins.push(of_kind[self.kind(id) as usize].unwrap_or(any));
            }
        }
        (ids, twins)
    }

    /// What an id adds to a decoded text: its bytes, for control and unused ids their spelling.
    pub(crate) fn decoded(&self, id: TokenId) -> Option<&[u8]> {
        self.token_bytes(id).or_else(|| self.spelling(id))
    }

    /// All token bytes in one buffer, and where each id's start: `offsets[id]..offsets[id + 1]`.
    pub fn table(&self) -> (Vec<u8>, Vec<i64>) {
        let mut bytes = Vec::with_capacity(self.bytes.data.len());
        let mut offsets = Vec::with_capacity(self.len() + 1);
        let mut push = |n: usize| offsets.push(i64::try_from(n).expect("a buffer is shorter than 2^63"));
        push(0);
        for id in 0..self.len_u32() {
            bytes.extend_from_slice(self.token_bytes(id).unwrap_or_default());
            push(bytes.len());
        }
        (bytes, offsets)
    }
}

/// The model's own tokens.
pub(crate) fn spellings_of(model: &Model) -> &Spellings {
    match model {
        Model::Bpe(model) => &model.vocab,
        Model::Unigram(model) => &model.vocab,
        Model::WordPiece(model) => &model.vocab,
        Model::WordLevel(model) => &model.vocab,
        Model::Trie(model) => &model.vocab,
    }
}

fn piece_kinds(description: &Description) -> impl Iterator<Item = (TokenId, Kind)> {
    description.piece_kinds.iter().map(|&(id, kind)| {
        let kind = match kind {
            PieceKind::Unknown | PieceKind::Control => Kind::Control,
            PieceKind::UserDefined => Kind::Added,
            PieceKind::Byte(_) => Kind::Byte,
            PieceKind::Unused => Kind::Unused,
        };
        (id, kind)
    })
}

/// How spellings of this tokenizer turn into bytes.
enum Alphabet<'a> {
    /// Raw bytes already.
    Raw,
    /// GPT-2's byte alphabet.
    ByteLevel,
    /// `##x` continues a word; anything else starts one.
    WordPiece(&'a str),
    /// A mark stands for a space.
    Mark(char),
    /// Nothing is hidden.
    Plain,
}

struct Style<'a> {
    alphabet: Alphabet<'a>,
    suffix: &'a str,
    byte_fallback: bool,
    unk: Option<TokenId>,
}

impl<'a> Style<'a> {
    fn of(description: &'a Description) -> Self {
        let (suffix, byte_fallback, unk) = match &description.model {
            Model::Bpe(m) => (m.end_of_word_suffix.as_str(), m.byte_fallback, m.unk),
            Model::Unigram(m) => ("", m.byte_fallback, m.unk),
            Model::WordPiece(m) => ("", false, m.unk),
            Model::WordLevel(m) => ("", false, m.unk),
            Model::Trie(_) => ("", false, None),
        };
        let alphabet = match &description.model {
            Model::Trie(_) => Alphabet::Raw,
            Model::Bpe(m) if m.symbols == Symbols::RawBytes => Alphabet::Raw,
            Model::WordPiece(m) => Alphabet::WordPiece(&m.continuing_subword_prefix),
            _ if crate::pipeline::is_byte_level(description) => Alphabet::ByteLevel,
            _ => match mark_of(&description.decoder).or_else(|| crate::pipeline::mark_of(description)) {
                Some(mark) => Alphabet::Mark(mark),
                None => Alphabet::Plain,
            },
        };
        Self { alphabet, suffix, byte_fallback, unk }
    }

    fn kind(&self, spelling: &[u8], id: TokenId) -> Kind {
        if self.unk == Some(id) {
            Kind::Control
        } else if self.byte_fallback && byte_token_value(spelling).is_some() {
            Kind::Byte
        } else {
            Kind::Text
        }
    }

    fn write(&self, spelling: &[u8], out: &mut Vec<u8>) {
        if self.byte_fallback
            && let Some(byte) = byte_token_value(spelling)
        {
            out.push(byte);
            return;
        }
        let (core, ends_word) = match spelling.strip_suffix(self.suffix.as_bytes()) {
            Some(core) if !self.suffix.is_empty() => (core, true),
            _ => (spelling, false),
        };
        match self.alphabet {
            Alphabet::Raw | Alphabet::Plain => out.extend_from_slice(core),
            Alphabet::ByteLevel => {
                let start = out.len();
                if byte_alphabet::decode_into(core, out).is_none() {
                    out.truncate(start);
                    out.extend_from_slice(core);
                }
            }
            Alphabet::WordPiece(prefix) => match core.strip_prefix(prefix.as_bytes()) {
                Some(rest) if !prefix.is_empty() => out.extend_from_slice(rest),
                _ => {
                    out.push(b' ');
                    out.extend_from_slice(core);
                }
            },
            Alphabet::Mark(mark) => match std::str::from_utf8(core) {
                Ok(text) => {
                    for c in text.chars() {
                        let c = if c == mark { ' ' } else { c };
                        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
                Err(_) => out.extend_from_slice(core),
            },
        }
        if ends_word {
            out.push(b' ');
        }
    }
}

/// The mark that the decoder turns into a space.
fn mark_of(decoder: &Decoder) -> Option<char> {
    use crate::formats::Pattern;
    match decoder {
        Decoder::Sequence(parts) => parts.iter().find_map(mark_of),
        Decoder::Metaspace { replacement, .. } => Some(*replacement),
        Decoder::Replace { pattern: Pattern::Literal(from), content } if content == " " => {
            let mut chars = from.chars();
            chars.next().filter(|_| chars.next().is_none())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[(&[u8], Kind)]) -> Vocabulary {
        let mut this = Vocabulary {
            kinds: tokens.iter().map(|&(_, kind)| kind).collect(),
            bytes: Table::with_ids(tokens.len()),
            spellings: Table::with_ids(tokens.len()),
            sorted: OnceLock::new(),
        };
        for (id, (token, _)) in (0u32..).zip(tokens) {
            this.bytes.set(id, |out| out.extend_from_slice(token));
        }
        this
    }

    fn twins(target: &Vocabulary, source: &Vocabulary, limit: usize) -> Vec<(TokenId, TokenId)> {
        let (ids, twins) = target.twins_in(source, limit);
        let mut pairs: Vec<_> = ids.into_iter().zip(twins).collect();
        pairs.sort_unstable();
        pairs
    }

    /// The definition: every id against every id.
    fn by_search(target: &Vocabulary, source: &Vocabulary, limit: usize) -> Vec<(TokenId, TokenId)> {
        let usable = |id: &TokenId| (*id as usize) < limit;
        (0..target.len_u32())
            .filter_map(|id| {
                let token = target.token_bytes(id).filter(|token| !token.is_empty())?;
                let same = (0..source.len_u32()).filter(usable).filter(|&one| source.token_bytes(one) == Some(token));
                let rank = |&one: &TokenId| (source.kind(one) != target.kind(id), source.kind(one) == Kind::Byte, one);
                same.min_by_key(rank).map(|one| (id, one))
            })
            .collect()
    }

    #[test]
    fn a_twin_of_the_same_kind_goes_first_and_a_byte_token_last() {
        use Kind::{Added, Byte, Control, Text};
        let source =
            vocabulary(&[(b"a", Byte), (b"a", Text), (b"a", Text), (b"b", Byte), (b"c", Control), (b"", Text)]);
        let target = vocabulary(&[(b"a", Text), (b"a", Byte), (b"a", Added), (b"b", Text), (b"c", Text), (b"", Text)]);
        assert_eq!(twins(&target, &source, 6), [(0, 1), (1, 0), (2, 1), (3, 3)]);
        assert_eq!(twins(&target, &source, 1), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(twins(&target, &source, 0), []);
    }

    #[test]
    fn twins_are_those_of_a_search_through_all_ids() {
        // Two letters and lengths up to two: 7 byte strings for up to 40 ids, so most have twins.
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut draw = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let strings: [&[u8]; 7] = [b"", b"a", b"b", b"aa", b"ab", b"ba", b"\xff\x00"];
        for _ in 0..200 {
            let mut one = || {
                let tokens: Vec<_> =
                    (0..draw(40)).map(|_| (strings[draw(7) as usize], Kind::ALL[draw(6) as usize])).collect();
                vocabulary(&tokens)
            };
            let (target, source) = (one(), one());
            for limit in [source.len(), source.len() / 2] {
                assert_eq!(twins(&target, &source, limit), by_search(&target, &source, limit));
            }
        }
    }

    #[test]
    fn duplicates_come_by_their_first_id_and_hold_no_empty_or_silent_token() {
        use Kind::{Byte, Control, Text};
        let tokens: [(&[u8], Kind); 8] = [
            (b"z", Text),
            (b"a", Text),
            (b"", Text),
            (b"a", Byte),
            (b"", Text),
            (b"z", Text),
            (b"c", Control),
            (b"c", Text),
        ];
        assert_eq!(vocabulary(&tokens).duplicates(), [&[0, 5][..], &[1, 3]]);
    }
}
