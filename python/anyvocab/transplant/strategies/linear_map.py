"""Rows that a linear map makes of donor rows: one matrix for the whole vocabulary, fitted once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.transplant.donated import About, Moments, bridge, check_about, moments, predicted
from anyvocab.transplant.plan import Side
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context
    from anyvocab.transplant.dense import Predicted

__all__ = ["LinearMap", "generalised_cross_validation"]

# Ridges that are tried, as multiples of the mean eigenvalue of the donor's second moments. Below
# the first, float32 products have no more to say.
RIDGES = np.logspace(-5.0, 2.0, 43)


@strategy("linear-map", needs=("donor",))
@dataclass(frozen=True)
class LinearMap:
    """The donor's row times the matrix that best maps donor anchors to source anchors (ridge).

    Closed form: O(N D_donor (D_donor + D) + D_donor^3). N anchors determine it well only where they
    outnumber D_donor several times.

    Attributes:
        ridge: Added to the normal equations, as a multiple of the mean of their diagonal; None: the
            one of `RIDGES` with the least generalised cross-validation error (Golub, Heath, Wahba,
            1979).
        about: "mean": the map is of deviations from the anchors' mean rows.
    """

    ridge: float | None = None
    about: About = "mean"

    def __post_init__(self) -> None:
        if self.ridge is not None and not self.ridge > 0:
            raise errors.build(
                errors.InvalidValue,
                f"must be above 0, got {self.ridge}",
                field="ridge",
                fix="leave it out to have it chosen by cross-validation",
            )
        check_about(self.about)

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Predicted:
        """Return mapped donor rows; none where the donor has none."""
        import torch

        pairs = bridge(context, side)
        found = moments(pairs, self.about)
        values, vectors = torch.linalg.eigh(found.within)  # ascending, (D_donor,)
        values = values.clamp_min(0.0)
        rotated = vectors.mT @ found.across  # (D_donor, D)
        scale = max(float(values.mean()), float(torch.finfo(torch.float64).tiny))
        if self.ridge is None:
            errors_ = generalised_cross_validation(values, rotated, found, scale * RIDGES)
            ridge = scale * float(RIDGES[int(np.argmin(errors_))])
        else:
            ridge = scale * self.ridge
        weights = vectors @ (rotated / (values + ridge)[:, None])  # (D_donor, D)
        return predicted(context, pairs, ids, weights, (found.donor_mean, found.source_mean))


def generalised_cross_validation(
    values: Tensor, rotated: Tensor, found: Moments, ridges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return, for each ridge, N |residual|^2 / (N - degrees of freedom)^2, float64.

    Args:
        values: Eigenvalues of `found.within`, (D_donor,).
        rotated: Its eigenvectors' transpose times `found.across`, (D_donor, D).
        found: Moments of the anchors.
        ridges: Added to the eigenvalues.
    """
    power = (rotated**2).sum(dim=1).numpy()
    s = values.numpy()
    made = []
    for ridge in ridges:
        residual = found.energy - float((power * (s + 2 * ridge) / (s + ridge) ** 2).sum())
        freedom = found.count - float((s / (s + ridge)).sum()) - 1.0
        # No anchors left over: the map can reproduce anything, and its error says nothing.
        made.append(found.count * max(residual, 0.0) / freedom**2 if freedom > 0.5 else np.inf)
    return np.array(made)
