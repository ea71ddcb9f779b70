"""Rows of the anchors that are nearest to the donor's row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from anyvocab import errors
from anyvocab.transplant.donated import About, bridge, check_about, combined
from anyvocab.transplant.plan import Combination, Side
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context

__all__ = ["CommonInterpolation", "Knn"]

STEP = 256  # rows that are compared with all anchors at once: 30 MB of scores for 30k anchors


@strategy("knn", needs=("donor",))
@dataclass(frozen=True)
class Knn:
    """The nearest anchors in donor space by cosine, weighted by a softmax.

    Attributes:
        k: How many.
        temperature: What cosines are divided by.
        about: "mean": cosines are of deviations from the anchors' mean.
    """

    k: int = 10
    temperature: float = 0.1
    about: About = "mean"

    def __post_init__(self) -> None:
        _check(self.k)
        if not self.temperature > 0:
            raise errors.build(
                errors.InvalidValue, f"must be above 0, got {self.temperature}", field="temperature"
            )
        check_about(self.about)

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Combination:
        """Return combinations of anchors with weights above 0 that sum to 1."""
        import torch

        pairs = bridge(context, side)
        anchors = pairs.of_donor()
        mean = torch.zeros(anchors.shape[1])
        if self.about == "mean":
            mean = pairs.means()[0].float()
        anchors = _unit_(anchors.sub_(mean))
        k = min(self.k, len(anchors))

        def solve(rows: Tensor) -> tuple[Tensor, Tensor]:
            cosines, found = (_unit_(rows - mean) @ anchors.mT).topk(k, dim=1)
            return found, torch.softmax(cosines / self.temperature, dim=1)

        return combined(context, pairs, ids, solve, step=STEP, stage=f"knn {side}")


@strategy("common-interpolation", needs=("donor",))
@dataclass(frozen=True)
class CommonInterpolation:
    """The nearest anchors in donor space, weighted so that they meet the donor's row.

    The weights are "barycentric": least squares among those that sum to 1; "least-squares": any,
    the shortest where several are best; "distance": one over the distance, summing to 1.

    Attributes:
        k: How many.
        weights: How they are weighted.
        metric: What is near, and what "distance" measures: 1 - cosine for "cosine".
    """

    k: int = 16
    weights: Literal["barycentric", "least-squares", "distance"] = "barycentric"
    metric: Literal["euclidean", "cosine"] = "euclidean"

    def __post_init__(self) -> None:
        _check(self.k)
        for field, value, known in (
            ("weights", self.weights, ("barycentric", "least-squares", "distance")),
            ("metric", self.metric, ("euclidean", "cosine")),
        ):
            if value not in known:
                raise errors.build(
                    errors.InvalidValue, f"must be {' or '.join(known)}, got {value!r}", field=field
                )

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Combination:
        """Return combinations of anchors."""
        pairs = bridge(context, side)
        anchors = pairs.of_donor()
        norms = anchors.norm(dim=1)
        k = min(self.k, len(anchors))

        def solve(rows: Tensor) -> tuple[Tensor, Tensor]:
            scores = rows @ anchors.mT  # (n, N), made in place
            if self.metric == "cosine":
                scores /= norms.clamp_min(1e-30)
            else:
                scores -= norms**2 / 2  # the order is that of falling distance
            found = scores.topk(k, dim=1).indices
            near = anchors[found].double()  # (n, k, D)
            if self.weights == "least-squares":
                return found, _least_squares(near, rows.double())
            if self.weights == "barycentric":
                return found, _barycentric(near, rows.double())
            return found, self._by_distance(near, rows.double())

        return combined(context, pairs, ids, solve, step=STEP, stage=f"common-interpolation {side}")

    def _by_distance(self, near: Tensor, rows: Tensor) -> Tensor:
        import torch

        if self.metric == "cosine":
            distance = 1.0 - torch.cosine_similarity(near, rows[:, None], dim=2)
        else:
            distance = (near - rows[:, None]).norm(dim=2)
        # What lies at the row itself has all the weight.
        inverse = 1.0 / distance.clamp_min(1e-12)
        return inverse / inverse.sum(dim=1, keepdim=True)


def _barycentric(near: Tensor, rows: Tensor) -> Tensor:
    """Return weights, (n, k), that sum to 1 and bring `near`, (n, k, D), closest to `rows`."""
    import torch

    offsets = near - rows[:, None]
    gram = torch.bmm(offsets, offsets.mT)  # (n, k, k)
    # Where there are more anchors than columns many weights are best: this takes small ones.
    ridge = 1e-9 * gram.diagonal(dim1=1, dim2=2).mean(dim=1) + 1e-30
    gram += ridge[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype)
    solved = torch.linalg.solve(gram, torch.ones_like(gram[:, :, :1]))[:, :, 0]
    return solved / solved.sum(dim=1, keepdim=True)


def _least_squares(near: Tensor, rows: Tensor) -> Tensor:
    """Return the shortest of the weights, (n, k), that bring `near` closest to `rows`."""
    import torch

    gram = torch.bmm(near, near.mT)  # (n, k, k)
    inverse = torch.linalg.pinv(gram, rtol=1e-12, hermitian=True)
    return torch.bmm(inverse, torch.bmm(near, rows[:, :, None]))[:, :, 0]


def _unit_(rows: Tensor) -> Tensor:
    """Scale rows to length 1 in place; rows of zero stay zero."""
    return rows.div_(rows.norm(dim=1, keepdim=True).clamp_min(1e-30))


def _check(k: int) -> None:
    if k < 1:
        raise errors.build(errors.InvalidValue, f"must be at least 1, got {k}", field="k")
