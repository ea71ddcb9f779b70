"""What merged prompts cost a causal model in bits per byte, and what they save in time.

- curves: held-out text that no model, network or tokenizer saw (the modules of `HELD_OUT`; for the
  story models English stories, which their training text may hold). Each piece of at most a window
  is cut in half; the first half is context and is merged, 0 to 100 % of what the boundary lets, in
  batches of 32; the second half is scored in base tokens, so that every number is about the same
  bytes. New rows are the mean of the pieces' or a hypernetwork's; `+ base` has the network's rows
  for base tokens, too (at 0 % there is then still a loss). The loss is against the model as it is,
  with the standard error over texts of its paired difference. `count >= 2` merges only pairs that
  a batch has at least twice at that time; `keep 32` leaves the last 32 tokens of each context as
  they are. `dropped` is what merging has to beat: plain contexts that lost as many tokens, the
  first ones. The published claim is prefill with the loss nearly unchanged at up to 17 to 40 %
  reduction.
- time: prefill of prompts of one length with the cache kept and logits of the last token, end to
  end from text: tokenizing, merging, rows of new tokens, padding and the model. `first` is the
  first batch, with an empty cache of rows; `later` the median of the batches after it, all of
  different text. `plain` is the model on ids. Above 100 % merging does not pay.

    python benches/python/dynamic_prefill.py            # everything; an hour or so on a core
    python benches/python/dynamic_prefill.py --sample   # some minutes: to see that it works
    python benches/python/dynamic_prefill.py --hypernet code-4k=runs/4k --only time
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import anyvocab as av
from anyvocab.dynamic.judge import Judgement, Side, judge
from anyvocab.dynamic.pieces import cut_texts
from anyvocab.evaluate.scoring import score_windows
from anyvocab.pico.data import HELD_OUT, load_module

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("ANYVOCAB_FIXTURES", ROOT.parent / "shared" / "fixtures"))
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
KEPT = 32  # base tokens at the end of each context, where some are kept
BOUNDARIES = ("pretoken", "word")
PICO = ("code-4k", "code-2k")
STORIES = ("stories260K", "babyllama105")
PROMPT_TOKENS = 480  # base tokens of a prompt whose prefill is timed; pico has 512 positions
ROUNDS = 8  # batches


@dataclass(frozen=True)
class Case:
    """A model with its rows, and texts for it."""

    model: str
    rows: str
    dynamic: av.DynamicModel
    texts: list[str]


def texts_of(model: str, chars: int) -> list[str]:
    """Return held-out texts, each cut to so many characters."""
    if model in PICO:
        return [load_module(name).text[:chars] for name in sorted(HELD_OUT)]
    file = FIXTURES / "text/stories/tinystories_train_head_100k.txt"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    parts = ["".join(lines[at : at + 16]).strip() for at in range(0, len(lines), 16)]
    return [part[:chars] for part in parts]


def cases_of(model: str, hypernets: dict[str, str], chars: int) -> list[Case]:
    """Return a model once with each kind of rows."""
    place = f"pico:{model}" if model in PICO else str(FIXTURES / "models" / model)
    found: list[tuple[str, Any, str]] = [("mean", "mean", "source")]
    if model in PICO:
        network = hypernets.get(model, "hypernet")
        found += [("hypernet", network, "source"), ("hypernet + base", network, "predicted")]
    texts = texts_of(model, chars)
    return [
        Case(
            model,
            name,
            av.DynamicModel.load(place, rows=rows, base_rows=base, cache_bytes=1 << 30),
            texts,
        )
        for name, rows, base in found
    ]


def error_of(found: Judgement) -> float:
    """Return the standard error of the loss in bits per byte, over texts, of paired differences."""
    pairs = zip(found.base.by_text, found.merged.by_text, strict=True)
    apart = [after - before for before, after in pairs if before is not None and after is not None]
    return statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan


def dropped(case: Case, share: float) -> float:
    """Return bits per byte behind contexts without the first `share` of their tokens."""
    model = case.dynamic
    first = np.array(model.first_ids, dtype=np.uint32)
    found = cut_texts(model, case.texts)
    windows = []
    for piece in found.pieces:
        start = piece.start + round(share * (piece.cut - piece.start))
        row = np.concatenate((first, found.tokens.ids[start : piece.end]))
        windows.append((row, len(row) - (piece.end - piece.cut)))
    nats = math.fsum(np.concatenate(score_windows(model.network, windows)))
    return nats / math.log(2) / sum(piece.bytes for piece in found.pieces)


def settings_of(shares: Sequence[float]) -> list[tuple[str, dict[str, Any]]]:
    """Return names of settings with what they are."""
    few: dict[str, Any] = {"min_count": 2}
    found: list[tuple[str, dict[str, Any]]] = [
        (f"{share:.0%}", {"attainable": share}) for share in shares
    ]
    found.append(("count >= 2", few))
    found += [
        (f"{share:.0%}, keep {KEPT}", {"attainable": share, "keep_last": KEPT})
        for share in (0.2, 0.5, 1.0)
        if share in shares
    ]
    found.append((f"count >= 2, keep {KEPT}", {**few, "keep_last": KEPT}))
    return found


def curves(cases: Sequence[Case], shares: Sequence[float]) -> None:
    """Print the table of one model, for every boundary."""
    base: Side | None = None
    for boundary in BOUNDARIES:
        head = [f"{case.rows}, bits/byte | loss" for case in cases]
        print(f"\n### {cases[0].model}, {boundary}\n")
        print("| attainable | context | whole | dropped | " + " | ".join(head) + " |")
        print("|" + "---|" * (4 + 2 * len(cases)), flush=True)
        for name, options in settings_of(shares):
            cells = []
            for case in cases:
                found = judge(case.dynamic, case.texts, boundary=boundary, base=base, **options)
                base = found.base
                loss, error = found.loss / base.bits_per_byte, error_of(found) / base.bits_per_byte
                cells.append(f"{found.merged.bits_per_byte:.4f} | {loss:+.1%} ± {error:.1%}")
            rival = dropped(cases[0], found.reduction) / base.bits_per_byte - 1
            print(
                f"| {name} | {found.reduction:.1%} | {found.whole_reduction:.1%} | {rival:+.1%} | "
                + " | ".join(cells)
                + " |",
                flush=True,
            )
    if base is not None:
        print(
            f"\nbase: {base.bits_per_byte:.4f} bits/byte, {base.scored_bytes:,} bytes scored "
            f"behind {base.context_tokens:,} tokens, {len(base.by_text)} texts"
        )


def prompts_of(case: Case, count: int) -> list[bytes]:
    """Return stretches of the texts, about `PROMPT_TOKENS` base tokens each, none twice."""
    most = getattr(case.dynamic.network.config, "max_position_embeddings", 512)
    size = min(PROMPT_TOKENS, most - len(case.dynamic.first_ids) - 16)
    found = []
    for text in case.texts:
        encoded = case.dynamic.tokenizer.tokenizer.encode_with_offsets(text)
        data, ends = text.encode(), encoded.offsets
        starts = range(0, len(encoded.ids) - size, size)
        found += [data[ends[at, 0] : ends[at + size, 0]] for at in starts]
    return found[:count]


def plain(case: Case, prompts: Sequence[bytes]) -> dict[str, float]:
    """Return the seconds of a prefill on ids."""
    start = time.perf_counter()
    rows = case.dynamic.tokenizer.tokenizer.encode_batch(prompts)
    first = np.array(case.dynamic.first_ids, dtype=np.int64)
    longest = int(rows.lengths().max()) + len(first)
    ids, mask = np.zeros((2, len(prompts), longest), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) - len(first) :] = np.concatenate((first, row))
        mask[i, longest - len(row) - len(first) :] = 1
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    tokenized = time.perf_counter()
    case.dynamic.network(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        position_ids=torch.from_numpy(positions),
        use_cache=True,
        logits_to_keep=1,
    )
    done = time.perf_counter()
    return {"tokenize": tokenized - start, "forward": done - tokenized, "all": done - start}


def merged(case: Case, prompts: Sequence[bytes], **options: Any) -> dict[str, float]:
    """Return the seconds of a prefill of merged prompts."""
    model = case.dynamic
    boundary = options.pop("boundary")
    start = time.perf_counter()
    base = model.tokenizer.base_batch(prompts, boundary=boundary).after(model.first_ids)
    tokenized = time.perf_counter()
    batch = model.tokenizer.merge_base(base, **options)
    joined = time.perf_counter()
    inputs = model.embed(batch, side="left")
    embedded = time.perf_counter()
    model.network(**model.arguments(inputs), use_cache=True, logits_to_keep=1)
    done = time.perf_counter()
    return {
        "tokenize": tokenized - start,
        "merge": joined - tokenized,
        "rows": embedded - joined,
        "forward": done - embedded,
        "all": done - start,
        "reduction": batch.reduction,
        "new": len(batch.new_tokens),
    }


def median(runs: Sequence[dict[str, float]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def times(case: Case, batch: int, rounds: int, settings: Sequence[dict[str, Any]]) -> None:
    """Print what a prefill of `batch` prompts takes, plain and merged, batch by batch in turn."""
    prompts = prompts_of(case, batch * rounds)
    rounds = min(rounds, len(prompts) // batch)  # no prompt twice: the cache would know it whole
    if rounds < 2:
        print(f"| {case.model} | {case.rows} | {batch} | {len(prompts)} prompts are too few |")
        return
    parts = [prompts[i * batch : (i + 1) * batch] for i in range(rounds)]
    with torch.inference_mode():
        plain(case, parts[0])  # warm
        for stops in settings:
            case.dynamic.cache.clear()
            hits, misses = case.dynamic.cache.hits, case.dynamic.cache.misses
            runs = [(plain(case, part), merged(case, part, **stops)) for part in parts]
            plains, ours = [run[0] for run in runs], [run[1] for run in runs[1:]]
            first = runs[0][1]
            found = case.dynamic.cache.hits - hits
            asked = found + case.dynamic.cache.misses - misses
            usual, later = median(plains, "all"), median(ours, "all")
            said = ", ".join(f"{name}={value}" for name, value in stops.items())
            parts_of = " + ".join(
                f"{median(ours, name) * 1e3:.1f}" for name in ("tokenize", "merge", "rows")
            )
            print(
                f"| {case.model} | {case.rows} | {batch} | {said} "
                f"| {median(ours, 'reduction'):.1%} | {usual * 1e3:.1f} "
                f"| {first['all'] * 1e3:.1f} ({first['all'] / usual:.0%}) "
                f"| {later * 1e3:.1f} ({later / usual:.0%}) "
                f"| {parts_of} + {median(ours, 'forward') * 1e3:.1f} "
                f"| {found / asked if asked else 0:.0%} | {rounds} |",
                flush=True,
            )


def random_model(width: int, layers: int) -> av.DynamicModel:
    """Return a model of some size with random weights and gpt2's tokenizer, for times alone."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50257,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    network = transformers.LlamaForCausalLM(config).eval()
    return av.DynamicModel(network, FIXTURES / "tokenizers" / "gpt2", rows="mean")


