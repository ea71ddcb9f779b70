//! The definition of a sampled tokenizer, slow and plain.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

use super::draw::Draws;
use super::options::{Drawn, Ends, Options, Whitespace, fixed_tokens, is_spaced};
use crate::error::Result;
use crate::ids::TokenId;
use crate::limits::Limits;
use crate::train::{Cutter, PieceSink};

/// A substring's score, for each substring of the queue.
pub type Scores = BTreeMap<Vec<u8>, u64>;

#[derive(Default)]
struct Collect(Vec<Vec<u8>>);

impl PieceSink for Collect {
    fn piece(&mut self, text: &[u8], range: Range<usize>) -> ControlFlow<()> {
        self.0.push(text[range].to_vec());
        ControlFlow::Continue(())
    }
}

fn cutter(options: &Options, pattern: usize) -> Result<Cutter> {
    Cutter::new(&options.patterns[pattern], None, &Limits::default())
}

fn pretokens(text: &[u8], cutter: &Cutter) -> Result<Vec<Vec<u8>>> {
    let mut all = Collect::default();
    let _ = cutter.cut(text, 0..text.len(), &mut all)?;
    Ok(all.0)
}

/// The scores of some texts: for every occurrence of a substring its length in bytes.
///
/// A substring starts at every `stride`th character of a pretoken, has at most `max_bytes` bytes and ends behind a character
/// (or, with [`Ends::Bytes`], anywhere). A byte that belongs to no character is one.
///
/// # Errors
/// Those of [`Cutter::new`] and [`Cutter::cut`].
pub fn scores(texts: &[&[u8]], options: &Options, pattern: usize) -> Result<Scores> {
    let mut scores = Scores::new();
    let cutter = cutter(options, pattern)?;
    for text in texts {
        for pretoken in pretokens(text, &cutter)? {
            let mut bounds = Vec::new();
            let mut at = 0;
            for chunk in pretoken.utf8_chunks() {
                bounds.extend(chunk.valid().char_indices().map(|(i, _)| at + i));
                at += chunk.valid().len();
                bounds.extend((0..chunk.invalid().len()).map(|i| at + i));
                at += chunk.invalid().len();
            }
            bounds.push(at);
            for start in bounds[..bounds.len() - 1].iter().copied().step_by(options.stride) {
                for len in 1..=options.max_bytes.min(at - start) {
                    if options.ends == Ends::Bytes || bounds.contains(&(start + len)) {
                        *scores.entry(pretoken[start..start + len].to_vec()).or_default() += len as u64;
                    }
                }
            }
        }
    }
    Ok(scores)
}

/// The tokens, in the order of their bytes, and their scores.
///
/// With `p = score / sum of all scores + noise * gaussian(seed, step, bytes)`:
/// 1. all bytes and, with [`Whitespace::Runs`], the runs of white space are tokens;
/// 2. then the first `source_share * vocab_size` (rounded down) of the source's other tokens, by `p` descending, then bytes;
/// 3. then the first of all other substrings in the same order, up to `vocab_size`; with [`Whitespace::Runs`] none
///    with two or more bytes of white space.
///
/// A token's score is `ln p`, or `ln(p / largest p)` where noise made the largest one pass 1; runs have 0. The floor is the
/// least of these and of `ln(1 / sum of all scores)`: bytes have it, and tokens whose `p` is not above 0. Logarithms are
/// rounded to nine decimals, which every reader of a decimal number reads alike.
pub fn vocabulary(
    scores: &Scores,
    source: &[&[u8]],
    options: &Options,
    drawn: &Drawn,
    seed: u64,
    step: u64,
) -> BTreeMap<Vec<u8>, f64> {
    let draws = Draws::new(seed, step);
    let total = scores.values().sum::<u64>().max(1) as f64;
    let noised = |bytes: &[u8]| {
        let probability = scores.get(bytes).copied().unwrap_or(0) as f64 / total;
        probability + drawn.noise * draws.noise(bytes)
    };
    let sorted = |mut all: Vec<(Vec<u8>, f64)>| {
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all
    };
    let with_p = |bytes: &[u8]| (bytes.to_vec(), noised(bytes));
    let fixed = fixed_tokens(options.whitespace);
    let room = drawn.vocab_size.saturating_sub(fixed.len());
    let known: BTreeSet<&[u8]> = fixed.iter().map(Vec::as_slice).collect();
    let others: BTreeSet<&[u8]> = source.iter().copied().filter(|token| !known.contains(token)).collect();
    let mut taken = sorted(others.into_iter().map(with_p).collect());
    taken.truncate(room.min((drawn.source_share * drawn.vocab_size as f64) as usize));
    let near: BTreeSet<Vec<u8>> = taken.iter().map(|(bytes, _)| bytes.clone()).collect();
    let is_left = |bytes: &&Vec<u8>| {
        !known.contains(bytes.as_slice())
            && !near.contains(*bytes)
            && (options.whitespace == Whitespace::Learnt || !is_spaced(bytes))
    };
    let rest = sorted(scores.keys().filter(is_left).map(|bytes| with_p(bytes)).collect());
    let room = room - taken.len();
    taken.extend(rest.into_iter().take(room));

    let most = taken.iter().map(|(_, p)| *p).fold(1.0, f64::max);
    let rounded = |nats: f64| (nats * 1e9).round() / 1e9;
    let log = |p: f64| (p > 0.0).then(|| rounded((p / most).ln()));
    let floor = taken.iter().filter_map(|(_, p)| log(*p)).fold(rounded((1.0 / total).ln()), f64::min);
    let mut all: BTreeMap<Vec<u8>, f64> =
        taken.into_iter().map(|(bytes, p)| (bytes, log(p).unwrap_or(floor))).collect();
    all.extend(fixed.into_iter().map(|bytes| {
        let score = if bytes.len() == 1 { floor } else { 0.0 };
        (bytes, score)
    }));
    all
}

/// The ids of a text: within each pretoken the path with the greatest sum of scores, summed from the left; of equal ones the
/// one whose last token is longest. Or, when greedy, the longest token at each place.
///
/// # Errors
/// Those of [`Cutter::new`] and [`Cutter::cut`].
pub fn encode(text: &[u8], tokens: &BTreeMap<Vec<u8>, f64>, options: &Options, drawn: &Drawn) -> Result<Vec<TokenId>> {
    let ids: BTreeMap<&[u8], TokenId> = tokens.keys().map(Vec::as_slice).zip(0..).collect();
    let mut out = Vec::new();
    for pretoken in pretokens(text, &cutter(options, drawn.pattern)?)? {
        let n = pretoken.len();
        if drawn.is_greedy {
            let mut start = 0;
            while let Some(end) = (start + 1..=n).rev().find(|&end| ids.contains_key(&pretoken[start..end])) {
                out.push(ids[&pretoken[start..end]]);
                start = end;
            }
            continue;
        }
        // best[end]: the greatest sum up to there, and where its last token starts
        let mut best = vec![(0.0, 0)];
        for end in 1..=n {
            let offers = (0..end).filter_map(|start| Some((best[start].0 + tokens.get(&pretoken[start..end])?, start)));
            best.push(offers.fold((f64::NEG_INFINITY, 0), |held, offer| if offer.0 > held.0 { offer } else { held }));
        }
        let mut path = Vec::new();
        let mut end = n;
        while end > 0 {
            path.push(ids[&pretoken[best[end].1..end]]);
            end = best[end].1;
        }
        out.extend(path.into_iter().rev());
    }
    Ok(out)
}
