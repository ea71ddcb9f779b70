"""Counting with datatrove: a step that counts what passes through it, and one that merges.

>>> from datatrove.executor import LocalPipelineExecutor  # doctest: +SKIP
>>> from datatrove.pipeline.readers import ParquetReader
>>> from anyvocab.integrations.datatrove import CountPretokens, MergeCounts
>>> count = LocalPipelineExecutor(  # doctest: +SKIP
...     [ParquetReader("corpus"), CountPretokens("shards")], tasks=16, logging_dir="logs/count")
>>> LocalPipelineExecutor(  # doctest: +SKIP
...     [MergeCounts("shards", "counts.parquet")], logging_dir="logs/merge", depends=count).run()

Every task counts its documents into one sorted shard, in bounded memory; a task that fails leaves
none, and is run again, as datatrove does. The result is the file that :func:`anyvocab.count` writes
of the same documents, byte for byte. With `SlurmPipelineExecutor` it is the same two executors.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from anyvocab import errors
from anyvocab.integrations import _parts
from anyvocab.training.shards import count_rows

try:
    from datatrove.io import get_datafolder
    from datatrove.pipeline.base import PipelineStep
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "datatrove":
        raise
    raise errors.missing_extra(
        "datatrove is not installed", field="datatrove", extra="datatrove"
    ) from None

if TYPE_CHECKING:
    from typing import Unpack

    from datatrove.data import Document, DocumentsPipeline
    from datatrove.io import DataFolder, DataFolderLike

__all__ = ["CountPretokens", "MergeCounts"]

_NAME: Final = re.compile(r"(\d{5,})-of-(\d{5,})\.parquet")


def _name(rank: int, world_size: int) -> str:
    # With the number of tasks, so that shards of another run are not taken for parts of this one.
    return f"{rank:05d}-of-{world_size:05d}.parquet"


class CountPretokens(PipelineStep):
    """Counts the pretokens of the documents that pass, into a shard for each task.

    Documents go on to the next step as they are. The shard is written behind the last document: a
    step that stops early (a limit behind this one) leaves none, which :class:`MergeCounts` reports.

    Args:
        folder: Where the shards go: a path that all tasks and the merge share, or whatever else
            datatrove takes for a folder (`s3://...`).
        source: The key of a document's metadata that names its source; left out, all is one
            source, "corpus".
        weights: How often each document of a source counts, by the source's name, as in
            :func:`anyvocab.count`.
        options: Those of :class:`~anyvocab.training.counting.Plan`, for each task. Where `threads`
            is left out, it is the processors that the executor gives to a task, or one.

    Raises:
        InvalidValue: An option is out of range. In a task: a document has no source, or is not
            UTF-8 with `invalid="error"`; it is named by its id.
        TokenizerFormatError: The pattern cannot be read.
        StorageError: In a task: a shard cannot be written.
        MissingExtra: pyarrow is not installed.
    """

    name = "anyvocab: count pretokens"
    type = "🔢 - TOKENIZER"

    def __init__(
        self,
        folder: DataFolderLike,
        *,
        source: str | None = None,
        weights: Mapping[str, float] | None = None,
        **options: Unpack[_parts.CountOptions],
    ) -> None:
        super().__init__()
        _parts.checked_plan(options, weights)
        self.folder = get_datafolder(folder)
        self.source = source
        self.weights = dict(weights or {})
        self.options = options

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Count, and pass documents on."""
        if data is None:
            raise errors.build(
                errors.InvalidValue,
                "no documents come to CountPretokens",
                field="pipeline",
                fix="put a reader before it",
            )
        plan = _parts.checked_plan({"threads": _processors(), **self.options}, self.weights)
        with _parts.scratch(plan) as scratch:
            part = _parts.Part(plan, self.weights, scratch, f"task {rank}")
            for document in data:
                with self.track_time():
                    part.add(document.text, self._source(document), document.id)
                yield document
            name = _name(rank, world_size)
            path = _path(self.folder, name) or scratch / name
            with self.track_time():
                header = part.write(path)
            self.stat_update("documents", value=header.documents, unit="task")
            self.stat_update("bytes", value=header.bytes, unit="task")
            self.stat_update("pretokens", value=header.pretokens, unit="task")
            self.stat_update("different pretokens", value=count_rows(path), unit="task")
            if path.parent == scratch:
                self.folder.put_file(str(path), name)

    def _source(self, document: Document) -> str:
        if self.source is None:
            return _parts.SOURCE
        found = document.metadata.get(self.source)
        return _parts.source_name(found, f"{document.id}: metadata[{self.source!r}]")


