"""Rows that a rotation makes of donor rows: angles between tokens stay as the donor has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from anyvocab import errors
from anyvocab.transplant.donated import bridge, moments, predicted
from anyvocab.transplant.plan import Side
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context
    from anyvocab.transplant.dense import Predicted

__all__ = ["Procrustes"]


@strategy("procrustes", needs=("donor",))
@dataclass(frozen=True)
class Procrustes:
    """The donor's deviation from its mean, rotated onto the source's (Schoenemann, 1966).

    Where widths differ the wider model's rows are first projected to as many principal axes as the
    other is wide. O(N D^2 + D^3).

    Attributes:
        scale: "anchors": one factor that brings the donor's lengths to the source's, by least
            squares; "none": lengths stay the donor's.
    """

    scale: Literal["anchors", "none"] = "anchors"

    def __post_init__(self) -> None:
        if self.scale not in ("anchors", "none"):
            raise errors.build(
                errors.InvalidValue, f"must be anchors or none, got {self.scale!r}", field="scale"
            )

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Predicted:
        """Return rotated donor rows; none where the donor has none."""
        import torch

        pairs = bridge(context, side)
        wide, narrow = pairs.donor.width, pairs.source.width
        found = moments(pairs, "mean", both=narrow > wide)
        across, energy = found.across, found.within.trace()
        before = after = None
        if wide > narrow:
            before = _axes(found.within, narrow)  # (D_donor, D)
            across, energy = before.mT @ across, (before.mT @ found.within @ before).trace()
        elif narrow > wide:
            after = _axes(found.source_within, wide)  # (D, D_donor)
            across = across @ after
        left, strengths, right = torch.linalg.svd(across)  # square
        rotation = left @ right
        if self.scale == "anchors" and float(energy) > 0:
            rotation *= strengths.sum() / energy
        if before is not None:
            rotation = before @ rotation
        if after is not None:
            rotation = rotation @ after.mT
        return predicted(context, pairs, ids, rotation, (found.donor_mean, found.source_mean))


def _axes(second: Tensor, count: int) -> Tensor:
    """Return the `count` principal axes of a second moment, (D, count), strongest first."""
    import torch

    _, vectors = torch.linalg.eigh(second)
    return vectors[:, -count:].flip(1)
