"""How well a model fills in middles: exactly, and by running what it wrote.

Three modes of one model answer the same holes (see :func:`anyvocab.bytelm.infill.infill`): `bytes`,
the exact treatment of a prompt that ends inside a token; `healing`; and `tokens`, no treatment.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.baselines import BACKOFF, score_ids
from anyvocab.bytelm.edges import encode_spelled
from anyvocab.bytelm.fim import FimTemplate
from anyvocab.bytelm.fim_families import choose_template
from anyvocab.bytelm.infill import (
    Infill,
    Mode,
    Stop,
    baseline_ids,
    baseline_prompt,
    byte_context,
    infill,
)
from anyvocab.evaluate.bootstrap import Bootstrap
from anyvocab.evaluate.infilling_cases import CASE_KINDS, InfillingCase
from anyvocab.evaluate.infilling_problems import Problem, judge_all, pass_at_k
from anyvocab.evaluate.infilling_results import (
    CaseResult,
    FunctionalEvaluation,
    InfillingEvaluation,
    ModeScore,
    PassRate,
    ProblemResult,
    rates,
)
from anyvocab.evaluate.infilling_sandbox import SandboxLimits

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MODES", "evaluate_infilling", "evaluate_problems", "middle_nats"]

MODES: Final[tuple[Mode, ...]] = ("tokens", "healing", "bytes")
"""The order in which they are compared: gains are over the first."""


def evaluate_infilling(
    lm: Any,
    cases: Sequence[InfillingCase],
    *,
    modes: Sequence[Mode] = MODES,
    template: FimTemplate | str | None = None,
    max_new_tokens: int = 64,
    stop: Stop = "suffix",
    backoff: int = BACKOFF,
    scored: bool = True,
    bootstrap: Bootstrap | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> InfillingEvaluation:
    """Return how exactly several modes of a model fill the holes of `cases`, greedily.

    Args:
        lm: A byte-level model with a `tokenizer` and, for the token-level modes, a `backend`.
        cases: The holes; see :func:`anyvocab.evaluate.infilling_cases.cut_cases`.
        modes: Which, the one to compare with first.
        template: How the model is asked; found in its vocabulary when left out.
        max_new_tokens: The most ids of an answer.
        stop: Where an answer ends; as for `infill`.
        backoff: How many tokens healing takes off at most.
        scored: Whether the true middles are scored too.
        bootstrap: How the intervals are made; its `block` is not used.
        progress: Told after each answer how many of how many are there.

    Raises:
        InvalidValue: There are no cases or modes, or a mode twice.
        UnsupportedTokenizer: The model has no template.
    """
    chosen = _checked(lm, modes, len(cases), template)
    bootstrap = Bootstrap() if bootstrap is None else bootstrap
    results: dict[Mode, tuple[CaseResult, ...]] = {}
    done, total = 0, len(cases) * len(modes)
    for mode in modes:
        answers = []
        for case in cases:
            answers.append(
                _answer(lm, case, chosen, mode, max_new_tokens, stop, backoff, scored=scored)
            )
            done += 1
            if progress is not None:
                progress(done, total)
        results[mode] = tuple(answers)
    kinds = [kind for kind in CASE_KINDS if any(case.kind == kind for case in cases)]
    scores = [
        score
        for kind in (*kinds, None)
        for score in _scores(
            results, [c.kind == kind or kind is None for c in cases], kind, bootstrap
        )
    ]
    return InfillingEvaluation(chosen.label, tuple(modes), tuple(scores), results, bootstrap)


def _checked(
    lm: Any, modes: Sequence[Mode], count: int, template: FimTemplate | str | None
) -> FimTemplate:
    for name, wrong, found in (
        ("cases", count == 0, "there are none"),
        ("modes", not modes, "there are none"),
        ("modes", len(set(modes)) < len(modes), "one stands there twice"),
    ):
        if wrong:
            raise errors.build(errors.InvalidValue, found, field=name)
    return choose_template(lm.tokenizer, template)


def _answer(
    lm: Any,
    case: InfillingCase,
    template: FimTemplate,
    mode: Mode,
    max_new_tokens: int,
    stop: Stop,
    backoff: int,
    *,
    scored: bool,
) -> CaseResult:
    started = time.perf_counter()
    answer = infill(
        lm,
        case.prefix,
        case.suffix,
        template=template,
        mode=mode,
        max_new_tokens=max_new_tokens,
        stop=stop,
        backoff=backoff,
    )
    seconds = time.perf_counter() - started
    matched = _matched(answer.bytes, case.middle)
    nats = middle_nats(lm, case, template, mode, backoff=backoff) if scored else None
    return CaseResult(case, answer, matched, nats, seconds)


def _matched(answer: bytes, middle: bytes) -> int:
    """Return how many bytes two texts begin with alike."""
    for at, (one, other) in enumerate(zip(answer, middle, strict=False)):
        if one != other:
            return at
    return min(len(answer), len(middle))


def middle_nats(
    lm: Any,
    case: InfillingCase,
    template: FimTemplate,
    mode: Mode,
    *,
    backoff: int = BACKOFF,
) -> float | None:
    """Return the negative log-probability of a case's true middle, its end not counted, in nats.

    `bytes`: of the bytes, by the model's own law. `tokens`: of their encoding, on its own, behind
    the prompt's. `healing`: of the encoding of the bytes taken off the prompt and the middle. The
    last two are one encoding's: upper bounds. None where a model scores no bytes.
    """
    if mode == "bytes":
        if not hasattr(lm, "score"):
            return None
        scorer, context, prompt = byte_context(lm, template, case.prefix, case.suffix)
        return -float(scorer.score(case.middle + prompt.closing, prefix=context))
    prompt = baseline_prompt(lm, template, case.prefix, case.suffix, mode)
    ids, pending = baseline_ids(lm, prompt, mode, backoff=backoff)
    middle = encode_spelled(lm.tokenizer, pending + case.middle + prompt.closing)
    return -score_ids(lm, ids, middle, pending=pending, end=template.end_ids)


def _scores(
    results: dict[Mode, tuple[CaseResult, ...]],
    chosen: Sequence[bool],
    kind: str | None,
    bootstrap: Bootstrap,
) -> list[ModeScore]:
    """Return every mode's score on the cases that are chosen."""
    rows = {
        mode: [one for one, taken in zip(row, chosen, strict=True) if taken]
        for mode, row in results.items()
    }
    cases = next(iter(rows.values()))
    ones = np.ones(len(cases), dtype=np.int64)
    sizes = np.array([len(one.case.middle) for one in cases], dtype=np.int64)
    name = f"infilling/{kind or 'all'}"

    def numbers(of: Callable[[CaseResult], float]) -> list[NDArray[np.float64]]:
        return [np.array([of(one) for one in row], dtype=np.float64) for row in rows.values()]

    exact, gains = rates(numbers(lambda one: one.exact), ones, domain=name, bootstrap=bootstrap)
    matched, _ = rates(numbers(lambda one: one.matched), sizes, domain=name, bootstrap=bootstrap)
    scores = []
    for at, (mode, row) in enumerate(rows.items()):
        nats = [one.nats for one in row if one.nats is not None]
        bits = None
        if len(nats) == len(row):
            (bits,), _ = rates(
                [np.array(nats) / math.log(2)], sizes, domain=name, bootstrap=bootstrap
            )
        scores.append(
            ModeScore(
                mode=mode,
                kind=kind,
                cases=len(row),
                exact=exact[at],
                matched=matched[at],
                bits_per_byte=bits,
                exact_gain=gains[at],
                finishes=dict(sorted(Counter(one.answer.finish for one in row).items())),
                seconds=math.fsum(one.seconds for one in row),
            )
        )
    return scores


