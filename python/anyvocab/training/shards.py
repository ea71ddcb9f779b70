"""Count shards: sorted counts in Parquet, which any engine can make, and their k-way merge.

A shard has the columns `pretoken` (large_binary) and `count` (uint64), sorted by the bytes of the
pretoken, each pretoken once; the key `anyvocab.counts` of its metadata holds the header as JSON.
The bytes of a shard depend on its counts and its header alone (and on the version of pyarrow).
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anyvocab import _core, errors
from anyvocab._save import sync_folder
from anyvocab.training.counts import CountHeader, Counts

if TYPE_CHECKING:
    import pyarrow

__all__ = ["ShardWriter", "load_counts", "merge_shards", "read_header", "save_counts"]

METADATA = b"anyvocab.counts"
VERSION_METADATA = b"anyvocab.version"
# A row group ends with either: a merge holds one of every shard.
GROUP_ROWS = 1 << 16
GROUP_BYTES = 4 << 20

# data uint8[bytes], offsets int64[n + 1], counts uint64[n]; sorted by bytes
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint64]]


class Batches(Protocol):
    """Sorted counts, a batch at a time."""

    def next_batch(self, most: int, most_bytes: int) -> Arrays | None:
        """Return up to `most` counts, none further from `most_bytes` bytes on."""


def require_pyarrow() -> Any:
    """Return pyarrow.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise errors.missing_extra(
            "count shards are Parquet files, and pyarrow is not installed",
            field="out",
            extra="train",
        ) from None
    return pyarrow


def _schema(pa: Any, header: CountHeader) -> Any:
    metadata = {METADATA: header.to_json().encode(), VERSION_METADATA: _core.__version__.encode()}
    fields = [
        pa.field("pretoken", pa.large_binary(), nullable=False),
        pa.field("count", pa.uint64(), nullable=False),
    ]
    return pa.schema(fields, metadata=metadata)


class ShardWriter:
    """Writes a shard beside its place, and puts it there when all of it is on the disk.

    Left by an exception, and after a crash, the place is as it was.

    Raises:
        MissingExtra: pyarrow is not installed.
        StorageError: The disk is full, or writing fails otherwise.
    """

    def __init__(self, path: str | os.PathLike[str], header: CountHeader) -> None:
        pa = require_pyarrow()
        self._path = Path(path)
        self._schema = _schema(pa, header)
        self._temporary = self._path.with_name(
            f".{self._path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        )
        self._pending: list[Arrays] = []
        self._rows = 0
        self._bytes = 0
        self._total = 0
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("xb")
            self._writer = pa.parquet.ParquetWriter(
                self._file, self._schema, compression="zstd", use_dictionary=False
            )

    @property
    def rows(self) -> int:
        """How many pretokens have been written."""
        return self._total

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with storage_errors(self._path):
                    self._flush(everything=True)
                    self._writer.close()
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    self._file.close()
                    self._temporary.replace(self._path)
                    sync_folder(self._path.parent)
        finally:
            # Closing what was broken off may fail in turn, as on a full disk; nothing is lost.
            with suppress(OSError, ValueError):
                self._writer.close()
            self._writer.is_open = False  # else it tries once more when it is collected
            with suppress(OSError):
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def write(self, batch: Arrays) -> None:
        """Append counts; they come after those before."""
        while len(batch[2]):
            # Groups end at the same rows however the counts are handed over.
            most = self._rows_that_fit(batch[1])
            self._take(batch, most)
            batch = _rest(batch, most)
            if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
                self._flush(everything=False)

    def _rows_that_fit(self, offsets: NDArray[np.int64]) -> int:
        room = offsets[0] + GROUP_BYTES - self._bytes
        rows = int(np.searchsorted(offsets[1:], room, side="left")) + 1  # the one that fills it
        return min(rows, GROUP_ROWS - self._rows, len(offsets) - 1)

    def _take(self, batch: Arrays, rows: int) -> None:
        part = _slice(batch, 0, rows)
        self._pending.append(part)
        self._rows += rows
        self._bytes += len(part[0])

    def _flush(self, *, everything: bool) -> None:
        if not self._rows and not (everything and self._total == 0):
            return
        import pyarrow as pa

        data = np.concatenate([part[0] for part in self._pending] or [np.empty(0, np.uint8)])
        sizes = [np.diff(part[1]) for part in self._pending] or [np.empty(0, np.int64)]
        offsets = np.zeros(self._rows + 1, np.int64)
        np.cumsum(np.concatenate(sizes), out=offsets[1:])
        counts = np.concatenate([part[2] for part in self._pending] or [np.empty(0, np.uint64)])
        pretokens = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), self._rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        )
        table = pa.table([pretokens, pa.array(counts)], schema=self._schema)
        with storage_errors(self._path):
            self._writer.write_table(table, row_group_size=max(self._rows, 1))
        self._total += self._rows
        self._pending, self._rows, self._bytes = [], 0, 0


