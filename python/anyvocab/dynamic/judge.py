"""What merging costs a causal model: the same bytes scored behind a plain and a merged context.

Merging changes what a model reads, not what it is asked: only base tokens are scored, and the same
ones in every setting. Source of the protocol: Feher et al. 2024, arXiv:2411.18553, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from anyvocab import errors
from anyvocab.dynamic.base import BaseBatch
from anyvocab.dynamic.scoring import Reader, check_causal, evaluating
from anyvocab.dynamic.stops import Stops, limits
from anyvocab.evaluate.bits import check_first_ids
from anyvocab.evaluate.scoring import score_windows, sizes_of
from anyvocab.tokenizer import Specials, Text, _bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.dynamic.model import DynamicModel
    from anyvocab.dynamic.tokenizer import Boundary

__all__ = ["BATCH", "Judgement", "Side", "judge"]

BATCH = 32
"""Pieces of text that are merged together unless said otherwise: the batch of the paper."""

_FORWARD = 8  # rows of one pass; the logits of all positions have to fit


@dataclass(frozen=True)
class Side:
    """How a model did in one setting.

    Attributes:
        bits_per_byte: Bits per scored byte, over all texts.
        tokens: Tokens that the model read: contexts and what was scored, without the ids that
            stand before every text.
        context_tokens: Those of the contexts.
        scored_bytes: Bytes that were scored; the same in every setting.
        seconds: How long it took: `tokenize`, `merge`, `rows` (of new tokens: found or made) and
            `forward`.
        by_text: Bits per scored byte of each text; None for one that was left out.
    """

    bits_per_byte: float
    tokens: int
    context_tokens: int
    scored_bytes: int
    seconds: dict[str, float]
    by_text: tuple[float | None, ...]


@dataclass(frozen=True)
class Judgement:
    """A model with plain contexts beside itself with merged ones.

    Attributes:
        base: The model as it is: base tokens, its own rows.
        merged: The same with merged contexts, and the rows that the :class:`DynamicModel` reads.
        reduction: The share of the contexts' tokens that is gone.
        hit_rate: The share of new tokens whose rows were found in the cache; 0 where none was
            asked for.
        pieces: How many contexts there were.
        left_out: How many texts had no boundary inside, and so no context.
    """

    base: Side
    merged: Side
    reduction: float
    hit_rate: float
    pieces: int
    left_out: int

    @property
    def whole_reduction(self) -> float:
        """The share of all tokens that is gone, scored ones included."""
        return 1 - self.merged.tokens / self.base.tokens

    @property
    def loss(self) -> float:
        """Bits per byte that merging costs; below 0 where it helps."""
        return self.merged.bits_per_byte - self.base.bits_per_byte

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {**asdict(self), "whole_reduction": self.whole_reduction, "loss": self.loss}


def judge(
    model: DynamicModel,
    texts: Iterable[Text],
    *,
    boundary: Boundary = "pretoken",
    specials: Specials = "parse",
    context_share: float = 0.5,
    batch: int = BATCH,
    window: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **stops: Unpack[Stops],
) -> Judgement:
    """Return bits per byte behind plain contexts and behind merged ones, on the same bytes.

    Each text is cut where a pretoken of the model's tokenizer begins, as near to `context_share`
    of its bytes as there is one. What stands before is the context, what stands behind is scored in
    base tokens, whatever was merged. A text that is longer than `window` becomes several pieces,
    each with a context of its own. Pieces are merged `batch` at a time, as they would be served;
    `stops` are about the contexts.

    Args:
        model: A causal model.
        texts: Texts; one that is a single pretoken is left out.
        boundary: What no merge crosses: see :meth:`anyvocab.DynamicTokenizer.merge`.
        specials: As there.
        context_share: The share of a text that is context, between 0 and 1.
        batch: How many pieces are merged together.
        window: The most base tokens of a piece, with those before it; what the model was built
            for, at most 2048, when left out.
        progress: Is told how many pieces are done, and of how many.
        stops: See :class:`anyvocab.dynamic.Stops`.

    Raises:
        InvalidValue: The model is an encoder, there is nothing to score, an option is out of range
            or a batch cannot be merged that far.

    >>> import anyvocab as av
    >>> from anyvocab.dynamic.judge import judge
    >>> text = "def add(first, second): return first + second"
    >>> found = judge(av.DynamicModel.load("pico:code-4k"), [text, text], attainable=1.0)
    >>> found.base.scored_bytes == found.merged.scored_bytes
    True
    >>> found.merged.context_tokens < found.base.context_tokens
    True
    """
    limits(boundary, **stops)
    check_causal(model)
    _check(context_share, batch)
    if isinstance(texts, str | bytes | bytearray | memoryview):
        raise TypeError("texts must be several texts; for one, give a list of it")
    data = [_bytes(text) for text in texts]
    window, _ = sizes_of(model.network, window, None)
    check_first_ids(model.first_ids, window)
    start = perf_counter()
    base = model.tokenizer.base_batch(data, boundary=boundary, specials=specials)
    tokenizing = perf_counter() - start
    pretokens = base.groups
    if boundary not in ("pretoken", "superword"):  # the cuts are the same for every boundary
        pretokens = model.tokenizer.base_batch(data, specials=specials).groups
    pieces = list(_pieces(base, pretokens, data, window - len(model.first_ids), context_share))
    if not sum(piece.bytes for piece in pieces):
        raise errors.build(
            errors.InvalidValue,
            "no text has a boundary inside, and so none has a context and a byte to score",
            field="texts",
            fix="give longer texts",
        )
    hits, misses = model.cache.hits, model.cache.misses
    plain, merged = _Tally(tokenizing), _Tally(tokenizing)
    if progress is not None:
        progress(0, len(pieces))
    with evaluating(model.network):
        for at in range(0, len(pieces), batch):
            _judge_batch(model, base, pieces[at : at + batch], stops, plain, merged)
            if progress is not None:
                progress(min(len(pieces), at + batch), len(pieces))
    found, asked = model.cache.hits - hits, model.cache.misses - misses
    asked += found
    return Judgement(
        plain.side(pieces, len(data)),
        merged.side(pieces, len(data)),
        1 - merged.context_tokens / plain.context_tokens,
        found / asked if asked else 0.0,
        len(pieces),
        len(data) - len({piece.text for piece in pieces}),
    )


class _Piece(NamedTuple):
    """A stretch of a text: base tokens `start:cut` are its context, `cut:end` are scored."""

    text: int
    start: int
    cut: int
    end: int
    bytes: int  # of what is scored


def _pieces(
    base: BaseBatch,
    pretokens: NDArray[np.uint32],
    data: Sequence[bytes],
    room: int,
    share: float,
) -> Iterator[_Piece]:
    """Yield the pieces of all texts in order, at most `room` base tokens each."""
    if base.spans is None:  # a batch of texts has them
        return
    begins = base.spans[:, 0]
    first = np.flatnonzero(np.diff(pretokens, prepend=pretokens[:1]))
    for text, whole in enumerate(data):
        start, last = base.offsets[text : text + 2].tolist()
        edges = first[(first > start) & (first < last)]
        while start < last:
            # Pieces of one length rather than full ones and a short rest.
            most = start + -(-(last - start) // -(-(last - start) // room))
            ending = edges[(edges > start) & (edges <= most)]
            end = last if most >= last else int(ending[-1]) if len(ending) else most
            inside = edges[(edges > start) & (edges < end)]
            stop = len(whole) if end == last else int(begins[end])
            if len(inside):
                wanted = begins[start] + share * (stop - begins[start])
                cut = int(inside[np.abs(begins[inside] - wanted).argmin()])
                yield _Piece(text, start, cut, end, stop - int(begins[cut]))
            start = end


def _contexts(base: BaseBatch, pieces: Sequence[_Piece]) -> BaseBatch:
    """Return the base tokens of pieces' contexts as a batch."""
    at = np.concatenate([np.arange(piece.start, piece.cut) for piece in pieces])
    lengths = [0, *(piece.cut - piece.start for piece in pieces)]
    return BaseBatch(
        base.ids[at],
        np.cumsum(lengths, dtype=np.int64),
        base.groups[at],
        None if base.later is None else base.later[at],
        None if base.spans is None else base.spans[at],
        None if base.words is None else base.words[at],
    )


