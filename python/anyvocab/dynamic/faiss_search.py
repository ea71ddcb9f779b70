"""An approximate search of a very large output matrix, by faiss (the extra `faiss`)."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.dynamic.output_rows import OutputRows
from anyvocab.dynamic.search import Found

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FaissSearch", "Storage"]

Storage = Literal["float32", "float16", "int8"]
SAMPLE = 64  # rows for each cluster that k-means sees: faiss wants 39 at least
BLOCK = 1 << 16  # rows that are added at once


class FaissSearch:
    """Approximate search: an inverted file over clusters of the rows, by inner product.

    The index proposes `candidates` rows for a state; theirs are exact logits, computed from the
    rows themselves in float64, and the best of them are returned. What the index does not propose
    is not found: :func:`anyvocab.dynamic.search.recall` measures how often that happens.
    `log_total` is over the candidates alone, and so a lower bound of the sum over all rows.

    A bias is one more number of a row, and 1 of a state. The index copies the rows in the type
    `storage`; it is built on the CPU.

    Args:
        rows: As for :class:`anyvocab.dynamic.search.BlockedSearch`.
        lists: How many clusters; 4 times the square root of the number of rows when left out, and
            never so many that k-means sees fewer than `SAMPLE` rows for each.
        probes: How many clusters are looked at; a quarter of them when left out.
        candidates: How many rows get exact logits, at most.
        storage: How the index keeps rows.
        seed: Of the sample that k-means sees, and of its start.

    Attributes:
        rows: The matrix.
        lists: See above.
        probes: See above; may be set again.
        candidates: See above.

    Raises:
        MissingExtra: faiss is not installed.
        InvalidValue: A number is not positive, a choice is none, or shapes do not fit.
        NumericsError: A row is not finite.
    """

    def __init__(
        self,
        rows: Any,
        *,
        lists: int | None = None,
        probes: int | None = None,
        candidates: int = 200,
        storage: Storage = "float32",
        seed: int = 0,
    ) -> None:
        self.rows = rows if isinstance(rows, OutputRows) else OutputRows(rows)
        if storage not in get_args(Storage):
            raise errors.build(
                errors.InvalidValue,
                f"{storage!r} is no choice",
                field="storage",
                fix=", ".join(get_args(Storage)),
            )
        most = max(1, len(self.rows) // SAMPLE)
        self.lists = min(most, round(4 * len(self.rows) ** 0.5)) if lists is None else lists
        self.probes = max(1, self.lists // 4) if probes is None else probes
        self.candidates: int | None = candidates
        for field, value in (
            ("lists", self.lists),
            ("probes", self.probes),
            ("candidates", candidates),
        ):
            if value < 1:
                raise errors.build(
                    errors.InvalidValue, f"must be at least 1, got {value}", field=field
                )
        if self.lists > len(self.rows):
            raise errors.build(
                errors.InvalidValue,
                f"{self.lists} clusters of {len(self.rows)} rows",
                field="lists",
                fix="leave it out",
            )
        self._most = candidates
        self._index = self._built(_import_faiss(), storage, seed)

    def _built(self, faiss: ModuleType, storage: Storage, seed: int) -> Any:
        """Return the index of all rows.

        Raises:
            NumericsError: A row is not finite.
        """
        width = self.rows.width + (self.rows.bias is not None)
        coarse = faiss.IndexFlatIP(width)
        inner = faiss.METRIC_INNER_PRODUCT
        if storage == "float32":
            index = faiss.IndexIVFFlat(coarse, width, self.lists, inner)
        else:
            scalar = faiss.ScalarQuantizer
            kind = scalar.QT_fp16 if storage == "float16" else scalar.QT_8bit
            index = faiss.IndexIVFScalarQuantizer(coarse, width, self.lists, kind, inner)
        index.cp.seed = seed + 1  # faiss takes no 0
        index.cp.max_points_per_centroid = SAMPLE
        index.cp.min_points_per_centroid = 1  # it would print a warning
        sample = np.arange(len(self.rows))
        if len(sample) > SAMPLE * self.lists:
            generator = np.random.default_rng(seed)
            sample = np.sort(generator.choice(sample, SAMPLE * self.lists, replace=False))
        index.train(self._vectors(sample))
        for start in range(0, len(self.rows), BLOCK):
            index.add(self._vectors(np.arange(start, min(start + BLOCK, len(self.rows)))))
        return index

    def _vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows as the index sees them, float32 (n, D), or (n, D + 1) with their bias."""
        found = self.rows.take(ids).cpu().numpy()
        if self.rows.bias is not None:
            found = np.concatenate((found, self.rows.bias_of(ids)[:, None]), axis=1)
        if not np.isfinite(found).all():
            bad = ids[int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])]
            raise errors.build(
                errors.NumericsError,
                f"row {bad} holds a NaN or an infinity",
                field="rows",
                fix="predict or load the rows again",
            )
        vectors: NDArray[np.float32] = np.ascontiguousarray(found)
        return vectors

    def top(self, states: Any, k: int, *, total: bool = False) -> Found:
        """Return the `k` best of the candidates for each state.

        Args:
            states: (B, D).
            k: How many. Where it is more than `candidates`, so many get exact logits.
            total: Whether the logarithm of the sum over the candidates is wanted, too.

        Raises:
            InvalidValue: `states` has another shape, or `k` is negative.
            NumericsError: A state is not finite.
        """
        if k < 0:
            raise errors.build(errors.InvalidValue, f"must be at least 0, got {k}", field="k")
        given = self.rows.checked(states)
        k = min(k, len(self.rows))
        query = given.cpu().numpy()
        if self.rows.bias is not None:
            query = np.concatenate((query, np.ones((len(query), 1), np.float32)), axis=1)
        ids = np.full((len(query), k), -1, dtype=np.int64)
        logits = np.full((len(query), k), -np.inf)
        totals = np.full(len(query), -np.inf)
        most = min(max(self._most, k), len(self.rows))
        if len(query):
            self._index.nprobe = self.probes
            proposed = self._index.search(np.ascontiguousarray(query), most)[1]
            for state, row in enumerate(proposed):
                mine = np.sort(row[row >= 0])
                found = self.rows.products(mine, given[state])
                order = np.argsort(-found, kind="stable")
                made = self.rows.shaped(found[order])
                kept = min(k, len(order))
                ids[state, :kept] = mine[order[:kept]]
                logits[state, :kept] = made[:kept]
                if len(made):
                    totals[state] = made[0] + np.log(np.exp(made - made[0]).sum())
        return Found(ids, logits, totals if total else None, "candidates")


def _import_faiss() -> ModuleType:
    """Return faiss.

    Raises:
        MissingExtra: It is not installed.
    """
    import_torch()  # first: both bring an OpenMP, and torch's has to be the one that is in use
    try:
        import faiss
    except ImportError as error:
        found = "faiss is not installed, and an approximate search needs it"
        raise errors.missing_extra(
            found, field="search", extra="faiss", otherwise=', or use search="exact"'
        ) from error
    module: ModuleType = faiss
    return module
