"""`anyvocab demo`: the library's main job on real input, offline, on the embedded models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyvocab.cli.output import ExitCode, JsonOption, Output

if TYPE_CHECKING:
    from anyvocab import Tokenizer

__all__ = ["command"]

MODELS = ("pico:code-4k", "pico:code-2k")
TEXT = '''def mean(values):
    """Return the arithmetic mean; 2.5 for [1, 2, 3, 4]."""
    return sum(values) / len(values)  # naïve, but clear
'''


def command(json: JsonOption = False) -> ExitCode:
    """Show two models with different vocabularies on one text."""
    from anyvocab import Tokenizer

    output = Output(json=json)
    tokenizers = {name: Tokenizer.load(name) for name in MODELS}
    cuts = {name: _cut(tokenizer, TEXT.encode()) for name, tokenizer in tokenizers.items()}
    if json:
        output.document({"text": TEXT, "models": cuts})
        return ExitCode.DONE
    output.heading("One text, two vocabularies")
    output.text(TEXT)
    output.table(
        ["model", "ids", "tokens", "bytes per token"],
        [
            [name, len(tokenizers[name].vocabulary), cut["count"], f"{cut['bytes_per_token']:.2f}"]
            for name, cut in cuts.items()
        ],
        numbers=[1, 2, 3],
    )
    for name, cut in cuts.items():
        output.heading(name)
        output.text("|".join(_visible(token) for token in _list(cut["tokens"])))
    return ExitCode.DONE


def _cut(tokenizer: Tokenizer, text: bytes) -> dict[str, object]:
    ids = tokenizer.encode(text).tolist()
    pieces = [tokenizer.vocabulary.token_bytes(id) or b"" for id in ids]
    return {
        "count": len(ids),
        "bytes_per_token": len(text) / len(ids),
        "tokens": [piece.decode("utf-8", "backslashreplace") for piece in pieces],
        "ids": ids,
    }


def _list(value: object) -> list[str]:
    return value if isinstance(value, list) else []


def _visible(token: str) -> str:
    return token.replace("\n", "⏎\n")
