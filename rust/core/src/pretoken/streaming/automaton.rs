//! All layers together, made deterministic and small.
//!
//! The first layer cuts the text, every later one the pieces of the layer before, each piece as a text of its own. So a
//! boundary is one of some layer; for the later ones it is the end of a text and the start of the next.
//!
//! The letters are the units of a text (a class, or bytes that are no character) and the mark. The subset construction
//! follows every row of guesses that agrees with the letters so far and that some continuation makes true; a state
//! without any is [`DEAD`]. Then states that no continuation tells apart are made one (Moore 1956).

use rustc_hash::FxHashMap;

use super::alphabet::Mask;
use super::layer::{HypothesisId, Layer, START, can_reach};
use crate::error::{Error, Result};
use crate::pretoken::streaming::unsupported;

/// Most combinations of the layers' hypotheses.
const MAX_COMBINATIONS: usize = 1 << 12;

/// Most states.
const MAX_STATES: usize = 1 << 12;

/// A state of the automaton.
pub(super) type State = u32;

/// Nothing makes the marks right.
pub(super) const DEAD: State = 0;

/// The deterministic automaton over units and marks.
#[derive(Clone, Debug)]
pub(super) struct Automaton {
    /// Units: the classes, and bytes that are no character.
    units: usize,
    /// `next[state * units + unit]`.
    next: Vec<State>,
    /// Where a mark leads.
    cut: Vec<State>,
    /// Whether the text may end.
    ends: Vec<bool>,
    /// The classes of the characters that may come next.
    open: Vec<Mask>,
    start: State,
}

impl Automaton {
    /// Builds it for texts of `classes` classes.
    ///
    /// # Errors
    /// `Unsupported` for layers that need too many states.
    pub(super) fn new(layers: &[Layer], classes: usize) -> Result<Self> {
        let guesses = Combinations::new(layers, classes + 1)?;
        Ok(guesses.determinise()?.minimise())
    }

    #[inline]
    pub(super) fn read(&self, state: State, class: u8) -> State {
        self.next[state as usize * self.units + usize::from(class)]
    }

    #[inline]
    pub(super) fn read_malformed(&self, state: State) -> State {
        self.next[state as usize * self.units + self.units - 1]
    }

    #[inline]
    pub(super) fn cut(&self, state: State) -> State {
        self.cut[state as usize]
    }

    #[inline]
    pub(super) fn may_end(&self, state: State) -> bool {
        self.ends[state as usize]
    }

    #[inline]
    pub(super) fn open(&self, state: State) -> Mask {
        self.open[state as usize]
    }

    pub(super) fn start(&self) -> State {
        self.start
    }

    /// How many states there are, [`DEAD`] included.
    pub(super) fn len(&self) -> usize {
        self.cut.len()
    }

    /// Whether no text has a boundary.
    pub(super) fn never_cuts(&self) -> bool {
        self.cut.iter().all(|&state| state == DEAD)
    }

    /// Makes states one that no continuation tells apart; dead ones become [`DEAD`].
    fn minimise(self) -> Self {
        let states = self.len();
        let mut block: Vec<u32> = self.ends.iter().map(|&end| u32::from(end)).collect();
        let mut count = 0;
        loop {
            let mut ids = FxHashMap::default();
            let refined: Vec<u32> = (0..states)
                .map(|state| {
                    let row = &self.next[state * self.units..][..self.units];
                    let row = row.iter().chain([&self.cut[state]]).map(|&to| block[to as usize]);
                    let signature: Vec<u32> = std::iter::once(block[state]).chain(row).collect();
                    let fresh = u32::try_from(ids.len()).expect("at most MAX_STATES blocks");
                    *ids.entry(signature).or_insert(fresh)
                })
                .collect();
            // DEAD is the first state, so its block is 0.
            block = refined;
            if ids.len() == count {
                break;
            }
            count = ids.len();
        }
        let mut members: Vec<usize> = vec![usize::MAX; count];
        for (state, &block) in block.iter().enumerate().rev() {
            members[block as usize] = state;
        }
        let row = |state: usize| self.next[state * self.units..][..self.units].iter().map(|&to| block[to as usize]);
        Self {
            units: self.units,
            next: members.iter().flat_map(|&state| row(state)).collect(),
            cut: members.iter().map(|&state| block[self.cut[state] as usize]).collect(),
            ends: members.iter().map(|&state| self.ends[state]).collect(),
            open: members.iter().map(|&state| open_classes(row(state), self.units)).collect(),
            start: block[self.start as usize],
        }
    }
}

/// The classes that lead on.
fn open_classes(row: impl Iterator<Item = State>, units: usize) -> Mask {
    row.take(units - 1).enumerate().filter(|&(_, to)| to != DEAD).fold(0, |mask, (class, _)| mask | 1 << class)
}

/// Where a combination leads at a unit.
#[derive(Clone, Debug, Default)]
struct Targets {
    unmarked: Vec<u32>,
    marked: Vec<u32>,
}

/// Combinations of one hypothesis per layer, all that can be reached; 0 is the start of a text.
struct Combinations {
    units: usize,
    /// By combination and unit.
    targets: Vec<Targets>,
    ends: Vec<bool>,
}

