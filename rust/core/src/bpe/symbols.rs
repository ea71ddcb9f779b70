//! The first step of BPE: a pretoken becomes its initial symbols.
//!
//! A symbol is a character of the model's alphabet. Where that alphabet is GPT-2's byte alphabet (`byte_level`), the
//! pretoken stays raw bytes here and the alphabet is applied to the vocabulary instead, once, when the table is built.

use std::collections::HashSet;

use rustc_hash::FxHashMap;

use crate::bytetrie::ByteTrie;
use crate::decode::byte_alphabet;
use crate::error::{Error, Result};
use crate::formats::{Bpe, Symbols as SymbolKind};
use crate::ids::{NO_TOKEN, TokenId};

/// Which table a symbol's place in the pretoken selects; affixes make them differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    First = 0,
    Middle = 1,
    Last = 2,
    Only = 3,
}

/// The initial symbols of a model.
pub(crate) struct Symbols {
    alphabet: Alphabet,
    /// Whether a symbol's id depends on its place in the pretoken.
    affixed: bool,
    /// Whether every byte has a symbol, where bytes are symbols.
    bytes_complete: bool,
    /// `<0xNN>` of every byte, `NO_TOKEN` where there is none; empty without byte fallback.
    byte_tokens: Vec<TokenId>,
    unk: Option<TokenId>,
    fuse_unk: bool,
    /// The character that a space in the input stands for, with its symbol in every place.
    space_is: Option<char>,
    /// Texts that are a symbol as a whole, longest match first.
    user_defined: Option<ByteTrie>,
}

enum Alphabet {
    Bytes(Box<[[TokenId; 256]; 4]>),
    Chars(Box<Chars>),
}

struct Chars {
    ascii: [[TokenId; 128]; 4],
    other: [FxHashMap<char, TokenId>; 4],
}

