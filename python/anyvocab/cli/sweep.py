"""`anyvocab sweep`: compression for several sizes and transition points of superwords."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from anyvocab.cli.corpus_options import (
    DocumentsOption,
    FieldOption,
    InvalidOption,
    LimitOption,
    MemoryOption,
    SeedOption,
    ThreadsOption,
    WeightOption,
    limits_of,
    weights_of,
)
from anyvocab.cli.count import places, size
from anyvocab.cli.learning_options import LEARNING, MinFrequencyOption, NormalizerOption
from anyvocab.cli.output import ExitCode, JsonOption, Output, printable
from anyvocab.cli.progress import ProgressLine
from anyvocab.cli.spoken import spoken

__all__ = ["command"]


@spoken(LEARNING)
def command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES...",
            help="As for train; NAME=PLACE for sources by name, a column each.",
            show_default=False,
        ),
    ],
    sizes: Annotated[
        str, typer.Option(metavar="N,N,...", help="Vocabulary sizes: 32000, or 32k.")
    ] = "32k",
    transitions: Annotated[
        str | None,
        typer.Option(
            metavar="T,T,...",
            help="Shares of each size, or tokens; 1.0 is plain BPE. "
            "0.7,0.8,0.9,1.0; for boundless where the counts cross.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(metavar="superbpe|boundless")] = "superbpe",
    held_out: Annotated[
        float, typer.Option(help="Share of the documents that is encoded and not counted.")
    ] = 0.02,
    pattern: Annotated[str, typer.Option(help="The pattern of words.")] = "llama3",
    normalizer: NormalizerOption = None,
    min_frequency: MinFrequencyOption = 2,
    jsonl_field: FieldOption = "text",
    documents: DocumentsOption = "file",
    weight: WeightOption = None,
    limit: LimitOption = None,
    invalid: InvalidOption = "bytes",
    seed: SeedOption = 0,
    threads: ThreadsOption = None,
    memory: MemoryOption = "1GB",
    json: JsonOption = False,
) -> ExitCode:
    """Compare transition points and sizes of superword tokenizers on held-out documents.

    The corpus is counted once. Documents that a hash of each chooses are not counted, but encoded:
    the table gives their bytes per token.
    """
    from anyvocab.training.counting import Plan
    from anyvocab.training.options import TrainOptions
    from anyvocab.training.sweep import sweep

    output = Output(json=json)
    plan = Plan(
        pattern=pattern,
        normalizer=normalizer,
        documents=cast(Literal["file", "line"], documents),
        invalid=cast(Literal["bytes", "skip", "error"], invalid),
        seed=seed,
        threads=threads,
        memory_bytes=size(memory),
    )
    progress = ProgressLine(output)
    try:
        report = sweep(
            places(files),
            sizes=[_tokens(one) for one in sizes.split(",")],
            transitions=None if transitions is None else _numbers(transitions),
            recipe=cast(Literal["superbpe", "boundless"], recipe),
            held_out=held_out,
            options=TrainOptions(min_frequency=min_frequency),
            plan=plan,
            field=jsonl_field,
            weights=weights_of(weight),
            limit_bytes=limits_of(limit),
            progress=progress,
        )
    finally:
        progress.end()
    if output.json:
        output.document(report.to_dict())
        return ExitCode.DONE
    sources = sorted(report.held_out)
    columns = ["size", "transition", "bytes/token", *(sources if len(sources) > 1 else [])]
    rows = []
    for row in report.rows:
        share = "" if row.share is None or row.share > 1 else f" ({row.share:g})"
        by_source = [f"{row.of(name):.3f}" for name in sources] if len(sources) > 1 else []
        rows.append(
            [
                f"{row.vocab_size:,}",
                f"{row.transition:,}{share}",
                f"{row.bytes_per_token:.3f}",
                *by_source,
            ]
        )
    output.table(columns, rows, numbers=range(len(columns)))
    documents_ = sum(report.held_out.values())
    output.text(
        printable(
            f"{report.recipe}: learnt from {report.header.bytes:,} bytes, measured on "
            f"{sum(report.rows[0].bytes.values()):,} bytes of {documents_:,} held-out documents"
        )
    )
    return ExitCode.DONE


def _tokens(text: str) -> int:
    """Return the number that `32000` or `32k` says."""
    number = text.strip().lower()
    try:
        return int(number.removesuffix("k")) * (1000 if number.endswith("k") else 1)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number of tokens", param_hint="--sizes") from None


def _numbers(text: str) -> list[float]:
    try:
        return [float(one) for one in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no numbers", param_hint="--transitions") from None
