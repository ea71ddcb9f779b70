//! SentencePiece's character map, as `tokenizers` applies it.
//!
//! Not SentencePiece's rule (longest match from the left). `tokenizers` cuts the text into grapheme clusters. A cluster
//! of at most [`MAX_CLUSTER`] bytes of which a prefix is in the map is replaced *whole* by what the *shortest* such prefix
//! maps to: where the map knows `A`, a decomposed `Á` loses its accent. Other clusters are mapped character by character.

use unicode_segmentation::UnicodeSegmentation;

use super::charsmap::Charsmap;
use super::forms::emit;
use super::sink::Sink;
use super::text::{Part, parts};
use crate::error::Result;
use crate::limits::Limits;

/// Longer clusters are not looked up as a whole.
const MAX_CLUSTER: usize = 5;

/// `Precompiled`.
#[derive(Clone, Debug)]
pub(crate) struct Precompiled {
    map: Charsmap,
    /// Whether the map leaves this ASCII byte alone.
    keeps_ascii: [bool; 128],
}

impl Precompiled {
    pub(crate) fn new(blob: &[u8], limits: &Limits) -> Result<Self> {
        let map = Charsmap::new(blob, limits)?;
        let keeps_ascii =
            std::array::from_fn(|byte| u8::try_from(byte).is_ok_and(|byte| map.shortest_prefix(&[byte]).is_none()));
        Ok(Self { map, keeps_ascii })
    }

    /// What `text`, a cluster or a character, is replaced by.
    fn mapped(&self, text: &str) -> Option<&str> {
        // A right side that is no UTF-8 cannot be replaced by characters: tokenizers refuses or panics.
        self.map.shortest_prefix(text.as_bytes()).and_then(|(_, to)| std::str::from_utf8(to).ok())
    }

    /// The first byte that may change, at the start of a cluster.
    pub(crate) fn first_change(&self, text: &[u8]) -> Option<usize> {
        let mut base = 0;
        for part in parts(text) {
            match part {
                Part::Raw(raw) => base += raw.len(),
                Part::Text(text) => {
                    let mut first = None;
                    self.walk(text, |at, _, to| {
                        first = to.map(|_| at);
                        first.is_none()
                    });
                    if let Some(at) = first {
                        return Some(base + at);
                    }
                    base += text.len();
                }
            }
        }
        None
    }

    /// Calls `visit` with the pieces of `text` in order: where it starts, the piece, and what replaces it; until it
    /// returns false. Pieces that stay may be of any length.
    fn walk<'s, 't>(&'s self, text: &'t str, mut visit: impl FnMut(usize, &'t str, Option<&'s str>) -> bool) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let run = self.plain_ascii(&bytes[at..]);
            if run > 0 && !visit(at, &text[at..at + run], None) {
                return;
            }
            at += run;
            // Up to the next place between two ASCII characters: clusters end there (but for CR LF).
            let end = next_ascii_boundary(bytes, at);
            for cluster in text[at..end].graphemes(true) {
                if !self.walk_cluster(at, cluster, &mut visit) {
                    return;
                }
                at += cluster.len();
            }
        }
    }

    fn walk_cluster<'s, 't>(
        &'s self,
        at: usize,
        cluster: &'t str,
        visit: &mut impl FnMut(usize, &'t str, Option<&'s str>) -> bool,
    ) -> bool {
        if cluster.len() <= MAX_CLUSTER
            && let Some(to) = self.mapped(cluster)
        {
            return visit(at, cluster, Some(to));
        }
        cluster.char_indices().all(|(i, c)| {
            let part = &cluster[i..i + c.len_utf8()];
            visit(at + i, part, self.mapped(part))
        })
    }

    /// How many ASCII characters at the start stay and are clusters of their own.
    fn plain_ascii(&self, bytes: &[u8]) -> usize {
        let keeps = |b: u8| self.keeps_ascii.get(usize::from(b)).copied().unwrap_or(false);
        let run = bytes.iter().position(|&b| b == b'\r' || !keeps(b)).unwrap_or(bytes.len());
        match bytes.get(run) {
            // A mark may join the last one.
            Some(b) if !b.is_ascii() => run.saturating_sub(1),
            _ => run,
        }
    }

    /// Writes what `text` becomes. O(n) time.
    pub(crate) fn run<S: Sink>(&self, text: &[u8], sink: &mut S) {
        let mut pending = Pending { last: None };
        for part in parts(text) {
            match part {
                Part::Raw(raw) => {
                    pending.flush(sink);
                    sink.keep(raw);
                }
                Part::Text(text) => self.walk(text, |_, piece, to| {
                    match to {
                        Some(to) => pending.replace(piece, to, sink),
                        None => pending.keep(piece, sink),
                    }
                    true
                }),
            }
        }
        pending.flush(sink);
    }
}

/// The next place at or after `at + 1` between two ASCII characters that are not CR LF, or the end.
fn next_ascii_boundary(bytes: &[u8], at: usize) -> usize {
    let is_boundary = |pair: &[u8]| pair[0].is_ascii() && pair[1].is_ascii() && pair != b"\r\n";
    bytes[at..].windows(2).position(is_boundary).map_or(bytes.len(), |i| at + i + 1)
}

/// The last character with its change. It waits, because a replacement by nothing is booked on the character before it
/// (and at the start of the text on nobody: `tokenizers` then shifts what follows).
struct Pending {
    last: Option<(char, isize)>,
}

impl Pending {
    fn flush<S: Sink>(&mut self, sink: &mut S) {
        if let Some((c, change)) = self.last.take() {
            emit(sink, c, change);
        }
    }

    fn keep<S: Sink>(&mut self, piece: &str, sink: &mut S) {
        let Some((last, _)) = piece.char_indices().next_back() else { return };
        self.flush(sink);
        sink.keep(&piece.as_bytes()[..last]);
        self.last = piece[last..].chars().next().map(|c| (c, 0));
    }

    fn replace<S: Sink>(&mut self, old: &str, new: &str, sink: &mut S) {
        let count = |text: &str| isize::try_from(text.chars().count()).unwrap_or(isize::MAX);
        let (old_count, new_count) = (count(old), count(new));
        for (i, c) in (0..).zip(new.chars()) {
            self.flush(sink);
            // Of more characters than before, the last ones are new.
            self.last = Some((c, isize::from(i >= old_count)));
        }
        if new_count < old_count
            && let Some((_, change)) = &mut self.last
        {
            *change += new_count - old_count;
        }
    }
}
