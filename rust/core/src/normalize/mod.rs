//! (see the room's files)

pub mod charsmap;
