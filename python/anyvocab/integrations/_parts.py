"""What every engine does with a part of a corpus: count it into a shard; and the shards into one.

Counts are sums, and shards are sorted and hold each pretoken once; so however an engine cuts a
corpus into parts, and in whatever order it counts them, the merged shard is the one that
:func:`anyvocab.count` writes of the whole.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from anyvocab import errors
from anyvocab.training import _readers
from anyvocab.training.corpus import Input, Source, sources_of
from anyvocab.training.counting import (
    BATCH_BYTES,
    BATCH_DOCUMENTS,
    CountReport,
    Meter,
    Plan,
    check_sources,
    count_source,
    refuse_existing,
)
from anyvocab.training.counts import CountHeader, SourceTotals
from anyvocab.training.shards import (
    ShardWriter,
    count_rows,
    merge_shards,
    read_header,
    require_pyarrow,
    storage_errors,
    write_batches,
)

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "FAN_IN",
    "SOURCE",
    "CountOptions",
    "Part",
    "checked_plan",
    "count_table",
    "finish",
    "merge_many",
    "output",
    "scratch",
    "scratch_beside",
    "shard_bytes",
    "source_name",
]

SOURCE: Final = "corpus"  # the name of a corpus that has none, as in `anyvocab.count`
FAN_IN: Final = 64  # shards that are open together while they are merged


class CountOptions(TypedDict, total=False):
    """How every part is counted: the options of :class:`~anyvocab.training.counting.Plan`.

    `threads` is 1 where it is left out, and `memory_bytes` 1 GiB: both are for one task of the
    engine, which runs as many of them as its processors allow.
    """

    pattern: str
    normalizer: str | None
    documents: Literal["file", "line"]
    invalid: Literal["bytes", "skip", "error"]
    seed: int
    threads: int | None
    memory_bytes: int
    spill_folder: str | os.PathLike[str] | None
    document_bytes: int | None


def checked_plan(options: CountOptions, weights: Mapping[str, float] | None) -> Plan:
    """Return the plan of `options`, once a counter could be made of it.

    So a pattern that cannot be read is refused here, before a cluster starts to work.

    Raises:
        InvalidValue: An option or a weight is out of range.
        TokenizerFormatError: The pattern cannot be read.
        MissingExtra: pyarrow is not installed.
    """
    require_pyarrow()
    given: Any = options
    plan = Plan(**{"threads": 1, **given})
    if weights:
        sources_of({name: [b""] for name in weights}, weights=weights)
    here = replace(plan, spill_folder=None)  # that folder is one of the machines that count
    with scratch(here) as folder:
        here.counter(folder)
    return plan


@contextmanager
def scratch(plan: Plan) -> Iterator[Path]:
    """Make a folder for as long as a part is counted: where the plan spills, or the system's."""
    place = Path(plan.spill_folder or tempfile.gettempdir())
    with storage_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix="anyvocab-", dir=place)
    with folder as name:
        yield Path(name)


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Make a folder beside `out`, on its disk, for as long as shards are merged into it."""
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)
    with folder as name:
        yield Path(name)


class Part:
    """Counts documents of any sources, in any order, in the memory that the plan allows.

    Args:
        plan: How documents are counted.
        weights: How often each document of a source counts, by the source's name.
        folder: Where counts are spilt, unless the plan says.
        name: What errors call the part.
    """

    def __init__(
        self, plan: Plan, weights: Mapping[str, float] | None, folder: Path, name: str
    ) -> None:
        self._plan = plan
        self._weights = dict(weights or {})
        self._name = name
        self._counter = plan.counter(folder)
        self._totals: dict[str, SourceTotals] = {}
        self._pending: dict[str, list[Input]] = {}
        self._bytes = self._inputs = self._number = 0

    def add(self, text: str | bytes, source: str = SOURCE, name: str = "") -> None:
        """Count a document; errors call it `name`, or by its number in the part.

        Raises:
            InvalidValue: It is not UTF-8, and the plan refuses that.
            LimitExceeded: It has to be held whole and is too long for that.
            StorageError: Counts cannot be spilt.
        """
        # A lone surrogate becomes bytes that are not UTF-8, which `invalid` decides about.
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        one = Input(name or f"{self._name}, document {self._number}", partial(iter, (data,)))
        self._pending.setdefault(source, []).append(one)
        self._number += 1
        self._inputs += 1
        self._bytes += len(data)
        if self._bytes >= BATCH_BYTES or self._inputs >= BATCH_DOCUMENTS:
            self._flush()

    def _flush(self) -> None:
        for name in sorted(self._pending):
            source = Source(name, tuple(self._pending[name]), self._weights.get(name, 1.0))
            more = count_source(self._counter, source, self._plan, None, Meter(None, ()))
            known = self._totals.get(name, SourceTotals(0, 0, source.weight))
            self._totals[name] = SourceTotals(
                known.documents + more.documents,
                known.bytes + more.bytes,
                source.weight,
                known.seen_documents + more.seen_documents,
                known.seen_bytes + more.seen_bytes,
            )
        self._pending = {}
        self._bytes = self._inputs = 0

    def write(self, path: Path) -> CountHeader:
        """Write all that was counted as a shard, whole or not at all; it may be empty."""
        self._flush()
        header = self._plan.header(self._counter.totals()[2], self._totals)
        with ShardWriter(path, header) as writer:
            write_batches(writer, self._counter.finish())
        return header


def count_table(part: Part, table: pyarrow.Table, column: str, source: str | None) -> None:
    """Count the documents of an Arrow table; rows without text are passed over.

    Args:
        part: Where they are counted.
        table: The table.
        column: Of the texts, strings or bytes.
        source: The column of the sources' names; `None` for one source.

    Raises:
        InvalidValue: A column is missing or of another kind, or a row has no source.
        The errors of :meth:`Part.add`.
    """
    if source is None:
        for text in _readers.arrow(table, column):
            part.add(text)
        return
    if column in table.column_names:
        table = table.filter(table.column(column).is_valid())
    names: Iterable[object] = table.column(source).to_pylist()
    for text, name in zip(_readers.arrow(table, column), names, strict=True):
        part.add(text, source_name(name, source))


def source_name(found: object, field: str) -> str:
    """Return the name of a document's source.

    Raises:
        InvalidValue: It has none.
    """
    if isinstance(found, str) and found:
        return found
    raise errors.build(
        errors.InvalidValue,
        f"a document has no source here, but {found!r}",
        field=field,
        fix="give every document the name of its source, or leave `source` out",
    )


def shard_bytes(
    tables: Iterable[pyarrow.Table],
    *,
    plan: Plan,
    weights: Mapping[str, float] | None,
    column: str,
    source: str | None,
    name: str,
) -> Iterator[bytes]:
    """Yield a shard of what `tables` hold, in blocks of at most 4 MiB.

    Raises:
        The errors of :func:`count_table`.
    """
    with scratch(plan) as folder:
        part = Part(plan, weights, folder, name)
        for table in tables:
            count_table(part, table, column, source)
        path = folder / "part.parquet"
        part.write(path)
        yield from _readers.blocks(path, 4 << 20)


def merge_many(paths: Iterable[Path], out: Path, folder: Path) -> CountHeader:
    """Write the sum of any number of shards as one, with at most :data:`FAN_IN` open at a time.

    Args:
        paths: The shards, at least one; those inside `folder` are removed when they are merged.
        out: The shard to write.
        folder: Where sums of some of them are written.

    Raises:
        The errors of :func:`anyvocab.merge_shards`.
    """
    left = list(paths)
    number = 0
    while len(left) > FAN_IN:
        some, left = left[:FAN_IN], left[FAN_IN:]
        number += 1
        sum_of_some = folder / f"sum-{number}.parquet"
        merge_shards(some, sum_of_some)
        for path in some:
            if path.parent == folder:
                path.unlink()
        left.append(sum_of_some)
    return merge_shards(left, out)


def finish(
    paths: Iterable[Path],
    out: Path,
    folder: Path,
    *,
    weights: Mapping[str, float] | None,
    started: float,
) -> CountReport:
    """Merge the shards of all parts into `out`, and return what there was.

    Args:
        paths: The shards.
        out: The shard to write.
        folder: Where sums of some of them are written.
        weights: Whose sources all have to be there.
        started: `time.perf_counter()` of the beginning.

    Raises:
        InvalidValue: There is no text, or none in some source, or there is no such source.
        The errors of :func:`anyvocab.merge_shards`.
    """
    shards = list(paths)
    header = CountHeader.merged(
        (read_header(path) for path in shards), names=[str(path) for path in shards]
    )
    unknown = sorted(set(weights or {}) - set(header.sources))
    if unknown:
        raise errors.build(
            errors.InvalidValue,
            f"no document is of source {unknown[0]!r}",
            field="weights",
            fix=f"use {', '.join(header.sources) or 'no weights'}",
        )
    if not header.sources:
        raise errors.build(
            errors.InvalidValue, "there is no text", field="corpus", fix="see what the engine reads"
        )
    check_sources(header)
    header = merge_many(shards, out, folder)
    return CountReport(out, header, count_rows(out), time.perf_counter() - started)


def output(out: str | os.PathLike[str], existing: Literal["refuse", "replace"]) -> Path:
    """Return where the result goes.

    Raises:
        OutputExists: There is something already, and `existing` refuses that.
    """
    path = Path(out)
    if existing == "refuse":
        refuse_existing(path)
    return path
