"""How many tokens of training close what a zero-shot transfer leaves open.

A pico model is given another tokenizer, and training goes on for it alone: the hypernetwork's own
weights (`frozen` model), or the model with them (`full`). Each run begins with the shipped
hypernetwork, or with none, whose first rows are the mean of the pieces. Bits per byte on windows of
the held-out modules, after so many ids of training text; `own` is the model with its own tokenizer
on the same windows.

    python benches/python/hypernet_nshot.py --models code-4k --targets pico bpe-8192 --steps 400
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from calibration import code_texts, shuffled
from hypernet_quality import target_of

import anyvocab as av
from anyvocab.hypernet.measuring import windows
from anyvocab.hypernet.training import fit
from anyvocab.pico.hypernet import options_of, texts_of_pico

WINDOWS = 192  # of held-out text
TEXTS, WINDOW = 32, 128


def own(model: str) -> float:
    """Return bits per byte of the model with its own tokenizer on the windows."""
    spans = windows(texts_of_pico(0).held_out, 512, WINDOWS)
    loaded = av.Tokenizer.load(f"pico:{model}")
    from anyvocab.evaluate import load_model, open_model

    opened = open_model(load_model(f"pico:{model}"), tokenizer=loaded)
    bits = size = 0.0
    for span in spans:
        ids = torch.tensor([[*opened.first_ids, *loaded.encode(span).tolist()[:WINDOW]]])
        with torch.no_grad():
            logits = opened.network(ids).logits[0, :-1].log_softmax(dim=-1)
        bits -= float(logits.gather(1, ids[0, 1:, None]).sum()) / 0.6931471805599453
        size += len(loaded.decode(ids[0, len(opened.first_ids) :].tolist()))
    return bits / size


def curve(
    model: str, target: object, kind: str, start: str | None, steps: int
) -> list[list[float]]:
    """Return pairs: ids of training text, bits per byte on held-out text."""
    options = replace(
        options_of(model, minutes=None, steps=steps, seed=0),
        backbone=kind,  # type: ignore[arg-type]
        backbone_lr=3e-4 if kind == "full" else None,
        lr=5e-4,
        warmup=20,
        measure_every=steps // 4,
        measured=WINDOWS // TEXTS,
        rows=None,
        compile="off",
    )
    with tempfile.TemporaryDirectory() as folder:
        found = fit(
            f"pico:{model}",
            None,
            folder,
            options=options,
            target=target,
            start=start,
            texts=texts_of_pico(0),
        )
    each = found.tokens / max(1, found.steps)
    return [[one.step * each, one.bits_per_byte] for one in found.measured]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["code-4k", "code-2k"])
    parser.add_argument("--targets", nargs="+", default=["pico", "bpe-8192"])
    parser.add_argument("--kinds", nargs="+", default=["frozen", "full"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hypernet", help="begin with this one; the shipped one when left out")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train, _ = code_texts()
    lines = []
    for model in given.models:
        ceiling = own(model)
        for name in given.targets:
            with tempfile.TemporaryDirectory() as folder:
                target = target_of(
                    name, model, shuffled(train, "target/0", 3_000_000), Path(folder)
                )
                for kind in given.kinds:
                    for start in (given.hypernet or f"pico:{model}", None):
                        points = curve(model, target, kind, start, given.steps)
                        begun = "mean" if start is None else "hypernet"
                        said = {"model": model, "target": name, "kind": kind, "start": begun}
                        print(
                            json.dumps({**said, "own": ceiling, "curve": points}), file=sys.stderr
                        )
                        cells = [f"{bits:.3f}" for _, bits in points]
                        lines.append(
                            f"| {model} | {name} | {kind} | {begun} | {ceiling:.3f} | "
                            + " | ".join(cells)
                            + " |"
                        )
    heads = [f"{tokens / 1e6:.2f} M ids" for tokens, _ in points]
    print("| model | target | trained | from | own | " + " | ".join(heads) + " |")
    print("|" + " --- |" * (len(heads) + 5))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
