"""What exact bytes are worth: middles filled in at cuts inside tokens, and bits of mixtures.

- Infilling: the pico models fill holes in library modules that were held out from their training,
  greedily, in three modes: `tokens` (the prompt is encoded as it is cut), `healing` (token healing)
  and `bytes` (exact). Holes begin at any byte, inside a token of the document, or where a line
  does. Exact match, the share of the middle's bytes matched from its start, and the bits that the
  true middle takes (under the token modes of one encoding, an upper bound).
- Bits per byte of each model and of mixtures of models whose vocabularies differ: the pico models
  on held-out modules; the three models of the fixtures on stories (their own training text is
  public and may overlap with these). Fitted weights are fitted on other modules and stories than
  those judged. `plain tokens` is one encoding's, an upper bound of the bytes'. Texts are short,
  because the smallest model sees 128 tokens: each begins without context.

Every table is on the same cases and texts for all its rows. Numbers go to standard output as a
table and, with `--json`, to a file.

    python benches/python/infill.py                        # about ten minutes on a core
    python benches/python/infill.py --count 10 --texts 6   # a minute
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from bytes_models import FIXTURES

from anyvocab import pico
from anyvocab.bytelm import ByteLM, Ensemble
from anyvocab.bytelm.base import ByteModel
from anyvocab.evaluate.bootstrap import Bootstrap
from anyvocab.evaluate.infilling import MODES, evaluate_infilling
from anyvocab.evaluate.infilling_cases import CASE_KINDS, cut_cases
from anyvocab.pico.data import HELD_OUT, load_module

CODE_BYTES = 600  # of a text of code
PREFIX_BYTES, SUFFIX_BYTES = 448, 160  # with 64 tokens of a middle below the models' 512
STORY_BYTES = 160  # of a story: 128 tokens of the smallest model
STORIES = ("stories260K", "aidreams260K", "babyllama105")


class Kept(ByteModel):
    """A model that remembers the distributions it gave: many mixtures are judged on one text."""

    def __init__(self, lm: ByteLM) -> None:
        self.lm = lm
        self._rows: dict[bytes, Any] = {}

    def start(self, context: Any = b"") -> Any:
        return self.lm.start(context)

    def next_byte_logprobs(self, text: bytes | str, prefix: Any = b"") -> Any:
        data = text.encode() if isinstance(text, str) else bytes(text)
        if prefix != b"":
            return self.lm.next_byte_logprobs(data, prefix)
        if data not in self._rows:
            self._rows[data] = self.lm.next_byte_logprobs(data)
        return self._rows[data]


def held_out() -> list[tuple[str, bytes]]:
    """Return the names and sources of the modules that the pico models did not see."""
    return [(name, load_module(name).text.encode()) for name in sorted(HELD_OUT)]


def code_texts(count: int) -> tuple[list[bytes], list[bytes]]:
    """Return texts to fit on and texts to judge on, of different held-out modules."""
    fit: list[bytes] = []
    judge: list[bytes] = []
    for number, (_, data) in enumerate(held_out()):
        starts = [data.find(b"\n", at) + 1 for at in range(0, len(data) - 2 * CODE_BYTES, 3000)]
        into = fit if number % 2 else judge
        into += [data[at : at + CODE_BYTES] for at in starts[:4]]
    return fit[:count], judge[:count]


def story_texts(count: int) -> tuple[list[bytes], list[bytes]]:
    """Return the beginnings of stories, every other one to fit on."""
    name = "tinystories_train_head_100k.txt"
    data = (FIXTURES / "text" / "stories" / name).read_text("utf-8")
    starts = [line for line in data.split("\n") if line.startswith(("Once", "One day"))]
    texts = [line.encode()[:STORY_BYTES] for line in starts if len(line) >= STORY_BYTES]
    return texts[1::2][:count], texts[::2][:count]


def infilling(count: int, seed: int) -> list[dict[str, Any]]:
    """Return the scores of every model, kind of cut and mode."""
    found = []
    documents = held_out()
    for name in ("code-4k", "code-2k"):
        lm = ByteLM.load(f"pico:{name}")
        cases = cut_cases(
            documents,
            count=count,
            seed=seed,
            tokenizer=lm.tokenizer,
            prefix_bytes=PREFIX_BYTES,
            suffix_bytes=SUFFIX_BYTES,
        )
        result = evaluate_infilling(lm, cases, bootstrap=Bootstrap(seed=seed))
        for kind in (*CASE_KINDS, None):
            for mode in MODES:
                score = result.score(mode, kind).to_dict()
                found.append({"model": name, "template": result.template, **score})
    return found


def bits(model: ByteModel, texts: Sequence[bytes]) -> float:
    """Return bits per byte over all texts, each on its own; infinite where one is impossible."""
    nats = math.fsum(model.score_batch(texts).tolist())
    return -nats / (math.log(2) * sum(map(len, texts)))


def plain_bits(lm: ByteLM, texts: Sequence[bytes]) -> float:
    """Return the bits of the texts' own encodings, by plain scoring of tokens."""
    nats = 0.0
    model = lm.backend.model  # type: ignore[attr-defined]
    for text in texts:
        ids = [*lm.first_ids, *lm.tokenizer.encode(text).tolist()]
        with torch.inference_mode():
            logprobs = torch.log_softmax(model(torch.tensor([ids[:-1]])).logits[0].double(), 1)
        nats += float(logprobs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum())
    return -nats / (math.log(2) * sum(map(len, texts)))


