"""What calibration of output rows is worth in bits per byte, per pair, method and seed.

A source model is given another tokenizer: that of the other pico model, or a byte-level BPE that is
trained here on a seeded subset of texts. Input rows come from one strategy; the output rows of new
tokens from several, without calibration and with it. Every number is on held-out text that neither
model, tokenizer nor calibration saw (the story models' own training text is public and may overlap
with the stories). Texts are scored in runs of 512 ids, each on its own, so that all methods of a
pair share one forward pass; the ceiling is scored in the same way.

    python benches/python/calibration.py                      # everything; about an hour on a core
    python benches/python/calibration.py --pairs 'code-2k>code-4k' --seeds 0 --calibrate 40000
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders as hf_decoders
from tokenizers import models, pre_tokenizers, trainers

import anyvocab as av
from anyvocab.evaluate import load_model
from anyvocab.pico.data import load_corpus
from anyvocab.pico.vocab import train_byte_level
from anyvocab.transplant.build import build, build_side, shares
from anyvocab.transplant.calibrate import Calibration, calibrate
from anyvocab.transplant.calibrate.states import States, read_states
from anyvocab.transplant.context import Context, TensorMatrix
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.plan import Combination, Plan, SidePlan, apply
from anyvocab.transplant.roles import map_controls
from anyvocab.transplant.strategies import baselines, pieces

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("ANYVOCAB_FIXTURES", ROOT.parent / "shared" / "fixtures"))
PAIRS = (
    "code-4k>code-2k",
    "code-2k>code-4k",
    "code-4k>bpe-2048",
    "code-4k>bpe-8192",
    "code-2k>bpe-8192",
    "code-4k>bpe-16384",
    "stories260K>bpe-2048",
)
TRAIN_CHARS = 3_000_000  # of each tokenizer's training text
EVAL_CHARS = 2_000  # of each held-out module
STRATEGIES: dict[str, Any] = {
    "mean": pieces.Mean(),
    "last": pieces.Last(),
    "front": pieces.Front(),
    "mean-row": baselines.MeanRow(),
    "random": baselines.Random(),
}
# name: output strategy, calibration
METHODS: dict[str, tuple[str, Calibration | None]] = {
    "random": ("random", None),
    "mean-row": ("mean-row", None),
    "mean": ("mean", None),
    "front": ("front", None),
    "first piece": ("last", None),
    "front, norms": ("front", None),
    "front, level": ("front", Calibration(new="level")),
    "front, level, shared level": ("front", Calibration(new="level", shared="level")),
    "front, full": ("front", Calibration()),
    "mean, full": ("mean", Calibration()),
    "mean-row, full": ("mean-row", Calibration()),
    "front, full, spread 1": ("front", Calibration(spread=1.0)),
    "front, full, spread 4": ("front", Calibration(spread=4.0)),
    "front, full, shared level": ("front", Calibration(shared="level")),
    "front, full, shared full": ("front", Calibration(shared="full")),
}


@dataclass(frozen=True)
class Task:
    """A pair with its texts."""

    source: av.Tokenizer
    target: av.Tokenizer
    model: Any
    learn: tuple[bytes, ...]
    judge: tuple[bytes, ...]


def code_texts() -> tuple[list[str], list[str]]:
    corpus = load_corpus()
    held = [d.text[:EVAL_CHARS] for d in sorted(corpus.held_out, key=lambda d: d.name)]
    return [d.text for d in corpus.train], held


def story_texts() -> tuple[list[str], list[str]]:
    text = (FIXTURES / "text/stories/tinystories_train_head_100k.txt").read_text(encoding="utf-8")
    parts = [part.strip() + "\n" for part in text.split("<|endoftext|>") if part.strip()]
    if len(parts) < 8:
        lines = text.splitlines(keepends=True)
        parts = ["".join(lines[i : i + 16]) for i in range(0, len(lines), 16)]
    return [p for i, p in enumerate(parts) if i % 5], [p for i, p in enumerate(parts) if not i % 5]


def shuffled(texts: Sequence[str], seed: str, chars: int) -> list[str]:
    order = list(texts)
    random.Random(seed).shuffle(order)
    kept, room = [], chars
    for text in order:
        kept.append(text[:20_000])
        room -= len(kept[-1])
        if room <= 0:
            break
    return kept


def story_bpe(texts: Sequence[str], size: int) -> HfTokenizer:
    tokenizer = HfTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = hf_decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        special_tokens=["<|endoftext|>"],
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def open_task(pair: str, seed: int, chars: int) -> Task:
    name, _, wanted = pair.partition(">")
    code = name.startswith("code")
    learn, judge = code_texts() if code else story_texts()
    place = f"pico:{name}" if code else str(FIXTURES / "models" / name)
    if wanted.startswith("bpe-"):
        subset = shuffled(learn, f"tokenizer/{seed}", TRAIN_CHARS if code else 60_000)
        made = (train_byte_level if code else story_bpe)(subset, int(wanted.removeprefix("bpe-")))
        with tempfile.TemporaryDirectory() as folder:
            made.save(f"{folder}/tokenizer.json")
            target = av.Tokenizer.load(f"{folder}/tokenizer.json")
    else:
        target = av.Tokenizer.load(f"pico:{wanted}")
    texts = tuple(t.encode() for t in shuffled(learn, f"calibration/{seed}", chars))
    source = av.Tokenizer.load(place)
    return Task(source, target, load_model(place), texts, tuple(t.encode() for t in judge))


def context_of(task: Task, target: av.Tokenizer, corpus: tuple[bytes, ...], seed: int) -> Context:
    read = TensorMatrix(task.model.get_input_embeddings().weight)
    head = task.model.get_output_embeddings().weight
    said = read if head is task.model.get_input_embeddings().weight else TensorMatrix(head)
    return Context.of(
        task.source,
        target,
        {"input": read, "output": said},
        corpus=corpus,
        model=lambda: task.model,
        seed=seed,
    )


def rows_of(plan: SidePlan, context: Context, side: Any) -> torch.Tensor:
    return torch.cat(list(apply(plan, context.matrices[side]))).float()


@torch.inference_mode()
def nats_of(states: States, rows: torch.Tensor) -> np.ndarray:
    found = []
    for start in range(0, len(states), 1024):
        part = slice(start, start + 1024)
        logits = states.hidden[part] @ rows.mT
        found.append(
            torch.nn.functional.cross_entropy(logits, states.target[part], reduction="none")
        )
    return torch.cat(found).double().numpy()


def matched_norms(context: Context, side: SidePlan, new: np.ndarray) -> SidePlan:
    """Scale new rows to the length that anchors of their frequency have (log-linear fit)."""
    rows = rows_of(side, context, "output")
    counts = context.counts("target")
    log_norms = rows.norm(dim=1).clamp_min(1e-9).log().double().numpy()
    log_counts = np.log(counts + 1.0)
    anchors, _ = context.anchors
    slope, offset = np.polyfit(log_counts[anchors], log_norms[anchors], 1)
    scale = np.ones(len(side), dtype=np.float32)
    scale[new] = np.exp(slope * log_counts[new] + offset - log_norms[new])
    return side.scaled(scale, note="lengths as anchors of the same frequency have")


def rows_as_they_are(count: int) -> SidePlan:
    origin = np.full(count, Origin.COPIED, dtype=np.uint8)
    return SidePlan(origin, Combination.single(np.arange(count)))


def measure(
    pair: str, seed: int, args: argparse.Namespace, tell: Callable[[dict[str, Any]], None]
) -> None:
    task = open_task(pair, seed, args.chars)
    size = sum(map(len, task.judge))
    bits = math.log(2) * size
    own = context_of(task, task.source, task.judge, seed)
    read = task.model.get_input_embeddings().weight
    ceiling = read_states(own, read, tokens=1 << 30)
    nats = nats_of(ceiling, task.model.get_output_embeddings().weight)
    head = {"pair": pair, "seed": seed}
    tell({**head, "method": "ceiling", "bits": nats.sum() / bits, "tokens": len(ceiling)})
    if args.control:
        # What refitting the head to this text gains with no swap at all: domain, not tokenizer.
        same = context_of(task, task.source, task.learn, seed)
        copies = rows_as_they_are(len(read))
        options = Calibration(
            shared="full", tokens=args.calibrate, positions=args.positions, steps=args.steps
        )
        found = calibrate(same, Plan(copies, copies), options)
        nats = nats_of(ceiling, rows_of(found.side("output"), same, "output"))
        tell({**head, "method": "ceiling, shared full", "bits": nats.sum() / bits})
    context = context_of(task, task.target, task.learn, seed)
    controls = map_controls(task.source, task.target)
    count = len(task.target.vocabulary)
    new = shares(context, controls).new
    strategies = {"input": STRATEGIES[args.input], "output": STRATEGIES["mean"]}
    base = build(context, strategies=strategies, controls=controls, rows=count, tied=False)
    rows = rows_of(base.input, context, "input")
    judge = read_states(replace(context, corpus=task.judge), rows, tokens=1 << 30)
    fresh = np.isin(judge.target.numpy(), new)
    began = time.perf_counter()
    learn = read_states(context, rows, tokens=args.calibrate)
    reading = time.perf_counter() - began
    for name in args.methods:
        strategy, options = METHODS[name]
        output = build_side(context, "output", STRATEGIES[strategy], controls=controls, rows=count)
        plan = Plan(base.input, output)
        began = time.perf_counter()
        if name.endswith("norms"):
            plan = Plan(base.input, matched_norms(context, output, new))
        if options is not None:
            options = replace(options, positions=args.positions, steps=args.steps)
            plan = calibrate(context, plan, options, states=learn)
        seconds = time.perf_counter() - began
        nats = nats_of(judge, rows_of(plan.side("output"), context, "output"))
        tell(
            {
                **head,
                "method": name,
                "bits": nats.sum() / bits,
                "shared_bits": nats[~fresh].sum() / bits,
                "new_bits": nats[fresh].sum() / bits,
                "shared_nats_a_token": nats[~fresh].mean(),
                "new_nats_a_token": nats[fresh].mean() if fresh.any() else 0.0,
                "new_tokens": int(fresh.sum()),
                "tokens": len(nats),
                "seconds": seconds,
                "reading": reading,
                "note": plan.side("output").notes[-1:],
            }
        )
        if options is not None and args.tied and context.tied:
            both = read_states(
                replace(context, corpus=task.judge),
                rows_of(plan.side("output"), context, "output"),
                tokens=1 << 30,
            )
            nats = nats_of(both, rows_of(plan.side("output"), context, "output"))
            tell({**head, "method": f"{name}, kept tied", "bits": nats.sum() / bits})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--input", default="last", choices=list(STRATEGIES))
    parser.add_argument("--chars", type=int, default=1_000_000, help="calibration text")
    parser.add_argument("--calibrate", type=int, default=Calibration.tokens, help="ids read")
    parser.add_argument("--positions", type=int, default=Calibration.positions)
    parser.add_argument("--steps", type=int, default=Calibration.steps)
    parser.add_argument("--tied", action="store_true", help="also put fitted rows on both sides")
    parser.add_argument("--control", action="store_true", help="also refit the unswapped head")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    def tell(record: dict[str, Any]) -> None:
        print(json.dumps(record, default=float), flush=True)
        short = {k: v for k, v in record.items() if k in ("shared_bits", "new_bits", "seconds")}
        text = "  ".join(f"{key} {value:.3f}" for key, value in short.items())
        label = f"{record['pair']} {record['seed']} {record['method']}"
        print(f"{label:50s} {record['bits']:.3f}  {text}", file=sys.stderr, flush=True)

    for pair in args.pairs:
        for seed in args.seeds:
            measure(pair, seed, args, tell)


if __name__ == "__main__":
    main()
