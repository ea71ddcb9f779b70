//! (see the room's files)

pub mod charsmap;
pub mod sentencepiece;
