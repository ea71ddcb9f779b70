//! The merges of a BPE model, resolved to ids while they are read.

use crate::error::{Error, Result};
use crate::formats::table::SpellingTable;
use crate::formats::{Merge, Spellings};
use crate::ids::TokenId;
use crate::limits::Limits;

use super::scan::Scanner;

/// Takes the array `model.merges`: all of them `"left right"`, or all of them `["left", "right"]`.
///
/// The rank of a merge is its place (lines that start with `#version` have none), its product the token that `left`
/// and `right` without `prefix` spell together. Of two merges of one pair the later rank holds, as in the hash map of
/// `tokenizers`. A product is longer than each of its parts, so merges cannot run in a circle. Three hash lookups for
/// each merge.
pub(super) fn read(
    scan: &mut Scanner<'_>,
    vocab: &Spellings,
    table: &SpellingTable,
    prefix: &[u8],
    limits: &Limits,
) -> Result<Vec<Merge>> {
    scan.field = "model.merges";
    let mut merges: Vec<Merge> = Vec::new();
    let mut products: Vec<u32> = Vec::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut more = scan.open(b'[', b']')?;
    let pairs = more && scan.peek() == b'[';
    let mut index: usize = 0;
    let mut rank: u32 = 0;
    let mut resolver = Resolver { vocab, table, prefix, joined: Vec::new(), guess: 0 };
    while more {
        if index >= limits.merges {
            return Err(Error::limit("model.merges", index + 1, limits.merges, "merges"));
        }
        let (left, right) = if pairs {
            if scan.peek() != b'[' {
                return Err(shape(index, "not a pair [left, right] like the merges before it"));
            }
            scan.open(b'[', b']')?;
            let left = part(scan, index, &mut first)?;
            scan.expect(b',', "expected `,` and the right token")?;
            let right = part(scan, index, &mut second)?;
            if scan.peek() == b',' {
                return Err(shape(index, "a merge of more than two tokens"));
            }
            scan.expect(b']', "expected `]`")?;
            (left, right)
        } else {
            let line = part(scan, index, &mut first)?;
            if line.starts_with(b"#version") {
                // The one string of a merge that no lookup checks.
                if std::str::from_utf8(line).is_err() {
                    return Err(shape(index, "not UTF-8"));
                }
                more = scan.another(b']')?;
                index += 1;
                continue;
            }
            let space = line.iter().position(|&b| b == b' ');
            let Some(space) = space.filter(|&at| !line[at + 1..].contains(&b' ')) else {
                return Err(shape(index, "not two tokens with one space between them"));
            };
            (&line[..space], &line[space + 1..])
        };
        merges.push(resolver.resolve(left, right, rank, index)?);
        products.push(resolver.guess);
        rank = rank.checked_add(1).ok_or_else(|| shape(index, "more merges than ranks"))?;
        index += 1;
        more = scan.another(b']')?;
    }
    scan.field = "model";
    keep_last(&mut merges, &products, vocab.len());
    Ok(merges)
}

/// One string of a merge.
#[inline]
fn part<'s, 'a: 's>(scan: &mut Scanner<'a>, index: usize, scratch: &'s mut Vec<u8>) -> Result<&'s [u8]> {
    match scan.peek() {
        // A spelling that is found in the vocabulary is UTF-8, as the vocabulary is.
        b'"' | 0 => scan.raw_string(scratch),
        _ => Err(shape(index, &format!("{} is not a string", scan.glimpse()))),
    }
}

#[cold]
fn shape(index: usize, found: &str) -> Error {
    Error::format(format!("model.merges[{index}]"), found, "")
}

/// Turns spellings into ids.
struct Resolver<'v> {
    vocab: &'v Spellings,
    table: &'v SpellingTable,
    prefix: &'v [u8],
    joined: Vec<u8>,
    /// Vocabularies are written in the order of their merges: the product mostly is the entry of the last product, or
    /// the one after it. After a merge: the entry of its product.
    guess: u32,
}

