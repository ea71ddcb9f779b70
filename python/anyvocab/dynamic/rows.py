"""Rows of tokens that no vocabulary has: made from their bytes, and kept for the next batch."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from anyvocab import errors
from anyvocab.hypernet.features import pieces_of
from anyvocab.hypernet.rows import Rows

if TYPE_CHECKING:
    from torch import Tensor

    from anyvocab.hypernet import Hypernet
    from anyvocab.hypernet.network import Use
    from anyvocab.hypernet.predict import SourceModel

__all__ = ["CACHE_BYTES", "HypernetRows", "MeanRows", "RowCache", "RowMaker", "row_maker"]

CACHE_BYTES = 256 << 20  # of rows, unless said otherwise
_FIRST_SLOTS = 256


class RowMaker(Protocol):
    """Makes the rows of tokens. A row depends on the token's bytes alone, so it can be kept."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def __call__(self, tokens: Sequence[bytes]) -> Rows:
        """Return the rows of tokens: input (n, D), and output and bias where the model has them.

        Args:
            tokens: Byte strings, none of them empty.
        """
        ...


class MeanRows:
    """The mean of the rows of a token's pieces, which are those of the model's own tokenizer.

    A byte that the model has no token for is left out; a token of such bytes alone has the mean of
    all rows.
    """

    name = "mean"

    def __init__(self, source: SourceModel) -> None:
        """Keep a model's tokenizer and its matrices, which are not copied."""
        self._source = source

    def __call__(self, tokens: Sequence[bytes]) -> Rows:
        """Return the rows, as of :class:`RowMaker`, float32, where the matrices are."""
        import torch

        rows = self._source.rows
        found = pieces_of(self._source.tokenizer, tokens, rows=len(rows))
        known = [[piece for piece in pieces if piece < len(rows)] for pieces in found]
        lengths = np.fromiter(map(len, known), np.int64, len(known))
        flat = np.fromiter((piece for one in known for piece in one), np.int64, lengths.sum())
        device = rows.input.device
        pieces = torch.from_numpy(flat).to(device)
        owner = torch.from_numpy(np.repeat(np.arange(len(known)), lengths)).to(device)
        counts = torch.from_numpy(lengths).to(device)

        def mean(matrix: Tensor) -> Tensor:
            made = torch.zeros(len(known), *matrix.shape[1:], device=device)
            made.index_add_(0, owner, matrix[pieces].float())
            shape = (-1,) + (1,) * (made.dim() - 1)
            made /= counts.clamp(min=1).view(shape)
            if bool((counts == 0).any()):
                made[counts == 0] = matrix.float().mean(dim=0)
            return made

        with torch.no_grad():
            return Rows(rows.input, rows.output, rows.bias).each(mean)


class HypernetRows:
    """What a hypernetwork predicts.

    A network that is told what vocabulary a token is in is told the model's own: rows do not
    depend on the batch.
    """

    name = "hypernet"

    def __init__(
        self,
        hypernet: Hypernet,
        source: SourceModel,
        *,
        language: str | None = None,
        use: Use = "merged",
        device: str | None = None,
    ) -> None:
        """Keep a hypernetwork and the model that it was made for.

        Args:
            hypernet: The hypernetwork.
            source: The model's tokenizer and matrices.
            language: For a network that tells languages apart.
            use: Where the rows will stand: among the model's own, for which a network may have a
                head of its own, or in a `vocabulary` whose every row is predicted.
            device: Where the network runs; where it is when left out.

        Raises:
            InvalidValue: It was made for another vocabulary or other matrices.
        """
        from pathlib import Path

        from anyvocab.hypernet.folder import check_source
        from anyvocab.transplant.files import vocabulary_digest
        from anyvocab.transplant.identity import token_table

        digest = vocabulary_digest(source.tokenizer.vocabulary)
        check_source(hypernet.card, digest, hypernet.folder or Path())
        self._hypernet, self._source = hypernet, source
        self._language, self._use, self._device = language, use, device
        self._around: list[bytes] | None = None
        if getattr(hypernet.network.config, "features", 0):
            self._around = [token for token in token_table(source.tokenizer.vocabulary) if token]
        self([b"a"])  # what does not fit is refused now

    def __call__(self, tokens: Sequence[bytes]) -> Rows:
        """Return the rows, as of :class:`RowMaker`, float32, on the CPU."""
        from anyvocab.hypernet.predict import Predictions

        made = Predictions(
            self._hypernet.network,
            self._hypernet.card,
            self._source,
            tokens,
            vocabulary=self._around,
            folder=self._hypernet.folder,
            language=self._language,
            use=self._use,
            device=self._device,
        )
        return made.rows()


