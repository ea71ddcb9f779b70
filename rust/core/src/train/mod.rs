//! Training tokenizers: counting pretokens, and learning merges from the counts.
//!
//! [`Cutter`] turns documents into pretokens, [`Counter`] counts them on several threads in bounded memory, and
//! [`Merge`] gives the counts sorted by bytes, whatever the order in which they came.
//!
//! [`words`] lays counted words out as sequences of symbols, [`merge`] learns merges from them, and [`reference`] is the
//! definition it is tested against. [`veto`] says which tokens may not be, [`parity`] lets the language that is served
//! worst choose, [`seeds`] finds merges for tokens that must be there, and [`describe`] makes a tokenizer of it all.

mod counter;
mod counts;
mod cutter;
pub mod describe;
mod engine;
pub mod extend;
mod kway;
mod layout;
mod length;
pub mod merge;
mod pairs;
pub mod parity;
pub mod reference;
mod runs;
pub mod seeds;
mod spill;
pub mod superwords;
pub mod tokens;
pub mod veto;
pub mod words;

pub use counter::{Counter, Documents, Invalid, Settings, Totals};
pub use cutter::{Cuts, Cutter, PATTERN_NAMES, PieceSink, normalizer_named};
pub use kway::{Batch, Merge, merge_parts};
pub use merge::{LearntMerge, MaxLength, Merges, Options, Progress, Stop, Trainer};
pub use parity::{Parity, train_parity};
pub use runs::{MakeFile, RunFile};
pub use tokens::Tokens;
pub use veto::{Rules, Veto};
pub use words::{Alphabet, WordsView};

#[cfg(test)]
mod counting_tests;
#[cfg(test)]
mod tests;
