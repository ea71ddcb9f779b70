//! From ids to bytes.

pub mod byte_alphabet;
