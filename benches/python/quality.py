"""What a swap costs in bits per byte: TokenAdapt, the mean of the pieces (ReTok), our default.

Each pair is a model of the fixtures or of the package and a byte-level BPE that is trained here on
a seeded subset of texts, so that seeds differ in the vocabulary too. Every number is on held-out
text that neither model, tokenizer, strategy nor calibration saw (the story models' own training
text is public and may overlap with the stories). The ceiling is the model with its own tokenizer;
the floors are rows that know nothing. `default` and `all` are `anyvocab.swap` with nothing but a
corpus, and with `calibrate="all"`; both are measured in the folder that was written.

    python benches/python/quality.py --seeds 0 1 2
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
from calibration import FIXTURES, open_task

import anyvocab as av
from anyvocab.transplant.spaces.encoder import load_encoder

PAIRS = ("stories260K>bpe-2048", "code-4k>bpe-8192", "code-2k>bpe-4096", "code-2k>code-4k")
STRATEGIES = {"mean": ("mean", {}), "tokenadapt": ("tokenadapt", {}), "front": ("front", {})}
ENCODED = "tokenadapt, encoder"
FLOORS = ("mean-row", "random")
COLUMNS = (
    "ceiling",
    "random",
    "mean-row",
    "mean",
    "tokenadapt",
    "mean, calibrated",
    "tokenadapt, calibrated",
    "default",
    "all",
)


def place_of(pair: str) -> str:
    name = pair.partition(">")[0]
    return f"pico:{name}" if name.startswith("code") else str(FIXTURES / "models" / name)


def measure(
    pair: str, seed: int, chars: int, encoder: Path | None, everything: bool
) -> dict[str, Any]:
    """Return bits per byte by method."""
    task = open_task(pair, seed, chars)
    texts: dict[str, Any] = {"corpus": task.learn, "judge": task.judge, "seed": seed}
    if encoder is not None:
        texts["encoder"] = load_encoder(encoder)
    strategies = dict(STRATEGIES)
    if encoder is not None:
        strategies[ENCODED] = ("tokenadapt", {"space": "encoder"})
    found = av.compare_strategies(
        place_of(pair), task.target, strategies=strategies, floors=FLOORS, **texts
    )
    bits: dict[str, Any] = {"ceiling": found.ceiling}
    for row in found.rows:
        bits[row.strategy] = row.plain
        if row.calibrated is not None:
            bits[f"{row.strategy}, calibrated"] = row.calibrated
    for name, calibrate in (("default", "auto"), ("all", "all"))[: 2 if everything else 1]:
        with tempfile.TemporaryDirectory() as folder:
            report = av.swap(
                place_of(pair),
                task.target,
                f"{folder}/new",
                calibrate=calibrate,
                verification="off",
                force=True,
                **texts,
            )
            scored = av.bits_per_byte(f"{folder}/new", task.judge)
        bits[name] = scored.bits_per_byte
        bits[f"{name} chose"] = ",".join(
            dict.fromkeys(one["name"] for one in report.strategies.values())
        )
    return bits


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the numbers as Markdown: the mean over seeds, and how far they are apart."""
    columns = [*COLUMNS]
    if not all("all" in run for runs in results.values() for run in runs):
        columns.remove("all")
    if all(ENCODED in run for runs in results.values() for run in runs):
        columns.insert(columns.index("tokenadapt") + 1, ENCODED)
    lines = ["| pair | " + " | ".join(columns) + " | added by TokenAdapt / ReTok | / default |"]
    lines.append("|" + " --- |" * (len(columns) + 3))
    for pair, runs in results.items():
        cells = []
        for column in columns:
            values = [run[column] for run in runs]
            apart = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{apart}")
        added = {
            name: statistics.mean(run[name] - run["ceiling"] for run in runs)
            for name in ("mean", "tokenadapt", "default")
        }
        cells += [
            f"{added['tokenadapt'] / added['mean']:.2f}",
            f"{added['default'] / added['mean']:.2f}",
        ]
        lines.append(f"| {pair} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--chars", type=int, default=400_000, help="text to learn from")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--encoder", type=Path, help="a sentence encoder for TokenAdapt's space")
    parser.add_argument("--no-all", action="store_true", help="leave out calibrate='all'")
    parser.add_argument("--json", type=Path, help="append every number to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results: dict[str, list[dict[str, Any]]] = {}
    for pair in args.pairs:
        for seed in args.seeds:
            bits = measure(pair, seed, args.chars, args.encoder, not args.no_all)
            results.setdefault(pair, []).append(bits)
            line = json.dumps({"pair": pair, "seed": seed, **bits})
            print(line, file=sys.stderr, flush=True)
            if args.json is not None:
                with args.json.open("a") as out:
                    out.write(line + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
