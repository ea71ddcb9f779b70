"""Approximate likelihood matching: the model under its own tokenizer teaches it under another.

Both read the same texts. Where a token ends in both, a chunk of text ends, and the two models'
probabilities of the chunk are compared; see :func:`anyvocab.hypernet.losses.likelihood_matching`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from anyvocab.hypernet.losses import IGNORED, alignment, likelihood_matching, linear_logprobs
from anyvocab.transplant.identity import token_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.hypernet.backbone import Backbone
    from anyvocab.hypernet.batches import Batch, Controls
    from anyvocab.tokenizer import Tokenizer

__all__ = ["Lesson", "Teacher"]


@dataclass(frozen=True, eq=False)
class Lesson:
    """A batch's texts as the teacher reads them, and their chunks.

    Attributes:
        inputs: int64 (B, Tt): source ids; padding is 0.
        targets: int64 (B, Tt): source ids, or IGNORED.
        theirs: int64 (B, Tt): the chunk of each of the teacher's targets, or -1.
        ours: int64 (B, T): the chunk of each of the batch's targets, or -1.
        chunks: int64 (B,): chunks of each text.
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    theirs: NDArray[np.int64]
    ours: NDArray[np.int64]
    chunks: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return int(self.chunks.sum())

    @property
    def share(self) -> float:
        """The share of texts that have chunks: the others are not compared."""
        return float((self.chunks > 0).mean()) if len(self.chunks) else 0.0

    def of(self, places: Sequence[int]) -> Lesson:
        """Return the lesson of some texts; a number past the last is a row without text."""
        real = [one for one in places if one < len(self.chunks)]
        found = []
        for array, fill in (
            (self.inputs, 0),
            (self.targets, IGNORED),
            (self.theirs, -1),
            (self.ours, -1),
            (self.chunks, 0),
        ):
            rows = np.full((len(places), *array.shape[1:]), fill, dtype=np.int64)
            rows[: len(real)] = array[real]
            found.append(rows)
        return Lesson(*found)


