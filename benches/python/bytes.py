"""Byte-level speed and exactness against the rivals that can be installed, in one run.

What each part is for:

- exact: whether the numbers are right, before any is timed. `law="marginal"` against genlm-bytes
  with a beam of 1000 on a toy vocabulary; `law="canonical"` and byte-sampler's exact mode against
  an oracle that encodes every candidate again (`bytes_oracle.py`).
- steps: the score and the whole distribution of the next byte, position by position, the only way
  that every contender has; what the model itself takes is measured apart. Beside it, the sums over
  the vocabulary alone, and the distributions of all positions at once, which no rival offers.
- scores: 200 snippets, scored one by one and as a batch, against plain token scoring.
- complete: greedy completion of 64 tokens, against generation by tokens on the same backend and
  against `generate` of transformers, on a small model and on one of 100 million parameters.

Every contender runs in a process of its own, with one thread; models are GPT-2s with random weights
and real vocabularies (the first 32,000 ranks of cl100k with Llama 3's pattern; Llama 3's 128,000),
texts are English and Python. Random weights make distributions unnatural, and text that is unlikely
under them is hard on beams and on the marginal law: only cost and exactness mean something.

Rivals live outside, in a folder given with `--rivals`; a rival that is not there is left out:

    python -m venv venv
    venv/bin/pip install genlm-bytes torch transformers
    venv/bin/pip install ahocorasick-rs pysimdjson pyicu-wheels
    venv/bin/pip install --target tf4 --no-deps \
        transformers==4.53.3 tokenizers==0.21.4 huggingface-hub==0.34.4
    git clone https://github.com/SewoongLab/byte-sampler

byte-sampler needs that transformers: with 5 its cache has no `key_cache`. It has no release;
f27de98 was measured. genlm-bytes 0.2.0 runs with transformers 5.24 and numba 0.68.

    python benches/python/bytes.py --rivals /path/to/rivals
    python benches/python/bytes.py --part steps --sizes 32000 --bytes 60    # a minute
"""

from __future__ import annotations

import argparse
import datetime
import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bytes_models as models
import numpy as np
import torch
from bytes_contenders import Meter, apart, load_model
from bytes_oracle import Oracle

PARTS = ("exact", "steps", "scores", "complete")
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)
QUIET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
# Rounding: probabilities of a float32 forward pass, about 300 of whose logits matter, each with a
# relative error of a few units of 1.2e-7 from sums in another order.
ROUNDING = 1e-5
TOY = b"the cat sat "
ORACLE_AT = {"English": (0, 9, 36), "Python": (1, 45)}


@dataclass
class Contender:
    """What is run in a process, and as what it is shown."""

    title: str
    task: dict[str, Any]
    found: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)


class Runner:
    """Runs contenders, each with the Python that has it."""

    def __init__(self, rivals: Path | None, work: Path) -> None:
        self._rivals = rivals
        self._work = work
        self.versions: dict[str, str] = {}

    def has(self, name: str) -> bool:
        if name == "anyvocab":
            return True
        needed = {"genlm-bytes": "venv", "byte-sampler": "byte-sampler"}[name]
        return self._rivals is not None and (self._rivals / needed).is_dir()

    def run(self, one: Contender, folder: Path, texts: dict[str, bytes]) -> Contender:
        """Walk through the texts with a contender; fill in what it found."""
        name = one.task["contender"]
        files = {"texts": self._work / "texts.npz", "rows": self._work / "rows.npz"}
        np.savez(files["texts"], **{k: np.frombuffer(v, np.uint8) for k, v in texts.items()})
        task = one.task | {"folder": str(folder)} | {k: str(v) for k, v in files.items()}
        env = {**os.environ, **ONE_THREAD, **QUIET}
        python = sys.executable
        if name != "anyvocab" and self._rivals is not None:
            python = str(self._rivals / "venv" / "bin" / "python")
            paths = [self._rivals / "tf4", self._rivals / "byte-sampler" / "src"]
            env["PYTHONPATH"] = ""
            if name == "byte-sampler":
                env["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        script = str(Path(__file__).with_name("bytes_contenders.py"))
        command = [python, script, json.dumps(task)]
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode:
            sys.exit(f"{one.title} failed:\n{done.stderr[-2000:]}")
        one.found = json.loads(done.stdout.splitlines()[-1])
        for library, version in one.found["versions"].items():
            self.versions[f"{library} ({name})"] = version
        with np.load(files["rows"]) as held:
            one.rows = {key: held[key] for key in held.files}
        return one


def ascii_part(rows: Any) -> Any:
    """Return the distributions given that the next byte is ASCII and not `<`.

    byte-sampler counts the mass of control tokens twice, as END and as `<`, which they begin with;
    texts that are not UTF-8, which only anyvocab has encodings for, go on with bytes over 127.
    """
    rows = rows[:, :128].copy()
    rows[:, ord("<")] = -np.inf
    return rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)


