"""A vocabulary grown beyond its model's: a folder with a tokenizer and the rows of what is new.

`tokenizer.json` and what belongs to it, `grown_rows.safetensors`, and `grown.json`, which is
written last and says for which vocabulary the rows are. The model's own rows are not copied.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anyvocab import _core, errors
from anyvocab._safetensors import BITS, Entry, HeaderError, encode_header, read_header
from anyvocab._source import read_json
from anyvocab._torch import import_torch
from anyvocab.hypernet.rows import Rows
from anyvocab.tokenizer import Tokenizer
from anyvocab.transplant.files import vocabulary_digest
from anyvocab.transplant.weights.matrix import nonfinite_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DTYPES", "MANIFEST", "ROWS", "GrownCard", "GrownVocabulary", "write_rows"]

logger = logging.getLogger(__name__)

MANIFEST: Final = "grown.json"
ROWS: Final = "grown_rows.safetensors"
FORMAT_VERSION: Final = 1
DTYPES: Final = {"float32": "F32", "bfloat16": "BF16"}
Chunks = Iterable[tuple["NDArray[np.int64]", Rows]]


@dataclass(frozen=True)
class GrownCard:
    """What a grown vocabulary is.

    Attributes:
        model: The model it was grown for, as it was named; empty where nothing says so.
        source_digest: :func:`anyvocab.transplant.files.vocabulary_digest` of its vocabulary.
        digest: That of the grown one.
        first_new_id: Ids from here on are new; those below are the model's own.
        rows_from: `hypernet` or `mean`.
        hypernet_digest: :func:`anyvocab.hypernet.folder.identity` of the hypernetwork.
        width: How long a row is.
        dtype: The type of the rows.
        version: The anyvocab that wrote it.
    """

    model: str
    source_digest: str
    digest: str
    first_new_id: int
    rows_from: str
    width: int
    dtype: str
    hypernet_digest: str | None = None
    version: str = field(default=_core.__version__)

    def to_json(self) -> bytes:
        """Return the contents of `grown.json`."""
        document = {**asdict(self), "format_version": FORMAT_VERSION, "kind": "grown vocabulary"}
        document["anyvocab_version"] = document.pop("version")
        return (json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


@dataclass(frozen=True, eq=False)
class GrownVocabulary:
    """A tokenizer whose ids begin as a model's do, and the rows of those that the model lacks.

    Attributes:
        tokenizer: The grown tokenizer.
        rows: The rows of the ids from `first_new_id` on; the output rows are None where one matrix
            serves both sides.
        first_new_id: See above.
        source_digest: The digest of the model's vocabulary; None: not checked.
        model: The name of the model; empty where nothing says so.
    """

    tokenizer: Tokenizer
    rows: Rows
    first_new_id: int
    source_digest: str | None = None
    model: str = ""

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, device: str | None = None) -> GrownVocabulary:
        """Return the grown vocabulary of a folder; on the CPU its rows are mapped, not read.

        Args:
            folder: What :func:`anyvocab.dynamic.grow` wrote.
            device: Where the rows shall live; on the CPU when left out.

        Raises:
            SourceNotFound: There is none, or it was not finished.
            WeightsFormatError: Files are malformed or contradict one another.
            MissingExtra: torch or safetensors is not installed.
        """
        import_torch()
        from safetensors.torch import load_file

        place = Path(folder)
        card = _read_card(place)
        tokenizer = Tokenizer.load(place)
        digest = vocabulary_digest(tokenizer.vocabulary)
        if digest != card.digest:
            raise _malformed(
                place / MANIFEST, "digest", "the tokenizer beside it has another vocabulary"
            )
        count = len(tokenizer.vocabulary) - card.first_new_id
        _check_rows(place / ROWS, count, card)
        found = load_file(place / ROWS, device=device or "cpu")
        rows = Rows(found["input"], found.get("output"), found.get("bias"))
        return cls(tokenizer, rows, card.first_new_id, card.source_digest, card.model)


def _read_card(place: Path) -> GrownCard:
    path = place / MANIFEST
    if not path.is_file():
        raise errors.build(
            errors.SourceNotFound,
            f"there is no {MANIFEST}",
            field="folder",
            file=str(place),
            fix="give a folder that `anyvocab.dynamic.grow` has finished",
        )
    document: dict[str, Any] = dict(read_json(path))
    version = document.pop("format_version", None)
    if version != FORMAT_VERSION:
        found = f"a grown vocabulary of format {version!r}, this version reads {FORMAT_VERSION}"
        raise _malformed(path, "format_version", found)
    document.pop("kind", None)
    document["version"] = document.pop("anyvocab_version", "")
    kinds = dict.fromkeys(("first_new_id", "width"), int)
    known = GrownCard.__dataclass_fields__
    for name in sorted(set(document) - set(known)):
        logger.warning("%s: %s: an unknown entry is not read", path, name)
        del document[name]
    for name in known:
        value, wanted = document.get(name), kinds.get(name, str)
        if name == "hypernet_digest" and value is None:
            continue
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise _malformed(path, name, f"must be of type {wanted.__name__}, got {value!r:.80}")
    return GrownCard(**document)


def _check_rows(path: Path, count: int, card: GrownCard) -> None:
    """Refuse rows that are not those of `count` new tokens."""
    try:
        header = read_header(path)
    except FileNotFoundError as error:
        raise errors.build(
            errors.SourceNotFound,
            "the rows are missing",
            field="folder",
            file=str(path),
            fix="copy the whole folder",
        ) from error
    except (HeaderError, OSError) as error:
        raise _malformed(path, "header", str(error)) from error
    kind = DTYPES.get(card.dtype)
    for name, entry in header.entries.items():
        shape = (count,) if name == "bias" else (count, card.width)
        if name not in ("input", "output", "bias"):
            raise _malformed(path, name, "is no tensor of a grown vocabulary")
        if entry.shape != shape or entry.dtype != ("F32" if name == "bias" else kind):
            found = f"is {entry.dtype} {list(entry.shape)}, not {kind} {list(shape)}"
            raise _malformed(path, name, found)
    if "input" not in header.entries:
        raise _malformed(path, "input", "is missing")


def _malformed(path: Path, field: str, found: str) -> errors.WeightsFormatError:
    return errors.build(
        errors.WeightsFormatError, found, field=field, file=str(path), fix="copy the folder again"
    )


def write_rows(
    path: Path,
    chunks: Chunks,
    shape: tuple[int, int],
    *,
    dtype: str,
    output: bool,
    bias: bool,
) -> int:
    """Write rows that come in any order into a safetensors file, and return its size in bytes.

    The file is mapped: memory is one chunk, and what the system keeps of the file.

    Args:
        path: Where to; nothing may be there.
        chunks: Places and rows; every place once.
        shape: How many rows, and how wide.
        dtype: One of `DTYPES`; a bias is always float32.
        output: Whether there are output rows.
        bias: Whether there is a bias.

    Raises:
        InvalidValue: Rows lack a part that was promised.
        NumericsError: A number is not finite, or too large for its type.
        InternalError: A place came twice, or never.
    """
    torch = import_torch()
    sides = {"input": shape, **({"output": shape} if output else {})}
    wanted = {**sides, **({"bias": shape[:1]} if bias else {})}
    entries, at = [], 0
    for name in sorted(wanted):
        kind = "F32" if name == "bias" else DTYPES[dtype]
        size = prod(wanted[name]) * BITS[kind] // 8
        entries.append(Entry(name, kind, wanted[name], at, at + size))
        at += size
    head = encode_header(entries, {"format": "pt"})
    with path.open("xb") as file:
        file.write(head)
        file.truncate(len(head) + at)
    views = {entry.name: _mapped(path, entry, len(head)) for entry in entries}
    times = np.zeros(shape[0], dtype=np.uint8)
    for places, rows in chunks:
        times[places] += 1
        made = {"input": rows.input, "output": rows.output, "bias": rows.bias}
        for name, view in views.items():
            part = made[name]
            if part is None:
                raise errors.build(
                    errors.InvalidValue,
                    f"it makes no {name} for a token, and the model has one",
                    field="hypernet",
                    fix="give the model that it was trained for",
                )
            part = part.detach().to("cpu", torch.float32 if name == "bias" else _type(dtype))
            bad = nonfinite_rows(part, 1 if name == "bias" else shape[1])
            if bad:
                raise errors.build(
                    errors.NumericsError,
                    f"the {name} row of new token {int(places[bad[0]])} is not finite",
                    field="rows",
                    fix="the model or the hypernetwork is damaged",
                )
            view[places] = part.contiguous().view(torch.uint8).numpy().reshape(len(places), -1)
    if not (times == 1).all():
        raise errors.InternalError("a new token has no row, or two")
    for view in views.values():
        if isinstance(view, np.memmap):
            view.flush()
    views.clear()
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return len(head) + at


def _type(dtype: str) -> Any:
    return getattr(import_torch(), dtype)


def _mapped(path: Path, entry: Entry, start: int) -> NDArray[np.uint8]:
    """Return the rows of a tensor in a file, as bytes, (rows, bytes of a row)."""
    rows = entry.shape[0]
    if not entry.size:  # nothing can be mapped
        return np.empty((rows, 0), dtype=np.uint8)
    return np.memmap(
        path, np.uint8, "r+", offset=start + entry.start, shape=(rows, entry.size // rows)
    )
