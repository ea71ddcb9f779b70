//! Tiny files.