class storage_errors:  # noqa: N801 (a context manager, named as a function is)
    """Turns an OSError into a StorageError that names the file, and a full disk by its name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, OSError) or isinstance(error, errors.AnyvocabError):
            return
        is_full = error.errno == errno.ENOSPC
        raise errors.build(
            errors.StorageError,
            "the disk is full (ENOSPC)" if is_full else error.strerror or str(error),
            field="out",
            file=str(self._path),
            fix="free some space, or write elsewhere" if is_full else "",
        ) from error


def _slice(batch: Arrays, start: int, end: int) -> Arrays:
    data, offsets, counts = batch
    ends = offsets[start : end + 1]
    return data[ends[0] : ends[-1]], ends - ends[0], counts[start:end]


def _rest(batch: Arrays, start: int) -> Arrays:
    return batch[0], batch[1][start:], batch[2][start:]


def write_batches(writer: ShardWriter, batches: Batches) -> None:
    """Write all of `batches`."""
    while (batch := batches.next_batch(GROUP_ROWS, GROUP_BYTES)) is not None:
        writer.write(batch)


def save_counts(counts: Counts, path: str | os.PathLike[str]) -> None:
    """Write counts as a shard, whole or not at all.

    Raises:
        MissingExtra: pyarrow is not installed.
        StorageError: It cannot be written.
    """
    with ShardWriter(path, counts.header) as writer:
        writer.write((counts.data, counts.offsets, counts.counts))


class _Shard:
    """A shard that is read a row group at a time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        pa = require_pyarrow()
        self.name = os.fspath(path)
        if not Path(path).is_file():
            raise errors.build(
                errors.SourceNotFound, "there is no such file", field="shard", file=self.name
            )
        self._last: bytes | None = None
        try:
            self._file: pyarrow.parquet.ParquetFile = pa.parquet.ParquetFile(path)
            metadata = self._file.schema_arrow.metadata or {}
            names = self._file.schema_arrow.names
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(str(error)) from None
        if METADATA not in metadata or "pretoken" not in names or "count" not in names:
            raise errors.build(
                errors.InvalidValue,
                "is no count shard: it lacks the header or a column",
                field="shard",
                file=self.name,
                fix="give a file that `anyvocab count` wrote",
            )
        self.header = CountHeader.from_json(
            metadata[METADATA].decode("utf-8", "replace"), file=self.name
        )
        self.groups = self._file.num_row_groups
        self.rows = int(self._file.metadata.num_rows)

    def _damaged(self, found: str) -> errors.StorageError:
        return errors.build(
            errors.StorageError,
            f"cannot be read: {found.splitlines()[0] if found else 'no reason given'}",
            field="shard",
            file=self.name,
            fix="count again: the file is truncated, damaged, or no Parquet file",
        )

    def group(self, number: int) -> Arrays:
        """Return the counts of one row group, checked to come after those of the one before."""
        pa = require_pyarrow()
        try:
            table = self._file.read_row_group(number, columns=["pretoken", "count"])
            pretokens = table.column("pretoken").cast(pa.large_binary()).combine_chunks()
            counts = table.column("count").cast(pa.uint64()).combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(str(error)) from None
        if pretokens.null_count or counts.null_count:
            raise self._damaged("a row lacks its pretoken or its count")
        if isinstance(pretokens, pa.ChunkedArray):  # as older versions of pyarrow combine them
            pretokens = pa.concat_arrays(pretokens.chunks)
            counts = pa.concat_arrays(counts.chunks)
        rows = len(pretokens)
        if not rows:
            return np.empty(0, np.uint8), np.zeros(1, np.int64), np.empty(0, np.uint64)
        _, offsets_buffer, data_buffer = pretokens.buffers()
        offsets = np.frombuffer(offsets_buffer, np.int64)[pretokens.offset :][: rows + 1]
        data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.empty(0, np.uint8)
        batch = _slice((data, offsets, counts.to_numpy(zero_copy_only=False)), 0, rows)
        if self._last is not None and _pretoken(batch, 0) <= self._last:
            raise self._damaged(f"row group {number} is not sorted behind the one before")
        self._last = _pretoken(batch, rows - 1)
        return batch

    def close(self) -> None:
        self._file.close()


def _pretoken(batch: Arrays, row: int) -> bytes:
    return batch[0][batch[1][row] : batch[1][row + 1]].tobytes()


