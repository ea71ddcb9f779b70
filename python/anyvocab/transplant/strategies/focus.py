"""FOCUS: rows from all anchors at once, weighted by sparsemax in an auxiliary space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.transplant.plan import Combination, Side
from anyvocab.transplant.spaces import SpaceName, check_space, needs_of_space, space_of
from anyvocab.transplant.spaces.exact import BLOCK_NUMBERS, sparsemax
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.transplant.context import Context

__all__ = ["Focus"]


@strategy("focus", needs=needs_of_space)
@dataclass(frozen=True)
class Focus:
    """Anchors' rows weighted by the sparsemax of their cosines in a corpus space (FOCUS).

    Source: Dobler and de Melo, arXiv:2305.14481. The published space is fastText on the target's
    tokens; here it is :class:`anyvocab.transplant.spaces.corpus.CorpusSpace`, which gives every
    token a vector, so none is drawn at random.

    Attributes:
        temperature: What cosines are divided by; 1 as published. The lower, the fewer anchors.
        space: `corpus`, `spelling` or `encoder`.
    """

    temperature: float = 1.0
    space: SpaceName = "corpus"

    def __post_init__(self) -> None:
        check_space(self.space)
        if not self.temperature > 0.0:
            raise errors.build(
                errors.InvalidValue, f"must be above 0, got {self.temperature}", field="temperature"
            )

    def rows(
        self,
        context: Context,
        side: Side,
        ids: NDArray[np.int64],
        *,
        block_numbers: int = BLOCK_NUMBERS,
    ) -> Combination:
        """Return convex combinations of anchors; empty rows where the space knows nothing.

        O(n * A * E) time for A anchors; `block_numbers` cosines exist at once.
        """
        space = space_of(context, side, self.space)
        targets, sources = context.anchors
        queries, keys = space.target(ids), space.target(targets)
        known = np.flatnonzero(queries.any(axis=1))
        if not len(known) or not len(keys):
            return Combination.empty(len(ids))
        indptr, chosen, weights = sparsemax(
            queries[known], keys, temperature=self.temperature, block_numbers=block_numbers
        )
        made = Combination(indptr, sources[chosen].astype(np.int32), weights)
        return Combination.scattered(len(ids), [(known, made)])
