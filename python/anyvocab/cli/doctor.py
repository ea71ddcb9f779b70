"""`anyvocab doctor`: static checks of a tokenizer or a model folder."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anyvocab.cli.output import (
    ExitCode,
    JsonOption,
    Output,
    PatternOption,
    RevisionOption,
    SourceArgument,
    printable,
)

if TYPE_CHECKING:
    from anyvocab.doctor import Report

__all__ = ["command"]

FORMAT_VERSION = 1
_INDENT = " " * 8
_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


def command(
    source: SourceArgument,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The model's folder, where it is not the tokenizer's.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Rows of the model's embedding matrix; from its files when left out.",
            show_default=False,
        ),
    ] = None,
    pattern: PatternOption = None,
    revision: RevisionOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Check a tokenizer or a model folder; exit code 3 when something is broken."""
    from anyvocab import Tokenizer
    from anyvocab.doctor import Patient, examine

    output = Output(json=json)
    tokenizer = Tokenizer.load(source, pattern=pattern, revision=revision)
    patient = Patient.of(tokenizer, folder=_folder(source), model=model, rows=rows)
    report = examine(patient)
    if json:
        output.document(_document(source, model, report))
    else:
        _print(output, report)
    return ExitCode.DONE if report.ok else ExitCode.VERIFICATION_FAILED


def _folder(source: str) -> Path | None:
    """Return the folder a source stands for; None for files and hub ids."""
    if source.startswith("pico:"):
        from anyvocab.pico import path

        return path(source.removeprefix("pico:"))
    place = Path(source)
    return place if place.is_dir() else None


def _document(source: str, model: Path | None, report: Report) -> dict[str, object]:
    return {
        "format_version": FORMAT_VERSION,
        "source": source,
        "model": None if model is None else str(model),
        "ok": report.ok,
        "counts": {name: report.count(name) for name in ("error", "warning", "info")},
        "checks": list(report.checks),
        "findings": [asdict(finding) for finding in report.findings],
    }


def _print(output: Output, report: Report) -> None:
    from rich.text import Text

    for finding in report.findings:
        line = Text()
        line.append(f"{finding.severity:8}", _STYLES[finding.severity])
        line.append(finding.check, "bold")
        line.append(f"  {printable(finding.where)}", "dim")
        output.console.print(line)
        _indented(output, finding.found)
        if finding.fix:
            _indented(output, finding.fix if finding.severity == "info" else f"fix: {finding.fix}")
    if report.findings:
        output.text("")
    counts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for word, count in (
            ("error", report.count("error")),
            ("warning", report.count("warning")),
            ("note", report.count("info")),
        )
    ]
    output.text(f"{len(report.checks)} checks: {', '.join(counts)}")


def _indented(output: Output, text: str) -> None:
    """Print text under its finding: wrapped on a terminal, one line for other programs."""
    text = printable(text)
    width = max(40, output.console.width - len(_INDENT))
    lines = textwrap.wrap(text, width) if output.console.is_terminal else [text]
    for line in lines:
        output.text(_INDENT + line)
