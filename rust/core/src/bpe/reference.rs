//! BPE by its definition: merge the pair of lowest rank, the leftmost of them first, until none is left.

use super::symbols::{Symbol, Symbols};
use super::table::{MergeTable, NO_RANK};

/// Merges `symbols` in place. O(n²); the definition that [`super::merge`] and [`super::linear`] are judged by.
pub(crate) fn merge(table: &MergeTable, symbols: &mut Vec<Symbol>) {
    loop {
        let mut best = (NO_RANK, 0);
        for (i, pair) in symbols.windows(2).enumerate() {
            let rank = table.rank(pair[0].id, pair[1].id);
            if rank < best.0 {
                best = (rank, i);
            }
        }
        let (rank, at) = best;
        if rank == NO_RANK {
            return;
        }
        let product = table.product(symbols[at].id, symbols[at + 1].id, rank);
        symbols[at] = Symbol { id: product, start: symbols[at].start, end: symbols[at + 1].end };
        symbols.remove(at + 1);
    }
}

/// The canonical encoding of one pretoken, by definition.
pub(crate) fn encode(table: &MergeTable, alphabet: &Symbols, piece: &[u8]) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    alphabet.write(piece, &mut symbols);
    merge(table, &mut symbols);
    symbols
}
