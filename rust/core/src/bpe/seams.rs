//! BPE on long pretokens, word by word: most words were seen before, and most stay as they are beside each other.
//!
//! A text may be cut anywhere: its parts' canonical sequences, one after the other, are the canonical sequence of the
//! whole wherever each pair of tokens at a seam is canonical ([`super::linear`], fact 1). So the text is cut into words,
//! whose ids are mostly remembered, and each seam is looked at: by its two bytes ([`Cuts`]), then by its two tokens. A
//! seam that does not hold is mended: the two tokens' bytes are encoded as one, and so are their neighbours' for as long
//! as they do not hold beside the result. What comes out is a spelling of the text all of whose pairs are canonical, and
//! there is only one of those.
//!
//! Mending grows a stretch of the text token by token and starts over each time, so a text could be made on which it
//! takes too long: work is bounded by [`MENDING`] bytes for each byte, and beyond that the text is left to the search.

use super::BpeScratch;
use super::cuts::Cuts;
use super::linear::Linear;
use super::merge::{self, BytePairs, SCAN_MAX};
use super::symbols::Symbols;
use super::table::MergeTable;
use crate::ids::{NO_TOKEN, TokenId};
use crate::piececache::PieceCache;
use crate::pretoken::{Known, Scanner, ScannerVisitor, with_scanner};

/// What cuts a text into words. Any cuts give the same ids; these are fast to find, and few words differ from those of
/// the patterns that tokenizers are trained with.
const WORDS: Known = Known::Cl100k;

/// Bytes that may be encoded again for each byte of the text, and for every text.
const MENDING: usize = 8;
const MENDING_ANY: usize = 4096;

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct SeamScratch {
    cache: Option<PieceCache>,
    /// The ids behind a seam that is being mended.
    behind: Vec<TokenId>,
    mended: Vec<TokenId>,
}

/// A table of merges, and what was derived from it.
#[derive(Clone, Copy)]
pub(super) struct Level<'e> {
    pub(super) table: &'e MergeTable,
    pub(super) symbols: &'e Symbols,
    pub(super) cuts: &'e Cuts,
    pub(super) linear: &'e Linear,
    pub(super) byte_pairs: Option<&'e BytePairs>,
}

impl Level<'_> {
    /// Appends the canonical sequence of `text`, in which every character has a symbol; `false`, with `out` as it was,
    /// when there is none made of the tokens of [`Linear`].
    ///
    /// O(n · m), m = longest token.
    pub(super) fn encode(&self, text: &[u8], scratch: &mut BpeScratch, out: &mut Vec<TokenId>) -> bool {
        let before = out.len();
        scratch.linear.prepare();
        scratch.seams.cache.get_or_insert_with(PieceCache::new);
        if with_scanner(WORDS, Walk { level: *self, text, scratch, out }) {
            return true;
        }
        out.truncate(before);
        self.search(text, scratch, out)
    }

    fn search(&self, text: &[u8], scratch: &mut BpeScratch, out: &mut Vec<TokenId>) -> bool {
        let tables = (self.table, self.symbols);
        self.linear.encode(tables, text, (&mut scratch.linear, &mut scratch.merge), out)
    }

    /// Appends the ids of `text[start..end]` by itself; `false` where there are none.
    #[inline]
    fn word(
        &self,
        text: &[u8],
        (start, end): (usize, usize),
        scratch: &mut BpeScratch,
        out: &mut Vec<TokenId>,
    ) -> bool {
        let Some(cache) = &mut scratch.seams.cache else { return false };
        if PieceCache::is_short(end - start) {
            let key = PieceCache::short_key(text, start, end);
            if let Some(ids) = cache.get_short(key) {
                write(ids, cache, out);
                return true;
            }
            let Some(ids) = self.new_word(&text[start..end], scratch, out) else { return false };
            if let Some(cache) = &mut scratch.seams.cache {
                cache.put_short(key, ids);
            }
            return true;
        }
        self.long_word(text, (start, end), scratch, out)
    }

    #[inline(never)]
    fn long_word(
        &self,
        text: &[u8],
        (start, end): (usize, usize),
        scratch: &mut BpeScratch,
        out: &mut Vec<TokenId>,
    ) -> bool {
        let key = PieceCache::is_long(end - start).then(|| PieceCache::long_key(text, start, end));
        if let (Some(key), Some(cache)) = (&key, &mut scratch.seams.cache)
            && let Some(ids) = cache.get_long(key)
        {
            write(ids, cache, out);
            return true;
        }
        let Some(ids) = self.new_word(&text[start..end], scratch, out) else { return false };
        if let (Some(key), Some(cache)) = (key, &mut scratch.seams.cache) {
            cache.put_long(key, ids);
        }
        true
    }

    #[inline(never)]
    fn new_word<'o>(&self, word: &[u8], scratch: &mut BpeScratch, out: &'o mut Vec<TokenId>) -> Option<&'o [TokenId]> {
        let before = out.len();
        if word.len() > SCAN_MAX {
            if !self.search(word, scratch, out) {
                return None;
            }
        } else if let Some(pairs) = self.byte_pairs {
            merge::merge_bytes(self.table, pairs, word, &mut scratch.merge, out);
        } else {
            scratch.symbols.clear();
            self.symbols.write(word, &mut scratch.symbols);
            merge::merge(self.table, &mut scratch.symbols, &mut scratch.merge);
            out.extend(scratch.symbols.iter().map(|symbol| symbol.id));
        }
        let ids = &out[before..];
        let spelt: usize = ids.iter().map(|&id| self.linear.len(id)).sum();
        (spelt == word.len() && !word.is_empty()).then_some(ids)
    }

    /// Whether two tokens stay as they are on the two sides of `at`.
    #[inline]
    fn holds(&self, text: &[u8], at: usize, (left, right): (TokenId, TokenId), scratch: &mut BpeScratch) -> bool {
        self.cuts.is_cut(text, at) || self.is_pair((left, right), scratch)
    }

    fn is_pair(&self, (left, right): (TokenId, TokenId), scratch: &mut BpeScratch) -> bool {
        let tables = (self.table, self.symbols);
        let BpeScratch { linear, merge, .. } = scratch;
        self.linear.are_pair(tables, (left, right), linear, merge)
    }
}

