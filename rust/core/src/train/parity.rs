//! Merges chosen by the language that is served worst.
//!
//! Parity-aware BPE (Foroutan et al. 2025, arXiv:2508.04796): at each step the language whose text takes the most tokens
//! for its size chooses its most frequent pair, and the merge is made in all languages. The result is a plain list of
//! merges. The size of a text is whatever the languages are to be equal in: the number of sentences of a parallel text,
//! its characters, its bytes.

use std::collections::VecDeque;

use super::engine::{Engine, product_of};
use super::merge::{Forbidden, LearntMerge, Merges, Options, Progress, Stop, Trainer, inherited, spell};
use super::tokens::Tokens;
use super::veto::Veto;
use crate::error::{Error, Result};
use crate::pipeline::Cancel;

/// One language: what it learns from, and what it is measured on.
pub struct Language {
    /// Its words.
    pub words: Trainer,
    /// The words of a text that is only measured, such as its part of a parallel corpus; its own words without one.
    pub measured: Option<Trainer>,
    /// The size of the measured text, positive: tokens per unit of it are compared.
    pub size: f64,
}

/// How languages take turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parity {
    /// So many merges are chosen by the sum over all languages first.
    pub global_merges: usize,
    /// Of the last `window` choices, no language has more than `share` times an equal part; 0 for no such bound. It keeps
    /// a language that cannot get better from taking every turn.
    pub window: usize,
    /// See `window`.
    pub share: f64,
}

impl Default for Parity {
    fn default() -> Self {
        Self { global_merges: 0, window: 0, share: 2.0 }
    }
}

/// What was learnt, and who chose.
#[derive(Clone, Debug)]
pub struct ParityMerges {
    /// As for one language.
    pub learnt: Merges,
    /// For each merge the number of the language that chose it; `None` for all together.
    pub chosen_by: Vec<Option<usize>>,
    /// For each language the tokens that its measured text has at the end.
    pub measured_tokens: Vec<f64>,
}

struct Side {
    words: Engine,
    measured: Option<Engine>,
    /// Tokens of the measured text before any merge.
    symbols: f64,
    size: f64,
    /// Whether no pair is left that is frequent enough.
    exhausted: bool,
}

impl Side {
    fn tokens(&self) -> f64 {
        self.symbols - to_f64(u128::from(self.measured.as_ref().unwrap_or(&self.words).replaced()))
    }

    fn tokens_per_unit(&self) -> f64 {
        self.tokens() / self.size
    }
}

/// Counts are compared as ratios of sums: 53 bits are enough for texts below 8 PB.
#[allow(clippy::cast_precision_loss)]
fn to_f64(count: u128) -> f64 {
    count as f64
}

