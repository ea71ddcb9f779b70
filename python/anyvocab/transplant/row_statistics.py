"""What the rows of a finished matrix look like beside the source's: lengths, directions, outliers.

Numbers about rows notice mistakes (zeros, sums where means belong, a matrix that was read askew).
They cannot show that a row is right: a mean of pieces has an ordinary length and may mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab.transplant.identity import Origin

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.plan import Matrix, SidePlan

__all__ = ["OUTLYING", "RowStatistics", "Suspect", "row_statistics"]

CHUNK_NUMBERS = 1 << 22  # float32 numbers that exist at once: 16 MiB
NEAREST_PRODUCTS = 1 << 36  # multiplications spent on nearest rows: some seconds on one core
OUTLYING = 6.0  # robust standard deviations: of 100,000 normal numbers 0.0002 are further out
FEW = 32  # rows of an origin: fewer have no distribution of their own
_SIGMA = 1.4826  # times the median deviation: the standard deviation of a normal distribution
_FAR = 99.0  # what a row of zeros counts as
_IDLE = (Origin.UNUSED, Origin.QUIET)  # odd by design: nothing samples them


@dataclass(frozen=True)
class Suspect:
    """A new row unlike the rows of the source and unlike the rows that were made as it was.

    Attributes:
        id: Its target id.
        norm_score: How many robust standard deviations the logarithm of its length is away from
            the median of the source's rows, or of the rows of its origin where that is less.
        cosine_score: The same for its cosine with the source's mean row.
    """

    id: int
    norm_score: float
    cosine_score: float

    @property
    def score(self) -> float:
        """The larger of the two, without its sign."""
        return max(abs(self.norm_score), abs(self.cosine_score))


@dataclass(frozen=True, eq=False)
class RowStatistics:
    """Lengths and directions of the rows of one side.

    Attributes:
        source_norms: float32[V_src]: Euclidean lengths of the source's rows.
        source_cosines: float32[V_src]: their cosines with the source's mean row.
        norms: float32[R]: lengths of the new rows.
        cosines: float32[R]: their cosines with the source's mean row.
        nearest: int32[R]: the source row of the largest cosine, for rows that are no copies; -1
            where it was not looked for.
        nearest_cosines: float32[R]: that cosine; NaN where it was not looked for.
    """

    source_norms: NDArray[np.float32]
    source_cosines: NDArray[np.float32]
    norms: NDArray[np.float32]
    cosines: NDArray[np.float32]
    nearest: NDArray[np.int32]
    nearest_cosines: NDArray[np.float32]

    def unlike_source(self, side: SidePlan, *, outlying: float = OUTLYING) -> tuple[int, int]:
        """Return how many made rows are unlike the source's, and how many were made.

        Where these are most of them the way of making rows is at fault, or rather at work: means
        are shorter than what they are means of.
        """
        made = _made(side)
        far = np.maximum(
            np.abs(_robust(_log(self.norms[made]), _log(self.source_norms))),
            np.abs(_robust(self.cosines[made], self.source_cosines)),
        )
        return int((far >= outlying).sum()), len(made)

    def scores(self, side: SidePlan) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return robust z-scores of every row by length and by direction, float32[R] each.

        Of the score among the source's rows and the one among the rows of the same origin the
        smaller counts. Copies, and rows that are odd by design, have 0.

        Args:
            side: The plan they were made by.
        """
        made = _made(side)
        found = []
        for own, theirs in (
            (_log(self.norms), _log(self.source_norms)),
            (self.cosines, self.source_cosines),
        ):
            scores = np.zeros(len(side), dtype=np.float32)
            scores[made] = _robust(own[made], theirs)
            for origin in np.unique(side.origin[made]):
                group = made[side.origin[made] == origin]
                if len(group) >= FEW:
                    among = _robust(own[group], own[group])
                    nearer = np.abs(among) < np.abs(scores[group])
                    scores[group] = np.where(nearer, among, scores[group])
            found.append(scores)
        return found[0], found[1]

    def suspects(self, side: SidePlan, *, outlying: float = OUTLYING) -> list[Suspect]:
        """Return the made rows that are unlike the others, the most unlike first.

        Copies are left out, whatever they look like: they are the source's. So are rows that are
        odd by design, those of padding and of twins.

        Args:
            side: The plan they were made by.
            outlying: From which score on.
        """
        by_norm, by_cosine = self.scores(side)
        score = np.maximum(np.abs(by_norm), np.abs(by_cosine))
        ids = np.flatnonzero(score >= outlying)
        ids = ids[np.argsort(-score[ids], kind="stable")]
        return [Suspect(int(i), float(by_norm[i]), float(by_cosine[i])) for i in ids]

    def summary(self, side: SidePlan) -> dict[str, Any]:
        """Return medians by origin and the number of outliers, ready for JSON."""
        found: dict[str, Any] = {"source": _middle(self.source_norms)}
        for origin in Origin:
            mine = self.norms[side.origin == origin]
            if len(mine):
                found[origin.name.lower()] = _middle(mine)
        unlike, made = self.unlike_source(side)
        return {
            "median_norms": found,
            "made": made,
            "unlike_source": unlike,
            "suspects": len(self.suspects(side)),
        }


