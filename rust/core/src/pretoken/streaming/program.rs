//! Patterns as programs of a machine that follows all their threads at once.

use super::alphabet::Mask;
use super::syntax::Tree;
use crate::error::Result;
use crate::pretoken::streaming::unsupported;

/// Most instructions of a program.
const MAX_INSTRUCTIONS: usize = 1 << 12;

/// Most places in a program where the character before is asked for, in different sets.
const MAX_BEHINDS: usize = 32;

/// Where a thread is.
pub(super) type Pc = u16;

/// One instruction; threads go on at `next`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instruction {
    /// Reads a character of these classes.
    Read { classes: Mask, next: Pc },
    /// Two threads, the preferred one first.
    Split { first: Pc, second: Pc },
    /// The next character is in these classes, or there is none and `at_end`.
    Ahead { classes: Mask, at_end: bool, next: Pc },
    /// Question `index` about the character before has this answer.
    Behind { index: usize, answer: bool, next: Pc },
    /// Whether the pattern at `body` matches from here is `answer`.
    Look { body: Pc, id: usize, answer: bool, next: Pc },
    /// A match.
    Match,
}

/// Which character before answers yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Behind {
    classes: Mask,
    at_start: bool,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Program {
    code: Vec<Instruction>,
    entry: Pc,
    behinds: Vec<Behind>,
    /// Where the bodies of the looks start.
    looks: Vec<Pc>,
    /// Threads that have matched whatever comes.
    certain: Vec<bool>,
}

impl Program {
    /// Compiles a pattern whose sets are given as masks.
    ///
    /// # Errors
    /// `Unsupported` for a pattern that is too large.
    pub(super) fn new(tree: &Tree, masks: &[Mask]) -> Result<Self> {
        let mut program = Self {
            code: vec![Instruction::Match],
            entry: 0,
            behinds: Vec::new(),
            looks: Vec::new(),
            certain: Vec::new(),
        };
        program.entry = program.compile(tree, 0, masks, &mut Vec::new())?;
        program.certain = (0..program.code.len()).map(|pc| program.is_certain(pc)).collect();
        Ok(program)
    }

    fn push(&mut self, instruction: Instruction) -> Result<Pc> {
        let at = self.code.len();
        if at == MAX_INSTRUCTIONS {
            return Err(unsupported(format!("a pattern of more than {MAX_INSTRUCTIONS} steps")));
        }
        self.code.push(instruction);
        Ok(Pc::try_from(at).expect("fewer than MAX_INSTRUCTIONS"))
    }

