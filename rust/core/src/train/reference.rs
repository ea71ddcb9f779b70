//! The definition: the procedure of `tokenizers`' BPE trainer, step by step, on plain collections.
//!
//! Written for reading and for tests; every step looks at everything.

use std::collections::{BTreeMap, BTreeSet};

use super::length::MaxLength;
use super::merge::LearntMerge;
use super::tokens::Tokens;
use crate::error::Result;
use crate::ids::TokenId;

type Pair = (TokenId, TokenId);

/// An entry of the queue: the count it was put in with, and the words that one step put the pair into.
struct Entry {
    count: i64,
    pair: Pair,
    step: usize,
    words: BTreeSet<usize>,
}

/// Learns merges until there are `vocab_size` tokens or no pair occurs `min_frequency` times.
///
/// Returns the merges and the tokens. O(merges · (symbols + pairs)).
///
/// # Errors
/// As [`Tokens::push`].
pub fn train(
    words: &[(Vec<TokenId>, u64)],
    mut tokens: Tokens,
    vocab_size: usize,
    min_frequency: u64,
    max_length: MaxLength,
    mut forbids: impl FnMut(&[u8]) -> bool,
) -> Result<(Vec<LearntMerge>, Tokens)> {
    let counts: Vec<i64> = words.iter().map(|(_, count)| i64::try_from(*count).unwrap_or(i64::MAX)).collect();
    let mut words: Vec<Vec<TokenId>> = words.iter().map(|(symbols, _)| symbols.clone()).collect();
    let mut merges = Vec::new();

    // How often each pair occurs, and where; `aaa` holds `aa` twice.
    let mut pairs: BTreeMap<Pair, i64> = BTreeMap::new();
    let mut places: BTreeMap<Pair, BTreeSet<usize>> = BTreeMap::new();
    for (number, word) in words.iter().enumerate() {
        for neighbours in word.windows(2) {
            let pair = (neighbours[0], neighbours[1]);
            let allowed = match max_length {
                MaxLength::Bytes(most) => tokens.get(pair.0).len() + tokens.get(pair.1).len() <= most,
                MaxLength::None | MaxLength::HuggingFace(_) => true,
            };
            if allowed {
                *pairs.entry(pair).or_default() += counts[number];
                places.entry(pair).or_default().insert(number);
            }
        }
    }
    let mut queue: Vec<Entry> = Vec::new();
    loop {
        // Pairs made since the last merge join the queue.
        for (pair, words) in std::mem::take(&mut places) {
            let count = pairs[&pair];
            if count > 0 {
                queue.push(Entry { count, pair, step: merges.len(), words });
            }
        }
        if tokens.len() >= vocab_size {
            break;
        }
        // The most frequent pair, of equals the smallest (of two entries of one pair the later, which `tokenizers` leaves
        // open); a count that is out of date is put right first.
        let order = |entry: &Entry| (entry.count, std::cmp::Reverse(entry.pair), entry.step);
        let Some(top) = (0..queue.len()).max_by_key(|&i| order(&queue[i])) else { break };
        let mut entry = queue.swap_remove(top);
        if entry.count != pairs[&entry.pair] {
            entry.count = pairs[&entry.pair];
            queue.push(entry);
            continue;
        }
        if entry.count < 1 || entry.count.unsigned_abs() < min_frequency {
            break;
        }
        let (left, right) = entry.pair;
        let bytes = [tokens.get(left), tokens.get(right)].concat();
        if forbids(&bytes) {
            continue;
        }
        let product = match tokens.id_of(&bytes) {
            Some(id) => id,
            None => tokens.push(&bytes)?,
        };
        merges.push(LearntMerge { left, right, product, count: entry.count.unsigned_abs() });
        // Each word of the entry is rewritten from the left; the pairs around a replacement change.
        for &number in &entry.words {
            let (word, count) = (&mut words[number], counts[number]);
            let mut at = 0;
            while at + 1 < word.len() {
                if (word[at], word[at + 1]) != entry.pair {
                    at += 1;
                    continue;
                }
                word[at] = product;
                word.remove(at + 1);
                let mut change = |pair: Pair, by: i64| {
                    let bytes = tokens.get(pair.0).len() + tokens.get(pair.1).len();
                    let allowed = match max_length {
                        MaxLength::None => true,
                        MaxLength::Bytes(most) => bytes <= most,
                        MaxLength::HuggingFace(bound) => by < 0 || bytes < bound,
                    };
                    if allowed {
                        *pairs.entry(pair).or_default() += by;
                        if by > 0 {
                            places.entry(pair).or_default().insert(number);
                        }
                    }
                };
                if at > 0 {
                    change((word[at - 1], left), -count);
                    change((word[at - 1], product), count);
                }
                if at + 1 < word.len() {
                    change((right, word[at + 1]), -count);
                    change((product, word[at + 1]), count);
                }
                at += 1;
            }
        }
    }
    Ok((merges, tokens))
}
