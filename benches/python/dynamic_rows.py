"""Rows a second of the cache path: new tokens' rows made, found again, and put into a batch.

Batches of 32 and 512 texts of the parallel treebanks (PUD) are merged as far as pretokens allow.
`miss`: every row is made; `hit`: every row is kept; `embed`: the whole step from a merged batch to
padded `inputs_embeds`, with everything kept. Medians; the pico models with their hypernetworks, and
a model of width 2,048 with gpt2's vocabulary and drawn rows, by the mean.

    python benches/python/dynamic_rows.py --threads 1
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from calibration import FIXTURES
from dynamic import texts_of
from transformers import GPT2Config, GPT2LMHeadModel

import anyvocab as av
from anyvocab.dynamic import DynamicModel


def seconds(work: Callable[[], object], before: Callable[[], object], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        before()
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def wide() -> DynamicModel:
    """Return a model of one thin layer with gpt2's tokenizer and rows of 2,048 numbers."""
    place = FIXTURES / "tokenizers" / "gpt2"
    size = len(av.Tokenizer.load(place).vocabulary)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=size, n_embd=2048, n_layer=1, n_head=16, n_inner=64)
    return DynamicModel(GPT2LMHeadModel(config).eval(), place, rows="mean")


def rows(name: str, model: DynamicModel, texts: list[str], rounds: int) -> str:
    """Return a line of the table."""
    batch = model.merge(texts, attainable=1.0)
    used = sorted({id for id in batch.ids.tolist() if id >= batch.new_tokens.first_id})
    tokens = [batch.bytes_of(id) or b"" for id in used]
    cache = model.cache
    miss = seconds(lambda: cache.rows(tokens), cache.clear, rounds)
    hit = seconds(lambda: cache.rows(tokens), lambda: None, rounds)
    embed = seconds(lambda: model.embed(batch), lambda: None, rounds)
    return (
        f"| {name} | {len(texts)} | {len(batch.ids):,} | {len(tokens):,} | "
        f"{len(tokens) / miss:,.0f} | {len(tokens) / hit:,.0f} | {1000 * embed:.1f} | "
        f"{len(batch.ids) / embed:,.0f} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, nargs="+", default=[32, 512])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| model, rows | texts | tokens | new | made/s | found/s | embed ms | tokens/s |")
    print("|" + " --- |" * 8)
    models: list[tuple[str, Callable[[], DynamicModel]]] = [
        ("code-4k, 192, hypernet", lambda: DynamicModel.load("pico:code-4k")),
        ("code-4k, 192, mean", lambda: DynamicModel.load("pico:code-4k", rows="mean")),
        ("gpt2's vocabulary, 2048, mean", wide),
    ]
    for name, make in models:
        model = make()
        for count in given.texts:
            print(rows(name, model, texts_of("de")[:count], given.rounds), flush=True)


if __name__ == "__main__":
    main()
