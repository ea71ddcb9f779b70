"""`anyvocab hypernet train`: a model and a corpus into a hypernetwork."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anyvocab.cli.corpus_options import SeedOption
from anyvocab.cli.count import places
from anyvocab.cli.output import ExitCode, JsonOption, Output, printable
from anyvocab.cli.progress import ProgressLine

if TYPE_CHECKING:
    from anyvocab.hypernet.fit import Trainer
    from anyvocab.hypernet.training import FitReport

__all__ = ["command"]

MINUTES = 60.0


def command(
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or pico:NAME.")],
    out: Annotated[
        Path,
        typer.Option(
            help="The hypernetwork's folder; the same command again resumes there.",
            file_okay=False,
            show_default=False,
        ),
    ],
    corpus: Annotated[
        list[str],
        typer.Option(
            metavar="FILES",
            help="Text, .jsonl and .parquet files, folders, patterns; NAME=PLACE for languages. "
            "Several times.",
            show_default=False,
        ),
    ],
    minutes: Annotated[
        float | None,
        typer.Option(min=0.0, help="Training time in all; an hour.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Updates in all, instead: a resumed run repeats an unbroken one."),
    ] = None,
    texts: Annotated[int, typer.Option(min=1, help="Texts of a step.")] = 32,
    window: Annotated[int, typer.Option(min=2, help="Ids of a text that are read.")] = 128,
    span: Annotated[int, typer.Option(min=2, help="Bytes of a text that is drawn.")] = 512,
    rows: Annotated[int, typer.Option(min=1, help="Rows that are predicted in a step.")] = 2048,
    lr: Annotated[float, typer.Option(help="The highest learning rate.")] = 1e-3,
    warmup: Annotated[int, typer.Option(min=0, help="Steps until it is reached.")] = 100,
    schedule: Annotated[
        str, typer.Option(help="How it falls: linear, cosine or constant.")
    ] = "linear",
    lexical: Annotated[
        float, typer.Option(min=0.0, help="Weight of staying near the source's own rows.")
    ] = 0.1,
    alm: Annotated[
        float, typer.Option(min=0.0, help="Weight of matching the source's own likelihoods.")
    ] = 0.0,
    dynamic: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Share of the steps on merged batches, for dynamic tokenization: 0 to 1.",
        ),
    ] = 0.0,
    sides: Annotated[
        str, typer.Option(help="Tied models: keep one row a token, or both: one to read and write.")
    ] = "keep",
    hidden: Annotated[
        int | None, typer.Option(min=1, help="Width inside; the model's.", show_default=False)
    ] = None,
    layers: Annotated[int, typer.Option(min=0, help="Attention layers over pieces.")] = 2,
    vocab_size: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH",
            help="Sizes of sampled tokenizers; around the source's.",
            show_default=False,
        ),
    ] = None,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Parts of a step, one in memory at a time.")
    ] = 1,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory: activations are made twice.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENIZER",
            help="Train on for this tokenizer alone, best with --start.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="A hypernetwork to begin with.", show_default=False),
    ] = None,
    backbone: Annotated[
        str, typer.Option(help="What else is trained: frozen (nothing), lora or full.")
    ] = "frozen",
    parallel: Annotated[str, typer.Option(help="Under torchrun: auto, ddp or fsdp.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Of the products: bfloat16 or float32.")] = "bfloat16",
    compile: Annotated[
        str, typer.Option(help="on: torch compiles the model first, a minute for twice the speed.")
    ] = "off",
    device: Annotated[
        str | None, typer.Option(help="cuda, cuda:1, ...; the CPU.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the tokenizer sampler.")] = 1,
    tracker: Annotated[
        str | None,
        typer.Option(help="tensorboard, wandb, ... through accelerate.", show_default=False),
    ] = None,
    jsonl_field: Annotated[
        str, typer.Option("--field", help="The member or column that holds a record's text.")
    ] = "text",
    measure_every: Annotated[
        int, typer.Option(min=0, help="Steps between measurements on held-out text.")
    ] = 250,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> ExitCode:
    """Train a hypernetwork: it predicts the rows of any tokenizer's tokens for MODEL.

    Each step samples a tokenizer from the corpus, predicts its rows, and reads the corpus through
    the frozen model with them. Interrupt it when you like: the same command resumes it. The result
    is used by `anyvocab hypernet transfer` and by `anyvocab swap --strategy hypernet`.

    Several GPUs: `torchrun --nproc_per_node=8 -m anyvocab hypernet train ...`.
    """
    output = Output(json=json)
    from anyvocab.hypernet.options import FitOptions, NetworkOptions
    from anyvocab.hypernet.training import fit

    budget: dict[str, Any] = {"steps": steps, "minutes": minutes}
    if steps is None and minutes is None:
        budget["minutes"] = MINUTES
    shape: dict[str, Any] = {"hidden": hidden, "layers": layers, "sides": sides}
    options = FitOptions(
        **budget,
        texts=texts,
        window=window,
        span=span,
        rows=rows,
        lr=lr,
        warmup=warmup,
        schedule=schedule,  # type: ignore[arg-type] # checked there
        lexical=lexical,
        alm=alm,
        dynamic_share=dynamic,
        accumulate=accumulate,
        checkpointing=checkpointing,
        backbone=backbone,  # type: ignore[arg-type] # checked there
        parallel=parallel,  # type: ignore[arg-type] # checked there
        dtype=dtype,  # type: ignore[arg-type] # checked there
        compile=compile,  # type: ignore[arg-type] # checked there
        tracker=tracker,
        measure_every=measure_every,
        seed=seed,
        network=NetworkOptions(**shape),
        sampler=_sampler(vocab_size),
    )
    line = ProgressLine(output)
    try:
        report = fit(
            model,
            places(corpus),
            out,
            options=options,
            device=device,
            threads=threads,
            target=target,
            start=start,
            field=jsonl_field,
            watch=_Watch(line),
        )
    finally:
        line.end()
    if not report.leads:
        return ExitCode.DONE
    if json:
        output.document(report.to_dict())
    else:
        for said in _told(report, model, target, start):
            output.text(printable(said))
    return ExitCode.DONE


def _sampler(sizes: str | None) -> Any:
    if sizes is None:
        return None
    from anyvocab.hypernet.sampler import LogNormal, SamplerOptions

    first, colon, last = sizes.partition(":")
    if not (colon and first.isdigit() and last.isdigit()):
        raise typer.BadParameter("two numbers, LOW:HIGH", param_hint="--vocab-size")
    low, high = int(first), int(last)
    middle = max(1.0, (low * high) ** 0.5)
    return SamplerOptions(vocab_size=LogNormal(middle, 0.7, low, high))


class _Watch:
    """Shows where a run stands."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    def __call__(self, trainer: Trainer) -> None:
        losses = trainer.log.losses[-50:]
        bits = trainer.log.measured[-1].bits_per_byte if trainer.log.measured else None
        said = f"{sum(losses) / len(losses):.3f} nats a token"
        if bits is not None:
            said += f", held out {bits:.3f} bits per byte"
        self._line("training", round(1000 * trainer.done()), 1000, said)


def _told(report: FitReport, model: str, target: str | None, start: str | None) -> list[str]:
    """Return what a run did, for people."""
    from anyvocab.hypernet.training import MODEL

    lines = [f"{report.steps:,} steps, {report.tokens:,} tokens, {report.seconds / 60:.1f} minutes"]
    if len(report.measured) > 1:
        first, last = report.measured[0], report.measured[-1]
        under = "tokenizers it never saw" if target is None else target
        before = "mean of the pieces" if start is None else start
        lines.append(
            f"bits per byte of held-out text under {under}: "
            f"{first.bits_per_byte:.3f} ({before}) -> {last.bits_per_byte:.3f}"
        )
        if first.merged is not None and last.merged is not None:
            lines.append(
                "bits per byte that merging costs on held-out text: "
                f"{first.merged:.4f} -> {last.merged:.4f}"
            )
    lines.append(f"{report.out}: {report.parameters:,} parameters")
    wanted = target or "TOKENIZER"
    if (report.out / MODEL).is_dir():  # trained beside the network
        model = str(report.out / MODEL)
    lines.append(f"next: anyvocab hypernet transfer {model} {wanted} OUT --hypernet {report.out}")
    return lines
