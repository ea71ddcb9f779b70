"""Counting with Spark: a column of a data frame into a count shard.

>>> from anyvocab.integrations.spark import count_dataframe  # doctest: +SKIP
>>> report = count_dataframe(spark.read.parquet("s3://..."), "counts.parquet")  # doctest: +SKIP

Every partition is counted by one task into a sorted shard of its own, in bounded memory; the shards
come to the driver a block at a time and are merged on its disk. No shared file system is needed.
The result is the file that :func:`anyvocab.count` writes of the same documents, byte for byte.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from anyvocab import errors
from anyvocab.integrations import _parts
from anyvocab.training.counting import CountReport, Plan
from anyvocab.training.shards import storage_errors

try:
    from pyspark import StorageLevel, TaskContext
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "pyspark":
        raise
    raise errors.missing_extra("pyspark is not installed", field="pyspark", extra="spark") from None

if TYPE_CHECKING:
    from typing import Unpack

    import pyarrow
    from pyspark.sql import DataFrame

__all__ = ["count_dataframe"]

_SCHEMA: Final = "block binary, is_last boolean"


def count_dataframe(
    frame: DataFrame,
    out: str | os.PathLike[str],
    *,
    column: str = "text",
    source: str | None = None,
    weights: Mapping[str, float] | None = None,
    existing: Literal["refuse", "replace"] = "refuse",
    **options: Unpack[_parts.CountOptions],
) -> CountReport:
    """Count the pretokens of a column into a sorted shard, `out`, on the driver's disk.

    One task counts one partition, whatever its size: `frame.coalesce(n)` makes fewer, larger shards
    of many small partitions. Where documents are very long, lower Spark's
    `spark.sql.execution.arrow.maxRecordsPerBatch` (10,000): that many are held at a time.

    Args:
        frame: The data frame.
        out: The Parquet file to write.
        column: The column of the texts, strings or binary. Rows without text are passed over.
        source: The column of the names of sources; left out, all is one source, "corpus".
        weights: How often each document of a source counts, by the source's name, as in
            :func:`anyvocab.count`.
        existing: What to do when `out` exists.
        options: Those of :class:`~anyvocab.training.counting.Plan`, for each task; one thread where
            `threads` is left out. Spark does not see the memory of Python (`memory_bytes`, 1 GiB):
            `spark.executor.memoryOverhead` has to hold it for every task of an executor.

    Raises:
        InvalidValue: An option is out of range, a column is missing, a source gave nothing.
        TokenizerFormatError: The pattern cannot be read.
        OutputExists: `out` exists.
        StorageError: A shard cannot be written on the driver.
        MissingExtra: pyarrow is not installed.
        pyspark.errors.PySparkException: A task failed: the message ends with the error of the task,
            such as a document that is not UTF-8 with `invalid="error"`.
    """
    started = time.perf_counter()
    path = _parts.output(out, existing)
    plan = _parts.checked_plan(options, weights)
    columns = [column] if source is None else [column, source]
    for name in columns:
        if name not in frame.columns:
            raise errors.build(
                errors.InvalidValue,
                f"there is no column {name!r}",
                field="column" if name == column else "source",
                fix=f"use one of {', '.join(frame.columns[:20])}",
            )
    count = partial(_count_partition, plan=plan, weights=weights, column=column, source=source)
    # Names with dots or quotes are columns here, not paths into them.
    chosen = frame.select(*("`" + name.replace("`", "``") + "`" for name in columns))
    blocks = chosen.mapInArrow(count, _SCHEMA)
    # The driver reads one partition after the other; all have to be counted before, together.
    blocks = blocks.persist(StorageLevel.DISK_ONLY)
    try:
        blocks.count()
        with _parts.scratch_beside(path) as folder:
            shards = _shards(blocks, folder)
            return _parts.finish(shards, path, folder, weights=weights, started=started)
    finally:
        blocks.unpersist()


def _count_partition(
    batches: Iterable[pyarrow.RecordBatch],
    *,
    plan: Plan,
    weights: Mapping[str, float] | None,
    column: str,
    source: str | None,
) -> Iterator[pyarrow.RecordBatch]:
    """Count a partition, and yield its shard in blocks; runs on an executor."""
    import pyarrow as pa

    context = TaskContext.get()
    name = f"partition {context.partitionId()}" if context is not None else "a partition"
    tables = (pa.Table.from_batches([batch]) for batch in batches)
    blocks = _parts.shard_bytes(
        tables, plan=plan, weights=weights, column=column, source=source, name=name
    )
    block: bytes | None = next(blocks)
    while block is not None:
        following = next(blocks, None)
        yield pa.RecordBatch.from_pydict({"block": [block], "is_last": [following is None]})
        block = following


def _shards(blocks: DataFrame, folder: Path) -> list[Path]:
    """Write the shards of all partitions into `folder`: their blocks come in order."""
    paths: list[Path] = []
    rows = blocks.toLocalIterator()
    for row in rows:
        path = folder / f"part-{len(paths)}.parquet"
        with storage_errors(path), path.open("wb") as file:
            file.write(row.block)
            while not row.is_last:
                row = next(rows)
                file.write(row.block)
        paths.append(path)
    return paths
