"""Counting in parts that outlive an interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyvocab import _core, errors
from anyvocab.training.corpus import Source
from anyvocab.training.counts import FORMAT_VERSION, CountHeader
from anyvocab.training.shards import (
    ShardWriter,
    count_rows,
    merge_shards,
    read_header,
    storage_errors,
    write_batches,
)

if TYPE_CHECKING:
    from anyvocab.training.counting import Plan, Progress
    from anyvocab.training.sampling import Cutoff

__all__ = ["PARTS", "count_by_parts"]

PARTS = ".parts"
PART_BYTES = 256 << 20  # of files in one part, or one file


def count_by_parts(
    sources: Sequence[Source],
    plan: Plan,
    out: Path,
    field: str,
    progress: Progress | None,
) -> tuple[CountHeader, int, int]:
    """Count every part into a shard of its own in `OUT.parts`, then merge them into `out`.

    A part is known by a digest of all that decides about its counts, with the size and the time of
    change of each of its files. The folder is removed at the end.

    Returns:
        The header, the number of different pretokens, and how many parts had been counted before.

    Raises:
        InvalidValue: A source is no file, so that it cannot be told what was counted of it.
    """
    from anyvocab.training import counting

    for source in sources:
        if not source.can_be_read_again:
            raise errors.build(
                errors.InvalidValue,
                f"source {source.name!r} holds something that is no file",
                field="resume",
                fix="count it without resume, or write it to files first",
            )
    folder = out.with_name(out.name + PARTS)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.tmp"):  # of a run that was killed
            left.unlink(missing_ok=True)
    meter = counting.Meter(progress, sources)
    shards: list[Path] = []
    reused = 0
    for source in sources:
        cutoff = counting.cutoff_of(source, plan)
        # Copies of the last document of a limit are counted down over the whole source.
        parts = [source] if cutoff is not None else _parts(source)
        for part in parts:
            # The number keeps apart parts of the same files, which count twice.
            path = folder / f"{_digest(part, plan, field, cutoff)}-{len(shards)}.parquet"
            shards.append(path)
            if _is_whole(path):
                reused += 1
                meter.add(sum(one.size for one in part.inputs))
                continue
            counter = plan.counter(folder)
            totals = counting.count_source(counter, part, plan, cutoff, meter)
            header = plan.header(counter.totals()[2], {source.name: totals})
            with ShardWriter(path, header) as writer:
                write_batches(writer, counter.finish())
    counting.check_sources(CountHeader.merged(read_header(path) for path in shards))
    header = merge_shards(shards, out)
    shutil.rmtree(folder, ignore_errors=True)
    return header, count_rows(out), reused


def _parts(source: Source) -> Iterator[Source]:
    """Yield the inputs of a source in runs of about `PART_BYTES`."""
    start = size = 0
    for end, one in enumerate(source.inputs, 1):
        size += one.size
        if size >= PART_BYTES or end == len(source.inputs):
            yield replace(source, inputs=source.inputs[start:end])
            start, size = end, 0


def _digest(part: Source, plan: Plan, field: str, cutoff: Cutoff | None) -> str:
    value: dict[str, Any] = {
        "version": [_core.__version__, FORMAT_VERSION],
        "plan": [plan.pattern, plan.normalizer, plan.documents, plan.invalid, plan.seed],
        "document_bytes": plan.document_bytes,
        "field": field,
        "source": [part.name, part.weight, part.limit_bytes],
        "cutoff": None if cutoff is None else [cutoff.hash, cutoff.size, cutoff.equal],
        "files": [one.stamp for one in part.inputs],
    }
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether a part was counted: shards are renamed when they are whole, so that one is."""
    if not path.exists():
        return False
    try:
        read_header(path)
    except (errors.StorageError, errors.InvalidValue):  # the disk lost it: count it again
        return False
    return True
