"""Sparse counts and their truncated singular value decomposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Sparse", "factor", "unit"]

OVERSAMPLING = 16
BLOCK = 8192  # rows that are held in float64 at once


@dataclass(frozen=True, eq=False)
class Sparse:
    """A sparse matrix as its entries, sorted by row and then by column, each place once.

    Attributes:
        rows: int64[nnz].
        columns: int64[nnz].
        values: float32[nnz].
        shape: How many rows and columns.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[np.float32]
    shape: tuple[int, int]

    def turned(self) -> Sparse:
        """Return the transpose."""
        order = np.argsort(self.columns, kind="stable")  # rows stay ascending in each column
        return Sparse(self.columns[order], self.rows[order], self.values[order], self.shape[::-1])

    def times(self, dense: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the product with a dense matrix, float32 (rows, E)."""
        import torch
        from torch.nn.functional import embedding_bag

        counts = np.bincount(self.rows, minlength=self.shape[0])
        indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        product: NDArray[np.float32] = embedding_bag(
            torch.from_numpy(self.columns),
            torch.from_numpy(dense),
            torch.from_numpy(indptr),
            mode="sum",
            per_sample_weights=torch.from_numpy(self.values),
            include_last_offset=True,
        ).numpy()
        return product


def factor(
    matrix: Sparse, width: int, *, power: float, seed: int, rounds: int = 2
) -> NDArray[np.float32]:
    """Return `U * s ** power` of the leading singular values, float32 (rows, width).

    Randomised, seeded; columns beyond the matrix's rank are zero. O(nnz * width * rounds).

    Args:
        matrix: What to decompose.
        width: How many singular values.
        power: How much a direction counts: 1 keeps dot products, 0 makes all directions equal.
        seed: Of the random start.
        rounds: Power iterations.

    Source: Halko, Martinsson and Tropp, arXiv:0909.4061, algorithm 4.4, iterated on the
    column side.
    """
    found = np.zeros((matrix.shape[0], width), dtype=np.float32)
    size = min(width + OVERSAMPLING, *matrix.shape)
    if not size or not len(matrix.values):
        return found
    turned = matrix.turned()
    generator = np.random.Generator(np.random.PCG64(seed))
    basis = generator.standard_normal((matrix.shape[1], size), dtype=np.float32)
    for _ in range(rounds):
        basis = _orthonormal(turned.times(matrix.times(basis)))
    image = matrix.times(basis)  # (rows, size)
    squares, turn = _spectrum(image)
    squares, turn = squares[:width], turn[:, :width]
    found[:, : len(squares)] = image @ (turn * squares ** ((power - 1) / 2)).astype(np.float32)
    return found


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows divided by their lengths; rows of zeros stay what they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    divided: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return divided


def _orthonormal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an orthonormal basis of the columns; by the Gram matrix, as they are long and few."""
    for _ in range(2):  # the second time mends what the first one's rounding left
        squares, turn = _spectrum(vectors)
        vectors = vectors @ (turn / np.sqrt(squares)).astype(np.float32)
    return vectors


def _spectrum(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return squared singular values, falling, and right singular vectors as columns."""
    gram = np.zeros((vectors.shape[1],) * 2)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float64)
        gram += block.T @ block
    squares, turn = np.linalg.eigh(gram)
    squares, turn = squares[::-1], turn[:, ::-1]
    # What is below the noise of float32 products is no direction.
    kept = squares > squares[0] * (len(gram) * np.finfo(np.float32).eps) ** 2
    return squares[kept], turn[:, kept]
