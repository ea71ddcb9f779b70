"""Scores behind merged prefixes: what is scored are base tokens, so scores stay comparable."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from anyvocab import errors
from anyvocab.dynamic.wrapped import evaluating
from anyvocab.evaluate.scoring import BATCH, score_windows, sizes_of, windows_of
from anyvocab.tokenizer import Specials, Text, _bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.dynamic.batch import DynamicBatch
    from anyvocab.dynamic.model import DynamicModel
    from anyvocab.dynamic.stops import Stops
    from anyvocab.dynamic.tokenizer import Boundary
    from anyvocab.hypernet.rows import Rows

__all__ = ["PrefixScores", "Reader", "check_causal", "score"]


@dataclass(frozen=True, eq=False)
class PrefixScores:
    """What texts cost behind their prefixes. Below, `B` is the number of texts.

    Attributes:
        nats: The negative log-probability of each text given its prefix, in nats, float64[B].
        bytes: The length of each text in bytes, int64[B].
        tokens: The base tokens of each text, all of them scored, int64[B].
        prefixes: The merged prefixes, with what stands before every text.
        window: How many tokens the model saw at once.
        stride: How many tokens a further window of a text scores.
    """

    nats: NDArray[np.float64]
    bytes: NDArray[np.int64]
    tokens: NDArray[np.int64]
    prefixes: DynamicBatch
    window: int
    stride: int

    @property
    def bits(self) -> NDArray[np.float64]:
        """The same in bits, float64[B]."""
        return self.nats / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte over all texts; NaN where there is no byte."""
        size = int(self.bytes.sum())
        return math.fsum(self.nats) / math.log(2) / size if size else math.nan


class Reader:
    """A causal model that takes the ids of one merged batch, new ones among them.

    It stands where :func:`anyvocab.evaluate.scoring.score_windows` wants a model.

    Attributes:
        used: Which new tokens stand in the batch, rising numbers from 0, int64[K].
        rows: Their rows, in that order, K of them; None where there is none.
        seconds: How long these took.
        device: Where the model is.
    """

    def __init__(self, model: DynamicModel, batch: DynamicBatch) -> None:
        """Look up the rows of the new tokens that stand in a batch, once."""
        start = perf_counter()
        self._model, self._first = model, batch.new_tokens.first_id
        weight = model.network.get_input_embeddings().weight
        self.device = weight.device
        self.used = np.unique(batch.ids[batch.ids >= self._first]).astype(np.int64) - self._first
        self._slots = np.full(len(batch.new_tokens), -1, dtype=np.int64)
        self._slots[self.used] = np.arange(len(self.used))
        self.rows: Rows | None = None
        if len(self.used):
            found = model.cache.rows([batch.new_tokens[one] for one in self.used.tolist()])
            self.rows = found.each(lambda one: one.to(weight.device, weight.dtype))
        self.seconds = perf_counter() - start

    def embeds(self, ids: NDArray[np.int64]) -> Tensor:
        """Return ids, [...], as rows that enter the model, (..., D)."""
        import torch

        fresh = ids >= self._first
        base = np.where(fresh, 0, ids).astype(np.uint32).reshape(-1)
        made = self._model.embedder.rows_of(base).reshape(*ids.shape, -1)
        if self.rows is not None and fresh.any():
            slots = torch.from_numpy(self._slots[ids[fresh] - self._first]).to(self.device)
            read = self.rows.input[slots] * self._model.embedder.reading
            made[torch.from_numpy(fresh).to(self.device)] = read
        return made

    def __call__(self, ids: Tensor) -> Any:
        """Return what the model says of ids, (B, T), padded on their right."""
        return self._model.network(inputs_embeds=self.embeds(ids.cpu().numpy()))


def score(
    model: DynamicModel,
    texts: Iterable[Text],
    prefixes: Iterable[Text],
    *,
    boundary: Boundary = "pretoken",
    specials: Specials = "parse",
    keep_last: int = 0,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = BATCH,
    **stops: Unpack[Stops],
) -> PrefixScores:
    """Return what texts cost behind merged prefixes: see :meth:`DynamicModel.score`."""
    check_causal(model)
    data, before = _several("texts", texts), _several("prefixes", prefixes)
    if len(data) != len(before):
        raise errors.build(
            errors.InvalidValue,
            f"{len(before)} prefixes for {len(data)} texts",
            field="prefixes",
            fix="give one for each text; an empty one is none",
        )
    window, stride = sizes_of(model.network, window, stride)
    merged = model.merge(before, boundary=boundary, specials=specials, keep_last=keep_last, **stops)
    if not merged.lengths().all():
        raise errors.build(
            errors.InvalidValue,
            "a prefix is empty and no id stands before a text, so its first id cannot be scored",
            field="prefixes",
            fix="give it some text, or the model first_ids",
        )
    tails = [model.tokenizer.tokenizer.encode(text, specials=specials) for text in data]
    windows: list[tuple[NDArray[np.uint32], int]] = []
    owners: list[int] = []
    for owner, (head, tail) in enumerate(zip(merged.rows, tails, strict=True)):
        row = np.concatenate((head, tail))
        for ids, at in windows_of(row, len(head), window, stride):
            windows.append((np.asarray(ids), at))
            owners.append(owner)
    with evaluating(model.network):
        found = score_windows(Reader(model, merged), windows, batch_size=batch_size)
    parts: list[list[float]] = [[] for _ in data]
    for owner, nats in zip(owners, found, strict=True):
        parts[owner] += nats.tolist()
    return PrefixScores(
        np.array([math.fsum(part) for part in parts]),
        np.array([len(text) for text in data], dtype=np.int64),
        np.array([len(tail) for tail in tails], dtype=np.int64),
        merged,
        window,
        stride,
    )


def check_causal(model: DynamicModel) -> None:
    """Refuse a model that does not predict a text token by token.

    Raises:
        InvalidValue: It is an encoder, or has no head.
    """
    name = type(model.network).__name__
    if model.kind != "causal":
        raise errors.build(
            errors.InvalidValue,
            f"{name} is an encoder: it does not predict a text token by token",
            field="model",
            fix="give a causal language model",
        )
    if model.network.get_output_embeddings() is None:
        raise errors.build(
            errors.InvalidValue,
            f"{name} has no head that predicts tokens",
            field="model",
            fix="load it with AutoModelForCausalLM",
        )


def _several(field: str, texts: Iterable[Text]) -> Sequence[bytes]:
    if isinstance(texts, str | bytes | bytearray | memoryview):
        raise TypeError(f"{field} must be several texts; for one, give a list of it")
    return [_bytes(text) for text in texts]
