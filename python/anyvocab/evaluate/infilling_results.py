"""What the infilling evaluations return: plain numbers, with where they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from anyvocab.evaluate.bootstrap import MIN_BLOCKS, Bootstrap, Interval, Resampled, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.bytelm.infill import Infill, Mode
    from anyvocab.evaluate.infilling_cases import InfillingCase
    from anyvocab.evaluate.infilling_sandbox import Outcome, SandboxLimits

__all__ = [
    "CaseResult",
    "FunctionalEvaluation",
    "InfillingEvaluation",
    "ModeScore",
    "PassRate",
    "ProblemResult",
    "Rate",
    "rates",
]

FORMAT_VERSION: Final = 1
_SAMPLES: Final = 5  # cases written out in a document
_METHOD: Final = (
    "percentile bootstrap over {unit}, {resamples} resamples, the same draws for all modes, "
    "seed {seed}"
)


@dataclass(frozen=True)
class Rate:
    """A sum over a sum, on all cases together, and how sure it is.

    Attributes:
        value: The ratio.
        interval: Over draws of the cases; None below `MIN_BLOCKS` cases.
    """

    value: float
    interval: Interval | None

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data for JSON."""
        one = self.interval
        return {"value": self.value, "interval": None if one is None else [one.low, one.high]}


def rates(
    above: Sequence[NDArray[np.float64]],
    below: NDArray[np.int64],
    *,
    domain: str,
    bootstrap: Bootstrap,
) -> tuple[list[Rate], list[Rate]]:
    """Return the ratio of sums for every mode, and its difference to the first mode.

    Args:
        above: A number for every case, float64[cases] for each mode.
        below: What they are divided by, int64[cases].
        domain: What the draws are made for; the same name gives the same draws.
        bootstrap: How many draws.
    """
    drawn = resample(above, below, domain=domain, bootstrap=bootstrap)
    values = [float(one.sum()) / max(1, int(below.sum())) for one in above]
    own = [
        Rate(value, _interval(drawn, drawn.sums[at], bootstrap)) for at, value in enumerate(values)
    ]
    differences = [
        Rate(value - values[0], _interval(drawn, drawn.sums[at] - drawn.sums[0], bootstrap))
        for at, value in enumerate(values)
    ]
    return own, differences