def mixtures(
    title: str, models: dict[str, ByteLM], fit: Sequence[bytes], judge: Sequence[bytes]
) -> list[dict[str, Any]]:
    """Return bits per byte of models alone and mixed, on the texts of `judge`."""
    kept = {name: Kept(lm) for name, lm in models.items()}
    found: list[dict[str, Any]] = []

    def add(name: str, value: float, weights: Any = None) -> None:
        weights = None if weights is None else [round(float(one), 4) for one in weights]
        found.append({"texts": title, "model": name, "bits_per_byte": value, "weights": weights})

    for name, lm in models.items():
        add(f"{name}, plain tokens", plain_bits(lm, judge))
        add(f"{name}, bytes in two covers", bits(lm, judge))
        add(f"{name}, bytes", bits(kept[name], judge))
    members = list(kept.values())
    for rule in ("mixture", "bayes", "product"):
        add(f"{rule}, equal weights", bits(Ensemble(members, rule=rule), judge))
    for rule in ("mixture", "bayes"):
        fitted, weights = Ensemble(members, rule=rule).fit_weights(fit)
        add(f"{rule}, fitted", bits(fitted, judge), weights)
    check(found, list(models))
    return found


def check(found: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """End the run where a law of the numbers is broken."""
    by = {row["model"]: row["bits_per_byte"] for row in found}
    for name in names:
        # Both are log P of the same texts: as the sum of conditionals, and as a mass.
        apart = abs(by[f"{name}, bytes"] - by[f"{name}, bytes in two covers"])
        if math.isfinite(by[f"{name}, bytes"]) and apart > 1e-4:
            raise SystemExit(f"{name}: the chain rule is off by {apart} bits per byte")
    best = min(by[f"{name}, bytes"] for name in names)
    if by["bayes, equal weights"] > best + 0.1:
        # It loses log2(n) bits of a whole text at most: 2 of at least 160 bytes.
        raise SystemExit("a Bayes mixture is worse than its best member by over 0.1 bits per byte")


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for line in (columns, ["---"] * len(columns), *rows):
        print("| " + " | ".join(line) + " |")
    print(flush=True)


def rate(found: Any) -> str:
    """Return a rate, with its interval where there are cases enough for one."""
    text = f"{100 * found['value']:.1f}%"
    if found["interval"]:
        low, high = found["interval"]
        text += f" ({100 * low:.1f} to {100 * high:.1f})"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=40, help="holes of each kind of cut")
    parser.add_argument("--texts", type=int, default=24, help="to fit on, and as many to judge on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the numbers go, too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    filled = infilling(given.count, given.seed)
    show(
        ["model", "cut", "mode", "holes", "exact (95%)", "bytes matched (95%)", "bits per byte"],
        [
            [
                row["model"],
                row["kind"] or "all",
                row["mode"],
                str(row["cases"]),
                rate(row["exact_match"]),
                rate(row["matched_share"]),
                f"{row['bits_per_byte']['value']:.3f}",
            ]
            for row in filled
        ],
    )
    pair = {f"pico:{name}": ByteLM.load(f"pico:{name}") for name in pico.names()}
    mixed = mixtures("held-out modules", pair, *code_texts(given.texts))
    if (FIXTURES / "models").is_dir():
        three = {name: ByteLM.load(FIXTURES / "models" / name) for name in STORIES}
        mixed += mixtures("stories", three, *story_texts(given.texts))
    rows = [[row["texts"], row["model"], f"{row['bits_per_byte']:.4f}", str(row["weights"] or "")]
            for row in mixed]  # fmt: skip
    show(["texts", "model", "bits per byte", "weights"], rows)
    print(f"{time.process_time() - began:.0f} CPU s, load average {os.getloadavg()[0]:.1f}")
    if given.json:
        document = {"infilling": filled, "bits": mixed, "count": given.count, "seed": given.seed}
        given.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
