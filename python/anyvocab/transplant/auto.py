"""Choosing strategies: by rows that are known and hidden, then by bits per byte.

Shared tokens stand in for new ones: their rows are hidden, predicted and compared. They are easier
than new tokens, being shorter and more frequent, so the sample is spread over lengths, scripts and
frequency; and where the model can be run, bits per byte have the last word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab.hypernet.folder import read_card
from anyvocab.report.scripts import script_of
from anyvocab.transplant import strategies
from anyvocab.transplant.build import build
from anyvocab.transplant.plan import SIDES, Combination, Plan, Shifted, Side

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context
    from anyvocab.transplant.roles import ControlMap

__all__ = ["FLOORS", "Choice", "Fidelity", "Trial", "choose", "feasible", "fidelity", "hold_out"]

HELD_OUT = 512  # anchors: the standard error of a mean cosine is then below 0.02
FINALISTS = 3  # strategies of a side that are tried in the model for what they do to hidden rows
# Tried always: what makes the nearest row is not what reads or predicts best. The row of the last
# piece alone is far from the true one, and a model that reads it last goes on as it did before.
CHEAP: dict[Side, tuple[str, ...]] = {"input": ("last",), "output": ("front", "last")}
PLAIN = "mean"  # what every other strategy is measured against
FLOORS = frozenset({"mean-row", "zero", "random", "hewitt"})


@dataclass(frozen=True)
class Fidelity:
    """How well a strategy predicts rows that are known.

    Attributes:
        strategy: Its name.
        side: Which matrix.
        cosine: Mean cosine of predicted and true rows, the source's mean row taken off both.
        error: Median length of the difference over the length of the true row, likewise.
        predicted: For how many hidden rows it had a prediction.
        hidden: How many rows were hidden.
        seconds: How long it took.
    """

    strategy: str
    side: Side
    cosine: float
    error: float
    predicted: int
    hidden: int
    seconds: float


@dataclass(frozen=True)
class Trial:
    """Bits per byte of the model with the rows of two strategies."""

    input: str
    output: str
    bits_per_byte: float
    seconds: float


@dataclass(frozen=True)
class Choice:
    """What was chosen and why.

    Attributes:
        strategies: Side to strategy.
        fidelities: What was measured on hidden rows.
        trials: What was measured in the model; empty where it was not run.
        reason: Why, in words.
    """

    strategies: Mapping[Side, str]
    fidelities: tuple[Fidelity, ...]
    trials: tuple[Trial, ...]
    reason: str


def feasible(context: Context, *, tied: bool | None = None) -> list[str]:
    """Return the strategies whose needs the context meets, floors left out, by name.

    Args:
        context: What is known.
        tied: Whether one matrix shall serve both sides; as in the source when left out.
    """
    tied = context.tied if tied is None else tied
    there = {
        "donor": context.donor is not None,
        "corpus": bool(context.corpus),
        "encoder": context.encoder is not None,
        "model": context.model is not None,
        "hypernet": context.hypernet is not None and (read_card(context.hypernet).tied or not tied),
        "family": False,  # nothing but the user's word says that a donor is of the model's family
    }
    return [
        name
        for name in strategies.names()
        if name not in FLOORS and all(there[need] for need in strategies.needs_of(name))
    ]


def hold_out(context: Context, count: int = HELD_OUT) -> NDArray[np.int64]:
    """Return target ids of anchors, spread over lengths, scripts and frequency, ascending.

    Frequency is read off the source id, since vocabularies list frequent tokens first. Single bytes
    are left out: nothing is made of their pieces.
    """
    targets, sources = context.anchors
    tokens = [context.target_tokens[id] or b"" for id in targets.tolist()]
    strata: dict[tuple[int, str, int], list[int]] = {}
    third = max(1, context.source_rows // 3 + 1)
    for at, (token, source) in enumerate(zip(tokens, sources.tolist(), strict=True)):
        if len(token) > 1:
            length = min(4, len(token).bit_length())
            script = script_of(token)
            strata.setdefault((length, script, source // third), []).append(at)
    rng = np.random.default_rng(context.seed)
    shuffled = [rng.permutation(strata[key]).tolist() for key in sorted(strata)]
    chosen: list[int] = []
    # One of each stratum in turn, so that rare kinds are seen; at most a fifth of all anchors.
    most = min(count, max(1, len(targets) // 5))
    depth = 0
    while len(chosen) < most and any(depth < len(one) for one in shuffled):
        chosen += [one[depth] for one in shuffled if depth < len(one)]
        depth += 1
    return np.sort(targets[np.array(chosen[:most], dtype=np.int64)])


def fidelity(
    context: Context,
    name: str,
    side: Side,
    hidden: NDArray[np.int64],
    options: Mapping[str, Any] | None = None,
) -> Fidelity:
    """Return how well a strategy predicts the rows of hidden anchors.

    Args:
        context: What is known.
        name: The strategy.
        side: Which matrix.
        hidden: Target ids of anchors.
        options: The strategy's options.
    """
    import torch

    from anyvocab.transplant.strategies.baselines import mean_row

    began = time.perf_counter()
    hiding = context.holding_out(hidden)
    matrix = context.matrices[side]
    made = strategies.make(name, options).rows(hiding, side, hidden)
    guess: Tensor = made.float() if isinstance(made, torch.Tensor) else made.combine(matrix)
    has = (
        torch.from_numpy(made.lengths() > 0)
        if isinstance(made, Combination | Shifted)
        else ~torch.isnan(guess).all(dim=1)
    )
    seconds = time.perf_counter() - began
    mean = mean_row(context, side)
    truth = matrix.take(context.match.source_of[hidden]).double()[has] - mean
    found = guess.double()[has] - mean
    if not len(truth):
        return Fidelity(name, side, 0.0, 1.0, 0, len(hidden), seconds)
    floor = truth.norm(dim=1).mean().clamp_min(1e-30) * 1e-6  # a row at the mean has no direction
    cosine = (truth * found).sum(dim=1) / (
        truth.norm(dim=1).clamp_min(floor) * found.norm(dim=1).clamp_min(floor)
    )
    error = (truth - found).norm(dim=1) / truth.norm(dim=1).clamp_min(floor)
    return Fidelity(
        name,
        side,
        float(cosine.mean()),
        float(error.median()),
        int(has.sum()),
        len(hidden),
        seconds,
    )


def choose(
    context: Context,
    *,
    controls: ControlMap,
    rows: int,
    tied: bool,
    score: Callable[[Plan], float] | None = None,
    candidates: Sequence[str] | None = None,
) -> Choice:
    """Return the best strategy of each side.

    Args:
        context: What is known.
        controls: What control tokens take.
        rows: Rows of the new matrices.
        tied: Whether one matrix serves both sides: then one strategy is chosen for both.
        score: Bits per byte of the model with a plan's rows; None where running it costs too much.
        candidates: Names of strategies; all that are feasible when left out.

    Raises:
        InvalidValue: No candidate is feasible.
    """
    names = list(candidates) if candidates is not None else feasible(context, tied=tied)
    if not names:
        raise errors.build(errors.InvalidValue, "no strategy is feasible", field="strategy")
    hidden = hold_out(context)
    measured: list[Fidelity] = []
    sides: tuple[Side, ...] = ("input",) if tied else SIDES
    if len(hidden):
        for side in sides:
            for at, name in enumerate(names):
                context.progress(f"hidden rows, {side}", at, len(names))
                measured.append(fidelity(context, name, side, hidden))
    ranked = {side: _ranked(measured, side, names) for side in SIDES}
    best: dict[Side, str] = {side: ranked[side][0] for side in SIDES}
    if tied:
        best["output"] = best["input"]
    if score is None:
        return Choice(best, tuple(measured), (), "best cosine on hidden rows")
    plain = PLAIN if PLAIN in names else names[0]
    trials: dict[tuple[str, str], Trial] = {}
    chosen: dict[Side, str] = {"input": plain, "output": plain}
    for side in sides:
        cheap = [name for one in (SIDES if tied else (side,)) for name in CHEAP[one]]
        named = (plain, *filter(names.__contains__, cheap), *ranked[side][:FINALISTS])
        finalists = list(dict.fromkeys(named))
        for number, name in enumerate(finalists):
            context.progress(f"bits per byte, {side}", number, len(finalists))
            first = name if side == "input" else chosen["input"]
            second = name if tied or side == "output" else chosen["output"]
            if (first, second) not in trials:
                began = time.perf_counter()
                made: dict[Side, strategies.Strategy] = {
                    "input": strategies.make(first),
                    "output": strategies.make(second),
                }
                plan = build(context, strategies=made, controls=controls, rows=rows, tied=tied)
                bits = score(plan)
                trials[first, second] = Trial(first, second, bits, time.perf_counter() - began)
        won = min(trials.values(), key=lambda one: one.bits_per_byte)
        chosen = {"input": won.input, "output": won.output}
    return Choice(chosen, tuple(measured), tuple(trials.values()), "fewest bits per byte")


def _ranked(measured: Sequence[Fidelity], side: Side, names: Sequence[str]) -> list[str]:
    """Return names by cosine, best first; predictions that are missing count as 0."""
    scores = {
        one.strategy: one.cosine * one.predicted / one.hidden
        for one in measured
        if one.side == side
    }
    return sorted(names, key=lambda name: (-scores.get(name, 0.0), name))