def all_curves(given: argparse.Namespace, hypernets: dict[str, str]) -> None:
    for model in given.models:
        shares = (0.0, 0.2, 1.0) if given.sample else SHARES
        curves(cases_of(model, hypernets, given.chars), shares)


def all_times(given: argparse.Namespace, hypernets: dict[str, str]) -> None:
    print(
        "\n| model | rows | batch | merged | context | plain ms | first ms | later ms "
        "| tokenize + merge + rows + model | found | batches |\n|" + "---|" * 11
    )
    settings: list[dict[str, Any]] = [
        {"boundary": boundary, "attainable": share}
        for boundary in BOUNDARIES
        for share in ((1.0,) if given.sample else (0.2, 0.5, 1.0))
    ]
    settings += [{"boundary": "word", "min_count": 2}]
    chars = 4_000 if given.sample else 10**9
    cases = [case for model in given.models for case in cases_of(model, hypernets, chars)]
    if given.random:
        width, _, layers = given.random.partition("x")
        network = random_model(int(width), int(layers))
        cases.append(Case(f"random {given.random}", "mean", network, texts_of("code-4k", chars)))
    for case in cases:
        if case.rows == "hypernet + base":
            continue  # base rows are predicted once: the time is that of "hypernet"
        for batch in given.batches:
            times(case, batch, given.rounds, settings)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=(*PICO, *STORIES), metavar="MODEL")
    parser.add_argument(
        "--hypernet", nargs="+", default=(), metavar="MODEL=FOLDER", help="code-4k=runs/4k"
    )
    parser.add_argument("--only", choices=("curves", "time"))
    parser.add_argument("--sample", action="store_true", help="little of everything")
    parser.add_argument("--chars", type=int, help="characters of each text for the curves")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 8, 32))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="batches that are timed")
    parser.add_argument("--random", metavar="768x12", help="time a model of random weights, too")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    given.chars = given.chars or (1_200 if given.sample else 3_000)
    torch.set_num_threads(given.threads)
    hypernets = dict(one.split("=", 1) for one in given.hypernet)
    print(
        f"anyvocab {av.__version__}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, transformers {transformers.__version__}, {platform.machine()}, "
        f"{given.threads} threads, load {os.getloadavg()[0]:.1f}"
    )
    work: dict[str, Callable[[argparse.Namespace, dict[str, str]], None]] = {
        "curves": all_curves,
        "time": all_times,
    }
    for name, run in work.items():
        if given.only in (None, name):
            run(given, hypernets)


if __name__ == "__main__":
    main()
