//! From texts to their pretokens, and from a pretoken to its substrings.

use std::ops::{ControlFlow, Range};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::key::{KEY_BYTES, Key, window};
use super::options::{Ends, Options};
use crate::error::Result;
use crate::pipeline::Cancel;
use crate::train::{Cutter, PieceSink};
use crate::unigram::character_len;

/// The different pretokens of some texts and how often each came, in the order in which they came first.
#[derive(Debug, Default)]
pub(super) struct Pretokens<'t> {
    /// Pretokens that fit a key.
    pub(super) short: Vec<(Key, u64)>,
    places: HashMap<Key, usize, FixedState>,
    /// The others, one by one: long ones hardly ever come twice.
    pub(super) long: Vec<&'t [u8]>,
}

impl<'t> Pretokens<'t> {
    /// Counts the pretokens of a text.
    pub(super) fn add(&mut self, cutter: &Cutter, text: &'t [u8], ends: &mut Places) -> Result<()> {
        ends.0.clear();
        let _ = cutter.cut(text, 0..text.len(), ends)?;
        let mut start = 0;
        for &end in &ends.0 {
            if end - start <= KEY_BYTES {
                let key = Key::cut(window(text, start), end - start);
                match self.places.entry(key) {
                    Entry::Occupied(place) => self.short[*place.get()].1 += 1, // below 2^63: each is a byte at least
                    Entry::Vacant(place) => {
                        place.insert(self.short.len());
                        self.short.push((key, 1));
                    }
                }
            } else {
                self.long.push(&text[start..end]);
            }
            start = end;
        }
        Ok(())
    }

    /// Adds what another part of the texts has.
    fn join(&mut self, other: Self) {
        for (key, count) in other.short {
            match self.places.entry(key) {
                Entry::Occupied(place) => self.short[*place.get()].1 += count,
                Entry::Vacant(place) => {
                    place.insert(self.short.len());
                    self.short.push((key, count));
                }
            }
        }
        self.long.extend(other.long);
    }
}

/// Where pretokens end. Each starts where the one before it ends.
#[derive(Debug, Default)]
pub(super) struct Places(pub(super) Vec<usize>);

impl PieceSink for Places {
    #[inline]
    fn piece(&mut self, _: &[u8], range: Range<usize>) -> ControlFlow<()> {
        self.0.push(range.end);
        ControlFlow::Continue(())
    }
}

/// The pretokens of all texts, counted on several threads; less than all when `cancel` is set.
pub(super) fn pretokens<'t>(
    cutter: &Cutter,
    texts: &[&'t [u8]],
    threads: usize,
    cancel: &Cancel,
) -> Result<Pretokens<'t>> {
    let parts = in_parts(texts, threads, |texts| {
        let (mut found, mut ends) = (Pretokens::default(), Places::default());
        for text in texts {
            if cancel.is_cancelled() {
                break;
            }
            found.add(cutter, text, &mut ends)?;
        }
        Ok(found)
    });
    let mut all: Option<Pretokens<'t>> = None;
    for part in parts {
        match &mut all {
            None => all = Some(part?),
            Some(all) => all.join(part?),
        }
    }
    Ok(all.unwrap_or_default())
}

/// What `work` makes of each of at most `threads` runs of `items`, in order; a run for each thread.
pub(super) fn in_parts<I: Sync, T: Send>(items: &[I], threads: usize, work: impl Fn(&[I]) -> T + Sync) -> Vec<T> {
    let size = items.len().div_ceil(threads.max(1)).max(1);
    let mut parts = items.chunks(size);
    let first = parts.next().unwrap_or(&[]);
    std::thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let mut all = vec![work(first)];
        all.extend(others.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))));
        all
    })
}

/// Calls `found` with every substring of a pretoken that counts, as a key and its length in bytes.
///
/// `bounds` is scratch.
#[inline]
pub(super) fn substrings(piece: &[u8], options: &Options, bounds: &mut Vec<usize>, mut found: impl FnMut(Key, usize)) {
    bounds.clear();
    let mut at = 0;
    while at < piece.len() {
        bounds.push(at);
        at += character_len(&piece[at..]);
    }
    bounds.push(piece.len());
    for first in (0..bounds.len() - 1).step_by(options.stride) {
        let start = bounds[first];
        let window = window(piece, start);
        match options.ends {
            Ends::Characters => {
                let ends = bounds[first + 1..].iter().map(|end| end - start);
                for len in ends.take_while(|len| *len <= options.max_bytes) {
                    found(Key::cut(window, len), len);
                }
            }
            Ends::Bytes => {
                for len in 1..=options.max_bytes.min(piece.len() - start) {
                    found(Key::cut(window, len), len);
                }
            }
        }
    }
}