    /// Compiles `tree` so that its threads go on at `next`; returns where they start. `bodies` are those of the looks so
    /// far. As deep as the pattern.
    fn compile<'t>(&mut self, tree: &'t Tree, next: Pc, masks: &[Mask], bodies: &mut Vec<&'t Tree>) -> Result<Pc> {
        match tree {
            Tree::Set(set) => self.push(Instruction::Read { classes: masks[*set], next }),
            Tree::Concat(parts) => {
                parts.iter().rev().try_fold(next, |next, part| self.compile(part, next, masks, bodies))
            }
            Tree::Alternation(parts) => {
                let mut entry = None;
                for part in parts.iter().rev() {
                    let first = self.compile(part, next, masks, bodies)?;
                    entry = Some(match entry {
                        None => first,
                        Some(second) => self.push(Instruction::Split { first, second })?,
                    });
                }
                Ok(entry.unwrap_or(next))
            }
            Tree::Repeat { body, low, high, greedy } => {
                let split = |body, next| {
                    if *greedy {
                        Instruction::Split { first: body, second: next }
                    } else {
                        Instruction::Split { first: next, second: body }
                    }
                };
                let mut entry = next;
                let mut copies = *low;
                match high {
                    None => {
                        let again = self.push(Instruction::Match)?;
                        let once = self.compile(body, again, masks, bodies)?;
                        self.code[usize::from(again)] = split(once, next);
                        // The loop itself holds the last of the copies.
                        entry = if copies == 0 { again } else { once };
                        copies = copies.saturating_sub(1);
                    }
                    Some(high) => {
                        for _ in *low..*high {
                            let once = self.compile(body, entry, masks, bodies)?;
                            entry = self.push(split(once, next))?;
                        }
                    }
                }
                (0..copies).try_fold(entry, |entry, _| self.compile(body, entry, masks, bodies))
            }
            Tree::Ahead { set, at_end, negated } => {
                let classes = if *negated { !masks[*set] } else { masks[*set] };
                self.push(Instruction::Ahead { classes, at_end: at_end != negated, next })
            }
            Tree::Behind { set, at_start, negated } => {
                let behind = Behind { classes: masks[*set], at_start: *at_start };
                let index = match self.behinds.iter().position(|known| *known == behind) {
                    Some(index) => index,
                    None if self.behinds.len() == MAX_BEHINDS => {
                        return Err(unsupported(format!("look-behind for more than {MAX_BEHINDS} sets")));
                    }
                    None => {
                        self.behinds.push(behind);
                        self.behinds.len() - 1
                    }
                };
                self.push(Instruction::Behind { index, answer: !negated, next })
            }
            Tree::Look { body, negated } => {
                // Copies of a repeated look are one, so that it is guessed once.
                let id = match bodies.iter().position(|known| *known == &**body) {
                    Some(id) => id,
                    None => {
                        let start = self.compile(body, 0, masks, bodies)?;
                        self.looks.push(start);
                        bodies.push(body);
                        bodies.len() - 1
                    }
                };
                self.push(Instruction::Look { body: self.looks[id], id, answer: !negated, next })
            }
        }
    }

    fn is_certain(&self, pc: usize) -> bool {
        let mut seen = vec![false; self.code.len()];
        let mut stack = vec![pc];
        while let Some(pc) = stack.pop() {
            if std::mem::replace(&mut seen[pc], true) {
                continue;
            }
            match self.code[pc] {
                Instruction::Match => return true,
                Instruction::Split { first, second } => stack.extend([usize::from(first), usize::from(second)]),
                _ => {}
            }
        }
        false
    }

    /// Whether a thread has matched whatever comes.
    pub(super) fn has_matched(&self, pc: Pc) -> bool {
        self.certain[usize::from(pc)]
    }

    /// Where a match starts.
    pub(super) fn entry(&self) -> Pc {
        self.entry
    }

    /// Where the bodies of the looks start, by their ids.
    pub(super) fn looks(&self) -> &[Pc] {
        &self.looks
    }

    /// The answers to the questions about the character before, where this is its class; `None` at the start.
    pub(super) fn answers(&self, before: Option<u8>) -> u32 {
        let answer = |behind: &Behind| before.map_or(behind.at_start, |class| behind.classes >> class & 1 == 1);
        self.behinds.iter().enumerate().filter(|(_, behind)| answer(behind)).fold(0, |all, (i, _)| all | 1 << i)
    }

    /// Follows threads, the preferred ones first, to what they read next.
    ///
    /// # Errors
    /// The look whose outcome is needed and not known: `outcomes[id]` is `None`, and there is a next character.
    pub(super) fn follow(&self, threads: &[Pc], here: Here<'_>) -> std::result::Result<Reached, usize> {
        let mut reached = Reached::default();
        let mut seen = vec![false; self.code.len()];
        let mut stack: Vec<Pc> = threads.iter().rev().copied().collect();
        while let Some(pc) = stack.pop() {
            if std::mem::replace(&mut seen[usize::from(pc)], true) {
                continue;
            }
            match self.code[usize::from(pc)] {
                Instruction::Match => {
                    reached.matched = true;
                    return Ok(reached);
                }
                Instruction::Read { classes, next } => {
                    if here.next.is_some_and(|class| classes >> class & 1 == 1) && !reached.threads.contains(&next) {
                        reached.threads.push(next);
                    }
                }
                Instruction::Split { first, second } => stack.extend([second, first]),
                Instruction::Ahead { classes, at_end, next } => {
                    if here.next.map_or(at_end, |class| classes >> class & 1 == 1) {
                        stack.push(next);
                    }
                }
                Instruction::Behind { index, answer, next } => {
                    if (here.before >> index & 1 == 1) == answer {
                        stack.push(next);
                    }
                }
                Instruction::Look { body, id, answer, next } => {
                    let outcome = match here.next {
                        None => self.follow(&[body], here)?.matched,
                        Some(_) => here.outcomes[id].ok_or(id)?,
                    };
                    if outcome == answer {
                        stack.push(next);
                    }
                }
            }
        }
        Ok(reached)
    }
}

/// A place between two characters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here<'o> {
    /// The class of the next character; `None` where the text ends.
    pub(super) next: Option<u8>,
    /// [`Program::answers`].
    pub(super) before: u32,
    /// What is known or guessed about the looks.
    pub(super) outcomes: &'o [Option<bool>],
}

/// Where threads are after the next character.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    /// Those preferred to the match here if there is one, the preferred first; each once.
    pub(super) threads: Vec<Pc>,
    /// Whether one of them matches here.
    pub(super) matched: bool,
}