/// One initial symbol: its id and the bytes of the pretoken it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) id: TokenId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Symbols {
    /// Builds the tables. `space_is` is the character that the input's spaces stand for (`▁`, when the caller leaves
    /// the replacement to this step).
    pub(crate) fn new(model: &Bpe, byte_level: bool, space_is: Option<char>) -> Result<Self> {
        let prefix = model.continuing_subword_prefix.as_str();
        let suffix = model.end_of_word_suffix.as_str();
        let affixed = !prefix.is_empty() || !suffix.is_empty();
        if affixed && model.byte_fallback {
            return Err(Error::unsupported(
                "model.byte_fallback",
                "byte fallback together with a subword prefix or suffix has no defined bytes",
                "remove one of them from the file",
            ));
        }
        let mut byte_tokens = Vec::new();
        if model.byte_fallback {
            byte_tokens = vec![NO_TOKEN; 256];
            for (spelling, id) in model.vocab.iter() {
                if let Some(byte) = byte_token_value(spelling) {
                    byte_tokens[usize::from(byte)] = id;
                }
            }
        }
        let never: HashSet<TokenId> = model.never.iter().copied().collect();
        let user_defined: HashSet<TokenId> = model.user_defined.iter().copied().collect();
        let user_defined = match user_defined.is_empty() {
            true => None,
            false => Some(ByteTrie::new(model.vocab.iter().filter(|(_, id)| user_defined.contains(id)))?),
        };
        let places: &[Place] =
            if affixed { &[Place::First, Place::Middle, Place::Last, Place::Only] } else { &[Place::First] };
        let alphabet = if byte_level || model.symbols == SymbolKind::RawBytes {
            let mut tables = Box::new([[NO_TOKEN; 256]; 4]);
            for (spelling, id) in model.vocab.iter() {
                for &place in places {
                    let Some(core) = strip_affixes(spelling, place, prefix, suffix) else { continue };
                    let byte = match model.symbols {
                        SymbolKind::RawBytes if core.len() == 1 => Some(core[0]),
                        SymbolKind::RawBytes => None,
                        SymbolKind::Chars => single_char(core).and_then(byte_alphabet::byte_of),
                    };
                    if let Some(byte) = byte {
                        tables[place as usize][usize::from(byte)] = id;
                    }
                }
            }
            if model.byte_fallback && tables[0].contains(&NO_TOKEN) && byte_tokens.iter().any(|&t| t != NO_TOKEN) {
                return Err(Error::unsupported(
                    "model.byte_fallback",
                    "byte fallback in a byte-level model whose alphabet is incomplete",
                    "add the missing bytes to the vocabulary",
                ));
            }
            byte_tokens.clear();
            Alphabet::Bytes(tables)
        } else {
            let mut chars = Box::new(Chars { ascii: [[NO_TOKEN; 128]; 4], other: Default::default() });
            for (spelling, id) in model.vocab.iter().filter(|(_, id)| !never.contains(id)) {
                for &place in places {
                    let Some(c) = strip_affixes(spelling, place, prefix, suffix).and_then(single_char) else {
                        continue;
                    };
                    if c.is_ascii() {
                        chars.ascii[place as usize][c as usize] = id;
                    } else {
                        chars.other[place as usize].insert(c, id);
                    }
                }
            }
            if let Some(mark) = space_is {
                for &place in places {
                    let id = chars.other[place as usize].get(&mark).copied();
                    chars.ascii[place as usize][usize::from(b' ')] = id.unwrap_or(NO_TOKEN);
                }
            }
            Alphabet::Chars(chars)
        };
        let bytes_complete = matches!(&alphabet, Alphabet::Bytes(tables) if !tables[0].contains(&NO_TOKEN));
        let mut this = Self {
            bytes_complete,
            alphabet,
            affixed,
            byte_tokens,
            unk: model.unk,
            fuse_unk: model.fuse_unk,
            space_is,
            user_defined,
        };
        if !affixed {
            this.copy_first_table();
        }
        Ok(this)
    }

    fn copy_first_table(&mut self) {
        match &mut self.alphabet {
            Alphabet::Bytes(tables) => {
                let first = tables[0];
                tables[1..].fill(first);
            }
            Alphabet::Chars(_) => {} // looked up in place First only
        }
    }

    /// Whether every byte has a symbol and symbols do not depend on their place: the table of those symbols.
    pub(crate) fn complete_bytes(&self) -> Option<&[TokenId; 256]> {
        match &self.alphabet {
            Alphabet::Bytes(_) if self.bytes_complete => self.byte_symbols(),
            _ => None,
        }
    }

    /// The symbols of all bytes, [`NO_TOKEN`] for those without one, where they do not depend on their place.
    pub(crate) fn byte_symbols(&self) -> Option<&[TokenId; 256]> {
        match &self.alphabet {
            Alphabet::Bytes(tables) if !self.affixed => Some(&tables[0]),
            _ => None,
        }
    }

    /// Whether a text may be cut between characters and its parts encoded on their own, as far as symbols go.
    ///
    /// Not so with affixes, where unknowns may be fused across the cut, and where they are dropped: then the
    /// characters on either side become neighbours and may merge.
    pub(crate) fn is_local(&self) -> bool {
        let fallback_complete = !self.byte_tokens.is_empty() && !self.byte_tokens.contains(&NO_TOKEN);
        let stays_apart = self.unk.is_some() && !self.fuse_unk && self.byte_tokens.is_empty();
        !self.affixed
            && self.user_defined.is_none()
            && (self.complete_bytes().is_some() || fallback_complete || stays_apart)
    }

    /// The same for texts all of whose characters have symbols or byte tokens.
    pub(crate) fn is_local_where_known(&self) -> bool {
        !self.affixed && self.user_defined.is_none()
    }

    /// Appends the initial symbols of `piece`.
    ///
    /// What has no symbol becomes its byte tokens, else `unk`, else nothing (as in `tokenizers`). A byte outside
    /// well-formed UTF-8 counts as an unknown character of one byte.
    pub(crate) fn write(&self, piece: &[u8], out: &mut Vec<Symbol>) {
        match &self.alphabet {
            Alphabet::Bytes(tables) => {
                if let Some(ids) = self.complete_bytes() {
                    out.extend(piece.iter().zip(0u32..).map(|(&b, at)| Symbol {
                        id: ids[usize::from(b)],
                        start: at,
                        end: at + 1,
                    }));
                    return;
                }
                let mut unk = Unknowns::new(self);
                let last = piece.len() - usize::from(!piece.is_empty());
                for (at, &b) in piece.iter().enumerate() {
                    let id = tables[place_of(at == 0, at == last) as usize][usize::from(b)];
                    unk.add(id, &piece[at..=at], at, out);
                }
                unk.flush(out);
            }
            Alphabet::Chars(chars) => {
                if let Some(user_defined) = &self.user_defined {
                    return self.write_around(user_defined, chars, piece, out);
                }
                let mut unk = Unknowns::new(self);
                let mut at = 0;
                for chunk in piece.utf8_chunks() {
                    for c in chunk.valid().chars() {
                        let end = at + c.len_utf8();
                        let id = self.char_symbol(chars, c, at == 0, end == piece.len());
                        // A space that stands for a mark falls back to the bytes of the mark.
                        let mut buffer = [0; 4];
                        let bytes = match self.space_is {
                            Some(mark) if c == ' ' => mark.encode_utf8(&mut buffer).as_bytes(),
                            _ => &piece[at..end],
                        };
                        unk.add_char(id, bytes, at, end, out);
                        at = end;
                    }
                    for b in chunk.invalid() {
                        unk.add_char(NO_TOKEN, std::slice::from_ref(b), at, at + 1, out);
                        at += 1;
                    }
                }
                unk.flush(out);
            }
        }
    }

    /// The same where some texts are symbols as a whole.
    fn write_around(&self, user_defined: &ByteTrie, chars: &Chars, piece: &[u8], out: &mut Vec<Symbol>) {
        let mut unk = Unknowns::new(self);
        let mut at = 0;
        while at < piece.len() {
            if let Some((len, id)) = user_defined.longest_prefix(&piece[at..]) {
                unk.flush(out);
                out.push(Symbol { id, start: to_u32(at), end: to_u32(at + len) });
                at += len;
                continue;
            }
            let head = &piece[at..piece.len().min(at + 4)];
            let (id, len) = match head.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
                Some(c) => (self.char_symbol(chars, c, at == 0, at + c.len_utf8() == piece.len()), c.len_utf8()),
                None => (NO_TOKEN, 1),
            };
            unk.add_char(id, &piece[at..at + len], at, at + len, out);
            at += len;
        }
        unk.flush(out);
    }

    /// The next characters from `from` on that are no symbol, with the bytes outside UTF-8; empty at the end if none.
    pub(crate) fn next_unknown(&self, piece: &[u8], from: usize) -> std::ops::Range<usize> {
        let chars = match &self.alphabet {
            Alphabet::Chars(chars) => chars,
            Alphabet::Bytes(_) if self.complete_bytes().is_some() => return piece.len()..piece.len(),
            Alphabet::Bytes(tables) => {
                let unknown = |&b: &u8| tables[Place::First as usize][usize::from(b)] == NO_TOKEN;
                let start = piece[from..].iter().position(unknown).map_or(piece.len(), |at| from + at);
                let len = piece[start..].iter().take_while(|b| unknown(b)).count();
                return start..start + len;
            }
        };
        let mut at = from;
        let mut start = None;
        for chunk in piece[from..].utf8_chunks() {
            for c in chunk.valid().chars() {
                let known = self.char_symbol(chars, c, false, false) != NO_TOKEN;
                match start {
                    Some(start) if known => return start..at,
                    None if !known => start = Some(at),
                    _ => {}
                }
                at += c.len_utf8();
            }
            if !chunk.invalid().is_empty() {
                start.get_or_insert(at);
                at += chunk.invalid().len();
            }
        }
        start.unwrap_or(at)..at
    }

    /// Whether a character of the input has a symbol; `false` for a model of bytes.
    pub(crate) fn knows_char(&self, c: char) -> bool {
        match &self.alphabet {
            Alphabet::Bytes(_) => false,
            Alphabet::Chars(chars) => self.char_symbol(chars, c, false, false) != NO_TOKEN,
        }
    }

    fn char_symbol(&self, chars: &Chars, c: char, first: bool, last: bool) -> TokenId {
        let place = if self.affixed { place_of(first, last) as usize } else { 0 };
        if c.is_ascii() {
            chars.ascii[place][c as usize]
        } else {
            chars.other[place].get(&c).copied().unwrap_or(NO_TOKEN)
        }
    }
}

