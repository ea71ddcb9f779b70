"""What one training step is made of: a sampled tokenizer, texts in its ids, the rows they need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from anyvocab.hypernet.features import SurroundingsOf
from anyvocab.hypernet.losses import IGNORED

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.hypernet.data import Texts
    from anyvocab.hypernet.sampler import SampledTokenizer, TokenizerSampler

__all__ = ["MASKED_SHARE", "Batch", "Batcher", "Controls", "encode_windows", "tensors_on"]

MASKED_SHARE = 0.15
Token = bytes  # in Batch the name `bytes` is a field's
_MASKS, _ROWS = 1, 2  # streams of a step's seed


@dataclass(frozen=True)
class Controls:
    """Control tokens of the source that stand in training texts; their rows are the source's.

    Attributes:
        first: What stands before a text, source ids.
        last: What stands behind a text that is shown whole, source ids.
        mask: What stands for a hidden token; None in causal models.
    """

    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    mask: int | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Return all of them, each once, ascending."""
        mask = () if self.mask is None else (self.mask,)
        return tuple(sorted({*self.first, *self.last, *mask}))


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's texts. A local id is a row of the step's table: M predicted rows, then controls.

    Attributes:
        step: Which step.
        pieces: int64 (M, L), -1 behind each end.
        features: float32 (M, F); F is 0 where the network is told nothing of the vocabulary.
        language: Which language the texts are of.
        inputs: int64 (B, T): local ids; padding is 0.
        mask: bool (B, T): where there is a token.
        targets: int64 (B, T): local ids, or IGNORED.
        offset: float32 (M + C,): what a row that stands for several adds to its logit.
        anchors: int64 (A,): local ids with one piece.
        anchor_ids: int64 (A,): the source ids they are.
        bytes: Bytes that the targets stand for.
        vocabulary: Tokens of the sampled tokenizer.
        tokens: The bytes of each local id; empty for controls.
    """

    step: int
    pieces: Tensor
    features: Tensor
    language: int
    inputs: Tensor
    mask: Tensor
    targets: Tensor
    offset: Tensor
    anchors: Tensor
    anchor_ids: Tensor
    bytes: int
    vocabulary: int
    tokens: tuple[Token, ...] = ()

    @property
    def scored(self) -> int:
        """How many targets there are."""
        return int((self.targets != IGNORED).sum())

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return replace(self, **tensors_on(self, device))


def tensors_on(batch: Any, device: torch.device) -> dict[str, Any]:
    """Return the tensors among the fields of a batch, on a device."""
    return {
        name: value.to(device, non_blocking=True)
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor)
    }


def encode_windows(encoded: Sequence[NDArray[np.integer]], window: int) -> list[NDArray[np.int64]]:
    """Return the first `window` ids of each text; texts without any are left out."""
    return [row[:window].astype(np.int64) for row in encoded if len(row)]


class Batcher:
    """Makes batches. The same seed and step make the same batch.

    Attributes:
        samplers: One for each part of the texts: a sampler's queue is of one language.
    """

    def __init__(
        self,
        texts: Texts,
        samplers: Sequence[TokenizerSampler],
        surroundings: SurroundingsOf | None,
        controls: Controls,
        *,
        source_rows: int,
        kind: Literal["causal", "masked"] = "causal",
        count: int = 32,
        window: int = 128,
        span: int = 512,
        rows: int | None = 2048,
        seed: int = 0,
    ) -> None:
        self.texts, self.samplers, self.surroundings = texts, samplers, surroundings
        self.controls, self.kind, self.source_rows = controls, kind, source_rows
        self.count, self.window, self.span = count, window, span
        self.rows, self.seed = rows, seed

    def step(self, step: int) -> Batch:
        """Return the batch of a step; steps are asked for in order."""
        part, texts = self.texts.draw(step, self.count, self.span)
        return self.make(self.samplers[part].step(texts), texts, step, part)

    def catch_up(self, step: int, *, without: Callable[[int], bool] | None = None) -> None:
        """Fill the samplers' queues with what they hold before `step`.

        Args:
            step: The next step.
            without: Whether a step sampled no tokenizer; all did when left out.
        """
        steps = [one for one in range(step) if without is None or not without(one)]
        parts = {earlier: self.texts.draw(earlier, 0, 1)[0] for earlier in steps}
        for part, sampler in enumerate(self.samplers):
            mine = [earlier for earlier in steps if parts[earlier] == part]
            last = mine[max(0, len(mine) - sampler.options.queue_batches) :]
            batches = [self.texts.draw(one, self.count, self.span)[1] for one in last]
            sampler.replay(batches, step=len(mine))

    def make(
        self,
        sampled: SampledTokenizer,
        texts: Sequence[bytes],
        step: int,
        part: int,
        *,
        rows: int | None = None,
    ) -> Batch:
        """Return the batch of texts under a tokenizer.

        Args:
            sampled: The tokenizer.
            texts: The texts.
            step: Which step: seeds what is masked and which other rows take part.
            part: Which part of the corpus they are of.
            rows: At most so many rows, those the texts need always; the batcher's when left out.
        """
        windows = encode_windows(list(sampled.encode_batch(texts)), self.window)
        tokens, size = sampled.tokens, len(sampled)
        needed = np.unique(np.concatenate(windows)) if windows else np.zeros(0, np.int64)
        chosen, correction = self._chosen(needed, size, step, self.rows if rows is None else rows)
        local = np.full(size, -1, dtype=np.int64)
        local[chosen] = np.arange(len(chosen))
        control = {id: len(chosen) + at for at, id in enumerate(self.controls.ids)}
        inputs, mask, targets = self._laid_out([local[one] for one in windows], control, step)
        offset = np.zeros(len(chosen) + len(control), dtype=np.float32)
        offset[: len(chosen)][~np.isin(chosen, needed)] = correction
        pieces = sampled.pieces[chosen].astype(np.int64)
        single = np.flatnonzero((sampled.lengths[chosen] == 1) & (pieces[:, 0] < self.source_rows))
        scored = targets[targets != IGNORED]
        named = (*(tokens[id] for id in chosen.tolist()), *(b"" for _ in control))
        sizes = np.fromiter(map(len, named), np.int64, len(named))
        return Batch(
            step,
            torch.from_numpy(pieces),
            torch.from_numpy(self._features(named[: len(chosen)], tokens)),
            part,
            torch.from_numpy(inputs),
            torch.from_numpy(mask),
            torch.from_numpy(targets),
            torch.from_numpy(offset),
            torch.from_numpy(single),
            torch.from_numpy(pieces[single, 0]),
            int(sizes[scored].sum()),
            size,
            named,
        )

    def _features(
        self, tokens: Sequence[bytes], vocabulary: Sequence[bytes]
    ) -> NDArray[np.float32]:
        if self.surroundings is None:
            return np.zeros((len(tokens), 0), dtype=np.float32)
        return self.surroundings(tokens, vocabulary)

    def _chosen(
        self, needed: NDArray[np.int64], size: int, step: int, rows: int | None
    ) -> tuple[NDArray[np.int64], float]:
        """Return ids of rows that take part, ascending, and what each other one's logit gains.

        A row drawn from n others stands for n / m of them, so the sum over the vocabulary that the
        softmax divides by keeps its expectation.
        """
        if rows is None or size <= rows or len(needed) >= size:
            return np.arange(size), 0.0
        others = np.setdiff1d(np.arange(size), needed, assume_unique=True)
        count = max(1, min(len(others), rows - len(needed)))
        rng = np.random.default_rng([self.seed, step, _ROWS])
        drawn = rng.choice(others, size=count, replace=False)
        return np.union1d(needed, drawn), math.log(len(others) / count)

    def _laid_out(
        self, windows: list[NDArray[np.int64]], control: dict[int, int], step: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        first = np.array([control[id] for id in self.controls.first], dtype=np.int64)
        last = np.array([control[id] for id in self.controls.last], dtype=np.int64)
        rows = [np.concatenate((first, one, last)) for one in windows]
        # Always as wide: shapes that never change can be compiled once.
        longest = len(first) + self.window + len(last)
        inputs = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.bool_)
        targets = np.full((len(rows), longest), IGNORED, dtype=np.int64)
        for at, one in enumerate(rows):
            inputs[at, : len(one)] = one
            mask[at, : len(one)] = True
            if self.kind == "causal":
                before = max(1, len(first))  # nothing stands before a text's first id: not scored
                targets[at, before - 1 : len(one) - 1] = one[before:]
        if self.kind == "masked" and self.controls.mask is not None:
            rng = np.random.default_rng([self.seed, step, _MASKS])
            for at, one in enumerate(rows):
                inside = np.arange(len(first), len(one) - len(last))
                count = max(1, round(MASKED_SHARE * len(inside)))
                hidden = rng.choice(inside, size=count, replace=False)
                targets[at, hidden] = inputs[at, hidden]
                inputs[at, hidden] = control[self.controls.mask]
        return inputs, mask, targets
