"""Rows of different lengths, as arrays: places of spans, and rows put together from parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from anyvocab.tokenizer import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ragged", "scattered", "select", "spans"]


def spans(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions `start, start + 1, ...` of every span, one after another.

    >>> spans(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    total = int(lengths.sum())
    jumps = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return jumps + np.arange(total)


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """Return lists of ids as one table."""
    ids = np.array([id for row in rows for id in row], dtype=np.uint32)
    return Ragged(ids, np.cumsum([0, *map(len, rows)], dtype=np.int64))


def select(rows: Ragged, chosen: NDArray[np.int64]) -> Ragged:
    """Return some of the rows, in the order given."""
    lengths = rows.lengths()[chosen]
    ids = rows.ids[spans(rows.offsets[chosen], lengths)]
    return Ragged(ids, np.concatenate(([0], np.cumsum(lengths))))


def scattered(size: int, parts: Sequence[tuple[NDArray[np.int64], Ragged]]) -> Ragged:
    """Return `size` rows: those at `places` of each `(places, rows)` are its rows in order.

    No two parts name a place; places that none names are empty.
    """
    lengths = np.zeros(size, dtype=np.int64)
    for places, rows in parts:
        lengths[places] = rows.lengths()
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    ids = np.zeros(int(offsets[-1]), dtype=np.uint32)
    for places, rows in parts:
        ids[spans(offsets[places], rows.lengths())] = rows.ids
    return Ragged(ids, offsets)
