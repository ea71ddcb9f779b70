"""Softmax regression of some rows of an output matrix, the others as they are.

The problem is convex and no gradient passes through the model.

Coordinates make it well-conditioned: states are whitened by their own second moment, so a
coefficient is in nats, and each row has one more coefficient along a direction whose product with
every state is nearly 1, the bias that most models lack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Basis", "Fit", "Problem", "basis_of", "fit_rows", "minimise"]

LOGITS_AT_ONCE = 1 << 23  # float32 numbers: 32 MiB
HISTORY = 8  # pairs that the quasi-Newton step remembers
ARMIJO = 1e-4
SHRINK = 0.4
SHORTEST_STEP = 1e-4


@dataclass(frozen=True, eq=False)
class Basis:
    """Coordinates of a space of hidden states.

    Attributes:
        whitening: float32 (D, D): states times this have second moment 1 in every direction.
        level: float32 (D,): its product with a state is 1 on average, and as nearly as a linear
            function can be.
        spread: The root mean square of that product's distance from 1.
    """

    whitening: Tensor
    level: Tensor
    spread: float


def basis_of(hidden: Tensor) -> Basis:
    """Return the basis of states (N, D). Float64; O(N D^2 + D^3).

    The second moment is shrunk by its own trace over N, so that directions that few states have
    are not blown up.
    """
    import torch

    count, width = hidden.shape
    moment = torch.zeros(width, width, dtype=torch.float64)
    mean = torch.zeros(width, dtype=torch.float64)
    for start in range(0, count, 1 << 14):
        block = hidden[start : start + (1 << 14)].double()
        moment += block.mT @ block
        mean += block.sum(dim=0)
    moment, mean = moment / count, mean / count
    moment += torch.eye(width, dtype=torch.float64) * moment.trace() / count
    values, vectors = torch.linalg.eigh(moment)
    whitening = vectors * values.rsqrt()  # (D, D)
    level = whitening @ (whitening.mT @ mean)  # argmin E (level . h - 1)^2
    level = level / (level @ mean)
    spread = float((1.0 - 2.0 * (level @ mean) + level @ moment @ level).clamp_min(0.0).sqrt())
    return Basis(whitening.float(), level.float(), spread)


@dataclass(frozen=True, eq=False)
class Fit:
    """What a regression found.

    Attributes:
        change: float32 (n, D): what is added to the rows.
        level: float64 (n,): what of it lies along the basis's level, in nats; a bias where the
            model has one, and then no part of `change`.
        before: The penalised loss per position at the start, nats.
        after: The same at the end.
        steps: Steps taken.
    """

    change: Tensor
    level: Tensor
    before: float
    after: float
    steps: int


class Problem:
    """The penalised negative log-likelihood and its gradient, for :func:`minimise`.

    Coefficients have shape (n, D + 1): whitened directions, then the level. The loss is
    `sum_i weight_i * (logsumexp_i - logit_i[target_i]) + sum(penalty * coefficients^2) / 2`.
    """

    def __init__(
        self,
        hidden: Tensor,
        target: Tensor,
        weight: Tensor,
        matrix: Tensor,
        ids: Tensor,
        basis: Basis,
        penalty: Tensor,
        free: Tensor,
        bias: Tensor | None,
    ) -> None:
        """Take the frozen rows' part of every normaliser once.

        Args:
            hidden: float32 (N, D).
            target: int64 (N,).
            weight: float32 (N,).
            matrix: float32 (R, D): all rows as they are.
            ids: int64 (n,): the rows to fit.
            basis: The coordinates.
            penalty: float32 (D + 1,), or (n, D + 1).
            free: bool (n,): rows that move in every direction; the others along the level alone.
            bias: float32 (R,), or None; where there is one the level's feature is exactly 1.
        """
        import torch

        self.hidden, self.weight, self.penalty, self.free = hidden, weight, penalty, free
        self.rows = matrix[ids]  # (n, D)
        self.bias = None if bias is None else bias[ids]
        level = hidden @ basis.level[:, None] if bias is None else torch.ones(len(hidden), 1)
        self.features = torch.cat((hidden @ basis.whitening, level), dim=1)  # (N, D + 1)
        place = torch.full((len(matrix),), -1)
        place[ids] = torch.arange(len(ids))
        self.place = place[target]  # (N,), -1: a frozen row
        frozen = torch.ones(len(matrix), dtype=torch.bool)
        frozen[ids] = False
        self.chunk = max(64, LOGITS_AT_ONCE // max(1, len(ids)))
        self.given = torch.full((len(hidden),), -torch.inf)  # logsumexp of frozen rows
        self.logit = (hidden * matrix[target]).sum(dim=1)  # (N,)
        if bias is not None:
            self.logit += bias[target]
        others = frozen.nonzero()[:, 0]
        step = max(64, LOGITS_AT_ONCE // max(1, len(others)))
        for start in range(0, len(hidden) if len(others) else 0, step):
            logits = hidden[start : start + step] @ matrix[others].mT
            if bias is not None:
                logits += bias[others]
            self.given[start : start + step] = logits.logsumexp(dim=1)

    def _probabilities(self, coefficients: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits and probabilities of fitted rows (m, n), and the normalisers (m,)."""
        import torch

        logits = self.hidden[part] @ self.rows.mT
        if self.bias is not None:
            logits += self.bias
        logits.addmm_(self.features[part], coefficients.mT)
        total = torch.logaddexp(logits.logsumexp(dim=1), self.given[part])
        return logits, torch.exp(logits - total[:, None]), total

    def mass(self, coefficients: Tensor) -> Tensor:
        """Return how often each fitted row is expected, float64 (n,)."""
        import torch

        found = torch.zeros(len(self.rows), dtype=torch.float64)
        for start in range(0, len(self.hidden), self.chunk):
            part = slice(start, start + self.chunk)
            _, given, _ = self._probabilities(coefficients, part)
            found += self.weight[part].double() @ given.double()
        return found

    def counts(self) -> Tensor:
        """Return how often each fitted row is the target, float64 (n,)."""
        import torch

        found = torch.zeros(len(self.rows), dtype=torch.float64)
        mine = self.place >= 0
        return found.index_add(0, self.place[mine], self.weight[mine].double())

    def start(self) -> Tensor:
        """Return coefficients of zero."""
        import torch

        return torch.zeros(len(self.rows), self.features.shape[1])

    def scale(self) -> Tensor:
        """Return the inverse curvature to begin with, float32 (n, D + 1).

        In whitened coordinates the curvature of a row is about the mass it has or should have,
        beside the penalty.
        """
        size = self.mass(self.start()) + self.counts()  # (n,)
        # A token with neither mass nor penalty is moved by nothing: any finite scale will do.
        scale: Tensor = 1.0 / (size[:, None] + self.penalty.double()).clamp_min(1e-6)
        return scale.float()

    def __call__(self, coefficients: Tensor) -> tuple[float, Tensor]:
        """Return the loss, summed in float64, and its gradient (n, D + 1)."""
        loss = 0.0
        slope = coefficients * self.penalty
        for start in range(0, len(self.hidden), self.chunk):
            part = slice(start, start + self.chunk)
            logits, off, total = self._probabilities(coefficients, part)
            place, weight = self.place[part], self.weight[part]
            at = (place >= 0).nonzero()[:, 0]
            chosen = self.logit[part].clone()
            chosen[at] = logits[at, place[at]]
            off[at, place[at]] -= 1.0
            loss += float(((total - chosen).double() * weight.double()).sum())
            off *= weight[:, None]
            slope.addmm_(off.mT, self.features[part])
        loss += 0.5 * float((coefficients.double().square() * self.penalty.double()).sum())
        slope[~self.free, :-1] = 0.0
        return loss, slope


