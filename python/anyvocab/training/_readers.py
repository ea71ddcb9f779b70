"""The documents of each kind of corpus."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from anyvocab import errors

__all__ = [
    "arrow",
    "blocks",
    "hub",
    "jsonl",
    "parquet",
    "reading",
    "texts",
    "unpacked",
    "unreadable",
]

_ROWS = 1024


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into errors that name it."""
    try:
        yield
    except errors.AnyvocabError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise unreadable(path, f"cannot be unpacked: {error}") from None
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error


def unreadable(path: Path | str, found: str) -> errors.StorageError:
    """Return the error of a file that cannot be read."""
    return errors.build(
        errors.StorageError,
        found,
        field="corpus",
        file=str(path),
        fix="mend the file, or leave it out",
    )


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked by what its name says."""
    if path.name.endswith(".gz"):
        with gzip.open(path, "rb") as file:
            yield cast(IO[bytes], file)
    elif path.name.endswith(".zst"):
        with _zstd(path) as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file


@contextmanager
def _zstd(path: Path) -> Iterator[IO[bytes]]:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # from 3.14 on
    except ImportError:
        pass
    else:
        try:
            with zstd.open(path, "rb") as file:
                yield cast(IO[bytes], file)
        except zstd.ZstdError as error:
            raise unreadable(path, f"cannot be unpacked: {error}") from None
        return
    try:
        import zstandard
    except ImportError:
        raise errors.missing_extra(
            f"{path} is packed by zstd, and zstandard is not installed",
            field="corpus",
            extra="train",
            otherwise=", or unpack the file",
        ) from None
    try:
        with path.open("rb") as packed:
            yield io.BufferedReader(
                _Frames(packed, zstandard.ZstdDecompressor().decompressobj), 1 << 20
            )
    except zstandard.ZstdError as error:
        raise unreadable(path, f"cannot be unpacked: {error}") from None


class _Frames(io.RawIOBase):
    """The text of zstd frames; zstandard's own reader takes a file that is cut off for a whole one.

    Args:
        packed: The file.
        make: Makes what unpacks one frame.
    """

    def __init__(self, packed: IO[bytes], make: Callable[[], Any]) -> None:
        self._packed = packed
        self._make = make
        self._frame: Any = None
        self._ready = memoryview(b"")
        self._rest = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as there is text, and return how far."""
        while not self._ready:
            chunk = self._rest or self._packed.read(1 << 17)
            if not chunk:
                if self._frame is not None:
                    raise EOFError("it ends inside a frame")
                return 0
            if self._frame is None:
                self._frame = self._make()
            self._ready = memoryview(self._frame.decompress(chunk))
            self._rest = b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def blocks(path: Path, size: int) -> Iterator[bytes]:
    """Yield a file's bytes, unpacked, in blocks of at most `size`."""
    with reading(path), unpacked(path) as file:
        while block := file.read(size):
            yield block


def jsonl(path: Path, field: str) -> Iterator[bytes]:
    """Yield the text of every line that is not blank: a string, or an object's member `field`."""
    with reading(path), unpacked(path) as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise errors.build(
                    errors.InvalidValue,
                    f"is no JSON: {error}",
                    field=f"line {number}",
                    file=str(path),
                    fix="a .jsonl file has one JSON value a line; text files have other names",
                ) from None
            text = value.get(field) if isinstance(value, dict) else value
            if not isinstance(text, str):
                raise errors.build(
                    errors.InvalidValue,
                    f"has no text in {field!r}",
                    field=f"line {number}",
                    file=str(path),
                    fix=f"name the member that holds the text{_members(value)}",
                )
            yield _bytes(text)


def _members(value: object) -> str:
    if not isinstance(value, dict):
        return ""
    return f": one of {', '.join(map(repr, list(value)[:10]))}"


def _bytes(text: str) -> bytes:
    # A lone surrogate becomes bytes that are not UTF-8, which `invalid` decides about.
    return text.encode("utf-8", "surrogatepass")


def texts(corpus: Iterable[object], field: str) -> Iterator[bytes]:
    """Yield the texts of an iterable: of `str`, of `bytes`, or of rows that hold one in `field`."""
    for number, one in enumerate(corpus):
        text = one.get(field) if isinstance(one, Mapping) else one
        if isinstance(text, str):
            yield _bytes(text)
        elif isinstance(text, (bytes, bytearray, memoryview)):
            yield bytes(text)
        else:
            kind = type(one).__name__
            what = f"a row without text in {field!r}" if isinstance(one, Mapping) else f"a {kind}"
            raise errors.build(
                errors.InvalidValue,
                f"is {what}{_members(one)}",
                field=f"corpus[{number}]",
                fix="give str, bytes, or rows and the field that holds their text",
            )


def parquet(path: Path, field: str) -> Iterator[bytes]:
    """Yield the texts of a Parquet file's column `field`; rows without one are passed over."""
    pa = _pyarrow(f"{path} is a Parquet file")
    with reading(path):
        try:
            with pa.parquet.ParquetFile(path) as file:
                _check_column(file.schema_arrow.names, field, str(path))
                for batch in file.iter_batches(batch_size=_ROWS, columns=[field]):
                    yield from _column(pa, batch.column(0), str(path), field)
        except pa.ArrowException as error:
            raise unreadable(path, str(error).splitlines()[0]) from None


def arrow(corpus: Any, field: str) -> Iterator[bytes]:
    """Yield the texts of an Arrow stream's column `field`; rows without one are passed over."""
    pa = _pyarrow("the corpus is an Arrow stream")
    stream = pa.RecordBatchReader.from_stream(corpus)
    _check_column(stream.schema.names, field, "Arrow stream")
    for batch in stream:
        column = batch.column(batch.schema.get_field_index(field))
        for start in range(0, len(column), _ROWS):
            yield from _column(pa, column.slice(start, _ROWS), "Arrow stream", field)


def _column(pa: Any, column: Any, file: str, field: str) -> Iterator[bytes]:
    try:
        values = column.cast(pa.large_binary()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise errors.build(
            errors.InvalidValue,
            f"holds {column.type}, no text",
            field=field,
            file=file,
            fix="name a column of strings or of bytes",
        ) from None
    return (value for value in values if value is not None)


def _check_column(names: list[str], field: str, file: str) -> None:
    if field not in names:
        raise errors.build(
            errors.InvalidValue,
            f"there is no column {field!r}",
            field="field",
            file=file,
            fix=f"use one of {', '.join(names[:20])}",
        )


def _pyarrow(what: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise errors.missing_extra(
            f"{what}, and pyarrow is not installed", field="corpus", extra="train"
        ) from None
    return pyarrow


def hub(name: str, field: str) -> Iterator[bytes]:
    """Yield the texts of a data set of the hub, streamed."""
    try:
        import datasets
    except ImportError:
        raise errors.build(
            errors.MissingExtra,
            "a data set of the hub is read by the package datasets, which is not installed",
            field="corpus",
            fix="install it with `pip install datasets`, or give files",
        ) from None
    path, _, rest = name.partition(":")
    config, _, split = rest.partition(":")
    try:
        rows = datasets.load_dataset(path, config or None, split=split or "train", streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise errors.build(
            errors.SourceNotFound,
            f"cannot be loaded: {str(error).splitlines()[0] if str(error) else repr(error)}",
            field="corpus",
            file=f"hub:{name}",
            fix="check the name and the connection (HF_HUB_OFFLINE), or give files",
        ) from error
    yield from texts(rows, field)
