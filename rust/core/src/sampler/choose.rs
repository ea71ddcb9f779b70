//! Which substrings become tokens, and with what scores.

use std::cmp::Ordering;

use super::count::in_parts;
use super::draw::Draws;
use super::options::{Drawn, Whitespace};
use super::table::Table;
use crate::pipeline::Cancel;

/// Slots that a thread looks at between two looks at [`Cancel`].
const BLOCK: usize = 1 << 14;

/// A vocabulary: slots in the order of their bytes, and a score for each.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub(super) slots: Vec<u32>,
    pub(super) scores: Vec<f64>,
}

/// The tokens that every table holds.
pub(super) struct Always<'a> {
    /// All bytes in their order, then runs of white space.
    pub(super) fixed: &'a [u32],
    /// The source tokenizer's tokens that are not among these.
    pub(super) source: &'a [u32],
}

/// A substring's noised probability and its slot.
type Candidate = (f64, u32);

/// Chooses a step's vocabulary, as [`super::reference`] defines it.
///
/// O(slots) on `threads` threads, and a sort of the vocabulary.
pub(super) fn choose(
    table: &Table,
    always: &Always<'_>,
    whitespace: Whitespace,
    drawn: &Drawn,
    draws: &Draws,
    threads: usize,
    cancel: &Cancel,
) -> Chosen {
    let (sums, total) = table.scores(drawn.pattern);
    let total = if total == 0 { 1.0 } else { total as f64 };
    let noised = |slot: u32| {
        let probability = sums[slot as usize] as f64 / total;
        if drawn.noise == 0.0 {
            return probability;
        }
        let noise = match table.key(slot) {
            Some(key) => draws.noise_of_key(key),
            None => table.with_bytes(slot, |bytes| draws.noise(bytes)),
        };
        probability + drawn.noise * noise
    };
    let before = |a: &Candidate, b: &Candidate| b.0.total_cmp(&a.0).then_with(|| by_bytes(table, a.1, b.1));
    let mut is_taken = vec![false; table.slots()];
    for &slot in always.fixed {
        is_taken[slot as usize] = true;
    }
    let mut room = drawn.vocab_size.saturating_sub(always.fixed.len());

    let from_source = room.min((drawn.source_share * drawn.vocab_size as f64) as usize); // the share is below 1
    let mut taken: Vec<Candidate> = Vec::new();
    if from_source > 0 {
        taken = always.source.iter().map(|&slot| (noised(slot), slot)).collect();
        keep_first(&mut taken, from_source, before);
        room -= taken.len();
        for &(_, slot) in &taken {
            is_taken[slot as usize] = true;
        }
    }

    let blocks: Vec<usize> = (0..table.slots()).step_by(BLOCK).collect();
    let is_candidate = |slot: u32| {
        sums[slot as usize] > 0
            && !is_taken[slot as usize]
            && (whitespace == Whitespace::Learnt || !table.is_spaced(slot))
    };
    let parts = in_parts(&blocks, threads, |blocks| {
        let mut found = Vec::new();
        for &start in blocks {
            if cancel.is_cancelled() {
                break;
            }
            let end = (start + BLOCK).min(table.slots());
            let slots = (start as u32..end as u32).filter(|&slot| is_candidate(slot)); // slots are u32
            found.extend(slots.map(|slot| (noised(slot), slot)));
        }
        keep_first(&mut found, room, before);
        found
    });
    let mut rest = parts.concat();
    keep_first(&mut rest, room, before);
    taken.append(&mut rest);

    scored(table, always.fixed, &taken, total)
}

/// Keeps the first `n` in the order that `before` gives, in any order.
fn keep_first(all: &mut Vec<Candidate>, n: usize, before: impl Fn(&Candidate, &Candidate) -> Ordering) {
    if n < all.len() {
        all.select_nth_unstable_by(n, before);
        all.truncate(n);
    }
}

/// Puts fixed and chosen tokens in the order of their bytes, with their scores.
fn scored(table: &Table, fixed: &[u32], taken: &[Candidate], total: f64) -> Chosen {
    let most = taken.iter().map(|one| one.0).fold(1.0, f64::max);
    let logs: Vec<Option<f64>> = taken.iter().map(|&(p, _)| (p > 0.0).then(|| nats(p / most))).collect();
    let floor = logs.iter().flatten().copied().fold(nats(1.0 / total), f64::min);
    let (bytes, runs) = fixed.split_at(256);
    let mut all: Vec<(u32, f64)> = Vec::with_capacity(fixed.len() + taken.len());
    all.extend(bytes.iter().map(|&slot| (slot, floor)));
    all.extend(runs.iter().map(|&slot| (slot, 0.0)));
    all.extend(taken.iter().zip(logs).map(|(&(_, slot), log)| (slot, log.unwrap_or(floor))));
    all.sort_unstable_by(|a, b| by_bytes(table, a.0, b.0));
    all.into_iter().fold(Chosen::default(), |mut chosen, (slot, score)| {
        chosen.slots.push(slot);
        chosen.scores.push(score);
        chosen
    })
}

/// The logarithm in whole billionths: a file spells it in few digits, and every reader reads the same double back.
fn nats(p: f64) -> f64 {
    (p.ln() * 1e9).round() / 1e9
}

#[inline]
fn by_bytes(table: &Table, a: u32, b: u32) -> Ordering {
    match (table.key(a), table.key(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => table.with_bytes(a, |a| table.with_bytes(b, |b| a.cmp(b))),
    }
}