class MergeCounts(PipelineStep):
    """Merges the shards of all tasks of :class:`CountPretokens` into one.

    Belongs into an executor of its own, with one task, that `depends` on the one that counted. More
    tasks do nothing.

    Args:
        folder: Where the shards are.
        out: The Parquet file to write, on a disk of the machine that merges.
        weights: Those that were counted with, if any: each of their sources has to be there.
        existing: What to do when `out` exists.

    Raises:
        InvalidValue: In the task: the shard of a task is missing, there are shards of several runs,
            there is no text, or none in some source.
        OutputExists: In the task: `out` exists.
        StorageError: In the task: a shard is damaged, or `out` cannot be written.
    """

    name = "anyvocab: merge counts"
    type = "🔢 - TOKENIZER"

    def __init__(
        self,
        folder: DataFolderLike,
        out: str | os.PathLike[str],
        *,
        weights: Mapping[str, float] | None = None,
        existing: Literal["refuse", "replace"] = "refuse",
    ) -> None:
        super().__init__()
        self.folder = get_datafolder(folder)
        self.out = os.fspath(out)
        self.weights = dict(weights or {})
        self.existing = existing

    def run(
        self,
        data: DocumentsPipeline = None,
        rank: int = 0,
        world_size: int = 1,  # noqa: ARG002
    ) -> DocumentsPipeline:
        """Merge, in the first task; documents go on to the next step."""
        if data is not None:
            yield from data
        if rank != 0:
            return
        started = time.perf_counter()
        out = _parts.output(self.out, self.existing)
        names = _complete(self.folder)
        with self.track_time("merge"), _parts.scratch_beside(out) as scratch:
            paths = [_fetched(self.folder, name, scratch) for name in names]
            report = _parts.finish(paths, out, scratch, weights=self.weights, started=started)
        self.stat_update("shards", value=len(names), unit="merge")
        self.stat_update("documents", value=report.header.documents, unit="merge")
        self.stat_update("pretokens", value=report.header.pretokens, unit="merge")
        self.stat_update("different pretokens", value=report.unique, unit="merge")


def _processors() -> int:
    """Return how many processors the executor gives to a task; it says -1 where it does not."""
    said = os.environ.get("DATATROVE_CPUS_PER_TASK", "")
    return int(said) if said.isdigit() and said != "0" else 1


def _path(folder: DataFolder, name: str) -> Path | None:
    """Return the path of a file in a folder that is one of this machine's."""
    return Path(folder.resolve_paths(name)) if folder.is_local() else None


def _fetched(folder: DataFolder, name: str, scratch: Path) -> Path:
    path = _path(folder, name)
    if path is None:
        path = scratch / name
        folder.get_file(name, str(path))
    return path


def _complete(folder: DataFolder) -> list[str]:
    """Return the names of the shards of all tasks.

    Raises:
        InvalidValue: Some are missing, or there are shards of several runs.
    """
    found = {name: match for name in _listed(folder) if (match := _NAME.fullmatch(name))}
    sizes = sorted({int(match[2]) for match in found.values()})
    place = str(folder.path)
    if not sizes:
        raise errors.build(
            errors.InvalidValue,
            "there are no shards",
            field="folder",
            file=place,
            fix="run CountPretokens on it before",
        )
    if len(sizes) > 1:
        raise errors.build(
            errors.InvalidValue,
            f"there are shards of runs with {' and '.join(map(str, sizes))} tasks",
            field="folder",
            file=place,
            fix="remove those of the older run, or count into another folder",
        )
    names = [_name(rank, sizes[0]) for rank in range(sizes[0])]
    missing = [rank for rank, name in enumerate(names) if name not in found]
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise errors.build(
            errors.InvalidValue,
            f"{len(missing)} of {sizes[0]} tasks left no shard: {shown}",
            field="folder",
            file=place,
            fix="run the executor that counts again: it goes on with what is not done",
        )
    return names


def _listed(folder: DataFolder) -> Sequence[str]:
    try:
        listed: Any = folder.list_files(recursive=False)
    except FileNotFoundError:
        return []
    return [str(name) for name in listed]
