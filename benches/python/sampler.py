"""Sampling tokenizers for hypernetworks: CPU milliseconds per step, and the published design's.

What each part is for:

- choosing: the compiled part alone, 128 texts of 2,048 characters a step, a queue of 16 batches,
  against the published design (maps keyed by strings, added up anew at every step), both in Rust
  and in one process: `rust/core/examples/sampler_speed.rs`.
- whole steps: through the Python door, what a training pays: choosing, the decomposition of new
  tokens under the source tokenizer, and encoding all texts. Beside it the same vocabulary as a
  Unigram model of `tokenizers`, built from its pieces and encoding the same texts (the published
  design does that), and a decomposition of all tokens instead of the new ones.

Every sampled tokenizer's ids are compared with those of `tokenizers` before its times count. Times
are CPU time of one thread, the median of 16 steps after the queue is full, so that a busy machine
disturbs less. The texts are the running Python's sources. The record is made by hand from what is
printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tokenizers

import anyvocab as av
from anyvocab.hypernet.sampler import SamplerOptions, TokenizerSampler
from anyvocab.transplant.identity import decompose

ROOT = Path(__file__).resolve().parents[2]
TEXTS, CHARACTERS, BATCHES = 128, 2048, 16
MEASURED = 16

Made = TypeVar("Made")


def batches_of(seed: int) -> list[list[bytes]]:
    """Return batches of random spans of the sources of the standard library."""
    library = Path(os.__file__).parent
    files = sorted(library.glob("**/*.py"))[:900]
    text = "".join(file.read_text("utf-8", errors="ignore") for file in files).replace("\0", "")
    rng = random.Random(seed)
    starts = (rng.randrange(len(text) - CHARACTERS) for _ in range(TEXTS * (BATCHES + MEASURED)))
    texts = [text[start : start + CHARACTERS].encode() for start in starts]
    return [texts[at : at + TEXTS] for at in range(0, len(texts), TEXTS)]


def choosing(batches: list[list[bytes]], size: int, profile: str) -> None:
    """Run the Rust example on the texts and print what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts"
        file.write_bytes(b"".join(text + b"\0" for texts in batches for text in texts))
        example = ["cargo", "run", "--quiet", "--locked", "--profile", profile]
        example += ["-p", "anyvocab-core", "--example", "sampler_speed", str(file), str(size)]
        subprocess.run(example, check=True, cwd=ROOT)


class Times:
    """CPU milliseconds of every part of every step."""

    def __init__(self) -> None:
        self.of: dict[str, list[float]] = {}

    def __call__(self, part: str, work: Callable[..., Made], *arguments: object) -> Made:
        """Do the work and note its time."""
        start = time.process_time()
        made = work(*arguments)
        self.of.setdefault(part, []).append(1e3 * (time.process_time() - start))
        return made

    def __str__(self) -> str:
        return ", ".join(
            f"{part} {statistics.median(times):.1f}" for part, times in self.of.items()
        )


def stock(tokens: Sequence[str], scores: Sequence[float], components: dict[str, Any]) -> Any:
    """Return a Unigram model of `tokenizers`, built from pieces as the published code does."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(list(zip(tokens, scores, strict=True))))
    cut = components["pretokenizers"][0]["pattern"]["Regex"]
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(cut), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return made


def whole_steps(source: av.Tokenizer, options: SamplerOptions, batches: list[list[bytes]]) -> None:
    """Print the times of steps through the door, and of the stock parts beside them."""
    sampler = TokenizerSampler(source, options, seed=1)
    sampler.replay(batches[:BATCHES], step=BATCHES)
    ours, others, sizes = Times(), Times(), []
    for texts in batches[BATCHES:]:
        core = ours("choose", sampler._core.step, texts)
        sampled = ours("decompose new", sampler._with_pieces, core)
        encoded = ours("encode", sampled.encode_batch, texts)
        sizes.append(len(sampled))
        others("decompose all", decompose, source, sampled.tokens)
        written = json.loads(sampled.to_json())
        tokens, scores = zip(*written["model"]["vocab"], strict=True)
        model = others("stock build", stock, tokens, scores, written["pre_tokenizer"])
        theirs = others("stock encode", model.encode_batch, [text.decode() for text in texts])
        if [one.ids for one in theirs] != encoded.to_list():
            sys.exit(f"step {sampled.step}: other ids than tokenizers")
    whole = statistics.median(map(sum, zip(*ours.of.values(), strict=True)))
    print(f"  {statistics.median(sizes):,.0f} tokens: {whole:.1f} ms a step: {ours}")
    print(f"  beside it: {others}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--profile", default="release", help="of cargo, for the Rust example")
    parser.add_argument("--source", default="pico:code-4k", help="the source tokenizer")
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"  # tokenizers' own threads
    print(f"anyvocab {av.__version__}, tokenizers {tokenizers.__version__}, {platform.machine()}")
    batches = batches_of(0)
    source = av.Tokenizer.load(args.source)
    for size in (32_768, 4096):
        print(f"{size:,} tokens, choosing:", flush=True)
        choosing(batches, size, args.profile)
    print(f"published settings, source {args.source}:")
    whole_steps(source, SamplerOptions.published(), batches)
    print(f"defaults, source {args.source}:")
    whole_steps(source, SamplerOptions(patterns=("llama3",)), batches)
    print("  (one pattern here; the default two are counted for each)")


if __name__ == "__main__":
    main()
