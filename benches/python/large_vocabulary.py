"""Generation with a vocabulary of a million, against the vocabulary that the model came with.

`pico:code-4k` is grown on a corpus to as many tokens as are asked for or the corpus gives, its
hypernetwork predicts the new rows, and in one run this measures:

- grow: seconds, size and peak memory of the process after it.
- search: milliseconds for the 20 best rows of one state with the sum over all rows: exact on rows
  in float32 and in bfloat16, the whole product and `topk` by torch, and the model's own head. The
  rows are the grown ones, the states those of held-out text. `--widths` adds matrices that are
  drawn, for the speed of wider rows alone: what an index finds in drawn rows says nothing.
- faiss, where it is installed: the same, with the share of the 20 best rows that it finds, for
  several numbers of clusters looked at, and how long it took to build.
- generation: milliseconds per token of 64 tokens behind held-out prompts, with the grown vocabulary
  (greedy, the 20 best, all; exact and by faiss), with the model's own vocabulary in the same loop,
  and by transformers' `generate`; bytes written per second.
- bits per byte of held-out text, before and after, canonical and by the longest prefix.

Every timed search first checks its result against the whole product in float64; a difference ends
the run. Files of the corpus whose number is divisible by 20 are held out.

    python benches/python/large_vocabulary.py --corpus FILES... --tokens 1000000 --widths 2048
    python benches/python/large_vocabulary.py --tokens 20000 --rounds 2      # a minute: small
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import anyvocab as av
from anyvocab import errors
from anyvocab.dynamic import (
    BlockedSearch,
    FaissSearch,
    GrownVocabulary,
    LargeVocabularyLM,
    OutputRows,
    grow,
    recall,
)
from anyvocab.evaluate.models import open_model
from anyvocab.hypernet.rows import Rows

MODEL = "pico:code-4k"
BEST = 20
NEW_TOKENS = 64
PROMPT_BYTES = 300
STATES = 200  # that recall is measured on
# Of a folder's files; others are no text, or say the same again (pages made of sources).
SUFFIXES = ("", ".py", ".txt", ".md", ".jsonl", ".c", ".h", ".cpp", ".hpp", ".rs", ".pyi", ".pm")


def files_of(places: list[str]) -> tuple[list[Path], list[Path]]:
    """Return the files that are learnt from, and those held out."""
    found: list[Path] = []
    for place in places:
        path = Path(place)
        inside = (
            sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        )
        found += inside
    return [f for i, f in enumerate(found) if i % 20], found[::20]


def heldout_texts(files: list[Path], most: int) -> Iterator[str]:
    for path in files:
        text = path.read_bytes()[:3000].decode("utf-8", "ignore")
        if len(text) > 600:
            yield text
            most -= 1
        if not most:
            return


class Clock:
    """What time is measured by: the wall, or this process's use of processors.

    On a machine that others use, too, only the second says what work takes.
    """

    read: Callable[[], float] = staticmethod(time.perf_counter)


def timed(work: Callable[[], Any], rounds: int) -> float:
    """Return the least milliseconds of some rounds, after one that does not count."""
    work()
    least = float("inf")
    for _ in range(rounds):
        start = Clock.read()
        work()
        least = min(least, Clock.read() - start)
    return least * 1e3


def peak_mib() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def states_of(lm: LargeVocabularyLM, texts: list[str]) -> Any:
    """Return final states of held-out text, float32 (STATES, D), spread over the texts."""
    found = []
    for text in texts:
        ids = [*lm.first_ids, *lm.encode(text).tolist()][:256]
        found.append(lm.states(ids).float())
    whole = torch.cat(found)
    return whole[torch.linspace(0, len(whole) - 1, min(STATES, len(whole))).long()]


def check(search: BlockedSearch, states: Any) -> None:
    """End the run where exact search differs from the whole product in float64."""
    found = search.top(states[:2], BEST, total=True)
    rows = search.rows
    products = torch.cat(
        [states[:2].double() @ rows_.double().T for _, rows_, _ in rows.blocks(1 << 16)], dim=1
    ).numpy()
    best = np.argsort(-products, axis=1, kind="stable")[:, :BEST]
    if rows.bias is None and not np.array_equal(found.ids, best):
        sys.exit("exact search and the whole product give other rows")


def report(what: str, rows: int, width: int, kind: str, ms: float, more: str = "") -> None:
    print(f"| {what} | {rows:,} | {width} | {kind} | {ms:.2f} | {more} |", flush=True)


def search_table(parts: list[Any], states: Any, rounds: int, *, real: bool) -> None:
    width, rows = parts[0].shape[1], sum(map(len, parts))
    one = states[:1]
    for dtype in (torch.float32, torch.bfloat16):
        size = rows * width * (4 if dtype == torch.float32 else 2)
        name = str(dtype).removeprefix("torch.")
        if size > 6 << 30:
            print(f"| exact | {rows:,} | {width} | {name} | left out: {size >> 30} GiB | |")
            continue
        kept = [part.to(dtype) for part in parts]
        search = BlockedSearch(kept)
        check(search, states)
        exact = timed(lambda search=search: search.top(one, BEST, total=True), rounds)
        report("exact, with the sum", rows, width, name, exact)
        alone = timed(lambda search=search: search.top(one, BEST), rounds)
        report("exact, without", rows, width, name, alone)
        if dtype == torch.float32 or len(kept) == 1:
            matrix = kept[0] if len(kept) == 1 else torch.cat(kept)
            state = one.to(dtype)

            def whole(matrix: Any = matrix, state: Any = state) -> Any:
                with torch.inference_mode():
                    logits = state @ matrix.T
                    return logits.topk(BEST), torch.logsumexp(logits.float(), dim=1)

            report("torch, product, topk, sum", rows, width, name, timed(whole, rounds))
            del matrix
        del kept, search
    if real:
        own = parts[0].float()
        report(
            "the model's own head",
            len(own),
            width,
            "float32",
            timed(lambda: (one @ own.T).topk(BEST), rounds),
        )


def faiss_table(
    rows: OutputRows, states: Any, rounds: int, storages: list[Any]
) -> FaissSearch | None:
    exact = BlockedSearch(rows)
    found = None
    for storage in storages:
        start = Clock.read()
        try:
            search = FaissSearch(rows, storage=storage)
        except errors.MissingExtra as error:
            print(f"\n{error}")
            return None
        built = Clock.read() - start
        for share in (64, 16, 4, 1):
            probes = max(1, search.lists // share)
            search.probes = probes
            hit = recall(search, exact, states, BEST)
            first = recall(search, exact, states, 1)
            ms = timed(lambda search=search: search.top(states[:1], BEST, total=True), rounds)
            more = (
                f"{probes} of {search.lists} clusters: recall {hit:.3f}, of the best alone "
                f"{first:.3f}; built in {built:.1f} s"
            )
            report("faiss", len(rows), rows.width, storage, ms, more)
        if found is None:
            search.probes = max(1, search.lists // 4)
            found = search
    return found


def generation_table(lm: LargeVocabularyLM, texts: list[str], index: FaissSearch | None) -> None:
    own = lm.model.tokenizer
    width = lm.rows.width
    tied = lm.model.network.get_output_embeddings().weight is (
        lm.model.network.get_input_embeddings().weight
    )
    nothing = torch.empty(0, width)
    rows = Rows(nothing, None if tied else nothing)
    plain = LargeVocabularyLM(lm.model, GrownVocabulary(own, rows, len(own.vocabulary)))
    sample = {"temperature": 0.8, "seed": 0}
    runs: list[tuple[str, LargeVocabularyLM, dict[str, Any]]] = [
        ("own vocabulary, greedy", plain, {}),
        ("own vocabulary, 20 best", plain, {**sample, "top_k": BEST}),
        ("grown, greedy", lm, {}),
        ("grown, 20 best", lm, {**sample, "top_k": BEST}),
        ("grown, all", lm, sample),
    ]
    if index is not None:
        runs += [
            ("grown, greedy, faiss", lm, {"search": index}),
            ("grown, 20 best, faiss", lm, {**sample, "top_k": BEST, "search": index}),
        ]
    greedy: list[list[int]] = []
    for name, model, options in runs:
        seconds, tokens, size = 0.0, 0, 0
        ids = []
        for text in texts:
            start = Clock.read()
            made = model.generate(text[:PROMPT_BYTES], max_new_tokens=NEW_TOKENS, **options)
            seconds += Clock.read() - start
            tokens += len(made.ids) + (made.end_logprob is not None)
            size += len(made.bytes)
            ids.append(made.ids.tolist())
        more = ""
        if name == "grown, greedy":
            greedy = ids
        elif name == "grown, greedy, faiss":
            same = sum(a == b for a, b in zip(greedy, ids, strict=True))
            more = f"; {same} of {len(ids)} texts as by exact search"
        print(
            f"| {name} | {tokens} | {seconds / tokens * 1e3:.2f} | {size / seconds:,.0f}{more} |",
            flush=True,
        )
    seconds, tokens = 0.0, 0
    for text in texts:
        ids = torch.tensor([[*plain.first_ids, *own.encode(text[:PROMPT_BYTES]).tolist()]])
        start = Clock.read()
        out = lm.model.network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=plain.ends[0],
        )
        seconds += Clock.read() - start
        tokens += out.shape[1] - ids.shape[1]
    print(f"| transformers generate, own, greedy | {tokens} | {seconds / tokens * 1e3:.2f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", nargs="*", default=[str(Path(os.__file__).parent)])
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--widths", type=int, nargs="*", default=[])
    parser.add_argument("--folder", help="a grown vocabulary that is there already")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--storage", nargs="*", default=["float32", "int8"], help="how faiss keeps rows"
    )
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what times are")
    chosen = parser.parse_args()
    if chosen.clock == "cpu":
        Clock.read = staticmethod(time.process_time)
    learnt, held = files_of(chosen.corpus)
    learnt = [path for path in learnt if path.suffix in SUFFIXES]
    texts = list(heldout_texts(held, chosen.texts))
    print(
        f"anyvocab {av.__version__}, torch {torch.__version__} on {torch.get_num_threads()} "
        f"threads, transformers {transformers.__version__}, {platform.processor() or 'unknown'}, "
        f"times by {chosen.clock}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(chosen.folder or Path(temporary) / "grown")
        if not chosen.folder:
            start = time.perf_counter()
            made = grow(
                MODEL,
                [str(path) for path in learnt],
                folder,
                size=chosen.tokens,
                dtype=chosen.dtype,
                invalid="skip",
            )
            seconds = time.perf_counter() - start
            print(f"\ngrow: {made.outcome}, {made.tokens:,} tokens, {seconds:.1f} s, rows ", end="")
            print(f"{made.row_bytes / 1e6:,.0f} MB by {made.rows_from}, peak {peak_mib():,.0f} MiB")
        start = time.perf_counter()
        lm = LargeVocabularyLM.open(folder, open_model(MODEL))
        print(f"opened in {time.perf_counter() - start:.1f} s\n")
        states = states_of(lm, texts)
        print("| search | rows | width | rows are | ms | |\n|---|---|---|---|---|---|")
        search_table(lm.rows.parts, states, chosen.rounds, real=True)
        index = faiss_table(lm.rows, states, chosen.rounds, chosen.storage)
        for width in chosen.widths:
            generator = torch.Generator().manual_seed(width)
            drawn = torch.empty(chosen.tokens, width, dtype=torch.bfloat16)
            for start_row in range(0, len(drawn), 1 << 16):
                part = drawn[start_row : start_row + (1 << 16)]
                part.copy_(torch.randn(part.shape, generator=generator))
            search_table(
                [drawn], torch.randn(2, width, generator=generator), chosen.rounds, real=False
            )
            del drawn
        print("\n| generation | tokens | ms per token | bytes per second |\n|---|---|---|---|")
        generation_table(lm, texts, index)
        before = av.bits_per_byte(lm.model, texts)
        longest = LargeVocabularyLM.open(folder, lm.model, encoding="longest")
        print("\n| bits per byte | | bytes per token |\n|---|---|---|")
        for name, score in (
            ("own vocabulary", before),
            ("grown, canonical", lm.bits_per_byte(texts)),
            ("grown, longest prefix", longest.bits_per_byte(texts)),
        ):
            print(f"| {name} | {score.bits_per_byte:.4f} | {score.bytes_per_token:.2f} |")
        print(f"\npeak memory {peak_mib():,.0f} MiB")


if __name__ == "__main__":
    main()
