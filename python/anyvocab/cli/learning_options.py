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

LEARNING = {  # arguments of the library, as commands that learn from a corpus call them
    "corpus": "FILES",
    "documents": "--documents",
    "field": "--jsonl-field",
    "initial_alphabet": "--alphabet",
    "invalid": "--invalid",
    "limit_bytes": "--limit",
    "max_token_bytes": "--max-token-bytes",
    "memory_bytes": "--memory",
    "min_frequency": "--min-frequency",
    "normalizer": "--normalizer",
    "parity.global_merges": "--global-merges",
    "parity": "--parity",
    "pattern": "--pattern",
    "resamplings": "--resamplings",
    "seed_tokens": "--seed-token",
    "special_tokens": "--special",
    "spill_folder": "--spill-folder",
    "superwords.resamplings": "--resamplings",
    "superwords.transition": "--transition",
    "superwords": "--superwords",
    "transition": "--transition",
    "veto.max_bytes": "--max-token-bytes",
    "veto.max_digits": "--max-digits",
    "veto.max_words": "--max-words",
    "veto.pattern": "--veto",
    "vocab_size": "--vocab-size",
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
