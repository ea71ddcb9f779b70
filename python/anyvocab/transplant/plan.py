"""Plans: how every row of the new matrices is made from the old ones, before any is made.

A row is a combination of source rows (sparse), plus a dense part where a method predicts one, times
a scale, plus multiples of a few directions. A plan is small, can be saved, explained and applied to
every checkpoint of a family.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from anyvocab import errors
from anyvocab.transplant.dense import Made
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.ragged import spans
from anyvocab.transplant.weights.matrix import nonfinite_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "SIDES",
    "Combination",
    "Explanation",
    "Matrix",
    "Plan",
    "Shifted",
    "Side",
    "SidePlan",
    "apply",
]

Side = Literal["input", "output"]
SIDES: tuple[Side, ...] = ("input", "output")
CHUNK_NUMBERS = 1 << 24  # float32 numbers of new rows that exist at once: 64 MiB


class Matrix(Protocol):
    """A vocabulary matrix of a checkpoint, read by rows."""

    @property
    def rows(self) -> int:
        """How many rows it has."""
        ...

    @property
    def width(self) -> int:
        """How long a row is."""
        ...

    @property
    def dtype(self) -> Any:
        """The torch type of its numbers."""
        ...

    def take(self, ids: NDArray[np.integer[Any]]) -> Tensor:
        """Return the rows `ids`, (n, D), in the stored type."""
        ...

    def chunk(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to `stop`, (stop - start, D), in the stored type."""
        ...


