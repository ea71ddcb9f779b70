"""The part of the demo that swaps tokenizers, in memory: what each strategy costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anyvocab.cli.output import Output

if TYPE_CHECKING:
    from anyvocab.transplant.compare import Comparison

__all__ = ["compare", "document", "print_comparisons"]

MODEL = "pico:code-4k"
OTHER = "pico:code-2k"
TRAINED = "a tokenizer trained just now"
STRATEGIES = ("mean", "front")
# Of the modules that the models were trained on: text to calibrate with.
LEARN = ("argparse", "ast", "inspect")
LEARN_BYTES = 24_000  # of each
JUDGED = 2  # of the held-out modules: the demo is to take a minute
TRAINED_SIZE = 3000


def compare(output: Output, texts: Mapping[str, str]) -> dict[str, Comparison]:
    """Return what strategies cost for two new tokenizers, by the tokenizer's name."""
    from anyvocab import compare_strategies
    from anyvocab.pico.data import load_module

    learn = []
    for name in LEARN:
        try:
            learn.append(load_module(name).text[:LEARN_BYTES].encode())
        except (KeyError, OSError):  # a Python without the sources of its library
            continue
    judge = [text.encode() for text in list(texts.values())[:JUDGED]]
    found = {}
    for name, tokenizer in ((OTHER, OTHER), (TRAINED, train(learn))):
        output.progress(f"{MODEL} gets {name}: trying {', '.join(STRATEGIES)} ...")
        found[name] = compare_strategies(
            MODEL, tokenizer, strategies=STRATEGIES, corpus=learn, judge=judge, floors=("mean-row",)
        )
    return found


def train(texts: Sequence[bytes]) -> Any:
    """Return a byte-level BPE of `texts`, by the tokenizers library."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TRAINED_SIZE,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text.decode("utf-8", "replace") for text in texts], trainer)
    return tokenizer


def print_comparisons(output: Output, comparisons: Mapping[str, Comparison]) -> None:
    """Print a table for each new tokenizer."""
    for name, found in comparisons.items():
        output.heading(f"{MODEL} with {name}")
        rows: list[list[object]] = [
            ["its own tokenizer (ceiling)", f"{found.ceiling:.3f}", "", f"{found.before:.2f}"]
        ]
        rows += [
            [
                f"{row.strategy} (floor)" if row.floor else row.strategy,
                f"{row.plain:.3f}",
                "" if row.calibrated is None else f"{row.calibrated:.3f}",
                f"{found.after:.2f}",
            ]
            for row in found.rows
        ]
        output.table(
            ["new rows by", "bits per byte", "calibrated", "bytes per token"],
            rows,
            numbers=(1, 2, 3),
        )


def document(comparisons: Mapping[str, Comparison]) -> dict[str, object]:
    """Return the same for JSON."""
    return {
        name: {
            "ceiling": round(found.ceiling, 4),
            "bytes_per_token": {"before": round(found.before, 4), "after": round(found.after, 4)},
            "strategies": [
                {
                    "strategy": row.strategy,
                    "floor": row.floor,
                    "bits_per_byte": round(row.plain, 4),
                    "calibrated": None if row.calibrated is None else round(row.calibrated, 4),
                }
                for row in found.rows
            ],
        }
        for name, found in comparisons.items()
    }
