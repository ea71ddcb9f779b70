"""Texts from files: every file a domain, every document whole and the same for all models."""

from __future__ import annotations

import glob
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from anyvocab import errors

__all__ = ["SUFFIXES", "Domain", "read_domains"]

SUFFIXES = (".txt", ".md", ".py", ".jsonl")
FILE_LIMIT = 1 << 28  # bytes of a file's text, unpacked
DOMAINS_LIMIT = 200
_READ = 1 << 20


@dataclass(frozen=True)
class Domain:
    """Texts of one kind.

    Attributes:
        name: What results call it.
        documents: Its texts; each is scored on its own.
        left_out: Bytes of the files that a limit left out; the same for every model.
    """

    name: str
    documents: tuple[bytes, ...]
    left_out: int = 0

    @property
    def bytes(self) -> int:
        """The length of all documents, in bytes."""
        return sum(map(len, self.documents))


def read_domains(
    places: Iterable[str | os.PathLike[str]], *, field: str = "text", limit: int | None = None
) -> list[Domain]:
    """Return the domains of `places`, in their order.

    A file is a domain named after it: one document, its bytes as they are, or for `.jsonl` one
    document a line. `NAME=PLACE` makes one domain of all files of a place, a document each.

    Args:
        places: Files, folders (their `.txt`, `.md`, `.py` and `.jsonl` files at any depth, sorted)
            and glob patterns; each also packed by gzip; each also as `NAME=PLACE`.
        field: The member of a `.jsonl` line that holds its text; a line may be a text itself.
        limit: How many bytes of a domain are kept: whole documents, and the start of the next up
            to the end of a line. Nothing is left out when this is.

    Raises:
        SourceNotFound: A place does not exist, or nothing in it is a text.
        InvalidValue: A file is no UTF-8 text, a line has no text, a domain is empty, or `limit` is
            not positive.
        LimitExceeded: A file is over `FILE_LIMIT` bytes, or there are over `DOMAINS_LIMIT` domains.
    """
    if limit is not None and limit < 1:
        raise errors.build(errors.InvalidValue, f"must be at least 1, got {limit}", field="limit")
    found: list[tuple[str, list[Path]]] = []
    for place in places:
        name, files = _files(os.fsdecode(place))
        # Of a folder's files the empty ones (`__init__.py`) are no domains; one that is named is.
        files = [one for one in files if one.stat().st_size] or files[:1]
        found += [(name, files)] if name else [(_name(file), [file]) for file in files]
    if len(found) > DOMAINS_LIMIT:
        raise errors.build(
            errors.LimitExceeded,
            f"{len(found)} domains, over {DOMAINS_LIMIT}",
            field="text",
            fix="make one domain of a folder: NAME=FOLDER",
        )
    domains = []
    taken: set[str] = set()
    for name, files in found:
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name} ({number})", number + 1
        taken.add(unique)
        documents = [one for file in files for one in _documents(file, field) if one]
        if not documents:
            raise errors.build(
                errors.InvalidValue,
                "there is no text in it",
                field="text",
                file=str(files[0]) if len(files) == 1 else name,
                fix="give a file with text, or leave this one out",
            )
        domains.append(_limited(unique, documents, limit))
    if not domains:
        raise errors.build(
            errors.InvalidValue, "there is no text", field="text", fix="give a file or a folder"
        )
    return domains


def _limited(name: str, documents: list[bytes], limit: int | None) -> Domain:
    kept: list[bytes] = []
    room = sum(map(len, documents)) if limit is None else limit
    for document in documents:
        if len(document) <= room:
            kept.append(document)
            room -= len(document)
            continue
        end = document.rfind(b"\n", 0, room) + 1
        if not end and not kept:  # one long line: a character is kept whole
            end = min(room, len(document))
            while end > 1 and end < len(document) and document[end] & 0xC0 == 0x80:
                end -= 1
        if end:
            kept.append(document[:end])
        break
    total = sum(map(len, documents))
    return Domain(name, tuple(kept), total - sum(map(len, kept)))


def _name(file: Path) -> str:
    """Return a file's name without what says how it is stored."""
    name = file.name.removesuffix(".gz")
    for suffix in (".txt", ".jsonl"):
        name = name.removesuffix(suffix)
    return name or file.name


def _files(place: str) -> tuple[str, list[Path]]:
    """Return the name that a place is given, or an empty one, and its files."""
    name, equals, rest = place.partition("=")
    if equals and name and rest and not Path(place).exists():
        return name, _files_of(rest)
    return "", _files_of(place)


def _files_of(place: str) -> list[Path]:
    path = Path(place)
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = sorted(one for one in path.rglob("*") if one.is_file())
        files = [one for one in inside if one.name.removesuffix(".gz").endswith(SUFFIXES)]
        if not files:
            raise errors.build(
                errors.SourceNotFound,
                f"the folder holds no {', '.join(SUFFIXES)} file",
                field="text",
                file=place,
                fix="name its files: a text may have any suffix",
            )
        return files
    if glob.has_magic(place):
        # Path.glob takes no absolute pattern.
        files = sorted(map(Path, glob.glob(place, recursive=True)))  # noqa: PTH207
        files = [one for one in files if one.is_file()]
        if files:
            return files
    raise errors.build(
        errors.SourceNotFound,
        "no file matches" if glob.has_magic(place) else "no such file or folder",
        field="text",
        file=place,
        fix="give a file, a folder, a pattern such as 'docs/*.md', or NAME=FOLDER",
    )


def _documents(file: Path, field: str) -> Iterator[bytes]:
    data = _read(file)
    if not file.name.removesuffix(".gz").endswith(".jsonl"):
        yield data
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield _text_of(line, field, f"line {number}", file)


def _text_of(line: bytes, field: str, where: str, file: Path) -> bytes:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise errors.build(
            errors.InvalidValue,
            f"no valid JSON ({error})",
            field=where,
            file=str(file),
            fix="put one JSON text or object on each line",
        ) from error
    text = value.get(field) if isinstance(value, dict) else value
    if not isinstance(text, str):
        members = ", ".join(map(str, value))[:120] if isinstance(value, dict) else ""
        raise errors.build(
            errors.InvalidValue,
            f"has no text called {field!r}" + (f"; it has {members}" if members else ""),
            field=where,
            file=str(file),
            fix="say which member is the text with --field",
        )
    return text.encode("utf-8", "surrogatepass")


def _read(file: Path) -> bytes:
    """Return a file's text, unpacked; refuse what is no text."""
    parts: list[bytes] = []
    size = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            while part := stream.read(_READ):
                parts.append(part)
                size += len(part)
                if size > FILE_LIMIT:
                    raise errors.build(
                        errors.LimitExceeded,
                        f"over the limit of {FILE_LIMIT} bytes",
                        field="file size",
                        file=str(file),
                        fix="give a sample of the text",
                    )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise errors.build(
            errors.InvalidValue,
            f"no valid gzip ({error})",
            field="text",
            file=str(file),
            fix="pack the file again",
        ) from error
    data = b"".join(parts)
    nul = data.find(b"\0")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.build(
            errors.InvalidValue,
            f"no valid UTF-8 at byte {error.start}" if nul < 0 else "a binary file, no text",
            field="text",
            file=str(file),
            fix="convert the text to UTF-8" if nul < 0 else "give a text file",
        ) from error
    if nul >= 0:
        raise errors.build(
            errors.InvalidValue,
            f"a binary file, no text: byte {nul} is NUL",
            field="text",
            file=str(file),
            fix="give a text file",
        )
    return data
