//! The definition: count all pairs, merge the best, begin again.

use std::collections::BTreeMap;

use super::{Base, Identity, Options, Stop, Transition};
use crate::error::Result;

/// A token: its bytes, and the base tokens it stands for, counted through the whole batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The first base token.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// A merge: left bytes, right bytes, occurrences, replacements.
pub type Step = (Vec<u8>, Vec<u8>, u32, u32);

/// The occurrences of each pair, and how many others were seen before it.
type Counts<'t> = BTreeMap<(&'t [u8], &'t [u8]), (u32, usize)>;

/// What [`super::merge`] gives, by bytes: the tokens of each text, the merges in order, why there are not more.
///
/// O(merges · tokens).
///
/// # Errors
/// As [`super::merge`].
pub fn merge(
    base: &Base<'_>,
    then: Option<Transition<'_>>,
    identity: &Identity,
    options: &Options,
) -> Result<(Vec<Vec<Token>>, Vec<Step>, Stop)> {
    base.check(then.as_ref())?;
    options.check()?;
    identity.check(base.ids)?;
    let bounds: Vec<usize> = base.offsets.iter().map(|&at| usize::try_from(at).unwrap_or(0)).collect();
    let bytes_of = |at: usize| identity.vocabulary().token_bytes(base.ids[at]).unwrap_or_default().to_vec();
    let token = |at: usize| Token { bytes: bytes_of(at), start: at, end: at + 1 };
    let mut texts: Vec<Vec<Token>> = bounds.windows(2).map(|text| (text[0]..text[1]).map(token).collect()).collect();
    let mut open = base.open(base.groups, identity);
    let enough = options.enough(base.ids.len() as u64, base.places(then.as_ref(), identity));
    let mut then = then;
    let mut steps: Vec<Step> = Vec::new();
    loop {
        let tokens: usize = texts.iter().map(Vec::len).sum();
        if tokens as u64 <= enough {
            return Ok((texts, steps, Stop::Target));
        }
        if steps.len() as u64 >= options.max_merges {
            return Ok((texts, steps, Stop::MaxMerges));
        }
        if let Some(now) = then.filter(|then| steps.len() as u64 >= then.after) {
            open = base.open(now.groups, identity);
            then = None;
        }
        let is_candidate = |x: &Token, y: &Token| open[y.start] && x.bytes.len() + y.bytes.len() <= options.max_bytes;
        let mut counts = Counts::new();
        for pair in texts.iter().flat_map(|text| text.windows(2)) {
            if is_candidate(&pair[0], &pair[1]) {
                let seen = counts.len();
                counts.entry((&pair[0].bytes, &pair[1].bytes)).or_insert((0, seen)).0 += 1;
            }
        }
        let best = counts.iter().max_by_key(|(_, (count, seen))| (*count, std::cmp::Reverse(*seen)));
        let best = best.map(|(&(x, y), &(count, _))| (x.to_vec(), y.to_vec(), count));
        let Some((x, y, count)) = best.filter(|(_, _, count)| *count >= options.min_count) else {
            if let Some(now) = then.take() {
                open = base.open(now.groups, identity);
                continue;
            }
            let stop = if counts.is_empty() { Stop::Exhausted } else { Stop::MinCount };
            return Ok((texts, steps, stop));
        };
        let mut replaced = 0;
        for text in &mut texts {
            let mut kept: Vec<Token> = Vec::with_capacity(text.len());
            let mut rest = std::mem::take(text).into_iter().peekable();
            while let Some(mut token) = rest.next() {
                if token.bytes == x
                    && let Some(right) = rest.next_if(|right| right.bytes == y && is_candidate(&token, right))
                {
                    token.bytes.extend_from_slice(&right.bytes);
                    token.end = right.end;
                    replaced += 1;
                }
                kept.push(token);
            }
            *text = kept;
        }
        steps.push((x, y, count, replaced));
    }
}
