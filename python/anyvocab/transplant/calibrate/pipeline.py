"""From a plan to one whose output rows fit the text: which rows move, how far, on what evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from anyvocab import errors
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.plan import Plan, SidePlan, apply

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.calibrate.softmax import Fit
    from anyvocab.transplant.calibrate.states import States
    from anyvocab.transplant.context import Context
    from anyvocab.transplant.job import Job

__all__ = ["MODES", "Calibration", "Mode", "calibrate", "calibrate_plan", "fitted_ids"]

Mode = Literal["keep", "level", "full"]
MODES: tuple[Mode, ...] = ("keep", "level", "full")
_MADE = (Origin.COMPOSED, Origin.PREDICTED, Origin.FALLBACK)
_SHARED = (Origin.COPIED,)
HIDDEN_AT_ONCE = 512  # places whose logits exist at once: 256 MB of 128k ids


@dataclass(frozen=True)
class Calibration:
    """How output rows are fitted.

    Attributes:
        new: What moves of rows that a strategy made: `keep` nothing, `level` their log-odds alone
            (unigram calibration), `full` the whole row.
        shared: The same for rows copied from the source. Their probabilities are too high where
            the target tokenizer writes a longer token instead; but a copied row that moves is not
            a copy any more.
        tokens: Target ids read in the forward pass.
        positions: Places in them that the regression looks at: where shared rows stay, every
            place before a new token first, the others thinned and weighted.
        spread: How far a new row's logit is expected to move, nats, root mean square: the
            penalty's scale.
        shared_spread: The same for a shared row, which begins nearer to where it should be.
        level_spread: The same for a row's log-odds.
        steps: The most quasi-Newton steps.
        tolerance: Stop when a step lowers the loss by less than this share.
        hold_out: The part of the text that decides whether shared rows move: they stay where,
            fitted without it, they predict it no better. 0: they move in any case.
    """

    new: Mode = "full"
    shared: Mode = "keep"
    tokens: int = 1 << 17
    positions: int = 1 << 15
    spread: float = 2.0
    shared_spread: float = 1.0
    level_spread: float = 2.0
    steps: int = 12
    tolerance: float = 1e-3
    hold_out: float = 0.2

    def __post_init__(self) -> None:
        for name in ("new", "shared"):
            if getattr(self, name) not in MODES:
                raise errors.build(
                    errors.InvalidValue,
                    f"{getattr(self, name)!r} is no choice",
                    field=name,
                    fix=", ".join(MODES),
                )
        for name in ("tokens", "positions", "spread", "shared_spread", "level_spread", "steps"):
            if not getattr(self, name) > 0:
                raise errors.build(
                    errors.InvalidValue, f"must be above 0, got {getattr(self, name)}", field=name
                )
        if not 0 <= self.hold_out < 1:
            raise errors.build(
                errors.InvalidValue, f"must be in [0, 1), got {self.hold_out}", field="hold_out"
            )
        if self.tolerance < 0:
            raise errors.build(
                errors.InvalidValue,
                f"must be at least 0, got {self.tolerance}",
                field="tolerance",
            )


def fitted_ids(
    context: Context, side: SidePlan, options: Calibration
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the rows that may move, ascending, and which of them in every direction.

    Only text tokens do: control tokens, holes and padding stand in no calibration text.
    """
    size = len(context.target.vocabulary)
    speaks = np.zeros(len(side), dtype=np.bool_)
    speaks[:size] = [bool(token) for token in context.target_tokens]
    modes = np.zeros(len(side), dtype=np.int8)
    for origins, mode in ((_MADE, options.new), (_SHARED, options.shared)):
        modes[np.isin(side.origin, origins) & speaks] = MODES.index(mode)
    ids = np.flatnonzero(modes > 0)
    return ids, modes[ids] == MODES.index("full")


