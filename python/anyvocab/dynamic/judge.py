"""What merging costs a causal model: the same bytes scored behind a plain and a merged context.

Merging changes what a model reads, not what it is asked: only base tokens are scored, and the same
ones in every setting. Source of the protocol: Feher et al. 2024, arXiv:2411.18553, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from anyvocab import errors
from anyvocab.dynamic.base import BaseBatch
from anyvocab.dynamic.pieces import Piece, cut_texts
from anyvocab.dynamic.scoring import Reader, check_causal
from anyvocab.dynamic.stops import Stops, limits
from anyvocab.dynamic.wrapped import evaluating
from anyvocab.evaluate.scoring import score_windows
from anyvocab.tokenizer import Ragged, Specials, Text

if TYPE_CHECKING:
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
    keep_last: int = 0,
    context_share: float = 0.5,
    batch: int = BATCH,
    window: int | None = None,
    base: Side | None = None,
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
        keep_last: How many base tokens at the end of each context never merge.
        context_share: The share of a text that is context, between 0 and 1.
        batch: How many pieces are merged together.
        window: The most base tokens of a piece, with those before it; what the model was built
            for, at most 2048, when left out.
        base: The base side of an earlier judgement, of the same texts and options but for the
            boundary and the stops; it is taken as it is instead of being measured again.
        progress: Is told how many pieces are done, and of how many; both sides count.
        stops: See :class:`anyvocab.dynamic.Stops`.

    Raises:
        InvalidValue: The model is an encoder, there is nothing to score, an option is out of range
            a batch cannot be merged that far, or `base` is not of these texts.

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
    if batch < 1:
        raise errors.build(errors.InvalidValue, f"must be at least 1, got {batch}", field="batch")
    found = cut_texts(
        model,
        texts,
        boundary=boundary,
        specials=specials,
        context_share=context_share,
        window=window,
    )
    pieces = found.pieces
    size = sum(piece.bytes for piece in pieces)
    if not size:
        raise errors.build(
            errors.InvalidValue,
            "no text has a boundary inside, and so none has a context and a byte to score",
            field="texts",
            fix="give longer texts",
        )
    texts_given = len(found.tokens)
    if base is not None and (base.scored_bytes != size or len(base.by_text) != texts_given):
        raise errors.build(
            errors.InvalidValue,
            f"it has {base.scored_bytes} scored bytes of {len(base.by_text)} texts; here are "
            f"{size} of {texts_given}",
            field="base",
            fix="leave it out, to have it measured",
        )
    parts = [pieces[at : at + batch] for at in range(0, len(pieces), batch)]
    run = _Run(model, found.tokens, parts, keep_last, found.seconds, texts_given)
    count = _Count(progress, len(pieces) * (2 if base is None else 1))
    with evaluating(model.network):
        if base is None:
            base = run(None, count)
        hits, misses = model.cache.hits, model.cache.misses
        merged = run(stops, count)
    met = model.cache.hits - hits
    asked = met + model.cache.misses - misses
    return Judgement(
        base,
        merged,
        1 - merged.context_tokens / base.context_tokens,
        met / asked if asked else 0.0,
        len(pieces),
        texts_given - len({piece.text for piece in pieces}),
    )


class _Count:
    """Tells how many pieces are done."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total
        self(0)

    def __call__(self, more: int) -> None:
        self._done += more
        if self._progress is not None:
            self._progress(self._done, self._total)


@dataclass(frozen=True, eq=False)
class _Run:
    """Scores the same pieces in one setting after another."""

    model: DynamicModel
    tokens: BaseBatch
    parts: Sequence[Sequence[Piece]]
    keep_last: int
    tokenizing: float
    texts: int

    def __call__(self, stops: Stops | None, count: _Count) -> Side:
        """Return how the model does with merged contexts; without stops, with plain ones."""
        seconds = {"tokenize": self.tokenizing, "merge": 0.0, "rows": 0.0, "forward": 0.0}
        nats: list[list[float]] = [[] for _ in range(self.texts)]
        sizes = [0] * self.texts
        context_tokens = scored = 0
        first = self.model.first_ids
        for pieces in self.parts:
            contexts = _contexts(self.tokens, pieces).keeping(self.keep_last).after(first)
            rows, reads = Ragged(contexts.ids, contexts.offsets), self.model.network
            if stops is not None:
                start = perf_counter()
                merged = self.model.tokenizer.merge_base(contexts, **stops)
                seconds["merge"] += perf_counter() - start
                rows, reads = merged.rows, Reader(self.model, merged)
                seconds["rows"] += reads.seconds
            windows = [
                (np.concatenate((row, self.tokens.ids[piece.cut : piece.end])), len(row))
                for row, piece in zip(rows, pieces, strict=True)
            ]
            start = perf_counter()
            scores = score_windows(reads, windows, batch_size=_FORWARD)
            seconds["forward"] += perf_counter() - start
            context_tokens += len(rows.ids) - len(pieces) * len(first)
            for piece, one in zip(pieces, scores, strict=True):
                nats[piece.text].append(math.fsum(one))
                sizes[piece.text] += piece.bytes
                scored += len(one)
            count(len(pieces))
        return Side(
            math.fsum(one for of_text in nats for one in of_text) / math.log(2) / sum(sizes),
            context_tokens + scored,
            context_tokens,
            sum(sizes),
            seconds,
            tuple(
                math.fsum(of_text) / math.log(2) / size if size else None
                for of_text, size in zip(nats, sizes, strict=True)
            ),
        )


def _contexts(base: BaseBatch, pieces: Sequence[Piece]) -> BaseBatch:
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
