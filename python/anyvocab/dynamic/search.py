"""The best rows of a very large output matrix, without a logit for each of them in memory.

A row's logit is `scale * (row . state + bias)`, capped where the model caps its logits. Both keep
the order of `row . state + bias` (what they round together stays apart here), so that is what is
searched by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.dynamic.output_rows import OutputRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BlockedSearch", "Found", "RowSearch", "recall"]

# Of a block in float32, in bytes: large enough that a call costs nothing beside it, small enough
# that rows which are stored in two bytes are still in the cache when they are multiplied.
BLOCK_BYTES = {"cpu": 8 << 20, "other": 256 << 20}
UNIT = 2.0**-24  # half the distance of float32 numbers at 1
SMALLEST = 2.0**-126  # a float32 product below it may be rounded to 0


@dataclass(frozen=True, eq=False)
class Found:
    """The best rows for each of some states.

    Attributes:
        ids: Their numbers, int64 (B, k), the best first, the lower of equals first; -1 where an
            approximate search found fewer.
        logits: Theirs, float64 (B, k); -inf where the id is -1.
        log_total: ln of the sum of exp(logit), float64 (B,), over what `over` says; None where it
            was not asked for.
        over: `rows`: all of them; `candidates`: those that an approximate search looked at.
    """

    ids: NDArray[np.int64]
    logits: NDArray[np.float64]
    log_total: NDArray[np.float64] | None
    over: Literal["rows", "candidates"]


class RowSearch(Protocol):
    """Finds the best rows of a matrix.

    Attributes:
        rows: The matrix.
        candidates: How many rows an approximate search gives exact logits; None for an exact one.
    """

    rows: OutputRows
    candidates: int | None

    def top(self, states: Any, k: int, *, total: bool = False) -> Found:
        """Return the `k` best rows for each state, (B, D); all where there are fewer."""
        ...


class BlockedSearch:
    """Exact search, a block of rows at a time.

    Exact: the rows are those with the largest logits in exact arithmetic, as far as float64 can
    tell. A pass in float32 keeps every row whose true logit can be among the best by the bound
    |error| <= n u / (1 - n u) * (|row| |state| + |bias|), u = 2**-24, which holds for any order of
    additions (Higham 2002, section 3.1); n = D + 3 counts D products, the bias and two roundings
    where the bound itself is added. Those few rows are then computed again in float64, each by
    itself, and put in order. So neither the size of a block nor the number of threads nor the
    device decides between two rows.

    `log_total` sums the float32 logits of the same pass in float64: each of its terms has the
    error above, and so, at most, has it.

    Memory: a block in float32, and its logits for B states.

    Args:
        rows: The output rows: a tensor (V, D), several to be read as one below the other, or
            :class:`OutputRows`, which also says what the model does to its logits.
        block_rows: How many rows are multiplied at once; by `BLOCK_BYTES` when left out.

    Raises:
        InvalidValue: There is no row, shapes do not fit, or `block_rows` is not positive.
        NumericsError: A row or its bias is not finite.

    >>> import torch
    >>> search = BlockedSearch(torch.eye(3))
    >>> found = search.top(torch.tensor([[0.0, 2.0, 1.0]]), 2, total=True)
    >>> found.ids.tolist(), found.logits.tolist()
    ([[1, 2]], [[2.0, 1.0]])
    """

    candidates: int | None = None

    def __init__(self, rows: Any, *, block_rows: int | None = None) -> None:
        self.rows = rows if isinstance(rows, OutputRows) else OutputRows(rows)
        if block_rows is None:
            size = BLOCK_BYTES["cpu" if self.rows.device.type == "cpu" else "other"]
            block_rows = max(1, size // (4 * self.rows.width))
        if block_rows < 1:
            raise errors.build(
                errors.InvalidValue, f"must be at least 1, got {block_rows}", field="block_rows"
            )
        self._blocks = [
            (start, rows, bias, self._error_of(rows, bias, start))
            for start, rows, bias in self.rows.blocks(block_rows)
        ]

    def _error_of(self, rows: Any, bias: Any, start: int) -> tuple[float, float]:
        """Return what a logit of a block may be off by: so much, times the state's length, more.

        Raises:
            NumericsError: A number is not finite.
        """
        torch = import_torch()
        lengths = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        level = lengths if bias is None else lengths + bias.double().abs()
        if not bool(torch.isfinite(level).all()):
            bad = start + int((~torch.isfinite(level)).nonzero()[0, 0])
            raise errors.build(
                errors.NumericsError,
                f"row {bad} holds a NaN or an infinity",
                field="rows",
                fix="predict or load the rows again",
            )
        terms = (self.rows.width + 3) * UNIT
        share = terms / (1 - terms)
        offset = 0.0 if bias is None else float(bias.abs().max())
        return share * float(lengths.max()), share * offset + self.rows.width * SMALLEST

    def top(self, states: Any, k: int, *, total: bool = False) -> Found:
        """Return the `k` best rows for each state, in one pass over the rows.

        Args:
            states: (B, D), on any device and of any type of numbers.
            k: How many; all rows where there are fewer, none for 0.
            total: Whether the logarithm of the sum over all rows is wanted, too.

        Raises:
            InvalidValue: `states` has another shape, or `k` is negative.
            NumericsError: A state is not finite.
        """
        torch = import_torch()
        if k < 0:
            raise errors.build(errors.InvalidValue, f"must be at least 0, got {k}", field="k")
        given = self.rows.checked(states)  # (B, D) float32, where the rows are
        k = min(k, len(self.rows))
        sums = _LogSums(len(given)) if total else None
        best = _Best(len(given), k)
        lengths = torch.linalg.vector_norm(given, dim=1, dtype=torch.float64)  # (B,)
        with torch.inference_mode():
            for start, values, (slope, offset) in self._products(given):
                peak = values.amax(dim=1)  # (B,)
                if k:
                    best.add(values, peak, start, (lengths * slope + offset).float())
                if sums is not None:
                    sums.add(self.rows.shaped(values), self.rows.shaped(peak))
        log_total = None if sums is None else sums.logs()
        ids, logits = best.ordered(self.rows, given)
        return Found(ids, logits, log_total, "rows")

    def logits(self, state: Any) -> NDArray[np.float32]:
        """Return the logit of every row for one state, (D,), as float32 (V,)."""
        torch = import_torch()
        given = self.rows.checked(state[None])
        found = np.empty(len(self.rows), dtype=np.float32)
        with torch.inference_mode():
            for start, values, _ in self._products(given):
                found[start : start + values.shape[1]] = self.rows.shaped(values[0]).cpu().numpy()
        return found

    def _products(self, states: Any) -> Iterator[tuple[int, Any, tuple[float, float]]]:
        """Yield the first id of each block, its products with the bias, (B, n), and their error."""
        torch = import_torch()
        most = max(len(rows) for _, rows, _, _ in self._blocks)
        space = None  # for rows in float32; made anew for each block it would cost more than them
        with _in_full_precision():
            for start, rows, bias, error in self._blocks:
                if rows.dtype != torch.float32:
                    if space is None:
                        space = torch.empty((most, self.rows.width), device=rows.device)
                    rows = space[: len(rows)].copy_(rows)
                values = states @ rows.mT  # (B, n)
                yield start, values if bias is None else values + bias, error


class _Best:
    """The rows that can be among the best, while blocks go by."""

    def __init__(self, states: int, k: int) -> None:
        self._k = k
        self._states = states
        self._lows: Any = None  # (B, k): the k largest lower bounds of logits so far
        self._kept: list[tuple[Any, Any, Any]] = []  # states, ids, upper bounds of logits

    def add(self, values: Any, peak: Any, start: int, error: Any) -> None:
        """Look at a block: values (B, n), the largest of each state and how far all may be off."""
        torch = import_torch()
        full = self._lows is not None and self._lows.shape[1] == self._k
        if full and not bool((peak + error >= self._lows[:, -1]).any()):
            return
        here = values.topk(min(self._k, values.shape[1]), dim=1).values - error[:, None]
        seen = here if self._lows is None else torch.cat((self._lows, here), dim=1)
        self._lows = seen.topk(min(self._k, seen.shape[1]), dim=1).values
        high = values + error[:, None]
        # Fewer than k so far: then every row is still among the best.
        floor = self._lows[:, -1:] if self._lows.shape[1] == self._k else high.amin(1, keepdim=True)
        which, place = (high >= floor).nonzero(as_tuple=True)
        self._kept.append((which, place + start, high[which, place]))

    def ordered(
        self, rows: OutputRows, states: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the best rows of each state and their logits, computed in float64."""
        ids = np.empty((self._states, self._k), dtype=np.int64)
        logits = np.empty((self._states, self._k), dtype=np.float64)
        if not self._k or not self._states:
            return ids, logits
        torch = import_torch()
        which, places, high = (torch.cat(one) for one in zip(*self._kept, strict=True))
        kept = high >= self._lows[which, -1]
        which, places = which[kept].cpu().numpy(), places[kept].cpu().numpy()
        for state in range(self._states):
            mine = np.sort(places[which == state])
            found = rows.products(mine, states[state])
            order = np.argsort(-found, kind="stable")[: self._k]  # lower ids first among equals
            ids[state] = mine[order]
            logits[state] = rows.shaped(found[order])
        return ids, logits


