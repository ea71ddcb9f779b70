"""Exact cosines: nearest neighbours and sparsemax that no block size or thread count can change.

Unit vectors are rounded to whole multiples of a small step. Every product and every partial sum of
a dot product of two of them is then a whole number that the float type holds exactly, so a matrix
product has one right result, in whatever order it is summed. Ties are real ties and go to the lower
row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anyvocab import errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BLOCK_NUMBERS",
    "cosines",
    "nearest",
    "paired_cosines",
    "snap",
    "sparsemax",
    "squared_steps",
]

BLOCK_NUMBERS = 1 << 22  # cosines that exist at once
SNAPPED = 8192  # vectors that are held in float64 at once
TILE = 64  # neighbouring keys of which first only the best is looked at
# Steps per unit of length. A dot product of two rounded unit vectors of E numbers is at most
# (STEPS + sqrt(E) / 2) ** 2, and must be at most 2 ** 24 (float32) or 2 ** 53 (float64): true for
# every E below 36864. One step changes a cosine by about sqrt(2 / 12) / STEPS: 1e-4 or 6e-9.
STEPS = {np.dtype(np.float32): 4000.0, np.dtype(np.float64): float(1 << 26)}
WIDEST = 36864


def snap(
    vectors: NDArray[np.floating[Any]], *, precision: Literal["float32", "float64"] = "float32"
) -> NDArray[np.floating[Any]]:
    """Return unit vectors in whole steps, (n, E); rows of zeros stay what they are.

    Args:
        vectors: Rows of any length, (n, E).
        precision: How fine the steps are. float32: cosines to about 1e-4, and fast; float64: to
            about 1e-8.

    Raises:
        InvalidValue: A number is not finite, or the rows are too wide to be exact.
    """
    if vectors.ndim != 2 or vectors.shape[1] >= WIDEST:
        raise errors.build(
            errors.InvalidValue,
            f"shape {vectors.shape} is no (n, E) with E below {WIDEST}",
            field="vectors",
        )
    steps = STEPS[np.dtype(precision)]
    snapped = np.empty(vectors.shape, dtype=precision)
    for start in range(0, len(vectors), SNAPPED):
        wide = vectors[start : start + SNAPPED].astype(np.float64)
        if not np.isfinite(wide).all():
            row = start + int(np.argmin(np.isfinite(wide).all(axis=1)))
            raise errors.build(errors.InvalidValue, f"row {row} is not finite", field="vectors")
        # Divided first by the largest number, so that no square is lost.
        wide /= np.maximum(np.abs(wide).max(axis=1, initial=0.0, keepdims=True), 1e-300)
        length = np.sqrt(np.square(wide).sum(axis=1, keepdims=True))
        wide *= steps / np.maximum(length, 1.0)  # the largest number is 1, or the row is zero
        snapped[start : start + SNAPPED] = np.rint(wide, out=wide)
    return snapped


def squared_steps(vectors: NDArray[np.floating[Any]]) -> float:
    """Return the dot product of two equal unit vectors in the steps of `vectors`."""
    return STEPS[vectors.dtype] ** 2


def cosines(
    queries: NDArray[np.floating[Any]], keys: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return the cosine of every query and every key, float64 (n, K), of vectors in steps."""
    products = (queries @ keys.T).astype(np.float64)
    found: NDArray[np.float64] = products / squared_steps(queries)
    return found


