"""What a strategy may look at: anchors, pieces, matrices, a donor, a corpus, the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab.tokenizer import Ragged, Tokenizer
from anyvocab.transplant.identity import Match, decompose, match, token_table
from anyvocab.transplant.plan import Matrix, Side
from anyvocab.transplant.ragged import ragged, scattered, select

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Context", "Donor", "Encoder", "Progress", "TensorMatrix"]

Encoder = Callable[[Sequence[bytes]], "NDArray[np.float32]"]
"""Byte strings to vectors, float32[n, E]."""

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much is done and how much there is."""


def _silent(stage: str, done: int, total: int) -> None:
    """Take no notice."""


class TensorMatrix:
    """A matrix in memory, as a :class:`anyvocab.transplant.plan.Matrix`."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self.tensor.shape[0])

    @property
    def width(self) -> int:
        """How long a row is."""
        return int(self.tensor.shape[1])

    @property
    def dtype(self) -> Any:
        """The torch type of its numbers."""
        return self.tensor.dtype

    def take(self, ids: NDArray[np.integer[Any]]) -> Tensor:
        """Return the rows `ids`, (n, D)."""
        import torch

        return self.tensor[torch.from_numpy(np.asarray(ids, dtype=np.int64))]

    def chunk(self, start: int, stop: int) -> Tensor:
        """Return the rows from `start` to `stop`."""
        return self.tensor[start:stop]


@dataclass(frozen=True, eq=False)
class Donor:
    """Another model that has rows for the target vocabulary.

    Attributes:
        matrices: Side to matrix; a tied donor has one under both.
        row_of: int32[V_tgt]: the donor's row of every target id, -1 where it has none.
    """

    matrices: dict[Side, Matrix]
    row_of: NDArray[np.int32]

    @classmethod
    def of(cls, tokenizer: Tokenizer, target: Tokenizer, matrices: dict[Side, Matrix]) -> Donor:
        """Return a donor whose rows are matched to the target vocabulary by bytes."""
        rows = min(matrix.rows for matrix in matrices.values())
        found = match(tokenizer.vocabulary, target.vocabulary, source_rows=rows)
        return cls(matrices, found.source_of)


@dataclass(frozen=True, eq=False)
class Context:
    """Everything known when rows are planned. What is expensive is made when it is asked for.

    Attributes:
        source: The model's tokenizer.
        target: The tokenizer it shall have.
        matrices: Side to the source's matrix; a tied model has one under both.
        match: Target ids matched to source ids by bytes.
        donor: A model with the target vocabulary, or None.
        corpus: Texts that speak for the model's use, or none.
        encoder: Byte strings to vectors of an auxiliary space, or None.
        model: Gives the source model (transformers, float32, in evaluation mode) for strategies
            that need its hidden states, or None.
        seed: For whatever draws at random.
        held_out: Target ids whose rows are to be predicted although the source has them.
        progress: Told about long work.
        shared: What strategies have made and may need again; goes along to contexts with other
            held-out ids.
        bias: The source's output bias, or None where it has none.
        hypernet: The folder of a hypernetwork for the model, or None.
    """

    source: Tokenizer
    target: Tokenizer
    matrices: dict[Side, Matrix]
    match: Match
    donor: Donor | None = None
    corpus: tuple[bytes, ...] = ()
    encoder: Encoder | None = None
    model: Callable[[], Any] | None = None
    seed: int = 0
    held_out: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    progress: Progress = _silent
    shared: dict[str, Any] = field(default_factory=dict, repr=False)
    bias: Matrix | None = None
    hypernet: Path | None = None

    @classmethod
    def of(
        cls, source: Tokenizer, target: Tokenizer, matrices: dict[Side, Matrix], **others: Any
    ) -> Context:
        """Return a context; the match is made here, the other attributes are passed on."""
        rows = min(matrix.rows for matrix in matrices.values())
        found = match(source.vocabulary, target.vocabulary, source_rows=rows)
        return cls(source, target, matrices, found, **others)

    @property
    def tied(self) -> bool:
        """Whether one matrix serves both sides."""
        return self.matrices["input"] is self.matrices["output"]

    @property
    def source_rows(self) -> int:
        """Rows of the source's matrices that may be used."""
        return min(matrix.rows for matrix in self.matrices.values())

    def holding_out(self, ids: NDArray[np.int64]) -> Context:
        """Return a context in which the rows of these target ids are not known."""
        return replace(self, held_out=np.unique(ids).astype(np.int64))

    @cached_property
    def target_tokens(self) -> list[bytes | None]:
        """The bytes of every target id; None where it stands for no text."""
        return token_table(self.target.vocabulary)

    @cached_property
    def source_tokens(self) -> list[bytes | None]:
        """The bytes of every source id; None where it stands for no text."""
        return token_table(self.source.vocabulary)

    @cached_property
    def anchors(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Target ids and source ids of the text tokens that both have, held-out ones left out.

        One target id for each source id, ascending by target id; byte-fallback tokens are no
        anchors: their rows are rarely trained.
        """
        kinds = self.target.vocabulary.kinds()
        text = kinds == self.target.vocabulary.kind_code("text")
        known = (self.match.source_of >= 0) & text
        # A twin of a hidden token has the same row, and would give it away.
        hidden = self.match.source_of[self.held_out]
        known &= ~np.isin(self.match.source_of, hidden[hidden >= 0])
        targets = np.flatnonzero(known)
        sources = self.match.source_of[targets].astype(np.int64)
        _, first = np.unique(sources, return_index=True)
        first.sort()
        return targets[first], sources[first]

    def pieces(self, ids: NDArray[np.integer[Any]]) -> Ragged:
        """Return the source ids that spell each target id's bytes.

        Held-out ids are cut apart: their own source token is not used. Where no cut gives the
        exact bytes the row holds what the source tokenizer makes of them, unknown tokens left out;
        it may be empty. Ids that stand for no text have empty rows.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        speaks = np.array([bool(self.target_tokens[id]) for id in wanted.tolist()], dtype=np.bool_)
        held = np.isin(wanted, self.held_out)
        parts: list[tuple[NDArray[np.int64], Ragged]] = []
        for apart in (False, True):
            places = np.flatnonzero(speaks & (held == apart))
            tokens = [self.target_tokens[id] or b"" for id in wanted[places].tolist()]
            found = decompose(self.source, tokens, apart=apart, rows=self.source_rows)
            if not apart:
                failed = np.flatnonzero(found.lengths() == 0)
                others = ragged([self._nearly(tokens[i]) for i in failed])
                parts.append((places[failed], others))
                done = np.flatnonzero(found.lengths())
                places, found = places[done], select(found, done)
            parts.append((places, found))
        return scattered(len(wanted), parts)

    def _nearly(self, token: bytes) -> list[int]:
        ids = self.source.encode(token, specials="text").tolist()
        rows = self.source_rows
        return [i for i in ids if i < rows and self.source_tokens[i]]

    def counts(self, side: str) -> NDArray[np.int64]:
        """Return how often each id of `source` or `target` occurs in the corpus, int64[V].

        Raises:
            InvalidValue: There is no corpus.
        """
        tokenizer = self.source if side == "source" else self.target
        found = np.zeros(len(tokenizer.vocabulary), dtype=np.int64)
        for row in self.encoded(side):
            found += np.bincount(row, minlength=len(found))
        return found

    def encoded(self, side: str) -> Ragged:
        """Return the corpus in ids of `source` or `target`.

        Raises:
            InvalidValue: There is no corpus.
        """
        if not self.corpus:
            raise errors.build(
                errors.InvalidValue,
                "there is none, and this needs one",
                field="corpus",
                fix="give text files of the model's use with --corpus",
            )
        tokenizer = self.source if side == "source" else self.target
        return tokenizer.encode_batch(self.corpus, specials="text")
