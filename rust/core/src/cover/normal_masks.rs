//! The normalizer's part in masks: which tokens leave a text normal.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use super::normal::{Edge, Normal, White, complete_len};
use crate::index::{Bits, VocabIndex};

/// Places kept over all windows, and windows: some MiB.
const KEPT_PLACES: usize = 1 << 20;
const KEPT_WINDOWS: usize = 1 << 14;

/// The end of a text that is normalized as one.
pub(super) struct Ending {
    pub(super) text: Vec<u8>,
    /// Whether it is all of a text that begins where the tokenizer sees it begin.
    pub(super) whole: bool,
}

/// [`Normal`] for all tokens of a vocabulary.
pub(super) struct NormalMasks {
    normal: Normal,
    /// Whether texts begin with a space that the normalizer does not see.
    lead: bool,
    /// Tokens that are normal by themselves.
    sound: Bits,
    /// Those among them that depend on what is in front: beginning with a character that may compose, and in the
    /// middle of a character.
    marks: Vec<u32>,
    middles: Vec<u32>,
    /// Tokens that begin with a space.
    spaced: Bits,
    /// Tokens of whose start something is taken away at the start of a text.
    stripped: Vec<u32>,
    /// The tokens that may begin a text, with the space in front.
    first: OnceLock<Bits>,
    removed: RwLock<Removed>,
}

/// What was found out of windows.
#[derive(Default)]
struct Removed {
    places: usize,
    by_window: FxHashMap<Vec<u8>, Arc<[u32]>>,
}

impl NormalMasks {
    pub(super) fn new(normal: Normal, index: &VocabIndex, lead: bool) -> Self {
        let (mut sound, mut marks, mut middles, mut stripped) = (Bits::new(), Vec::new(), Vec::new(), Vec::new());
        let doubled = normal.white.doubled;
        for (place, alone) in (0..).zip(normal.stand_alone(index)) {
            let token = index.token(place);
            if !normal.keeps(token) || (doubled && has_doubled(token)) {
                continue; // a stretch of a normal text is normal
            }
            sound.set(place, true);
            if token.first().is_some_and(|byte| byte & 0xC0 == 0x80) {
                middles.push(place);
            } else if !alone {
                marks.push(place);
            }
            if normal.white.left.takes_start(token) {
                stripped.push(place);
            }
        }
        let mut spaced = Bits::new();
        if doubled {
            spaced.insert_range(index.narrow(index.root(), 0, b' '));
        }
        let (first, removed) = (OnceLock::new(), RwLock::default());
        Self { normal, lead, sound, marks, middles, spaced, stripped, first, removed }
    }

    /// How many bytes of a text its [`Ending`] needs.
    pub(super) fn room(&self) -> usize {
        self.normal.room()
    }

    /// Whether the normalizer leaves the end of a text that stops here.
    pub(super) fn may_end(&self, end: impl FnOnce() -> Ending) -> bool {
        self.normal.white.right == Edge::Nothing || {
            let end = end();
            !self.normal.white.right.takes_end(self.seen(&end))
        }
    }

    /// What the normalizer sees of a text.
    fn seen<'t>(&self, end: &'t Ending) -> &'t [u8] {
        if self.lead && end.whole { end.text.get(1..).unwrap_or_default() } else { &end.text }
    }

    /// Whether the token comes with the space in front of the text.
    fn is_first(&self, end: &Ending) -> bool {
        self.lead && end.whole && end.text.is_empty()
    }

    /// Whether a token with the space in front may begin a text.
    fn begins(&self, token: &[u8]) -> bool {
        let Some(seen) = token.strip_prefix(b" ") else { return false };
        let white = self.normal.white;
        self.normal.keeps(seen) && !(white.doubled && has_doubled(token)) && !white.left.takes_start(seen)
    }

    fn holds(&self, window: &[u8], token: &[u8]) -> bool {
        self.normal.keeps(&[window, token].concat())
    }

    /// Whether a text stays normal with a token more.
    pub(super) fn may_follow(&self, place: u32, token: &[u8], end: impl FnOnce() -> Ending) -> bool {
        let white = self.normal.white;
        let listed = |list: &[u32]| list.binary_search(&place).is_ok();
        let alone = !listed(&self.marks) && !listed(&self.middles);
        if alone && !self.lead && white == White::default() {
            return self.sound.get(place);
        }
        let end = &end();
        if self.is_first(end) {
            return self.begins(token);
        }
        let seen = self.seen(end);
        self.sound.get(place)
            && (alone || self.holds(self.normal.window(seen), token))
            && !(white.doubled && end.text.ends_with(b" ") && token.starts_with(b" "))
            && !(is_start(end, seen) && white.left.takes_start(&[seen, token].concat()))
    }

    /// Takes out of a mask what would not leave the text normal.
    pub(super) fn keep(&self, index: &VocabIndex, end: &Ending, mask: &mut Bits) {
        if self.is_first(end) {
            let fits = |&place: &u32| self.begins(index.token(place));
            let first = || (0..index.root().hi).filter(fits).fold(Bits::new(), with);
            mask.and(self.first.get_or_init(first));
            return;
        }
        let (seen, white) = (self.seen(end), self.normal.white);
        mask.and(&self.sound);
        let window = self.normal.window(seen);
        if !window.is_empty() {
            self.removed(index, window).iter().for_each(|&place| mask.set(place, false));
        }
        if white.doubled && end.text.ends_with(b" ") {
            mask.and_not(&self.spaced);
        }
        if white.left != Edge::Nothing && is_start(end, seen) {
            if seen.is_empty() {
                self.stripped.iter().for_each(|&place| mask.set(place, false));
            } else {
                let taken = |place: &&u32| white.left.takes_start(&[seen, index.token(**place)].concat());
                self.middles.iter().filter(taken).for_each(|&place| mask.set(place, false));
            }
        }
    }

    /// The places of sound tokens that may not follow a window; remembered.
    fn removed(&self, index: &VocabIndex, window: &[u8]) -> Arc<[u32]> {
        let known = self.removed.read().unwrap_or_else(PoisonError::into_inner).by_window.get(window).cloned();
        if let Some(places) = known {
            return places;
        }
        let open = complete_len(window) < window.len();
        let middles = if open { self.middles.as_slice() } else { &[] };
        let all = self.marks.iter().chain(middles).copied();
        let places: Arc<[u32]> = all.filter(|&place| !self.holds(window, index.token(place))).collect();
        let mut removed = self.removed.write().unwrap_or_else(PoisonError::into_inner);
        if removed.places + places.len() > KEPT_PLACES || removed.by_window.len() >= KEPT_WINDOWS {
            *removed = Removed::default();
        }
        removed.places += places.len();
        removed.by_window.insert(window.to_vec(), Arc::clone(&places));
        places
    }
}

/// Whether a text has no whole character yet.
fn is_start(end: &Ending, seen: &[u8]) -> bool {
    end.whole && seen.len() < 4 && complete_len(seen) == 0
}

fn has_doubled(token: &[u8]) -> bool {
    token.windows(2).any(|two| two == b"  ")
}

fn with(mut places: Bits, place: u32) -> Bits {
    places.set(place, true);
    places
}
