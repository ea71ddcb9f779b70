//! Merges of equal rank in a strict order.
//!
//! tiktoken and SentencePiece give every cut of a token the token's rank; `tokenizers` wants one merge after the
//! other. One cut for each token is enough. Take the merge of two neighbours `a b` into `c` somewhere in a text. Until
//! then no merge crossed the ends of `c`, so inside `c` the same merges happened, in the same order, as when the text
//! is `c` alone: there, too, the last state before `c` was `a b`. Encoding `c` alone is deterministic and passes
//! through one state of two parts at most, so `a b` is the only pair that ever becomes `c`; and where `c` alone does
//! not end as `c`, no pair ever does. All other cuts can go, and with one merge for each product the ranks are strict.
//!
//! Several tokens of one rank depend on the text, but for one case that real models have: runs of one character (`▁▁`,
//! `▁▁▁`, ... all score the same in Llama 2) that no other merge makes. The leftmost goes first, so a run starts as two
//! characters and grows by its right neighbour: at any time the candidates of the rank are the grown run with the
//! finished one before it, the grown run with the single character after it, and pairs of single characters further
//! right. From left to right these get shorter; hence "the longest product first" chooses as "the leftmost first" does.

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::formats::{Bpe, Merge, Symbols};
use crate::ids::TokenId;

/// Bound on the sum of squared lengths of all tokens: about a second of work.
const WORK: u64 = 1 << 32;

/// The merges of `bpe` in the order of their priority, no two of equal rank, with the same encodings.
///
/// # Errors
/// [`crate::ErrorKind::Unsupported`] where two different tokens share a rank, whose order depends on the text, and
/// where shared ranks meet a continuing prefix or an end-of-word suffix.
pub(super) fn strict(bpe: &Bpe) -> Result<Vec<Merge>> {
    let mut merges = bpe.merges.clone();
    merges.sort_by_key(|m| (m.rank, m.product, m.left, m.right));
    if merges.windows(2).all(|w| w[0].rank != w[1].rank) {
        return Ok(merges);
    }
    if !bpe.continuing_subword_prefix.is_empty() || !bpe.end_of_word_suffix.is_empty() {
        let found = "merges of equal rank beside a continuing prefix or an end-of-word suffix";
        return Err(Error::unsupported("model.merges", found, ""));
    }
    let work: u64 = bpe.vocab.iter().map(|(t, _)| (t.len() as u64).pow(2)).sum();
    if work > WORK {
        let found = format!("the squared lengths of the tokens sum to {work}");
        return Err(Error::unsupported("model.vocab", found, "real vocabularies stay under 2^32"));
    }
    let solo = Solo::new(bpe);
    let spelling_of: HashMap<TokenId, usize> = bpe.vocab.ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
    let mut out = Vec::new();
    for cuts in merges.chunk_by(|a, b| a.rank == b.rank) {
        let product = cuts[0].product;
        if let Some(other) = cuts.iter().find(|m| m.product != product) {
            let Some(runs) = longest_first(cuts, &merges, &|id| Some(bpe.vocab.get(*spelling_of.get(&id)?))) else {
                return Err(Error::unsupported(
                    "model.merges",
                    format!("the tokens {product} and {} merge with one rank, {}", other.product, other.rank),
                    "tokenizer.json has a strict order of merges",
                ));
            };
            out.extend(runs);
        } else if let [only] = cuts {
            out.push(*only);
        } else if let Some(&entry) = spelling_of.get(&product) {
            out.extend(solo.last_merge(bpe.vocab.get(entry)).filter(|m| m.product == product));
        }
    }
    Ok(out)
}

/// The merges of one rank, where all they make are runs of one character that no merge of another rank makes: the
/// longest product first. `None` for anything else.
fn longest_first<'v>(
    cuts: &[Merge],
    merges: &[Merge],
    spelling: &dyn Fn(TokenId) -> Option<&'v [u8]>,
) -> Option<Vec<Merge>> {
    let run = |id: TokenId| {
        let text = std::str::from_utf8(spelling(id)?).ok()?;
        let first = text.chars().next()?;
        text.chars().all(|c| c == first).then_some((first, text.len()))
    };
    let (character, _) = run(cuts[0].product)?;
    let mut lengths = Vec::with_capacity(cuts.len());
    for cut in cuts {
        lengths.push(run(cut.product).filter(|(c, _)| *c == character)?.1);
    }
    let rank = cuts[0].rank;
    let made_elsewhere = |m: &Merge| m.rank != rank && run(m.product).is_some_and(|(c, _)| c == character);
    if merges.iter().any(made_elsewhere) {
        return None;
    }
    let mut order: Vec<(usize, Merge)> = lengths.into_iter().zip(cuts.iter().copied()).collect();
    order.sort_by_key(|(length, m)| (std::cmp::Reverse(*length), m.left, m.right));
    Some(order.into_iter().map(|(_, m)| m).collect())
}

/// Encodes single tokens.
struct Solo {
    symbols: Symbols,
    singles: HashMap<Vec<u8>, TokenId>,
    pairs: HashMap<(TokenId, TokenId), Merge>,
}