def minimise(
    loss: Callable[[Tensor], tuple[float, Tensor]],
    start: Tensor,
    scale: Tensor,
    *,
    steps: int,
    tolerance: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, list[float]]:
    """Return where a smooth convex function is least, and its values on the way, falling.

    L-BFGS (Liu and Nocedal 1989) with a diagonal to begin with and backtracking; inner products
    in float64. Deterministic.

    Args:
        loss: Value and gradient.
        start: Where to begin.
        scale: The inverse curvature, broadcast over `start`.
        steps: The most steps taken.
        tolerance: Stop when a step lowers the loss by less than this share of it.
        progress: Is told how many steps are done, and of how many.
    """

    def dot(a: Tensor, b: Tensor) -> float:
        return float((a.double() * b.double()).sum())

    value, slope = loss(start)
    values = [value]
    pairs: list[tuple[Tensor, Tensor, float]] = []
    here = start
    for step in range(steps):
        way = slope.clone()
        taken = []
        for moved, turned, inverse in reversed(pairs):
            share = inverse * dot(moved, way)
            way -= share * turned
            taken.append(share)
        way = way * scale
        if pairs:
            moved, turned, inverse = pairs[-1]
            way *= 1.0 / (inverse * dot(turned * scale, turned))
        for (moved, turned, inverse), share in zip(pairs, reversed(taken), strict=True):
            way += (share - inverse * dot(turned, way)) * moved
        falls = dot(slope, way)
        if not falls > 0.0:
            break  # at the minimum, to float32's resolution
        length = 1.0
        while True:
            there = here - length * way
            reached, new_slope = loss(there)
            if reached <= value - ARMIJO * length * falls:
                break
            length *= SHRINK
            if length < SHORTEST_STEP:
                return here, values
        moved, turned = there - here, new_slope - slope
        if (bend := dot(moved, turned)) > 0.0:
            pairs = [*pairs, (moved, turned, 1.0 / bend)][-HISTORY:]
        gained = value - reached
        here, value, slope = there, reached, new_slope
        values.append(value)
        if progress is not None:
            progress(step + 1, steps)
        if gained <= tolerance * abs(value):
            break
    return here, values


def fit_rows(
    problem: Problem,
    basis: Basis,
    *,
    steps: int,
    tolerance: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Return the change of the rows that makes the targets most likely, under the penalty."""
    found, values = minimise(
        problem,
        problem.start(),
        problem.scale(),
        steps=steps,
        tolerance=tolerance,
        progress=progress,
    )
    level = found[:, -1]
    change = found[:, :-1] @ basis.whitening.mT  # (n, D)
    if problem.bias is None:
        change += level[:, None] * basis.level
    total = float(problem.weight.double().sum())
    return Fit(change, level.double(), values[0] / total, values[-1] / total, len(values) - 1)
