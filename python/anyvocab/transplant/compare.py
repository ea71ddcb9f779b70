"""Strategies side by side on one model: bits per byte, beside the ceiling and the floors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyvocab import errors
from anyvocab.transplant import strategies as registry
from anyvocab.transplant.applying import will_tie
from anyvocab.transplant.auto import FLOORS, feasible
from anyvocab.transplant.job import open_job
from anyvocab.transplant.plan import SIDES, Plan, Side
from anyvocab.transplant.planning import calibrated, calibration_for, score_of, settled_plan
from anyvocab.transplant.trial import try_on

if TYPE_CHECKING:
    from anyvocab.transplant.context import Encoder, Progress
    from anyvocab.transplant.job import Job

__all__ = ["Compared", "Comparison", "compare_strategies"]


@dataclass(frozen=True)
class Compared:
    """One strategy in the model.

    Attributes:
        strategy: Its name; for two sides `INPUT,OUTPUT`.
        plain: Bits per byte with its rows as they are.
        calibrated: Bits per byte after calibration; None where that was not asked for.
        seconds: For making the rows, calibration included.
        floor: Whether it is one of the floors that every strategy must beat.
    """

    strategy: str
    plain: float
    calibrated: float | None
    seconds: float
    floor: bool

    @property
    def best(self) -> float:
        """The lower of the two."""
        return self.plain if self.calibrated is None else min(self.plain, self.calibrated)


@dataclass(frozen=True)
class Comparison:
    """Strategies side by side, the best first.

    Attributes:
        ceiling: Bits per byte of the model with its own tokenizer: what a swap can hope for.
        before: Bytes per token with its own tokenizer.
        after: Bytes per token with the new one.
        bytes: Bytes that were scored.
        rows: One for each strategy.
    """

    ceiling: float
    before: float
    after: float
    bytes: int
    rows: tuple[Compared, ...]


def compare_strategies(
    model: str | os.PathLike[str],
    tokenizer: object,
    *,
    strategies: Sequence[str] | Mapping[str, tuple[str, Mapping[str, Any]]] | None = None,
    corpus: Iterable[str | os.PathLike[str] | bytes] = (),
    judge: Iterable[str | os.PathLike[str] | bytes] = (),
    donor: str | os.PathLike[str] | None = None,
    encoder: Encoder | None = None,
    tie: str = "auto",
    calibrate: str = "auto",
    floors: Sequence[str] = ("mean-row", "random"),
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Return what each strategy costs in bits per byte. Nothing is written.

    Args:
        model: A folder, a hub id, or `pico:NAME`.
        tokenizer: Anything :meth:`anyvocab.Tokenizer.load` takes.
        strategies: Names, or `INPUT,OUTPUT`; or what to call each, to its name and options. All
            that are feasible when left out.
        corpus: As for :func:`anyvocab.swap`.
        judge: As for :func:`anyvocab.swap`.
        donor: As for :func:`anyvocab.swap`.
        encoder: As for :func:`anyvocab.swap`.
        tie: As for :func:`anyvocab.swap`.
        calibrate: As for :func:`anyvocab.swap`; floors are never calibrated.
        floors: Strategies to show how bad it could be.
        seed: For what draws at random.
        progress: Told the strategy, how many are done and how many there are.

    Raises:
        InvalidValue: There is no text to judge by.
    """
    from anyvocab.evaluate import bits_per_byte

    others: dict[str, Any] = {"encoder": encoder, "seed": seed, "donor": donor}
    job = open_job(model, tokenizer, corpus=corpus, judge=judge, force=True, **others)
    texts = [text for domain in job.corpus.judge for text in domain.documents]
    if not texts or job.context.model is None:
        raise errors.build(
            errors.InvalidValue,
            "there is no text to judge by",
            field="judge",
            fix="give judge= or a larger corpus=",
        )
    network = job.context.model()
    calibration = calibration_for(job, calibrate, runnable=True)
    tied = will_tie(job.checkpoint, tie, calibrating=calibration is not None)
    ceiling = bits_per_byte(network, texts, tokenizer=job.source)

    def score(plan: Plan) -> float:
        changed = try_on(network, plan, job.context)
        return bits_per_byte(changed, texts, tokenizer=job.target).bits_per_byte

    learn = score_of(job) if job.corpus.learn else None
    listed = feasible(job.context, tied=tied) if strategies is None else strategies
    named = listed if isinstance(listed, Mapping) else {name: (name, {}) for name in listed}
    names = list(named)
    rows = []
    for at, name in enumerate([*names, *floors]):
        if progress is not None:
            progress(name, at, len(names) + len(floors))
        floor = name in floors or name in FLOORS
        began = time.perf_counter()
        plan = _plan(*named.get(name, (name, {})), job, tied, learn)
        fitted = plan
        if calibration is not None and not floor:
            fitted = calibrated(job, plan, calibration)[0]
        seconds = time.perf_counter() - began
        after = None if fitted is plan else score(fitted)
        rows.append(Compared(name, score(plan), after, seconds, floor))
    rows.sort(key=lambda row: row.best)
    total = sum(map(len, texts))
    tokens = sum(map(len, job.target.encode_batch(texts)))
    return Comparison(
        ceiling.bits_per_byte, ceiling.bytes_per_token, total / tokens, total, tuple(rows)
    )


def _plan(
    name: str,
    options: Mapping[str, Any],
    job: Job,
    tied: bool,
    score: Callable[[Plan], float] | None,
) -> Plan:
    first, comma, second = name.partition(",")
    made: dict[Side, registry.Strategy] = {
        "input": registry.make(first, options),
        "output": registry.make(second if comma else first, options),
    }
    plan, _ = settled_plan(job, made, tied, score)
    return Plan(plan.input, plan.output, dict.fromkeys(SIDES, name))
