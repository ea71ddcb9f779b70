"""Bits per byte: the one score of a language model that does not depend on its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from anyvocab import errors
from anyvocab.tokenizer import Text, Tokenizer, _bytes

__all__ = ["BitsPerByte", "bits_per_byte"]

BATCH = 8  # windows of one forward pass


@dataclass(frozen=True)
class BitsPerByte:
    """How well a model predicts texts.

    Attributes:
        nats: The negative log-probability of all ids, in nats.
        bytes: The length of all texts, in bytes.
        tokens: How many ids were scored.
    """

    nats: float
    bytes: int
    tokens: int

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte; lower is better. Comparable between models with different tokenizers."""
        return self.nats / math.log(2) / self.bytes

    @property
    def bytes_per_token(self) -> float:
        """How many bytes an id stands for on average."""
        return self.bytes / self.tokens


def bits_per_byte(
    model: Any,
    tokenizer: Tokenizer,
    texts: Iterable[Text],
    *,
    context: int | None = None,
    first_id: int | None = None,
) -> BitsPerByte:
    """Return how well `model` predicts `texts`, each encoded canonically.

    Every text begins with `first_id`; every id after it is scored once. Windows of `context` ids
    move by half a context, so each id has at least half a context before it, except at the start.
    The end of a text is not scored. This is the probability of one encoding of a text: a lower
    bound of the probability of its bytes.

    Args:
        model: A transformers causal language model, in evaluation mode.
        tokenizer: Its tokenizer.
        texts: Texts; empty ones count nothing.
        context: Ids the model sees at once; `max_position_embeddings` when left out.
        first_id: The id before a text; the first `bos` (else `eos`) id when left out.

    Raises:
        InvalidValue: There is nothing to score, no id to begin with, or `context` is below 2.
    """
    import torch

    if context is None:
        context = int(model.config.max_position_embeddings)
    if context < 2:
        raise errors.build(
            errors.InvalidValue, f"must be at least 2, got {context}", field="context"
        )
    if first_id is None:
        roles = tokenizer.vocabulary.roles
        first_id = next(iter((*roles.ids("bos"), *roles.ids("eos"))), None)
    if first_id is None:
        raise errors.build(
            errors.InvalidValue,
            "the tokenizer has neither a bos nor an eos id",
            field="first_id",
            fix="give the id that texts begin with",
        )
    data = [_bytes(text) for text in texts]
    rows = [[first_id, *tokenizer.encode(text).tolist()] for text in data]
    size, tokens = sum(map(len, data)), sum(len(row) - 1 for row in rows)
    if not size or not tokens:
        raise errors.build(errors.InvalidValue, "there is no byte to score", field="texts")
    windows = sorted((w for row in rows for w in _windows(row, context)), key=lambda w: len(w[0]))
    nats = 0.0
    with torch.inference_mode():
        for at in range(0, len(windows), BATCH):
            nats += _score(torch, model, windows[at : at + BATCH])
    return BitsPerByte(nats, size, tokens)


def _windows(row: list[int], context: int) -> Iterator[tuple[list[int], int]]:
    """Yield `(ids, first)`: score the ids from position `first` on."""
    scored = 1
    while scored < len(row):
        end = min(len(row), max(context, scored + context // 2))
        start = max(0, end - context)
        yield row[start:end], scored - start
        scored = end


def _score(torch: Any, model: Any, windows: Sequence[tuple[list[int], int]]) -> float:
    width = max(len(ids) for ids, _ in windows)
    # Padding stands on the right of a causal model: nothing that is scored sees it.
    rows = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in windows], device=model.device)
    logits = model(rows).logits  # (B, T, V)
    nats = 0.0
    for row, scores, (ids, first) in zip(rows, logits, windows, strict=True):
        given, wanted = scores[first - 1 : len(ids) - 1], row[first : len(ids)]
        loss = torch.nn.functional.cross_entropy(given.double(), wanted, reduction="sum")
        nats += float(loss)
    return nats
