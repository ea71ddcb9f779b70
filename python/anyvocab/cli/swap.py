"""`anyvocab swap`: a model leaves with another tokenizer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anyvocab.cli.output import ExitCode, JsonOption, Output
from anyvocab.cli.progress import ProgressLine
from anyvocab.cli.swap_options import (
    CalibrateOption,
    CorpusOption,
    ForceOption,
    JudgeOption,
    ModelArgument,
    OutArgument,
    ReportOption,
    RunOption,
    SwapSeedOption,
    TieOption,
    TokenizerArgument,
    VerifyOption,
)

if TYPE_CHECKING:
    from anyvocab.transplant.result import SwapReport

__all__ = ["command", "print_report", "write_page"]

_SHOWN = 12  # control tokens, hidden-row results


def command(
    model: ModelArgument,
    tokenizer: TokenizerArgument,
    out: OutArgument,
    strategy: Annotated[
        str,
        typer.Option(help="What makes new rows: a name, INPUT,OUTPUT, or auto; `help` lists them."),
    ] = "auto",
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="An option of the strategy, repeatable.", show_default=False
        ),
    ] = None,
    donor: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="A model that has the new vocabulary.", show_default=False
        ),
    ] = None,
    corpus: CorpusOption = None,
    judge: JudgeOption = None,
    map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NEW=OLD",
            help="A control token by hand: new spelling, old spelling, id or text; repeatable.",
            show_default=False,
        ),
    ] = None,
    chat: Annotated[
        str | None,
        typer.Option(
            metavar="keep|take|translate|none",
            help="The chat template: the target's if it has one, else the source's translated.",
            show_default=False,
        ),
    ] = None,
    tie: TieOption = "auto",
    calibrate: CalibrateOption = "auto",
    pad_multiple: Annotated[
        int, typer.Option(min=1, help="Rows are padded to a multiple of this.")
    ] = 1,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="A sentence encoder, for strategies that compare meanings.",
            show_default=False,
        ),
    ] = None,
    run: RunOption = "auto",
    verify: VerifyOption = "full",
    link: Annotated[
        str,
        typer.Option(metavar="copy|hard", help="Copy or hard-link the shards that do not change."),
    ] = "copy",
    report: ReportOption = None,
    force: ForceOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan, and write nothing.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted swap.")
    ] = False,
    seed: SwapSeedOption = 0,
    json: JsonOption = False,
) -> ExitCode:
    """Give a pretrained model another tokenizer: plan, apply, verify.

    Rows of shared tokens are copied bit for bit (a hypernetwork may predict them, where text says
    that is better), new ones are made by a strategy, control tokens take the rows of their roles.
    Exit code 3 when the finished model fails a check.
    """
    output = Output(json=json)
    if strategy == "help":
        _print_strategies(output)
        return ExitCode.DONE
    from anyvocab.transplant.swap import staging_of, swap

    progress = ProgressLine(output)
    try:
        done = swap(
            model,
            tokenizer,
            out,
            strategy=_strategy(strategy),
            options=_options(option or []),
            donor=donor,
            corpus=corpus or [],
            judge=judge or [],
            map=map or [],
            chat=chat,  # type: ignore[arg-type]  # checked there, with the choices named
            tie=tie,  # type: ignore[arg-type]
            calibrate=calibrate,  # type: ignore[arg-type]
            pad_multiple=pad_multiple,
            encoder=_encoder(encoder),
            run=run,  # type: ignore[arg-type]
            verification=verify,  # type: ignore[arg-type]
            force=force,
            dry_run=dry_run,
            resume=resume,
            link=link,  # type: ignore[arg-type]
            seed=seed,
            progress=progress,
        )
    except KeyboardInterrupt:
        progress.end()
        if staging_of(out).is_dir():
            output.progress("the same command with --resume goes on from here")
        raise
    finally:
        progress.end()
    write_page(output, done, report)
    if json:
        output.document(done.to_dict())
    else:
        print_report(output, done)
    return ExitCode.DONE if done.ok else ExitCode.VERIFICATION_FAILED


def _strategy(text: str) -> Any:
    first, comma, second = text.partition(",")
    return {"input": first, "output": second} if comma else text


def _options(texts: list[str]) -> dict[str, Any]:
    import json as json_

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is no NAME=VALUE", param_hint="--option")
        try:
            found[name] = json_.loads(value)
        except ValueError:
            found[name] = value
    return found


def _encoder(folder: str | None) -> Any:
    if folder is None:
        return None
    from anyvocab.transplant.spaces import load_encoder

    return load_encoder(folder)


def _print_strategies(output: Output) -> None:
    from anyvocab.transplant import strategies

    rows = []
    for name, summary in strategies.names().items():
        needs = ", ".join(sorted(strategies.needs_of(name))) or "-"
        options = ", ".join(f"{k}={v}" for k, v in strategies.options_of(name).items()) or "-"
        rows.append([name, needs, options, summary])
    if output.json:
        keys = ("name", "needs", "options", "summary")
        output.document({"strategies": [dict(zip(keys, row, strict=True)) for row in rows]})
    else:
        output.table(["strategy", "needs", "options", "what it does"], rows)


def write_page(output: Output, done: SwapReport, page: Path | None) -> None:
    """Write the report's page, where one is asked for."""
    if page is None:
        return
    from anyvocab._save import write_atomically
    from anyvocab.transplant.report import swap_page

    write_atomically(page, swap_page(done).encode("utf-8", "backslashreplace"))
    output.progress(f"wrote {page}")


