"""What strategies with a donor start from: the tokens that donor and source both have rows for.

Each side is solved by itself, from the donor's matrix of that side to the source's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from anyvocab import errors
from anyvocab.transplant.dense import Mapped, Predicted
from anyvocab.transplant.plan import Combination, Matrix, Side

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context

__all__ = [
    "About",
    "Bridge",
    "Moments",
    "bridge",
    "check_about",
    "combined",
    "moments",
    "predicted",
]

About = Literal["mean", "origin"]
"""Whether the anchors' mean row is taken off first; rows of a model share a large part of it."""

BLOCK = 1024  # rows read at once: 8 MB at width 2048


@dataclass(frozen=True, eq=False)
class Bridge:
    """Anchors with a donor row, of one side.

    Attributes:
        donor: The donor's matrix, width D_donor.
        source: The source's matrix, width D.
        donor_ids: int64[N]: their rows in the donor.
        source_ids: int64[N]: their rows in the source.
    """

    donor: Matrix
    source: Matrix
    donor_ids: NDArray[np.int64]
    source_ids: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of anchors."""
        return len(self.donor_ids)

    def of_donor(self) -> Tensor:
        """Return the donor's rows of all anchors, float32 (N, D_donor)."""
        return _gathered(self.donor, self.donor_ids)

    def of_source(self) -> Tensor:
        """Return the source's rows of all anchors, float32 (N, D)."""
        return _gathered(self.source, self.source_ids)

    def means(self) -> tuple[Tensor, Tensor]:
        """Return the anchors' mean rows in donor and source, float64 (D_donor,) and (D,)."""
        return _mean(self.donor, self.donor_ids), _mean(self.source, self.source_ids)

    def trained(self, share: float = 0.01) -> Bridge:
        """Return the bridge without the shortest `share` of rows of either model.

        Rows of tokens that training never met stay short, and say nothing (Land and Bartolo,
        arXiv:2405.05417).
        """
        kept = np.ones(len(self), dtype=np.bool_)
        for matrix, ids in ((self.donor, self.donor_ids), (self.source, self.source_ids)):
            norms = np.concatenate([rows.norm(dim=1).numpy() for rows in _blocks(matrix, ids)])
            order = np.argsort(norms, kind="stable")
            kept[order[: int(share * len(norms))]] = False
        return Bridge(self.donor, self.source, self.donor_ids[kept], self.source_ids[kept])


def bridge(context: Context, side: Side) -> Bridge:
    """Return the anchors of a side that the donor has rows for.

    Raises:
        InvalidValue: There is no donor, or it shares no token with source and target.
    """
    if context.donor is None:
        raise errors.build(
            errors.InvalidValue,
            "there is none, and this strategy needs one",
            field="donor",
            fix="give a model that has the new vocabulary with --donor",
        )
    targets, sources = context.anchors
    rows = context.donor.row_of[targets].astype(np.int64)
    has = rows >= 0
    if not has.any():
        raise errors.build(
            errors.InvalidValue,
            f"it has rows for none of the {len(targets)} tokens that source and target share",
            field="donor",
            fix="give a model whose vocabulary is the target's",
        )
    return Bridge(context.donor.matrices[side], context.matrices[side], rows[has], sources[has])


def check_about(about: About) -> None:
    """Raise InvalidValue where `about` is neither mean nor origin."""
    if about not in ("mean", "origin"):
        raise errors.build(
            errors.InvalidValue, f"must be mean or origin, got {about!r}", field="about"
        )


def combined(
    context: Context,
    bridge: Bridge,
    ids: NDArray[np.int64],
    solve: Callable[[Tensor], tuple[Tensor, Tensor]],
    *,
    step: int,
    stage: str,
) -> Combination:
    """Return combinations of anchors; empty where the donor has no row.

    Args:
        context: What is known; told about progress.
        bridge: The anchors of a side.
        ids: Target ids.
        solve: From donor rows, float32 (n, D_donor), to anchors by place, int64 (n, k), -1 for
            none, and their weights, (n, k).
        step: Rows given to `solve` at once.
        stage: What progress calls it.
    """
    places, rows = _known(context, ids)
    lengths = np.zeros(len(ids), dtype=np.int64)
    columns, weights = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for start in range(0, len(rows), step):
        context.progress(stage, start, len(rows))
        part = slice(start, start + step)
        found, amounts = (one.numpy() for one in solve(bridge.donor.take(rows[part]).float()))
        has = found >= 0
        lengths[places[part]] = has.sum(axis=1)
        columns.append(bridge.source_ids[found[has]].astype(np.int32))
        weights.append(amounts[has].astype(np.float32))
    context.progress(stage, len(rows), len(rows))
    indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return Combination(indptr, np.concatenate(columns), np.concatenate(weights))


