"""What a corpus may be: files of many kinds, Arrow streams, data sets, iterators of texts.

Everything here is read lazily, once for each pass; a file may be read again, an iterator may not.
"""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyvocab import errors
from anyvocab.training import _readers

__all__ = ["Blocks", "Document", "Input", "Source", "sources_of"]

HUB = "hub:"
WHOLE = 8 << 20  # a text file up to this size is one bytes object, a longer one comes in blocks
BLOCK = 4 << 20


@dataclass(frozen=True)
class Blocks:
    """A document too long to be held: its bytes in blocks, which can be had again."""

    open: Callable[[], Iterator[bytes]]

    def __iter__(self) -> Iterator[bytes]:
        return self.open()


Document = bytes | Blocks


@dataclass(frozen=True)
class Input:
    """One file, or one object that gives documents.

    Attributes:
        name: What errors call it.
        open: Starts reading.
        size: Bytes on the disk; 0 where it is no file.
        stamp: What tells whether a file is still the same; `None` where it cannot be read again.
    """

    name: str
    open: Callable[[], Iterator[Document]]
    size: int = 0
    stamp: tuple[str, int, int] | None = None


@dataclass(frozen=True)
class Source:
    """A named part of the corpus: a language, a domain.

    Attributes:
        name: Its name in reports and headers.
        inputs: Where its documents are.
        weight: How often each document counts: 2 is twice; 0.5 is about half of the documents,
            drawn by a seeded hash of each.
        limit_bytes: At most so many bytes are counted, of documents drawn by a seeded hash; `None`
            for all.
    """

    name: str
    inputs: tuple[Input, ...]
    weight: float = 1.0
    limit_bytes: int | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether its documents are drawn one by one."""
        return self.limit_bytes is not None or self.weight != int(self.weight)

    @property
    def can_be_read_again(self) -> bool:
        """Whether all of it are files."""
        return all(one.stamp is not None for one in self.inputs)


def sources_of(
    corpus: Any,
    *,
    field: str = "text",
    weights: Mapping[str, float] | None = None,
    limit_bytes: int | Mapping[str, int] | None = None,
) -> list[Source]:
    """Return the sources of a corpus, sorted by name.

    Args:
        corpus: One of these, or a mapping from names to them, each then a source of its own:
            a path, a folder (its files at any depth, hidden ones left out) or a glob pattern, as
            `str` or path; a list or tuple of such; "hub:ORGANISATION/NAME[:CONFIG[:SPLIT]]"; an
            object with an Arrow stream (a table of pyarrow or polars); a data set; any other
            iterable of `str`, `bytes` or mappings. A list of `bytes` holds texts; a list of `str`
            holds places: give `iter(texts)` for texts.
            Files are text but for `.jsonl` (`.ndjson`) and `.parquet`; each may also be packed
            (`.gz`, `.zst`).
        field: The member, column or key that holds a record's text.
        weights: A weight for sources by name; 1 for the others.
        limit_bytes: A limit for sources by name, or one for each of them.

    Raises:
        SourceNotFound: A place does not exist.
        InvalidValue: A weight or a limit is not positive, or is for a source that does not exist;
            there is no source.
    """
    named = corpus if isinstance(corpus, Mapping) else {"corpus": corpus}
    for what, given in (("weights", weights), ("limit_bytes", limit_bytes)):
        unknown = sorted(set(given) - set(named)) if isinstance(given, Mapping) else []
        if unknown:
            raise errors.build(
                errors.InvalidValue,
                f"there is no source {unknown[0]!r}",
                field=what,
                fix=f"use one of {', '.join(sorted(map(str, named)))}",
            )
    sources = []
    for name in sorted(named):
        weight = float((weights or {}).get(name, 1.0))
        limit = limit_bytes.get(name) if isinstance(limit_bytes, Mapping) else limit_bytes
        if not 0 < weight < 1 << 32:
            raise errors.build(
                errors.InvalidValue,
                f"must be over 0 and below 2^32, got {weight:g}",
                field=f"weights[{name!r}]",
                fix="leave a source out that is not to count",
            )
        if limit is not None and limit < 1:
            raise errors.build(
                errors.InvalidValue,
                f"must be at least 1, got {limit}",
                field=f"limit_bytes[{name!r}]",
                fix="leave a source out that is not to count",
            )
        inputs = tuple(_inputs(named[name], field))
        if not inputs:
            raise errors.build(
                errors.SourceNotFound, "it holds no file", field="corpus", file=str(name)
            )
        sources.append(Source(str(name), inputs, weight, limit))
    if not sources:
        raise errors.build(
            errors.InvalidValue, "there is no source", field="corpus", fix="give at least one"
        )
    return sources


def _inputs(corpus: Any, field: str) -> Iterator[Input]:
    if isinstance(corpus, str) and corpus.startswith(HUB):
        yield Input(corpus, lambda: _readers.hub(corpus.removeprefix(HUB), field))
    elif isinstance(corpus, (str, os.PathLike)):
        for path in _files(os.fsdecode(corpus)):
            yield _file(path, field)
    elif isinstance(corpus, (list, tuple)) and not any(
        isinstance(one, (bytes, bytearray, Mapping)) for one in corpus
    ):
        for one in corpus:
            yield from _inputs(one, field)
    elif isinstance(corpus, (bytes, bytearray)):
        raise errors.build(
            errors.InvalidValue,
            "bytes are no place",
            field="corpus",
            fix="give [text] to count one text",
        )
    elif hasattr(corpus, "__arrow_c_stream__"):
        yield Input("Arrow stream", lambda: _readers.arrow(corpus, field))
    elif isinstance(corpus, Iterable):
        yield Input(type(corpus).__name__, lambda: _readers.texts(corpus, field))
    else:
        raise errors.build(
            errors.InvalidValue,
            f"{type(corpus).__name__} is nothing that holds texts",
            field="corpus",
            fix="give paths, an iterable of str or bytes, or an Arrow table",
        )


def _files(place: str) -> list[str]:
    if os.path.isdir(place):  # noqa: PTH112
        # Strings all the way: a corpus may have millions of files.
        found = []
        for folder, folders, names in os.walk(place, followlinks=False):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            found += [
                path
                for name in sorted(names)
                if not name.startswith(".") and os.path.isfile(path := os.path.join(folder, name))  # noqa: PTH113, PTH118
            ]
        return found
    if os.path.exists(place):  # noqa: PTH110
        return [place]
    found = sorted(glob.glob(place, recursive=True))  # noqa: PTH207
    if not found:
        raise errors.build(
            errors.SourceNotFound,
            "there is no such file or folder, and no file matches it as a pattern",
            field="corpus",
            file=place[:200],
            fix="to count strings themselves, give iter(texts)",
        )
    return [file for one in found for file in (_files(one) if os.path.isdir(one) else [one])]  # noqa: PTH112


def _file(path: str, field: str) -> Input:
    kind = path.removesuffix(".gz").removesuffix(".zst")
    reader: Callable[[], Iterator[Document]]
    if kind.endswith((".jsonl", ".ndjson")):
        reader = lambda: _readers.jsonl(Path(path), field)  # noqa: E731
    elif path.endswith(".parquet"):
        reader = lambda: _readers.parquet(Path(path), field)  # noqa: E731
    elif kind != path:
        reader = lambda: _text(Path(path))  # noqa: E731
    else:
        reader = lambda: _plain(path)  # noqa: E731
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise _readers.unreadable(path, error.strerror or str(error)) from error
    folder, name = os.path.split(path)
    stamp = (os.path.join(_real(folder), name), status.st_size, status.st_mtime_ns)  # noqa: PTH118
    return Input(path, reader, status.st_size, stamp)


@functools.lru_cache(maxsize=64)
def _real(folder: str) -> str:
    """Return a folder without symbolic links; the files of one folder come together."""
    return os.path.realpath(folder)


def _plain(path: str) -> Iterator[Document]:
    """Yield the one document of a text file that is not packed."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            size = os.fstat(file.fileno()).st_size
            start = file.read(size + 1) if size < WHOLE else b""
    except OSError as error:
        raise _readers.unreadable(path, error.strerror or str(error)) from error
    if size and len(start) == size:
        yield start
    else:  # long, growing, or no ordinary file: as it comes
        yield from _text(Path(path))


def _text(path: Path) -> Iterator[Document]:
    """Yield a text file's one document."""
    with _readers.reading(path), _readers.unpacked(path) as file:
        start = file.read(WHOLE)
        if len(start) < WHOLE:
            yield start
            return
        del start
    yield Blocks(lambda: _readers.blocks(path, BLOCK))