fn place_of(first: bool, last: bool) -> Place {
    match (first, last) {
        (true, true) => Place::Only,
        (true, false) => Place::First,
        (false, false) => Place::Middle,
        (false, true) => Place::Last,
    }
}

/// The pending unknown of `BPE::merge_word`: fused or not, and written when the next known symbol comes.
struct Unknowns<'a> {
    symbols: &'a Symbols,
    pending: Option<Symbol>,
}

impl<'a> Unknowns<'a> {
    fn new(symbols: &'a Symbols) -> Self {
        Self { symbols, pending: None }
    }

    fn add(&mut self, id: TokenId, bytes: &[u8], at: usize, out: &mut Vec<Symbol>) {
        self.add_char(id, bytes, at, at + bytes.len(), out);
    }

    fn add_char(&mut self, id: TokenId, bytes: &[u8], start: usize, end: usize, out: &mut Vec<Symbol>) {
        let (start, end) = (to_u32(start), to_u32(end));
        if id != NO_TOKEN {
            self.flush(out);
            out.push(Symbol { id, start, end });
            return;
        }
        let tokens = &self.symbols.byte_tokens;
        if !tokens.is_empty() && bytes.iter().all(|&b| tokens[usize::from(b)] != NO_TOKEN) {
            // The pending unknown is not written first: `tokenizers` has the same order.
            let width = end - start;
            for (i, &b) in bytes.iter().enumerate() {
                // A space written as the three bytes of its mark keeps its one byte of text.
                let i = to_u32(i).min(width.saturating_sub(1));
                let symbol_end = if to_u32(bytes.len()) == width { start + i + 1 } else { end };
                out.push(Symbol { id: tokens[usize::from(b)], start: start + i, end: symbol_end });
            }
            return;
        }
        let Some(unk) = self.symbols.unk else { return };
        match &mut self.pending {
            Some(pending) if self.symbols.fuse_unk => pending.end = end,
            pending => {
                if let Some(symbol) = pending.replace(Symbol { id: unk, start, end }) {
                    out.push(symbol);
                }
            }
        }
    }