def _interval(drawn: Resampled, sums: NDArray[np.float64], bootstrap: Bootstrap) -> Interval | None:
    if drawn.blocks < MIN_BLOCKS:
        return None
    kept = drawn.bytes > 0  # a draw of empty middles alone has no ratio
    if not kept.any():
        return None
    ratio = sums[kept] / drawn.bytes[kept]
    low, high = np.quantile(ratio, [(1 - bootstrap.level) / 2, (1 + bootstrap.level) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class CaseResult:
    """One mode's answer to one case.

    Attributes:
        case: The case.
        answer: What the model wrote.
        matched: How many bytes answer and true middle begin with alike.
        nats: The negative log-probability of the true middle, its end not counted, in nats; None
            where it was not asked for or cannot be had. In `tokens` and `healing` it is one
            encoding's, an upper bound of the mode's own.
        seconds: How long the answer took, its score not counted.
    """

    case: InfillingCase
    answer: Infill
    matched: int
    nats: float | None
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether the answer is the true middle, byte for byte."""
        return self.answer.bytes == self.case.middle


@dataclass(frozen=True)
class ModeScore:
    """One mode on the cases of one kind.

    Attributes:
        mode: `bytes`, `tokens` or `healing`.
        kind: Where the cases were cut; None for all of them together.
        cases: How many.
        exact: The share that is answered exactly.
        matched: The share of the true middles' bytes that the answers begin with.
        bits_per_byte: Of the true middles; None where they were not scored.
        exact_gain: The share of exact answers less the first mode's, on the same draws.
        finishes: How many answers ended how.
        seconds: How long all of them took.
    """

    mode: Mode
    kind: str | None
    cases: int
    exact: Rate
    matched: Rate
    bits_per_byte: Rate | None
    exact_gain: Rate
    finishes: dict[str, int]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data for JSON."""
        return {
            "mode": self.mode,
            "kind": self.kind,
            "cases": self.cases,
            "exact_match": self.exact.to_dict(),
            "matched_share": self.matched.to_dict(),
            "bits_per_byte": None if self.bits_per_byte is None else self.bits_per_byte.to_dict(),
            "exact_match_gain": self.exact_gain.to_dict(),
            "finishes": self.finishes,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, eq=False)
class InfillingEvaluation:
    """Several modes of one model on the same holes.

    Attributes:
        template: What the model was asked with: `starcoder/psm`.
        modes: In the order they were given; gains are over the first.
        scores: For every mode and kind, then for every mode on all cases.
        results: For every mode, each case's.
        bootstrap: How the intervals were made.
    """

    template: str
    modes: tuple[Mode, ...]
    scores: tuple[ModeScore, ...]
    results: dict[Mode, tuple[CaseResult, ...]]
    bootstrap: Bootstrap

    def score(self, mode: Mode, kind: str | None = None) -> ModeScore:
        """Return a mode's score on a kind of cases, or on all.

        Raises:
            KeyError: There is none.
        """
        for one in self.scores:
            if (one.mode, one.kind) == (mode, kind):
                return one
        raise KeyError((mode, kind))

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain data for JSON; of the cases, a few are written out."""
        return {
            "format_version": FORMAT_VERSION,
            "template": self.template,
            "modes": list(self.modes),
            "intervals": {**_method(self.bootstrap, "cases"), "of": "gains: over the first mode"},
            "scores": [one.to_dict() for one in self.scores],
            "samples": [
                {
                    "case": one.case.name,
                    "kind": one.case.kind,
                    "middle": _shown(one.case.middle),
                    **one.answer.to_dict(),
                    "exact": one.exact,
                    "matched_bytes": one.matched,
                    "nats": one.nats,
                }
                for mode in self.modes
                for one in self.results[mode][:_SAMPLES]
            ],
        }


@dataclass(frozen=True)
class ProblemResult:
    """One mode's answers to one problem.

    Attributes:
        task_id: The problem.
        middles: What the model wrote, a sample each.
        outcomes: What became of their programs.
        exact: How many are the canonical solution, byte for byte.
    """

    task_id: str
    middles: tuple[bytes, ...]
    outcomes: tuple[Outcome, ...]
    exact: int

    @property
    def passed(self) -> int:
        """How many samples pass."""
        return sum(one.passed for one in self.outcomes)


@dataclass(frozen=True)
class PassRate:
    """One mode's pass@k.

    Attributes:
        mode: `bytes`, `tokens` or `healing`.
        k: How many samples one of which has to pass.
        rate: The mean over problems of the unbiased estimate.
        gain: The rate less the first mode's, on the same draws of problems.
    """

    mode: Mode
    k: int
    rate: Rate
    gain: Rate


@dataclass(frozen=True, eq=False)
class FunctionalEvaluation:
    """Several modes of one model on the same problems, judged by running them.

    Attributes:
        template: What the model was asked with.
        modes: In the order they were given; gains are over the first.
        samples: How many middles were written for a problem.
        rates: For every mode and k.
        results: For every mode, each problem's.
        limits: What each program could use.
        bootstrap: How the intervals were made.
    """

    template: str
    modes: tuple[Mode, ...]
    samples: int
    rates: tuple[PassRate, ...]
    results: dict[Mode, tuple[ProblemResult, ...]]
    limits: SandboxLimits
    bootstrap: Bootstrap

    def rate(self, mode: Mode, k: int = 1) -> PassRate:
        """Return a mode's pass@k.

        Raises:
            KeyError: There is none.
        """
        for one in self.rates:
            if (one.mode, one.k) == (mode, k):
                return one
        raise KeyError((mode, k))

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain data for JSON, middles left out."""
        return {
            "format_version": FORMAT_VERSION,
            "template": self.template,
            "modes": list(self.modes),
            "samples": self.samples,
            "limits": asdict(self.limits),
            "intervals": _method(self.bootstrap, "problems"),
            "pass_at": [
                {
                    "mode": one.mode,
                    "k": one.k,
                    "rate": one.rate.to_dict(),
                    "gain": one.gain.to_dict(),
                }
                for one in self.rates
            ],
            "problems": [
                {
                    "mode": mode,
                    "task_id": one.task_id,
                    "passed": one.passed,
                    "exact": one.exact,
                    "outcomes": dict(Counter(f"{o.status}: {o.detail}" for o in one.outcomes)),
                }
                for mode in self.modes
                for one in self.results[mode]
            ],
        }


def _method(bootstrap: Bootstrap, unit: str) -> dict[str, object]:
    return {
        "method": _METHOD.format(unit=unit, resamples=bootstrap.resamples, seed=bootstrap.seed),
        "level": bootstrap.level,
        "resamples": bootstrap.resamples,
        "seed": bootstrap.seed,
    }


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")
