"""`anyvocab hypernet`: networks that predict the rows of any tokenizer's tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anyvocab.cli.output import ExitCode, JsonOption, Output
from anyvocab.cli.progress import ProgressLine

if TYPE_CHECKING:
    from anyvocab.hypernet.folder import Card
    from anyvocab.hypernet.variants import ShiftReport

__all__ = ["HELP", "show", "transfer"]

HELP = "Networks that predict the rows of any tokenizer's tokens: train one, use one."


def transfer(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model folder, a hub id, or an embedded model (pico:code-4k).",
            show_default=False,
        ),
    ],
    tokenizer: Annotated[
        str,
        typer.Argument(
            metavar="TOKENIZER",
            help="The new tokenizer: a folder, a tokenizer file, a hub id, or pico:code-2k.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder.", show_default=False)],
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
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILES",
            help="Texts of the model's use, repeatable: to choose by, to calibrate, to measure.",
            show_default=False,
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILES", help="Texts that only measure, repeatable.", show_default=False
        ),
    ] = None,
    calibrate: Annotated[
        str, typer.Option(metavar="auto|all|off", help="Fit output rows to the corpus.")
    ] = "auto",
    tie: Annotated[
        str, typer.Option(metavar="auto|keep|untie", help="What becomes of tied matrices.")
    ] = "auto",
    device: Annotated[
        str | None,
        typer.Option(help="Where the hypernetwork runs (cuda).", show_default=False),
    ] = None,
    run: Annotated[
        str,
        typer.Option(metavar="auto|always|never", help="Run the model to choose and measure."),
    ] = "auto",
    verify: Annotated[
        str, typer.Option(metavar="full|files|off", help="How the result is checked.")
    ] = "full",
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write the report as a self-contained page.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the gate refuses.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="For what draws at random.")] = 0,
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
    if report is not None:
        from anyvocab._save import write_atomically
        from anyvocab.transplant.report import swap_page

        write_atomically(report, swap_page(done).encode("utf-8", "backslashreplace"))
        output.progress(f"wrote {report}")
    if json:
        document = done.to_dict()
        output.document({**document, "body": None if shifted is None else shifted.to_dict()})
    else:
        from anyvocab.cli.swap import print_report

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
