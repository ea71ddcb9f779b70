//! From scored pieces to a model: which pairs merge, in which order. Shared with GGUF, which keeps the same table.

use super::proto::PieceType;
use crate::error::{Error, Result};
use crate::formats::{Bpe, Merge, PieceKind, Spellings, Symbols, Unigram, UnigramFlavour};
use crate::ids::TokenId;
use crate::limits::Limits;

/// The piece that SentencePiece leaves out of its maps: converters add it where `<0x00>` is meant.
const NULL: &str = "\0";

/// Pieces with scores and types; ids are positions.
pub(crate) struct PieceTable<'a> {
    spellings: Vec<&'a str>,
    scores: Vec<f32>,
    kinds: Vec<PieceType>,
    /// How errors name piece `i`.
    name: fn(usize) -> String,
    /// Pieces in the order of their spellings.
    sorted: Vec<TokenId>,
}

/// The byte of `<0x0A>`; upper-case digits only.
pub(crate) fn byte_of(spelling: &str) -> Option<u8> {
    let [b'<', b'0', b'x', digits @ .., b'>'] = spelling.as_bytes() else { return None };
    let upper = |d: &u8| matches!(d, b'0'..=b'9' | b'A'..=b'F');
    if digits.len() != 2 || !digits.iter().all(upper) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn to_id(i: usize) -> TokenId {
    TokenId::try_from(i).expect("pieces are counted against Limits.tokens and fit in memory")
}

impl<'a> PieceTable<'a> {
    /// Checks the pieces as SentencePiece does when it loads a model. O(bytes · log pieces).
    ///
    /// Fails for an empty or repeated spelling, a NUL in a spelling, a score that is no number, two unknown pieces, a
    /// byte piece that names no byte, and byte fallback without all 256 of them.
    pub(crate) fn new(
        spellings: Vec<&'a str>,
        scores: Vec<f32>,
        mut kinds: Vec<PieceType>,
        byte_fallback: bool,
        name: fn(usize) -> String,
    ) -> Result<Self> {
        assert!(spellings.len() == scores.len() && spellings.len() == kinds.len(), "one score and type for each piece");
        let mut bytes = [false; 256];
        let mut unknown = None;
        for (i, (&spelling, kind)) in spellings.iter().zip(&mut kinds).enumerate() {
            if spelling == NULL && byte_fallback {
                *kind = PieceType::Unused;
            }
            if spelling.is_empty() {
                return Err(Error::format(name(i), "an empty piece", "every piece needs a spelling"));
            }
            if spelling.contains('\0') && !(spelling == NULL && *kind == PieceType::Unused) {
                return Err(Error::format(name(i), "a NUL character", "SentencePiece refuses such a piece, too"));
            }
            if scores[i].is_nan() {
                return Err(Error::format(name(i), "a score that is not a number", "give the piece a score"));
            }
            match kind {
                PieceType::Unknown => {
                    if let Some(first) = unknown.replace(i) {
                        let found = format!("a second unknown piece, after {}", name(first));
                        return Err(Error::format(name(i), found, "one piece may have the type unknown"));
                    }
                }
                PieceType::Byte => match byte_of(spelling) {
                    Some(byte) => bytes[usize::from(byte)] = true,
                    None => {
                        let found = format!("{spelling:?} has the type byte");
                        return Err(Error::format(name(i), found, "a byte piece is spelt like <0x0A>"));
                    }
                },
                PieceType::Normal | PieceType::Control | PieceType::UserDefined | PieceType::Unused => {}
            }
        }
        if let Some(missing) = bytes.iter().position(|&found| !found).filter(|_| byte_fallback) {
            let found = format!("byte fallback without the piece <0x{missing:02X}>");
            return Err(Error::format("pieces", found, "all 256 byte pieces are needed"));
        }
        let mut sorted: Vec<TokenId> = (0..spellings.len()).map(to_id).collect();
        sorted.sort_unstable_by_key(|&id| (spellings[id as usize], id));
        for pair in sorted.windows(2) {
            let (first, second) = (pair[0] as usize, pair[1] as usize);
            if spellings[first] == spellings[second] {
                let found = format!("{:?} again, after {}", spellings[first], name(first));
                return Err(Error::format(name(second), found, "no two pieces may be spelt alike"));
            }
        }
        Ok(Self { spellings, scores, kinds, name, sorted })
    }

    /// What is said about every piece that is not a normal one, by id.
    pub(crate) fn piece_kinds(&self) -> Vec<(TokenId, PieceKind)> {
        let kind = |i: usize| match self.kinds[i] {
            PieceType::Normal => None,
            PieceType::Unknown => Some(PieceKind::Unknown),
            PieceType::Control => Some(PieceKind::Control),
            PieceType::UserDefined => Some(PieceKind::UserDefined),
            PieceType::Unused => Some(PieceKind::Unused),
            PieceType::Byte => byte_of(self.spellings[i]).map(PieceKind::Byte),
        };
        (0..self.kinds.len()).filter_map(|i| Some((to_id(i), kind(i)?))).collect()
    }

    /// The id of a spelling, with its type. O(log pieces).
    pub(crate) fn find(&self, spelling: &str) -> Option<(TokenId, PieceType)> {
        let at = self.sorted.binary_search_by_key(&spelling, |&id| self.spellings[id as usize]).ok()?;
        Some((self.sorted[at], self.kinds[self.sorted[at] as usize]))
    }

    /// The ids of one type, in order.
    pub(crate) fn of_kind(&self, kind: PieceType) -> Vec<TokenId> {
        (0..self.kinds.len()).filter(|&i| self.kinds[i] == kind).map(to_id).collect()
    }

    /// The spellings of the user-defined pieces.
    pub(crate) fn user_defined(&self) -> Vec<String> {
        self.of_kind(PieceType::UserDefined).iter().map(|&id| self.spellings[id as usize].to_owned()).collect()
    }

    fn vocab(&self) -> Spellings {
        let mut vocab = Spellings::default();
        for (i, spelling) in self.spellings.iter().enumerate() {
            vocab.push(spelling.as_bytes(), to_id(i));
        }
        vocab
    }

    /// The ids of control, unknown and byte pieces.
    fn reserved(&self) -> Vec<TokenId> {
        let reserved = |kind| matches!(kind, PieceType::Control | PieceType::Unknown | PieceType::Byte);
        (0..self.kinds.len()).filter(|&i| reserved(self.kinds[i])).map(to_id).collect()
    }

    /// The pieces as a BPE model: two neighbours merge when what they spell together is a piece, the piece of the
    /// highest score first, the leftmost of equals. `merging` is false for the model type "char".
    ///
    /// O(bytes · log pieces + merges) time. Fails over `limits.merges`, and where merging would go through a character
    /// that is no piece or an unused piece can be made in two ways: see [`Bpe::undone`].
    pub(crate) fn bpe(&self, byte_fallback: bool, merging: bool, limits: &Limits) -> Result<Bpe> {
        Ok(Bpe {
            vocab: self.vocab(),
            merges: if merging { self.merges(limits)? } else { Vec::new() },
            symbols: Symbols::Chars,
            unk: self.of_kind(PieceType::Unknown).first().copied(),
            fuse_unk: true,
            byte_fallback,
            user_defined: self.of_kind(PieceType::UserDefined),
            never: self.reserved(),
            undone: self.of_kind(PieceType::Unused),
            ..Bpe::default()
        })
    }

    /// The pieces as a unigram model.
    pub(crate) fn unigram(&self, byte_fallback: bool) -> Result<Unigram> {
        if let Some(i) = self.scores.iter().position(|score| !score.is_finite()) {
            return Err(Error::format((self.name)(i), format!("the score {}", self.scores[i]), "scores are finite"));
        }
        let mut never = self.reserved();
        never.extend(self.of_kind(PieceType::Unused));
        never.sort_unstable();
        if never.len() == self.kinds.len() {
            return Err(Error::format("pieces", "none that text could be made of", "add normal pieces"));
        }
        Ok(Unigram {
            vocab: self.vocab(),
            scores: self.scores.iter().map(|&score| f64::from(score)).collect(),
            unk: self.of_kind(PieceType::Unknown).first().copied(),
            byte_fallback,
            fuse_unk: true,
            flavour: UnigramFlavour::SentencePiece,
            user_defined: self.of_kind(PieceType::UserDefined),
            never,
        })
    }

    /// Whether a piece can be a symbol that merges. User-defined ones cannot: where one could arise from merging, it
    /// was found as a whole before.
    fn merges_here(&self, i: usize) -> bool {
        matches!(self.kinds[i], PieceType::Normal | PieceType::Unused) && self.spellings[i] != NULL
    }

    /// Every way to make a piece of two, in the order of their ranks.
    fn merges(&self, limits: &Limits) -> Result<Vec<Merge>> {
        let prefixes = self.links(|a, b| self.spellings[a].cmp(self.spellings[b]), |a, b| b.starts_with(a));
        let reversed = |a: usize, b: usize| self.spellings[a].bytes().rev().cmp(self.spellings[b].bytes().rev());
        let suffixes = self.links(reversed, |a, b| b.ends_with(a));
        let chars = CharPieces::new(self);
        // Pieces of the highest score first. Scores are compared bit by bit, as bpe_model.cc does: -0 is below 0.
        let mut order: Vec<usize> = (0..self.spellings.len()).filter(|&i| self.merges_here(i)).collect();
        order.sort_by(|&a, &b| self.scores[b].total_cmp(&self.scores[a]).then(a.cmp(&b)));
        let mut merges: Vec<Merge> = Vec::new();
        let mut rank = 0u32;
        let mut score = None;
        let mut tails = Vec::new();
        for i in order {
            if score.replace(self.scores[i].to_bits()).is_some_and(|before| before != self.scores[i].to_bits()) {
                rank += 1;
            }
            let len = self.spellings[i].len();
            tails.clear();
            tails.extend(chain(&suffixes, i).map(|j| (len - self.spellings[j].len(), j)));
            // Both chains run from the longest to the shortest: cuts of heads fall, cuts of tails rise.
            let before = merges.len();
            let mut tails_left = tails.as_slice();
            for head in chain(&prefixes, i) {
                let cut = self.spellings[head].len();
                while let Some((&(_, tail), rest)) = tails_left.split_last().filter(|(last, _)| last.0 >= cut) {
                    if tails_left.last().is_some_and(|last| last.0 == cut) {
                        merges.push(Merge { left: to_id(head), right: to_id(tail), product: to_id(i), rank });
                    }
                    tails_left = rest;
                }
            }
            if merges.len() > limits.merges {
                return Err(Error::limit("merges of all pieces", merges.len(), limits.merges, "merges"));
            }
            if self.kinds[i] == PieceType::Unused && merges.len() > before + 1 {
                return Err(Error::unsupported(
                    (self.name)(i),
                    format!("the unused piece {:?} can be made in {} ways", self.spellings[i], merges.len() - before),
                    "SentencePiece takes such a piece apart as it was last seen anywhere in the text",
                ));
            }
            chars.check(self, i, &prefixes, &suffixes)?;
        }
        Ok(merges)
    }

    /// For every piece that merges, the longest other one that it starts (or ends) with.
    fn links(
        &self,
        order: impl Fn(usize, usize) -> std::cmp::Ordering,
        contains: impl Fn(&str, &str) -> bool,
    ) -> Vec<Option<TokenId>> {
        let mut sorted: Vec<usize> = (0..self.spellings.len()).filter(|&i| self.merges_here(i)).collect();
        sorted.sort_unstable_by(|&a, &b| order(a, b));
        let mut links = vec![None; self.spellings.len()];
        let mut open: Vec<usize> = Vec::new();
        for i in sorted {
            while let Some(&last) = open.last() {
                if contains(self.spellings[last], self.spellings[i]) {
                    links[i] = Some(to_id(last));
                    break;
                }
                open.pop();
            }
            open.push(i);
        }
        links
    }
}

/// The pieces a piece starts (or ends) with, the longest first. At most as many as it has characters.
fn chain(links: &[Option<TokenId>], i: usize) -> impl Iterator<Item = usize> + '_ {
    std::iter::successors(links[i], |&j| links[j as usize]).map(|j| j as usize)
}

