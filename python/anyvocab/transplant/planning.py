"""Choosing strategies, building the plan, calibrating it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyvocab import errors
from anyvocab.hypernet.folder import find_hypernet, read_card
from anyvocab.transplant import strategies
from anyvocab.transplant.auto import Choice, choose
from anyvocab.transplant.build import build, shares
from anyvocab.transplant.job import Job
from anyvocab.transplant.plan import SIDES, Plan, Side
from anyvocab.transplant.plan_file import Remake, load_plan
from anyvocab.transplant.settle import settle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from anyvocab.transplant.calibrate import Calibration
    from anyvocab.transplant.context import Context
    from anyvocab.transplant.dense import Made

__all__ = [
    "calibrated",
    "calibration_for",
    "check_sides",
    "make_plan",
    "named_strategies",
    "remaker",
    "score_of",
    "settled_plan",
    "strategies_of",
    "wants_two",
]

TRIAL_BYTES = 1 << 15  # of the text that is learned from: where strategies are tried


def named_strategies(strategy: str | Mapping[Side, str]) -> dict[Side, str] | None:
    """Return side to strategy; None where one is to be chosen.

    Raises:
        InvalidValue: A side has none.
    """
    if strategy == "auto":
        return None
    named: dict[Side, str] = (
        {"input": strategy, "output": strategy}
        if isinstance(strategy, str)
        else {side: strategy[side] for side in SIDES if side in strategy}
    )
    if set(named) != set(SIDES):
        raise _two_strategies(strategy)
    return named


def check_sides(named: Mapping[Side, str] | None, tied: bool) -> None:
    """Raise where one matrix shall serve both sides and two strategies are named.

    Raises:
        InvalidValue: They are.
    """
    if named is not None and tied and named["input"] != named["output"]:
        raise _two_strategies(named)


def _two_strategies(strategy: str | Mapping[Side, str]) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue,
        f"{dict(strategy) if isinstance(strategy, Mapping) else strategy!r}",
        field="strategy",
        fix="name one for input and one for output; tied matrices take one for both "
        '(tie="untie" makes them two)',
    )


def make_plan(
    job: Job,
    wanted: dict[Side, str] | None,
    options: Mapping[str, Any] | None,
    tied: bool,
    runnable: bool,
    calibration: Calibration | None,
    saved: Path,
    key: dict[str, str],
) -> tuple[Plan, Choice | None, tuple[str, ...]]:
    """Return the plan, how its strategies were chosen, and what the user ought to know.

    Args:
        job: The inputs.
        wanted: Side to strategy; None to choose.
        options: Of the named strategy.
        tied: Whether one matrix shall serve both sides.
        runnable: Whether the model may be run.
        calibration: How output rows are calibrated; None where they are not.
        saved: Where an interrupted swap left its plan.
        key: What such a plan must have been made for.
    """
    if saved.is_file():  # an interrupted swap is resumed
        donor = None if job.context.donor is None else job.context.donor.matrices
        try:
            plan = load_plan(saved, belongs_to=key, donor=donor, remake=remaker(job.context))
        except errors.InvalidValue:
            saved.unlink()  # it was made for another request
        else:
            return plan, None, ("the plan of an interrupted swap",)
    choice = None
    score = score_of(job) if runnable and job.corpus.learn else None
    if wanted is None:
        choice = choose(job.context, controls=job.controls, rows=job.rows, tied=tied, score=score)
        wanted = dict(choice.strategies)
        options = None
    for side, name in wanted.items():
        _check_needs(job, side, name, options)
    made: dict[Side, strategies.Strategy] = {
        side: strategies.make(name, options) for side, name in wanted.items()
    }
    plan, decided = settled_plan(job, made, tied, score, asked=choice is None)
    plan = Plan(plan.input, plan.output, {side: wanted[side] for side in SIDES})
    if calibration is None:
        why = "the model is not run" if not runnable else "that was not asked for"
        why = "there is no corpus" if runnable and not job.corpus.learn else why
        return plan, choice, (*decided, f"output rows are not calibrated: {why}")
    plan, notes = calibrated(job, plan, calibration)
    return plan, choice, (*decided, *notes)


def settled_plan(
    job: Job,
    made: Mapping[Side, strategies.Strategy],
    tied: bool,
    score: Callable[[Plan], float] | None,
    *,
    asked: bool = True,
) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan of strategies, what they leave open decided, and why it was decided so."""
    decided, why = settle(
        job.context,
        made,
        controls=job.controls,
        rows=job.rows,
        tied=tied,
        score=score,
        asked=asked,
    )
    plan = build(job.context, strategies=decided, controls=job.controls, rows=job.rows, tied=tied)
    return plan, why


