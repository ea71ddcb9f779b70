"""A backend without a model: exact and tiny, for tests and for explaining."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.backends._contexts import ContextTree, Node

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["TableBackend"]


class TableBackend:
    """Logits from a function of the context, or from a seed.

    Without a function the logits of a context are normally distributed numbers from a generator
    seeded with a hash of `seed` and of all its ids: every context has its own row, always the
    same, with no table behind it.

    Rows are float64[rows]. A row is overwritten with NaN when the next item is asked for, so a
    caller that keeps rows beyond their time finds out.

    Args:
        rows: How many tokens there are.
        function: From a context (a tuple of ids) to its `rows` logits; left out, random ones.
        seed: Decides the random logits.
        scale: Their standard deviation, in nats. At 0 every token is as likely as every other.
        max_context: The longest context that may be asked for; no limit when left out.

    Attributes:
        calls: How many requests gave at least one row.
        evaluated: How many rows were given in all.

    Example:
        >>> backend = TableBackend(3, function=lambda context: [len(context), 0.0, 0.0])
        >>> node = backend.extend(backend.root([1]), 2)
        >>> [(at == node, row.tolist()) for at, row in backend.logits([node])]
        [(True, [2.0, 0.0, 0.0])]
    """

    def __init__(
        self,
        rows: int,
        function: Callable[[tuple[int, ...]], ArrayLike] | None = None,
        *,
        seed: int = 0,
        scale: float = 1.0,
        max_context: int | None = None,
    ) -> None:
        if rows < 1:
            raise errors.build(errors.InvalidValue, f"must be at least 1, got {rows}", field="rows")
        self._tree = ContextTree(tokens=rows, max_context=max_context)
        self._rows = rows
        self._function = function
        self._seed = seed
        self._scale = scale
        self.calls = 0
        self.evaluated = 0

    @property
    def rows(self) -> int:
        """How many tokens there are."""
        return self._rows

    @property
    def max_context(self) -> int | None:
        """The longest context that may be asked for."""
        return self._tree.max_context

    @property
    def nodes(self) -> int:
        """How many contexts live, those that only lead to others included."""
        return len(self._tree)

    def root(self, ids: Sequence[int]) -> int:
        """Return the node of a whole context; it may be empty."""
        return self._tree.root(ids)

    def extend(self, parent: int, token: int) -> int:
        """Return the node one token longer."""
        return self._tree.extend(parent, token)

    def logits(self, nodes: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield the row of every distinct node, shorter contexts first."""
        asked = sorted(self._tree.asked(nodes), key=lambda node: node.depth)
        return self._tree.hold_while(asked, self._rows_of(asked))

    def release(self, node: int) -> None:
        """Give up one claim to a node."""
        self._tree.release(node)

    def close(self) -> None:
        """Free everything."""
        self._tree.close()

    def row(self, context: Sequence[int]) -> NDArray[np.float64]:
        """Return the logits of a context, float64[rows], without counting: the oracle of tests."""
        ids = tuple(context)
        if self._function is None:
            text = ",".join(map(str, (self._seed, *ids))).encode()
            digest = hashlib.blake2b(text, digest_size=16).digest()
            generator = np.random.default_rng(int.from_bytes(digest, "little"))
            return self._scale * generator.standard_normal(self._rows)
        row = np.array(self._function(ids), dtype=np.float64)  # a copy: it is overwritten later
        if row.shape != (self._rows,):
            raise errors.build(
                errors.InvalidValue,
                f"gave shape {row.shape} for {ids}, not ({self._rows},)",
                field="function",
            )
        return row

    def _rows_of(self, asked: list[Node]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        self.calls += bool(asked)
        for node in asked:
            row = self.row(self._tree.ids(node))
            self.evaluated += 1
            yield node.handle, row
            row.fill(np.nan)