/// Which characters have a piece of their own that merges or that stands still.
struct CharPieces {
    /// One bit for each character.
    known: Vec<u64>,
}

impl CharPieces {
    fn new(table: &PieceTable<'_>) -> Self {
        let mut known = vec![0u64; 0x11_0000 / 64];
        for (i, spelling) in table.spellings.iter().enumerate() {
            let mut chars = spelling.chars();
            if let (Some(c), None) = (chars.next(), chars.next())
                && (table.merges_here(i) || table.kinds[i] == PieceType::UserDefined)
            {
                known[c as usize / 64] |= 1 << (c as usize % 64);
            }
        }
        Self { known }
    }

    fn has(&self, c: char) -> bool {
        self.known[c as usize / 64] >> (c as usize % 64) & 1 != 0
    }

    /// Refuses a piece that would be made of a character without a piece: a merge has an id on either side.
    fn check(
        &self,
        table: &PieceTable<'_>,
        i: usize,
        prefixes: &[Option<TokenId>],
        suffixes: &[Option<TokenId>],
    ) -> Result<()> {
        let spelling = table.spellings[i];
        let (Some(first), Some(last)) = (spelling.chars().next(), spelling.chars().next_back()) else {
            return Ok(());
        };
        let rest_of = |c: char| spelling.len() - c.len_utf8();
        let is_piece = |links, len| chain(links, i).any(|j| table.spellings[j].len() == len);
        let pair = rest_of(first) == last.len_utf8() && !self.has(first) && !self.has(last);
        let bad = if !self.has(first) && (pair || is_piece(suffixes, rest_of(first))) && rest_of(first) > 0 {
            first
        } else if !self.has(last) && rest_of(last) > 0 && is_piece(prefixes, rest_of(last)) {
            last
        } else {
            return Ok(());
        };
        Err(Error::unsupported(
            (table.name)(i),
            format!("{spelling:?} can be merged from the character {bad:?}, which is no piece"),
            "add the character as a piece",
        ))
    }
}
