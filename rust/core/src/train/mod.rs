//! Training: counting pretokens.
//!
//! [`Cutter`] turns documents into pretokens, [`Counter`] counts them on several threads in bounded memory, and
//! [`Merge`] gives the counts sorted by bytes, whatever the order in which they came.

mod counter;
mod counts;
mod cutter;
mod kway;
mod runs;
mod spill;

pub use counter::{Counter, Documents, Invalid, Settings, Totals};
pub use cutter::{Cuts, Cutter, PATTERN_NAMES, PieceSink, normalizer_named};
pub use kway::{Batch, Merge, merge_parts};
pub use runs::{MakeFile, RunFile};

#[cfg(test)]
mod counting_tests;