def calibrate(
    context: Context,
    plan: Plan,
    options: Calibration | None = None,
    *,
    states: States | None = None,
) -> Plan:
    """Return `plan` with output rows that predict the corpus as the target tokenizer writes it.

    One forward pass of the source model with the plan's input rows gives final hidden states; the
    output rows are then the solution of a convex problem, a softmax regression on those states
    with a Gaussian penalty around the plan's own rows. No gradient passes through the model and
    nothing else of it changes. Tied matrices are untied: the input side stays as planned. A plan
    without rows to fit is returned as it is.

    What it is not: it does not mend the input side, and a new token that the corpus never holds
    keeps its direction and only loses probability.

    Cost: the forward pass, then at most `2 * steps` times `positions * n * D` multiplications
    for n fitted rows, O(D^3) once, and memory for `positions` states and the fitted rows.
    Deterministic; which positions are thinned out depends on `context.seed`.

    Args:
        context: What is known; it must hold a corpus and a model.
        plan: Both sides, or one where matrices are tied.
        options: What moves and how far; the defaults when left out.
        states: What :func:`anyvocab.transplant.calibrate.states.read_states` returned for the
            plan's input rows, to try several options on one reading.

    Raises:
        InvalidValue: There is no corpus, no model, or its head is not linear.

    Source: the failure is that of arXiv:2506.06607 and its successors, where new tokens cost
    thousands in perplexity and shared ones nothing; the quasi-Newton method is Liu and Nocedal's
    (1989).
    """
    import torch

    from anyvocab.transplant.calibrate.states import read_states

    options = options or Calibration()
    side = plan.side("output")
    ids, _ = fitted_ids(context, side, options)
    if not len(ids):
        return plan
    if states is None:
        read = torch.cat([one.float() for one in apply(plan.input, context.matrices["input"])])
        states = read_states(context, read, tokens=options.tokens)
    matrix = torch.cat([one.float() for one in apply(side, context.matrices["output"])])
    bias = _bias(context, plan)
    doubt = ""
    if options.shared != "keep" and options.hold_out > 0:
        kept, tried = _on_hidden_part(context, side, matrix, bias, states, options)
        if kept <= tried:
            options = replace(options, shared="keep")
            ids, _ = fitted_ids(context, side, options)
            doubt = (
                f"; shared rows stay copies: fitted, they predict the hidden part of the text no "
                f"better ({tried:.3f} against {kept:.3f} nats a token)"
            )
            if not len(ids):
                return plan
    fit, places = _fit(context, side, matrix, bias, states, options)
    note = (
        f"calibrated on {len(states)} tokens ({places} places): new rows {options.new}, "
        f"shared rows {options.shared}; loss {fit.before:.3f} to {fit.after:.3f} nats a place "
        f"in {fit.steps} steps{doubt}"
    )
    moved = _added(side, ids, fit.change.numpy(), note)
    if bias is not None:
        amounts = np.zeros(len(side), np.float32) if side.bias is None else side.bias.copy()
        amounts[ids] += fit.level.float().numpy()
        moved = replace(moved, bias=amounts)
    return replace(plan, output=moved)


def _fit(
    context: Context,
    side: SidePlan,
    matrix: Tensor,
    bias: Tensor | None,
    states: States,
    options: Calibration,
) -> tuple[Fit, int]:
    """Return the fit of `fitted_ids` and how many places it looked at."""
    import torch

    from anyvocab.transplant.calibrate.softmax import Problem, basis_of, fit_rows

    ids, free = fitted_ids(context, side, options)
    basis = basis_of(states.hidden)
    copies = np.isin(side.origin[ids], _SHARED)
    # Where shared rows move too, every place is evidence for some row that moves.
    urgent = ids[~copies] if options.shared == "keep" else ids[:0]
    chosen, weight = _thin(states, urgent, options.positions, context.seed)
    width = matrix.shape[1]
    spreads = np.where(copies, options.shared_spread, options.spread).astype(np.float32)
    penalty = torch.from_numpy(width / spreads**2)[:, None].repeat(1, width + 1)
    penalty[:, -1] = 1.0 / options.level_spread**2
    problem = Problem(
        states.hidden[chosen],
        states.target[chosen],
        weight,
        matrix,
        torch.from_numpy(ids),
        basis,
        penalty,
        torch.from_numpy(free),
        bias,
    )
    fit = fit_rows(
        problem,
        basis,
        steps=options.steps,
        tolerance=options.tolerance,
        progress=lambda done, total: context.progress("calibration: fitting", done, total),
    )
    return fit, len(chosen)


