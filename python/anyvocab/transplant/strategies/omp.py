"""Rows that donor rows ask for: sparse combinations of anchors, by orthogonal matching pursuit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from anyvocab import errors
from anyvocab.transplant.donated import Bridge, bridge, combined
from anyvocab.transplant.plan import Combination, Shifted, Side
from anyvocab.transplant.pursuit import Pursuit, check_options
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context

__all__ = ["Omp", "OmpCentred"]

Screen = int | Literal["auto"] | None
Tokens = Literal["all", "trained"]

STEP = 2048  # donor rows read at once
CANDIDATES = 8  # kept at a screen for each pick until the next one
EXACT = 1 << 23  # numbers of all anchors' rows up to which looking at all of them is as quick


@strategy("omp", needs=("donor",))
@dataclass(frozen=True)
class Omp:
    """The few anchors that make up the donor's row, with the same weights (arXiv:2506.06607).

    Picks the anchor with the largest absolute inner product with what is left of the donor's row,
    k times, each time solving least squares anew; nothing is centred, normalised or constrained.

    With `screen=None` the picks are those of that definition wherever no two scores tie within
    float32 rounding. Otherwise candidates are screened: see :mod:`anyvocab.transplant.pursuit` for
    what that changes.

    Attributes:
        k: Anchors of a row; it is the number of all anchors where there are fewer.
        screen: Candidates kept for each pick until all anchors are looked at again; None: all
            anchors at every pick; "auto": all where that is as quick, else 8.
        tokens: "trained" leaves out the shortest hundredth of anchors of either model.
    """

    k: int = 64
    screen: Screen = "auto"
    tokens: Tokens = "all"

    def __post_init__(self) -> None:
        _check(self.k, 0.0, self.screen, self.tokens)

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Combination:
        """Return combinations of anchors; rows the donor does not have are empty."""
        anchors = _anchors(context, side, self.tokens)
        pursuit = _pursuit(anchors.of_donor(), self.k, 0.0, self.screen)

        def solve(rows: Tensor) -> tuple[Tensor, Tensor]:
            found = pursuit.solve(rows)
            return found.atoms, found.weights

        return combined(context, anchors, ids, solve, step=STEP, stage=f"omp {side}")


@strategy("omp-centred", needs=("donor",))
@dataclass(frozen=True)
class OmpCentred:
    """The source's mean row and the few anchors that make up the donor's deviation from its own.

    Donor rows have the anchors' mean taken off; anchors are picked by cosine; the normal equations
    of unit-length anchors have `ridge` on their diagonal, which is then that share of its mean.
    The mean row always has the coefficient 1, so weights cannot scale the part that all rows have
    in common, which would lift or sink an output row's logit everywhere.

    Attributes:
        k: As in `omp`.
        ridge: Of the normal equations.
        screen: As in `omp`.
        tokens: As in `omp`.
    """

    k: int = 64
    ridge: float = 1e-3
    screen: Screen = "auto"
    tokens: Tokens = "all"

    def __post_init__(self) -> None:
        _check(self.k, self.ridge, self.screen, self.tokens)

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Shifted:
        """Return combinations of anchors and multiples of their mean."""
        import torch

        anchors = _anchors(context, side, self.tokens)
        mean, source_mean = (one.float() for one in anchors.means())
        atoms = anchors.of_donor()
        atoms -= mean
        norms = atoms.norm(dim=1)
        # An anchor at the mean has no direction: it scores 0 and is never picked.
        atoms /= norms.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
        pursuit = _pursuit(atoms, self.k, self.ridge, self.screen)

        def solve(rows: Tensor) -> tuple[Tensor, Tensor]:
            found = pursuit.solve(rows - mean)
            return found.atoms, found.weights / norms[found.atoms.clamp_min(0)]

        made = combined(context, anchors, ids, solve, step=STEP, stage=f"omp-centred {side}")
        row = np.repeat(np.arange(len(made)), made.lengths())
        sums = np.bincount(row, weights=made.weights, minlength=len(made))
        amounts = np.where(made.lengths() > 0, 1.0 - sums, 0.0)[:, None].astype(np.float32)
        return Shifted(made, source_mean[None].numpy(), amounts)


def _anchors(context: Context, side: Side, tokens: Tokens) -> Bridge:
    anchors = bridge(context, side)
    return anchors.trained() if tokens == "trained" else anchors


def _pursuit(atoms: Tensor, k: int, ridge: float, screen: Screen) -> Pursuit:
    if screen == "auto":
        screen = None if atoms.numel() <= EXACT else CANDIDATES
    return Pursuit(atoms, k=k, ridge=ridge, screen=screen)


def _check(k: int, ridge: float, screen: Screen, tokens: Tokens) -> None:
    check_options(k=k, ridge=ridge, screen=None if screen == "auto" else screen)
    if tokens not in ("all", "trained"):
        raise errors.build(
            errors.InvalidValue, f"must be all or trained, got {tokens!r}", field="tokens"
        )
