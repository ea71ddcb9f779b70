"""What merging does to texts of several kinds: lengths, merges, new tokens, and the whole curve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Unpack

import numpy as np

from anyvocab import errors
from anyvocab.dynamic.stops import MAX_TOKEN_BYTES, Stops, limits
from anyvocab.dynamic.tokenizer import Boundary, DynamicTokenizer
from anyvocab.tokenizer import _bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.dynamic.base import BaseBatch
    from anyvocab.dynamic.batch import DynamicBatch
    from anyvocab.tokenizer import Text

__all__ = ["BATCH", "Example", "PairMerges", "Row", "Survey", "TokenUses", "survey"]

BATCH = 32  # texts, as published
_POINTS = 80  # of a picture of the curve, about


@dataclass(frozen=True, eq=False)
class Row:
    """Texts of one kind (a language, a file) and their tokens before and after merging.

    Attributes:
        name: What results call them.
        bytes: The length of each text in bytes, int64[n].
        base_lengths: The base tokens of each text, int64[n].
        lengths: The tokens of each text after merging, int64[n].
        attainable: How many tokens fewer there were if everything merged that the boundary lets.
        batches: How many batches the texts were.
        merges: Merges in all batches.
        new_tokens: New tokens that stand in the texts; one of several batches counts in each.
    """

    name: str
    bytes: NDArray[np.int64]
    base_lengths: NDArray[np.int64]
    lengths: NDArray[np.int64]
    attainable: int
    batches: int
    merges: int
    new_tokens: int

    @property
    def base_tokens(self) -> int:
        """All base tokens."""
        return int(self.base_lengths.sum())

    @property
    def tokens(self) -> int:
        """All tokens after merging."""
        return int(self.lengths.sum())

    @property
    def reduction(self) -> float:
        """The share of the base tokens that is gone; 0 without tokens."""
        return _gone(self.base_tokens, self.tokens)

    @property
    def attainable_reduction(self) -> float:
        """The share that would be gone if everything merged."""
        return _gone(self.base_tokens, self.base_tokens - self.attainable)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON knows it."""
        return {
            "name": self.name,
            "texts": len(self.lengths),
            "bytes": int(self.bytes.sum()),
            "base_tokens": self.base_tokens,
            "tokens": self.tokens,
            "reduction": round(self.reduction, 6),
            "attainable_reduction": round(self.attainable_reduction, 6),
            "batches": self.batches,
            "merges": self.merges,
            "new_tokens": self.new_tokens,
        }


@dataclass(frozen=True, slots=True)
class PairMerges:
    """The merges of one pair in all batches.

    Attributes:
        left: The bytes of the left token.
        right: The bytes of the right token.
        is_new: Whether what they became is in no vocabulary.
        replaced: How many pairs were replaced: so many tokens fewer.
        batches: In how many batches.
    """

    left: bytes
    right: bytes
    is_new: bool
    replaced: int
    batches: int


@dataclass(frozen=True, slots=True)
class TokenUses:
    """A new token that stands in the texts after merging.

    Attributes:
        token: Its bytes.
        pieces: The bytes of the base tokens that it was first made of.
        uses: How often it stands there, in all batches.
        batches: In how many batches.
    """

    token: bytes
    pieces: tuple[bytes, ...]
    uses: int
    batches: int


@dataclass(frozen=True, eq=False)
class Example:
    """A text to look at: it is text `row` of `batch`."""

    name: str
    text: bytes
    batch: DynamicBatch
    row: int


