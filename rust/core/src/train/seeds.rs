//! Merges for tokens that must be in the vocabulary.
//!
//! A seed is encoded with the merges learnt so far, and the tokens it falls into are joined from the left, at the lowest
//! priority: what was learnt before is reused and encodes as it did. The merges of one seed are there when the next is
//! encoded. Each seed ends as one token: joins come last, and none of them is a pair that merged already.

use hashbrown::HashMap;

use super::merge::{LearntMerge, Merges, Stop};
use super::pairs::key_of;
use super::tokens::Tokens;
use crate::error::{Error, Result};
use crate::ids::TokenId;

/// The merges of `learnt`, fewer where the room is needed, and behind them those of the seeds.
///
/// `initial` is how many tokens there were before anything was learnt, `inherited` are merges that hold before all
/// others. The result has at most `vocab_size` tokens: learnt merges go, the last ones first, until there is room.
///
/// # Errors
/// `Value` for a seed with a byte outside the alphabet, and when the seeds alone need more than `vocab_size` tokens.
pub fn add_seeds(
    learnt: Merges,
    seeds: &[Vec<u8>],
    initial: usize,
    inherited: &[(TokenId, TokenId, TokenId)],
    vocab_size: usize,
) -> Result<Merges> {
    let mut keep = learnt.merges.len();
    loop {
        let mut tokens = Tokens::new();
        for token in learnt.tokens.iter().take(initial) {
            tokens.push(token)?;
        }
        let mut kept = Ranked::new(inherited);
        for merge in &learnt.merges[..keep] {
            if merge.product as usize == tokens.len() {
                tokens.push(learnt.tokens.get(merge.product))?;
            }
            kept.add(*merge);
        }
        for seed in seeds {
            kept.join(seed, &mut tokens)?;
        }
        let over = tokens.len().saturating_sub(vocab_size);
        if over == 0 {
            let stop =
                if learnt.stop == Stop::Exhausted && keep < learnt.merges.len() { Stop::Complete } else { learnt.stop };
            return Ok(Merges { merges: kept.learnt, tokens, stop });
        }
        if keep == 0 {
            let found = format!("the alphabet and the seed tokens need {} tokens", tokens.len());
            return Err(Error::value("vocab_size", format!("{vocab_size}; {found}"), "raise it or give fewer seeds"));
        }
        // A merge that goes frees one token, and the seeds may need more without it.
        keep -= over.min(keep);
    }
}

/// Merges by pair, with their ranks.
struct Ranked {
    by_pair: HashMap<u64, (usize, TokenId)>,
    learnt: Vec<LearntMerge>,
    ranks: usize,
}

impl Ranked {
    fn new(inherited: &[(TokenId, TokenId, TokenId)]) -> Self {
        let mut by_pair = HashMap::new();
        for (rank, &(left, right, product)) in inherited.iter().enumerate() {
            by_pair.insert(key_of(left, right), (rank, product));
        }
        Self { by_pair, learnt: Vec::new(), ranks: inherited.len() }
    }

    fn add(&mut self, merge: LearntMerge) {
        self.by_pair.insert(key_of(merge.left, merge.right), (self.ranks, merge.product));
        self.ranks += 1;
        self.learnt.push(merge);
    }

    /// The tokens that a seed falls into. O(n²) for n bytes.
    fn encode(&self, seed: &[u8], tokens: &Tokens) -> Result<Vec<TokenId>> {
        let mut parts = Vec::with_capacity(seed.len());
        for &byte in seed {
            let Some(id) = tokens.id_of(&[byte]) else {
                let found = format!("{:?} holds the byte {byte:#04x}", String::from_utf8_lossy(seed));
                return Err(Error::value("seed_tokens", found, "use an alphabet with all bytes"));
            };
            parts.push(id);
        }
        loop {
            let ranked = parts.windows(2).enumerate().filter_map(|(at, pair)| {
                self.by_pair.get(&key_of(pair[0], pair[1])).map(|&(rank, product)| (rank, at, product))
            });
            let Some((_, at, product)) = ranked.min() else { return Ok(parts) };
            parts[at] = product;
            parts.remove(at + 1);
        }
    }

    fn join(&mut self, seed: &[u8], tokens: &mut Tokens) -> Result<()> {
        loop {
            let parts = self.encode(seed, tokens)?;
            let [left, right, ..] = parts[..] else { return Ok(()) };
            let bytes = [tokens.get(left), tokens.get(right)].concat();
            let product = match tokens.id_of(&bytes) {
                Some(id) => id,
                None => tokens.push(&bytes)?,
            };
            self.add(LearntMerge { left, right, product, count: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Trainer};
    use super::*;

    fn learn(words: &[(&str, u64)], vocab_size: usize) -> Merges {
        let mut tokens = Tokens::new();
        for byte in b'a'..=b'z' {
            tokens.push(&[byte]).expect("few");
        }
        let mut trainer = Trainer::new(tokens);
        for (word, count) in words {
            trainer.push(word.bytes().map(|b| TokenId::from(b - b'a')), *count).expect("letters");
        }
        let options = Options { vocab_size, ..Options::default() };
        trainer.train(&options, None, &Default::default(), &Default::default()).expect("small")
    }

    #[test]
    fn every_seed_is_one_token_and_the_vocabulary_has_the_size_asked_for() {
        let learnt = learn(&[("hello", 9), ("help", 5), ("low", 7), ("slow", 4)], 34);
        let seeds: Vec<Vec<u8>> = [&b"yellow"[..], b"hell", b"zz"].map(<[u8]>::to_vec).into();
        let with = add_seeds(learnt.clone(), &seeds, 26, &[], 34).expect("there is room");
        assert!(with.tokens.len() <= 34);
        let mut ranked = Ranked::new(&[]);
        with.merges.iter().for_each(|merge| ranked.add(*merge));
        for seed in &seeds {
            let ids = ranked.encode(seed, &with.tokens).expect("letters");
            assert_eq!(ids, [with.tokens.id_of(seed).expect("it was made")]);
        }
        let kept = with.merges.iter().zip(&learnt.merges).take_while(|(a, b)| a == b).count();
        assert!(kept > 0, "what was learnt comes first");
    }

    #[test]
    fn seeds_that_do_not_fit_are_refused() {
        let learnt = learn(&[("ab", 2)], 27);
        let error = add_seeds(learnt, &[b"wxyz".to_vec()], 26, &[], 27).expect_err("three tokens more");
        assert!(error.to_string().contains("vocab_size"), "{error}");
    }

    #[test]
    fn a_byte_outside_the_alphabet_is_named() {
        let error = add_seeds(learn(&[("ab", 2)], 27), &[b"a!".to_vec()], 26, &[], 99).expect_err("no `!`");
        assert!(error.to_string().contains("0x21"), "{error}");
    }
}
