"""`anyvocab infill --eval`: three modes of one model on the same holes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyvocab.cli.byte_options import open_model
from anyvocab.cli.output import ExitCode, Output, printable
from anyvocab.cli.progress import ProgressLine

if TYPE_CHECKING:
    from anyvocab import ByteLM
    from anyvocab.evaluate.infilling_results import (
        FunctionalEvaluation,
        InfillingEvaluation,
        Rate,
    )

__all__ = ["Wanted", "run"]

PROBLEMS = (".jsonl", ".jsonl.gz")
CODE = (".py",)
SAMPLES = 3  # cases that are shown


@dataclass(frozen=True)
class Wanted:
    """What is measured.

    Attributes:
        place: A folder or a file of code, or problems in JSON lines.
        template: How the model is asked.
        count: Holes of each kind, or problems.
        kinds: Where holes are cut.
        max_new_tokens: The most ids of a middle.
        until: `suffix` or `end`.
        samples: Middles written for each problem.
        ks: For which k pass@k is given.
        temperature: Of the problems' samples.
        top_p: Of the problems' samples.
        seed: Of the holes, or of the first sample.
        run_code: Whether what the model wrote may be run.
    """

    place: Path
    template: str | None
    count: int
    kinds: tuple[str, ...]
    max_new_tokens: int
    until: str
    samples: int
    ks: tuple[int, ...]
    temperature: float
    top_p: float
    seed: int
    run_code: bool

    @property
    def has_problems(self) -> bool:
        """Whether the place holds problems, and not code."""
        return self.place.is_file() and self.place.name.endswith(PROBLEMS)


def run(
    output: Output, model: str, wanted: Wanted, *, law: str, device: str | None, dtype: str
) -> ExitCode:
    """Measure, and print a table or a document.

    Raises:
        InvalidValue: Problems are given, and running their programs is not allowed.
    """
    from anyvocab import errors
    from anyvocab.evaluate.infilling_results import InfillingEvaluation

    if wanted.has_problems and not wanted.run_code:
        raise errors.build(
            errors.InvalidValue,
            "problems are judged by running what the model wrote, on this machine",
            field="--run-code",
            file=str(wanted.place),
            fix="give --run-code where that may be done; it runs under limits, in no jail",
        )
    if not wanted.has_problems and (wanted.temperature or wanted.samples > 1):
        raise errors.build(
            errors.InvalidValue,
            "holes in code are filled greedily, once",
            field="--temperature",
            fix="leave --temperature and --samples out",
        )

    def opened() -> ByteLM:
        return open_model(output, model, law=law, device=device, dtype=dtype)

    line = ProgressLine(output)
    common: dict[str, Any] = {
        "template": wanted.template,
        "max_new_tokens": wanted.max_new_tokens,
        "stop": wanted.until,
        "progress": lambda done, total: line("filling in", done, total),
    }
    try:
        found = (_problems if wanted.has_problems else _holes)(wanted, opened, common)
    finally:
        line.end()
    if output.json:
        output.document({"model": model, "law": law, "place": str(wanted.place), **found.to_dict()})
    elif isinstance(found, InfillingEvaluation):
        _print_cases(output, found)
    else:
        _print_problems(output, found)
    return ExitCode.DONE


def _holes(
    wanted: Wanted, opened: Callable[[], ByteLM], common: Mapping[str, Any]
) -> InfillingEvaluation:
    """Fill in holes of code, whose files are read before the model is."""
    from anyvocab.evaluate.infilling import evaluate_infilling
    from anyvocab.evaluate.infilling_cases import cut_cases, read_code

    code = read_code(wanted.place, suffixes=CODE if wanted.place.is_dir() else None)
    lm = opened()
    cases = cut_cases(
        code,
        kinds=wanted.kinds,  # type: ignore[arg-type]  # checked there
        count=wanted.count,
        seed=wanted.seed,
        tokenizer=lm.tokenizer,
    )
    return evaluate_infilling(lm, cases, **common)


def _problems(
    wanted: Wanted, opened: Callable[[], ByteLM], common: Mapping[str, Any]
) -> FunctionalEvaluation:
    """Solve problems, which are read before the model is."""
    from anyvocab.evaluate.infilling import evaluate_problems
    from anyvocab.evaluate.infilling_problems import read_problems

    problems = read_problems(wanted.place, limit=wanted.count)
    return evaluate_problems(
        opened(),
        problems,
        samples=wanted.samples,
        ks=wanted.ks,
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        seed=wanted.seed,
        **common,
    )


def _interval(rate: Rate, form: str) -> str:
    one = rate.interval
    return "" if one is None else f"{one.low:{form}}..{one.high:{form}}"


def _print_cases(output: Output, found: InfillingEvaluation) -> None:
    output.heading(f"Middles filled in exactly, asked as {found.template}")
    rows: list[list[object]] = []
    said = ""
    for one in found.scores:
        kind = one.kind or "all"
        first = one.mode == found.modes[0]
        rows.append(
            [
                kind if kind != said else "",
                one.cases if kind != said else "",
                one.mode,
                f"{one.exact.value:.1%}",
                _interval(one.exact, ".1%"),
                "" if first else f"{one.exact_gain.value:+.1%}",
                "" if first else _interval(one.exact_gain, "+.1%"),
                f"{one.matched.value:.1%}",
                "" if one.bits_per_byte is None else f"{one.bits_per_byte.value:.3f}",
                f"{one.seconds:.1f}",
            ]
        )
        said = kind
    output.table(
        [
            "cut",
            "holes",
            "mode",
            "exact",
            "95% interval",
            f"over {found.modes[0]}",
            "95% interval",
            "matched",
            "bits/byte",
            "seconds",
        ],
        rows,
        numbers=[1, 3, 4, 5, 6, 7, 8, 9],
    )
    output.text("")
    output.text("matched: the share of the true middles' bytes that the answers begin with.")
    output.text("bits/byte: of the true middles; tokens and healing count one encoding, a bound.")
    _print_samples(output, found)


def _print_samples(output: Output, found: InfillingEvaluation) -> None:
    from anyvocab.report.visible import one_line

    differing = [
        rows
        for rows in zip(*(found.results[mode] for mode in found.modes), strict=True)
        if len({one.answer.bytes for one in rows}) > 1
    ][:SAMPLES]
    if not differing:
        return
    output.heading("Where the modes differ")
    body: list[Sequence[object]] = []
    for rows in differing:
        case = rows[0].case
        head = case.prefix[case.prefix.rfind(b"\n") + 1 :]
        body.append([printable(case.name), "", f"{one_line(head)}▏"])
        body.append(["", "(what stood there)", one_line(case.middle)])
        body += [["", one.answer.mode, one_line(one.answer.bytes)] for one in rows]
    output.table(["hole", "", ""], body)


def _print_problems(output: Output, found: FunctionalEvaluation) -> None:
    output.heading(f"Problems solved, asked as {found.template}, {found.samples} middles each")
    first = found.modes[0]
    output.table(
        ["k", "mode", "pass@k", "95% interval", f"over {first}", "95% interval"],
        [
            [
                one.k,
                one.mode,
                f"{one.rate.value:.1%}",
                _interval(one.rate, ".1%"),
                "" if one.mode == first else f"{one.gain.value:+.1%}",
                "" if one.mode == first else _interval(one.gain, "+.1%"),
            ]
            for one in found.rates
        ],
        numbers=[0, 2, 3, 4, 5],
    )