@dataclass(frozen=True, eq=False)
class Survey:
    """What :func:`survey` found.

    Attributes:
        boundary: What no merge crossed.
        stops: The stops that were asked for.
        batch_size: Texts of a batch, at most; None for all of a kind.
        rows: A row for each kind of text, in their order.
        merges: Merges of all batches by what they replaced, the most first.
        new_tokens: New tokens by their uses, the most first.
        curve: float64[n + 1]: the reduction after 0, 1, ... merges in every batch, up to all of
            them, whatever the stops were; without a stop, `reduction` is its end.
        asked: How many rows of new tokens a model would look up: those of every batch, once.
        met: How many of them an earlier batch had.
        base_seconds: Time of encoding.
        merge_seconds: Time of merging.
        examples: The first texts.
    """

    boundary: Boundary
    stops: Stops
    batch_size: int | None
    rows: tuple[Row, ...]
    merges: tuple[PairMerges, ...]
    new_tokens: tuple[TokenUses, ...]
    curve: NDArray[np.float64]
    asked: int
    met: int
    base_seconds: float
    merge_seconds: float
    examples: tuple[Example, ...]

    @cached_property
    def total(self) -> Row:
        """All texts as one row, called `all`."""
        rows = self.rows
        return Row(
            "all",
            np.concatenate([row.bytes for row in rows]),
            np.concatenate([row.base_lengths for row in rows]),
            np.concatenate([row.lengths for row in rows]),
            sum(row.attainable for row in rows),
            sum(row.batches for row in rows),
            sum(row.merges for row in rows),
            sum(row.new_tokens for row in rows),
        )

    @property
    def mean_reduction(self) -> float:
        """The mean of the rows' reductions: every kind of text counts the same."""
        return sum(row.reduction for row in self.rows) / len(self.rows)

    @property
    def hit_rate(self) -> float:
        """The share of new tokens that a cache without limit had from an earlier batch."""
        return self.met / self.asked if self.asked else 0.0

    def merges_for(self, share: float) -> int:
        """Return how many merges in every batch reach a share of all that merges give."""
        return int(np.searchsorted(self.curve, share * self.curve[-1], side="left"))

    def points(self) -> list[tuple[int, float]]:
        """Return points of the curve for a picture, more of them where it bends."""
        return [(at, float(self.curve[at])) for at in _places(len(self.curve) - 1)]

    def to_dict(self, *, most: int = 100) -> dict[str, object]:
        """Return it as JSON knows it; bytes that are no UTF-8 are escaped.

        Args:
            most: How many merges and new tokens are listed.
        """
        return {
            "boundary": self.boundary,
            "stops": {name: value for name, value in self.stops.items() if value is not None},
            "batch_size": self.batch_size,
            "all": {k: v for k, v in self.total.to_dict().items() if k != "name"},
            "mean_reduction": round(self.mean_reduction, 6),
            "rows": [row.to_dict() for row in self.rows],
            "merges": [
                {
                    "left": _shown(one.left),
                    "right": _shown(one.right),
                    "is_new": one.is_new,
                    "replaced": one.replaced,
                    "batches": one.batches,
                }
                for one in self.merges[:most]
            ],
            "new_tokens": [
                {
                    "text": _shown(one.token),
                    "pieces": [_shown(piece) for piece in one.pieces],
                    "uses": one.uses,
                    "batches": one.batches,
                }
                for one in self.new_tokens[:most]
            ],
            "curve": [[merges, round(gone, 6)] for merges, gone in self.points()],
            "cache": {
                "asked": self.asked,
                "met_before": self.met,
                "hit_rate": round(self.hit_rate, 6),
            },
            "seconds": {
                "encoding": round(self.base_seconds, 6),
                "merging": round(self.merge_seconds, 6),
            },
        }


def survey(
    tokenizer: DynamicTokenizer,
    kinds: Mapping[str, Sequence[Text]],
    *,
    boundary: Boundary = "pretoken",
    batch: int | None = BATCH,
    examples: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
    **stops: Unpack[Stops],
) -> Survey:
    """Return what merging does to texts of several kinds; no model is needed.

    Every kind is merged in batches of its own.

    Args:
        tokenizer: What merges.
        kinds: Name to texts: languages, files.
        boundary: As for :meth:`anyvocab.DynamicTokenizer.merge`.
        batch: How many texts merge together; None for all of a kind.
        examples: How many texts of each kind are kept to be looked at: its first.
        progress: Called with a kind's name, the texts that are done and their number.
        stops: See :class:`anyvocab.dynamic.Stops`; they hold for every batch.

    Raises:
        InvalidValue: There is no text, an option is out of its range, or a batch cannot reach the
            target.

    >>> import anyvocab as av
    >>> from anyvocab.dynamic.survey import survey
    >>> dyn = av.DynamicTokenizer("pico:code-4k")
    >>> found = survey(dyn, {"en": ["the tokenizer", "tokenizers"], "de": ["der Tokenizer"]})
    >>> [row.name for row in found.rows], found.total.reduction > 0
    (['en', 'de'], True)
    """
    limits(boundary, **stops)
    if batch is not None and batch < 1:
        raise errors.build(
            errors.InvalidValue, f"must be at least 1, got {batch}", field="batch", fix="try 32"
        )
    if not any(kinds.values()):
        raise errors.build(
            errors.InvalidValue, "there is no text", field="kinds", fix="give at least one"
        )
    found = _Found(tokenizer)
    rows, kept = [], []
    for name, texts in kinds.items():
        if not texts:
            continue
        if progress is not None:
            progress(name, 0, len(texts))
        encoded = [_bytes(text) for text in texts]
        made: list[DynamicBatch] = []
        for first in range(0, len(encoded), batch or len(encoded)):
            some = encoded[first : first + (batch or len(encoded))]
            try:
                one = found.merge(some, boundary, stops)
            except errors.InvalidValue as error:
                if len(kinds) == 1:
                    raise
                raise _of_kind(name, error) from error
            # Of what is over, only lengths stay.
            left = max(0, examples - first)
            kept += [Example(name, some[i], one, i) for i in range(min(left, len(some)))]
            made.append(one)
            if progress is not None:
                progress(name, first + len(some), len(encoded))
        rows.append(_row(name, encoded, made))
    return Survey(
        boundary,
        stops,
        batch,
        tuple(rows),
        found.pairs(),
        found.tokens(),
        found.curve(),
        found.asked,
        found.met,
        found.base_seconds,
        found.merge_seconds,
        tuple(kept),
    )


