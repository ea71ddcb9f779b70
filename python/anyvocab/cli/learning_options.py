"""Options of commands that learn tokens: what may become one."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "LEARNING",
    "MaxDigitsOption",
    "MaxTokenBytesOption",
    "MaxWordsOption",
    "MinFrequencyOption",
    "NormalizerOption",
    "OneScriptOption",
    "VetoOption",
]

LEARNING = {  # arguments of the library whose options have other names in training commands
    "corpus": "FILES",
    "field": "--jsonl-field",
    "initial_alphabet": "--alphabet",
    "limit_bytes": "--limit",
    "memory_bytes": "--memory",
    "parity.global_merges": "--global-merges",
    "seed_tokens": "--seed-token",
    "special_tokens": "--special",
    "superwords.resamplings": "--resamplings",
    "superwords.transition": "--transition",
    "veto.max_bytes": "--max-token-bytes",
    "veto.max_digits": "--max-digits",
    "veto.max_words": "--max-words",
    "veto.pattern": "--veto",
    "weights": "--weight",
}

MinFrequencyOption = Annotated[
    int, typer.Option(min=0, help="Pairs that occur less often are not merged.")
]
MaxTokenBytesOption = Annotated[
    int | None, typer.Option(min=1, help="The longest token.", show_default=False)
]
MaxWordsOption = Annotated[
    int | None, typer.Option(min=1, help="Most words of a token.", show_default=False)
]
MaxDigitsOption = Annotated[
    int | None, typer.Option(min=0, help="Most digits of a token.", show_default=False)
]
OneScriptOption = Annotated[
    bool, typer.Option("--one-script", help="No token with letters of two scripts.")
]
VetoOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX", help="No token with a match of this pattern.", show_default=False
    ),
]
NormalizerOption = Annotated[
    str | None, typer.Option(help="nfc, nfd, nfkc, nfkd or lowercase.", show_default=False)
]
