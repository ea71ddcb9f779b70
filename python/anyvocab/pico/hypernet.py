"""Train the hypernetwork of a pico model.

`python -m anyvocab.pico.hypernet code-4k --out runs/hyper-4k --minutes 60`

On the text that the model itself was trained on, with the model's own held-out modules. The same
command again resumes. What ships beside the models was made by it; the cards say how long.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from anyvocab.hypernet.data import Texts
from anyvocab.hypernet.options import FitOptions, NetworkOptions
from anyvocab.hypernet.sampler import LogNormal, SamplerOptions
from anyvocab.hypernet.training import FitReport, fit
from anyvocab.pico.data import load_corpus
from anyvocab.pico.train import MODELS

__all__ = ["main", "options_of"]


def options_of(name: str, *, minutes: float | None, steps: int | None, seed: int) -> FitOptions:
    """Return the options of the shipped hypernetworks.

    Sampled vocabularies go from an eighth of the model's size to four times it, so that small
    targets and large ones are both within what was seen; a third of them have tokens that cross
    words. The noise is narrower than the published one, which is above 1e-4 in 28 of 100 draws:
    there 4,000 tokens compress worse by a quarter (benches/record/2026-11-28-hypernet.md).
    """
    size = MODELS[name].vocab_size
    return FitOptions(
        minutes=minutes,
        steps=steps,
        seed=seed,
        texts=32,
        window=128,
        span=512,
        rows=2048,
        lr=2e-3,
        lexical=0.1,
        compile="on",
        measure_every=250,
        measured=6,
        network=NetworkOptions(hidden=192, layers=2),
        sampler=SamplerOptions(
            vocab_size=LogNormal(float(size), 0.7, size // 8 + 256, 4 * size),
            noise=LogNormal(1e-5, 2.0, 0.0, 1.0),
            patterns=("gpt2", "llama3", "none"),
        ),
    )


def texts_of_pico(seed: int) -> Texts:
    """Return the corpus of the pico models, split as theirs is."""
    corpus = load_corpus()
    read = Texts.read(
        iter([document.text.encode() for document in corpus.train]), seed=seed, held_out_share=0.0
    )
    held_out = tuple(document.text.encode() for document in corpus.held_out)
    return replace(read, held_out=held_out)


def main(arguments: Sequence[str] | None = None) -> FitReport:
    """Train one hypernetwork."""
    parser = argparse.ArgumentParser(prog="anyvocab.pico.hypernet", description=__doc__)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; resumes")
    parser.add_argument("--minutes", type=float, help="training time in all, over resumes")
    parser.add_argument("--steps", type=int, help="updates in all, over resumes")
    parser.add_argument("--start", help="a hypernetwork to begin with: a folder, or pico:NAME")
    parser.add_argument(
        "--dynamic", type=float, default=0.0, help="share of steps on merged batches"
    )
    parser.add_argument("--lr", type=float, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.StreamHandler(),
        logging.FileHandler(given.out / "train.log"),
    ]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    torch.set_num_threads(given.threads)
    options = options_of(given.model, minutes=given.minutes, steps=given.steps, seed=given.seed)
    if given.lr is not None:
        options = replace(options, lr=given.lr)
    if given.dynamic:
        # As many ids as ever in texts twice as long: prompts are longer than what merges in them.
        options = replace(options, dynamic_share=given.dynamic, texts=16, window=256, span=1024)
    return fit(
        f"pico:{given.model}",
        None,
        given.out,
        options=options,
        start=given.start,
        texts=texts_of_pico(given.seed),
    )


if __name__ == "__main__":
    main()
