//! Token ids.

/// An index into a vocabulary.
///
/// A plain `u32`: ids cross the Python boundary as `numpy.uint32` arrays without a copy.
pub type TokenId = u32;

/// The id that no token has; readers refuse it, engines use it as "none".
pub const NO_TOKEN: TokenId = u32::MAX;