def read_header(path: str | os.PathLike[str]) -> CountHeader:
    """Return the header of a shard.

    Raises:
        SourceNotFound: There is no such file.
        InvalidValue: It is no count shard, or one of another version.
        StorageError: It is truncated or damaged.
    """
    shard = _Shard(path)
    shard.close()
    return shard.header


def count_rows(path: str | os.PathLike[str]) -> int:
    """Return how many pretokens a shard holds.

    Raises:
        The errors of :func:`read_header`.
    """
    shard = _Shard(path)
    shard.close()
    return shard.rows


def load_counts(path: str | os.PathLike[str]) -> Counts:
    """Return the counts of a shard, all in memory.

    Raises:
        SourceNotFound: There is no such file.
        InvalidValue: It is no count shard, or one of another version, or its rows are not sorted.
        StorageError: It is truncated or damaged.
    """
    shard = _Shard(path)
    try:
        parts = [part for i in range(shard.groups) if len((part := shard.group(i))[2])]
    finally:
        shard.close()
    parts = [_core.merge_counts([part]) for part in parts]  # checks that they are sorted
    data = np.concatenate([part[0] for part in parts] or [np.empty(0, np.uint8)])
    sizes = np.concatenate([np.diff(part[1]) for part in parts] or [np.empty(0, np.int64)])
    counts = np.concatenate([part[2] for part in parts] or [np.empty(0, np.uint64)])
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return Counts(data, offsets, counts, shard.header)


def merge_shards(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]
) -> CountHeader:
    """Write the sum of shards as one shard, and return its header.

    Memory is bounded by a row group of every shard. The result's bytes do not depend on the order
    of `paths`.

    Args:
        paths: The shards, each sorted; at least one.
        out: The file to write; it may be one of `paths`, and is replaced when it exists.

    Raises:
        SourceNotFound: A file does not exist.
        InvalidValue: There is no shard, one is named twice, one is no count shard, or they were
            made with different patterns, normalizers or versions; both are named.
        StorageError: A shard is truncated or damaged, or `out` cannot be written.
    """
    if not paths:
        raise errors.build(
            errors.InvalidValue, "there is no shard", field="paths", fix="give at least one"
        )
    names = [os.fspath(path) for path in paths]
    resolved = [str(Path(name).resolve()) for name in names]
    for i, name in enumerate(resolved):
        if name in resolved[:i]:
            raise errors.build(
                errors.InvalidValue,
                "is given twice and would count twice",
                field="paths",
                file=names[i],
                fix="give each shard once",
            )
    with ExitStack() as stack:
        shards = []
        for path in paths:
            shard = _Shard(path)
            stack.callback(shard.close)
            shards.append(shard)
        header = CountHeader.merged((shard.header for shard in shards), names=names)
        with ShardWriter(out, header) as writer:
            for batch in _merged(shards):
                writer.write(batch)
    return header


def _merged(shards: Sequence[_Shard]) -> Iterator[Arrays]:
    """Yield the merged counts: each time all that no row group to come can come before."""
    cursors = [_Cursor(shard) for shard in shards]
    while True:
        cursors = [cursor for cursor in cursors if cursor.fill()]
        if not cursors:
            return
        bound = min(cursor.last for cursor in cursors)
        parts = [part for cursor in cursors if len((part := cursor.up_to(bound))[2])]
        yield _core.merge_counts(parts)


class _Cursor:
    """The row group in hand of a shard."""

    def __init__(self, shard: _Shard) -> None:
        self._shard = shard
        self._next = 0
        self._batch: Arrays | None = None
        self.last = b""

    def fill(self) -> bool:
        """Have a row group in hand; false behind the last."""
        while self._batch is None or not len(self._batch[2]):
            if self._next == self._shard.groups:
                return False
            self._batch = self._shard.group(self._next)
            self._next += 1
            if len(self._batch[2]):
                self.last = _pretoken(self._batch, len(self._batch[2]) - 1)
        return True

    def up_to(self, bound: bytes) -> Arrays:
        """Take the counts of pretokens up to `bound`."""
        batch = self._batch
        if batch is None:
            raise RuntimeError("fill() comes first")
        low, high = 0, len(batch[2])
        while low < high:
            middle = (low + high) // 2
            if _pretoken(batch, middle) <= bound:
                low = middle + 1
            else:
                high = middle
        self._batch = _rest(batch, low)
        return _slice(batch, 0, low)


def gather(batches: Batches, header: CountHeader) -> Counts:
    """Return all of `batches` in memory."""
    batch = batches.next_batch((1 << 63) - 1, (1 << 63) - 1)
    if batch is None:
        batch = (np.empty(0, np.uint8), np.zeros(1, np.int64), np.empty(0, np.uint64))
    return Counts(*batch, header)
