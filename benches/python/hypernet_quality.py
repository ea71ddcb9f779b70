"""What a hypernetwork's rows are worth in bits per byte, beside every strategy without training.

Targets that were never sampled in training: byte-level BPEs of other sizes and one with tokens
that cross words, trained here on a seeded subset of the model's texts; SentencePiece's Unigram; the
other pico model's tokenizer; gpt2, llama3 and bytes alone. Every number is on held-out text that
neither model, network, tokenizer nor strategy saw. `hypernet` decides what becomes of shared tokens
by text that is learned from, as `anyvocab swap --strategy hypernet --corpus` does; `hard` copies
the source's rows of them and `none` predicts theirs, too. The ceiling is the model with its own
tokenizer. `closed` is the share of the way from the mean to the ceiling. Nothing is calibrated, and
tied matrices stay tied.

    python benches/python/hypernet_quality.py code-4k=runs/4k code-2k=runs/2k --seeds 0 1

A story model of ANYVOCAB_FIXTURES is named by its folder's name. What its hypernetwork may be
trained on, by `anyvocab hypernet train`, is what `--story-corpus FILE` writes.

    python benches/python/hypernet_quality.py stories260K=runs/stories --targets bpe-2048 gpt2
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from calibration import FIXTURES, code_texts, shuffled, story_texts
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models, pre_tokenizers

import anyvocab as av

TARGETS = (
    "bpe-1024",
    "bpe-8192",
    "bpe-16384",
    "unigram",
    "superwords-8192",
    "pico",
    "gpt2",
    "llama3",
    "bytes",
)
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {}) for name in ("mean", "focus", "tokenadapt", "front", "last")
}
LEARN_CHARS = 400_000


def alone() -> bytes:
    """Return a tokenizer whose tokens are the 256 bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {one: id for id, one in enumerate([*alphabet, "<|endoftext|>"])}
    tokenizer = HfTokenizer(models.BPE(vocabulary, []))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.to_str().encode()


def target_of(name: str, model: str, texts: list[str], folder: Path) -> Any:
    """Return something that :meth:`anyvocab.Tokenizer.load` takes."""
    kind, _, size = name.partition("-")
    documents = iter([text.encode() for text in texts])
    end: list[Any] = [("eos", "<|endoftext|>")]
    if kind == "bpe":
        return av.train(documents, vocab_size=int(size), pattern="gpt2", special_tokens=end)
    if kind == "superwords":
        return av.train(
            documents, vocab_size=int(size), superwords="supertokens", special_tokens=end
        )
    if name in ("gpt2", "llama3"):
        return FIXTURES / "tokenizers" / name
    if name == "pico":
        return "pico:code-2k" if model == "code-4k" else "pico:code-4k"
    if name == "unigram":
        return FIXTURES / "sentencepiece" / "sp_test_1000.model"
    place = folder / f"{name}.json"
    place.write_bytes(alone())
    return place


def material(model: str) -> tuple[list[str], list[str], str]:
    """Return texts to learn from, held-out ones and the model's place: pico, or a story model."""
    if model.startswith("code-"):
        return *code_texts(), f"pico:{model}"
    return *story_texts(), str(FIXTURES / "models" / model)


def measure(model: str, hypernet: str, target: str, seed: int) -> dict[str, Any]:
    """Return bits per byte by method."""
    train, held, place = material(model)
    learn = [text.encode() for text in shuffled(train, f"learn/{seed}", LEARN_CHARS)]
    strategies = dict(PLAIN)
    for name, anchor in (("hypernet", "auto"), ("hard", "hard"), ("none", "none")):
        strategies[name] = ("hypernet", {"hypernet": hypernet, "anchor": anchor})
    others: dict[str, Any] = {}
    if target == "pico":
        others["donor"] = target_of("pico", model, [], Path())
        strategies["omp"] = ("omp", {})
    with tempfile.TemporaryDirectory() as folder:
        made = target_of(target, model, shuffled(train, f"target/{seed}", 3_000_000), Path(folder))
        found = av.compare_strategies(
            place,
            made,
            strategies=strategies,
            corpus=learn,
            judge=[text.encode() for text in held],
            floors=(),
            tie="keep",
            calibrate="off",
            seed=seed,
            **others,
        )
    bits = {row.strategy: row.plain for row in found.rows}
    return {"ceiling": found.ceiling, "bytes per token": found.after, **bits}


def table(results: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    """Return the numbers as Markdown: the mean over seeds, and how far they are apart."""
    columns = ["ceiling", *PLAIN, "omp", "hard", "none", "hypernet"]
    lines = ["| model | target | bytes/token | " + " | ".join(columns) + " | closed |"]
    lines.append("|" + " --- |" * (len(columns) + 4))
    for (model, target), runs in results.items():
        cells = [model, target, f"{statistics.mean(run['bytes per token'] for run in runs):.2f}"]
        for column in columns:
            values = [run[column] for run in runs if column in run]
            apart = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{apart}" if values else "")
        mean, best, top = (
            statistics.mean(run[name] for run in runs) for name in ("mean", "hypernet", "ceiling")
        )
        cells.append(f"{(mean - best) / (mean - top):.0%}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--story-corpus", type=Path, help="write what story models learn from")
    parser.add_argument("hypernets", nargs="*", metavar="MODEL=FOLDER", help="code-4k=runs/4k")
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="append every number to this file")
    given = parser.parse_args()
    if given.story_corpus is not None:
        given.story_corpus.write_text("\n\n".join(story_texts()[0]), encoding="utf-8")
        return
    torch.set_num_threads(given.threads)
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for pair in given.hypernets:
        model, _, folder = pair.partition("=")
        for target in given.targets:
            for seed in given.seeds:
                bits = measure(model, folder, target, seed)
                results.setdefault((model, target), []).append(bits)
                line = json.dumps({"model": model, "target": target, "seed": seed, **bits})
                print(line, file=sys.stderr, flush=True)
                if given.json is not None:
                    with given.json.open("a") as out:
                        out.write(line + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