class _Found:
    """What all batches have in common, added up."""

    def __init__(self, tokenizer: DynamicTokenizer) -> None:
        self.tokenizer = tokenizer
        self.base_seconds = self.merge_seconds = 0.0
        self.asked = self.met = 0
        self._pairs: dict[tuple[bytes, bytes], list[int]] = {}  # is new, replaced, batches
        self._uses: dict[bytes, list[int]] = {}  # uses, batches
        self._pieces: dict[bytes, tuple[bytes, ...]] = {}
        self._gone: list[NDArray[np.int64]] = []  # of each batch, after 0, 1, 2, ... merges
        self._base_tokens = 0
        self._known: dict[int, bytes] = {}  # base ids

    def merge(self, texts: list[bytes], boundary: Boundary, stops: Stops) -> DynamicBatch:
        began = time.perf_counter()
        base = self.tokenizer.base_batch(texts, boundary=boundary)
        encoded = time.perf_counter()
        batch = self.tokenizer.merge_base(base, **stops)
        self.base_seconds += encoded - began
        self.merge_seconds += time.perf_counter() - encoded
        self._base_tokens += len(base.ids)
        self._add_pairs(batch)
        self._add_tokens(batch)
        self._add_curve(base, batch, stops)
        return batch

    def _bytes_of(self, batch: DynamicBatch, id: int) -> bytes:
        first = batch.new_tokens.first_id
        if id >= first:
            return batch.new_tokens[id - first]
        if id not in self._known:
            self._known[id] = batch.vocabulary.token_bytes(id) or b""
        return self._known[id]

    def _add_pairs(self, batch: DynamicBatch) -> None:
        first = batch.new_tokens.first_id
        for merge in batch.merges:
            pair = (self._bytes_of(batch, merge.left), self._bytes_of(batch, merge.right))
            counts = self._pairs.setdefault(pair, [int(merge.token >= first), 0, 0])
            counts[1] += merge.replaced
            counts[2] += 1

    def _add_tokens(self, batch: DynamicBatch) -> None:
        new = batch.new_tokens
        ids, uses = np.unique(batch.ids[batch.ids >= new.first_id], return_counts=True)
        for id, count in zip((ids - new.first_id).tolist(), uses.tolist(), strict=True):
            token = new[id]
            self.asked += 1
            self.met += token in self._uses
            counts = self._uses.setdefault(token, [0, 0])
            counts[0] += count
            counts[1] += 1
            if token not in self._pieces:
                pieces = new.pieces[id].tolist()
                self._pieces[token] = tuple(self._bytes_of(batch, piece) for piece in pieces)

    def _add_curve(self, base: BaseBatch, batch: DynamicBatch, stops: Stops) -> None:
        if batch.stopped != "exhausted":  # what was not merged is merged for the curve alone
            batch = self.tokenizer.merge_base(
                base,
                transition=stops.get("transition"),
                max_token_bytes=stops.get("max_token_bytes", MAX_TOKEN_BYTES),
            )
        replaced = batch.merges.replaced.astype(np.int64)
        self._gone.append(np.concatenate([[0], np.cumsum(replaced)]))

    def pairs(self) -> tuple[PairMerges, ...]:
        found = [
            PairMerges(left, right, bool(new), replaced, batches)
            for (left, right), (new, replaced, batches) in self._pairs.items()
        ]
        return tuple(sorted(found, key=lambda one: (-one.replaced, one.left, one.right)))

    def tokens(self) -> tuple[TokenUses, ...]:
        found = [
            TokenUses(token, self._pieces[token], uses, batches)
            for token, (uses, batches) in self._uses.items()
        ]
        return tuple(sorted(found, key=lambda one: (-one.uses, one.token)))

    def curve(self) -> NDArray[np.float64]:
        whole = np.zeros(max(map(len, self._gone)), dtype=np.float64)
        for gone in self._gone:
            whole[: len(gone)] += gone
            whole[len(gone) :] += gone[-1]
        return whole / max(1, self._base_tokens)


def _places(most: int) -> Iterator[int]:
    """Yield 0 to `most`: every number at first, then fewer."""
    at, step = 0, (most / 10) ** (1 / _POINTS) if most > 10 else 1.0
    while at < most:
        yield at
        at = max(at + 1, int(at * step))
    yield most


def _row(name: str, texts: list[bytes], batches: list[DynamicBatch]) -> Row:
    return Row(
        name,
        np.fromiter(map(len, texts), np.int64, len(texts)),
        np.concatenate([one.base_lengths() for one in batches]),
        np.concatenate([one.lengths() for one in batches]),
        sum(one.attainable for one in batches),
        len(batches),
        sum(len(one.merges) for one in batches),
        sum(len(np.unique(one.ids[one.ids >= one.new_tokens.first_id])) for one in batches),
    )


def _of_kind(name: str, error: errors.InvalidValue) -> errors.InvalidValue:
    """Return an error of a batch that says of which kind its texts were."""
    found = str(error).removeprefix(f"{error.field}: ").removesuffix(f"; {error.fix}")
    return errors.build(errors.InvalidValue, found, field=error.field, fix=error.fix, file=name)


def _gone(before: int, after: int) -> float:
    return 1 - after / before if before else 0.0


def _shown(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
