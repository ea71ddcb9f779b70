"""The shapes of a model's vocabulary matrices, from safetensors headers alone.

A header is JSON behind its length. Everything about it is checked before it is believed: lengths,
types, and that an index names no file outside its folder.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

__all__ = ["HEADER_LIMIT", "Matrix", "Weights", "read_header", "read_weights"]

HEADER_LIMIT = 100_000_000  # bytes; the format's own limit
INDEX_LIMIT = 64 << 20  # bytes
SHARDS_LIMIT = 4096
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_INPUT = frozenset(
    {
        "embed_in",
        "embed_tokens",
        "embedding",
        "embeddings",
        "shared",
        "tok_embeddings",
        "token_embedding",
        "word_embeddings",
        "wte",
    }
)
_OUTPUT = frozenset({"lm_head", "embed_out", "output_projection"})


@dataclass(frozen=True)
class Matrix:
    """A matrix with a row for every id.

    Attributes:
        side: `input` or `output`.
        name: The tensor's name.
        file: The file that holds it.
        rows: Its rows.
        width: Its columns.
    """

    side: str
    name: str
    file: str
    rows: int
    width: int


@dataclass(frozen=True)
class Weights:
    """What the headers say.

    Attributes:
        files: The safetensors files that were looked at or are named by the index.
        matrices: Every vocabulary matrix.
        problems: `(where, found, fix)` of what cannot be read or must not be followed.
    """

    files: tuple[str, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    problems: tuple[tuple[str, str, str], ...] = ()


class _HeaderError(ValueError):
    pass


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Return tensor name to shape.

    Raises:
        ValueError: It is no safetensors file; the message says why.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise _HeaderError("shorter than 8 bytes: no safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > min(HEADER_LIMIT, size - 8):
            raise _HeaderError(f"a header of {length} bytes in a file of {size}")
        data = file.read(length)
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _HeaderError(f"the header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise _HeaderError("the header is no JSON object")
    shapes = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(_is_size(one) for one in shape):
            raise _HeaderError(f"tensor {name[:80]!r} has no valid shape")
        shapes[name] = tuple(shape)
    return shapes


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _side(name: str, shape: tuple[int, ...]) -> str | None:
    parts = name.split(".")
    if len(shape) != 2 or len(parts) < 2 or parts[-1] != "weight":
        return None
    if parts[-2] in _INPUT:
        return "input"
    return "output" if parts[-2] in _OUTPUT or name == "output.weight" else None


@dataclass
class _Reader:
    folder: Path
    matrices: list[Matrix] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, file: str) -> None:
        path = self.folder / file
        try:
            shapes = read_header(path)
        except FileNotFoundError:
            self.problems.append((file, "the file is missing", "download the model again"))
            return
        except (OSError, ValueError) as error:
            self.problems.append((file, str(error), "download the file again"))
            return
        for name, shape in sorted(shapes.items()):
            side = _side(name, shape)
            if side is not None:
                self.matrices.append(Matrix(side, name, file, shape[0], shape[1]))


def read_weights(folder: Path) -> Weights:
    """Return the vocabulary matrices of the model in `folder`. Nothing is raised for bad files."""
    reader = _Reader(folder)
    if (folder / INDEX).is_file():
        named = _named_by_index(folder / INDEX, reader.problems)
        # Shards can be many: open those that hold a matrix, and look for the others.
        wanted = sorted({file for name, file in named.items() if _side(name, (0, 0))})
        others = sorted({*named.values()} - {*wanted})
        for file in wanted:
            reader.add(file)
        reader.problems += [
            (file, f"{INDEX} names this file; it is missing", "download the model again")
            for file in others
            if not (folder / file).is_file()
        ]
        files = (*wanted, *others)
    else:
        files = (SINGLE,) if (folder / SINGLE).is_file() else ()
        for file in files:
            reader.add(file)
    return Weights(files, tuple(reader.matrices), tuple(reader.problems))


def _named_by_index(path: Path, problems: list[tuple[str, str, str]]) -> dict[str, str]:
    """Return tensor name to file; files outside the folder are problems and left out."""
    try:
        with path.open("rb") as stream:
            data = stream.read(INDEX_LIMIT + 1)
        if len(data) > INDEX_LIMIT:
            raise _HeaderError(f"over {INDEX_LIMIT} bytes")
        document = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        problems.append((path.name, f"cannot be read ({error})", "download the file again"))
        return {}
    entries = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(entries, Mapping):
        problems.append((path.name, "has no weight_map", "download the file again"))
        return {}
    named: dict[str, str] = {}
    refused: dict[str, None] = {}
    for name, file in entries.items():
        if not isinstance(file, str) or not _is_inside(path.parent, file):
            refused[str(file)] = None
        else:
            named[str(name)] = file
    problems += [
        (
            f"{path.name}: weight_map",
            f"{file[:120]!r} lies outside the folder; it is not opened",
            "do not load this model: a weights index must name files beside it",
        )
        for file in refused
    ]
    if len({*named.values()}) > SHARDS_LIMIT:
        problems.append((path.name, f"names over {SHARDS_LIMIT} files", "check the file"))
        return {}
    return named


def _is_inside(folder: Path, file: str) -> bool:
    for kind in (PurePosixPath(file), PureWindowsPath(file)):
        if kind.is_absolute() or kind.drive or ".." in kind.parts:
            return False
    if not file or "\0" in file:
        return False
    # A link out of the folder is how hub caches store files: their names decide, not their targets.
    return bool(folder.joinpath(file).name)
