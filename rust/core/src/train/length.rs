//! How long tokens may become.

/// The longest tokens that merges may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MaxLength {
    /// Any length.
    #[default]
    None,
    /// Tokens of at most so many bytes.
    Bytes(usize),
    /// `max_token_length` of `tokenizers`: tokens *shorter* than so many characters, of the byte alphabet, that is bytes;
    /// two symbols of the alphabet may always merge.
    HuggingFace(usize),
}

impl MaxLength {
    /// Whether a merge may make a token of so many bytes.
    pub(super) fn allows(self, bytes: usize) -> bool {
        match self {
            Self::None => true,
            Self::Bytes(most) => bytes <= most,
            Self::HuggingFace(bound) => bytes == 2 || bytes < bound,
        }
    }
}
