"""Rows of a stored matrix as tensors, and rows that are on their way into a file."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from anyvocab import errors
from anyvocab._safetensors import BITS, Entry
from anyvocab._torch import import_torch
from anyvocab.transplant.weights.find import VocabularyTensor

__all__ = ["Matrix", "RowSource", "Rows", "nonfinite_rows", "torch_dtype", "torch_name"]

BLOCK: Final = 8 << 20  # bytes that are worked on at once
ROWS_SHOWN: Final = 5
_NAMES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class RowSource(Protocol):
    """A tensor that is made piece by piece, in the order of its rows.

    Its type is float64, float32, float16 or bfloat16. A piece is still read while the next is made,
    so each has memory of its own. A bias has one number a row; the shape of
    its pieces does not matter.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""
        ...

    @property
    def dtype(self) -> Any:
        """The torch type of every piece."""
        ...

    def chunks(self) -> Iterator[Any]:
        """Yield tensors of type `dtype` that are the whole, one behind the other."""
        ...


@dataclass(frozen=True)
class Rows:
    """A `RowSource` around a function.

    Attributes:
        shape: The shape of the whole.
        dtype: Its torch type.
        make: Called without arguments, every time anew: yields the pieces.
    """

    shape: tuple[int, ...]
    dtype: Any
    make: Callable[[], Iterator[Any]]

    def chunks(self) -> Iterator[Any]:
        """Yield the pieces."""
        return self.make()

    @classmethod
    def of(cls, tensor: Any) -> Rows:
        """Return a source of one piece: a tensor that is in memory."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: iter([tensor]))


def torch_dtype(name: str) -> Any:
    """Return the torch type of a format's name.

    >>> torch_dtype("BF16")
    torch.bfloat16
    """
    return getattr(import_torch(), _NAMES[name])


def torch_name(dtype: Any) -> str | None:
    """Return the format's name of a torch type; None for a type that rows do not have."""
    short = str(dtype).removeprefix("torch.")
    return next((name for name, full in _NAMES.items() if full == short), None)


def nonfinite_rows(chunk: Any, width: int) -> list[int]:
    """Return the numbers of the rows, `width` numbers each, that hold a NaN or an infinity."""
    torch = import_torch()
    if not chunk.numel():
        return []
    # One vectorised pass; NaN survives it. `isfinite` on bfloat16 takes eight times as long.
    low, high = torch.aminmax(chunk)
    if bool(torch.isfinite(low)) and bool(torch.isfinite(high)):
        return []
    bad = ~torch.isfinite(chunk.reshape(-1, width)).all(dim=1)
    return [int(row) for row in bad.nonzero().flatten()]


