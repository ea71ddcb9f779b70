//! One split as a machine that guesses.
//!
//! A split has to look ahead to know where its matches end. The machine guesses instead, and carries what its guess
//! needs to be true. A [`Hypothesis`] is a place in a text together with
//!
//! - what is going on: a match, as the threads that may still become it (one of them will), or a gap;
//! - the threads of earlier guesses of which none may match (those preferred to a match that was taken, those of
//!   matches that must not start, those of looks that must fail): `none`;
//! - sets of threads of which one at least has to match (looks that must succeed): `some`.
//!
//! A text has one true cutting, and exactly one row of guesses leads through it to the end.

use rustc_hash::FxHashMap;

use super::alphabet::Mask;
use super::program::{Here, Pc, Program, Reached};
use super::syntax::Tree;
use crate::error::Result;
use crate::pretoken::streaming::unsupported;

/// Most hypotheses of a layer.
const MAX_HYPOTHESES: usize = 1 << 12;

/// Most rows of guesses that are tried to explore a layer; looks at one place multiply them.
const MAX_GUESSES: usize = 1 << 19;

/// Name of a hypothesis: [`START`] is the start of a text.
pub(super) type HypothesisId = u32;

/// The start of a text, before its first character.
pub(super) const START: HypothesisId = 0;

/// Where items meet is a boundary or not: `BOUNDARIES[before is a match][after is a match]`.
pub(super) type Boundaries = [[bool; 2]; 2];

const GAP: usize = 0;
const MATCH: usize = 1;

/// A split, as it is to be compiled.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub(super) tree: Tree,
    pub(super) boundaries: Boundaries,
}

/// What is going on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Mode {
    /// A match that started earlier; the threads, the preferred ones first. One of them will match.
    Match(Vec<Pc>),
    /// A gap that started earlier.
    Gap,
    /// A gap, directly behind bytes that are no character: a chunk of well-formed text starts or none does.
    Malformed,
    /// The start of the text.
    Start,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hypothesis {
    mode: Mode,
    none: Vec<Pc>,
    some: Vec<Vec<Pc>>,
    /// [`Program::answers`] for the last character.
    before: u32,
}

/// What may follow a hypothesis at the next unit: without a boundary here, and with one.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves {
    pub(super) stay: Vec<HypothesisId>,
    pub(super) cut: Vec<HypothesisId>,
}

/// All hypotheses of a split.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// By hypothesis, then by unit: the classes, and bytes that are no character.
    moves: Vec<Vec<Moves>>,
    /// Whether the text may end there.
    ends: Vec<bool>,
}

impl Layer {
    /// Explores all hypotheses. `classes` is the number of classes.
    ///
    /// # Errors
    /// `Unsupported` for a pattern that needs too many.
    pub(super) fn new(split: &Split, masks: &[Mask], classes: usize) -> Result<Self> {
        let program = Program::new(&split.tree, masks)?;
        let guesser = Guesser { program: &program, boundaries: split.boundaries };
        let mut guesses_left = MAX_GUESSES;
        let start = Hypothesis { mode: Mode::Start, none: vec![], some: vec![], before: program.answers(None) };
        let mut ids = FxHashMap::from_iter([(start.clone(), START)]);
        let mut queue = vec![start];
        let mut layer = Self { moves: Vec::new(), ends: Vec::new() };
        while let Some(hypothesis) = queue.get(layer.moves.len()).cloned() {
            let mut all = Vec::with_capacity(classes + 1);
            for unit in 0..=classes {
                let outcomes = match u8::try_from(unit) {
                    Ok(class) if unit < classes => guesser.read(&hypothesis, class, &mut guesses_left)?,
                    _ => guesser.read_malformed(&hypothesis),
                };
                let mut moves = Moves::default();
                for (cut, next) in outcomes {
                    let id = match ids.get(&next) {
                        Some(&id) => id,
                        None if queue.len() == MAX_HYPOTHESES => {
                            return Err(unsupported(format!("a pattern that needs over {MAX_HYPOTHESES} hypotheses")));
                        }
                        None => {
                            let id = HypothesisId::try_from(queue.len()).expect("under MAX_HYPOTHESES");
                            ids.insert(next.clone(), id);
                            queue.push(next);
                            id
                        }
                    };
                    if cut { &mut moves.cut } else { &mut moves.stay }.push(id);
                }
                for ids in [&mut moves.stay, &mut moves.cut] {
                    ids.sort_unstable();
                    ids.dedup();
                }
                all.push(moves);
            }
            layer.moves.push(all);
            layer.ends.push(guesser.may_end(&hypothesis));
        }
        layer.prune();
        Ok(layer)
    }

