"""Bits per byte: the one score of a language model that does not depend on its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyvocab import errors
from anyvocab.evaluate.models import load_model, open_model
from anyvocab.evaluate.scoring import BATCH, score_windows, sizes_of, windows_of
from anyvocab.tokenizer import Text, _bytes

__all__ = ["BitsPerByte", "bits_per_byte", "load_model"]


@dataclass(frozen=True)
class BitsPerByte:
    """How well a model predicts texts.

    Attributes:
        nats: The negative log-probability of all scored ids, in nats.
        bytes: The length of all texts, in bytes.
        tokens: How many ids were scored.
        window: How many ids the model saw at once.
        stride: How many ids a further window of a text scores.
    """

    nats: float
    bytes: int
    tokens: int
    window: int
    stride: int

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
    texts: Iterable[Text],
    *,
    tokenizer: object = None,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = BATCH,
    first_ids: Sequence[int] | None = None,
) -> BitsPerByte:
    """Return how well `model` predicts `texts`: total negative log2-likelihood over total bytes.

    Every text is scored on its own, in the tokenizer's own encoding, behind `first_ids`. A text
    that is longer than `window` is read in windows that move by `stride`: each id is scored once,
    and sees at least `window - stride` ids before it, except near the start. The end of a text is
    not scored. This is the probability of one encoding of a text, and so an upper bound of the
    bits that its bytes take.

    Args:
        model: A folder, a hub id, `pico:NAME`, or a transformers causal language model in
            evaluation mode.
        texts: Texts; empty ones count nothing.
        tokenizer: Anything :meth:`anyvocab.Tokenizer.load` takes; what lies in the model's folder
            when left out.
        window: Ids the model sees at once; what it was built for, at most 2048, when left out.
        stride: Ids that a further window scores; half a window when left out.
        batch_size: Windows of one forward pass, fewer where the logits would be too large.
        first_ids: The ids before a text. When left out: what the tokenizer's post-processor puts
            there, else the `bos` id, else the `eos` id.

    Raises:
        InvalidValue: There is nothing to score, no id to begin with, `window`, `stride` or
            `batch_size` is out of range, the model has no logit for an id, or a score is not
            finite.
        SourceNotFound: There is no such model.
        MissingExtra: torch or transformers is not installed.
    """
    if isinstance(texts, str | bytes | bytearray | memoryview):
        raise TypeError("texts must be several texts; for one, give [text]")
    judged = open_model(model, tokenizer=tokenizer, first_ids=first_ids)
    window, stride = sizes_of(judged.network, window, stride)
    before = np.array(judged.first_ids, dtype=np.uint32)
    check_first_ids(judged.first_ids, window)
    data = [_bytes(text) for text in texts]
    rows = [np.concatenate((before, ids)) for ids in map(judged.tokenizer.encode, data)]
    size, tokens = sum(map(len, data)), sum(len(row) - len(before) for row in rows)
    if not size or not tokens:
        raise errors.build(errors.InvalidValue, "there is no byte to score", field="texts")
    windows = [one for row in rows for one in windows_of(row, len(before), window, stride)]
    scores = score_windows(judged.network, windows, batch_size=batch_size)
    # Exact: does not depend on how windows were batched.
    return BitsPerByte(math.fsum(np.concatenate(scores)), size, tokens, window, stride)


def check_first_ids(first_ids: Sequence[int], window: int) -> None:
    """Refuse to score a text that nothing, or too much, stands before.

    Raises:
        InvalidValue: There is no id, or a window holds nothing else.
    """
    if not 0 < len(first_ids) < window:
        raise errors.build(
            errors.InvalidValue,
            "nothing stands before a text, so its first id cannot be scored"
            if not first_ids
            else f"{len(first_ids)} ids leave no room in a window of {window}",
            field="first_ids",
            fix="give first_ids: the ids that texts begin with in training, a bos for example",
        )