class _Tally:
    """Adds up one setting."""

    def __init__(self, tokenizing: float) -> None:
        self.nats: list[float] = []  # of each piece, in order
        self.context_tokens = 0
        self.seconds = {"tokenize": tokenizing, "merge": 0.0, "rows": 0.0, "forward": 0.0}

    def side(self, pieces: Sequence[_Piece], texts: int) -> Side:
        nats: list[list[float]] = [[] for _ in range(texts)]
        sizes = [0] * texts
        for piece, one in zip(pieces, self.nats, strict=True):
            nats[piece.text].append(one)
            sizes[piece.text] += piece.bytes
        return Side(
            math.fsum(self.nats) / math.log(2) / sum(sizes),
            self.context_tokens + sum(piece.end - piece.cut for piece in pieces),
            self.context_tokens,
            sum(sizes),
            self.seconds,
            tuple(
                math.fsum(one) / math.log(2) / size if size else None
                for one, size in zip(nats, sizes, strict=True)
            ),
        )


def _judge_batch(
    model: DynamicModel,
    base: BaseBatch,
    pieces: Sequence[_Piece],
    stops: Stops,
    plain: _Tally,
    merged: _Tally,
) -> None:
    contexts = _contexts(base, pieces).after(model.first_ids)
    start = perf_counter()
    batch = model.tokenizer.merge_base(contexts, **stops)
    merged.seconds["merge"] += perf_counter() - start
    reader = Reader(model, batch)
    merged.seconds["rows"] += reader.seconds
    tails = [base.ids[piece.cut : piece.end] for piece in pieces]
    for tally, reads, rows in ((plain, model.network, batch.base), (merged, reader, batch.rows)):
        windows = [
            (np.concatenate((row, tail)), len(row)) for row, tail in zip(rows, tails, strict=True)
        ]
        start = perf_counter()
        scores = score_windows(reads, windows, batch_size=_FORWARD)
        tally.seconds["forward"] += perf_counter() - start
        tally.nats += [math.fsum(one) for one in scores]
        tally.context_tokens += len(rows.ids) - len(pieces) * len(model.first_ids)


def _check(context_share: float, batch: int) -> None:
    if not 0 < context_share < 1:
        raise errors.build(
            errors.InvalidValue,
            f"must lie between 0 and 1, got {context_share}",
            field="context_share",
            fix="0.5 is the first half",
        )
    if batch < 1:
        raise errors.build(errors.InvalidValue, f"must be at least 1, got {batch}", field="batch")
