"""What a rewrite will write: every shard's tensors, header, size, and a digest of its inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final, NoReturn

from anyvocab import errors
from anyvocab._safetensors import BITS, Entry, Header, encode_header
from anyvocab.transplant.weights.checkpoint import Checkpoint
from anyvocab.transplant.weights.matrix import RowSource, torch_name

__all__ = ["Changes", "Part", "Shard", "lay_out", "refuse"]

FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class Changes:
    """What a rewrite changes.

    Attributes:
        replacements: Tensor name to its new rows.
        dropped: Tensors to leave out.
        added: New tensors.
        plan_key: What decides the values of the new rows.
    """

    replacements: Mapping[str, RowSource]
    dropped: frozenset[str]
    added: Mapping[str, RowSource]
    plan_key: str


@dataclass(frozen=True)
class Part:
    """One tensor of a shard to write: rows that are made, or bytes of the source's file."""

    entry: Entry  # positions count from where the data begins
    rows: RowSource | None
    source: Entry | None


@dataclass(frozen=True)
class Shard:
    """One file to write or to link."""

    file: str
    path: Path  # the source's file
    parts: tuple[Part, ...] | None  # None: the file stays as it is
    head: bytes
    size: int
    key: str


def refuse(found: str, name: str, fix: str = "") -> NoReturn:
    """Raise the error about tensor `name` that an argument brought about."""
    raise errors.build(errors.InvalidValue, found, field=name, fix=fix)


def lay_out(checkpoint: Checkpoint, changes: Changes) -> list[Shard]:
    """Return the shards of the result, sorted by name.

    Raises:
        InvalidValue: A name is unknown or stands in two places, rows have a type that rows do not
            have, or a vocabulary tensor would keep another number of rows.
    """
    _check_names(checkpoint, changes)
    _check_rows(checkpoint, changes)
    return _plan(checkpoint, changes)


def _check_names(checkpoint: Checkpoint, changes: Changes) -> None:
    replacements, dropped, added = changes.replacements, changes.dropped, changes.added
    known = {name for header in checkpoint.shards.values() for name in header.entries}
    for name in (*replacements, *sorted(dropped)):
        if name not in known:
            refuse("there is no such tensor", name)
    for name in added:
        if name in known and name not in dropped:
            refuse("the tensor is there already", name, "give it in replacements")
    for name in replacements:
        if name in dropped or name in added:
            refuse("the tensor cannot be replaced and dropped or added as well", name)


def _check_rows(checkpoint: Checkpoint, changes: Changes) -> None:
    """Refuse a result whose vocabulary tensors have different numbers of rows."""
    replacements, dropped, added = changes.replacements, changes.dropped, changes.added
    first: tuple[str, int] | None = None
    for tensor in checkpoint.tensors:
        if tensor.vocabulary != "model" or tensor.name in dropped:
            continue
        rows = tensor.rows
        if tensor.name in replacements:
            shape = tuple(replacements[tensor.name].shape)
            rows = shape[tensor.axis] if len(shape) > tensor.axis else -1
            if shape != tensor.shape_for(rows):
                refuse(
                    f"rows of shape {list(shape)}",
                    tensor.name,
                    f"{list(tensor.shape_for(tensor.rows))} with another number of rows is needed",
                )
        if first is None:
            first = (tensor.name, rows)
        elif rows != first[1]:
            refuse(
                f"it would have {rows} rows and {first[0]} {first[1]}",
                tensor.name,
                "replace every vocabulary tensor, or drop it",
            )
    for name, source in added.items():
        if first is not None and len(source.shape) == 2 and source.shape[0] != first[1]:
            refuse(f"it would have {source.shape[0]} rows and {first[0]} {first[1]}", name)


def _plan(checkpoint: Checkpoint, changes: Changes) -> list[Shard]:
    source = checkpoint.find("input")
    home = source.file if source is not None else next(iter(checkpoint.shards))
    touched = changes.replacements.keys() | changes.dropped
    shards = []
    for file in sorted(checkpoint.shards):
        header = checkpoint.shards[file]
        path = checkpoint.folder / file
        added = changes.added if file == home else {}
        if not added and not header.entries.keys() & touched:
            key = _key(path, header, None, "")
            shards.append(Shard(file, path, None, b"", header.size, key))
            continue
        parts = _parts(header, changes, added)
        if not parts and checkpoint.index is not None:
            continue  # nothing is left in it
        head = encode_header([part.entry for part in parts], header.metadata)
        size = len(head) + (parts[-1].entry.stop if parts else 0)
        key = _key(path, header, parts, changes.plan_key)
        shards.append(Shard(file, path, tuple(parts), head, size, key))
    return shards


def _parts(header: Header, changes: Changes, added: Mapping[str, RowSource]) -> list[Part]:
    """Return the tensors of a new shard, in the order of the old one, new ones by alignment.

    The format's writers put wide types first, so that every tensor is aligned; a new tensor goes
    behind the last one that is as wide as it.
    """
    order: list[tuple[Entry, RowSource | None, Entry | None]] = []
    for name, entry in header.entries.items():
        rows = changes.replacements.get(name)
        if name in changes.dropped:
            continue
        order.append((entry if rows is None else _made(name, rows), rows, entry))
    for name, rows in sorted(added.items()):
        new = _made(name, rows)
        wide = [i + 1 for i, (one, _, _) in enumerate(order) if BITS[one.dtype] >= BITS[new.dtype]]
        order.insert(max(wide, default=0), (new, rows, None))
    parts, position = [], 0
    for entry, made, source in order:
        stop = position + entry.size
        placed = Entry(entry.name, entry.dtype, entry.shape, position, stop)
        parts.append(Part(placed, made, source if made is None else None))
        position = stop
    return parts


def _made(name: str, rows: RowSource) -> Entry:
    dtype, shape = torch_name(rows.dtype), tuple(rows.shape)
    if dtype is None:
        refuse(f"rows of type {rows.dtype}", name, "use float64, float32, float16 or bfloat16")
    return Entry(name, dtype, shape, 0, prod(shape) * BITS[dtype] // 8)


def _key(path: Path, header: Header, parts: list[Part] | None, plan_key: str) -> str:
    """Return a digest of everything that a shard is made from; the source's by size and time."""
    state = path.stat()
    inputs = {
        "format_version": FORMAT_VERSION,
        "plan": plan_key,
        "source": [str(path.resolve()), state.st_size, state.st_mtime_ns],
        "stored": [[e.name, e.dtype, e.shape, e.start] for e in header.entries.values()],
        "made": None if parts is None else [_made_from(part) for part in parts],
        "metadata": sorted(header.metadata.items()),
    }
    return hashlib.sha256(json.dumps(inputs).encode("utf-8", "surrogatepass")).hexdigest()


def _made_from(part: Part) -> list[object]:
    return [part.entry.name, part.entry.dtype, part.entry.shape, part.rows is None]