def row_maker(
    rows: str | os.PathLike[str] | Hypernet | RowMaker,
    source: SourceModel,
    *,
    model: str | None = None,
    language: str | None = None,
    use: Use = "merged",
    device: str | None = None,
) -> RowMaker:
    """Return what makes rows, as a caller names it.

    Args:
        rows: `"mean"`; `"hypernet"`: the one that lies in the model's folder; `"auto"`: that, or
            the mean where there is none; a hypernetwork or its folder; or a maker.
        source: The model's tokenizer and matrices.
        model: The model's folder, hub id or `pico:NAME`; None for one that has no folder.
        language: For a hypernetwork that tells languages apart.
        use: Where its rows will stand: see :class:`HypernetRows`.
        device: Where a hypernetwork runs.

    Raises:
        SourceNotFound: There is no hypernetwork where one is asked for.
        InvalidValue: It was made for another model.
    """
    from anyvocab.hypernet import Hypernet

    if rows == "mean":
        return MeanRows(source)
    if rows in ("auto", "hypernet"):
        if model is None:
            if rows == "auto":
                return MeanRows(source)
            raise errors.build(
                errors.InvalidValue,
                "a model object has no folder with a hypernetwork in it",
                field="rows",
                fix='give the hypernetwork or its folder, or rows="mean"',
            )
        try:
            rows = Hypernet.load(model, device=device)
        except errors.SourceNotFound:
            if rows == "auto":
                return MeanRows(source)
            raise
    elif isinstance(rows, str | os.PathLike):
        rows = Hypernet.load(rows, device=device)
    if isinstance(rows, Hypernet):
        return HypernetRows(rows, source, language=language, use=use, device=device)
    return rows


