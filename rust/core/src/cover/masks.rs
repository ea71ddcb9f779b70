//! Which tokens may follow a context, for the whole vocabulary at once.

use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use super::added::{AddedTokens, Runs};
use crate::index::{Bits, VocabIndex};
use crate::pretoken::streaming::{StateId, Streaming};

/// Masks kept; 16 KiB each for 128,000 tokens.
const KEPT: usize = 4096;

/// The tokens that the cutting machine and the added tokens let pass, by their states.
pub(super) struct Live {
    /// How many bytes each token shares with the one before it in the sorted order.
    shared: Vec<u32>,
    masks: RwLock<FxHashMap<(StateId, Runs), Arc<Passing>>>,
}

/// What may be read from some state without a cut inside.
pub(super) struct Passing {
    /// The tokens' places.
    pub(super) live: Bits,
    /// Those among them behind which it is not plain that some text goes on, with the states there; by place.
    pub(super) open: Vec<(u32, StateId, Runs)>,
}

impl Live {
    pub(super) fn new(index: &VocabIndex) -> Self {
        let mut shared = Vec::with_capacity(index.len());
        let mut before: &[u8] = &[];
        for place in 0..index.root().hi {
            let token = index.token(place);
            let common = before.iter().zip(token).take_while(|(a, b)| a == b).count();
            shared.push(u32::try_from(common).expect("a token is far below 4 GiB"));
            before = token;
        }
        Self { shared, masks: RwLock::default() }
    }

    /// The places of tokens that can be read from these states without a cut inside.
    pub(super) fn mask(
        &self,
        index: &VocabIndex,
        (machine, added): (&Streaming, &AddedTokens),
        (stream, runs): (StateId, Runs),
    ) -> Arc<Passing> {
        let key = (stream, runs);
        if let Some(mask) = self.masks.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(mask);
        }
        let mask = Arc::new(self.walk(index, machine, added, key));
        let mut masks = self.masks.write().unwrap_or_else(PoisonError::into_inner);
        if masks.len() >= KEPT {
            masks.clear();
        }
        masks.insert(key, Arc::clone(&mask));
        mask
    }

    fn walk(&self, index: &VocabIndex, machine: &Streaming, added: &AddedTokens, start: (StateId, Runs)) -> Passing {
        let mut passing = Passing { live: Bits::new(), open: Vec::new() };
        // The states behind each prefix of the token in hand, down to the first dead one.
        let mut states = vec![start];
        for (place, &shared) in (0_u32..).zip(&self.shared) {
            let shared = shared as usize;
            if states.len() <= shared {
                continue; // what it shares with the last token is dead already
            }
            states.truncate(shared + 1);
            let mut alive = true;
            for &byte in &index.token(place)[shared..] {
                let (stream, runs) = states[states.len() - 1];
                let next = machine.step(stream, byte);
                match added.step(runs, byte, true) {
                    Some(runs) if next != Streaming::DEAD => states.push((next, runs)),
                    _ => {
                        alive = false;
                        break;
                    }
                }
            }
            if alive {
                passing.live.set(place, true);
                let (stream, runs) = states[states.len() - 1];
                let cuts = added.is_empty() && machine.cut(stream) != Streaming::DEAD;
                if !cuts && !machine.can_end(stream) {
                    passing.open.push((place, stream, runs));
                }
            }
        }
        passing
    }
}