impl Resolver<'_> {
    #[inline]
    fn id_of(&self, spelling: &[u8], index: usize) -> Result<TokenId> {
        match self.table.get(spelling, self.vocab) {
            Some(entry) => Ok(self.vocab.ids[entry as usize]),
            None => Err(unknown(index, spelling, "")),
        }
    }

    #[inline]
    fn resolve(&mut self, left: &[u8], right: &[u8], rank: u32, index: usize) -> Result<Merge> {
        let (left_id, right_id) = (self.id_of(left, index)?, self.id_of(right, index)?);
        let Some(rest) = right.strip_prefix(self.prefix) else {
            let right = String::from_utf8_lossy(right);
            return Err(shape(index, &format!("the right token {right:?} lacks the continuing_subword_prefix")));
        };
        if left.is_empty() || rest.is_empty() {
            return Err(shape(index, "a merge with an empty part, which would never end"));
        }
        let guessed = [self.guess, self.guess + 1].into_iter();
        let mut guessed = guessed.filter(|&entry| self.table.is_joined(entry, left, rest, self.vocab));
        let Some(entry) = guessed.next().or_else(|| self.table.get_joined(left, rest, &mut self.joined, self.vocab))
        else {
            return Err(unknown(index, &[left, rest].concat(), ", the product,"));
        };
        self.guess = entry;
        Ok(Merge { left: left_id, right: right_id, product: self.vocab.ids[entry as usize], rank })
    }
}

#[cold]
fn unknown(index: usize, spelling: &[u8], which: &str) -> Error {
    let token = String::from_utf8_lossy(spelling);
    Error::format(
        format!("model.merges[{index}]"),
        format!("the token {token:?}{which} is not in model.vocab"),
        "add the token or remove the merge",
    )
}

/// Removes every merge whose pair comes again later. O(n) for real files: merges are chained by their product, and a
/// product has no more pairs than places to cut it. `products` are entries: ids are not yet checked against a bound.
fn keep_last(merges: &mut Vec<Merge>, products: &[u32], entries: usize) {
    const NONE: u32 = u32::MAX;
    let mut last_of_product = vec![NONE; entries];
    let mut before = vec![NONE; merges.len()];
    let mut dropped = Vec::new();
    for (i, &product) in products.iter().enumerate() {
        let merge = merges[i];
        let product = product as usize;
        let here = u32::try_from(i).expect("ranks are u32");
        let head = last_of_product[product];
        // Unlink an earlier merge of the same pair, then put this one in front.
        let (mut at, mut above) = (head, NONE);
        while at != NONE {
            let other = merges[at as usize];
            let below = before[at as usize];
            if (other.left, other.right) == (merge.left, merge.right) {
                dropped.push(at);
                if above == NONE {
                    last_of_product[product] = below;
                } else {
                    before[above as usize] = below;
                }
                break;
            }
            above = at;
            at = below;
        }
        before[i] = last_of_product[product];
        last_of_product[product] = here;
    }
    if dropped.is_empty() {
        return;
    }
    dropped.sort_unstable();
    let mut gone = dropped.into_iter().peekable();
    let mut i: u32 = 0;
    merges.retain(|_| {
        let drop = gone.next_if_eq(&i).is_some();
        i += 1;
        !drop
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_pairs_stays() {
        let m = |left, right, product, rank| Merge { left, right, product, rank };
        let mut merges = vec![m(0, 1, 5, 0), m(2, 3, 6, 1), m(0, 1, 5, 2), m(4, 0, 5, 3), m(2, 3, 6, 4), m(0, 1, 5, 5)];
        let products: Vec<u32> = merges.iter().map(|m| m.product).collect();
        keep_last(&mut merges, &products, 7);
        assert_eq!(merges, [m(4, 0, 5, 3), m(2, 3, 6, 4), m(0, 1, 5, 5)]);
    }
}
