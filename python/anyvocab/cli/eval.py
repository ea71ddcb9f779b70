"""`anyvocab eval`: models on the same texts, whatever their tokenizers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anyvocab.cli.byte_options import DeviceOption, DtypeOption, LawOption
from anyvocab.cli.output import (
    ExitCode,
    FieldOption,
    HtmlOption,
    JsonOption,
    Output,
    TextsOption,
    printable,
)
from anyvocab.cli.progress import ProgressLine

if TYPE_CHECKING:
    from anyvocab.evaluate import DomainScore, Evaluation, Interval, ModelScore

__all__ = ["command"]

ALL = "all"


def command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Model folders, hub ids, or embedded models (pico:code-4k). A file among them is "
            "one more text.",
            show_default=False,
        ),
    ],
    text: TextsOption = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The model before a swap: loss in shared and new tokens, hidden states.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="BYTES",
            help="Score so many bytes of each domain, the same for all models.",
            show_default=False,
        ),
    ] = None,
    field: FieldOption = "text",
    window: Annotated[
        int | None,
        typer.Option(min=2, help="Ids a model sees at once; its own.", show_default=False),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, help="Ids a further window scores; half a window.", show_default=False),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Windows of one forward pass.")] = 8,
    block: Annotated[
        int, typer.Option(min=1, metavar="BYTES", help="Of a block that intervals draw.")
    ] = 1024,
    resamples: Annotated[int, typer.Option(min=100, help="How often blocks are drawn.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws and of the prompts.")] = 0,
    prompts: Annotated[
        int, typer.Option(min=0, help="Greedy continuations of each model; 0 for none.")
    ] = 8,
    new_tokens: Annotated[int, typer.Option(min=1, help="The most ids of a continuation.")] = 64,
    device: DeviceOption = None,
    dtype: DtypeOption = "float32",
    harness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK",
            help="Run tasks of lm-evaluation-harness on the models as byte-level models, in place "
            "of texts. May be given several times.",
            show_default=False,
        ),
    ] = None,
    task_files: Annotated[
        Path | None,
        typer.Option(
            help="For --harness: a folder of further task files.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(min=1, help="For --harness: of each task; all.", show_default=False),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(min=0, help="For --harness: solved examples before each.", show_default=False),
    ] = None,
    law: LawOption = "local",
    html: HtmlOption = None,
    json: JsonOption = False,
) -> ExitCode:
    """Compare models by bits per byte on the same texts, whatever their tokenizers.

    Exit code 3 when a model that is --against's but for its vocabulary gives other hidden states
    where the two tokenizers agree.
    """
    if harness:
        from anyvocab.cli.harness import run

        if text or against or html or limit or window or stride:
            raise typer.BadParameter(
                "tasks bring texts of their own: leave --text, --against, --html, --limit, "
                "--window and --stride out",
                param_hint="--harness",
            )
        return run(
            Output(json=json),
            models,
            harness,
            task_files=task_files,
            examples=examples,
            shots=shots,
            law=law,
            batch=batch,
            seed=seed,
            device=device,
            dtype=dtype,
        )
    if task_files or examples or shots is not None or law != "local":
        raise typer.BadParameter(
            "--task-files, --examples, --shots and --law are for tasks: give --harness TASK"
        )
    from anyvocab.evaluate import Bootstrap, Sampling, evaluate_models, read_domains

    # A shell expands `--text *.md` into one text and many arguments.
    files = [one for one in models if Path(one).is_file()]
    chosen = [one for one in models if one not in files]
    places = [*(text or []), *files]
    if not places:
        raise typer.BadParameter("give a text: --text FILE")
    if not chosen and against is None:
        raise typer.BadParameter("give a model: a folder, a hub id, or pico:code-4k")
    output = Output(json=json)
    domains = read_domains(places, field=field, limit=limit)
    bootstrap = Bootstrap(block=block, resamples=resamples, seed=seed)
    sampling = Sampling(prompts=prompts, new_tokens=new_tokens, seed=seed)
    if not chosen:  # the model before, on its own
        chosen, against = [str(against)], None
    progress = ProgressLine(output)
    try:
        evaluation = evaluate_models(
            chosen,
            domains,
            against=against,
            window=window,
            stride=stride,
            batch_size=batch,
            bootstrap=bootstrap,
            sampling=sampling,
            device=device,
            dtype=dtype,
            progress=lambda model, step, done, total: progress(f"{model}: {step}", done, total),
        )
    finally:
        progress.end()
    if html is not None:
        from anyvocab._save import write_atomically
        from anyvocab.report.eval_page import eval_page

        write_atomically(html, eval_page(evaluation).encode("utf-8", "backslashreplace"))
    if json:
        output.document(evaluation.to_dict())
    else:
        _print(output, evaluation)
    if html is not None:
        output.progress(f"wrote {html}")
    moved = [
        one.exactness is not None
        and one.exactness.same_body
        and one.exactness.largest_difference > 0
        for one in evaluation.models
    ]
    return ExitCode.VERIFICATION_FAILED if any(moved) else ExitCode.DONE


def _between(interval: Interval | None, form: str = ".3f") -> str:
    return "" if interval is None else f"{interval.low:{form}}..{interval.high:{form}}"


def _print(output: Output, evaluation: Evaluation) -> None:
    models = evaluation.models
    level = f"{evaluation.bootstrap.level:.0%} interval"
    output.heading("Bits per byte (lower is better)")
    several = len(models[0].domains) > 1
    rows: list[list[object]] = []
    for d, domain in enumerate(models[0].domains):
        rows += [
            _row(domain.name if m == 0 else "", model.name, model.domains[d])
            for m, model in enumerate(models)
        ]
    if several:
        rows += [_row(ALL if m == 0 else "", one.name, one) for m, one in enumerate(models)]
    output.table(
        ["domain", "model", "bits/byte", level, "bytes/token", "bytes", "tokens"],
        rows,
        numbers=[2, 3, 4, 5, 6],
    )
    if len(models) > 1:
        output.heading(f"Difference to {models[0].name} in bits per byte, on the same bytes")
        output.table(
            ["domain", "model", "difference", level],
            [
                [
                    one.domain or ALL,
                    one.model,
                    f"{one.bits_per_byte:+.4f}",
                    _between(one.interval, "+.3f"),
                ]
                for one in evaluation.differences
                if one.domain is not None or several
            ],
            numbers=[2, 3],
        )
    _print_splits(output, evaluation)
    _print_greedy(output, evaluation)
    _print_exactness(output, evaluation)
    output.text("")
    for model in models:
        ids = " ".join(map(str, model.first_ids))
        output.text(
            printable(
                f"{model.name}: before each text: {ids} ({model.first_ids_from}); window "
                f"{model.window}, stride {model.stride}; {model.seconds:.1f} s, "
                f"{model.bytes / max(model.seconds, 1e-9):,.0f} bytes/s"
            )
        )
        for note in model.notes:
            output.text(printable(f"{model.name}: {note}"))
    output.text(f"intervals: {evaluation.bootstrap.describe()}")
    for one in models[0].domains:
        if one.left_out:
            output.text(printable(f"{one.name}: {one.left_out} bytes left out by --limit"))


def _row(domain: str, model: str, score: DomainScore | ModelScore) -> list[object]:
    return [
        domain,
        model,
        f"{score.bits_per_byte:.4f}",
        _between(score.interval),
        f"{score.bytes_per_token:.2f}",
        score.bytes,
        score.tokens,
    ]


def _print_splits(output: Output, evaluation: Evaluation) -> None:
    rows: list[list[object]] = []
    for model in evaluation.models:
        parts = [(one.name, one.split) for one in model.domains]
        if len(parts) > 1:
            parts.append((ALL, model.split))
        for name, split in parts:
            if split is None:
                continue
            share = split.new_tokens / (split.new_tokens + split.shared_tokens)
            rows.append(
                [
                    name,
                    model.name,
                    _nats(split.shared_nats_per_byte),
                    _nats(split.new_nats_per_byte),
                    split.shared_tokens,
                    split.new_tokens,
                    f"{share:.1%}",
                ]
            )
    if not rows:
        return
    output.heading(f"Nats per byte in tokens shared with {evaluation.against} and in new ones")
    output.table(
        ["domain", "model", "shared", "new", "shared tokens", "new tokens", "share"],
        rows,
        numbers=[2, 3, 4, 5, 6],
    )


def _nats(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _print_greedy(output: Output, evaluation: Evaluation) -> None:
    rows: list[list[object]] = []
    for model in evaluation.models:
        greedy = model.greedy
        if greedy is None:
            continue
        new = greedy.new_token_rate
        rows.append(
            [
                model.name,
                len(greedy.continuations),
                greedy.budget,
                f"{greedy.loop_rate:.0%}",
                f"{greedy.ended_rate:.0%}",
                f"{greedy.utf8_rate:.0%}",
                "" if new is None else f"{new:.1%}",
            ]
        )
    if rows:
        output.heading("Greedy continuations of pieces of the texts (a sanity check, no score)")
        output.table(
            ["model", "prompts", "tokens", "loop", "ended", "valid UTF-8", "new tokens"],
            rows,
            numbers=[1, 2, 3, 4, 5, 6],
        )


def _print_exactness(output: Output, evaluation: Evaluation) -> None:
    rows: list[list[object]] = []
    for model in evaluation.models:
        exact = model.exactness
        if exact is None:
            continue
        if exact.largest_difference == 0.0:
            verdict = "the same bits"
        elif exact.same_body:
            verdict = "FAULT: all other weights are equal"
        else:
            verdict = "other weights differ"
        rows.append(
            [
                model.name,
                exact.prompts,
                exact.tokens,
                f"{exact.largest_difference:.3g}",
                verdict,
            ]
        )
    if rows:
        output.heading(f"Hidden states on tokens shared with {evaluation.against}")
        output.table(["model", "prompts", "tokens", "difference", ""], rows, numbers=[1, 2, 3])
