"""Encoding against the peers, in one run: megabytes per second, loading, memory, worst cases.

What each part is for:

- ordinary: English, code and a mix of languages, whole files, one thread: what most users see. The
  texts are cut to the same size; rounds of the libraries alternate, and the best of each counts, so
  that a busy machine disturbs all alike. Every library's ids are compared before anything is timed.
- batch: the same texts by the line, two threads.
- loading: a tokenizer.json of the size of today's models.
- worst: inputs that have brought other encoders to a halt. Each runs in a process of its own with
  a time limit; what does not finish is recorded as such.
- memory: the growth of the resident set while one text is encoded, in a process of its own.

Texts come from the running Python (sources; the language reference) and, for many languages, from
the folder in ANYVOCAB_FIXTURES, as do the real tokenizers; without it the embedded models' serve.
Results go to benches/record/<date>.md, and a summary into the README between its marks.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("ANYVOCAB_FIXTURES", ROOT.parent / "shared" / "fixtures"))
FAMILIES = ("llama2", "gpt2", "qwen2", "llama3")  # 32k to 152k ids
BEGIN, END = "<!-- numbers: begin.", "<!-- numbers: end -->"
WORST = {
    "a x 1,000,000": "a" * 1_000_000,
    "space x 1,000,000": " " * 1_000_000,
    "newline x 1,000,000": "\n" * 1_000_000,
    "digits, 1,000,000": "0123456789" * 100_000,
    "CJK without a space, 300,000": "中文字符测试" * 50_000,
    "combining marks, 500,000": "e" + "\u0301" * 500_000,
    "emoji with joiners, 300,000": "👩‍👩‍👧‍👦" * 43_000,
    "random letters, 1,000,000": "",  # made in `worst_text`
}
TIME_LIMIT = 30  # seconds, for each library and worst case

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Library:
    """A tokenizer in one library: load from a file, encode one text, encode many."""

    name: str
    encode: Callable[[str], object]
    batch: Callable[[list[str], int], object]
    ids: Encode


def anyvocab_library(path: Path) -> Library:
    import anyvocab as av

    tok = av.Tokenizer.load(path)
    return Library(
        "anyvocab",
        tok.encode,
        lambda texts, threads: tok.encode_batch(texts, threads=threads),
        lambda text: tok.encode(text).tolist(),
    )


def tokenizers_library(path: Path) -> Library:
    from tokenizers import Tokenizer

    tok = Tokenizer.from_file(str(path))
    return Library(
        "tokenizers",
        lambda text: tok.encode(text, add_special_tokens=False),
        lambda texts, _: tok.encode_batch_fast(texts, add_special_tokens=False),
        lambda text: tok.encode(text, add_special_tokens=False).ids,
    )


def tiktoken_library(path: Path) -> Library:
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    # A tokenizer.json of byte-level BPE as ranks: the order of its merges.
    if path.suffix == ".tiktoken":
        ranks = load_tiktoken_bpe(str(path))
    else:
        document = json.loads(path.read_bytes())
        model = document["model"]
        printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
        others = [b for b in range(256) if b not in printable]
        byte = {chr(b) if b in printable else chr(0x100 + others.index(b)): b for b in range(256)}
        ranks = {bytes(byte[c] for c in token): id for token, id in model["vocab"].items()}
    pattern = PATTERNS[path.parent.name]
    tok = tiktoken.Encoding(path.stem, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return Library(
        "tiktoken",
        tok.encode_ordinary,
        lambda texts, threads: tok.encode_ordinary_batch(texts, num_threads=threads),
        tok.encode_ordinary,
    )


def fastokens_library(path: Path) -> Library:
    from fastokens import Tokenizer

    tok = Tokenizer.from_file(str(path))
    return Library(
        "fastokens",
        lambda text: tok.encode_ordinary(text),
        lambda texts, _: tok.encode_batch_flat(texts, add_special_tokens=False),
        lambda text: tok.encode_ordinary(text).ids,
    )


def gigatoken_library(path: Path) -> Library:
    from gigatoken import Tokenizer

    tok = Tokenizer(str(path))
    return Library(
        "gigatoken",
        tok.encode,
        lambda texts, _: tok.encode_batch(texts),
        lambda text: tok.encode(text).tolist(),
    )


PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
LIBRARIES = {
    "anyvocab": anyvocab_library,
    "tokenizers": tokenizers_library,
    "tiktoken": tiktoken_library,
    "fastokens": fastokens_library,
    "gigatoken": gigatoken_library,
}
# Measured where they are installed and take the tokenizer.
OPTIONAL = ("fastokens", "gigatoken")


def tokenizer_files() -> dict[str, Path]:
    """Return the tokenizers to measure by name."""
    found = {name: FIXTURES / "tokenizers" / name / "tokenizer.json" for name in FAMILIES}
    found = {name: path for name, path in found.items() if path.is_file()}
    if not found:
        from anyvocab import pico

        found = {name: pico.path(name) / "tokenizer.json" for name in pico.names()}
    return found


def texts(size: int) -> dict[str, str]:
    """Return the ordinary texts, each of about `size` bytes."""
    import pydoc_data.topics

    # Repeated text flatters caches: with the fixtures there is enough without repetition.
    books = sorted((FIXTURES / "text" / "books").glob("*_en.txt"))
    stories = sorted((FIXTURES / "text" / "stories").glob("*.txt"))
    english = "".join(path.read_text("utf-8") for path in (*books, *stories))
    english += "\n\n".join(pydoc_data.topics.topics.values())
    stdlib = sorted(Path(os.__file__).parent.glob("*.py"))
    code = "\n".join(path.read_text("utf-8", "replace") for path in stdlib)
    found = {"English": english, "code": code}
    declarations = sorted((FIXTURES / "text" / "udhr").glob("*.txt"))
    if declarations:
        found["60 languages"] = "\n".join(path.read_text("utf-8") for path in declarations)
    return {name: fit(text, size) for name, text in found.items()}


def fit(text: str, size: int) -> str:
    """Return `text` repeated or cut to about `size` bytes."""
    data = text.encode()
    data = data * (size // len(data) + 1)
    return data[:size].decode("utf-8", "ignore")


def worst_text(name: str) -> str:
    if WORST[name]:
        return WORST[name]
    state, letters = 1, []
    for _ in range(1_000_000):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        letters.append(chr(ord("a") + (state >> 33) % 26))
    return "".join(letters)


def libraries_for(name: str) -> list[str]:
    installed = [key for key in OPTIONAL if importlib.util.find_spec(key)]
    tiktoken = ["tiktoken"] if name in PATTERNS else []
    return ["anyvocab", "tokenizers", *tiktoken, *installed]


def load(name: str, path: Path, problems: list[str]) -> dict[str, Library]:
    """Load a tokenizer into every library that takes it; the others are named in `problems`."""
    loaded = {}
    for key in libraries_for(name):
        try:
            loaded[key] = LIBRARIES[key](path)
        except (ValueError, RuntimeError, TypeError) as error:
            problems.append(f"{key} does not take {name}: {str(error)[:80]}")
    return loaded


def first_passes(path: Path, text: str, keys: list[str]) -> dict[str, float]:
    """Return the time of the first text of a fresh tokenizer, seconds: nothing is cached."""
    times = {}
    for key in keys:
        library = LIBRARIES[key](path)
        start = time.perf_counter()
        library.encode(text)
        times[key] = time.perf_counter() - start
    return times


def best(work: Callable[[], object], rounds: int) -> Iterator[float]:
    """Yield the shortest time so far, seconds, after each of `rounds`."""
    shortest = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - start)
        yield shortest


def alternate(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the best time of each work; rounds of all alternate."""
    timers = {name: best(work, rounds) for name, work in works.items()}
    result: dict[str, float] = {}
    for _ in range(rounds):
        result = {name: next(timer) for name, timer in timers.items()}
    return result


