//! Tokens that cross words, by three recipes.
//!
//! * `supertokens` (Sharthak et al. 2025, arXiv:2505.09738): [`chunks`] cuts documents at random, and what the cuts leave
//!   is counted and merged like words.
//! * `superbpe` (Liu et al. 2025, arXiv:2503.13423): ordinary merges first; then longer [`cuts`](super::Cuts) are encoded
//!   with them ([`encode`]) and learning goes on ([`sequences`]).
//! * `boundless` (Schmidt et al. 2025, arXiv:2504.00178): merges over [`runs`] of pretokens that are one token each.

pub mod boundless;
pub mod chunks;
mod encode;
mod log;
pub mod runs;
pub mod sequences;
mod split;
#[cfg(test)]
mod tests;

pub use boundless::BoundlessEncoder;
pub use chunks::{At, Chunks};
pub use runs::Runs;
pub use sequences::{Bounds, Learnt, Sequences, Unit};

use super::cutter::Cuts;
use crate::error::{Error, Result};

/// The cuts that a word of the form `RECIPE:...` stands for; `None` for any other word.
///
/// `supertokens:SEED:RESAMPLINGS:characters`, `...:graphemes` and `...:pretokens:PROBABILITY:PATTERN` are random cuts,
/// `boundless:PATTERN` runs of pretokens. They are what the header of counts says of such cuts.
///
/// # Errors
/// `Value` for a recipe that is spelt wrong.
pub(super) fn named(word: &str) -> Option<Result<Cuts>> {
    let (recipe, rest) = word.split_once(':')?;
    match recipe {
        "supertokens" => Some(chunks_named(rest)),
        "boundless" => Some(Cuts::named(rest).and_then(|cuts| Ok(Cuts::Runs(Box::new(inner(cuts)?))))),
        _ => None,
    }
}

fn chunks_named(rest: &str) -> Result<Cuts> {
    let wrong = || {
        let fix = "write supertokens:SEED:RESAMPLINGS:characters, :graphemes or :pretokens:PROBABILITY:PATTERN";
        Error::value("pattern", format!("{rest:?} says no random cuts"), fix)
    };
    let mut parts = rest.splitn(5, ':');
    let mut next = || parts.next().ok_or_else(wrong);
    let seed = next()?.parse().map_err(|_| wrong())?;
    let resamplings = next()?.parse().map_err(|_| wrong())?;
    let at = match next()? {
        "characters" => At::Characters,
        "graphemes" => At::Graphemes,
        "pretokens" => {
            let probability = next()?.parse().map_err(|_| wrong())?;
            At::Pretokens { probability, cuts: Box::new(inner(Cuts::named(next()?)?)?) }
        }
        _ => return Err(wrong()),
    };
    let chunks = Chunks { seed, resamplings, at };
    chunks.check()?;
    Ok(Cuts::Chunks(chunks))
}

/// Cuts inside a recipe, which are no recipe themselves.
fn inner(cuts: Cuts) -> Result<Cuts> {
    match cuts {
        Cuts::Chunks(_) | Cuts::Runs(_) => {
            Err(Error::value("pattern", "a recipe inside a recipe", "give the pattern of ordinary pretokens"))
        }
        cuts => Ok(cuts),
    }
}
