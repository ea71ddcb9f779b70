"""Texts as contexts and what is scored behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from anyvocab import errors
from anyvocab.evaluate.scoring import sizes_of
from anyvocab.tokenizer import Specials, Text, _bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.dynamic.base import BaseBatch
    from anyvocab.dynamic.model import DynamicModel
    from anyvocab.dynamic.tokenizer import Boundary

__all__ = ["Piece", "Pieces", "cut_texts"]


class Piece(NamedTuple):
    """A stretch of a text: base tokens `start:cut` are its context, `cut:end` are scored.

    Attributes:
        text: Which text it is of.
        start: Its first base token, counted over all texts.
        cut: The first that is scored.
        end: One past the last.
        bytes: The length of what is scored.
    """

    text: int
    start: int
    cut: int
    end: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Pieces:
    """What :func:`cut_texts` made.

    Attributes:
        tokens: The base tokens of all texts.
        pieces: The pieces of all texts, in order.
        seconds: How long encoding took.
    """

    tokens: BaseBatch
    pieces: tuple[Piece, ...]
    seconds: float


def cut_texts(
    model: DynamicModel,
    texts: Iterable[Text],
    *,
    boundary: Boundary = "pretoken",
    specials: Specials = "parse",
    context_share: float = 0.5,
    window: int | None = None,
) -> Pieces:
    """Return texts cut where a pretoken begins, into pieces that a model can read at once.

    The cuts are the same for every boundary. A text that is a single pretoken has no piece.

    Args:
        model: The model: its tokenizer, and what stands before every text.
        texts: The texts.
        boundary: What no merge will cross; it decides the groups of the tokens.
        specials: As for :meth:`anyvocab.Tokenizer.encode`.
        context_share: The share of a piece's bytes that is context, as near as there is a cut.
        window: The most base tokens of a piece, with those before it; what the model was built
            for, at most 2048, when left out.

    Raises:
        InvalidValue: There is no text, an option is out of range, or the window leaves no room.
    """
    if not 0 < context_share < 1:
        raise errors.build(
            errors.InvalidValue,
            f"must lie between 0 and 1, got {context_share}",
            field="context_share",
            fix="0.5 is the first half",
        )
    if isinstance(texts, str | bytes | bytearray | memoryview):
        raise TypeError("texts must be several texts; for one, give a list of it")
    data = [_bytes(text) for text in texts]
    window, _ = sizes_of(model.network, window, None)
    room = window - len(model.first_ids)
    if room < 2:
        raise errors.build(
            errors.InvalidValue,
            f"{window} tokens leave no room for a context and what is scored behind "
            f"{len(model.first_ids)} ids that stand before every text",
            field="window",
            fix="give a larger one",
        )
    start = perf_counter()
    tokens = model.tokenizer.base_batch(data, boundary=boundary, specials=specials)
    seconds = perf_counter() - start
    pretokens = tokens.groups
    if boundary not in ("pretoken", "superword"):
        pretokens = model.tokenizer.base_batch(data, specials=specials).groups
    return Pieces(tokens, tuple(_pieces(tokens, pretokens, data, room, context_share)), seconds)


def _pieces(
    base: BaseBatch,
    pretokens: NDArray[np.uint32],
    data: Sequence[bytes],
    room: int,
    share: float,
) -> Iterator[Piece]:
    """Yield the pieces of all texts in order, at most `room` base tokens each."""
    if base.spans is None:  # a batch of texts has them
        return
    begins = base.spans[:, 0]
    first = np.flatnonzero(np.diff(pretokens, prepend=pretokens[:1]))
    for text, whole in enumerate(data):
        start, last = base.offsets[text : text + 2].tolist()
        edges = _between(first, start, last)
        while start < last:
            # Pieces of one length rather than full ones and a short rest.
            most = start + -(-(last - start) // -(-(last - start) // room))
            ending = _between(edges, start, most + 1)
            end = last if most >= last else int(ending[-1]) if len(ending) else most
            inside = _between(edges, start, end)
            stop = len(whole) if end == last else int(begins[end])
            if len(inside):
                wanted = begins[start] + share * (stop - begins[start])
                cut = int(inside[np.abs(begins[inside] - wanted).argmin()])
                yield Piece(text, start, cut, end, stop - int(begins[cut]))
            start = end


def _between(rising: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """Return the numbers above `low` and below `high`."""
    return rising[np.searchsorted(rising, low, side="right") : np.searchsorted(rising, high)]