def paired_cosines(
    left: NDArray[np.floating[Any]], right: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return the cosine of every row of `left` and the same row of `right`, float64 (n,)."""
    products = np.einsum("ne,ne->n", left, right).astype(np.float64)
    found: NDArray[np.float64] = products / squared_steps(left)
    return found


def nearest(
    queries: NDArray[np.floating[Any]],
    keys: NDArray[np.floating[Any]],
    count: int,
    *,
    block_numbers: int = BLOCK_NUMBERS,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the keys with the highest cosines, best first; among equals the lower row first.

    O(n * K * E) time; memory about `block_numbers` numbers beside the result.

    Args:
        queries: Vectors in steps, (n, E).
        keys: Vectors in steps of the same precision, (K, E).
        count: How many; all of them where there are fewer.
        block_numbers: Cosines that exist at once. The result does not depend on it.

    Returns:
        Rows of `keys`, int64[n, k], and cosines, float64[n, k].
    """
    count = min(count, len(keys))
    found = np.zeros((len(queries), count), dtype=np.int64)
    close = np.zeros((len(queries), count), dtype=np.float64)
    if not count:
        return found, close
    scale = squared_steps(queries)
    for rows, tiles in _tiled(queries, keys, block_numbers):
        # The best `count` keys lie in the `count` tiles whose best keys are best, the lower tile
        # first among equals: each of those holds a key that goes before all keys of the others.
        best = tiles.max(axis=2)
        chosen = np.argsort(-best, axis=1, kind="stable")[:, :count]
        chosen.sort(axis=1)
        inside = np.take_along_axis(tiles, chosen[:, :, None], axis=1)  # (n, count, TILE)
        ids = (chosen[:, :, None] * TILE + np.arange(TILE)).reshape(len(chosen), -1)
        inside = inside.reshape(len(chosen), -1)
        order = np.argsort(-inside, axis=1, kind="stable")[:, :count]
        found[rows] = np.take_along_axis(ids, order, axis=1)
        close[rows] = np.take_along_axis(inside, order, axis=1).astype(np.float64) / scale
    return found, close


def sparsemax(
    queries: NDArray[np.floating[Any]],
    keys: NDArray[np.floating[Any]],
    *,
    temperature: float = 1.0,
    block_numbers: int = BLOCK_NUMBERS,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the sparsemax of every query's cosines to all keys, as compressed rows.

    The projection of `cosines / temperature` onto the simplex: `max(z - tau, 0)` with the `tau`
    that makes the sum 1. Exact: no key is left out beforehand.

    Args:
        queries: Vectors in steps, (n, E).
        keys: Vectors in steps of the same precision, (K, E), K > 0.
        temperature: What cosines are divided by, above 0; the lower, the fewer keys.
        block_numbers: Cosines that exist at once. The result does not depend on it.

    Returns:
        indptr int64[n + 1], rows of `keys` int64[nnz] ascending in each row, weights float32[nnz].

    Source: Martins and Astudillo, From Softmax to Sparsemax, arXiv:1602.02068, algorithm 1.
    """
    scale = squared_steps(queries) * temperature
    lengths = np.zeros(len(queries), dtype=np.int64)
    columns: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float32]] = []
    for rows, tiles in _tiled(queries, keys, block_numbers):
        best = tiles.max(axis=2).astype(np.float64) / scale
        # More keys can only raise tau, so tau of some of them bounds it from below.
        floor = _threshold(best)
        row, tile = np.nonzero(best > floor[:, None])
        inside = tiles[row, tile].astype(np.float64) / scale  # (pairs, TILE)
        pair, place = np.nonzero(inside > floor[row, None])
        row, key, value = row[pair], tile[pair] * TILE + place, inside[pair, place]
        counts = np.bincount(row, minlength=len(floor))
        table = np.full((len(floor), int(counts.max())), -np.inf)
        table[row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)] = value
        weight = value - _threshold(table)[row]
        kept = weight > 0
        lengths[rows] = np.bincount(row[kept], minlength=len(floor))
        columns.append(key[kept])
        weights.append(weight[kept].astype(np.float32))
    indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    if not columns:
        return indptr, np.zeros(0, np.int64), np.zeros(0, np.float32)
    return indptr, np.concatenate(columns), np.concatenate(weights)


def _threshold(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return tau of every row, float64[n]; -inf entries are no keys.

    Only sorting and sums from left to right: a row's tau does not depend on the others, nor on how
    many -inf stand behind its numbers.
    """
    falling = -np.sort(-values, axis=1)
    over = np.cumsum(falling, axis=1) - 1.0
    place = np.arange(1, values.shape[1] + 1)
    with np.errstate(invalid="ignore"):  # -inf + inf behind the last number
        support = np.where(np.isfinite(falling), falling * place > over, False).sum(axis=1)
    taken = np.take_along_axis(over, support[:, None] - 1, axis=1)[:, 0]
    found: NDArray[np.float64] = taken / support
    return found


def _tiled(
    queries: NDArray[np.floating[Any]], keys: NDArray[np.floating[Any]], block_numbers: int
) -> Iterator[tuple[slice, NDArray[np.floating[Any]]]]:
    """Yield blocks of products as (rows, (n, tiles, TILE)); what pads the last tile is -inf."""
    tiles = -(-len(keys) // TILE)
    step = max(1, block_numbers // (tiles * TILE))
    turned = np.zeros((queries.shape[1], tiles * TILE), dtype=keys.dtype)
    turned[:, : len(keys)] = keys.T
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        products = queries[rows] @ turned
        products[:, len(keys) :] = -np.inf
        yield rows, products.reshape(-1, tiles, TILE)
