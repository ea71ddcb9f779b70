"""Rows of a relative that has the new vocabulary already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab.transplant.dense import Predicted
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.transplant.context import Context
    from anyvocab.transplant.plan import Side

__all__ = ["Family"]


@strategy("family", needs=("family",))
@dataclass(frozen=True)
class Family:
    """The rows of a donor of the model's own family as they are, those of shared tokens too.

    For a base model that was given the new vocabulary and trained on with it: its fine-tuned
    variants take its rows. Control tokens keep the rows of the model at hand. Nothing shows that
    two models are of a family, so this is never chosen, only named.
    """

    def shared_part(self, side: Side) -> float:
        """Return 1: rows that were trained together stay together."""
        return 1.0

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Predicted:
        """Return the donor's row of each id; none where it has none.

        Raises:
            InvalidValue: There is no donor, or its rows have another width.
        """
        if context.donor is None:
            raise errors.build(
                errors.InvalidValue,
                "there is none, and this strategy needs one",
                field="donor",
                fix="give a relative that has the new vocabulary with --donor",
            )
        matrix, width = context.donor.matrices[side], context.matrices[side].width
        if matrix.width != width:
            raise errors.build(
                errors.InvalidValue,
                f"its rows have {matrix.width} numbers, the model's {width}: it is no relative",
                field="donor",
                fix="another model's rows are mapped by linear-map, procrustes or omp",
            )
        rows = context.donor.row_of[ids].astype(np.int64)
        places = np.flatnonzero(rows >= 0)
        return Predicted(len(ids), places, _Taken(matrix, rows[places]))


@dataclass(frozen=True, eq=False)
class _Taken:
    """Rows of a matrix."""

    matrix: Any
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: NDArray[np.integer[Any]]) -> Any:
        return self.matrix.take(self.ids[places]).float()