def print_report(output: Output, done: SwapReport) -> None:
    """Print what a swap did."""
    output.heading(f"{done.model} with the tokenizer of {done.tokenizer}")
    if done.findings:
        output.table(
            ["gate", "", "what to do"],
            [[one.severity, one.found, one.fix] for one in done.findings],
        )
    output.heading("Plan")
    sides = list(done.counts)
    origins = list(dict.fromkeys(origin for side in sides for origin in done.counts[side]))
    output.table(
        ["rows", *(f"{side} ({done.strategies[side]['name']})" for side in sides)],
        [[origin, *(done.counts[side].get(origin, 0) for side in sides)] for origin in origins],
        numbers=range(1, 1 + len(sides)),
    )
    _print_choice(output, done)
    output.heading("Control tokens")
    rows = [
        [row.spelling, ", ".join(row.roles), ", ".join(map(str, row.sources)) or "-", row.reason]
        for row in list(done.controls)[:_SHOWN]
    ]
    output.table(["token", "roles", "source ids", "why"], rows)
    more = len(done.controls) - len(rows)
    if more > 0:
        output.text(f"and {more} more")
    for note in done.notes:
        output.text(f"note: {note}")
    if done.out is None:
        output.text("\ndry run: nothing was written")
        return
    _print_verification(output, done)
    output.text(f"\nwrote {done.out}: {done.bytes:,} bytes of weights, {done.written:,} new")


def _print_choice(output: Output, done: SwapReport) -> None:
    if done.choice is None:
        return
    output.heading(f"How it was chosen: {done.choice.reason}")
    for side in dict.fromkeys(one.side for one in done.choice.fidelities):
        found = sorted(
            (one for one in done.choice.fidelities if one.side == side), key=lambda f: -f.cosine
        )
        output.table(
            [f"hidden rows, {side}", "cosine", "relative error", "predicted", "seconds"],
            [
                [f.strategy, f"{f.cosine:.3f}", f"{f.error:.3f}", f.predicted, f"{f.seconds:.1f}"]
                for f in found[:_SHOWN]
            ],
            numbers=(1, 2, 3, 4),
        )
    if done.choice.trials:
        output.table(
            ["input", "output", "bits per byte, before calibration"],
            [[t.input, t.output, f"{t.bits_per_byte:.4f}"] for t in done.choice.trials],
            numbers=(2,),
        )


def _print_verification(output: Output, done: SwapReport) -> None:
    found = done.verification
    if found is None:
        return
    output.heading("Verified in a process of its own" if found.evaluation else "Verified")
    words = {True: "ok", False: "FAILED", None: "-"}
    output.table(["check", "", "found"], [[c.name, words[c.ok], c.found] for c in found.checks])
    bits = done.bits_per_byte()
    if bits is None or found.evaluation is None:
        return
    output.heading(f"Bits per byte ({done.corpus})")
    before, after = found.evaluation["models"][:2]
    rows = [
        [
            old["domain"],
            old["bytes"],
            f"{old['bits_per_byte']:.4f}",
            f"{new['bits_per_byte']:.4f}",
            f"{old['bytes_per_token']:.2f}",
            f"{new['bytes_per_token']:.2f}",
        ]
        for old, new in zip(before["domains"], after["domains"], strict=True)
    ]
    rows.append(["all", before["bytes"], f"{bits[0]:.4f}", f"{bits[1]:.4f}", "", ""])
    output.table(
        ["text", "bytes", "before", "after", "bytes per token before", "after"],
        rows,
        numbers=(1, 2, 3, 4, 5),
    )
    split = after.get("split")
    if split:
        parts = []
        for kind in ("shared", "new"):
            nats = split[f"{kind}_nats_per_byte"]
            if nats is not None:
                parts.append(f"{nats / math.log(2):.4f} in {kind} tokens")
        output.text("After the swap, bits per byte: " + ", ".join(parts))
