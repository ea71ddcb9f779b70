//! Texts as tokens of the first stage.

use crate::error::Result;
use crate::formats::Model;
use crate::ids::TokenId;
use crate::limits::Limits;
use crate::pipeline::{PieceEngine, PiecePool, PieceScratch};
use crate::train::cutter::Cuts;
use crate::train::describe::byte_level_bpe;
use crate::train::tokens::Tokens;

/// Merges of the first stage, ready to encode.
pub(super) struct Stage {
    engine: PieceEngine,
    pool: PiecePool,
}

impl Stage {
    /// Builds the tables. `merges` are (left, right, product) in the order of their ranks; ids without bytes are special
    /// tokens, which no text gives.
    ///
    /// # Errors
    /// Those of the encoder.
    pub(super) fn new(tokens: &Tokens, merges: &[(TokenId, TokenId, TokenId)]) -> Result<Self> {
        let holes = tokens.iter().take_while(|token| token.is_empty()).count();
        // Any spelling does that the byte alphabet does not have.
        let specials: Vec<String> = (0..holes).map(|id| format!("\u{E000}{id}")).collect();
        let mut description = byte_level_bpe(tokens, merges, &specials, &Cuts::Whole, None)?;
        description.added_tokens.clear();
        debug_assert!(matches!(description.model, Model::Bpe(_)));
        let engine = PieceEngine::new(&description, true, false, &Limits::default())?;
        Ok(Self { engine, pool: PiecePool::default() })
    }

    /// Buffers of one thread, with a cache of what was encoded.
    pub(super) fn scratch(&self) -> PieceScratch {
        self.pool.take()
    }

    /// Appends the ids of one chunk: all merges by rank, as if nothing were cut. O(n log n) at worst.
    pub(super) fn encode(&self, chunk: &[u8], scratch: &mut PieceScratch, out: &mut Vec<TokenId>) {
        let mut start = 0;
        while start < chunk.len() {
            // Between places that no merge can bridge, so that parts are words, which the cache knows.
            let end = self.engine.next_cut(chunk, start);
            self.engine.piece(chunk, start, end, scratch, out);
            start = end;
        }
    }
}
