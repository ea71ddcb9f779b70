"""Training of tokenizers against the trainers that can be installed, in one run.

What each part is for:

- exact: whether what is timed is the same work. On a sample of the corpus our merges, gigatoken's
  and those of `tokenizers` must be one list; a difference ends the run before any number.
- speed: 32,000 and 128,000 tokens, patterns of GPT-2 and Llama 3, one and two threads: wall and
  processor seconds and the peak of memory. The count apart is a run that learns no merge
  (`count_corpus` for ours), merging is what is left. The merges are compared again.
- superwords: what the second stage takes beside the plain training, its memory, and encoding with
  the results against `tokenizers`, id for id, one thread.
- large: a count of several gigabytes under a budget of one, where unique pretokens keep coming.
- quality: bytes per token on held-out documents, by recipe and size; one thread more or less does
  not change them, so this part may run on a busy machine.

Every contender runs in a process of its own, on as many processors as it has threads, and reads
the same files one by one: no time is spent on a list of texts, no memory is lent to anyone. The
corpus is that of `train_corpus.py`; rivals live in a virtual environment, and one that is missing
is left out:

    python -m venv rivals
    rivals/bin/pip install tokenizers==0.23.3 gigatoken rustbpe sentencepiece bpeasy

    python benches/python/train_corpus.py --out corpus
    python benches/python/train.py --corpus corpus --rivals rivals --record
    python benches/python/train.py --corpus corpus --rivals rivals --part speed --sizes 32000 \
        --threads 1 --patterns gpt2 --only tokenizers gigatoken      # a minute or two
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.util
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import train_large

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("exact", "speed", "superwords", "large", "quality")
RIVALS = ("tokenizers", "gigatoken", "rustbpe", "sentencepiece", "bpeasy")
MERGES_LIKE_HF = ("anyvocab", "tokenizers", "gigatoken")  # whose merges are one list
ONLY_GPT2 = ("gigatoken",)
RECIPES = (None, "supertokens", "superbpe", "boundless")
SAMPLE = 6_000_000  # bytes of the corpus that `exact` trains on
SAMPLE_SIZE = 8_000

Found = dict[str, Any]


@dataclass
class Corpus:
    """The files of a corpus: what to train on and what was held out."""

    folder: Path
    train: list[Path] = field(default_factory=list)
    size: int = 0  # bytes to train on

    def __post_init__(self) -> None:
        parts = [self.folder / part for part in ("en", "multi", "code")]
        self.train = sorted(path for part in parts for path in part.rglob("*.txt"))
        if not self.train:
            sys.exit(f"{self.folder} holds no corpus: make one with train_corpus.py --out")
        self.size = sum(path.stat().st_size for path in self.train)

    def held_out(self, part: str) -> list[Path]:
        return sorted((self.folder / "heldout" / part).rglob("*.txt"))

    def sample(self) -> list[Path]:
        """Return every n-th file of each folder, SAMPLE bytes about."""
        return self.train[:: max(1, self.size // SAMPLE)]


class Runner:
    """Runs contenders, each with the Python that has it."""

    def __init__(self, given: argparse.Namespace, work: Path) -> None:
        self._rivals: Path | None = given.rivals and given.rivals.absolute()
        self._only: list[str] | None = given.only
        self._limit: int = given.limit
        self.rounds: int = given.rounds
        self.work = work
        self.versions: dict[str, str] = {}

    def contenders(self, pattern: str | None = None) -> list[str]:
        """Return who is there and knows the pattern; ours first."""
        return [
            name
            for name in ("anyvocab", *RIVALS)
            if self._there(name) and not (name in ONLY_GPT2 and pattern not in {None, "gpt2"})
        ]

    def _there(self, name: str) -> bool:
        if self._only is not None and name not in self._only:
            return False
        if name == "anyvocab":
            return importlib.util.find_spec("anyvocab.training") is not None
        if self._rivals is None:
            return False
        return any((self._rivals / "lib").glob(f"python3*/site-packages/{name}"))

    def run(self, contender: str, paths: Iterable[Path], **task: Any) -> Found:
        """Run a task; a failure is a value under `failed`, to be shown as such."""
        listed, told = self.work / "paths.txt", self.work / "task.json"
        listed.write_text("\n".join(map(str, paths)))
        told.write_text(json.dumps({**task, "contender": contender, "paths": str(listed)}))
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        python = sys.executable
        if contender not in {"anyvocab", "reading"} and self._rivals is not None:
            python = str(self._rivals / "bin" / "python")
            env.pop("PYTHONPATH", None)
        command = [python, str(Path(__file__).with_name("train_contenders.py")), str(told)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=env, timeout=self._limit
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"over {self._limit} s"}
        if done.returncode:
            return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1][:200]}
        found: Found = json.loads(done.stdout.splitlines()[-1])
        if "version" in found:
            self.versions[contender] = found["version"]
        return found

    def learnt(self, contender: str, paths: Iterable[Path], **task: Any) -> Found:
        """Train; add the digest and the lines of what was learnt."""
        out = self.work / "learnt.txt"
        out.unlink(missing_ok=True)
        folder = self.work / f"{contender}-{task.get('superwords') or 'plain'}-{task['vocab_size']}"
        shutil.rmtree(folder, ignore_errors=True)
        found = self.run(contender, paths, job="train", out=str(out), folder=str(folder), **task)
        found["folder"] = folder
        if "failed" not in found and out.is_file():
            text = out.read_text()
            found["digest"] = hashlib.md5(text.encode()).hexdigest()
            found["lines"] = text.split("\n")
        return found


def same_merges(what: str, found: dict[str, Found]) -> str:
    """Return a line on merge lists that are one; end the run where they are not."""
    lists = {
        name: one["lines"]
        for name, one in found.items()
        if name in MERGES_LIKE_HF and "lines" in one
    }
    names = list(lists)
    for name in names[1:]:
        pairs = itertools.zip_longest(lists[names[0]], lists[name])
        apart = next((place for place, (a, b) in enumerate(pairs) if a != b), None)
        if apart is not None:
            sys.exit(f"{what}: merges of {names[0]} and {name} differ from {apart} on: no numbers")
    if len(names) < 2:
        return f"- {what}: nobody to compare {', '.join(names) or 'anything'} with"
    digest = found[names[0]]["digest"]
    return f"- {what}: {len(lists[names[0]])} merges, the same of {', '.join(names)} (md5 {digest})"


def common_tokens(found: dict[str, Found]) -> Iterator[str]:
    """Yield how far those who tell tokens alone agree with the merges of `tokenizers`."""
    if "lines" not in found.get("tokenizers", {}):
        return
    merged = {line.replace(" ", "") for line in found["tokenizers"]["lines"]}
    for name, one in found.items():
        if name not in MERGES_LIKE_HF and "lines" in one:
            share = len(merged & set(one["lines"])) / len(merged)
            yield f"- {name} has {100 * share:.2f}% of the merged tokens of `tokenizers`"


def part_exact(runner: Runner, corpus: Corpus, given: argparse.Namespace) -> Iterator[str]:
    sample = corpus.sample()
    for pattern in given.patterns:
        found = {
            name: runner.learnt(
                name, sample, pattern=pattern, vocab_size=SAMPLE_SIZE, threads=given.threads[-1]
            )
            for name in runner.contenders(pattern)
            if name in MERGES_LIKE_HF
        }
        yield same_merges(f"sample, {pattern}, {SAMPLE_SIZE} tokens", found)


def best(runner: Runner, way: Callable[[], Found]) -> Found:
    """Return the quickest of the rounds, or the failure."""
    rounds = [way() for _ in range(runner.rounds)]
    return min(rounds, key=lambda one: one.get("wall", float("inf")))


def part_speed(runner: Runner, corpus: Corpus, given: argparse.Namespace) -> Iterator[str]:
    """Yield the tables of one pattern and size after the other."""
    reading = runner.run("reading", corpus.train, job="train", threads=1, vocab_size=0, pattern="")
    yield (
        f"{len(corpus.train)} documents, {corpus.size / 1e6:.1f} MB. To read and decode them alone:"
        f" {reading['wall']:.2f} s, which is in the times of all who take an iterator."
    )
    counts: dict[tuple[str, str, int], Found] = {}
    for pattern, size in itertools.product(given.patterns, given.sizes):
        rows: list[list[str]] = []
        notes: list[str] = []
        for threads in given.threads:
            found: dict[str, Found] = {}
            for name in runner.contenders(pattern):
                task = {"pattern": pattern, "threads": threads}
                if (name, pattern, threads) not in counts and name != "sentencepiece":
                    counts[name, pattern, threads] = best(
                        runner,
                        lambda: runner.run(name, corpus.train, job="count", **task),  # noqa: B023
                    )
                found[name] = best(
                    runner,
                    lambda: runner.learnt(name, corpus.train, vocab_size=size, **task),  # noqa: B023
                )
            for name, one in found.items():
                count = counts.get((name, pattern, threads), {})
                rows.append(speed_row(name, threads, one, count, found.get("anyvocab"), corpus))
            notes.append(same_merges(f"{threads} thread{'s' * (threads > 1)}", found))
            notes += common_tokens(found)
        yield from ("", f"### {pattern}, {size} tokens", "", *table(SPEED_COLUMNS, rows), "")
        yield from notes


SPEED_COLUMNS = ["trainer", "threads", "wall s", "CPU s", "MB/s", "count s (CPU)",
                 "merging s (CPU)", "peak MiB", "of these imports", "wall, vs ours"]  # fmt: skip


def speed_row(
    name: str, threads: int, one: Found, count: Found, ours: Found | None, corpus: Corpus
) -> list[str]:
    if "failed" in one:
        return [name, str(threads), one["failed"], *[""] * (len(SPEED_COLUMNS) - 3)]
    apart = ["", ""]
    if "wall" in count:
        apart = [
            f"{count['wall']:.1f} ({count['cpu']:.1f})",
            f"{one['wall'] - count['wall']:.1f} ({one['cpu'] - count['cpu']:.1f})",
        ]
    ratio = f"{one['wall'] / ours['wall']:.1f}x" if ours and "wall" in ours else ""
    speed = corpus.size / 1e6 / one["wall"]
    return [name, str(threads), f"{one['wall']:.1f}", f"{one['cpu']:.1f}", f"{speed:.1f}", *apart,
            f"{one['peak_mib']:.0f}", f"{one['begun_mib']:.0f}", ratio]  # fmt: skip


def part_superwords(runner: Runner, corpus: Corpus, given: argparse.Namespace) -> Iterator[str]:
    """Yield what superwords take beyond a plain training, then what encoding with them takes."""
    size, threads = given.sizes[0], given.threads[-1]
    task = {"pattern": "llama3", "vocab_size": size, "threads": threads}
    found = {
        recipe: best(
            runner,
            lambda: runner.learnt("anyvocab", corpus.train, superwords=recipe, **task),  # noqa: B023
        )
        for recipe in RECIPES
    }
    plain = found[None]
    rows = []
    for recipe, one in found.items():
        title = recipe or "none"
        if "failed" in one:
            rows.append([title, one["failed"], "", "", "", ""])
            continue
        more = [
            f"{one[k] - plain[k]:+.1f}" if recipe and k in plain else "" for k in ("wall", "cpu")
        ]
        rows.append([title, f"{one['wall']:.1f}", f"{one['cpu']:.1f}", *more,
                     f"{one['peak_mib']:.0f}"])  # fmt: skip
    yield f"{size} tokens, llama3, {threads} threads; what is beyond plain is the second stage."
    columns = ["recipe", "wall s", "CPU s", "wall beyond plain", "CPU beyond plain", "peak MiB"]
    yield from ("", *table(columns, rows), "", "Encoding held-out documents, one thread:", "")
    rows = []
    for recipe, one in found.items():
        for part in ("en", "multi", "code"):
            if "failed" not in one:
                rows.append(encode_row(runner, recipe or "none", one["folder"], corpus, part))
    yield from table(["recipe", "text", "anyvocab MB/s", "tokenizers MB/s", "ratio", "ids"], rows)


def encode_row(runner: Runner, recipe: str, folder: Path, corpus: Corpus, part: str) -> list[str]:
    paths = corpus.held_out(part)
    task = {"job": "encode", "folder": str(folder), "threads": 1}
    found = {
        name: best(runner, lambda: runner.run(name, paths, **task))  # noqa: B023
        for name in ("anyvocab", "tokenizers")
    }
    failed = [f"{name}: {one['failed']}" for name, one in found.items() if "failed" in one]
    if failed:
        return [recipe, part, *failed, *[""] * (4 - len(failed))]
    ours, theirs = found["anyvocab"], found["tokenizers"]
    if ours["ids"] != theirs["ids"]:
        sys.exit(f"{recipe}, {part}: ids of anyvocab and tokenizers differ: no numbers")
    speeds = [one["bytes"] / 1e6 / one["cpu"] for one in (ours, theirs)]
    return [recipe, part, *(f"{speed:.1f}" for speed in speeds), f"{speeds[0] / speeds[1]:.1f}x",
            "equal"]  # fmt: skip


def part_large(_: Runner, corpus: Corpus, given: argparse.Namespace) -> Iterator[str]:
    """Yield what a count of several gigabytes took."""
    folder = (given.large or corpus.folder / "large").absolute()
    found = train_large.count(corpus.train, folder, given.large_gb, given.threads[-1])
    rows = [[name, value] for name, value in found.items()]
    yield from table(["what", "value"], rows)


def part_quality(runner: Runner, corpus: Corpus, given: argparse.Namespace) -> Iterator[str]:
    """Yield bytes per token of one size after the other."""
    parts = ("en", "multi", "code")
    for size in given.quality_sizes:
        rows: list[list[str]] = []
        plain: dict[str, float] = {}
        for recipe in RECIPES:
            one = runner.learnt(
                "anyvocab", corpus.train, pattern="llama3", vocab_size=size,
                threads=given.threads[-1], superwords=recipe,
            )  # fmt: skip
            cells = [one["failed"]] if "failed" in one else []
            for part in () if cells else parts:
                task = {"job": "encode", "folder": str(one["folder"]), "threads": 1}
                told = runner.run("anyvocab", corpus.held_out(part), **task)
                if "failed" in told:
                    cells.append(told["failed"])
                    continue
                rate = told["bytes"] / told["tokens"]
                base = plain.setdefault(part, rate) if recipe is None else plain.get(part)
                more = "" if recipe is None or not base else f" ({100 * (rate / base - 1):+.1f}%)"
                cells.append(f"{rate:.3f}{more}")
            rows.append([recipe or "none", *cells, *[""] * (len(parts) - len(cells))])
        yield from ("", f"### {size} tokens", "", *table(["recipe", *parts], rows))


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (columns, ["---"] * len(columns), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of train_corpus.py")
    parser.add_argument("--rivals", type=Path, help="virtual environment of the rivals")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--only", nargs="+", choices=("anyvocab", *RIVALS), help="contenders")
    parser.add_argument("--patterns", nargs="+", choices=("gpt2", "llama3"),
                        default=["gpt2", "llama3"])  # fmt: skip
    parser.add_argument("--sizes", nargs="+", type=int, default=[32_000, 128_000])
    parser.add_argument("--quality-sizes", nargs="+", type=int, default=[32_000, 64_000, 128_000])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1, help="of each run; the quickest counts")
    parser.add_argument("--limit", type=int, default=1800, help="seconds of a run")
    parser.add_argument("--large", type=Path, help="folder of the large text; CORPUS/large")
    parser.add_argument("--large-gb", type=float, default=5.0)
    parser.add_argument("--record", action="store_true", help="write benches/record/DATE-train.md")
    given = parser.parse_args()
    corpus = Corpus(given.corpus.absolute())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    load = f"load average {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores at the start"
    work = {"exact": part_exact, "speed": part_speed, "superwords": part_superwords,
            "large": part_large, "quality": part_quality}  # fmt: skip
    body: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        runner = Runner(given, Path(name))
        for part in given.part:
            for line in itertools.chain(
                (f"## {part}", ""), work[part](runner, corpus, given), ("",)
            ):
                print(line, flush=True)
                body.append(line)
    told = ", ".join(f"{one} {version}" for one, version in runner.versions.items()) or "Nobody"
    lines = [f"# {today}: training", "", f"{told}; Python {platform.python_version()};"
             f" {platform.machine()}, {load}. `benches/python/train.py`.", "", *body]  # fmt: skip
    print(lines[2])
    if given.record:
        path = ROOT / "benches" / "record" / f"{today}-train.md"
        path.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
