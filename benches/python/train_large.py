"""A count of more text than memory: the part `large` of `train.py`.

The text is the corpus again and again, each time with the ASCII letters of every document exchanged
by another permutation (the first time by none): lengths and frequencies stay those of real text,
and each pass brings about as many new pretokens as the first, so that the map of counts outgrows
any budget. It is written when the part runs and deleted after it.
"""

from __future__ import annotations

import os
import random
import shutil
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

BUDGET = "1GB"  # as `anyvocab count --memory` reads it
FILE = 32_000_000  # bytes, about
LETTERS = string.ascii_lowercase


def exchange(turn: int) -> bytes:
    """Return the table of a pass for `bytes.translate`; capitals follow their small letters."""
    letters = list(LETTERS)
    if turn:
        random.Random(turn).shuffle(letters)
    new = "".join(letters)
    return bytes.maketrans((LETTERS + LETTERS.upper()).encode(), (new + new.upper()).encode())


def texts(documents: list[Path]) -> Iterator[bytes]:
    """Yield documents without end, in another order in every pass."""
    for turn in range(1_000_000):
        table = exchange(turn)
        order = list(documents)
        random.Random(turn).shuffle(order)
        for path in order:
            yield path.read_bytes().translate(table) + b"\n"


def write(documents: list[Path], folder: Path, size: int) -> int:
    """Write `size` bytes or a little more as files of FILE bytes; return how many."""
    written, stream = 0, texts(documents)
    for number in range(1_000_000):
        if written >= size:
            break
        with (folder / f"{number:05}.txt").open("wb") as file:
            here = 0
            while here < min(FILE, size - written):
                here += file.write(next(stream))
            written += here
    return written


def count(documents: list[Path], folder: Path, gigabytes: float, threads: int) -> dict[str, str]:
    """Count `gigabytes` under BUDGET with the command; return what it took.

    The run ends here if the command fails or if what it counted is not, byte for byte, as long as
    what was written.
    """
    size = int(gigabytes * 1e9)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder.parent).free < 3 * size:
        sys.exit(
            f"{folder.parent} has not the {3 * size / 1e9:.0f} GB free that the part large needs"
        )
    folder.mkdir()  # never somebody else's: it is deleted below
    try:
        written = write(documents, folder, size)
        shard = folder / "counts.parquet"
        command = [sys.executable, "-m", "anyvocab", "count", str(folder), "--out", str(shard)]
        command += ["--pattern", "llama3", "--memory", BUDGET, "--threads", str(threads)]
        began = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            child = subprocess.Popen(command, stdout=said, stderr=said)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            wall = time.perf_counter() - began
            said.seek(0)
            if child.returncode:
                sys.exit(f"the count failed: {said.read()[-1000:].decode(errors='replace')}")
        cpu = usage.ru_utime + usage.ru_stime
        unique, pretokens, covered = totals(shard)
        if covered != written:
            sys.exit(f"{covered} bytes were counted of {written}: no numbers")
        return {
            "text": f"{written / 1e9:.2f} GB",
            "budget": BUDGET,
            "threads": str(threads),
            "wall s": f"{wall:.1f}",
            "CPU s": f"{cpu:.1f}",
            "MB/s": f"{written / 1e6 / wall:.1f}",
            "peak MiB": f"{usage.ru_maxrss / 1024:.0f}",
            "pretokens": f"{pretokens:,}",
            "of these unique": f"{unique:,}",
            "shard": f"{shard.stat().st_size / 1e6:.0f} MB",
        }
    finally:
        shutil.rmtree(folder)


def totals(shard: Path) -> tuple[int, int, int]:
    """Return the rows of a shard, the sum of its counts and the bytes that they cover."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    unique = pretokens = covered = 0
    for batch in pq.ParquetFile(shard).iter_batches(columns=["pretoken", "count"]):
        counts = batch.column("count")
        lengths = pc.binary_length(batch.column("pretoken")).cast("uint64")
        unique += batch.num_rows
        pretokens += pc.sum(counts).as_py()
        covered += pc.sum(pc.multiply(lengths, counts)).as_py()
    return unique, pretokens, covered