class Teacher:
    """Reads texts with the source's tokenizer and says what it makes of their chunks."""

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: Tokenizer,
        controls: Controls,
        *,
        window: int,
        temperature: float,
        cast: Callable[[], Any],
    ) -> None:
        """Prepare a teacher.

        Args:
            backbone: The model, with its teacher.
            tokenizer: The model's.
            controls: Control tokens of the texts.
            window: Ids of a text that are read.
            temperature: Of the probabilities.
            cast: Makes the context that the model runs in.
        """
        self.backbone, self.tokenizer, self.controls = backbone, tokenizer, controls
        self.window, self.temperature, self.cast = window, temperature, cast
        table = token_table(tokenizer.vocabulary)
        rows = 0 if backbone.teacher is None else len(backbone.teacher.rows)
        self._table = [token if id < rows else None for id, token in enumerate(table)]

    def lesson(self, batch: Batch, texts: Sequence[bytes]) -> Lesson:
        """Return the texts of a batch as the teacher reads them.

        A text that either side does not spell, byte for byte but for a space put before it, has no
        chunks.

        Args:
            batch: The batch, on the CPU.
            texts: What it was made of.
        """
        first = list(self.controls.first)
        wide = len(first) + self.window
        inputs = np.zeros((len(batch.inputs), wide), dtype=np.int64)
        targets = np.full(inputs.shape, IGNORED, dtype=np.int64)
        theirs = np.full(inputs.shape, -1, dtype=np.int64)
        ours = np.full(tuple(batch.inputs.shape), -1, dtype=np.int64)
        chunks = np.zeros(len(inputs), dtype=np.int64)
        if len(texts) != len(inputs):  # some text came to no token: which is not known
            return Lesson(inputs, targets, theirs, ours, chunks)
        encoded = self.tokenizer.encode_batch(list(texts), specials="text")
        read = batch.inputs.numpy()
        for at, (ids, text) in enumerate(zip(encoded, texts, strict=True)):
            row = [*first, *ids[: self.window].tolist()]
            inputs[at, : len(row)] = row
            targets[at, : len(row) - 1] = row[1:]
            held = int(batch.mask[at].sum())
            pieces = [batch.tokens[id] for id in read[at, len(first) : held].tolist()]
            if self.controls.last:
                pieces = pieces[: -len(self.controls.last)]
            a = _spelt([self._table[id] for id in row[len(first) :]], text)
            b = _spelt(pieces, text)
            if a is None or b is None:
                continue
            chunk_a, chunk_b, count = alignment(a, b)
            unscored = 0 if first else 1  # of the first tokens, before which nothing stands
            if unscored and count:  # then nobody knows the first chunk's probability
                chunk_a, chunk_b, count = _dropped(chunk_a), _dropped(chunk_b), count - 1
            # The target of a position is the token behind it.
            start = len(first) - 1 + unscored
            theirs[at, start : start + len(a) - unscored] = chunk_a[unscored:]
            ours[at, start : start + len(b) - unscored] = chunk_b[unscored:]
            chunks[at] = count
        return Lesson(inputs, targets, theirs, ours, chunks)

    def compare(self, lesson: Lesson, places: Sequence[int]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the divergence as a function of what the student says of some texts.

        Args:
            lesson: The batch's.
            places: The texts; a number past the last is a row without text.

        Returns:
            A function of log-probabilities (n,) of scored targets, in order, and of where those
            are, bool (B', T).
        """
        taken = lesson.of(places)
        starts = np.concatenate(([0], np.cumsum(taken.chunks)))
        teacher = self._says(taken, starts)
        ours = torch.from_numpy(_numbered(taken.ours, starts)).to(teacher.device)

        def divergence(logprobs: Tensor, wanted: Tensor) -> Tensor:
            student = _summed(logprobs, ours[wanted], len(teacher))
            return likelihood_matching(teacher, student, temperature=self.temperature)

        return divergence

    @torch.no_grad()
    def _says(self, lesson: Lesson, starts: NDArray[np.int64]) -> Tensor:
        """Return the teacher's log-probabilities of all chunks, (K,)."""
        body = self.backbone.teacher
        if body is None:
            raise RuntimeError("a model without a teacher has no lessons: see Backbone.of")
        matrix = body.rows.input
        inputs = torch.from_numpy(lesson.inputs).to(matrix.device)
        targets = torch.from_numpy(lesson.targets).to(matrix.device)
        chunk = torch.from_numpy(_numbered(lesson.theirs, starts)).to(matrix.device)
        wanted = chunk >= 0
        with self.cast(), self.backbone.teaching():
            states = body.states(embedding(inputs, matrix))  # (B, Tt, D)
            logprobs = linear_logprobs(
                states[wanted],
                body.rows.sides[-1],
                targets[wanted],
                bias=body.rows.bias,
                shape=body.shape(),
            )
        return _summed(logprobs, chunk[wanted], int(starts[-1]))


def _spelt(tokens: Sequence[bytes | None], text: bytes) -> NDArray[np.int64] | None:
    """Return how many bytes of the text each token stands for; None where they are others."""
    if not tokens or None in tokens:
        return None
    found = [token for token in tokens if token is not None]
    lengths = np.fromiter(map(len, found), np.int64, len(found))
    whole = b"".join(found)
    if text.startswith(whole):
        return lengths
    if whole.startswith(b" ") and found[0] and text.startswith(whole[1:]):
        lengths[0] -= 1
        return lengths
    return None


def _dropped(chunks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return chunk numbers without the first chunk."""
    return np.maximum(chunks - 1, -1)


def _numbered(chunks: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return chunk numbers that go on from text to text."""
    return np.where(chunks >= 0, chunks + starts[:-1, None], -1)


def _summed(logprobs: Tensor, chunk: Tensor, count: int) -> Tensor:
    inside = chunk >= 0
    zeros = logprobs.new_zeros(count)
    return zeros.index_add(0, chunk[inside], logprobs[inside])