def evaluate_problems(
    lm: Any,
    problems: Sequence[Problem],
    *,
    modes: Sequence[Mode] = MODES,
    template: FimTemplate | str | None = None,
    samples: int = 1,
    ks: Sequence[int] = (1,),
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int = 128,
    stop: Stop = "suffix",
    backoff: int = BACKOFF,
    seed: int = 0,
    limits: SandboxLimits | None = None,
    workers: int = 1,
    bootstrap: Bootstrap | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FunctionalEvaluation:
    """Return pass@k of several modes of a model on HumanEval-Infilling, judged by running it.

    Programs that the model wrote are run on this machine, under the limits of
    :mod:`anyvocab.evaluate.infilling_sandbox`, which says what they do not hold back.

    Args:
        lm: A byte-level model with a `tokenizer` and, for the token-level modes, a `backend`.
        problems: See :func:`anyvocab.evaluate.infilling_problems.read_problems`.
        modes: Which, the one to compare with first.
        template: How the model is asked; found in its vocabulary when left out.
        samples: How many middles are written for each problem, with the seeds `seed`, `seed + 1`,
            ...; more than one needs a temperature.
        ks: For which k.
        temperature: 0 takes the most probable.
        top_p: As for `infill`.
        max_new_tokens: The most ids of a middle.
        stop: Where a middle ends; as for `infill`.
        backoff: How many tokens healing takes off at most.
        seed: Of the first sample.
        limits: What each program may use.
        workers: How many programs run at once.
        bootstrap: How the intervals are made, over problems; its `block` is not used.
        progress: Told after each middle how many of how many are there.

    Raises:
        InvalidValue: There are no problems or modes, a k is over `samples`, or several samples
            would all be the same.
        UnsupportedTokenizer: The model has no template.
        AnyvocabError: Programs cannot be limited on this machine.
    """
    chosen = _checked(lm, modes, len(problems), template)
    if samples < 1 or (samples > 1 and temperature == 0):
        raise errors.build(
            errors.InvalidValue,
            f"{samples} samples at temperature {temperature} are no use",
            field="samples",
            fix="give samples=1, or a temperature above 0",
        )
    for k in ks:
        pass_at_k(samples, 0, k)  # raises where k is out of range, before any work is done
    limits = SandboxLimits() if limits is None else limits
    bootstrap = Bootstrap() if bootstrap is None else bootstrap
    results: dict[Mode, tuple[ProblemResult, ...]] = {}
    done, total = 0, len(problems) * len(modes) * samples
    for mode in modes:
        answers: list[Infill] = []
        for problem in problems:
            for sample in range(samples):
                answers.append(
                    infill(
                        lm,
                        problem.prefix,
                        problem.suffix,
                        template=chosen,
                        mode=mode,
                        max_new_tokens=max_new_tokens,
                        temperature=temperature,
                        top_p=top_p,
                        seed=seed + sample,
                        stop=stop,
                        backoff=backoff,
                    )
                )
                done += 1
                if progress is not None:
                    progress(done, total)
        results[mode] = _judged(problems, answers, samples, limits, workers)
    return FunctionalEvaluation(
        template=chosen.label,
        modes=tuple(modes),
        samples=samples,
        rates=tuple(_pass_rates(results, samples, ks, bootstrap)),
        results=results,
        limits=limits,
        bootstrap=bootstrap,
    )


def _judged(
    problems: Sequence[Problem],
    answers: Sequence[Infill],
    samples: int,
    limits: SandboxLimits,
    workers: int,
) -> tuple[ProblemResult, ...]:
    repeated = [problem for problem in problems for _ in range(samples)]
    middles = [answer.bytes for answer in answers]
    outcomes = judge_all(repeated, middles, limits=limits, workers=workers)
    found = []
    for at, problem in enumerate(problems):
        span = slice(at * samples, (at + 1) * samples)
        truth = problem.solution.encode()
        exact = sum(middle == truth for middle in middles[span])
        found.append(
            ProblemResult(problem.task_id, tuple(middles[span]), tuple(outcomes[span]), exact)
        )
    return tuple(found)


def _pass_rates(
    results: dict[Mode, tuple[ProblemResult, ...]],
    samples: int,
    ks: Sequence[int],
    bootstrap: Bootstrap,
) -> list[PassRate]:
    found = []
    for k in ks:
        above = [
            np.array([pass_at_k(samples, one.passed, k) for one in row]) for row in results.values()
        ]
        ones = np.ones(len(above[0]), dtype=np.int64)
        own, gains = rates(above, ones, domain="problems", bootstrap=bootstrap)
        found += [
            PassRate(mode, k, rate, gain)
            for mode, rate, gain in zip(results, own, gains, strict=True)
        ]
    return found
