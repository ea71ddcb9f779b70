"""CLP-Transfer: rows from all anchors, weighted by their cosines, as published or tamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from anyvocab import errors
from anyvocab.transplant.plan import Combination, Matrix, Side
from anyvocab.transplant.spaces import SpaceName, check_space, needs_of_space, space_of
from anyvocab.transplant.spaces.exact import BLOCK_NUMBERS, cosines, nearest, squared_steps
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context

__all__ = ["CLP"]

ROWS = 4096  # anchors' rows read at once


@strategy("clp", needs=needs_of_space)
@dataclass(frozen=True)
class CLP:
    """All anchors' rows weighted by their cosines, divided by the cosines' sum (CLP-Transfer).

    Source: Ostendorff and Rehm, arXiv:2301.09626. As published the weights are nearly flat, some
    are negative, and their sum can be close to 0: rows then explode. Where the mean cosine of a
    token and the anchors is not above `smallest_mean`, its row is left to the fallback. The
    published space is a smaller model with the target's vocabulary; here it is one of
    :mod:`anyvocab.transplant.spaces`.

    Attributes:
        negative: `keep` as published, or `clamp` to 0.
        neighbours: Only so many of the nearest anchors; 0: all of them, as published.
        space: `corpus`, `spelling` or `encoder`.
        smallest_mean: Of the cosines that are summed.
    """

    negative: Literal["keep", "clamp"] = "keep"
    neighbours: int = 0
    space: SpaceName = "corpus"
    smallest_mean: float = 1e-3

    def __post_init__(self) -> None:
        check_space(self.space)
        if self.negative not in ("keep", "clamp"):
            raise errors.build(
                errors.InvalidValue,
                f"must be keep or clamp, got {self.negative!r}",
                field="negative",
            )
        if self.neighbours < 0 or not self.smallest_mean > 0.0:
            raise errors.build(
                errors.InvalidValue,
                f"neighbours must be at least 0 and smallest_mean above 0, "
                f"got {self.neighbours} and {self.smallest_mean}",
                field="options",
            )

    def rows(
        self,
        context: Context,
        side: Side,
        ids: NDArray[np.int64],
        *,
        block_numbers: int = BLOCK_NUMBERS,
    ) -> Combination | Tensor:
        """Return a combination where `neighbours` is set, else rows.

        Weights of all anchors would be a dense (n, A) matrix, which is not stored: with `keep`, the
        sum over anchors is taken once for all rows, as cosines are linear in the new token's
        vector; with `clamp`, a block of weights at a time.
        """
        space = space_of(context, side, self.space)
        targets, sources = context.anchors
        queries, keys = space.target(ids), space.target(targets)
        if self.neighbours:
            return self._nearest(queries, keys, sources, block_numbers)
        if self.negative == "keep":
            return self._all(queries, keys, sources, context.matrices[side])
        return self._clamped(queries, keys, sources, context.matrices[side], block_numbers)

    def _nearest(
        self,
        queries: NDArray[np.floating],
        keys: NDArray[np.floating],
        sources: NDArray[np.int64],
        block_numbers: int,
    ) -> Combination:
        found, close = nearest(queries, keys, self.neighbours, block_numbers=block_numbers)
        if self.negative == "clamp":
            close = np.maximum(close, 0.0)
        total = close.sum(axis=1)
        known = np.flatnonzero(total > self.smallest_mean * found.shape[1])
        made = Combination(
            np.arange(len(known) + 1, dtype=np.int64) * found.shape[1],
            sources[found[known]].ravel().astype(np.int32),
            (close[known] / total[known, None]).ravel().astype(np.float32),
        )
        return Combination.scattered(len(queries), [(known, made)])

    def _all(
        self,
        queries: NDArray[np.floating],
        keys: NDArray[np.floating],
        sources: NDArray[np.int64],
        matrix: Matrix,
    ) -> Tensor:
        import torch

        summed = torch.zeros(keys.shape[1], matrix.width, dtype=torch.float64)  # (E, D)
        for start in range(0, len(sources), ROWS):
            part = torch.from_numpy(keys[start : start + ROWS].astype(np.float64))
            summed += part.mT @ matrix.take(sources[start : start + ROWS]).double()
        wide = queries.astype(np.float64)
        total = wide @ keys.sum(axis=0, dtype=np.float64)
        # Both are dot products in steps: their quotient is that of the cosines.
        return self._divided(
            torch.from_numpy(wide) @ summed, total, len(keys) * squared_steps(queries)
        )

    def _clamped(
        self,
        queries: NDArray[np.floating],
        keys: NDArray[np.floating],
        sources: NDArray[np.int64],
        matrix: Matrix,
        block_numbers: int,
    ) -> Tensor:
        import torch

        summed = torch.zeros(len(queries), matrix.width, dtype=torch.float64)
        total = np.zeros(len(queries))
        step = max(1, block_numbers // max(1, len(queries)))
        for start in range(0, len(sources), step):
            rows = matrix.take(sources[start : start + step]).double()
            weights = np.maximum(cosines(queries, keys[start : start + step]), 0.0)
            summed += torch.from_numpy(weights) @ rows
            total += weights.sum(axis=1)
        return self._divided(summed, total, float(len(keys)))

    def _divided(self, summed: Tensor, total: NDArray[np.float64], largest: float) -> Tensor:
        """Return rows; NaN where the weights' sum is too small a share of the largest there is."""
        import torch

        sound = total > self.smallest_mean * largest
        rows = summed / torch.from_numpy(np.where(sound, total, 1.0))[:, None]
        rows[torch.from_numpy(~sound)] = torch.nan
        return rows.float()
