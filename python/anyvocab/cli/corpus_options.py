"""Options of commands that count a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from anyvocab.cli.count import named_values, size

__all__ = [
    "CountsOption",
    "DocumentsOption",
    "FieldOption",
    "FilesArgument",
    "InvalidOption",
    "LimitOption",
    "MemoryOption",
    "MergingMemoryOption",
    "OutFolderOption",
    "ReplaceOption",
    "SeedOption",
    "ThreadsOption",
    "WeightOption",
    "limits_of",
    "weights_of",
]

FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILES...",
        help="Text, .jsonl and .parquet files, also .gz and .zst; folders, patterns, "
        "hub:ORG/NAME. NAME=PLACE for sources by name.",
        show_default=False,
    ),
]
CountsOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="SHARD",
        help="Instead of FILES: a shard that `anyvocab count` wrote. Several times.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]
OutFolderOption = Annotated[
    Path, typer.Option(help="The folder to write.", file_okay=False, show_default=False)
]
FieldOption = Annotated[str, typer.Option(help="The member or column that holds a record's text.")]
DocumentsOption = Annotated[
    str, typer.Option(help="What a document is: file, or line (as Hugging Face's trainer).")
]
WeightOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=WEIGHT",
        help="How often a source's documents count: en=0.5. Several times.",
        show_default=False,
    ),
]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]SIZE",
        help="Most bytes of each source, of documents drawn by hash. Several times.",
        show_default=False,
    ),
]
InvalidOption = Annotated[
    str, typer.Option(help="Documents that are not UTF-8: bytes, skip or error.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the hash that draws documents.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="All processors.", show_default=False)
]
MemoryOption = Annotated[str, typer.Option(help="Most memory of the counts.")]
MergingMemoryOption = Annotated[
    str | None,
    typer.Option(
        help="Most memory of the counts (1GB), then of merging (what the machine has left).",
        show_default=False,
    ),
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Overwrite what is in --out.")]


def weights_of(given: Sequence[str] | None) -> dict[str, float]:
    """Return what `--weight` says."""
    try:
        return {name: float(v) for name, v in named_values(given or [], "--weight").items()}
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--weight") from None


def limits_of(given: Sequence[str] | None) -> int | dict[str, int] | None:
    """Return what `--limit` says."""
    if given and len(given) == 1 and "=" not in given[0]:
        return size(given[0])
    return {name: size(v) for name, v in named_values(given or [], "--limit").items()} or None
