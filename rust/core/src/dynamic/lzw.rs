//! LZW over token ids: hypertokens that a sequence defines as it goes, in the manner of zip2zip (arXiv:2506.01084).
//!
//! A code is an id below [`Rules::first_code`], or the number of a run of up to [`Rules::max_pieces`] ids. The codebook
//! starts empty and is never sent: whoever reads the codes from the left builds the same one. So both ends work online,
//! and a model that writes codes defines tokens by writing.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::error::{Error, Result};
use crate::ids::TokenId;

/// What both ends of a stream agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The first code of the codebook; all ids are below.
    pub first_code: TokenId,
    /// Most codes of the codebook.
    pub capacity: u32,
    /// Longest run of ids of one code.
    pub max_pieces: u32,
    /// Ids that are never part of a run, ascending: special tokens.
    pub disabled: Vec<TokenId>,
}

impl Rules {
    /// Checks and sorts.
    ///
    /// # Errors
    /// `Value` for no piece, and for codes beyond 32 bits.
    pub fn new(first_code: TokenId, capacity: u32, max_pieces: u32, mut disabled: Vec<TokenId>) -> Result<Self> {
        if max_pieces == 0 {
            return Err(Error::value("max_pieces", "0", "a run of one id is the id: use at least 1"));
        }
        if first_code.checked_add(capacity).is_none() {
            let found = format!("{capacity} codes from {first_code} on pass 32 bits");
            return Err(Error::value("capacity", found, "use fewer codes"));
        }
        disabled.sort_unstable();
        disabled.dedup();
        Ok(Self { first_code, capacity, max_pieces, disabled })
    }

    fn is_disabled(&self, id: TokenId) -> bool {
        self.disabled.binary_search(&id).is_ok()
    }
}

/// A run of ids: the run before its last id, that id, and its length.
#[derive(Clone, Copy, Debug)]
struct Run {
    before: TokenId,
    last: TokenId,
    len: u32,
}

/// The codes that a stream has defined.
#[derive(Clone, Debug)]
pub struct Codebook {
    rules: Rules,
    runs: Vec<Run>,
    by_parts: HashMap<(TokenId, TokenId), TokenId, FxBuildHasher>,
}

impl Codebook {
    fn new(rules: Rules) -> Self {
        Self { rules, runs: Vec::new(), by_parts: HashMap::default() }
    }

    /// How many codes there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The rules it was made under.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    fn is_full(&self) -> bool {
        self.runs.len() >= self.rules.capacity as usize
    }

    fn run(&self, code: TokenId) -> Option<Run> {
        code.checked_sub(self.rules.first_code).and_then(|at| self.runs.get(at as usize)).copied()
    }

    /// How many ids a code stands for; `None` for one that is not defined.
    fn len_of(&self, code: TokenId) -> Option<u32> {
        if code < self.rules.first_code { Some(1) } else { self.run(code).map(|run| run.len) }
    }

    fn joined(&self, run: TokenId, id: TokenId) -> Option<TokenId> {
        self.by_parts.get(&(run, id)).copied()
    }

    /// Defines the run of a code and one more id, unless it is known or the codebook is full.
    fn define(&mut self, before: TokenId, last: TokenId) {
        let Some(len) = self.len_of(before) else { return };
        if self.is_full() || self.by_parts.contains_key(&(before, last)) {
            return;
        }
        let at = u32::try_from(self.runs.len()).expect("the codebook is not full");
        self.runs.push(Run { before, last, len: len + 1 });
        self.by_parts.insert((before, last), self.rules.first_code + at);
    }

    /// Appends the ids that a code stands for; returns whether it is defined.
    pub fn expand(&self, code: TokenId, out: &mut Vec<TokenId>) -> bool {
        let from = out.len();
        let mut code = code;
        while let Some(run) = self.run(code) {
            out.push(run.last);
            code = run.before;
        }
        if code >= self.rules.first_code {
            return false; // nothing was appended: a defined run begins with an id
        }
        out.push(code);
        out[from..].reverse();
        true
    }

    /// The ids of every code, one after the other, and where each begins.
    pub fn table(&self) -> (Vec<TokenId>, Vec<i64>) {
        let (mut ids, mut offsets) = (Vec::new(), vec![0]);
        for code in (self.rules.first_code..).take(self.runs.len()) {
            self.expand(code, &mut ids);
            offsets.push(i64::try_from(ids.len()).expect("a vector is shorter than 2^63"));
        }
        (ids, offsets)
    }
}

/// Turns ids into codes.
#[derive(Clone, Debug)]
pub struct Encoder {
    codebook: Codebook,
    /// The code of the ids that wait, and how many they are.
    waiting: Option<(TokenId, u32)>,
}

impl Encoder {
    /// An encoder at the start of a sequence.
    pub fn new(rules: Rules) -> Self {
        Self { codebook: Codebook::new(rules), waiting: None }
    }

