"""`anyvocab demo`: the library's main job on real input, offline, on the embedded models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from anyvocab.cli.output import ExitCode, JsonOption, Output

if TYPE_CHECKING:
    from anyvocab import Tokenizer
    from anyvocab.evaluate import BitsPerByte

__all__ = ["command"]

MODELS = ("pico:code-4k", "pico:code-2k")
TEXT = '''def mean(values):
    """Return the arithmetic mean: 2.5 for [1, 2, 3, 4]."""
    return sum(values) / len(values)  # naïve, but clear
'''
# Of the modules that no model and no tokenizer has seen, short ones of different authors.
HELD_OUT = ("heapq", "textwrap", "sched", "graphlib")


@dataclass(frozen=True)
class Cut:
    """How a tokenizer cuts `TEXT`."""

    ids: list[int]
    tokens: list[str]
    bytes_per_token: float


def command(json: JsonOption = False) -> ExitCode:
    """Show two models with different vocabularies on one text."""
    from anyvocab import Tokenizer

    output = Output(json=json)
    tokenizers = {name: Tokenizer.load(name) for name in MODELS}
    cuts = {name: _cut(tokenizer) for name, tokenizer in tokenizers.items()}
    if not json:
        _print_cuts(output, tokenizers, cuts)
    scores = {name: _score(output, name, tokenizer) for name, tokenizer in tokenizers.items()}
    if json:
        output.document(
            {
                "text": TEXT,
                "held_out": list(HELD_OUT),
                "models": {
                    name: {
                        "ids": len(tokenizers[name].vocabulary),
                        "cut": asdict(cuts[name]),
                        "bits_per_byte": scores[name].bits_per_byte,
                        "bytes_per_token": scores[name].bytes_per_token,
                    }
                    for name in MODELS
                },
            }
        )
    else:
        _print_scores(output, scores)
    return ExitCode.DONE


def _cut(tokenizer: Tokenizer) -> Cut:
    text = TEXT.encode()
    encoding = tokenizer.encode_with_offsets(text)
    return Cut(
        ids=encoding.ids.tolist(),
        tokens=[
            text[start:end].decode("utf-8", "backslashreplace")
            for start, end in encoding.offsets.tolist()
        ],
        bytes_per_token=len(text) / len(encoding),
    )


def _score(output: Output, name: str, tokenizer: Tokenizer) -> BitsPerByte:
    """Return the model's bits per byte on the held-out modules of the running Python."""
    from anyvocab import errors

    try:
        import torch  # noqa: F401
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise errors.build(
            errors.MissingExtra,
            f"{name} needs torch and transformers",
            field="models",
            fix="install them with `pip install 'anyvocab[models]'`",
        ) from error
    from anyvocab import pico
    from anyvocab.evaluate import bits_per_byte
    from anyvocab.pico.data import read_modules, stdlib_root

    modules = dict(read_modules(stdlib_root()))
    texts = [modules[module] for module in HELD_OUT if module in modules]
    output.progress(f"{name}: reading {sum(map(len, texts))} characters of held-out code ...")
    folder = pico.path(name.removeprefix("pico:"))
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).float().eval()
    return bits_per_byte(model, tokenizer, texts)


def _print_cuts(output: Output, tokenizers: dict[str, Tokenizer], cuts: dict[str, Cut]) -> None:
    from rich.text import Text

    output.heading("One text")
    output.text(TEXT)
    output.heading("Two vocabularies")
    output.table(
        ["model", "ids in the vocabulary", "tokens of the text", "bytes per token"],
        [
            [name, len(tokenizers[name].vocabulary), len(cut.ids), f"{cut.bytes_per_token:.2f}"]
            for name, cut in cuts.items()
        ],
        numbers=[1, 2, 3],
    )
    for name, cut in cuts.items():
        output.heading(f"{name} cuts it like this")
        line = Text()
        for i, token in enumerate(cut.tokens):
            # Without colour a bar shows the cuts.
            style = ("black on bright_green", "black on bright_cyan")[i % 2]
            shown = token.replace("\n", "⏎\n")
            line.append(shown if output.console.is_terminal else shown + "|", style)
        output.console.print(line)


def _print_scores(output: Output, scores: dict[str, BitsPerByte]) -> None:
    output.heading(f"Bits per byte on code neither model has seen ({', '.join(HELD_OUT)})")
    output.table(
        ["model", "bytes", "tokens", "bytes per token", "bits per byte"],
        [
            [
                name,
                score.bytes,
                score.tokens,
                f"{score.bytes_per_token:.2f}",
                f"{score.bits_per_byte:.3f}",
            ]
            for name, score in scores.items()
        ],
        numbers=[1, 2, 3, 4],
    )
    output.text("Scores per token cannot be compared between vocabularies; bits per byte can.")