def row_statistics(
    before: Matrix, after: Matrix, side: SidePlan, *, products: int = NEAREST_PRODUCTS
) -> RowStatistics:
    """Return what the rows of a finished matrix look like.

    Three passes over the source's rows and one over the new ones, in float32 and in chunks. The
    nearest source row takes `made rows * source rows * width` products and is left out where these
    are more than `products`.

    Args:
        before: The source's matrix.
        after: The new one.
        side: The plan it was made by.
        products: What may be spent on nearest rows.
    """
    import torch

    total = torch.zeros(before.width, dtype=torch.float64)
    for _, rows in _chunks(before):
        total += rows.sum(dim=0, dtype=torch.float64)
    mean = (total / max(1, before.rows)).float()
    direction = mean / mean.norm().clamp_min(torch.finfo(torch.float32).tiny)
    source_norms, source_cosines = _looked_at(before, direction)
    norms, cosines = _looked_at(after, direction)
    nearest = np.full(after.rows, -1, dtype=np.int32)
    nearest_cosines = np.full(after.rows, np.nan, dtype=np.float32)
    made = _made(side)
    made = made[norms[made] > 0]
    if len(made) and len(made) * before.rows * before.width <= products:
        nearest[made], nearest_cosines[made] = _nearest(before, after, made)
    return RowStatistics(source_norms, source_cosines, norms, cosines, nearest, nearest_cosines)


def _made(side: SidePlan) -> NDArray[np.int64]:
    """Return the rows that are neither copies nor odd by design, ascending."""
    return np.flatnonzero(~side.verbatim() & ~np.isin(side.origin, _IDLE))


def _chunks(matrix: Matrix) -> Iterator[tuple[int, Tensor]]:
    step = max(1, CHUNK_NUMBERS // max(1, matrix.width))
    for start in range(0, matrix.rows, step):
        yield start, matrix.chunk(start, min(matrix.rows, start + step)).float()


def _looked_at(
    matrix: Matrix, direction: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    norms = np.zeros(matrix.rows, dtype=np.float32)
    cosines = np.zeros(matrix.rows, dtype=np.float32)
    for start, rows in _chunks(matrix):
        length = rows.norm(dim=1)  # (n, D) -> (n,)
        along = (rows @ direction) / length.clamp_min(1e-30)  # a row of zeros has cosine 0
        norms[start : start + len(rows)] = length.numpy()
        cosines[start : start + len(rows)] = along.numpy()
    return norms, cosines


def _nearest(
    before: Matrix, after: Matrix, ids: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    import torch

    best = np.full(len(ids), -2.0, dtype=np.float32)
    place = np.full(len(ids), -1, dtype=np.int32)
    step = max(1, CHUNK_NUMBERS // max(1, before.width))
    for first in range(0, len(ids), step):
        part = slice(first, first + step)
        mine = torch.nn.functional.normalize(after.take(ids[part]).float(), dim=1)
        for start, rows in _chunks(before):
            theirs = torch.nn.functional.normalize(rows, dim=1).T  # (D, n)
            few = max(1, CHUNK_NUMBERS // theirs.shape[1])
            for at in range(0, len(mine), few):
                values, where = (mine[at : at + few] @ theirs).max(dim=1)
                span = slice(first + at, first + at + len(values))
                better = values.numpy() > best[span]
                best[span][better] = values.numpy()[better]
                place[span][better] = where.numpy()[better] + start
    return place, best


def _log(norms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logarithms; a row of zeros has minus infinity."""
    with np.errstate(divide="ignore"):
        logarithms: NDArray[np.float32] = np.log(norms)
    return logarithms


def _robust(values: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (value - median) / (1.4826 * median deviation), within ±99; 0 without a spread."""
    usual = reference[np.isfinite(reference)]
    if not len(usual):
        return np.zeros(len(values), dtype=np.float32)
    middle = np.median(usual)
    spread = _SIGMA * float(np.median(np.abs(usual - middle)))
    if spread == 0.0:
        return np.zeros(len(values), dtype=np.float32)
    scores: NDArray[np.float32] = np.clip((values - middle) / spread, -_FAR, _FAR)
    return scores.astype(np.float32)


def _middle(values: NDArray[np.float32]) -> float:
    return round(float(np.median(values)), 6) if len(values) else 0.0
