"""Accuracy of a classifier against how much its texts merge: encoders trained here, and real ones.

Two tasks are made from English books of the fixtures, cut into stretches of 16 words:

- source: which of three books a stretch is from, in lower case; a class for each text.
- case: which words had a capital letter; a class for each word, its text in lower case.

Two encoders: `small`, two layers of 128 trained here from nothing, under the first 2,256 tokens of
GPT-2, a vocabulary under which English is over-segmented; and any BERT-like folder, `--encoder`,
with its own tokenizer. The small one first learns the task without merges. Then each is trained
with adapters for the same number of steps, once without merges and once with sampled amounts, and
judged on held-out stretches at five amounts of merging, inside words (boundary `word`). Rows of new
tokens are the mean of their pieces. Training and held-out stretches are of different parts of the
books. A run checks that no label is lost, and that without a merge nothing is shorter.

    python benches/python/dynamic_encoder.py                          # small, three seeds
    python benches/python/dynamic_encoder.py --encoder FOLDER --seeds 1 --train 960 --held-out 192
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import anyvocab as av
from anyvocab.dynamic.adapt import AdaptOptions, MergeRates, adapt
from anyvocab.dynamic.labels import IGNORED, word_labels
from anyvocab.dynamic.task import Examples, RateScore, evaluate
from anyvocab.testing import published_dynamic as published

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("ANYVOCAB_FIXTURES", ROOT.parent / "shared" / "fixtures"))
BOOKS = (
    "books/sherlock_en.txt",
    "books/grimm_fairy_tales_en.txt",
    "stories/tinystories_train_head_100k.txt",
)
WORDS = 16  # of a stretch
BATCH = 32
RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
TASKS = {"source": ("SequenceClassification", len(BOOKS)), "case": ("TokenClassification", 2)}


def stretches(book: str) -> list[list[str]]:
    """Return a book as stretches of words, in its order."""
    words = (FIXTURES / "text" / book).read_text(encoding="utf-8").split()
    return [words[i : i + WORDS] for i in range(0, len(words) - WORDS, WORDS)]


def examples(task: str, train: int, held_out: int, seed: int) -> tuple[Examples, Examples]:
    """Return stretches to train on, and some of the last fifth of the books to judge by."""
    draws = np.random.default_rng(seed)
    books = [stretches(book) for book in (BOOKS if task == "source" else BOOKS[:1])]
    parts = []
    for number, first, last in ((train, 0.0, 0.8), (held_out, 0.8, 1.0)):
        texts: list[Any] = []
        labels: list[Any] = []
        for _ in range(number):
            which = int(draws.integers(len(books)))
            size = len(books[which])
            words = books[which][int(draws.integers(int(first * size), int(last * size)))]
            if task == "source":
                texts.append(" ".join(words).lower())
                labels.append(which)
            else:
                texts.append(" ".join(words).lower())
                labels.append([int(re.search("[A-Z]", word) is not None) for word in words])
        parts.append(Examples(texts, labels))
    return parts[0], parts[1]


def small_tokenizer() -> bytes:
    """Return the first 2,256 tokens of GPT-2, with a special token on both sides of a text."""
    gpt2 = (FIXTURES / "tokenizers" / "gpt2" / "tokenizer.json").read_bytes()
    document = json.loads(published.first_merges(gpt2, 2000))
    around = ["<|endoftext|>", len(document["model"]["vocab"])]
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    end = dict.fromkeys(flags, False) | {"id": around[1], "content": around[0], "special": True}
    document["added_tokens"] = [end]
    document["post_processor"] = {"type": "BertProcessing", "cls": around, "sep": around}
    return json.dumps(document).encode()


def network_of(task: str, encoder: str | None, size: int) -> Any:
    import transformers

    head, classes = TASKS[task]
    if encoder is not None:
        kind = getattr(transformers, f"AutoModelFor{head}")
        return kind.from_pretrained(encoder, num_labels=classes).eval()
    config = transformers.BertConfig(
        vocab_size=size,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        num_labels=classes,
    )
    return getattr(transformers, f"BertFor{head}")(config).eval()


def shuffled(given: Examples, steps: int, draws: np.random.Generator) -> Iterator[Examples]:
    for _ in range(steps):
        yield given.part(draws.choice(len(given), size=BATCH, replace=False))


def learn(model: av.DynamicModel, given: Examples, steps: int, seed: int) -> float:
    """Train a whole network, its embeddings too, without merges; return the last losses' mean."""
    draws = np.random.default_rng(seed)
    network, losses = model.network.train(), []
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    for step, part in enumerate(shuffled(given, steps, draws)):
        batch = model.merge(part.texts, max_merges=0)
        rows = batch.lengths()
        ids = torch.zeros(len(part), int(rows.max()), dtype=torch.long)
        mask = torch.arange(ids.shape[1]) < torch.from_numpy(rows)[:, None]
        ids[mask] = torch.from_numpy(batch.ids.astype(np.int64))
        logits = network(input_ids=ids, attention_mask=mask.long()).logits
        if logits.dim() == 3:
            logits, labels = logits[mask], word_labels(batch, part.labels).values
        else:
            labels = np.asarray(part.labels)
        loss = functional.cross_entropy(logits, torch.from_numpy(labels), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min((step + 1) / 50, (steps - step) / steps)
        optimizer.step()
        losses.append(float(loss.detach()))
    network.eval()
    model.cache.clear()  # its rows were made of other matrices
    return statistics.fmean(losses[-20:])


def checked(model: av.DynamicModel, task: str, given: Examples) -> None:
    """End the run where a label is lost or a text without merges is shorter."""
    batch = model.merge(given.texts, boundary="word")
    if task == "case" and word_labels(batch, given.labels).lost:
        raise SystemExit("labels were lost")
    if model.merge(given.texts, boundary="word", attainable=0.0).reduction:
        raise SystemExit("tokens are gone without a merge")


def run(task: str, seed: int, chosen: argparse.Namespace) -> dict[str, list[RateScore]]:
    """Return the scores of a seed, for the model as it was and after each training."""
    torch.manual_seed(seed)
    train, held_out = examples(task, chosen.train, chosen.held_out, seed)
    tokenizer = chosen.encoder or small_tokenizer()
    size = len(av.Tokenizer.load(tokenizer).vocabulary)
    first = av.DynamicModel(network_of(task, chosen.encoder, size), tokenizer)
    checked(first, task, held_out)
    found: dict[str, list[RateScore]] = {}

    def judge(name: str, model: av.DynamicModel) -> None:
        evaluate(model, held_out.part(range(BATCH)), rates=[1.0])  # code is warm, rows as well
        found[name] = evaluate(model, held_out, rates=RATES)
        for score in found[name]:
            print(
                f"{task:7} seed {seed} {name:9} rate {score.rate:4.2f} "
                f"shorter {score.reduction:6.1%} accuracy {score.accuracy:6.2%} "
                f"macro F1 {score.macro_f1:6.2%} loss {score.loss:.4f} {score.seconds:6.2f} s "
                f"(merging {score.merge_seconds:.2f} s)",
                flush=True,
            )

    if chosen.encoder is None:
        began = time.perf_counter()
        loss = learn(first, train, chosen.steps, seed)
        print(
            f"{task:7} seed {seed} learnt to loss {loss:.4f}, {time.perf_counter() - began:.0f} s"
        )
        judge("before", first)
    for name, rates in (("unmerged", MergeRates("fixed", mean=0.0)), ("sampled", MergeRates())):
        model = av.DynamicModel(copy.deepcopy(first.network), tokenizer)
        options = AdaptOptions(
            rates=rates, epochs=chosen.epochs, batch_size=BATCH, lr=chosen.lr, seed=seed
        )
        report = adapt(model, train, options)
        print(
            f"{task:7} seed {seed} {name:9} {len(report.losses)} steps, {report.seconds:.0f} s, "
            f"loss {statistics.fmean(report.losses[-10:]):.4f}, shorter "
            f"{statistics.fmean(report.reductions):.1%} on average",
            flush=True,
        )
        judge(name, model)
    return found


def summary(task: str, runs: list[dict[str, list[RateScore]]]) -> None:
    """Print means over seeds, and the loss against the model trained and read without merges."""
    print(f"\n{task}: {len(runs)} seeds, mean (standard deviation)")
    print("| trained | rate | shorter | accuracy | macro F1 | points lost | of F1 | time |")
    print("|---|---|---|---|---|---|---|---|")
    for name in runs[0]:
        for i, rate in enumerate(RATES):
            scores = [one[name][i] for one in runs]
            plain = [one["unmerged"][0] for one in runs]
            lost = [100 * (p.accuracy - s.accuracy) for p, s in zip(plain, scores, strict=True)]
            less = [100 * (p.macro_f1 - s.macro_f1) for p, s in zip(plain, scores, strict=True)]
            took = [s.seconds / one[name][0].seconds for one, s in zip(runs, scores, strict=True)]
            cells = [
                spread([100 * s.reduction for s in scores]),
                spread([100 * s.accuracy for s in scores]),
                spread([100 * s.macro_f1 for s in scores]),
                spread(lost),
                spread(less),
                f"{statistics.fmean(took):.2f}",
            ]
            print(f"| {name} | {rate} | {' | '.join(cells)} |")


def spread(values: list[float]) -> str:
    deviation = f" ({statistics.stdev(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--encoder", help="folder of a BERT-like encoder; the small one if not given"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=3200, help="stretches to train on")
    parser.add_argument("--held-out", type=int, default=640)
    parser.add_argument(
        "--steps", type=int, default=300, help="of the small encoder's first training"
    )
    parser.add_argument("--epochs", type=int, default=1, help="of training with adapters")
    parser.add_argument("--lr", type=float, default=1e-3, help="of training with adapters")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, load {os.getloadavg()[0]:.1f}, {chosen}")
    for task in chosen.tasks:
        summary(task, [run(task, seed, chosen) for seed in range(chosen.seeds)])


if __name__ == "__main__":
    main()
