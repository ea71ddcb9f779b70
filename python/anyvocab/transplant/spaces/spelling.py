"""Vectors from spelling: tokens that share byte sequences are near one another.

Every token has one, whether a corpus shows it or not, and whether its bytes are valid UTF-8 or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from anyvocab.transplant.spaces.factor import Sparse, factor, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LONGEST", "byte_sequences", "spelling_vectors"]

LONGEST = 5
_BEGIN, _END, _BASE = 257, 258, 512  # bytes are 1..256; five digits of base 512 fit in 45 bits


def byte_sequences(tokens: Sequence[bytes | None], longest: int = LONGEST) -> Sparse:
    """Return which tokens contain which byte sequences, weighted (1 + log count) * log rarity.

    The count tells runs of white space of different lengths apart.

    Sequences have 1 to `longest` bytes; a token's begin and end count as a byte each. Those that
    only one token contains tell nothing and are left out.

    Args:
        tokens: Byte strings; None and empty ones have no entries.
        longest: At most 7: a sequence is one number.
    """
    spelled = [token or b"" for token in tokens]
    sizes = np.array([len(token) + 2 if token else 0 for token in spelled], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    row = np.repeat(np.arange(len(spelled)), sizes)
    letters = np.zeros(int(sizes.sum()), dtype=np.int64)
    shown = sizes > 0
    letters[starts[shown]], letters[(starts + sizes)[shown] - 1] = _BEGIN, _END
    inner = np.ones(len(letters), dtype=np.bool_)
    inner[starts[shown]] = inner[(starts + sizes)[shown] - 1] = False
    letters[inner] = np.frombuffer(b"".join(spelled), dtype=np.uint8).astype(np.int64) + 1
    rows, codes = [], []
    code, last = letters.copy(), row
    for length in range(1, longest + 1):
        if length > 1:
            same = last[:-1] == row[length - 1 :]
            code = np.where(same, code[:-1] * _BASE + letters[length - 1 :], 0)
            last = np.where(same, last[:-1], -1)
        kept = (last >= 0) & (code != _BEGIN) & (code != _END)
        rows.append(last[kept])
        codes.append(code[kept])
    _, column, tokens_with = np.unique(
        np.concatenate(codes), return_inverse=True, return_counts=True
    )
    width = len(tokens_with)
    entries = np.concatenate(rows) * max(1, width) + column
    entries.sort()
    places = np.flatnonzero(np.diff(entries, prepend=-1))
    often = np.diff(places, append=len(entries))
    entries = entries[places]  # each place once
    rows_of, columns_of = entries // max(1, width), entries % max(1, width)
    spread = np.bincount(columns_of, minlength=width)
    common = spread >= 2
    renamed = np.cumsum(common) - 1
    kept = common[columns_of]
    rarity = np.log((len(spelled) + 1) / np.maximum(spread, 1))
    weights = (1 + np.log(often)) * rarity[columns_of]
    return Sparse(
        rows_of[kept],
        renamed[columns_of[kept]],
        weights[kept].astype(np.float32),
        (len(spelled), int(common.sum())),
    )


def spelling_vectors(
    tokens: Sequence[bytes | None], width: int, *, seed: int = 0
) -> NDArray[np.float32]:
    """Return a unit vector for every token, float32 (n, width); zero where there are no bytes."""
    return unit(factor(byte_sequences(tokens), width, power=1.0, seed=seed, rounds=1))