impl Combinations {
    fn new(layers: &[Layer], units: usize) -> Result<Self> {
        let start: Vec<HypothesisId> = vec![START; layers.len()];
        let mut ids = FxHashMap::from_iter([(start.clone(), 0)]);
        let mut queue = vec![start];
        let mut all = Self { units, targets: Vec::new(), ends: Vec::new() };
        while let Some(combination) = queue.get(all.ends.len()).cloned() {
            for unit in 0..units {
                let mut intern = |combinations: Vec<Vec<HypothesisId>>| -> Result<Vec<u32>> {
                    let mut found = Vec::with_capacity(combinations.len());
                    for combination in combinations {
                        let fresh = queue.len();
                        let id = match ids.get(&combination) {
                            Some(&id) => id,
                            None if fresh == MAX_COMBINATIONS => {
                                return Err(too_many_combinations());
                            }
                            None => {
                                let id = u32::try_from(fresh).expect("under MAX_COMBINATIONS");
                                ids.insert(combination.clone(), id);
                                queue.push(combination);
                                id
                            }
                        };
                        found.push(id);
                    }
                    found.sort_unstable();
                    found.dedup();
                    Ok(found)
                };
                let unmarked = intern(without_boundary(layers, &combination, unit)?)?;
                let marked = intern(with_boundary(layers, &combination, unit)?)?;
                all.targets.push(Targets { unmarked, marked });
            }
            all.ends.push(layers.iter().zip(&combination).all(|(layer, &id)| layer.may_end(id)));
        }
        all.prune();
        Ok(all)
    }

    /// Drops the moves to combinations that no text makes true.
    fn prune(&mut self) {
        let from = |i: usize| u32::try_from(i / self.units).expect("under MAX_COMBINATIONS");
        let edges = self
            .targets
            .iter()
            .enumerate()
            .flat_map(|(i, targets)| targets.unmarked.iter().chain(&targets.marked).map(move |&to| (from(i), to)));
        let live = can_reach(&self.ends, edges.collect());
        for targets in &mut self.targets {
            targets.unmarked.retain(|&id| live[id as usize]);
            targets.marked.retain(|&id| live[id as usize]);
        }
    }

    fn at(&self, combination: u32) -> &[Targets] {
        &self.targets[combination as usize * self.units..][..self.units]
    }

    /// The subset construction. A state is a set of combinations and whether there is a mark.
    fn determinise(&self) -> Result<Automaton> {
        let mut ids = FxHashMap::from_iter([((Vec::new(), false), DEAD), ((vec![0], false), 1)]);
        let mut queue = vec![(Vec::new(), false), (vec![0u32], false)];
        let mut automaton =
            Automaton { units: self.units, next: vec![], cut: vec![], ends: vec![], open: vec![], start: 1 };
        while let Some((set, marked)) = queue.get(automaton.cut.len()).cloned() {
            let mut intern = |mut set: Vec<u32>, marked: bool| -> Result<State> {
                set.sort_unstable();
                set.dedup();
                let marked = marked && !set.is_empty();
                let fresh = queue.len();
                let key = (set, marked);
                match ids.get(&key) {
                    Some(&id) => Ok(id),
                    None if fresh == MAX_STATES => {
                        Err(unsupported(format!("splits that need over {MAX_STATES} states")))
                    }
                    None => {
                        let id = State::try_from(fresh).expect("under MAX_STATES");
                        ids.insert(key.clone(), id);
                        queue.push(key);
                        Ok(id)
                    }
                }
            };
            for unit in 0..self.units {
                let targets = set.iter().flat_map(|&id| {
                    let targets = &self.at(id)[unit];
                    if marked { &targets.marked } else { &targets.unmarked }
                });
                automaton.next.push(intern(targets.copied().collect(), false)?);
            }
            let can_cut = |id: &u32| !marked && self.at(*id).iter().any(|targets| !targets.marked.is_empty());
            automaton.cut.push(intern(set.iter().copied().filter(can_cut).collect(), true)?);
            automaton.ends.push(!marked && set.iter().any(|&id| self.ends[id as usize]));
        }
        Ok(automaton)
    }
}

/// What follows when no layer has a boundary here.
fn without_boundary(layers: &[Layer], combination: &[HypothesisId], unit: usize) -> Result<Vec<Vec<HypothesisId>>> {
    product(layers.iter().zip(combination).map(|(layer, &id)| layer.moves(id, unit).stay.as_slice()))
}

/// What follows when some layer has one: the layers before it have none, the later ones end and start.
fn with_boundary(layers: &[Layer], combination: &[HypothesisId], unit: usize) -> Result<Vec<Vec<HypothesisId>>> {
    let mut all = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let later = layers.iter().zip(combination).skip(at + 1);
        if later.clone().all(|(layer, &id)| layer.may_end(id)) {
            let before = layers.iter().zip(combination).take(at).map(|(l, &id)| l.moves(id, unit).stay.as_slice());
            let here = std::iter::once(layer.moves(combination[at], unit).cut.as_slice());
            let restarted = later.map(|(layer, _)| layer.moves(START, unit).stay.as_slice());
            all.extend(product(before.chain(here).chain(restarted))?);
        }
    }
    Ok(all)
}

/// One of each of the choices, in every way.
fn product<'a>(choices: impl Iterator<Item = &'a [HypothesisId]>) -> Result<Vec<Vec<HypothesisId>>> {
    let mut rows = vec![Vec::new()];
    for choices in choices {
        if rows.len() * choices.len() > MAX_COMBINATIONS {
            return Err(too_many_combinations());
        }
        rows = rows.iter().flat_map(|row| choices.iter().map(move |&id| [row.as_slice(), &[id]].concat())).collect();
    }
    Ok(rows)
}

fn too_many_combinations() -> Error {
    unsupported(format!("splits that need over {MAX_COMBINATIONS} hypotheses"))
}