    fn flush(&mut self, out: &mut Vec<Symbol>) {
        out.extend(self.pending.take());
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).expect("a pretoken is under 4 GiB: checked by the encoder")
}

/// The byte of `<0x0A>`; upper-case digits only, as both implementations write it.
pub(crate) fn byte_token_value(spelling: &[u8]) -> Option<u8> {
    let [b'<', b'0', b'x', high, low, b'>'] = spelling else { return None };
    let digit = |d: u8| match d {
        b'0'..=b'9' => Some(d - b'0'),
        b'A'..=b'F' => Some(d - b'A' + 10),
        _ => None,
    };
    Some(digit(*high)? * 16 + digit(*low)?)
}

fn strip_affixes<'a>(spelling: &'a [u8], place: Place, prefix: &str, suffix: &str) -> Option<&'a [u8]> {
    let mut core = spelling;
    if matches!(place, Place::Middle | Place::Last) {
        core = core.strip_prefix(prefix.as_bytes())?;
    }
    if matches!(place, Place::Last | Place::Only) {
        core = core.strip_suffix(suffix.as_bytes())?;
    }
    Some(core)
}

fn single_char(spelling: &[u8]) -> Option<char> {
    if spelling.len() > 4 {
        return None;
    }
    let text = std::str::from_utf8(spelling).ok()?;
    let mut chars = text.chars();
    let c = chars.next()?;
    chars.next().is_none().then_some(c)
}