    /// Drops the moves to hypotheses that no text makes true.
    fn prune(&mut self) {
        let edges =
            self.moves.iter().zip(0..).flat_map(|(all, from)| {
                all.iter().flat_map(|m| m.stay.iter().chain(&m.cut)).map(move |&to| (from, to))
            });
        let live = can_reach(&self.ends, edges.collect());
        for moves in self.moves.iter_mut().flatten() {
            moves.stay.retain(|&id| live[id as usize]);
            moves.cut.retain(|&id| live[id as usize]);
        }
    }

    /// What may follow when this unit comes next.
    pub(super) fn moves(&self, hypothesis: HypothesisId, unit: usize) -> &Moves {
        &self.moves[hypothesis as usize][unit]
    }

    /// Whether the text may end there.
    pub(super) fn may_end(&self, hypothesis: HypothesisId) -> bool {
        self.ends[hypothesis as usize]
    }
}

/// Which nodes of a graph reach one of `goals`. O(nodes + edges).
pub(super) fn can_reach(goals: &[bool], mut edges: Vec<(u32, u32)>) -> Vec<bool> {
    edges.sort_unstable_by_key(|&(_, to)| to);
    let mut reach = goals.to_vec();
    let mut stack: Vec<u32> = (0..).zip(goals).filter(|(_, goal)| **goal).map(|(node, _)| node).collect();
    while let Some(node) = stack.pop() {
        let first = edges.partition_point(|&(_, to)| to < node);
        for &(from, _) in edges[first..].iter().take_while(|&&(_, to)| to == node) {
            if !std::mem::replace(&mut reach[from as usize], true) {
                stack.push(from);
            }
        }
    }
    reach
}

/// One row of guesses about the looks that start at a place.
#[derive(Clone)]
struct Guess {
    outcomes: Vec<Option<bool>>,
    none: Vec<Pc>,
    some: Vec<Vec<Pc>>,
}

/// The look whose outcome is needed next.
type Needed = usize;

struct Guesser<'p> {
    program: &'p Program,
    boundaries: Boundaries,
}

