"""Dynamic merging against the published algorithm, in one run.

Both merge the same base tokens. The published algorithm is `anyvocab.testing.published_dynamic`,
plain Python as the program of the paper is, with its answers about pairs remembered (the program
asks the pre-tokenizer anew for each new pair, and so does this). Ours is timed end to end: numpy
arrays in, a `DynamicBatch` out. Every row first checks that both give the same tokens; a difference
ends the run. Texts are two neighbouring sentences of the parallel treebanks (PUD); those that hold
a token which is no UTF-8 are left out where the two are compared, since the published algorithm
merges such tokens with anything.

- speed: batches of 32, 128 and 512 texts; 20, 100 and all merges; GPT-2, Llama 3, and the first
  2,256 tokens of GPT-2, a vocabulary under which English is over-segmented (`gpt2-2k`).
- growth: all merges on batches that double, six languages in turn, ours alone: time per token and
  replacement must not grow as merges do.
- languages: the reduction that words and pretokens allow, and ours timed, on six languages.

    python benches/python/dynamic.py                    # some minutes, nearly all of it the rival
    python benches/python/dynamic.py --rounds 1 --batches 32 128
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers

import anyvocab as av
from anyvocab.dynamic import BaseBatch, DynamicBatch, DynamicTokenizer
from anyvocab.testing import published_dynamic as published

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("ANYVOCAB_FIXTURES", ROOT.parent / "shared" / "fixtures"))
VOCABULARIES = ("gpt2", "llama3", "gpt2-2k")
LANGUAGES = ("en", "de", "tr", "ru", "ar", "zh")
MERGES = (20, 100, None)


def load(name: str) -> DynamicTokenizer:
    if name != "gpt2-2k":
        return DynamicTokenizer(FIXTURES / "tokenizers" / name)
    gpt2 = (FIXTURES / "tokenizers" / "gpt2" / "tokenizer.json").read_bytes()
    return DynamicTokenizer(published.first_merges(gpt2, 2000))


def texts_of(language: str) -> list[str]:
    """Return two neighbouring sentences as a text, for every sentence."""
    lines = (FIXTURES / "text" / "pud" / f"{language}.tsv").read_text(encoding="utf-8").splitlines()
    sentences = [line.split("\t")[1] for line in lines]
    return [f"{first} {second}" for first, second in pairwise(sentences)]


def decodes(dyn: DynamicTokenizer, text: str) -> bool:
    try:
        for id in dyn.base(text)[0].tolist():
            (dyn.tokenizer.vocabulary.token_bytes(id) or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def timed(work: Callable[[], Any], rounds: int) -> tuple[Any, float, float]:
    """Return the result and the least wall and processor seconds of some rounds."""
    result, walls, cpus = None, [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return result, min(walls), min(cpus)


def strings(batch: DynamicBatch) -> list[list[str]]:
    return [[published.as_string(token or b"") for token in row] for row in batch.token_bytes()]


def merge(dyn: DynamicTokenizer, base: BaseBatch, merges: int | None) -> DynamicBatch:
    return dyn.merge_arrays(base.ids, base.offsets, base.groups, max_merges=merges)


def speed(name: str, batch: int, rounds: int) -> None:
    dyn = load(name)
    texts = [text for text in texts_of("en") if decodes(dyn, text)][:batch]
    if len(texts) < batch:
        sys.exit(f"{len(texts)} texts of {name} can be compared, {batch} are wanted")
    base = dyn.base_batch(texts)
    start = strings(merge(dyn, base, 0))
    theirs = tokenizers.Tokenizer.from_str(dyn.tokenizer.to_json().decode()).pre_tokenizer
    for merges in MERGES:
        ours, wall, cpu = timed(partial(merge, dyn, base, merges), max(rounds, 5))

        def rival(merges: int | None = merges) -> published.Merged:
            is_valid = published.validity(
                "pretokens", pretokens=lambda text: len(theirs.pre_tokenize_str(text))
            )
            return published.merge(start, is_valid, merges)

        other, their_wall, their_cpu = timed(rival, rounds)
        if strings(ours) != other.texts or len(ours.merges) != len(other.merges):
            sys.exit(f"{name}, {batch} texts, {merges} merges: the tokens differ")
        n = len(base.ids)
        print(
            f"| {name} | {batch} | {n:,} -> {len(ours.ids):,} | {len(ours.merges):,} "
            f"| {wall * 1e3:.2f} | {cpu * 1e3:.2f} | {n / wall / 1e6:.1f} "
            f"| {their_wall * 1e3:,.0f} | {their_cpu * 1e3:,.0f} | {n / their_cpu / 1e3:,.1f} "
            f"| {their_cpu / cpu:,.0f}x |",
            flush=True,
        )
        if ours.stopped == "exhausted":
            return


def growth(rounds: int) -> None:
    for name in VOCABULARIES:
        dyn = load(name)
        in_turn = zip(*(texts_of(language) for language in LANGUAGES), strict=True)
        texts = [text for texts in in_turn for text in texts]
        for batch in (256, 512, 1024, 2048, 4096):
            base = dyn.base_batch(texts[:batch])
            ours, wall, cpu = timed(partial(merge, dyn, base, None), max(rounds, 3))
            n, replaced = len(base.ids), len(base.ids) - len(ours.ids)
            print(
                f"| {name} | {batch:,} | {n:,} | {len(ours.merges):,} | {replaced:,} "
                f"| {wall * 1e3:.1f} | {cpu * 1e3:.1f} | {n / wall / 1e6:.1f} "
                f"| {cpu / (n + replaced) * 1e9:.0f} |",
                flush=True,
            )


def languages(batch: int, rounds: int) -> None:
    for name in ("gpt2", "llama3"):
        dyn = load(name)
        for language in LANGUAGES:
            texts = texts_of(language)[:batch]
            row = []
            for boundary in ("pretoken", "word"):
                base = dyn.base_batch(texts, boundary=boundary)
                ours, _, cpu = timed(partial(merge, dyn, base, None), max(rounds, 3))
                row.append(f"{ours.reduction:.1%} | {len(base.ids) / cpu / 1e6:.1f}")
            _, _, cpu = timed(partial(dyn.base_batch, texts), max(rounds, 3))
            encoded = f"{len(base.ids) / cpu / 1e6:.1f}"
            print(f"| {name} | {language} | {len(base.ids):,} | {' | '.join(row)} | {encoded} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of the rival; ours has 5 at least")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512])
    given = parser.parse_args()
    print(
        f"anyvocab {av.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print(
        "| vocabulary | texts | tokens | merges | ours ms | CPU ms | M tokens/s "
        "| published ms | CPU ms | k tokens/CPU-s | CPU, ratio |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for name in VOCABULARIES:
        for batch in given.batches:
            speed(name, batch, given.rounds)
    print(
        "\n| vocabulary | texts | tokens | merges | replacements | ms | CPU ms | M tokens/s "
        "| CPU ns per token and replacement |\n|---|---|---|---|---|---|---|---|---|"
    )
    growth(given.rounds)
    print(
        "\n| vocabulary | language | tokens | fewer (pretoken) | M tokens/CPU-s | fewer (word) "
        "| M tokens/CPU-s | base, M tokens/CPU-s |\n|---|---|---|---|---|---|---|---|"
    )
    languages(max(given.batches), given.rounds)


if __name__ == "__main__":
    main()
