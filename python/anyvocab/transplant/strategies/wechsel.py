"""WECHSEL: rows from the nearest source tokens, weighted by softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.transplant.plan import Combination, Side
from anyvocab.transplant.spaces import (
    SpaceName,
    check_space,
    known_sources,
    needs_of_space,
    space_of,
)
from anyvocab.transplant.spaces.exact import BLOCK_NUMBERS, nearest
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.transplant.context import Context

__all__ = ["Wechsel", "softmax"]


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax of every row; -inf has no share."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


@strategy("wechsel", needs=needs_of_space)
@dataclass(frozen=True)
class Wechsel:
    """The nearest source tokens' rows weighted by softmax(cosine / temperature) (WECHSEL).

    Source: Minixhofer, Paischer and Rekabsaz, arXiv:2112.06598, with its neighbours and
    temperature. The published space is fastText in two languages aligned by a dictionary; here one
    space holds both vocabularies.

    Attributes:
        neighbours: How many source tokens.
        temperature: What cosines are divided by.
        space: `corpus`, `spelling` or `encoder`.
    """

    neighbours: int = 10
    temperature: float = 0.1
    space: SpaceName = "corpus"

    def __post_init__(self) -> None:
        check_space(self.space)
        if self.neighbours < 1 or not self.temperature > 0.0:
            raise errors.build(
                errors.InvalidValue,
                f"neighbours must be at least 1 and temperature above 0, "
                f"got {self.neighbours} and {self.temperature}",
                field="options",
            )

    def rows(
        self,
        context: Context,
        side: Side,
        ids: NDArray[np.int64],
        *,
        block_numbers: int = BLOCK_NUMBERS,
    ) -> Combination:
        """Return convex combinations of source rows; empty where the space knows nothing."""
        space = space_of(context, side, self.space)
        sources = known_sources(context)
        queries, keys = space.target(ids), space.source(sources)
        sources, keys = sources[keys.any(axis=1)], keys[keys.any(axis=1)]
        known = np.flatnonzero(queries.any(axis=1))
        if not len(known) or not len(sources):
            return Combination.empty(len(ids))
        found, close = nearest(queries[known], keys, self.neighbours, block_numbers=block_numbers)
        weights = softmax(close / self.temperature)
        made = Combination(
            np.arange(len(known) + 1, dtype=np.int64) * found.shape[1],
            sources[found].ravel().astype(np.int32),
            weights.ravel().astype(np.float32),
        )
        return Combination.scattered(len(ids), [(known, made)])
