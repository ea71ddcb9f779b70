"""Holes in files of code: cut at random bytes, inside tokens, and at line ends."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from anyvocab import errors

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = ["CASE_KINDS", "CaseKind", "InfillingCase", "cut_cases", "read_code"]

CaseKind = Literal["bytes", "tokens", "lines"]
CASE_KINDS: Final[tuple[CaseKind, ...]] = get_args(CaseKind)

_FILE_LIMIT: Final = 1 << 20  # bytes; what is longer is generated, or no code
_FILES_LIMIT: Final = 20_000
_SHORT: Final = 24  # bytes; half of the middles are this short: a few tokens
_LEAST: Final = 4  # bytes of a line that are no white space
_LONGEST: Final = 160  # bytes of a line
_BLANKS: Final = b" \t\r\n\f\v"


@dataclass(frozen=True)
class InfillingCase:
    """Write `middle` between `prefix` and `suffix`.

    Attributes:
        name: The file and the byte where the middle begins: `json/decoder.py:1432`.
        kind: Where it was cut.
        prefix: What the model is shown of the text before.
        middle: What stood there.
        suffix: What the model is shown of the text behind.
    """

    name: str
    kind: CaseKind
    prefix: bytes
    middle: bytes
    suffix: bytes


def read_code(
    place: str | os.PathLike[str], *, suffixes: Sequence[str] | None = None
) -> list[tuple[str, bytes]]:
    """Return the names and contents of a file, or of a folder's files at any depth, sorted.

    Hidden files and folders, files over a MiB and files with a zero byte are left out.

    Args:
        place: A file or a folder.
        suffixes: Which files, by the ends of their names (`.py`); all when left out.

    Raises:
        SourceNotFound: There is nothing, or no such file in it.
        LimitExceeded: There are too many files.
    """
    root = Path(place)
    files = [root] if root.is_file() else _files(root, tuple(suffixes) if suffixes else None)
    found = []
    for file in files:
        if file.stat().st_size > _FILE_LIMIT:
            continue
        data = file.read_bytes()
        if data and b"\0" not in data:
            name = file.name if file == root else file.relative_to(root).as_posix()
            found.append((name, data))
    if not found:
        raise errors.build(
            errors.SourceNotFound,
            "no text in it" if root.exists() else "does not exist",
            field="code",
            file=str(root),
            fix="give a file of code, or a folder with some",
        )
    return found


def _files(root: Path, suffixes: tuple[str, ...] | None) -> list[Path]:
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            wanted = suffixes is None or name.endswith(suffixes)
            if wanted and not name.startswith(".") and file.is_file():
                found.append(file)
        if len(found) > _FILES_LIMIT:
            raise errors.build(
                errors.LimitExceeded,
                f"over {_FILES_LIMIT} files",
                field="code",
                file=str(root),
                fix="give a smaller folder",
            )
    return sorted(found)


def cut_cases(
    documents: Sequence[tuple[str, bytes]],
    *,
    kinds: Sequence[CaseKind] = CASE_KINDS,
    count: int = 100,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
    prefix_bytes: int = 1024,
    suffix_bytes: int = 512,
) -> list[InfillingCase]:
    """Return seeded holes, `count` of every kind: the same for every model and mode.

    A middle begins in a line and ends in it: half of them at its end, half after 1 to 24 bytes.
    Where it begins, by kind: `bytes`: at any byte behind the indentation; `tokens`: strictly inside
    a token of the document's encoding; `lines`: behind the newline before it.

    Args:
        documents: Names and contents; see :func:`read_code`.
        kinds: Which.
        count: How many of each; fewer where there are not so many lines.
        seed: Of the choices.
        tokenizer: Whose tokens, for the kind `tokens`.
        prefix_bytes: How much a prefix holds at most; a longer one begins at a line.
        suffix_bytes: How much a suffix holds at most; a longer one ends with a line.

    Raises:
        InvalidValue: A kind is unknown, a number is not positive, there is no tokenizer for
            `tokens`, or no line to cut.
    """
    for kind in kinds:
        if kind not in CASE_KINDS:
            raise errors.build(
                errors.InvalidValue,
                f"{kind!r} is no kind",
                field="kinds",
                fix=", ".join(CASE_KINDS),
            )
    for name, value in (
        ("count", count),
        ("prefix_bytes", prefix_bytes),
        ("suffix_bytes", suffix_bytes),
    ):
        if value < 1:
            raise errors.build(errors.InvalidValue, f"must be positive, got {value}", field=name)
    if "tokens" in kinds and tokenizer is None:
        raise errors.build(
            errors.InvalidValue,
            "is needed to cut inside tokens",
            field="tokenizer",
            fix="give one, or kinds without 'tokens'",
        )
    lines = [
        (document, *span) for document, (_, data) in enumerate(documents) for span in _lines(data)
    ]
    if not lines:
        raise errors.build(
            errors.InvalidValue, "no line is long enough to be cut", field="documents"
        )
    inside = _Insides(documents, tokenizer)
    found = []
    for kind in kinds:
        rng = random.Random(f"infilling/{kind}/{seed}")
        order = rng.sample(range(len(lines)), len(lines))
        made = 0
        for at in order:
            if made == count:
                break
            document, first, end = lines[at]
            name, data = documents[document]
            start = _start(kind, data, first, end, inside.of(document, kind), rng)
            if start is None:
                continue
            if rng.random() < 0.5:
                end = min(end, start + rng.randint(1, _SHORT))
            found.append(
                InfillingCase(
                    f"{name}:{start}",
                    kind,
                    _last_lines(data[:start], prefix_bytes),
                    data[start:end],
                    _first_lines(data[end:], suffix_bytes),
                )
            )
            made += 1
    return found


class _Insides:
    """Positions inside tokens of documents, found when they are asked for."""

    def __init__(self, documents: Sequence[tuple[str, bytes]], tokenizer: Tokenizer | None) -> None:
        self.documents = documents
        self.tokenizer = tokenizer
        self.ends: dict[int, frozenset[int]] = {}

    def of(self, document: int, kind: CaseKind) -> frozenset[int]:
        """Return where tokens of a document end; nothing unless the kind is `tokens`."""
        if kind != "tokens" or self.tokenizer is None:
            return frozenset()
        if document not in self.ends:
            offsets = self.tokenizer.encode_with_offsets(
                self.documents[document][1], specials="text"
            ).offsets
            self.ends[document] = frozenset(offsets.ravel().tolist())
        return self.ends[document]


def _lines(data: bytes) -> list[tuple[int, int]]:
    """Return where the lines worth cutting begin, indentation included, and end."""
    found, at = [], 0
    for line in data.split(b"\n"):
        content = line.strip(_BLANKS)
        if len(content) >= _LEAST and len(line) <= _LONGEST:
            found.append((at, at + len(line.rstrip(_BLANKS))))
        at += len(line) + 1
    return found


def _start(
    kind: CaseKind, data: bytes, first: int, end: int, ends: frozenset[int], rng: random.Random
) -> int | None:
    """Return where the middle of a line begins; None where it has no such place."""
    if kind == "lines":
        return first
    line = data[first:end]
    content = first + len(line) - len(line.lstrip(_BLANKS))
    if kind == "bytes":
        return rng.randrange(content, end)
    places = [at for at in range(content + 1, end) if at not in ends]
    return rng.choice(places) if places else None


def _last_lines(text: bytes, limit: int) -> bytes:
    if len(text) <= limit:
        return text
    cut = text.find(b"\n", len(text) - limit)
    return text[cut + 1 :] if cut >= 0 else text[-limit:]


def _first_lines(text: bytes, limit: int) -> bytes:
    if len(text) <= limit:
        return text
    cut = text.rfind(b"\n", 0, limit)
    return text[: cut + 1] if cut > 0 else text[:limit]