def _on_hidden_part(
    context: Context,
    side: SidePlan,
    matrix: Tensor,
    bias: Tensor | None,
    states: States,
    options: Calibration,
) -> tuple[float, float]:
    """Return nats a token on a hidden part: shared rows kept, and fitted as `options` say."""
    import torch

    from anyvocab.transplant.calibrate.states import States

    cut = len(states) - max(1, int(options.hold_out * len(states)))
    seen = States(states.hidden[:cut], states.target[:cut], states.texts)
    hidden, target = states.hidden[cut:], states.target[cut:]
    found = []
    for one in (replace(options, shared="keep"), options):
        ids, _ = fitted_ids(context, side, one)
        rows, level = matrix.clone(), None if bias is None else bias.clone()
        if len(ids) and cut:
            fit, _ = _fit(context, side, matrix, bias, seen, one)
            rows[ids] += fit.change
            if level is not None:
                level[ids] += fit.level.float()
        nats = 0.0
        for start in range(0, len(hidden), HIDDEN_AT_ONCE):
            part = slice(start, start + HIDDEN_AT_ONCE)
            logits = torch.nn.functional.linear(hidden[part], rows, level)
            each = torch.nn.functional.cross_entropy(logits, target[part], reduction="none")
            nats += float(each.double().sum())
        found.append(nats / len(hidden))
    return found[0], found[1]


def _thin(
    states: States, urgent: NDArray[np.int64], positions: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return places and weights: all before an urgent token, if they fit, and a part of the others.

    Urgent ones get at most three quarters of the places; each kind's weights sum to its number.
    """
    import torch

    new = np.isin(states.target.numpy(), urgent)
    if len(new) <= positions:
        return torch.arange(len(new)), torch.ones(len(new))
    generator = np.random.Generator(np.random.PCG64(seed))
    kept: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float32]] = []
    room = positions
    for places, most in ((np.flatnonzero(new), 3 * positions // 4), (np.flatnonzero(~new), None)):
        take = min(len(places), room if most is None else min(most, room))
        chosen = np.sort(generator.permutation(len(places))[:take])
        kept.append(places[chosen])
        weights.append(np.full(take, len(places) / max(1, take), dtype=np.float32))
        room -= take
    return torch.from_numpy(np.concatenate(kept)), torch.from_numpy(np.concatenate(weights))


def _bias(context: Context, plan: Plan) -> Tensor | None:
    """Return the new model's output bias, float32 (R,), or None where it has none."""
    from anyvocab.transplant.trial import new_bias

    if context.model is None:
        return None
    held = getattr(context.model().get_output_embeddings(), "bias", None)
    bias: Tensor | None = None if held is None else new_bias(plan, held)
    return bias


def _added(
    side: SidePlan, ids: NDArray[np.int64], change: NDArray[np.float32], note: str
) -> SidePlan:
    """Return the plan with dense rows added to some of its rows."""
    if side.scale is not None:  # dense parts are scaled when rows are made
        change = change / side.scale[ids][:, None]
    moved = change.any(axis=1)  # a row that did not move stays a copy bit for bit
    ids, change = ids[moved], change[moved]
    every = np.union1d(side.dense_ids, ids)
    rows = np.zeros((len(every), change.shape[1]), dtype=np.float32)
    if len(side.dense_ids):
        rows[np.searchsorted(every, side.dense_ids)] = side.dense().numpy()
    rows[np.searchsorted(every, ids)] += change
    return replace(side, dense_ids=every, dense_rows=rows, notes=(*side.notes, note))


def calibrate_plan(
    job: Job, plan: Plan, *, runnable: bool, options: Calibration | None = None
) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan of a swap, calibrated where that is possible, and what the user must know.

    Args:
        job: The swap's inputs.
        plan: Its plan.
        runnable: Whether the model may be run.
        options: As for :func:`calibrate`.
    """
    if not runnable or job.context.model is None:
        return plan, ("output rows are not calibrated: the model is not run",)
    if not job.context.corpus:
        return plan, ("output rows are not calibrated: there is no corpus",)
    found = calibrate(job.context, plan, options)
    if plan.tied and not found.tied:
        return found, ("the output matrix is its own: calibration untied it from the input",)
    return found, ()