    /// The codes so far.
    pub fn codebook(&self) -> &Codebook {
        &self.codebook
    }

    /// Takes an id and appends the codes that are certain now: at most two.
    fn push(&mut self, id: TokenId, out: &mut Vec<TokenId>) {
        if self.codebook.rules.is_disabled(id) {
            self.flush(out);
            out.push(id);
            return;
        }
        let longer = match self.waiting {
            None => Some((id, 1)),
            Some((run, len)) => self.codebook.joined(run, id).map(|code| (code, len + 1)),
        };
        let (run, len) = longer.unwrap_or_else(|| {
            if let Some((run, _)) = self.waiting {
                self.codebook.define(run, id);
                out.push(run);
            }
            (id, 1)
        });
        self.waiting = Some((run, len));
        if len >= self.codebook.rules.max_pieces {
            self.flush(out);
        }
    }

    /// The codes that are certain after these ids; at the `end` of a sequence all.
    ///
    /// # Errors
    /// `Value` for an id that is a code; nothing is taken then.
    pub fn push_all(&mut self, ids: &[TokenId], end: bool) -> Result<Vec<TokenId>> {
        let first_code = self.codebook.rules.first_code;
        if let Some(at) = ids.iter().position(|&id| id >= first_code) {
            let (found, fix) = (format!("{} is a code", ids[at]), format!("ids are below first_code, {first_code}"));
            return Err(Error::value(format!("ids[{at}]"), found, fix));
        }
        let mut out = Vec::with_capacity(ids.len());
        ids.iter().for_each(|&id| self.push(id, &mut out));
        if end {
            self.flush(&mut out);
        }
        Ok(out)
    }

    /// Appends the code of the ids that wait.
    fn flush(&mut self, out: &mut Vec<TokenId>) {
        out.extend(self.waiting.take().map(|(run, _)| run));
    }
}

/// Turns codes into ids.
///
/// Fault tolerant, for codes that a model wrote: one that is not defined yet is read as the run that the encoder would
/// define next, the run before and its first id once more; after a run of full length, which defines nothing, as that
/// run again. A stream of [`Encoder`] has the first case and never the second.
#[derive(Clone, Debug)]
pub struct Decoder {
    codebook: Codebook,
    /// The ids of the code before, and its code where it has one; empty where nothing may follow on.
    before: Vec<TokenId>,
    before_code: Option<TokenId>,
    faults: u64,
}

impl Decoder {
    /// A decoder at the start of a sequence.
    pub fn new(rules: Rules) -> Self {
        Self { codebook: Codebook::new(rules), before: Vec::new(), before_code: None, faults: 0 }
    }

    /// The codes so far.
    pub fn codebook(&self) -> &Codebook {
        &self.codebook
    }

    /// How many codes no encoder would have written at their place, for they were not defined.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// The ids of codes that follow on those before.
    pub fn push_all(&mut self, codes: &[TokenId]) -> Vec<TokenId> {
        let mut out = Vec::with_capacity(codes.len() * 2);
        codes.iter().for_each(|&code| self.push(code, &mut out));
        out
    }

