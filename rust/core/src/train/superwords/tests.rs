//! The second stage against its definition.