def rates_row(label: list[str], times: dict[str, float], size: int) -> list[str]:
    """Return a row: MB/s of each library and how many times faster anyvocab is than the rivals."""
    rates = {name: size / seconds / 1e6 for name, seconds in times.items()}
    ours = rates["anyvocab"]
    cells = [f"{rates[name]:.1f}" if name in rates else "-" for name in LIBRARIES]
    ratios = [
        f"{ours / rates[name]:.1f}x" if name in rates else "-" for name in list(LIBRARIES)[1:]
    ]
    return [*label, *cells, *ratios]


def ordinary(size: int, rounds: int, problems: list[str]) -> tuple[list[list[str]], ...]:
    """Measure whole texts on one thread, first and best, and their lines on two."""
    single, first, batch = [], [], []
    for name, path in tokenizer_files().items():
        every = load(name, path, problems)
        for title, text in texts(size).items():
            expected = every["tokenizers"].ids(text)
            loaded = {}
            for key, library in every.items():
                if library.ids(text) == expected:
                    loaded[key] = library
                elif key == "anyvocab":
                    sys.exit(f"anyvocab and tokenizers differ on {title} with {name}: no numbers")
                else:
                    problems.append(f"{key} gives other ids than tokenizers: {name}, {title}")
            nbytes = len(text.encode())
            works = {key: partial(library.encode, text) for key, library in loaded.items()}
            single.append(rates_row([name, title], alternate(works, rounds), nbytes))
            cold = first_passes(path, text, list(loaded))
            first.append(rates_row([name, title], cold, nbytes))
            lines = text.splitlines(keepends=True)
            works = {key: partial(library.batch, lines, 2) for key, library in loaded.items()}
            batch.append(rates_row([name, title], alternate(works, rounds), nbytes))
    return single, first, batch