    /// Takes a code and appends its ids: none for a code that is not defined and has nothing before it.
    fn push(&mut self, code: TokenId, out: &mut Vec<TokenId>) {
        if self.codebook.rules.is_disabled(code) {
            out.push(code);
            self.before.clear();
            self.before_code = None;
            return;
        }
        let from = out.len();
        let max_pieces = self.codebook.rules.max_pieces as usize;
        let is_known = self.codebook.expand(code, out);
        if !is_known {
            let next = u64::from(self.codebook.rules.first_code) + self.codebook.len() as u64;
            let follows = !self.before.is_empty() && self.before.len() < max_pieces;
            self.faults += u64::from(!follows || self.codebook.is_full() || u64::from(code) != next);
            out.extend_from_slice(&self.before);
            out.extend(self.before.first().copied().filter(|_| follows));
        }
        let Some(&first) = out.get(from) else { return };
        let defined = match self.before_code.filter(|_| self.before.len() < max_pieces) {
            Some(before) => {
                self.codebook.define(before, first);
                self.codebook.joined(before, first)
            }
            None => None,
        };
        // A code that was read as the run defined just now has that run's code.
        self.before_code = if is_known { Some(code) } else { defined };
        self.before.clear();
        self.before.extend_from_slice(&out[from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(capacity: u32, max_pieces: u32) -> Rules {
        Rules::new(10, capacity, max_pieces, vec![9]).expect("sound")
    }

    fn encode(rules: &Rules, ids: &[TokenId]) -> (Vec<TokenId>, Encoder) {
        let mut encoder = Encoder::new(rules.clone());
        (encoder.push_all(ids, true).expect("no code"), encoder)
    }

    fn decode(rules: &Rules, codes: &[TokenId]) -> (Vec<TokenId>, Decoder) {
        let mut decoder = Decoder::new(rules.clone());
        (decoder.push_all(codes), decoder)
    }

    /// The definition, on runs written out.
    fn by_definition(rules: &Rules, ids: &[TokenId]) -> Vec<TokenId> {
        let mut book: Vec<Vec<TokenId>> = Vec::new();
        let code = |book: &[Vec<TokenId>], run: &[TokenId]| match run {
            [id] => *id,
            run => book.iter().position(|one| one == run).map_or(u32::MAX, |at| rules.first_code + at as u32),
        };
        let (mut out, mut buffer) = (Vec::new(), Vec::new());
        for &id in ids {
            if rules.disabled.contains(&id) {
                if !buffer.is_empty() {
                    out.push(code(&book, &buffer));
                }
                buffer.clear();
                out.push(id);
                continue;
            }
            buffer.push(id);
            if buffer.len() > 1 && !book.contains(&buffer) {
                let run = buffer.clone();
                if book.len() < rules.capacity as usize {
                    book.push(run);
                }
                out.push(code(&book, &buffer[..buffer.len() - 1]));
                buffer = vec![id];
            }
            if buffer.len() == rules.max_pieces as usize {
                out.push(code(&book, &buffer));
                buffer.clear();
            }
        }
        if !buffer.is_empty() {
            out.push(code(&book, &buffer));
        }
        out
    }

    #[test]
    fn a_repeated_pair_has_a_code_the_second_time() {
        //  1 2 1 2 1 2:  1 (12 = 10), 2 (21 = 11), 12 (121 = 12), 12
        let (codes, encoder) = encode(&rules(8, 3), &[1, 2, 1, 2, 1, 2]);
        assert_eq!(codes, [1, 2, 10, 10]);
        assert_eq!(encoder.codebook().table(), (vec![1, 2, 2, 1, 1, 2, 1], vec![0, 2, 4, 7]));
    }

    #[test]
    fn a_code_may_be_read_before_it_is_defined() {
        //  1 1 1: 1 (11 = 10), 11
        assert_eq!(encode(&rules(8, 3), &[1, 1, 1]).0, [1, 10]);
        let (ids, decoder) = decode(&rules(8, 3), &[1, 10]);
        assert_eq!((ids.as_slice(), decoder.faults()), (&[1, 1, 1][..], 0));
    }

    #[test]
    fn streams_agree_with_the_definition_and_come_back() {
        let mut state = 3_u64;
        for round in 0..600 {
            let mut draw = |n: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % n
            };
            let rules = rules(draw(12) as u32, 1 + draw(5) as u32);
            let letters = 1 + draw(3);
            let is_special = |n: u64| n == 0;
            let ids: Vec<u32> =
                (0..draw(80)).map(|_| if is_special(draw(20)) { 9 } else { draw(letters) as u32 }).collect();
            let (codes, encoder) = encode(&rules, &ids);
            assert_eq!(codes, by_definition(&rules, &ids), "{round}: {rules:?} {ids:?}");
            let (back, decoder) = decode(&rules, &codes);
            assert_eq!((back, decoder.faults()), (ids.clone(), 0), "{round}: {rules:?} {ids:?} {codes:?}");
            // The decoder knows a run when it sees what follows: all but perhaps the last.
            let (theirs, ours) = (encoder.codebook().table().0, decoder.codebook().table().0);
            assert!(theirs.starts_with(&ours) && encoder.codebook().len() - decoder.codebook().len() <= 1);
        }
    }

    #[test]
    fn an_undefined_code_repeats_and_is_counted() {
        // After a run of full length: the run again. At the start: nothing to repeat.
        let (ids, decoder) = decode(&rules(8, 2), &[15, 1, 2, 1, 10, 15]);
        assert_eq!((ids.as_slice(), decoder.faults()), (&[1, 2, 1, 1, 2, 1, 2][..], 2));
        // After a shorter one: the run and its first id, whatever the code is.
        let (ids, decoder) = decode(&rules(8, 3), &[1, 14, 10]);
        assert_eq!((ids.as_slice(), decoder.faults()), (&[1, 1, 1, 1, 1][..], 1));
        // A full codebook defines nothing more.
        let (ids, decoder) = decode(&rules(0, 3), &[1, 10]);
        assert_eq!((ids.as_slice(), decoder.faults()), (&[1, 1, 1][..], 1));
    }

    #[test]
    fn a_disabled_id_is_in_no_run() {
        let (codes, encoder) = encode(&rules(8, 3), &[1, 9, 1, 9, 1, 9]);
        assert_eq!(codes, [1, 9, 1, 9, 1, 9]);
        assert!(encoder.codebook().is_empty());
    }

    #[test]
    fn an_id_that_is_a_code_is_refused() {
        assert!(Encoder::new(rules(8, 3)).push_all(&[1, 10], true).is_err());
        assert!(Rules::new(10, u32::MAX, 3, vec![]).is_err());
        assert!(Rules::new(10, 1, 0, vec![]).is_err());
    }
}