#[inline(always)]
fn write<const N: usize>(ids: &[TokenId; N], cache: &PieceCache, out: &mut Vec<TokenId>) {
    match cache.listed(ids) {
        Some(ids) => out.extend_from_slice(ids),
        None => {
            // As in the pipeline: a copy of constant size, of which what is too much is taken back.
            let end = out.len() + ids.iter().map(|&id| usize::from(id != NO_TOKEN)).sum::<usize>();
            out.extend_from_slice(ids);
            out.truncate(end);
        }
    }
}

struct Walk<'a, 'e> {
    level: Level<'e>,
    text: &'a [u8],
    scratch: &'a mut BpeScratch,
    out: &'a mut Vec<TokenId>,
}

impl ScannerVisitor<bool> for Walk<'_, '_> {
    #[inline]
    fn visit<C: Scanner>(self, scanner: C) -> bool {
        let Self { level, text, scratch, out } = self;
        let first = out.len();
        let mut allowance = text.len().saturating_mul(MENDING).saturating_add(MENDING_ANY);
        let mut at = 0;
        for end in scanner.pieces(text) {
            let seam = out.len();
            if !level.word(text, (at, end), scratch, out) {
                return false;
            }
            if seam > first
                && !level.holds(text, at, (out[seam - 1], out[seam]), scratch)
                && !level.mend(text, (at, seam, first), scratch, out, &mut allowance)
            {
                return false;
            }
            at = end;
        }
        true
    }
}

impl Level<'_> {
    /// Makes the sequence canonical whose ids `first..seam` stand before `at` and are canonical, and so are the others.
    #[inline(never)]
    fn mend(
        &self,
        text: &[u8],
        (at, seam, first): (usize, usize, usize),
        scratch: &mut BpeScratch,
        out: &mut Vec<TokenId>,
        allowance: &mut usize,
    ) -> bool {
        let mut behind = std::mem::take(&mut scratch.seams.behind);
        let mut mended = std::mem::take(&mut scratch.seams.mended);
        behind.clear();
        behind.extend(out.drain(seam..));
        let (mut start, mut end, mut taken) = (at - self.linear.len(out[seam - 1]), at + self.linear.len(behind[0]), 1);
        out.pop();
        let done = loop {
            match allowance.checked_sub(end - start) {
                Some(rest) => *allowance = rest,
                None => break false,
            }
            mended.clear();
            if !self.word(text, (start, end), scratch, &mut mended) {
                break false;
            }
            if out.len() > first
                && let Some(&left) = out.last()
                && !self.holds(text, start, (left, mended[0]), scratch)
            {
                start -= self.linear.len(left);
                out.pop();
                continue;
            }
            if let Some(&right) = behind.get(taken)
                && !self.holds(text, end, (mended[mended.len() - 1], right), scratch)
            {
                end += self.linear.len(right);
                taken += 1;
                continue;
            }
            out.extend_from_slice(&mended);
            out.extend_from_slice(&behind[taken..]);
            break true;
        };
        (scratch.seams.behind, scratch.seams.mended) = (behind, mended);
        done
    }
}