/// Learns merges for several languages.
///
/// `all` are the words of all languages together; only global merges need them. All trainers have the same tokens. Of
/// languages that are served equally badly the first chooses. Memory as for one training per trainer, and the lists of
/// all pairs beside.
///
/// # Errors
/// `Value` for no languages, trainers with different tokens, sizes that are not positive, or global merges without
/// `all`; and as [`Trainer::train`].
pub fn train_parity(
    languages: Vec<Language>,
    all: Option<Trainer>,
    parity: Parity,
    options: &Options,
    veto: Option<&Veto>,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<ParityMerges> {
    if parity.global_merges > 0 && all.is_none() {
        return Err(Error::value("parity.global_merges", "no words of all languages together", "give them"));
    }
    if parity.share.is_nan() || parity.share < 1.0 {
        let fix = "at 1, every language has its equal part at most";
        return Err(Error::value("parity.share", format!("{} is below 1", parity.share), fix));
    }
    let Some(first) = languages.first() else {
        return Err(Error::value("parity", "no languages", "give the words of at least one"));
    };
    let mut tokens = first.words.tokens().clone();
    let engine = |trainer: Trainer| -> Result<(Engine, u128)> {
        let (own, layout, symbols) = trainer.into_parts();
        if own.table() != tokens.table() {
            return Err(Error::value("parity", "languages with different alphabets", "give all the same tokens"));
        }
        let inherited = inherited(&options.inherited, &own)?;
        let engine = Engine::new(layout, &own, options.max_length, options.min_frequency, inherited, true, cancel);
        Ok((engine, symbols))
    };
    let mut together = match all {
        Some(trainer) if parity.global_merges > 0 => Some(engine(trainer)?.0),
        _ => None,
    };
    let mut sides = Vec::with_capacity(languages.len());
    for (number, language) in languages.into_iter().enumerate() {
        if !language.size.is_finite() || language.size <= 0.0 {
            let found = format!("the size {} of language {number}", language.size);
            return Err(Error::value("parity.sizes", found, "sizes are positive"));
        }
        let (words, own_symbols) = engine(language.words)?;
        let measured = language.measured.map(&engine).transpose()?;
        let (measured, symbols) = measured.map_or((None, own_symbols), |(engine, symbols)| (Some(engine), symbols));
        sides.push(Side { words, measured, symbols: to_f64(symbols), size: language.size, exhausted: false });
    }
    let forbidden = Forbidden::new(&options.reserved, veto);
    let mut turns = Turns { last: VecDeque::new(), of: vec![0; sides.len()], parity };
    let (mut merges, mut chosen_by) = (Vec::new(), Vec::new());
    let stop = loop {
        for engine in engines(&mut together, &mut sides) {
            engine.settle(cancel);
        }
        if cancel.is_cancelled() {
            break Stop::Cancelled;
        }
        if tokens.len() >= options.vocab_size || merges.len() >= options.max_merges {
            break Stop::Complete;
        }
        if merges.len() >= parity.global_merges {
            together = None;
        }
        let choice = match &mut together {
            Some(engine) => best(engine, &forbidden, &tokens)?.map(|best| (None, best)),
            None => loop {
                let Some(number) = turns.next(&sides) else { break None };
                match best(&mut sides[number].words, &forbidden, &tokens)? {
                    Some(best) => break Some((Some(number), best)),
                    None => sides[number].exhausted = true,
                }
            },
        };
        let Some((chooser, (pair, count))) = choice else {
            if together.take().is_some() {
                continue; // single languages may still have a pair: their counts have the same threshold
            }
            break Stop::Exhausted;
        };
        let mut token = Vec::new();
        spell(&tokens, pair, &mut token);
        let product = product_of(&mut tokens, &token)?;
        for engine in engines(&mut together, &mut sides) {
            engine.grow(&tokens);
            engine.merge_pair(pair, product);
        }
        if let Some(number) = chooser {
            turns.took(number);
        }
        merges.push(LearntMerge { left: pair.0, right: pair.1, product, count });
        chosen_by.push(chooser);
        progress.set(merges.len());
    };
    let measured_tokens = sides.iter().map(Side::tokens).collect();
    Ok(ParityMerges { learnt: Merges { merges, tokens, stop }, chosen_by, measured_tokens })
}

fn engines<'e>(together: &'e mut Option<Engine>, sides: &'e mut [Side]) -> impl Iterator<Item = &'e mut Engine> {
    let of_sides = sides.iter_mut().flat_map(|side| std::iter::once(&mut side.words).chain(&mut side.measured));
    together.iter_mut().chain(of_sides)
}

/// The most frequent pair that may merge, and its count.
fn best(engine: &mut Engine, forbidden: &Forbidden<'_>, tokens: &Tokens) -> Result<Option<((u32, u32), u64)>> {
    let mut token = Vec::new();
    while let Some(entry) = engine.pop() {
        spell(tokens, entry.pair(), &mut token);
        if !forbidden.forbids(&token)? {
            return Ok(Some((entry.pair(), entry.count.unsigned_abs())));
        }
    }
    Ok(None)
}

/// Whose turn it is.
struct Turns {
    last: VecDeque<usize>,
    of: Vec<usize>,
    parity: Parity,
}

impl Turns {
    /// The language with the most tokens per unit among those that have pairs left and may take a turn; when the window
    /// shuts all of them out, among those that have pairs left.
    fn next(&self, sides: &[Side]) -> Option<usize> {
        let share = self.parity.share * to_f64(self.parity.window as u128) / to_f64(sides.len() as u128);
        let open = |number: &usize| self.parity.window == 0 || to_f64(self.of[*number] as u128) < share;
        let left = || (0..sides.len()).filter(|&number| !sides[number].exhausted);
        let worst = |numbers: &mut dyn Iterator<Item = usize>| {
            numbers.max_by(|&a, &b| sides[a].tokens_per_unit().total_cmp(&sides[b].tokens_per_unit()).then(b.cmp(&a)))
        };
        worst(&mut left().filter(open)).or_else(|| worst(&mut left()))
    }

    fn took(&mut self, number: usize) {
        if self.parity.window == 0 {
            return;
        }
        self.last.push_back(number);
        self.of[number] += 1;
        if self.last.len() > self.parity.window
            && let Some(gone) = self.last.pop_front()
        {
            self.of[gone] -= 1;
        }
    }
}
