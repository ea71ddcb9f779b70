"""Counting with Ray Data: a column of a data set into a count shard.

>>> import ray  # doctest: +SKIP
>>> from anyvocab.integrations.ray import count_dataset
>>> report = count_dataset(ray.data.read_parquet("s3://..."), "counts.parquet")  # doctest: +SKIP

Every block is counted by one task into a sorted shard of its own; tasks merge them by the dozen,
and what is left comes to the driver through the object store and is merged on its disk. No shared
file system is needed, and a task that is lost is run again, as Ray does. The result is the file
that :func:`anyvocab.count` writes of the same documents, byte for byte.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from anyvocab import errors
from anyvocab.integrations import _parts
from anyvocab.training.counting import CountReport, Plan
from anyvocab.training.shards import storage_errors

try:
    import ray.data
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("ray", "pandas", "pyarrow"):
        raise
    raise errors.missing_extra("ray[data] is not installed", field="ray", extra="ray") from None

if TYPE_CHECKING:
    from typing import Unpack

    import pyarrow

__all__ = ["count_dataset"]

_SHARD: Final = "shard"  # the one column of what tasks hand on: a shard's bytes in a row


def count_dataset(
    dataset: ray.data.Dataset,
    out: str | os.PathLike[str],
    *,
    column: str = "text",
    source: str | None = None,
    weights: Mapping[str, float] | None = None,
    existing: Literal["refuse", "replace"] = "refuse",
    remote_args: Mapping[str, Any] | None = None,
    **options: Unpack[_parts.CountOptions],
) -> CountReport:
    """Count the pretokens of a column into a sorted shard, `out`, on the driver's disk.

    Args:
        dataset: The data set.
        out: The Parquet file to write.
        column: The column of the texts, strings or binary. Rows without text are passed over.
        source: The column of the names of sources; left out, all is one source, "corpus".
        weights: How often each document of a source counts, by the source's name, as in
            :func:`anyvocab.count`.
        existing: What to do when `out` exists.
        remote_args: More arguments of `Dataset.map_batches`: `memory`, `num_cpus`,
            `max_retries`...
        options: Those of :class:`~anyvocab.training.counting.Plan`, for each task; one thread where
            `threads` is left out, and a processor asked of Ray for each.

    Raises:
        InvalidValue: An option is out of range, a column is missing, a source gave nothing.
        TokenizerFormatError: The pattern cannot be read.
        OutputExists: `out` exists.
        StorageError: A shard cannot be written on the driver.
        MissingExtra: pyarrow is not installed.
        ray.exceptions.RayError: A task failed; the error of the task, such as a document that is
            not UTF-8 with `invalid="error"`, is its cause.
    """
    started = time.perf_counter()
    path = _parts.output(out, existing)
    plan = _parts.checked_plan(options, weights)
    columns = [column] if source is None else [column, source]
    there = dataset.columns() or []
    for name in columns:
        if there and name not in there:
            raise errors.build(
                errors.InvalidValue,
                f"there is no column {name!r}",
                field="column" if name == column else "source",
                fix=f"use one of {', '.join(there[:20])}",
            )
    resources = {"num_cpus": plan.threads or 1, **(remote_args or {})}
    counted = dataset.map_batches(
        _count_block,
        fn_kwargs={"plan": plan, "weights": weights, "column": column, "source": source},
        batch_format="pyarrow",
        batch_size=None,
        **resources,
    )
    # Materialized, because Ray otherwise merges in the task that counted, one shard in each.
    merged = counted.materialize().map_batches(
        _merge_block,
        fn_kwargs={"plan": plan},
        batch_format="pyarrow",
        batch_size=_parts.FAN_IN,
    )
    with _parts.scratch_beside(path) as folder:
        paths: list[Path] = []
        for row in merged.iter_rows():
            paths.append(_saved(folder / f"part-{len(paths)}.parquet", row[_SHARD]))
        if not paths:
            raise errors.build(
                errors.InvalidValue,
                "there is no text: the data set has no row",
                field="dataset",
                fix="see what it reads",
            )
        return _parts.finish(paths, path, folder, weights=weights, started=started)


def _saved(path: Path, shard: bytes) -> Path:
    with storage_errors(path):
        path.write_bytes(shard)
    return path


def _row(shard: bytes) -> pyarrow.Table:
    import pyarrow as pa

    return pa.table({_SHARD: pa.array([shard], pa.large_binary())})


def _count_block(
    block: pyarrow.Table,
    *,
    plan: Plan,
    weights: Mapping[str, float] | None,
    column: str,
    source: str | None,
) -> pyarrow.Table:
    """Count a block into a shard; runs in a task."""
    task = ray.get_runtime_context().get_task_id() or "?"
    blocks = _parts.shard_bytes(
        [block], plan=plan, weights=weights, column=column, source=source, name=f"task {task}"
    )
    return _row(b"".join(blocks))


def _merge_block(shards: pyarrow.Table, *, plan: Plan) -> pyarrow.Table:
    """Merge shards into one; runs in a task."""
    rows = shards.column(_SHARD).to_pylist()
    if len(rows) == 1:
        return shards
    with _parts.scratch(plan) as folder:
        paths = [_saved(folder / f"part-{i}.parquet", row) for i, row in enumerate(rows)]
        merged = folder / "merged.parquet"
        _parts.merge_many(paths, merged, folder)
        return _row(merged.read_bytes())