class Matrix:
    """The rows of a stored tensor, read from its file when they are asked for.

    Nothing stays in memory: what is returned is a copy, and the pages behind it are given back.
    Usable as a context manager, as a `RowSource` (the stored tensor itself), and from any thread.

    Attributes:
        tensor: What it is.
        rows: How many rows there are.
        width: Numbers of a row; 1 for a bias.
        dtype: The stored torch type.
        shape: The stored shape.
    """

    def __init__(self, path: Path, tensor: VocabularyTensor, entry: Entry) -> None:
        self.tensor = tensor
        self.rows, self.width = tensor.rows, tensor.width
        self.dtype = torch_dtype(tensor.dtype)
        self.shape = entry.shape
        self._start, self._stop = entry.start, entry.stop
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._map) < entry.stop:
            self._map.close()
            raise errors.build(
                errors.WeightsFormatError,
                "the file was cut while it was in use",
                field=tensor.name,
                file=tensor.file,
            )
        self._row_bytes = tensor.width * BITS[tensor.dtype] // 8

    def __enter__(self) -> Matrix:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. What was returned stays good."""
        self._map.close()

    def _view(self) -> Any:
        """Return the stored rows as bytes, shape (rows, bytes of a row).

        Not as numbers: a file may place them where numbers of their size are not aligned, and
        numpy would copy the whole matrix first.
        """
        flat = np.frombuffer(self._map, np.uint8, self._stop - self._start, offset=self._start)
        return flat.reshape(self.rows, self._row_bytes)

    def _as_stored(self, data: Any) -> Any:
        """Return rows of bytes as rows of numbers; no bytes are moved."""
        torch = import_torch()
        if not len(data):  # torch gives nothing another type
            return torch.empty((0, self.width), dtype=self.dtype)
        return torch.from_numpy(data).view(self.dtype)

    def _forget_rows(self, start: int, stop: int) -> None:
        """Give the pages of rows `start` to `stop` back to the system."""
        if not hasattr(self._map, "madvise"):  # Windows
            return
        first = self._start + start * self._row_bytes
        first -= first % mmap.PAGESIZE
        length = self._start + stop * self._row_bytes - first
        if length:
            self._map.madvise(mmap.MADV_DONTNEED, first, length)

    def take(self, ids: Any) -> Any:
        """Return the rows of `ids`, shape (n, width), in the stored type.

        Args:
            ids: Row numbers, in any order and repeated at will: a list, numpy array or tensor.

        Raises:
            InvalidValue: An id has no row.
        """
        given = np.asarray(ids).reshape(-1)
        if given.size and given.dtype.kind not in "iu":
            raise errors.build(
                errors.InvalidValue,
                f"numbers of type {given.dtype}",
                field="ids",
                fix="give integers",
            )
        wanted = given.astype(np.int64)
        if wanted.size and not 0 <= int(wanted.min()) <= int(wanted.max()) < self.rows:
            beyond = wanted[(wanted < 0) | (wanted >= self.rows)]
            raise errors.build(
                errors.InvalidValue,
                f"{int(beyond[0])} has no row; there are {self.rows}",
                field="ids",
            )
        found = np.empty((wanted.size, self._row_bytes), np.uint8)
        # In the order of the file, a block at a time: every page is mapped once, few at a time.
        step = max(1, BLOCK // self._row_bytes)
        order = np.argsort(wanted, kind="stable")
        blocks = wanted[order] // step
        for part in np.split(order, np.flatnonzero(np.diff(blocks)) + 1):
            for first in range(0, part.size, step):
                some = part[first : first + step]
                found[some] = self._view()[wanted[some]]
            if part.size:
                first = int(wanted[part[0]]) // step * step
                self._forget_rows(first, min(first + step, self.rows))
        return self._as_stored(found)

    def chunk(self, start: int, stop: int) -> Any:
        """Return rows `start` to `stop`, shape (stop - start, width), in the stored type.

        Raises:
            InvalidValue: They are not 0 <= start <= stop <= rows.
        """
        if not 0 <= start <= stop <= self.rows:
            raise errors.build(
                errors.InvalidValue,
                f"{start} to {stop} is no range of {self.rows} rows",
                field="start, stop",
            )
        found = self._view()[start:stop].copy()
        self._forget_rows(start, stop)
        return self._as_stored(found)

    def chunks(self) -> Iterator[Any]:
        """Yield all rows in order, `BLOCK` bytes at a time."""
        step = max(1, BLOCK // self._row_bytes)
        for start in range(0, self.rows, step):
            yield self.chunk(start, min(start + step, self.rows))

    def check_finite(self) -> None:
        """Read every row once.

        Raises:
            NumericsError: A row holds a NaN or an infinity; the first ones are named.
        """
        bad: list[int] = []
        start = 0
        for chunk in self.chunks():
            bad += [start + row for row in nonfinite_rows(chunk, self.width)]
            start += len(chunk)
        if bad:
            raise not_finite(bad, self.tensor.name, self.tensor.file)


def not_finite(rows: list[int], name: str, file: str | None) -> errors.NumericsError:
    """Return the error that names rows which are not finite."""
    shown = ", ".join(map(str, rows[:ROWS_SHOWN]))
    more = f" and {len(rows) - ROWS_SHOWN} more" if len(rows) > ROWS_SHOWN else ""
    plural = "rows" if len(rows) > 1 else "row"
    return errors.build(
        errors.NumericsError,
        f"NaN or infinity in {plural} {shown}{more}",
        field=name,
        file=file,
        fix="use a sound copy of the weights; such rows would spread through the model",
    )