def folder_of(work: Path, size: int) -> Path:
    """Return the folder of the small model with a vocabulary of `size`; it is written at first."""
    folder = work / str(size)
    if not folder.is_dir():
        models.write_tokenizer(folder, size)
        models.write_model(folder)
    return folder


def check(what: str, distance: float, bound: float) -> str:
    """Return a line on a distance; end the run where it is over its bound."""
    if not distance <= bound:
        sys.exit(f"{what}: total variation {distance:.2g} is over {bound:g}: no numbers")
    return f"- {what}: total variation {distance:.2g} at most (bound {bound:g})"


def part_exact(runner: Runner, work: Path, _: argparse.Namespace) -> list[str]:
    lines = []
    toy = work / "toy"
    models.write_toy(toy)
    models.write_model(toy)
    every = {"eps": 0, "budget": 100_000}
    ours = Contender("marginal", {"contender": "anyvocab", "law": "marginal", "options": every})
    runner.run(ours, toy, {"toy": TOY})
    if runner.has("genlm-bytes"):
        wide = Contender("genlm-bytes K=1000", {"contender": "genlm-bytes", "beam": 1000})
        runner.run(wide, toy, {"toy": TOY})
        distance = float(apart(ours.rows["toy"], wide.rows["toy"]).max())
        lines.append(check("`marginal` and genlm-bytes K=1000, toy", distance, ROUNDING))
    folder = folder_of(work, models.SMALL)
    texts = models.texts(60)
    ours = Contender("canonical", {"contender": "anyvocab", "law": "canonical"})
    runner.run(ours, folder, texts)
    rival = Contender("byte-sampler exact", {"contender": "byte-sampler", "filter": True})
    if runner.has("byte-sampler"):
        runner.run(rival, folder, texts)
        far = np.concatenate(
            [apart(ascii_part(ours.rows[n]), ascii_part(rival.rows[n])) for n in texts]
        )
        over = int((far > ROUNDING).sum())
        lines.append(
            f"- byte-sampler exact is {np.median(far):.2g} from `canonical` in the median, and"
            f" {far.max():.2g} at most; {over} of {len(far)} positions are over {ROUNDING:g}"
        )
    oracle = make_oracle(folder)
    worst = {"ours": 0.0, "rival": 0.0}
    for name, places in ORACLE_AT.items():
        for at in places:
            with np.errstate(divide="ignore"):
                truth = ascii_part(np.log(oracle.row(texts[name][:at], models.SMALL))[None])
            for key, one in (("ours", ours), ("rival", rival)):
                if one.rows:
                    distance = float(apart(ascii_part(one.rows[name][at : at + 1]), truth)[0])
                    worst[key] = max(worst[key], distance)
    lines.append(check("`canonical` and the oracle", worst["ours"], ROUNDING))
    if rival.rows:
        lines.append(f"- byte-sampler exact and the oracle: {worst['rival']:.2g} at most")
    return lines


