"""Writing a model whose vocabulary tensors change: shards are streamed or linked, never loaded.

A shard is written under a temporary name, flushed and renamed; then a marker says from what it was
made. Whatever interrupts a rewrite, the folder holds whole shards only, and the next call goes on
behind the last one.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

from anyvocab import errors
from anyvocab._safetensors import INDEX, Entry, is_inside
from anyvocab._save import sync_folder, write_atomically
from anyvocab._torch import import_torch
from anyvocab.transplant.weights.checkpoint import Checkpoint
from anyvocab.transplant.weights.layout import Changes, Shard, lay_out, refuse
from anyvocab.transplant.weights.matrix import (
    RowSource,
    nonfinite_rows,
    not_finite,
)

__all__ = ["Rewritten", "finish", "rewrite"]

Progress = Callable[[int, int], None]
How = Literal["linked", "copied", "written", "reused"]

MARKERS: Final = ".anyvocab-progress"
BLOCK: Final = 16 << 20  # bytes copied at once: Ctrl-C waits for no more than these
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


@dataclass(frozen=True)
class Rewritten:
    """What a rewrite did.

    Attributes:
        files: Name of every weights file to how it came about: `linked` to the source's file,
            `copied` from it, `written`, or `reused` from an interrupted rewrite.
        bytes: Bytes of all weights files.
        written: Bytes that were written now.
    """

    files: Mapping[str, How]
    bytes: int
    written: int


@dataclass
class _Meter:
    total: int
    report: Progress | None
    done: int = 0
    written: int = 0

    def add(self, count: int, *, written: bool) -> None:
        self.done += count
        self.written += count if written else 0
        if self.report is not None:
            self.report(self.done, self.total)


def rewrite(
    checkpoint: Checkpoint,
    staging: str | os.PathLike[str],
    replacements: Mapping[str, RowSource],
    *,
    drop: Iterable[str] = (),
    add: Mapping[str, RowSource] | None = None,
    plan_key: str = "",
    link: Literal["hard", "copy"] = "hard",
    progress: Progress | None = None,
) -> Rewritten:
    """Write the weights of `checkpoint`, some tensors exchanged, into the folder `staging`.

    Shards keep their names. Those without a change are hard links to the source's files: whoever
    writes into one of the two changes both, so use `link="copy"` where files are edited in place.
    Memory: one piece of a `RowSource` and one block. One process may write to a folder at a time.

    Args:
        checkpoint: The source.
        staging: Where the weights go; made when it is missing. What an interrupted call left there
            is used again where it was made from the same source, the same shapes and `plan_key`.
        replacements: Tensor name to its new rows.
        drop: Tensors to leave out: the head of a model that becomes tied.
        add: New tensors: the head of a model that becomes untied. They go into the shard of the
            input matrix.
        plan_key: What decides the values of the new rows, as a text: a digest of the plan.
        link: `hard`, or `copy`. A link that the file system refuses becomes a copy.
        progress: Called with the bytes done and the bytes of all shards.

    Returns:
        What became of every file.

    Raises:
        InvalidValue: A name is unknown or stands in two places, rows do not have the shape or type
            that their source promised, or a vocabulary tensor would keep another number of rows.
        NumericsError: A new row holds a NaN or an infinity.
        LimitExceeded: The disk has no room.
        WeightsFormatError: A source file changed while it was read.
    """
    if link not in ("hard", "copy"):
        raise errors.build(
            errors.InvalidValue,
            f"{link!r} is no choice",
            field="link",
            fix='use "hard" or "copy"',
        )
    folder = Path(staging)
    folder.mkdir(parents=True, exist_ok=True)
    if folder.samefile(checkpoint.folder):
        raise errors.build(
            errors.InvalidValue,
            "the weights would be written over their source",
            field="staging",
            file=str(folder),
            fix="give another folder",
        )
    changes = Changes(replacements, frozenset(drop), dict(add or {}), plan_key)
    shards = lay_out(checkpoint, changes)
    _clear_temporaries(folder)
    _clear_earlier(folder, shards)
    _check_room(folder, shards, link)
    meter = _Meter(sum(shard.size for shard in shards), progress)
    files = {shard.file: _settle(shard, folder, link, meter) for shard in shards}
    if checkpoint.index is not None:
        _write_index(checkpoint, shards, folder)
    return Rewritten(files, meter.total, meter.written)


def _marker(folder: Path, file: str) -> Path:
    return folder / MARKERS / f"{quote(file, safe='')}.json"


def _mark(folder: Path, shard: Shard) -> None:
    data = json.dumps({"key": shard.key, "size": shard.size}).encode()
    write_atomically(_marker(folder, shard.file), data)


def _is_finished(shard: Shard, folder: Path) -> bool:
    try:
        said = json.loads(_marker(folder, shard.file).read_bytes())
        size = (folder / shard.file).stat().st_size
    except (OSError, ValueError):
        return False
    return bool(said == {"key": shard.key, "size": size} and size == shard.size)


def _check_room(folder: Path, shards: list[Shard], link: str) -> None:
    needed = sum(
        shard.size
        for shard in shards
        if (shard.parts is not None or link == "copy") and not _is_finished(shard, folder)
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise errors.build(
            errors.LimitExceeded,
            f"{needed} bytes are to be written, {free} are free",
            field="disk",
            file=str(folder),
            fix="make room, or write to another disk",
        )


def _settle(shard: Shard, folder: Path, link: str, meter: _Meter) -> How:
    """Bring one shard into its place and say how."""
    target = folder / shard.file
    target.parent.mkdir(parents=True, exist_ok=True)
    linked = target.exists() and target.samefile(shard.path)
    if shard.parts is None and link == "hard":
        if linked or _link(shard.path, target):
            _mark(folder, shard)
            meter.add(shard.size, written=False)
            return "linked"
        linked = False
    if not linked and _is_finished(shard, folder):
        meter.add(shard.size, written=False)
        return "reused"
    marker = _marker(folder, shard.file)
    marker.unlink(missing_ok=True)
    temporary = _temporary(target)
    try:
        with temporary.open("xb", buffering=0) as out, shard.path.open("rb", buffering=0) as source:
            if shard.parts is None:
                _copy(source, out, 0, shard.size, shard, meter)
            else:
                _write_all(out, shard.head)
                meter.add(len(shard.head), written=True)
                for part in shard.parts:
                    if part.rows is not None:
                        _write_rows(out, part.entry, part.rows, meter)
                    elif part.source is not None:
                        _copy(source, out, part.source.start, part.source.size, shard, meter)
            os.fsync(out.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
    _mark(folder, shard)
    return "copied" if shard.parts is None else "written"


def _link(source: Path, target: Path) -> bool:
    """Link a file into place; False where the system refuses."""
    temporary = _temporary(target)
    try:
        # A hub cache stores links to blobs: the blob is what is shared.
        temporary.hardlink_to(source.resolve())
    except OSError:
        return False
    try:
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def _clear_temporaries(folder: Path) -> None:
    """Remove what a killed process could not remove."""
    for path in folder.rglob(".*.safetensors.*.tmp"):
        path.unlink(missing_ok=True)


def _clear_earlier(folder: Path, shards: list[Shard]) -> None:
    """Remove what an earlier rewrite left that this one does not make.

    Raises:
        InvalidValue: The folder holds weights that no rewrite made.
    """
    wanted = {shard.file for shard in shards}
    for marker in sorted((folder / MARKERS).glob("*.json")):
        file = unquote(marker.stem)
        if file not in wanted and is_inside(file):
            (folder / file).unlink(missing_ok=True)
            (folder / INDEX).unlink(missing_ok=True)  # it named that file
            marker.unlink()
    for path in sorted(folder.glob("*.safetensors")):  # loaders look no deeper
        if path.name not in wanted:
            refuse(
                f"the folder holds {path.name}, which is no part of this model",
                "staging",
                "give a folder of its own",
            )


def _write_all(out: Any, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]


def _copy(source: Any, out: Any, start: int, size: int, shard: Shard, meter: _Meter) -> None:
    """Copy bytes of the source to where the output stands, in the kernel where it can."""
    in_kernel = hasattr(os, "copy_file_range")
    position, stop = start, start + size
    source.seek(start)
    while position < stop:
        wanted = min(BLOCK, stop - position)
        if in_kernel:
            try:
                count = os.copy_file_range(source.fileno(), out.fileno(), wanted)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                in_kernel = False
                continue
        else:
            data = source.read(wanted)
            count = len(data)
            _write_all(out, data)
        if not count:
            raise errors.build(
                errors.WeightsFormatError,
                f"the file ends at byte {position}; it was longer when it was opened",
                field="file size",
                file=str(shard.path),
                fix="run again when nothing else writes to the model",
            )
        position += count
        meter.add(count, written=True)


def _write_rows(out: Any, entry: Entry, rows: RowSource, meter: _Meter) -> None:
    torch = import_torch()
    width = entry.shape[-1] if len(entry.shape) > 1 and entry.shape[0] != 1 else 1
    written, total, bad = 0, prod(entry.shape), []
    # The disk takes one piece while the next is made.
    with ThreadPoolExecutor(1) as disk:
        pending: Future[None] | None = None
        for chunk in rows.chunks():
            if chunk.dtype != rows.dtype:
                refuse(f"a piece of type {chunk.dtype}, promised was {rows.dtype}", entry.name)
            if chunk.numel() % width or (width > 1 and chunk.shape[-1] != width):
                refuse(f"a piece of shape {list(chunk.shape)}; rows are {width} wide", entry.name)
            if written + chunk.numel() > total:
                refuse(f"more rows than its shape {list(entry.shape)} has", entry.name)
            bad += [written // width + row for row in nonfinite_rows(chunk, width)]
            if bad:
                raise not_finite(bad, entry.name, None)
            data = chunk.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().data
            if pending is not None:
                pending.result()
            pending = disk.submit(_write_all, out, data)
            written += chunk.numel()
            meter.add(len(data), written=True)
        if pending is not None:
            pending.result()
    if written != total:
        refuse(f"{written // width} rows, its shape is {list(entry.shape)}", entry.name)


def _write_index(checkpoint: Checkpoint, shards: list[Shard], folder: Path) -> None:
    """Write the index: where every tensor is, and how much it all is."""
    index = checkpoint.index
    if index is None:
        return
    places: dict[str, str] = {}
    size = numbers = before = 0
    for shard in shards:
        if shard.parts is None:
            held = list(checkpoint.shards[shard.file].entries.values())
        else:
            held = [part.entry for part in shard.parts]
        places.update((entry.name, shard.file) for entry in held)
        size += sum(entry.size for entry in held)
        numbers += sum(prod(entry.shape) for entry in held)
    for header in checkpoint.shards.values():
        before += sum(prod(entry.shape) for entry in header.entries.values())
    kept = index.document.get("metadata")
    metadata: dict[str, object] = dict(kept) if isinstance(kept, dict) else {}
    metadata["total_size"] = size
    parameters = metadata.get("total_parameters")
    if isinstance(parameters, int):
        metadata["total_parameters"] = parameters + numbers - before
    document = {**index.document, "metadata": metadata, "weight_map": places}
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    write_atomically(folder / INDEX, text.encode())


def finish(
    staging: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    manifest: tuple[str, bytes] | None = None,
) -> Path:
    """Give a finished folder its name, in one step, and return it.

    Args:
        staging: The folder, complete but for its manifest; on the same disk as `out`.
        out: Its name. There must be nothing, or an empty folder.
        manifest: Name and contents of the file that is written last.

    Raises:
        OutputExists: There is something at `out`.
    """
    source, target = Path(staging), Path(out)
    if os.path.lexists(target) and (
        target.is_symlink() or not target.is_dir() or any(target.iterdir())
    ):
        raise _exists(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_temporaries(source)
    if manifest is not None:
        name, data = manifest
        write_atomically(source / name, data)
    shutil.rmtree(source / MARKERS, ignore_errors=True)
    sync_folder(source)
    try:
        if target.is_dir():
            target.rmdir()
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _exists(target) from error
        raise
    sync_folder(target.parent)
    return target


def _exists(target: Path) -> errors.OutputExists:
    return errors.build(
        errors.OutputExists,
        "there is something already",
        field="out",
        file=str(target),
        fix="give a name that is free, or an empty folder",
    )