def child(task: dict[str, str]) -> dict[str, float]:
    """Do one task in this process: load, encode, and say what it took."""
    LIBRARIES[task["library"]](Path(task["path"]))  # imports, and pages of the file
    start = time.perf_counter()
    library = LIBRARIES[task["library"]](Path(task["path"]))
    loaded = time.perf_counter()
    text = worst_text(task["text"]) if task["text"] in WORST else texts(8 << 20)[task["text"]]
    library.encode("warm up")
    before = _peak_memory(reset=True)
    begin = time.perf_counter()
    library.encode(text)
    return {
        "load": loaded - start,
        "encode": time.perf_counter() - begin,
        "memory": (_peak_memory(reset=False) - before) / 1024,
        "bytes": len(text.encode()),
    }


def _peak_memory(*, reset: bool) -> float:
    """Return the peak of the resident set, KiB; on Linux the peak can start anew."""
    if reset and sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return float(status.split("VmHWM:")[1].split()[0])
    import resource

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def in_child(library: str, path: Path, text: str) -> dict[str, float] | str:
    """Do a task in a process of its own; a word when it fails or takes too long."""
    task = json.dumps({"library": library, "path": str(path), "text": text})
    command = [sys.executable, __file__, "--child", task]
    environment = os.environ | {"RAYON_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT, env=environment, check=True
        )
    except subprocess.TimeoutExpired:
        return f"over {TIME_LIMIT} s"
    except subprocess.CalledProcessError:
        return "fails"
    result: dict[str, float] = json.loads(done.stdout)
    return result


def worst() -> list[list[str]]:
    """Measure the worst cases, one process each."""
    files = tokenizer_files()
    name = "llama3" if "llama3" in files else next(iter(files))
    rows = []
    for title in WORST:
        cells = []
        for library in LIBRARIES:
            if library not in libraries_for(name):
                cells.append("-")
                continue
            result = in_child(library, files[name], title)
            cells.append(result if isinstance(result, str) else f"{result['encode']:.3f} s")
        rows.append([name, title, *cells])
    return rows