@dataclass(frozen=True, eq=False)
class Combination:
    """A sparse matrix in compressed rows: row `i` combines `columns[indptr[i]:indptr[i + 1]]`.

    Attributes:
        indptr: int64[n + 1].
        columns: int32[nnz]: source ids.
        weights: float32[nnz].
    """

    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not len(self.columns) == len(self.weights) == int(self.indptr[-1]):
            raise errors.build(
                errors.InvalidValue,
                f"{len(self.columns)} columns, {len(self.weights)} weights, "
                f"{int(self.indptr[-1])} announced",
                field="combination",
                fix="give one weight for each column",
            )
        if not np.isfinite(self.weights).all():
            row = int(np.searchsorted(self.indptr, np.argmin(np.isfinite(self.weights)), "right"))
            raise errors.build(
                errors.InvalidValue, f"row {row - 1} has a weight that is not finite", field="plan"
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.indptr) - 1

    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the columns and weights of a row."""
        span = slice(int(self.indptr[i]), int(self.indptr[i + 1]))
        return self.columns[span], self.weights[span]

    def lengths(self) -> NDArray[np.int64]:
        """Return how many source rows each row combines, int64[n]."""
        return np.diff(self.indptr)

    @classmethod
    def empty(cls, rows: int) -> Combination:
        """Return `rows` rows of nothing."""
        return cls(
            np.zeros(rows + 1, dtype=np.int64),
            np.zeros(0, dtype=np.int32),
            np.zeros(0, dtype=np.float32),
        )

    @classmethod
    def single(cls, columns: Sequence[int] | NDArray[np.integer[Any]]) -> Combination:
        """Return rows that each copy one source row."""
        taken = np.asarray(columns, dtype=np.int32)
        return cls(
            np.arange(len(taken) + 1, dtype=np.int64), taken, np.ones(len(taken), np.float32)
        )

    @classmethod
    def from_rows(
        cls, rows: Sequence[tuple[Sequence[int] | NDArray[Any], Sequence[float] | NDArray[Any]]]
    ) -> Combination:
        """Return the combination of a list of (columns, weights)."""
        lengths = [len(columns) for columns, _ in rows]
        flat = [np.asarray(columns, dtype=np.int32) for columns, _ in rows]
        heavy = [np.asarray(weights, dtype=np.float32) for _, weights in rows]
        return cls(
            np.cumsum([0, *lengths], dtype=np.int64),
            np.concatenate(flat) if flat else np.zeros(0, np.int32),
            np.concatenate(heavy) if heavy else np.zeros(0, np.float32),
        )

    @classmethod
    def scattered(cls, rows: int, parts: Sequence[tuple[Any, Combination]]) -> Combination:
        """Return `rows` rows, those `ids` of each `(ids, combination)` taken from it in order.

        Rows that no part names are empty; a row that two parts name is the later part's.
        """
        part_of = np.full(rows, -1, dtype=np.int64)
        row_of = np.zeros(rows, dtype=np.int64)
        for number, (ids, part) in enumerate(parts):
            part_of[ids], row_of[ids] = number, np.arange(len(part))
        lengths = np.zeros(rows, dtype=np.int64)
        for number, (_, part) in enumerate(parts):
            mine = part_of == number
            lengths[mine] = part.lengths()[row_of[mine]]
        indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        columns = np.zeros(int(indptr[-1]), dtype=np.int32)
        weights = np.zeros(int(indptr[-1]), dtype=np.float32)
        for number, (_, part) in enumerate(parts):
            mine = np.flatnonzero(part_of == number)
            source = spans(part.indptr[row_of[mine]], lengths[mine])
            target = spans(indptr[mine], lengths[mine])
            columns[target], weights[target] = part.columns[source], part.weights[source]
        return cls(indptr, columns, weights)

    def select(self, rows: NDArray[np.integer[Any]] | slice) -> Combination:
        """Return some of the rows, in the order given."""
        chosen = np.arange(len(self))[rows]
        lengths = self.lengths()[chosen]
        at = spans(self.indptr[chosen], lengths)
        indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        return Combination(indptr, self.columns[at], self.weights[at])

    def scaled(self, factor: float) -> Combination:
        """Return the rows with every weight multiplied."""
        return Combination(self.indptr, self.columns, (self.weights * factor).astype(np.float32))

    def blend(self, other: Combination, share: float) -> Combination:
        """Return `(1 - share) * self + share * other`; a row that one lacks is the other's.

        Columns that both have are kept twice: their weights add when the rows are made.
        """
        mine, theirs = self.lengths(), other.lengths()
        left = np.where(theirs > 0, 1.0 - share, 1.0).astype(np.float32)
        right = np.where(mine > 0, share, 1.0).astype(np.float32)
        indptr = np.concatenate(([0], np.cumsum(mine + theirs))).astype(np.int64)
        columns = np.zeros(int(indptr[-1]), dtype=np.int32)
        weights = np.zeros(int(indptr[-1]), dtype=np.float32)
        first, second = spans(indptr[:-1], mine), spans(indptr[:-1] + mine, theirs)
        columns[first], columns[second] = self.columns, other.columns
        weights[first] = self.weights * np.repeat(left, mine)
        weights[second] = other.weights * np.repeat(right, theirs)
        return Combination(indptr, columns, weights)

    def combine(self, matrix: Matrix) -> Tensor:
        """Return the rows made of `matrix`, float32 (n, D); rows of nothing are zero."""
        import torch
        from torch.nn.functional import embedding_bag

        if not len(self.columns):
            return torch.zeros(len(self), matrix.width)
        used, places = np.unique(self.columns, return_inverse=True)
        rows = matrix.take(used).float()  # (U, D)
        return embedding_bag(
            torch.from_numpy(places.astype(np.int64)),
            rows,
            torch.from_numpy(self.indptr),
            mode="sum",
            per_sample_weights=torch.from_numpy(self.weights),
            include_last_offset=True,
        )


@dataclass(frozen=True, eq=False)
class Shifted:
    """Combinations of source rows, plus multiples of a few directions.

    Attributes:
        combination: n rows.
        directions: float32[r, D].
        amounts: float32[n, r]; zeros for a row of nothing.
    """

    combination: Combination
    directions: NDArray[np.float32]
    amounts: NDArray[np.float32]

    def __post_init__(self) -> None:
        wanted = (len(self.combination), len(self.directions))
        if self.amounts.shape != wanted:
            raise errors.build(
                errors.InvalidValue,
                f"amounts have shape {self.amounts.shape}, not {wanted}",
                field="plan",
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.combination)

    def lengths(self) -> NDArray[np.int64]:
        """Return how many source rows each row combines, int64[n]."""
        return self.combination.lengths()

    def combine(self, matrix: Matrix) -> Tensor:
        """Return the rows made of `matrix`, float32 (n, D)."""
        import torch

        shift = torch.from_numpy(self.amounts) @ torch.from_numpy(self.directions)
        return self.combination.combine(matrix) + shift


@dataclass(frozen=True)
class Explanation:
    """Where a row comes from.

    Attributes:
        origin: How it is made.
        sources: Source ids and their weights, heaviest first.
        dense: Whether a dense part is added.
        scale: What the sum is multiplied by.
        shifts: Multiples of the plan's directions that are added.
    """

    origin: Origin
    sources: tuple[tuple[int, float], ...]
    dense: bool
    scale: float
    shifts: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SidePlan:
    """One matrix: `scale * (combination of source rows + dense) + amounts @ directions`.

    Attributes:
        origin: uint8[R]: an :class:`Origin` for every row, padding included.
        combination: R rows of source ids and weights.
        dense_ids: int64[m]: rows with a dense part, ascending.
        dense_rows: float32[m, D], or what makes them.
        scale: float32[R], or None for 1.
        directions: float32[r, D], or None.
        amounts: float32[R, r], or None.
        bias: float32[R], the output bias where the model has one, or None.
        notes: What was done, in words, for the report.
    """

    origin: NDArray[np.uint8]
    combination: Combination
    dense_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    dense_rows: NDArray[np.float32] | Made = field(
        default_factory=lambda: np.zeros((0, 0), np.float32)
    )
    scale: NDArray[np.float32] | None = None
    directions: NDArray[np.float32] | None = None
    amounts: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.origin) != len(self.combination):
            raise errors.build(
                errors.InvalidValue,
                f"{len(self.origin)} origins for {len(self.combination)} rows",
                field="plan",
            )
        if (self.directions is None) != (self.amounts is None):
            raise errors.build(
                errors.InvalidValue, "directions and amounts go together", field="plan"
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.origin)

    def dense(self, places: NDArray[np.integer[Any]] | None = None) -> Tensor:
        """Return dense parts by their place in `dense_ids`, float32 (n, D); all when left out."""
        import torch

        chosen = np.arange(len(self.dense_ids)) if places is None else places
        if isinstance(self.dense_rows, np.ndarray):
            return torch.from_numpy(self.dense_rows[chosen])
        return self.dense_rows.take(chosen)

    def select(self, ids: NDArray[np.int64]) -> SidePlan:
        """Return the plan of some rows alone, `ids` ascending."""
        places = np.flatnonzero(np.isin(self.dense_ids, ids))
        return replace(
            self,
            origin=self.origin[ids],
            combination=self.combination.select(ids),
            dense_ids=np.searchsorted(ids, self.dense_ids[places]),
            dense_rows=self.dense(places).numpy(),
            scale=None if self.scale is None else self.scale[ids],
            amounts=None if self.amounts is None else self.amounts[ids],
            bias=None if self.bias is None else self.bias[ids],
        )

    def verbatim(self) -> NDArray[np.bool_]:
        """Return which rows are one source row bit for bit, bool[R]."""
        single = self.combination.lengths() == 1
        firsts = self.combination.indptr[:-1][single]
        same = np.zeros(len(self), dtype=np.bool_)
        same[single] = self.combination.weights[firsts] == 1.0
        same[self.dense_ids] = False
        if self.scale is not None:
            same &= self.scale == 1.0
        if self.amounts is not None:
            same &= (self.amounts == 0.0).all(axis=1)
        return same

    def explain(self, id: int) -> Explanation:
        """Return where row `id` comes from."""
        columns, weights = self.combination.row(id)
        order = np.argsort(-np.abs(weights), kind="stable")
        return Explanation(
            Origin(int(self.origin[id])),
            tuple((int(columns[i]), float(weights[i])) for i in order),
            _holds(self.dense_ids, id),
            1.0 if self.scale is None else float(self.scale[id]),
            () if self.amounts is None else tuple(map(float, self.amounts[id])),
        )

    def heaviest(self, most: int) -> Combination:
        """Return at most so many source rows of every row, heaviest first, earlier before later."""
        columns, weights = self.combination.columns, self.combination.weights
        lengths = self.combination.lengths()
        row = np.repeat(np.arange(len(self)), lengths)
        size = np.abs(weights)
        if ((size[1:] > size[:-1]) & (row[1:] == row[:-1])).any():  # mostly they are in order
            order = np.lexsort((-size, row))  # stable
            columns, weights = columns[order], weights[order]
        kept = np.minimum(lengths, most)
        at = spans(self.combination.indptr[:-1], kept)
        indptr = np.concatenate(([0], np.cumsum(kept))).astype(np.int64)
        return Combination(indptr, columns[at], weights[at])

    def counts(self) -> dict[str, int]:
        """Return how many rows have each origin, by its name in lower case."""
        found = np.bincount(self.origin, minlength=len(Origin)).tolist()
        return {origin.name.lower(): found[origin] for origin in Origin if found[origin]}

    def shifted(
        self, directions: NDArray[np.float32], amounts: NDArray[np.float32], *, note: str
    ) -> SidePlan:
        """Return the plan with multiples of more directions added."""
        if self.directions is not None and self.amounts is not None:
            directions = np.concatenate((self.directions, directions))
            amounts = np.concatenate((self.amounts, amounts), axis=1)
        return replace(self, directions=directions, amounts=amounts, notes=(*self.notes, note))

    def scaled(self, scale: NDArray[np.float32], *, note: str) -> SidePlan:
        """Return the plan with every row's sum multiplied."""
        scale = scale if self.scale is None else self.scale * scale
        return replace(self, scale=scale.astype(np.float32), notes=(*self.notes, note))


