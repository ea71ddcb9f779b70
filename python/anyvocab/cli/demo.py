"""`anyvocab demo`: the library's main job on real input, offline, on the embedded models."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyvocab.cli import demo_bytes, demo_swap
from anyvocab.cli.output import ExitCode, JsonOption, Output

if TYPE_CHECKING:
    from anyvocab import BitsPerByte, Tokenizer
    from anyvocab.report import Cut

__all__ = ["command"]

FORMAT_VERSION = 1
MODELS = ("pico:code-4k", "pico:code-2k")
TEXT = '''def mean(values: list[float]) -> float:
    """Return the arithmetic mean: 2.5 for [1, 2, 3, 4]."""
    if not values:
        raise ValueError("no values: naïve mean of nothing")
    return sum(values) / len(values)
'''
# Of the modules that no model and no tokenizer has seen, short ones of different authors.
HELD_OUT = ("heapq", "textwrap", "sched", "graphlib")
BYTES_OF_EACH = 6000  # from the start of each module: seconds on one core
NEXT = """What to try next

  anyvocab inspect pico:code-4k --against pico:code-2k --html page.html
  anyvocab inspect path/to/tokenizer.json --text 'any text'
  anyvocab doctor path/to/model
  anyvocab complete pico:code-4k 'import nu' --explain
  anyvocab infill pico:code-4k --prefix 'import o' --suffix ', sys' --compare
  anyvocab swap pico:code-2k pico:code-4k new-model --corpus texts/ --report swap.html

  import anyvocab as av
  tok = av.Tokenizer.load("pico:code-4k")
  tok.decode(tok.encode("def f(x):"))
  av.bits_per_byte("pico:code-4k", [open("setup.py").read()]).bits_per_byte"""


def command(json: JsonOption = False) -> ExitCode:
    """Show two models with different vocabularies on one text, offline."""
    from anyvocab import Tokenizer
    from anyvocab.report import cut_text

    output = Output(json=json)
    started = time.monotonic()
    folders = _folders()
    tokenizers = {name: Tokenizer.load(folder) for name, folder in folders.items()}
    cuts = {name: cut_text(tokenizer, TEXT) for name, tokenizer in tokenizers.items()}
    if not json:
        _print_cuts(output, tokenizers, cuts)
    texts = _held_out()
    scores, why_not = _scores(output, folders, tokenizers, texts)
    shown = None if why_not else demo_bytes.measure(output, folders, texts)
    comparisons = {} if why_not else demo_swap.compare(output, texts)
    if json:
        found = _document(tokenizers, cuts, texts, scores, why_not)
        rest = {"bytes": demo_bytes.document(shown), "swaps": demo_swap.document(comparisons)}
        output.document({**found, **rest})
        return ExitCode.DONE
    if why_not:
        output.heading("Bits per byte")
        output.text(f"not measured: {why_not}")
    else:
        _print_scores(output, scores, list(texts))
        if shown is not None:
            demo_bytes.print_bytes(output, next(iter(folders)), shown)
        demo_swap.print_comparisons(output, comparisons)
    output.text("")
    output.text(NEXT)
    output.progress(f"done in {time.monotonic() - started:.0f} s")
    return ExitCode.DONE


def _folders() -> dict[str, Path]:
    """Return the name and folder of each model that is shown."""
    from anyvocab import errors, pico

    found = {}
    for name in MODELS:
        try:
            found[name] = pico.path(name.removeprefix("pico:"))
        except FileNotFoundError as error:
            raise errors.build(errors.SourceNotFound, str(error), field="source") from error
    return found


def _held_out() -> dict[str, str]:
    """Return module name to the start of its source, whole lines."""
    from anyvocab.pico.data import load_module

    texts = {}
    for module in HELD_OUT:
        try:
            text = load_module(module).text
        except (KeyError, OSError):  # a Python without the sources of its library
            continue
        end = text.rfind("\n", 0, BYTES_OF_EACH) + 1
        texts[module] = text[: end or BYTES_OF_EACH]
    return texts


def _scores(
    output: Output,
    folders: Mapping[str, Path],
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, str],
) -> tuple[dict[str, BitsPerByte], str]:
    """Return the scores, or none and the reason."""
    from anyvocab import bits_per_byte, errors
    from anyvocab.evaluate.bits import load_model

    if not texts:
        return {}, "this Python has no sources of its standard library"
    scores = {}
    try:
        for name, folder in folders.items():
            output.progress(f"{name}: reading held-out code ...")
            model: Any = load_model(folder)
            scores[name] = bits_per_byte(model, list(texts.values()), tokenizer=tokenizers[name])
    except errors.MissingExtra as error:
        return {}, str(error)
    return scores, ""


def _document(
    tokenizers: Mapping[str, Tokenizer],
    cuts: Mapping[str, Cut],
    texts: Mapping[str, str],
    scores: Mapping[str, BitsPerByte],
    why_not: str,
) -> dict[str, object]:
    models = {}
    for name, tokenizer in tokenizers.items():
        cut, score = cuts[name], scores.get(name)
        models[name] = {
            "ids": len(tokenizer.vocabulary),
            "model_type": tokenizer.model_type,
            "tokens": [
                piece.text.decode("utf-8", "backslashreplace")
                for piece in cut.pieces
                if piece.id is not None
            ],
            "token_ids": [piece.id for piece in cut.pieces if piece.id is not None],
            "bytes_per_token": round(cut.bytes_per_token, 4),
            "held_out": None
            if score is None
            else {
                "bytes": score.bytes,
                "tokens": score.tokens,
                "nats": round(score.nats, 4),
                "bytes_per_token": round(score.bytes_per_token, 4),
                "bits_per_byte": round(score.bits_per_byte, 4),
            },
        }
    return {
        "format_version": FORMAT_VERSION,
        "text": TEXT,
        "held_out": list(texts),
        "not_measured": why_not or None,
        "models": models,
    }


def _print_cuts(
    output: Output, tokenizers: Mapping[str, Tokenizer], cuts: Mapping[str, Cut]
) -> None:
    from anyvocab.cli.tables import print_cuts

    output.heading("One piece of code, two vocabularies")
    print_cuts(output, cuts, len(TEXT.encode()))
    output.console.print()
    output.table(
        ["model", "tokenizer", "ids", "tokens here", "bytes per token"],
        [
            [
                name,
                f"{_family(tokenizer)} {tokenizer.model_type}",
                len(tokenizer.vocabulary),
                cuts[name].tokens,
                f"{cuts[name].bytes_per_token:.2f}",
            ]
            for name, tokenizer in tokenizers.items()
        ],
        numbers=[2, 3, 4],
    )
    (one, first), (two, second) = tokenizers.items()
    shared = _bytes_of(first) & _bytes_of(second)
    output.text("")
    output.text(
        f"{len(shared)} byte strings are a token in both, of {len(_bytes_of(first))} in {one} and "
        f"{len(_bytes_of(second))} in {two}."
    )


def _family(tokenizer: Tokenizer) -> str:
    fallback = len(tokenizer.vocabulary.ids_of_kind("byte"))
    return "byte-fallback" if fallback else "byte-level"


def _bytes_of(tokenizer: Tokenizer) -> frozenset[bytes]:
    vocabulary = tokenizer.vocabulary
    return frozenset(token for id in vocabulary if (token := vocabulary.token_bytes(id)))


def _print_scores(output: Output, scores: Mapping[str, BitsPerByte], modules: list[str]) -> None:
    output.heading(f"Bits per byte on code that neither model has seen ({', '.join(modules)})")
    output.table(
        ["model", "bytes", "tokens", "bytes per token", "bits per token", "bits per byte"],
        [
            [
                name,
                score.bytes,
                score.tokens,
                f"{score.bytes_per_token:.2f}",
                f"{score.bits_per_byte * score.bytes_per_token:.2f}",
                f"{score.bits_per_byte:.3f}",
            ]
            for name, score in scores.items()
        ],
        numbers=[1, 2, 3, 4, 5],
    )
    output.text("")
    output.text("Bits per token cannot be compared between vocabularies; bits per byte can.")