def loading_and_memory(rounds: int) -> list[list[str]]:
    """Measure loading, and the memory of encoding 8 MiB of English."""
    rows = []
    for name, path in tokenizer_files().items():
        for library in libraries_for(name)[:2]:
            runs = [in_child(library, path, "English") for _ in range(rounds)]
            finished = [run for run in runs if not isinstance(run, str)]
            load = min(run["load"] for run in finished)
            memory = min(run["memory"] for run in finished)
            rows.append([name, library, f"{load * 1000:.0f} ms", f"{memory:.0f} MiB"])
    return rows


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _version(name: str) -> str:
    if name == "anyvocab":
        import anyvocab as av

        return av.__version__
    return importlib.metadata.version(name)


def machine() -> str:
    installed = [name for name in LIBRARIES if importlib.util.find_spec(name)]
    versions = ", ".join(f"{name} {_version(name)}" for name in installed)
    return (
        f"{versions}; Python {platform.python_version()}; {platform.machine()}, "
        f"{os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}"
    )


def write_readme(summary: str) -> None:
    path = ROOT / "README.md"
    text = path.read_text("utf-8")
    start = text.index("\n", text.index(BEGIN)) + 1
    path.write_text(text[:start] + summary + text[text.index(END) :], "utf-8")


def main() -> int:
    """Measure, write the record, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4 << 20, help="bytes of each ordinary text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readme", action="store_true", help="write the summary into the README")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--loading", action="store_true", help="print only the last table")
    arguments = parser.parse_args()
    if arguments.loading:
        print(table(["tokenizer", "library", "load", "memory"], loading_and_memory(3)))
        return 0
    if arguments.child:
        print(json.dumps(child(json.loads(arguments.child))))
        return 0
    os.environ.setdefault("RAYON_NUM_THREADS", "2")
    rivals = list(LIBRARIES)[1:]
    rates = [f"{name} MB/s" for name in LIBRARIES] + [f"vs {name}" for name in rivals]
    problems: list[str] = []
    single, first, batch = ordinary(arguments.size, arguments.rounds, problems)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    record = ROOT / "benches" / "record" / f"{today}.md"
    one_thread = table(["tokenizer", "text", *rates], single)
    parts = [
        f"# {today}: encoding\n\n{machine()}.",
        f"Best of {arguments.rounds} rounds; ids compared first.",
        f"## One thread, one text of {arguments.size} bytes\n\n{one_thread}",
        "## The first text of a fresh tokenizer, one thread\n\n"
        + table(["tokenizer", "text", *rates], first),
        "## Two threads, by the line\n\n" + table(["tokenizer", "text", *rates], batch),
        "## Worst cases\n\n" + table(["tokenizer", "input", *LIBRARIES], worst()),
        "## Loading, and memory for 8 MiB of English\n\n"
        + table(["tokenizer", "library", "load", "memory"], loading_and_memory(3)),
    ]
    if problems:
        parts.append("## Not measured\n\n" + "\n".join(f"- {problem}" for problem in problems))
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("\n\n".join(parts) + "\n", "utf-8")
    if arguments.readme:
        link = record.relative_to(ROOT).as_posix()
        fresh = table(["tokenizer", "text", *rates], first)
        write_readme(
            f"One thread ({machine()}; [the whole record]({link})):\n\n{one_thread}\n\n"
            f"The best of {arguments.rounds} rounds, so caches are warm; the first text of a fresh "
            f"tokenizer:\n\n{fresh}\n\n"
            "One whole text at a time flatters us against `tokenizers`, which keeps offsets; the "
            "record\nhas the same texts line by line on two threads.\n"
        )
    print(f"\n\n{record.read_text('utf-8')}\nwritten to {record}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