def make_oracle(folder: Path) -> Oracle:
    import anyvocab as av

    model, _ = load_model(str(folder))
    tokenizer = av.Tokenizer.load(folder)
    tokens = [tokenizer.vocabulary.token_bytes(id) or b"" for id in range(models.SMALL)]

    def logprobs(context: tuple[int, ...]) -> Any:
        with torch.inference_mode():
            row = model(torch.tensor([list(context)])).logits[0, -1]
        return torch.log_softmax(row.double(), 0).numpy()

    return Oracle(folder, tokens, logprobs)


def contenders(runner: Runner) -> list[Contender]:
    """Return who walks; a fresh list, to be filled in."""
    ours = {"contender": "anyvocab"}
    every = [
        Contender("anyvocab local", ours | {"law": "local"}),
        Contender("anyvocab canonical", ours | {"law": "canonical"}),
        Contender("anyvocab marginal, eps 1e-3", ours | {"law": "marginal"}),
        Contender("byte-sampler default", {"contender": "byte-sampler", "filter": False}),
        Contender("byte-sampler exact", {"contender": "byte-sampler", "filter": True}),
        Contender("genlm-bytes K=5", {"contender": "genlm-bytes", "beam": 5, "arithmetic": True}),
    ]
    return [one for one in every if runner.has(one.task["contender"])]


