"""`anyvocab doctor`: static checks of a tokenizer or a model folder.

A check is a function that yields findings; `@check` registers it under its function's name.
Exit code 3 when one of them is a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from anyvocab.cli.output import (
    ExitCode,
    JsonOption,
    Output,
    PatternOption,
    RevisionOption,
    SourceArgument,
)

if TYPE_CHECKING:
    from anyvocab import Tokenizer

__all__ = ["command"]

Level = Literal["failure", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """What a check found: where, what, and how to mend it."""

    level: Level
    check: str
    where: str
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Patient:
    """What is checked: a tokenizer and, where known, the rows of the model's matrix."""

    tokenizer: Tokenizer
    rows: int | None


_Check = Callable[[Patient], Iterator[Finding]]
_CHECKS: dict[str, _Check] = {}


def check(function: _Check) -> _Check:
    """Register a check under its name."""
    _CHECKS[function.__name__.strip("_")] = function
    return function


def command(
    source: SourceArgument,
    rows: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Rows of the model's embedding matrix; from config.json when left out.",
            show_default=False,
        ),
    ] = None,
    pattern: PatternOption = None,
    revision: RevisionOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Check a tokenizer or a model folder; exit code 3 when something is wrong."""
    from anyvocab import Tokenizer

    output = Output(json=json)
    tokenizer = Tokenizer.load(source, pattern=pattern, revision=revision)
    patient = Patient(tokenizer, rows)
    findings = [finding for one in _CHECKS.values() for finding in one(patient)]
    failed = any(finding.level == "failure" for finding in findings)
    if json:
        output.document(
            {
                "source": source,
                "ok": not failed,
                "checks": list(_CHECKS),
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        if findings:
            output.table(
                ["level", "check", "where", "found", "fix"],
                [list(asdict(finding).values()) for finding in findings],
            )
        count = sum(finding.level == "failure" for finding in findings)
        output.text(f"{len(_CHECKS)} checks, {len(findings)} findings, {count} failures")
    return ExitCode.VERIFICATION_FAILED if failed else ExitCode.DONE


@check
def _declarations(patient: Patient) -> Iterator[Finding]:
    """Configuration files name ids and tokens that exist."""
    for problem in patient.tokenizer.vocabulary.roles.problems:
        yield Finding(
            "failure", "declarations", problem.source, problem.found, "name a token that exists"
        )


@check
def _rows(patient: Patient) -> Iterator[Finding]:
    """Every id has a row in the model's matrix."""
    vocabulary = patient.tokenizer.vocabulary
    if patient.rows is None:
        return
    beyond = vocabulary.ids_beyond(patient.rows)
    if beyond:
        yield Finding(
            "failure",
            "rows",
            f"ids {beyond.start}..{beyond.stop - 1}",
            f"no row: the matrix has {patient.rows}",
            "resize the model's embeddings",
        )
    padded = vocabulary.padded_rows(patient.rows)
    if padded:
        yield Finding("note", "rows", f"rows {padded.start}..{padded.stop - 1}", "belong to no id")