def predicted(
    context: Context,
    bridge: Bridge,
    ids: NDArray[np.int64],
    weights: Tensor,
    means: tuple[Tensor, Tensor],
) -> Predicted:
    """Return donor rows, mapped about their anchors' means; none where the donor has none.

    Args:
        context: What is known.
        bridge: The anchors of a side.
        ids: Target ids.
        weights: The map, (D_donor, D).
        means: What is taken off donor rows, and what is added to mapped ones.
    """
    places, rows = _known(context, ids)
    before, after = (one.float().numpy() for one in means)
    return Predicted(
        len(ids), places, Mapped(bridge.donor, rows, before, weights.float().numpy(), after)
    )


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of anchors, about their means or the origin; float64.

    Attributes:
        donor_mean: (D_donor,); zeros about the origin.
        source_mean: (D,).
        within: (D_donor, D_donor): donor rows with themselves, summed over anchors.
        across: (D_donor, D): donor rows with source rows.
        source_within: (D, D), or (0, 0) where it was not asked for.
        energy: The sum of the source rows' squares.
        count: How many anchors.
    """

    donor_mean: Tensor
    source_mean: Tensor
    within: Tensor
    across: Tensor
    source_within: Tensor
    energy: float
    count: int


def moments(bridge: Bridge, about: About, *, both: bool = False) -> Moments:
    """Return the anchors' moments. O(N D_donor (D_donor + D)) time, no memory for the rows.

    Products of a block are float32, their sums float64; the mean is taken off before them.

    Args:
        bridge: The anchors.
        about: What the moments are about.
        both: Whether `source_within` is needed.
    """
    import torch

    wide, narrow = bridge.donor.width, bridge.source.width
    means = torch.zeros(wide, dtype=torch.float64), torch.zeros(narrow, dtype=torch.float64)
    if about == "mean":
        means = bridge.means()
    within = torch.zeros(wide, wide, dtype=torch.float64)
    across = torch.zeros(wide, narrow, dtype=torch.float64)
    source_within = torch.zeros(*((narrow, narrow) if both else (0, 0)), dtype=torch.float64)
    energy = 0.0
    for left, right in zip(
        _blocks(bridge.donor, bridge.donor_ids),
        _blocks(bridge.source, bridge.source_ids),
        strict=True,
    ):
        x, y = left - means[0].float(), right - means[1].float()
        within += x.mT @ x
        across += x.mT @ y
        energy += float((y.double() ** 2).sum())
        if both:
            source_within += y.mT @ y
    return Moments(means[0], means[1], within, across, source_within, energy, len(bridge))


def _known(context: Context, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places in `ids` of what the donor has, and its rows."""
    if context.donor is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = context.donor.row_of[ids].astype(np.int64)
    places = np.flatnonzero(rows >= 0)
    return places, rows[places]


def _blocks(matrix: Matrix, ids: NDArray[np.int64]) -> Iterator[Tensor]:
    for start in range(0, len(ids), BLOCK):
        yield matrix.take(ids[start : start + BLOCK]).float()


def _mean(matrix: Matrix, ids: NDArray[np.int64]) -> Tensor:
    import torch

    total = torch.zeros(matrix.width, dtype=torch.float64)
    for rows in _blocks(matrix, ids):
        total += rows.double().sum(dim=0)
    return total / len(ids)


def _gathered(matrix: Matrix, ids: NDArray[np.int64]) -> Tensor:
    import torch

    rows = torch.empty(len(ids), matrix.width)
    done = 0
    for block in _blocks(matrix, ids):
        rows[done : done + len(block)] = block
        done += len(block)
    return rows
