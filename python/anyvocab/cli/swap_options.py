"""Arguments and options of commands that give a model another tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "CalibrateOption",
    "CorpusOption",
    "ForceOption",
    "JudgeOption",
    "ModelArgument",
    "OutArgument",
    "ReportOption",
    "RunOption",
    "SwapSeedOption",
    "TieOption",
    "TokenizerArgument",
    "VerifyOption",
]

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model folder, a hub id, or an embedded model (pico:code-4k).",
        show_default=False,
    ),
]
TokenizerArgument = Annotated[
    str,
    typer.Argument(
        metavar="TOKENIZER",
        help="The new tokenizer: a folder, a tokenizer file, a hub id, or pico:code-2k.",
        show_default=False,
    ),
]
OutArgument = Annotated[
    Path, typer.Argument(metavar="OUT", help="The new folder.", show_default=False)
]
CorpusOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILES",
        help="Texts of the model's use, repeatable: for calibration, and a fifth to measure.",
        show_default=False,
    ),
]
JudgeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILES",
        help="Texts that only measure, repeatable; a fifth of the corpus otherwise.",
        show_default=False,
    ),
]
TieOption = Annotated[
    str, typer.Option(metavar="auto|keep|untie", help="What becomes of tied matrices.")
]
CalibrateOption = Annotated[
    str,
    typer.Option(
        metavar="auto|all|off",
        help="Fit output rows of new tokens to the corpus, or of all.",
    ),
]
RunOption = Annotated[
    str,
    typer.Option(
        metavar="auto|always|never", help="Run the model to choose, calibrate and measure."
    ),
]
VerifyOption = Annotated[
    str, typer.Option(metavar="full|files|off", help="How the result is checked.")
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.html",
        help="Write the report as a self-contained page.",
        dir_okay=False,
        show_default=False,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Go on although the gate refuses.")]
SwapSeedOption = Annotated[int, typer.Option(min=0, help="For what draws at random.")]