impl Guesser<'_> {
    /// Whether the text may end where `hypothesis` is.
    fn may_end(&self, hypothesis: &Hypothesis) -> bool {
        let matches = |threads: &[Pc]| self.at_end(threads, hypothesis.before).matched;
        let going_on = match &hypothesis.mode {
            Mode::Match(threads) => matches(threads),
            Mode::Gap | Mode::Malformed | Mode::Start => true,
        };
        going_on && !matches(&hypothesis.none) && hypothesis.some.iter().all(|threads| matches(threads))
    }

    fn at_end(&self, threads: &[Pc], before: u32) -> Reached {
        // Nothing is guessed at the end of a text, so nothing is needed.
        self.program.follow(threads, Here { next: None, before, outcomes: &[] }).unwrap_or_default()
    }

    /// What follows when bytes that are no character come next: the chunk ends here.
    fn read_malformed(&self, hypothesis: &Hypothesis) -> Vec<(bool, Hypothesis)> {
        if !self.may_end(hypothesis) {
            return Vec::new();
        }
        let cut = match hypothesis.mode {
            Mode::Match(_) => self.boundaries[MATCH][GAP],
            // An empty match at the end of the chunk.
            Mode::Gap => self.at_end(&[self.program.entry()], hypothesis.before).matched,
            // The chunk is empty, and nothing is searched in it.
            Mode::Malformed | Mode::Start => false,
        };
        let before = self.program.answers(None);
        vec![(cut, Hypothesis { mode: Mode::Malformed, none: vec![], some: vec![], before })]
    }

    /// What follows when a character of `class` comes next: with every row of guesses, whether there is a boundary here
    /// and the hypothesis behind the character.
    fn read(&self, hypothesis: &Hypothesis, class: u8, left: &mut usize) -> Result<Vec<(bool, Hypothesis)>> {
        let mut outcomes = Vec::new();
        let blank = Guess { outcomes: vec![None; self.program.looks().len()], none: vec![], some: vec![] };
        let mut guesses = vec![blank];
        while let Some(guess) = guesses.pop() {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| unsupported(format!("a pattern whose looks need over {MAX_GUESSES} guesses")))?;
            if let Err(needed) = self.read_guessing(hypothesis, class, &guess, &mut outcomes) {
                self.fork(needed, hypothesis.before, class, guess, &mut guesses);
            }
        }
        Ok(outcomes)
    }

    /// The guesses about a look that do not contradict the next character.
    fn fork(&self, mut needed: Needed, before: u32, class: u8, mut guess: Guess, guesses: &mut Vec<Guess>) {
        let reached = loop {
            let body = self.program.looks()[needed];
            let here = Here { next: Some(class), before, outcomes: &guess.outcomes };
            match self.program.follow(&[body], here) {
                Ok(reached) => break reached,
                Err(inner) => needed = inner,
            }
        };
        if reached.matched || reached.threads.iter().any(|&pc| self.program.has_matched(pc)) {
            guess.outcomes[needed] = Some(true);
        } else if reached.threads.is_empty() {
            guess.outcomes[needed] = Some(false);
        } else {
            let mut fails = guess.clone();
            fails.outcomes[needed] = Some(false);
            fails.none.extend(&reached.threads);
            guesses.push(fails);
            guess.outcomes[needed] = Some(true);
            guess.some.push(reached.threads);
        }
        guesses.push(guess);
    }

    fn read_guessing(
        &self,
        hypothesis: &Hypothesis,
        class: u8,
        guess: &Guess,
        outcomes: &mut Vec<(bool, Hypothesis)>,
    ) -> std::result::Result<(), Needed> {
        let here = Here { next: Some(class), before: hypothesis.before, outcomes: &guess.outcomes };
        let follow = |threads: &[Pc]| self.program.follow(threads, here);
        let before = self.program.answers(Some(class));

        let reached = follow(&hypothesis.none)?;
        if reached.matched {
            return Ok(());
        }
        let none = [guess.none.as_slice(), &reached.threads].concat();
        let mut some = guess.some.clone();
        for threads in &hypothesis.some {
            let reached = follow(threads)?;
            if !reached.matched {
                some.push(reached.threads);
            }
        }

        // Everything that is needed is asked for before the first outcome is noted.
        let from_start = || follow(&[self.program.entry()]);
        let (going_on, search) = match &hypothesis.mode {
            Mode::Match(threads) => {
                let going_on = follow(threads)?;
                let search = if going_on.matched { Some(from_start()?) } else { None };
                (Some(going_on), search)
            }
            Mode::Gap | Mode::Malformed | Mode::Start => (None, Some(from_start()?)),
        };
        let mut note = |cut: bool, mode: Mode, more: &[&[Pc]]| {
            let none = [none.as_slice(), &more.concat()].concat();
            outcomes.extend(self.settle(mode, none, some.clone(), before).map(|next| (cut, next)));
        };
        let before_match = match &going_on {
            Some(going_on) => {
                note(false, Mode::Match(going_on.threads.clone()), &[]);
                going_on.threads.as_slice()
            }
            None => &[],
        };
        let Some(search) = search else { return Ok(()) };
        let last = if going_on.is_some() { MATCH } else { GAP };
        let is_start = hypothesis.mode == Mode::Start;
        // Behind a match an empty match is passed over; in a gap it is a boundary of its own.
        let empty_match = last == GAP && search.matched;
        note(!is_start && self.boundaries[last][MATCH], Mode::Match(search.threads.clone()), &[before_match]);
        note(
            !is_start && (empty_match || (last == MATCH && self.boundaries[MATCH][GAP])),
            Mode::Gap,
            &[before_match, &search.threads],
        );
        Ok(())
    }

    /// The hypothesis in its plainest form; `None` where it contradicts itself.
    fn settle(&self, mode: Mode, mut none: Vec<Pc>, some: Vec<Vec<Pc>>, before: u32) -> Option<Hypothesis> {
        none.sort_unstable();
        none.dedup();
        let has_matched = |pc: &Pc| self.program.has_matched(*pc);
        if none.iter().any(has_matched) {
            return None;
        }
        let open = |pc: &Pc| none.binary_search(pc).is_err();
        let mode = match mode {
            Mode::Match(mut threads) => {
                threads.retain(open);
                if let Some(certain) = threads.iter().position(has_matched) {
                    threads.truncate(certain + 1);
                }
                if threads.is_empty() {
                    return None;
                }
                Mode::Match(threads)
            }
            other => other,
        };
        let mut pending = Vec::with_capacity(some.len());
        for mut threads in some {
            if threads.iter().any(has_matched) {
                continue;
            }
            threads.retain(open);
            if threads.is_empty() {
                return None;
            }
            threads.sort_unstable();
            pending.push(threads);
        }
        pending.sort_unstable();
        pending.dedup();
        Some(Hypothesis { mode, none, some: pending, before })
    }
}
