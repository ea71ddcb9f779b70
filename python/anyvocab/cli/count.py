"""`anyvocab count`: pretokens of a corpus into a shard, and shards into one."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from anyvocab.cli.learning_options import LEARNING, NormalizerOption
from anyvocab.cli.output import ExitCode, JsonOption, Output, printable
from anyvocab.cli.progress import ProgressLine
from anyvocab.cli.spoken import spoken

if TYPE_CHECKING:
    from anyvocab.training.counting import CountReport

__all__ = ["command", "named_values", "places", "size"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(text: str) -> int:
    """Return the bytes that `1500`, `64MB` or `1GiB` says."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if found is None or (found[3] and not found[2]):
        raise typer.BadParameter(f"{text!r} is no size: write 500000, 64MB or 1GiB")
    return int(float(found[1]) * (_BINARY if found[3] else _UNITS)[found[2]])


def places(given: Sequence[str]) -> dict[str, list[str]]:
    """Return the places of every source: `NAME=PLACE`, or a place of the source `corpus`."""
    sources: dict[str, list[str]] = {}
    for one in given:
        name, equals, place = one.partition("=")
        if not equals or not name or not place or Path(one).exists():
            name, place = "corpus", one
        sources.setdefault(name, []).append(place)
    return sources


def named_values(given: Sequence[str], option: str) -> dict[str, str]:
    """Return what `NAME=VALUE` options say."""
    values = {}
    for one in given:
        name, equals, value = one.rpartition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE", param_hint=option)
        values[name] = value
    return values


def _weights(given: Sequence[str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in named_values(given, "--weight").items()}
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--weight") from None


def _limits(given: Sequence[str]) -> int | dict[str, int] | None:
    if len(given) == 1 and "=" not in given[0]:
        return size(given[0])
    return {name: size(value) for name, value in named_values(given, "--limit").items()} or None


@spoken(LEARNING)
def command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES...",
            help="Text, .jsonl and .parquet files, also .gz and .zst; folders, patterns, "
            "hub:ORG/NAME. NAME=PLACE for sources by name. With --merge: shards.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The Parquet file to write.", dir_okay=False, show_default=False)
    ],
    pattern: Annotated[
        str, typer.Option(help="A known pattern's name, a regular expression, or none.")
    ] = "llama3",
    normalizer: NormalizerOption = None,
    jsonl_field: Annotated[
        str, typer.Option(help="The member or column that holds a record's text.")
    ] = "text",
    documents: Annotated[
        str, typer.Option(help="What a document is: file, or line (as Hugging Face's trainer).")
    ] = "file",
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHT",
            help="How often a source's documents count: en=0.5. Several times.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SIZE",
            help="Most bytes of each source, of documents drawn by hash. Several times.",
            show_default=False,
        ),
    ] = None,
    invalid: Annotated[
        str, typer.Option(help="Documents that are not UTF-8: bytes, skip or error.")
    ] = "bytes",
    seed: Annotated[int, typer.Option(min=0, help="Of the hash that draws documents.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="All processors.", show_default=False)
    ] = None,
    memory: Annotated[str, typer.Option(help="Most memory of the counts.")] = "1GB",
    spill_folder: Annotated[
        Path | None,
        typer.Option(help="Where counts go that memory cannot hold.", show_default=False),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="FILES are shards: write their sum.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep parts, and go on where a run was interrupted."),
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite --out.")] = False,
    json: JsonOption = False,
) -> ExitCode:
    """Count the pretokens of a corpus into a sorted shard; shards of many machines add up.

    The counts do not depend on the order of files, on threads or on memory.
    """
    from anyvocab.training.counting import count

    output = Output(json=json)
    if merge:
        return _merge(output, files, out, replace=replace)
    limits = _limits(limit or [])
    progress = ProgressLine(output)
    try:
        report = count(
            places(files),
            out,
            pattern=pattern,
            normalizer=normalizer,
            field=jsonl_field,
            documents=cast(Literal["file", "line"], documents),
            weights=_weights(weight or []),
            limit_bytes=limits,
            invalid=cast(Literal["bytes", "skip", "error"], invalid),
            seed=seed,
            threads=threads,
            memory_bytes=size(memory),
            spill_folder=spill_folder,
            resume=resume,
            existing="replace" if replace else "refuse",
            progress=progress,
        )
    finally:
        progress.end()
    if json:
        output.document(report.to_dict())
    else:
        _print(output, report)
    return ExitCode.DONE


def _merge(output: Output, files: Sequence[str], out: Path, *, replace: bool) -> ExitCode:
    from anyvocab.training.counting import CountReport, refuse_existing
    from anyvocab.training.shards import count_rows, merge_shards

    started = time.perf_counter()
    if not replace:
        refuse_existing(out)
    header = merge_shards(files, out)
    report = CountReport(out, header, count_rows(out), time.perf_counter() - started)
    if output.json:
        output.document(report.to_dict())
    else:
        _print(output, report)
    return ExitCode.DONE


def _print(output: Output, report: CountReport) -> None:
    header = report.header
    rows: list[list[object]] = []
    for name, one in header.sources.items():
        seen = one.seen_bytes or one.bytes
        rows.append(
            [
                name,
                f"{one.documents:,}",
                f"{one.bytes:,}",
                f"{one.bytes / seen:.1%}" if seen else "",
                f"{one.weight:g}",
            ]
        )
    output.table(
        ["source", "documents", "bytes", "of what is there", "weight"], rows, numbers=[1, 2, 3, 4]
    )
    output.text("")
    output.text(
        f"{header.pretokens:,} pretokens, {report.unique:,} different, of {header.bytes:,} bytes "
        f"in {header.documents:,} documents"
    )
    rate = header.bytes / max(report.seconds, 1e-9) / 1e6
    output.text(printable(f"pattern {header.pattern}, normalizer {header.normalizer or 'none'}"))
    again = f", {report.reused_parts} parts from before" if report.reused_parts else ""
    output.text(printable(f"{report.path}: {report.seconds:.1f} s, {rate:.0f} MB/s{again}"))