class _LogSums:
    """ln of sums of exponentials, block by block, the maximum subtracted."""

    def __init__(self, states: int) -> None:
        torch = import_torch()
        self._peak = torch.full((states,), -torch.inf, dtype=torch.float32)
        self._sum = torch.zeros(states, dtype=torch.float64)

    def add(self, values: Any, peak: Any) -> None:
        torch = import_torch()
        if self._peak.device != values.device:
            self._peak, self._sum = self._peak.to(values.device), self._sum.to(values.device)
        top = torch.maximum(self._peak, peak)
        scaled = self._sum * (self._peak - top).double().exp()
        here = (values - top[:, None]).exp_().sum(dim=1, dtype=torch.float64)
        self._peak, self._sum = top, scaled + here

    def logs(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (self._sum.log() + self._peak.double()).cpu().numpy()
        return found


def recall(search: RowSearch, exact: RowSearch, states: Any, k: int) -> float:
    """Return the share of the `k` best rows that a search finds, over all states.

    Args:
        search: The search that is judged.
        exact: One that finds all.
        states: (B, D), B positive.
        k: How many rows, at least one.
    """
    if k < 1 or not len(states):
        raise errors.build(
            errors.InvalidValue,
            f"nothing to compare: {len(states)} states, {k} rows",
            field="states" if k >= 1 else "k",
            fix="give at least one state and one row",
        )
    right = exact.top(states, k).ids
    found = search.top(states, k).ids
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, right, strict=True))
    return hits / right.size


@contextmanager
def _in_full_precision() -> Iterator[None]:
    """Let float32 products be float32 products: torch may otherwise use TF32 or bfloat16."""
    torch = import_torch()
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
