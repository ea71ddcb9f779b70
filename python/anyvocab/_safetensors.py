"""Headers of safetensors files and the index beside them, read without trusting a byte of them.

A header is JSON behind its length. Lengths, types, offsets and names are checked before they are
believed; the data behind a header stays unread.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

__all__ = [
    "BITS",
    "HEADER_LIMIT",
    "INDEX",
    "INDEX_LIMIT",
    "SHARDS_LIMIT",
    "SINGLE",
    "Entry",
    "Header",
    "HeaderError",
    "Index",
    "encode_header",
    "is_inside",
    "read_document",
    "read_header",
    "read_index",
    "shape_of",
]

HEADER_LIMIT: Final = 100_000_000  # bytes; the format's own limit
INDEX_LIMIT: Final = 64 << 20  # bytes
SHARDS_LIMIT: Final = 4096
DIMENSIONS_LIMIT: Final = 16
SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

# Bits of one number. Types under 8 bits are packed; a tensor still fills whole bytes.
BITS: Final[Mapping[str, int]] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "U32": 32,
    "I32": 32,
    "U64": 64,
    "I64": 64,
    "F16": 16,
    "BF16": 16,
    "F32": 32,
    "F64": 64,
    "C64": 64,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}


class HeaderError(ValueError):
    """A file is no sound safetensors file or index; the message says why."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        name: Its name.
        dtype: Its type, as the format spells it: `BF16`.
        shape: Its shape.
        start: The byte of the file at which it begins.
        stop: The byte behind its last.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return self.stop - self.start


@dataclass(frozen=True)
class Header:
    """What a sound file holds.

    Attributes:
        entries: Name to tensor, in the order of their data.
        metadata: The free text that the file carries.
        data_start: The byte of the file at which the data begins.
        size: Bytes of the file.
    """

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data_start: int
    size: int


@dataclass(frozen=True)
class Index:
    """What an index says.

    Attributes:
        files: Tensor name to the name of a file beside the index.
        outside: Names of files outside the folder; they are not in `files`.
        document: Everything the index holds.
    """

    files: Mapping[str, str]
    outside: tuple[str, ...]
    document: Mapping[str, object] = field(repr=False)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise HeaderError(f"{name[:80]!r} stands there twice")
        found[name] = value
    return found


def _parse(data: bytes, what: str) -> dict[str, object]:
    try:
        document = json.loads(data, object_pairs_hook=_object)
    except HeaderError:
        raise
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, huge numbers, deep nesting
        raise HeaderError(f"{what} is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise HeaderError(f"{what} is no JSON object")
    return document


def read_document(path: Path) -> tuple[dict[str, object], int, int]:
    """Return a file's header as it stands there, where its data begins, and the file's size.

    Raises:
        HeaderError: It is no safetensors file; the message says why.
        OSError: It cannot be read.
    """
    if not path.is_file() and path.exists():
        raise HeaderError("no regular file")  # opening a pipe would wait for ever
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise HeaderError("shorter than 8 bytes: no safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > min(HEADER_LIMIT, size - 8):
            raise HeaderError(f"a header of {length} bytes in a file of {size}")
        data = file.read(length)
    return _parse(data, "the header"), 8 + length, size


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def shape_of(name: str, value: object) -> tuple[int, ...]:
    """Return the shape in one member of a header.

    Raises:
        HeaderError: There is none.
    """
    shape = value.get("shape") if isinstance(value, dict) else None
    if (
        not isinstance(shape, list)
        or len(shape) > DIMENSIONS_LIMIT
        or not all(_is_size(one) for one in shape)
    ):
        raise HeaderError(f"tensor {name[:80]!r} has no valid shape")
    return tuple(shape)


def _entry(name: str, value: object, data_start: int, size: int) -> Entry:
    shape = shape_of(name, value)
    members: Mapping[str, object] = value if isinstance(value, dict) else {}
    dtype, offsets = members.get("dtype"), members.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise HeaderError(f"tensor {name[:80]!r} has the unknown type {str(dtype)[:40]!r}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise HeaderError(f"tensor {name[:80]!r} has no valid data_offsets")
    bits = prod(shape) * BITS[dtype]
    if bits % 8 or offsets[1] - offsets[0] != bits // 8:
        raise HeaderError(
            f"tensor {name[:80]!r}: {dtype} {list(shape)} does not fill bytes "
            f"{offsets[0]} to {offsets[1]}"
        )
    if data_start + offsets[1] > size:
        raise HeaderError(f"tensor {name[:80]!r} ends behind the end of the file: it is cut off")
    return Entry(name, dtype, shape, data_start + offsets[0], data_start + offsets[1])


def read_header(path: Path) -> Header:
    """Return what a file holds; its tensors fill it without a gap, as the format wants.

    Raises:
        HeaderError: It is no sound safetensors file; the message says why.
        OSError: It cannot be read.
    """
    document, data_start, size = read_document(path)
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise HeaderError("__metadata__ is no object of texts")
    entries = [_entry(name, value, data_start, size) for name, value in document.items()]
    entries.sort(key=lambda entry: (entry.start, entry.stop))
    position = data_start
    for entry in entries:
        if entry.start != position:
            what = "overlaps the tensor before it" if entry.start < position else "leaves a gap"
            raise HeaderError(f"tensor {entry.name[:80]!r} {what}")
        position = entry.stop
    if position != size:
        raise HeaderError(f"{size - position} bytes behind the last tensor")
    return Header({entry.name: entry for entry in entries}, metadata, data_start, size)


def encode_header(entries: list[Entry], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes in front of the data, given entries whose positions count from the data.

    They are spelled as the safetensors library spells them, and padded with spaces to 8 bytes.
    """
    document: dict[str, object] = {}
    if metadata:
        document["__metadata__"] = dict(metadata)
    for entry in entries:
        document[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.start, entry.stop],
        }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    data = text.encode("utf-8", "surrogatepass")
    data += b" " * (-len(data) % 8)
    return struct.pack("<Q", len(data)) + data


def read_index(path: Path) -> Index:
    """Return what an index of shards says.

    Raises:
        HeaderError: It is malformed or over a limit; the message says how.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        data = stream.read(INDEX_LIMIT + 1)
    if len(data) > INDEX_LIMIT:
        raise HeaderError(f"over {INDEX_LIMIT} bytes")
    document = _parse(data, "the index")
    entries = document.get("weight_map")
    if not isinstance(entries, Mapping):
        raise HeaderError("has no weight_map")
    files: dict[str, str] = {}
    outside: dict[str, None] = {}
    for name, file in entries.items():
        if isinstance(file, str) and is_inside(file):
            files[name] = file
        else:
            outside[str(file)] = None
    if len({*files.values()}) > SHARDS_LIMIT:
        raise HeaderError(f"names over {SHARDS_LIMIT} files")
    return Index(files, tuple(outside), document)


def is_inside(file: str) -> bool:
    """Whether a file's name stays in the folder it is looked up in, on any system."""
    for kind in (PurePosixPath(file), PureWindowsPath(file)):
        if kind.is_absolute() or kind.drive or ".." in kind.parts:
            return False
    # A link out of the folder is how hub caches store files: their names decide, not their targets.
    return bool(file) and "\0" not in file and bool(PurePosixPath(file).name)
