"""`anyvocab inspect`: what a tokenizer's vocabulary holds, and how it cuts a text."""

from __future__ import annotations

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
)

if TYPE_CHECKING:
    from anyvocab import Tokenizer

__all__ = ["command"]


def command(
    source: SourceArgument,
    text: Annotated[
        str | None, typer.Option(help="Show the tokens of this text.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Show the tokens of this file's text.",
            exists=True,
            dir_okay=False,
            readable=True,
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Compare with another tokenizer.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a self-contained page.", dir_okay=False, writable=True, show_default=False
        ),
    ] = None,
    pattern: PatternOption = None,
    revision: RevisionOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Show a vocabulary's facts and the tokens of a text."""
    from anyvocab import Tokenizer

    if text is not None and file is not None:
        raise typer.BadParameter("give one text: --text or --file")
    output = Output(json=json)
    tokenizer = Tokenizer.load(source, pattern=pattern, revision=revision)
    facts = _facts(tokenizer)
    sample = text.encode("utf-8", "surrogatepass") if text is not None else None
    if file is not None:
        sample = file.read_bytes()
    if sample is not None:
        facts["tokens"] = _tokens(tokenizer, sample)
    if against is not None or html is not None:
        raise typer.BadParameter("--against and --html are not there yet")
    if json:
        output.document(facts)
    else:
        _print(output, facts)
    return ExitCode.DONE


def _facts(tokenizer: Tokenizer) -> dict[str, object]:
    vocabulary = tokenizer.vocabulary
    return {
        "tokenizer": repr(tokenizer),
        "format": tokenizer.format,
        "model_type": tokenizer.model_type,
        "ids": len(vocabulary),
        "kinds": vocabulary.kind_counts(),
        "holes": len(vocabulary.holes()),
        "empty": len(vocabulary.empty()),
        "partial_utf8": len(vocabulary.partial_utf8()),
        "duplicates": len(vocabulary.duplicates()),
        "longest": int(vocabulary.lengths().max(initial=0)),
        "roles": [
            {
                "role": record.role,
                "id": record.id,
                "token": (vocabulary.spelling(record.id) or b"").decode("utf-8", "replace"),
                "source": record.source,
            }
            for record in vocabulary.roles
        ],
        "problems": [
            {"source": problem.source, "found": problem.found}
            for problem in vocabulary.roles.problems
        ],
    }


def _tokens(tokenizer: Tokenizer, text: bytes) -> list[dict[str, object]]:
    encoding = tokenizer.encode_with_offsets(text)
    return [
        {
            "id": id,
            "text": text[start:end].decode("utf-8", "backslashreplace"),
            "start": start,
            "end": end,
        }
        for id, (start, end) in zip(encoding.ids.tolist(), encoding.offsets.tolist(), strict=True)
    ]


def _print(output: Output, facts: dict[str, object]) -> None:
    roles, tokens = facts.pop("roles"), facts.pop("tokens", None)
    problems = facts.pop("problems")
    kinds = facts.pop("kinds")
    output.text(str(facts.pop("tokenizer")))
    if isinstance(kinds, dict):
        facts |= {f"kind {kind}": count for kind, count in kinds.items()}
    output.table(["fact", "value"], facts.items(), numbers=[1])
    for title, rows in (("roles", roles), ("problems", problems), ("tokens", tokens)):
        if isinstance(rows, list) and rows:
            output.heading(title)
            output.table(list(rows[0]), [list(row.values()) for row in rows])
