"""`anyvocab hypernet`: networks that predict the rows of any tokenizer's tokens."""

from __future__ import annotations

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
    from anyvocab.hypernet.folder import Card
    from anyvocab.hypernet.variants import ShiftReport

__all__ = ["HELP", "show", "transfer"]

HELP = "Networks that predict the rows of any tokenizer's tokens: train one, use one."


def transfer(
    model: ModelArgument,
    tokenizer: TokenizerArgument,
    out: OutArgument,
    hypernet: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="The hypernetwork; the one shipped with the model otherwise."
        ),
    ] = None,
    anchor: Annotated[
        str,
        typer.Option(
            metavar="auto|hard|soft|none",
            help="Shared tokens: copied (hard), mixed, predicted too, or what --corpus says.",
        ),
    ] = "auto",
    share: Annotated[
        float, typer.Option(help="With soft anchors: the predicted part of a shared row.")
    ] = 0.5,
    language: Annotated[
        str | None,
        typer.Option(help="For a hypernetwork that tells languages apart.", show_default=False),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="What MODEL was fine-tuned from: its rows are read, its hypernetwork is used.",
            show_default=False,
        ),
    ] = None,
    transferred: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="With --base: the base with TOKENIZER, trained further. Its rows are taken, and "
            "what training did to its body is added.",
            show_default=False,
        ),
    ] = None,
    factor: Annotated[
        float, typer.Option(help="With --transferred: how much of that is added.")
    ] = 0.5,
    corpus: CorpusOption = None,
    judge: JudgeOption = None,
    calibrate: CalibrateOption = "auto",
    tie: TieOption = "auto",
    device: Annotated[
        str | None,
        typer.Option(help="Where the hypernetwork runs (cuda).", show_default=False),
    ] = None,
    run: RunOption = "auto",
    verify: VerifyOption = "full",
    report: ReportOption = None,
    force: ForceOption = False,
    seed: SwapSeedOption = 0,
    json: JsonOption = False,
) -> ExitCode:
    """Give a model another tokenizer with the rows that its hypernetwork predicts.

    The same as `anyvocab swap --strategy hypernet`: plan, report and checks are that command's.
    Exit code 3 when the finished model fails a check.
    """
    output = Output(json=json)
    if transferred is not None and base is None:
        raise typer.BadParameter("needs --base as well", param_hint="--transferred")
    from anyvocab.hypernet.variants import transfer_variant
    from anyvocab.transplant.swap import swap

    options: dict[str, Any] = {
        "anchor": anchor,
        "device": device,
        "language": language,
        "share": share,
    }
    progress = ProgressLine(output)
    others: dict[str, Any] = {
        "corpus": corpus or [],
        "judge": judge or [],
        "calibrate": calibrate,
        "tie": tie,
        "run": run,
        "verification": verify,
        "force": force,
        "seed": seed,
        "progress": progress,
    }
    shifted: ShiftReport | None = None
    try:
        if base is None:
            done = swap(
                model,
                tokenizer,
                out,
                strategy="hypernet",
                options={**options, "hypernet": hypernet},
                **others,
            )
        else:
            done, shifted = transfer_variant(
                model,
                base,
                tokenizer,
                out,
                hypernet=hypernet,
                transferred=transferred,
                factor=factor,
                options=options,
                **others,
            )
    finally:
        progress.end()
    from anyvocab.cli.swap import print_report, write_page

    write_page(output, done, report)
    if json:
        document = done.to_dict()
        output.document({**document, "body": None if shifted is None else shifted.to_dict()})
    else:
        print_report(output, done)
        if shifted is not None:
            output.text(
                f"\nbody: {shifted.shifted} of {shifted.tensors} tensors moved by "
                f"{shifted.factor:g} times what training did to the base's "
                f"({shifted.distance:.2%} of their length); wrote {shifted.out}"
            )
    return ExitCode.DONE if done.ok else ExitCode.VERIFICATION_FAILED


def show(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="A hypernetwork's folder, a model's with one in it, or pico:code-4k.",
            show_default=False,
        ),
    ],
    json: JsonOption = False,
) -> ExitCode:
    """Say what a hypernetwork is: its model, its shape, what it was trained on and how it does.

    Only the description is read, no weights.
    """
    output = Output(json=json)
    from anyvocab.hypernet.folder import find_hypernet, read_card

    place = find_hypernet(folder)
    card = read_card(place)
    if json:
        output.document({**card.to_dict(), "folder": str(place)})
        return ExitCode.DONE
    _print_card(output, place, card)
    return ExitCode.DONE


def _print_card(output: Output, place: Path, card: Card) -> None:
    output.heading(f"The hypernetwork in {place}")
    output.table(
        ["", ""],
        [
            ["kind", card.kind],
            ["model", card.model or "not said"],
            ["rows of the model", f"{card.rows:,}"],
            ["a token's rows", "one for both sides" if card.tied else "one for each side"],
            ["languages", ", ".join(card.languages) or "-"],
            ["written by", f"anyvocab {card.version}" if card.version else "-"],
        ],
    )
    output.heading("Shape")
    output.table(["", ""], sorted((name, str(value)) for name, value in card.config.items()))
    trained = card.trained
    if not trained:
        output.text("\nnothing says that it was trained")
    else:
        output.heading("Trained")
        corpus = trained.get("corpus", {})
        rows = [
            [name, f"{trained[name]:,}"]
            for name in ("steps", "tokens", "seconds")
            if name in trained
        ]
        output.table(
            ["", ""], [*rows, *([f"corpus, {part}", f"{n:,} bytes"] for part, n in corpus.items())]
        )
    if card.measured:
        output.heading("On held-out text, under sampled tokenizers")
        columns = sorted({name for one in card.measured for name in one})
        body = [
            [
                f"{one[name]:.4f}" if isinstance(one.get(name), float) else str(one.get(name, "-"))
                for name in columns
            ]
            for one in card.measured
        ]
        output.table(columns, body, numbers=range(len(columns)))
