"""What a training step of a hypernetwork costs, part by part, and how fast rows are predicted.

The shipped recipe on a pico model: 32 texts of 128 ids, 2,048 rows, bf16, the model compiled. Parts
are timed one after the other in the order of a step; the last number is whole steps of the trainer
itself, which checks that the parts add up. Then a trained network predicts the rows of gpt2's and
llama3's tokens.

    python benches/python/hypernet_steps.py --threads 1
    python benches/python/hypernet_steps.py --threads 2 --hypernet runs/hyper-4k
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from calibration import FIXTURES

import anyvocab as av
from anyvocab.hypernet.fit import Trainer
from anyvocab.hypernet.objective import lexical_of, objective
from anyvocab.hypernet.spread import backward, leaves_of
from anyvocab.hypernet.training import open_body
from anyvocab.pico.hypernet import options_of, texts_of_pico

WARM = 25  # steps until the sampler's queue is full and shapes have been met


def timed(parts: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    found = work()
    parts.setdefault(name, []).append(time.perf_counter() - began)
    return found


def steps(model: str, count: int) -> tuple[dict[str, list[float]], list[float], int]:
    """Return seconds of each part, seconds of whole steps, and scored ids of a step."""
    opened, body, controls = open_body(f"pico:{model}")
    opened.network.set_attn_implementation("eager")
    options = options_of(model, minutes=None, steps=10_000, seed=0)
    trainer = Trainer(body, opened.tokenizer, texts_of_pico(0), controls, options)
    for _ in range(WARM):
        trainer.step()
    whole = []
    for _ in range(count):
        began = time.perf_counter()
        trainer.step()
        whole.append(time.perf_counter() - began)
    parts: dict[str, list[float]] = {}
    scored = 0
    for at in range(trainer.progress.step, trainer.progress.step + count):
        batch = timed(parts, "sample, encode, lay out", lambda at=at: trainer.batcher.step(at))
        scored += batch.scored
        with torch.autocast("cpu", torch.bfloat16):
            rows = timed(parts, "network, forward", lambda batch=batch: trainer.predict(batch))
            leaves = leaves_of(rows)
            loss = timed(
                parts,
                "model and head, forward",
                lambda batch=batch, leaves=leaves: objective(batch, leaves, body, controls),
            )
        nats = loss.nats / batch.scored
        timed(parts, "model and head, backward", nats.backward)
        apart = options.lexical * lexical_of(batch, leaves, body.rows)
        timed(parts, "lexical distance", apart.backward)
        timed(
            parts,
            "network, backward",
            lambda rows=rows, leaves=leaves: backward(rows, leaves),
        )
        timed(parts, "update", lambda: trainer.updates.take(1.0))
        trainer.updates.clear()
    return parts, whole, scored // count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="code-4k")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hypernet", type=Path, help="predict rows with this one")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    parts, whole, scored = steps(given.model, given.steps)
    print(f"{given.model}, {given.threads} threads, torch {torch.__version__}, median ms a step")
    for name, seconds in parts.items():
        print(f"| {name} | {1e3 * statistics.median(seconds):.0f} |")
    middle = statistics.median(whole)
    print(f"| a whole step | {1e3 * middle:.0f} |")
    print(f"{1 / middle:.2f} steps, {scored / middle:,.0f} ids a second")
    hypernet = av.Hypernet.load(given.hypernet or f"pico:{given.model}")
    for name in ("gpt2", "llama3"):
        made = hypernet.predict(FIXTURES / "tokenizers" / name, f"pico:{given.model}")
        began = time.perf_counter()
        count = sum(len(places) for places, _ in made)
        seconds = time.perf_counter() - began
        print(f"{name}: {count:,} rows in {seconds:.1f} s, {count / seconds:,.0f} rows a second")


if __name__ == "__main__":
    main()