def remaker(context: Context) -> Remake:
    """Return what makes rows that a saved plan only refers to."""

    def remake(side: Side, reference: Mapping[str, Any], ids: NDArray[np.int64]) -> Made:
        name = str(reference.get("strategy"))
        made = strategies.make(name, reference.get("options"))
        if not isinstance(made, strategies.Remaking):
            raise errors.build(
                errors.InvalidValue, f"{name} makes no rows again", field="plan", fix="plan again"
            )
        return made.remade(context, side, ids, reference)

    return remake


def wants_two(job: Job, wanted: Mapping[Side, str] | None, options: Mapping[str, Any]) -> bool:
    """Return whether a named strategy makes a row for each side: then tied matrices become two."""
    if wanted is None or "hypernet" not in wanted.values():
        return False
    place = options.get("hypernet")
    folder = find_hypernet(place) if place else job.context.hypernet
    return folder is not None and not read_card(folder).tied


def calibration_for(job: Job, calibrate: str, runnable: bool) -> Calibration | None:
    """Return how output rows will be calibrated; None where they will not be.

    It takes a corpus, a model that may be run, and new text tokens.

    Args:
        job: The inputs.
        calibrate: `auto`: rows of new tokens; `all`: those of shared ones too; `off`.
        runnable: Whether the model may be run.

    Raises:
        InvalidValue: `calibrate` is no choice.
    """
    from anyvocab.transplant.calibrate import Calibration

    if calibrate not in ("auto", "all", "off"):
        raise errors.build(
            errors.InvalidValue,
            f"{calibrate!r} is no choice",
            field="calibrate",
            fix='use "auto", "all" or "off"',
        )
    new = len(shares(job.context, job.controls).new)
    if calibrate == "off" or not runnable or not job.corpus.learn or not new:
        return None
    return Calibration(shared="full" if calibrate == "all" else "keep")


def calibrated(
    job: Job, plan: Plan, calibration: Calibration | None = None
) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan with calibrated output rows, and what the user ought to know."""
    from anyvocab.transplant.calibrate import calibrate_plan

    if plan.tied:
        why = 'the matrices are tied; tie="untie" makes them two'
        return plan, (f"output rows are not calibrated: {why}",)
    try:
        return calibrate_plan(job, plan, runnable=True, options=calibration)
    except errors.InvalidValue as error:  # a head that is not linear, say: the swap goes on
        return plan, (f"output rows are not calibrated: {error}",)


def _check_needs(job: Job, side: Side, name: str, options: Mapping[str, Any] | None) -> None:
    context = job.context
    fixes = {
        "donor": (context.donor, "give --donor MODEL, a model that has the new vocabulary"),
        "corpus": (context.corpus, "give --corpus FILES, texts of the model's use"),
        "encoder": (context.encoder, "give --encoder FOLDER, a sentence encoder"),
        "hypernet": (
            context.hypernet,
            "none is shipped with this model: give --option hypernet=FOLDER, which "
            "`anyvocab hypernet train` makes",
        ),
        "family": (context.donor, "give --donor MODEL, a relative that has the new vocabulary"),
    }
    words = {"hypernet": "hypernetwork", "family": "relative of the model"}
    for need in strategies.needs_of(name, options):
        value, fix = fixes.get(need, (True, ""))
        if not value:
            raise errors.build(
                errors.InvalidValue,
                f"{name} needs a {words.get(need, need)}",
                field=f"strategy, {side}",
                fix=fix,
            )


def score_of(job: Job) -> Callable[[Plan], float]:
    """Return what gives a plan's bits per byte on a part of the text that is learned from."""
    from anyvocab.evaluate import bits_per_byte
    from anyvocab.transplant.trial import try_on

    texts, room = [], TRIAL_BYTES
    for text in job.corpus.learn[:: max(1, len(job.corpus.learn) // 16)]:
        texts.append(text[:room])
        room -= len(texts[-1])
        if room <= 0:
            break

    def score(plan: Plan) -> float:
        if job.context.model is None:
            raise errors.build(errors.InvalidValue, "there is no model", field="model")
        changed = try_on(job.context.model(), plan, job.context)
        return bits_per_byte(changed, texts, tokenizer=job.target).bits_per_byte

    return score


def strategies_of(plan: Plan, options: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return side to its strategy's name, options and what else was done."""
    found: dict[str, dict[str, Any]] = {}
    for side in ("input",) if plan.tied else SIDES:
        name = plan.strategy[side]
        found[side] = {
            "name": name,
            "options": {**strategies.options_of(name), **(options or {})},
            "notes": list(plan.side(side).notes),
        }
    return found