class RowCache:
    """Rows by their tokens' bytes: the most recently used ones are kept, up to a number of bytes.

    What is asked for at once is always given, also when it does not fit; the most recent part of it
    stays. Safe to share between threads.

    Attributes:
        make: What makes rows.
        max_bytes: How many bytes of rows are kept at most.
        hits: Tokens that were found, over all calls; equal ones of a call count once.
        misses: Tokens whose rows had to be made.
        evictions: Rows that had to go.

    >>> import anyvocab as av
    >>> from anyvocab.dynamic import MeanRows, RowCache
    >>> from anyvocab.hypernet.predict import SourceModel
    >>> cache = RowCache(MeanRows(SourceModel.open("pico:code-2k")), max_bytes=1 << 20)
    >>> tuple(cache.rows([b" tokenizer", b" tokenizes"]).input.shape)
    (2, 192)
    >>> cache.hits, cache.misses, len(cache)
    (0, 2, 2)
    """

    def __init__(
        self,
        make: RowMaker,
        *,
        max_bytes: int = CACHE_BYTES,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """Begin with nothing.

        Args:
            make: What makes rows.
            max_bytes: How many bytes of rows are kept at most; 0 keeps none.
            device: Where they are kept and given; as they are made when left out.
            dtype: As what; as they are made when left out.

        Raises:
            InvalidValue: `max_bytes` is negative.
        """
        if max_bytes < 0:
            raise errors.build(
                errors.InvalidValue, f"must be at least 0, got {max_bytes}", field="max_bytes"
            )
        self.make, self.max_bytes = make, max_bytes
        self.hits = self.misses = self.evictions = 0
        self._device, self._dtype = device, dtype
        self._slots: OrderedDict[bytes, int] = OrderedDict()  # least recently used first
        self._free: list[int] = []
        self._kept: Rows | None = None  # a row for each slot
        self._capacity: int | None = None  # known when the first rows are
        self._lock = Lock()

    def __len__(self) -> int:
        """Return how many rows are kept."""
        return len(self._slots)

    def __contains__(self, token: bytes) -> bool:
        """Return whether a token's rows are kept; this is no use of them."""
        return token in self._slots

    def __repr__(self) -> str:
        return (
            f"RowCache({self.make.name!r}, {len(self)} rows, {self.nbytes} of {self.max_bytes} "
            f"bytes, hit rate {self.hit_rate:.3f})"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the rows take, free slots included; never over `max_bytes`."""
        if self._kept is None:
            return 0
        return sum(one.nbytes for one in self._kept.parts if one is not None)

    @property
    def hit_rate(self) -> float:
        """The share of tokens that were found; 0 before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0

    def clear(self) -> None:
        """Forget all rows, as one must when the model's matrices change. Counts stay."""
        with self._lock:
            self._slots.clear()
            self._free.clear()
            self._kept = None
            self._capacity = None

    def rows(self, tokens: Sequence[bytes]) -> Rows:
        """Return the rows of tokens, in their order; equal tokens have equal rows.

        Args:
            tokens: Byte strings, none of them empty.
        """
        with self._lock:
            return self._rows(tokens)

    def _rows(self, tokens: Sequence[bytes]) -> Rows:
        import torch

        distinct = list(dict.fromkeys(tokens))
        old = [token for token in distinct if token in self._slots]
        new = [token for token in distinct if token not in self._slots]
        made = self._made(new) if new else None
        self.hits += len(old)
        self.misses += len(new)
        slots = torch.tensor([self._slots[token] for token in old], dtype=torch.long)
        for token in old:
            self._slots.move_to_end(token)
        # What was kept and what is new, one behind the other, then in the order of the tokens.
        at = {token: place for place, token in enumerate([*old, *new])}
        order = torch.tensor([at[token] for token in tokens], dtype=torch.long)
        in_order = bool((order == torch.arange(len(at))).all()) if len(order) == len(at) else False

        def given(kept: Tensor | None, fresh: Tensor | None) -> Tensor | None:
            both = [] if kept is None or not old else [kept.index_select(0, slots.to(kept.device))]
            both += [] if fresh is None else [fresh]
            if not both:
                return None
            whole = both[0] if len(both) == 1 else torch.cat(both)
            if in_order:
                return whole
            return whole.index_select(0, order.to(whole.device))

        nothing = (None, None, None)
        found = [
            given(kept, fresh)
            for kept, fresh in zip(
                nothing if self._kept is None else self._kept.parts,
                nothing if made is None else made.parts,
                strict=True,
            )
        ]
        if made is not None:
            self._keep(new, made)
        if found[0] is None:
            raise errors.build(
                errors.InvalidValue, "there are no tokens", field="tokens", fix="give at least one"
            )
        return Rows(found[0], found[1], found[2])

    def _made(self, tokens: list[bytes]) -> Rows:
        made = self.make(tokens)
        return made.each(lambda one: one.to(device=self._device, dtype=self._dtype))

    def _keep(self, tokens: list[bytes], made: Rows) -> None:
        import torch

        if self._capacity is None:
            parts = [one for one in made.parts if one is not None]
            self._capacity = self.max_bytes // sum(one.nbytes // len(one) for one in parts)
        stay = min(len(tokens), self._capacity)
        if not stay:
            self.evictions += len(tokens)
            return
        first = len(tokens) - stay  # the most recent of what does not fit whole
        rows = self._grow(len(self._slots) + stay, made)
        while len(self._free) < stay:
            _, slot = self._slots.popitem(last=False)
            self.evictions += 1
            self._free.append(slot)
        chosen = [self._free.pop() for _ in range(stay)]
        where = torch.tensor(chosen, dtype=torch.long)
        for kept, one in _pairs(rows, made):
            kept.index_copy_(0, where.to(kept.device), one[first:])
        self._slots.update(zip(tokens[first:], chosen, strict=True))
        self.evictions += first

    def _grow(self, wanted: int, like: Rows) -> Rows:
        """Make room for so many rows, as far as the limit goes, and return where they lie."""
        capacity = self._capacity or 0
        size = 0 if self._kept is None else len(self._kept)
        if self._kept is not None and (wanted <= size or size >= capacity):
            return self._kept
        room = min(capacity, max(wanted, 2 * size, _FIRST_SLOTS))
        grown = like.each(lambda one: one.new_empty(room, *one.shape[1:]))
        if self._kept is not None:
            for new, old in _pairs(grown, self._kept):
                new[:size] = old
        self._kept = grown
        self._free += range(room - 1, size - 1, -1)
        return grown


def _pairs(first: Rows, second: Rows) -> list[tuple[Tensor, Tensor]]:
    both = zip(first.parts, second.parts, strict=True)
    return [(one, other) for one, other in both if one is not None and other is not None]
