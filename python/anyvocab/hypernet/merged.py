"""Steps on merged batches: base tokens keep the model's rows, what merges has predicted ones.

This is how dynamic tokenization reads a hypernetwork (Feher et al. 2024, arXiv:2411.18553, who
sample merges for every batch of their training, too): the model meets a predicted row among rows of
its own, and it only reads it, because what is asked of it behind a merged prompt are base tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from anyvocab import _core, errors
from anyvocab.hypernet.batches import MASKED_SHARE, tensors_on
from anyvocab.hypernet.features import matrix_of, pieces_of
from anyvocab.hypernet.losses import IGNORED, linear_divergence
from anyvocab.transplant.identity import token_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.hypernet.batches import Controls
    from anyvocab.hypernet.body import Body
    from anyvocab.hypernet.data import Texts
    from anyvocab.hypernet.features import SurroundingsOf
    from anyvocab.hypernet.rows import Rows
    from anyvocab.tokenizer import Tokenizer

__all__ = ["MergedBatch", "MergedLoss", "Merger", "merged_objective", "some_of"]

Token = bytes  # in MergedBatch the name `bytes` is a field's
MAX_TOKEN_BYTES = 4096  # the longest token of a merge, as for dynamic tokenization itself
_IS_MERGED, _MERGES = 3, 4  # streams of a step's seed; batches.py has others
_PARTS = 1000  # the reduction is drawn in thousandths of what the boundary allows
_ALONE = 1 << 31  # no pretoken has this number or a higher one
_NO_LIMIT = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class MergedBatch:
    """One step's texts, merged. Below, V is the number of the model's rows, K that of new tokens.

    Attributes:
        step: Which step.
        pieces: int64 (K, L) of the new tokens that stand in the texts, -1 behind each end; where
            there is none, those of a token that stands nowhere.
        features: float32 (K, F).
        language: Which language the texts are of.
        inputs: int64 (B, T): source ids, and V + k for new token k; padding is 0.
        mask: bool (B, T): where there is a token.
        targets: int64 (B, T): source ids, or IGNORED.
        plain: int64 (B, T): the same texts in base tokens.
        plain_mask: bool (B, T).
        plain_places: int64 (B, T): where in `plain` the same target is predicted; 0 where none is.
        bytes: Bytes that the targets stand for.
        reduction: The share of the base tokens that is gone.
        tokens: The bytes of each new token.
    """

    step: int
    pieces: Tensor
    features: Tensor
    language: int
    inputs: Tensor
    mask: Tensor
    targets: Tensor
    plain: Tensor
    plain_mask: Tensor
    plain_places: Tensor
    bytes: int
    reduction: float
    tokens: tuple[Token, ...] = ()

    @property
    def scored(self) -> int:
        """How many targets there are."""
        return int((self.targets != IGNORED).sum())

    def to(self, device: torch.device) -> MergedBatch:
        """Return the batch on a device."""
        return replace(self, **tensors_on(self, device))


_TEXTS = {  # what has a row for each text, and what stands in one without text
    "inputs": 0,
    "mask": True,
    "targets": IGNORED,
    "plain": 0,
    "plain_mask": True,
    "plain_places": 0,
}


def some_of(batch: MergedBatch, places: Sequence[int]) -> MergedBatch:
    """Return a batch of some of the texts; a number past the last is a text without targets."""
    real = [one for one in places if one < len(batch.inputs)]
    added = len(places) - len(real)
    taken: dict[str, Any] = {}
    for name, fill in _TEXTS.items():
        rows = getattr(batch, name)
        taken[name] = torch.cat((rows[real], rows.new_full((added, rows.shape[1]), fill)))
    return replace(batch, **taken)


class Merger:
    """Makes merged batches. The same seed and step make the same batch.

    A causal model's texts are merged up to a place that is drawn for each, like a prompt, and go on
    in base tokens. A masked model's are merged whole, around base tokens that are hidden.
    """

    def __init__(
        self,
        texts: Texts,
        tokenizer: Tokenizer,
        surroundings: SurroundingsOf | None,
        controls: Controls,
        *,
        source_rows: int,
        kind: Literal["causal", "masked"] = "causal",
        share: float = 1.0,
        boundaries: Sequence[str] = ("pretoken", "word"),
        count: int = 32,
        window: int = 128,
        span: int = 512,
        seed: int = 0,
    ) -> None:
        """Prepare.

        Args:
            texts: The corpus.
            tokenizer: The model's.
            surroundings: Makes features, for a network that is told of its vocabulary: that of the
                model, as when dynamic tokenization asks it.
            controls: Control tokens of the texts.
            source_rows: Rows of the model's matrices.
            kind: What the model does.
            share: The share of the steps that are merged.
            boundaries: What no merge crosses; each step draws one.
            count: Texts of a step.
            window: Base tokens of a text that are read.
            span: Bytes of a text that is drawn.
            seed: Of every draw.

        Raises:
            InvalidValue: The model has no row for some of the tokenizer's ids.
        """
        if len(tokenizer.vocabulary) > source_rows:
            raise errors.build(
                errors.InvalidValue,
                f"the tokenizer has {len(tokenizer.vocabulary)} ids and the model rows for "
                f"{source_rows}: a base token may have no row",
                field="dynamic_share",
                fix="give 0, or a model with a row for every id",
            )
        self.texts, self.tokenizer, self.controls = texts, tokenizer, controls
        self.source_rows, self.kind, self.share = source_rows, kind, share
        self.boundaries, self.count, self.window = tuple(boundaries), count, window
        self.span, self.seed = span, seed
        self._core = _core.DynamicMerger(tokenizer._core)
        self._bytes = [token or b"" for token in token_table(tokenizer.vocabulary)]
        self._sizes = np.fromiter(map(len, self._bytes), np.int64, len(self._bytes))
        self._surroundings = surroundings
        self._around = [token for token in self._bytes if token]

    def takes(self, step: int) -> bool:
        """Whether a step is one on a merged batch: drawn by seed and step alone."""
        if not self.share:
            return False
        return bool(np.random.default_rng([self.seed, step, _IS_MERGED]).random() < self.share)

    def step(self, step: int) -> MergedBatch:
        """Return the batch of a step."""
        part, texts = self.texts.draw(step, self.count, self.span)
        return self.make(texts, step, part)

    def make(self, texts: Sequence[bytes], step: int, part: int) -> MergedBatch:
        """Return texts as a merged batch.

        What is scored are base tokens alone, wherever the model reads a new token at their place
        or before: a prompt may end behind any merged token, and is then asked for the base token
        that comes next.

        Args:
            texts: The texts.
            step: Which step: seeds what merges and what is hidden.
            part: Which part of the corpus they are of.
        """
        rng = np.random.default_rng([self.seed, step, _MERGES])
        boundary = self.boundaries[int(rng.integers(len(self.boundaries)))]
        target = ("of_open", int(rng.integers(1, _PARTS + 1)), _PARTS)
        base, offsets, groups = self._read(texts, boundary)
        lengths = np.diff(offsets)
        hidden = np.zeros(len(base), dtype=np.bool_)
        shown = base.copy()
        if self.kind == "causal":
            ends = offsets[:-1] + rng.integers(1, lengths + 1)
            alone = np.arange(len(base)) >= np.repeat(ends, lengths)
        else:
            for start, size in zip(offsets[:-1].tolist(), lengths.tolist(), strict=True):
                some = rng.choice(size, size=max(1, round(MASKED_SHARE * size)), replace=False)
                hidden[start + some] = True
            shown[hidden] = self.controls.mask or 0
            alone = hidden
        apart = np.arange(_ALONE, _ALONE + len(base), dtype=np.uint32)
        merged = self._core.merge(
            shown,
            offsets,
            np.where(alone, apart, groups),
            None,
            transition=0,
            max_merges=_NO_LIMIT,
            target=target,
            min_count=1,
            max_bytes=MAX_TOKEN_BYTES,
        )
        (ids, rows, starts), (data, places), *_ = merged.take()
        first = len(self.tokenizer.vocabulary)
        used, which = np.unique(ids[ids >= first].astype(np.int64) - first, return_inverse=True)
        tokens = [data[places[one] : places[one + 1]] for one in used.tolist()]
        read = ids.astype(np.int64)
        read[ids >= first] = self.source_rows + which
        given = tokens or [self._around[0]]
        pieces = pieces_of(self.tokenizer, given, rows=self.source_rows)
        laid = self._laid_out(base, shown, offsets, hidden, read, rows, starts)
        scored = laid["targets"][laid["targets"] != IGNORED]
        return MergedBatch(
            step=step,
            pieces=torch.from_numpy(matrix_of(pieces).astype(np.int64)),
            features=torch.from_numpy(self._features(given)),
            language=part,
            **{name: torch.from_numpy(one) for name, one in laid.items()},
            bytes=int(self._sizes[scored].sum()),
            reduction=1 - len(ids) / max(1, len(base)),
            tokens=tuple(tokens),
        )

    def _read(
        self, texts: Sequence[bytes], boundary: str
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint32]]:
        """Return the first base tokens of texts that have any: ids, offsets, groups."""
        ids, offsets, _, groups, _, _ = self._core.base(list(texts), "text", False, boundary, 1)
        lengths = np.diff(offsets)
        within = np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)
        kept = within < self.window
        sizes = np.minimum(lengths, self.window)
        return ids[kept], np.concatenate(([0], np.cumsum(sizes[sizes > 0]))), groups[kept]

    def _features(self, tokens: Sequence[bytes]) -> NDArray[np.float32]:
        if self._surroundings is None:
            return np.zeros((len(tokens), 0), dtype=np.float32)
        return self._surroundings(tokens, self._around)

    def _laid_out(
        self,
        base: NDArray[np.uint32],
        shown: NDArray[np.uint32],
        offsets: NDArray[np.int64],
        hidden: NDArray[np.bool_],
        read: NDArray[np.int64],
        rows: NDArray[np.int64],
        starts: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        """Return what a batch has for each text; see :class:`MergedBatch`.

        Args:
            base: Base ids of all texts.
            shown: The same with what is hidden.
            offsets: Where each text begins in them.
            hidden: What is hidden.
            read: Merged ids.
            rows: Where each text begins in these.
            starts: The first base token of each merged one.
        """
        first = np.array(self.controls.first, dtype=np.int64)
        last = np.array(self.controls.last, dtype=np.int64)
        # Always as wide: shapes that never change can be compiled once.
        shape = (len(offsets) - 1, len(first) + self.window + len(last))
        made: dict[str, NDArray[Any]] = {
            name: np.zeros(shape, np.bool_ if name.endswith("mask") else np.int64)
            for name in _TEXTS
        }
        made["targets"][:] = IGNORED
        for at in range(shape[0]):
            begin, end = offsets[at : at + 2].tolist()
            here = slice(*rows[at : at + 2].tolist())
            for prefix, one in (("", read[here]), ("plain", shown[begin:end])):
                row = np.concatenate((first, one, last))
                made[prefix or "inputs"][at, : len(row)] = row
                made[f"{prefix}_mask".lstrip("_")][at, : len(row)] = True
            behind = starts[here.start + 1 : here.stop + 1]  # the base token behind each token
            if self.kind == "causal":
                known = np.maximum.accumulate(read[here] >= self.source_rows) & (behind < end)
                where, wanted, places = np.flatnonzero(known), behind[known], behind[known] - 1
            else:
                where = np.flatnonzero(hidden[behind - 1])
                wanted = places = behind[where] - 1
            where = where + len(first)
            made["targets"][at, where] = base[wanted]
            made["plain_places"][at, where] = places - begin + len(first)
        return made


@dataclass(frozen=True, eq=False)
class MergedLoss:
    """What some merged texts cost, summed over their targets, nats.

    Attributes:
        apart: How far what the model says of every target is from what it says of the same one
            where nothing is merged, with its gradient: see
            :func:`anyvocab.hypernet.losses.linear_divergence`.
        nats: Cross-entropy.
        plain: Cross-entropy where nothing is merged.
    """

    apart: Tensor
    nats: Tensor
    plain: Tensor


def merged_objective(
    batch: MergedBatch, rows: Rows, body: Body, plain: Body, *, teaching: Any
) -> MergedLoss:
    """Return what the texts of a merged batch cost.

    The loss is the divergence from what the model itself says of the texts in base tokens, at every
    target, over the whole vocabulary. Its least value is 0 and it is what merging costs; a text's
    cross-entropy has the model's own uncertainty besides, which is far more, and its noise.

    Args:
        batch: The texts.
        rows: The rows of the new tokens.
        body: The model that reads them.
        plain: The model that reads base tokens: the same, or as it was before its own training.
        teaching: A context in which it is that.
    """
    source, size = body.rows, len(body.rows)
    masked = body.kind == "masked"
    wanted = batch.targets != IGNORED  # (B, T)
    targets = batch.targets[wanted]
    with torch.no_grad(), teaching:
        read = embedding(batch.plain, plain.rows.input)  # (B, T, D)
        states = plain.states(read, batch.plain_mask if masked else None)
        text = wanted.nonzero()[:, 0]
        theirs = states[text, batch.plain_places[wanted]]  # (N, D)
    made = rows.input.to(source.input.dtype)[(batch.inputs - size).clamp_min(0)]
    own = embedding(batch.inputs.clamp_max(size - 1), source.input)
    read = torch.where((batch.inputs >= size)[..., None], made, own)  # (B, T, D)
    ours = body.states(read, batch.mask if masked else None)[wanted]  # (N, D)
    return MergedLoss(
        *linear_divergence(
            ours, theirs, source.sides[-1], targets, bias=source.bias, shape=body.shape()
        )
    )