def _holds(ascending: NDArray[np.int64], value: int) -> bool:
    at = int(np.searchsorted(ascending, value))
    return at < len(ascending) and int(ascending[at]) == value


@dataclass(frozen=True, eq=False)
class Plan:
    """Both sides of a swap.

    Attributes:
        input: The rows of the input matrix.
        output: Those of the output matrix; None where the two are tied.
        strategy: What made them: side to the strategy's name.
    """

    input: SidePlan
    output: SidePlan | None
    strategy: dict[str, str] = field(default_factory=dict)

    @property
    def tied(self) -> bool:
        """Whether one matrix serves both sides."""
        return self.output is None

    def side(self, side: Side) -> SidePlan:
        """Return the plan of a side; the input's for both where they are tied."""
        return self.input if side == "input" or self.output is None else self.output


def apply(plan: SidePlan, matrix: Matrix, *, chunk_rows: int | None = None) -> Iterator[Tensor]:
    """Yield the new rows in order, in the matrix's own type, a chunk at a time.

    Rows that the plan copies are the source's bit for bit. Peak memory is about a chunk and the
    source rows it combines.

    Raises:
        InvalidValue: A row is not finite; the message names it.
    """
    import torch

    step = chunk_rows or max(1, CHUNK_NUMBERS // max(1, matrix.width))
    verbatim = plan.verbatim()
    for start in range(0, len(plan), step):
        stop = min(len(plan), start + step)
        part = plan.combination.select(slice(start, stop))
        same = verbatim[start:stop]
        if same.all():
            yield matrix.take(part.columns)
            continue
        rows = part.combine(matrix)  # (n, D), float32
        dense = np.flatnonzero((plan.dense_ids >= start) & (plan.dense_ids < stop))
        if len(dense):
            rows[torch.from_numpy(plan.dense_ids[dense] - start)] += plan.dense(dense)
        if plan.scale is not None:
            rows *= torch.from_numpy(plan.scale[start:stop])[:, None]
        if plan.directions is not None and plan.amounts is not None:
            rows += torch.from_numpy(plan.amounts[start:stop]) @ torch.from_numpy(plan.directions)
        made = rows.to(matrix.dtype)
        bad = nonfinite_rows(made, matrix.width)
        if bad:
            row = start + bad[0]
            raise errors.build(
                errors.InvalidValue,
                f"row {row} is not finite in {matrix.dtype}",
                field="plan",
                fix="check the source's rows and the strategy's options",
            )
        if same.any():
            made[torch.from_numpy(same)] = matrix.take(part.select(np.flatnonzero(same)).columns)
        yield made
