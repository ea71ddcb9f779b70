"""Floors that every other strategy must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.transplant.plan import Matrix, Side
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context

__all__ = ["Hewitt", "MeanRow", "Random", "Zero", "mean_row", "moments"]

BLOCK = 4096  # source rows read at once


def moments(matrix: Matrix, ids: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
    """Return mean (D,) and covariance (D, D) of some rows, float64, divided by their number."""
    import torch

    mean = torch.zeros(matrix.width, dtype=torch.float64)
    second = torch.zeros(matrix.width, matrix.width, dtype=torch.float64)
    for start in range(0, len(ids), BLOCK):
        rows = matrix.take(ids[start : start + BLOCK]).double()
        mean += rows.sum(dim=0)
        second += rows.mT @ rows
    mean /= len(ids)
    return mean, second / len(ids) - torch.outer(mean, mean)


def mean_row(context: Context, side: Side, ids: NDArray[np.integer] | None = None) -> Tensor:
    """Return the mean of some source rows, float64 (D,); of all that stand for text if left out."""
    import torch

    matrix = context.matrices[side]
    ids = _trained(context) if ids is None else ids
    mean = torch.zeros(matrix.width, dtype=torch.float64)
    for start in range(0, len(ids), BLOCK):
        mean += matrix.take(ids[start : start + BLOCK]).double().sum(dim=0)
    return mean / max(1, len(ids))


def _trained(context: Context) -> NDArray[np.int64]:
    """Return the source rows that stand for text, so that holes and padding do not count."""
    tokens = context.source_tokens[: context.source_rows]
    return np.array([id for id, token in enumerate(tokens) if token], dtype=np.int64)


@strategy("mean-row")
@dataclass(frozen=True)
class MeanRow:
    """The mean of all source rows, the same for every token."""

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Tensor:
        """Return the same row for each id."""
        return mean_row(context, side).float().expand(len(ids), -1).clone()


@strategy("zero")
@dataclass(frozen=True)
class Zero:
    """Rows of zeros: the ZeroEmbed baseline of arXiv:2506.06607."""

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Tensor:
        """Return zero rows."""
        import torch

        return torch.zeros(len(ids), context.matrices[side].width)


@strategy("random")
@dataclass(frozen=True)
class Random:
    """Normal rows with the mean and the standard deviation of all source numbers, seeded.

    Attributes:
        scale: Times the standard deviation.
    """

    scale: float = 1.0

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Tensor:
        """Draw a row for each id; a function of the seed, the side and the id."""
        mean, covariance = moments(context.matrices[side], _trained(context))
        spread = float((covariance.diagonal().mean() + mean.var(correction=0)).sqrt())
        return float(mean.mean()) + self.scale * spread * _normal(context, side, ids)


@strategy("hewitt")
@dataclass(frozen=True)
class Hewitt:
    """Normal rows around the mean row with a small share of the rows' covariance, seeded.

    Source: Hewitt, Initializing New Word Embeddings for Pretrained Language Models, 2021. The new
    tokens then change the old ones' probabilities by a bounded factor.

    Attributes:
        share: Of the covariance.
        ridge: Added to its diagonal, as a share of the diagonal's mean, so that it has a root
            when there are fewer rows than columns.
    """

    share: float = 1e-5
    ridge: float = 1e-6

    def __post_init__(self) -> None:
        if self.share < 0 or self.ridge <= 0:
            raise errors.build(
                errors.InvalidValue,
                f"share must be at least 0 and ridge above 0, got {self.share} and {self.ridge}",
                field="options",
            )

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Tensor:
        """Draw a row for each id; a function of the seed, the side and the id."""
        import torch

        mean, covariance = moments(context.matrices[side], _trained(context))
        floor = self.ridge * covariance.diagonal().mean().clamp_min(1e-30)
        covariance += floor * torch.eye(len(mean), dtype=torch.float64)
        root = torch.linalg.cholesky(covariance) * self.share**0.5
        return (mean + _normal(context, side, ids).double() @ root.mT).float()


def _normal(context: Context, side: Side, ids: NDArray[np.int64]) -> Tensor:
    """Return standard normal rows; row `id` does not depend on which others are asked for."""
    import torch

    width = context.matrices[side].width
    rows = np.empty((len(ids), width), dtype=np.float32)
    for i, id in enumerate(ids.tolist()):
        generator = np.random.Generator(np.random.PCG64([context.seed, side == "output", id]))
        rows[i] = generator.standard_normal(width, dtype=np.float32)
    return torch.from_numpy(rows)