impl Solo {
    fn new(bpe: &Bpe) -> Self {
        let is_single = |s: &[u8]| match bpe.symbols {
            Symbols::RawBytes => s.len() == 1,
            Symbols::Chars => std::str::from_utf8(s).is_ok_and(|s| s.chars().count() == 1),
        };
        Self {
            symbols: bpe.symbols,
            singles: bpe.vocab.iter().filter(|(s, _)| is_single(s)).map(|(s, id)| (s.to_vec(), id)).collect(),
            pairs: bpe.merges.iter().map(|m| ((m.left, m.right), *m)).collect(),
        }
    }

    /// The merge that makes `token` one part, when it is encoded alone. O(n²) for n symbols.
    fn last_merge(&self, token: &[u8]) -> Option<Merge> {
        let mut parts: Vec<TokenId> = match self.symbols {
            Symbols::RawBytes => token.iter().map(|&b| self.singles.get(&[b][..]).copied()).collect::<Option<_>>()?,
            Symbols::Chars => {
                let text = std::str::from_utf8(token).ok()?;
                let ids = text.chars().map(|c| self.singles.get(c.encode_utf8(&mut [0; 4]).as_bytes()).copied());
                ids.collect::<Option<_>>()?
            }
        };
        let of = |pair: &[TokenId]| self.pairs.get(&(pair[0], pair[1])).copied();
        let mut candidates: Vec<Option<Merge>> = parts.windows(2).map(of).collect();
        let mut last = None;
        while let Some((at, merge)) =
            candidates.iter().enumerate().filter_map(|(i, c)| c.map(|m| (i, m))).min_by_key(|(i, m)| (m.rank, *i))
        {
            last = Some(merge);
            parts[at] = merge.product;
            parts.remove(at + 1);
            candidates.remove(at);
            if at > 0 {
                candidates[at - 1] = of(&parts[at - 1..=at]);
            }
            if at < candidates.len() {
                candidates[at] = of(&parts[at..at + 2]);
            }
        }
        last.filter(|_| parts.len() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::Spellings;

    fn bpe(tokens: &[&str], merges: &[(u32, u32, u32, u32)]) -> Bpe {
        let mut vocab = Spellings::default();
        for (id, token) in tokens.iter().enumerate() {
            vocab.push(token.as_bytes(), u32::try_from(id).expect("few"));
        }
        let merges = merges.iter().map(|&(left, right, product, rank)| Merge { left, right, product, rank }).collect();
        Bpe { vocab, merges, symbols: Symbols::RawBytes, ..Bpe::default() }
    }

    #[test]
    fn the_cut_that_encoding_the_token_makes_is_kept() {
        // a=0 b=1 c=2 ab=3 bc=4 abc=5: alone, `abc` goes a b c, ab c, abc.
        let of = bpe(&["a", "b", "c", "ab", "bc", "abc"], &[(0, 1, 3, 3), (1, 2, 4, 4), (0, 4, 5, 5), (3, 2, 5, 5)]);
        let strict = strict(&of).expect("one product for each rank");
        let pairs: Vec<_> = strict.iter().map(|m| (m.left, m.right, m.product)).collect();
        assert_eq!(pairs, [(0, 1, 3), (1, 2, 4), (3, 2, 5)]);
    }

    #[test]
    fn a_token_that_no_encoding_reaches_loses_its_merges() {
        // `abcd`=7 from ab+cd or a+bcd, but bc goes first and takes b and c away.
        let tokens = ["a", "b", "c", "d", "bc", "ab", "cd", "abcd", "bcd"];
        let merges = [(1, 2, 4, 4), (0, 1, 5, 5), (2, 3, 6, 6), (5, 6, 7, 7), (0, 8, 7, 7)];
        let strict = strict(&bpe(&tokens, &merges)).expect("one product for each rank");
        assert!(strict.iter().all(|m| m.product != 7), "{strict:?}");
    }

    #[test]
    fn runs_of_one_rank_go_longest_first() {
        // `a` to `aaaa` without `aaa`, all of one rank, after `ab`.
        let of = bpe(&["a", "b", "aa", "aaaa", "ab"], &[(0, 1, 4, 1), (0, 0, 2, 9), (2, 2, 3, 9)]);
        let pairs: Vec<_> = strict(&of).expect("runs").iter().map(|m| (m.left, m.right, m.product)).collect();
        assert_eq!(pairs, [(0, 1, 4), (2, 2, 3), (0, 0, 2)]);
        // A run that another rank makes: no longer certain.
        let of = bpe(&["a", "aa", "aaa", "aaaa"], &[(0, 0, 1, 1), (1, 0, 2, 9), (1, 1, 3, 9)]);
        assert!(strict(&of).is_err());
    }

    #[test]
    fn two_tokens_of_one_rank_are_refused() {
        let of = bpe(&["a", "b", "c", "ab", "bc"], &[(0, 1, 3, 9), (1, 2, 4, 9)]);
        assert!(strict(&of).expect_err("depends on the text").to_string().contains("merge with one rank, 9"));
    }
}