def part_steps(runner: Runner, work: Path, given: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of one size after the other: each takes minutes."""
    columns = ["contender", "CPU ms/byte", "median", "vs local", "of these the model"]
    columns += [
        "without the model",
        "wall ms/byte",
        "model tokens/byte",
        "passes/byte",
        "first use, CPU s",
    ]
    columns += ["resident MiB", "growth MiB/byte", "missing mass"]
    for size in given.sizes:
        texts = models.texts(given.bytes)
        walked = contenders(runner)
        rows = []
        for one in walked:
            runner.run(one, folder_of(work, size), texts)
            rows.append(steps_row(one.found, walked[0].found, one.title))
        yield from ("", f"### {size} tokens", "", *table(columns, rows), "")
        yield from sweep_lines(walked)


def sweep_lines(walked: list[Contender]) -> list[str]:
    """Return what all positions at once take, and the sums over the vocabulary alone."""
    ours = walked[0].found
    sweep = ours["sweep"]
    check("`next_byte_logprobs` and the steps", sweep["apart"], ROUNDING)
    told = [
        f"All positions at once (`next_byte_logprobs`, local): {1e3 * sweep['cpu']:.2f} CPU ms and"
        f" {sweep['tokens']:.2f} model tokens a byte; step by step takes"
        f" {ours['cpu'] / sweep['cpu']:.1f} times as much"
    ]
    told += [
        f"{one.title} {one.found['cpu'] / sweep['cpu']:.0f} times"
        for one in walked
        if not one.title.startswith("anyvocab")
    ]
    sums = {
        f"{one.title}: {name}": 1e3 * seconds
        for one in walked
        for name, seconds in one.found.get("arithmetic", {}).items()
    }
    rows = [[name, f"{ms:.3f}"] for name, ms in sums.items()]
    title = "The vocabulary's sums for one model state, CPU ms:"
    return [", ".join(told) + ".", "", title, "", *table(["what", "ms"], rows)]


def steps_row(found: dict[str, Any], ours: dict[str, Any], title: str) -> list[str]:
    bare = found["cpu"] - found["forward_cpu"]
    ours_bare = ours["cpu"] - ours["forward_cpu"]
    return [
        title,
        f"{1e3 * found['cpu']:.2f}",
        f"{1e3 * found['cpu_median']:.2f}",
        f"{found['cpu_median'] / ours['cpu_median']:.1f}x",
        f"{1e3 * found['forward_cpu']:.2f}",
        f"{1e3 * bare:.2f} ({bare / ours_bare:.1f}x)",
        f"{1e3 * found['wall']:.2f}",
        f"{found['tokens']:.2f}",
        f"{found['calls']:.2f}",
        f"{found['init']:.2f}",
        f"{found['rss_mib']:.0f}",
        f"{found['growth_mib']:.2f}",
        f"{found['missing']:.2g}" if "missing" in found else "not told",
    ]


def part_scores(_: Runner, work: Path, given: argparse.Namespace) -> list[str]:
    from anyvocab.backends import TransformersBackend
    from anyvocab.bytelm import ByteLM

    rows = []
    snippets = models.snippets(given.snippets)
    length = sum(map(len, snippets)) / len(snippets)
    for size in given.sizes:
        folder = folder_of(work, size)
        model, _unused = load_model(str(folder))
        meter = Meter(model)
        lm = ByteLM(TransformersBackend(model), folder)
        encoded = [[*lm.first_ids, *lm.tokenizer.encode(text).tolist()] for text in snippets]
        ways: dict[str, Callable[[], list[float]]] = {
            "tokens, one by one": lambda m=model, e=encoded: [plain_score(m, ids) for ids in e],
            "bytes, one by one": lambda lm=lm: [lm.score(text) for text in snippets],
            "bytes, one batch": lambda lm=lm: lm.score_batch(snippets).tolist(),
            "bytes, step by step": lambda lm=lm: [stepped(lm, text) for text in snippets[:8]],
        }
        baseline: dict[str, float] = {}
        scores: dict[str, list[float]] = {}
        for name, way in ways.items():
            way()  # pages and caches
            before, cpu, wall = meter.read(), time.process_time(), time.perf_counter()
            scores[name] = way()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            count = len(scores[name])
            tokens = (meter.read()["tokens"] - before["tokens"]) / count
            baseline = baseline or {"cpu": cpu / count, "tokens": tokens}
            ratio = cpu / count / baseline["cpu"]
            row = [str(size), name, f"{tokens:.2f}", f"{tokens - baseline['tokens']:+.2f}"]
            rows.append([*row, f"{1e3 * cpu / count:.2f}", f"{1e3 * wall / count:.2f}",
                         f"{ratio:.2f}x"])  # fmt: skip
        check_scores(scores)
    columns = ["tokens", "way", "model tokens/text", "over plain", "CPU ms/text", "wall ms/text"]
    return [f"{len(snippets)} snippets of {length:.0f} bytes on average, `law=\"local\"`.", "",
            *table([*columns, "vs plain, CPU"], rows)]  # fmt: skip


def check_scores(scores: dict[str, list[float]]) -> None:
    """End the run where ways to score bytes disagree: 120 steps of float32 rounding apart."""
    for name in ("bytes, one batch", "bytes, step by step"):
        pairs = zip(scores["bytes, one by one"], scores[name], strict=False)
        worst = max(abs(one - other) for one, other in pairs)
        if worst > 120 * ROUNDING:
            sys.exit(f"{name} differs from one by one by {worst} nats: no numbers")


def plain_score(model: Any, ids: list[int]) -> float:
    """Return the log-probability of ids, the first one given, with one pass."""
    with torch.inference_mode():
        logits = model(torch.tensor([ids[:-1]])).logits[0]
        logprobs = torch.log_softmax(logits, 1)
        return float(logprobs[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum())


def stepped(lm: Any, text: bytes) -> float:
    """Return the log-probability of a text, asked byte by byte."""
    state, total = lm.start(), 0.0
    for byte in text:
        total += float(state.logprobs()[byte])
        state.push(byte)
    return total


def part_complete(_: Runner, work: Path, given: argparse.Namespace) -> list[str]:
    from anyvocab import pico
    from anyvocab.backends import TransformersBackend
    from anyvocab.bytelm import ByteLM
    from anyvocab.bytelm.baselines import generate

    large = work / "100m"
    models.write_tokenizer(large, models.SMALL)
    models.write_model(large, layers=12, width=640, heads=10)
    rows = []
    for title, folder, rounds in (
        ("pico:code-4k", pico.path("code-4k"), given.rounds * 2),
        ("random, 105M parameters", large, given.rounds),
    ):
        model, _unused = load_model(str(folder))
        meter = Meter(model)
        lm = ByteLM(TransformersBackend(model), folder)
        prompt = models.texts(200)["Python"].rsplit(b" ", 1)[0] + b" ret"
        ids = [*lm.first_ids, *lm.tokenizer.encode(prompt).tolist()]
        works: dict[str, Callable[[], int]] = {
            "transformers generate": lambda m=model, i=ids: plain_generate(m, i),
            "tokens, our backend": lambda lm=lm, i=ids: len(generate(lm, i, max_new_tokens=64).ids),
            "complete": lambda lm=lm, p=prompt: lm.complete(p, max_new_tokens=64).tokens,
        }
        best: dict[str, tuple[float, ...]] = {}
        for turn in range(rounds + 1):
            for name, work_ in works.items():
                gc.collect()
                before, cpu, wall = meter.read(), time.process_time(), time.perf_counter()
                count = work_()
                after = meter.read()
                took = (
                    (time.process_time() - cpu) / count,
                    (time.perf_counter() - wall) / count,
                    (after["forward_cpu"] - before["forward_cpu"]) / count,
                    (after["tokens"] - before["tokens"]) / count,
                )
                if turn:  # the first round fills caches
                    best[name] = min(best.get(name, took), took)
        for name, (cpu, wall, forward, tokens) in best.items():
            over = cpu / best["tokens, our backend"][0] - 1
            rows.append([title, name, f"{1e3 * cpu:.2f}", f"{1e3 * forward:.2f}",
                         f"{1e3 * wall:.2f}", f"{tokens:.2f}", f"{100 * over:+.1f}%"])  # fmt: skip
    columns = ["model", "way", "CPU ms/token", "of these the model", "wall ms/token"]
    return table([*columns, "read per written", "CPU, vs tokens"], rows)


def plain_generate(model: Any, ids: list[int]) -> int:
    """Return how many tokens transformers generated: 64, greedily, without an end."""
    given = torch.tensor([ids])
    with torch.inference_mode():
        done = model.generate(
            given,
            attention_mask=torch.ones_like(given),
            do_sample=False,
            max_new_tokens=64,
            min_new_tokens=64,
            pad_token_id=0,
        )
    return int(done.shape[1]) - len(ids)


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rivals", type=Path, help="folder of the rivals, see above")
    parser.add_argument("--sizes", nargs="+", type=int, default=[models.SMALL, models.LARGE])
    parser.add_argument("--bytes", type=int, default=200, help="of each of the two texts")
    parser.add_argument("--snippets", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="of completions; the best counts")
    parser.add_argument("--record", action="store_true", help="write benches/record/DATE-bytes.md")
    given = parser.parse_args()
    if not set(given.sizes) <= {models.SMALL, models.LARGE}:
        parser.error(f"sizes are {models.SMALL} and {models.LARGE}")
    if os.environ.get("OMP_NUM_THREADS") != "1":  # before numpy starts its threads
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    torch.set_num_threads(1)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    load = f"load average {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores at the start"
    lines = [f"# {today}: byte-level models", ""]
    with tempfile.TemporaryDirectory() as name:
        runner = Runner(given.rivals and given.rivals.absolute(), Path(name))
        work = {"exact": part_exact, "steps": part_steps, "scores": part_scores,
                "complete": part_complete}  # fmt: skip
        body: list[str] = []
        for part in given.part:
            for line in itertools.chain((f"## {part}", ""), work[part](runner, Path(name), given)):
                print(line, flush=True)
                body.append(line)
            body.append("")
    told = ", ".join(f"{library} {version}" for library, version in runner.versions.items())
    lines += [f"One thread; {load}. {told}.", "", *body]
    print(lines[2])
    if given.record:
        path = models.ROOT / "benches" / "record" / f"{today}-bytes.md"
        path.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
