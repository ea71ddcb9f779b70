//! Bounds on untrusted input.

/// How much an untrusted tokenizer file may ask for.
///
/// Every reader takes one. A file over a bound gives [`crate::ErrorKind::Limit`], which names the bound and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest file, in bytes.
    pub file_bytes: usize,
    /// Deepest nesting of a JSON document or of a component tree.
    pub depth: usize,
    /// Most tokens, added ones included.
    pub tokens: usize,
    /// Largest token id; `None` stands for "8 times the number of tokens + 1024".
    pub max_id: Option<u32>,
    /// Longest token, in bytes.
    pub token_bytes: usize,
    /// Most merges.
    pub merges: usize,
    /// Longest regular expression, in bytes.
    pub pattern_bytes: usize,
    /// Largest compiled regular expression, in bytes.
    pub regex_bytes: usize,
    /// Most backtracking steps of one look-around match.
    pub backtrack_steps: usize,
    /// Most bytes that normalizers may make of one byte of text (a short text may always grow by 1 MiB).
    pub text_growth: usize,
    /// Longest document that training holds whole, where its pattern cannot be cut block by block.
    pub document_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 256 << 20,
            depth: 64,
            tokens: 4 << 20,
            max_id: None,
            token_bytes: 64 << 10,
            merges: 16 << 20,
            pattern_bytes: 64 << 10,
            regex_bytes: 64 << 20,
            backtrack_steps: 10_000_000,
            text_growth: 64,
            document_bytes: 256 << 20,
        }
    }
}

impl Limits {
    /// The largest id allowed in a vocabulary of `tokens` tokens.
    pub fn max_id_for(&self, tokens: usize) -> u32 {
        self.max_id
            .unwrap_or_else(|| u32::try_from(tokens.saturating_mul(8).saturating_add(1024)).unwrap_or(u32::MAX - 1))
    }
}
