"""One target tokenizer in place of sampled ones: training goes on for it alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.hypernet.features import SurroundingsOf, matrix_of, pieces_of
from anyvocab.transplant.identity import token_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.tokenizer import Tokenizer

__all__ = ["FixedOptions", "FixedSampler", "FixedSurroundings", "FixedTokenizer"]


@dataclass(frozen=True)
class FixedOptions:
    """What a trainer asks of a sampler's options.

    Attributes:
        queue_batches: Texts of earlier steps have no part in a tokenizer that is always the same.
    """

    queue_batches: int = 0


class FixedTokenizer:
    """A target's tokens that are text, in the form of a sampled tokenizer.

    Attributes:
        tokens: Their bytes, in the order of `ids`.
        ids: The target's ids of them, ascending.
        pieces: int32 (N, L): source ids that spell each token, -1 behind each end.
        lengths: int32 (N,): how many pieces each has.
    """

    def __init__(self, target: Tokenizer, source: Tokenizer, *, rows: int) -> None:
        table = token_table(target.vocabulary)
        self.ids = np.array([id for id, token in enumerate(table) if token], dtype=np.int64)
        self.tokens: list[bytes] = [token for token in table if token]
        if not self.tokens:
            raise errors.build(errors.InvalidValue, "it has no token that is text", field="target")
        pieces = pieces_of(source, self.tokens, rows=rows)
        self.pieces: NDArray[np.int32] = matrix_of(pieces)
        self.lengths = np.fromiter(map(len, pieces), np.int32, len(pieces))
        self._target = target
        self._place = np.full(len(table), -1, dtype=np.int64)
        self._place[self.ids] = np.arange(len(self.ids))

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    def encode_batch(self, texts: Sequence[bytes]) -> list[NDArray[np.int64]]:
        """Return the places in `tokens` of what the target makes of each text.

        Control tokens that it writes for what it does not know are left out.
        """
        encoded = self._target.encode_batch(list(texts), specials="text")
        places = [self._place[ids] for ids in encoded]
        return [one[one >= 0] for one in places]


class FixedSampler:
    """Gives the same tokenizer at every step.

    Attributes:
        options: What a trainer asks for.
        tokenizer: The tokenizer.
    """

    def __init__(self, target: Tokenizer, source: Tokenizer, *, rows: int) -> None:
        """Cut the target's tokens into pieces.

        Args:
            target: The tokenizer to train for.
            source: The model's.
            rows: Rows of the model's matrices.

        Raises:
            InvalidValue: The target has no token that is text.
        """
        self.options = FixedOptions()
        self.tokenizer = FixedTokenizer(target, source, rows=rows)

    def step(self, texts: Sequence[bytes]) -> FixedTokenizer:  # noqa: ARG002
        """Return the tokenizer."""
        return self.tokenizer

    def peek(self, texts: Sequence[bytes], *, step: int) -> FixedTokenizer:  # noqa: ARG002
        """Return the tokenizer."""
        return self.tokenizer

    def replay(self, batches: Iterable[Sequence[bytes]], *, step: int) -> None:
        """Do nothing: it keeps nothing of earlier steps."""


class FixedSurroundings:
    """The features of one vocabulary's tokens, made once; see :class:`SurroundingsOf`."""

    def __init__(self, surroundings: SurroundingsOf, tokens: Sequence[bytes]) -> None:
        self._made = surroundings(tokens)
        self._place = {token: place for place, token in enumerate(tokens)}

    def __call__(
        self,
        tokens: Sequence[bytes],
        vocabulary: Sequence[bytes] | None = None,  # noqa: ARG002
    ) -> NDArray[np.float32]:
        """Return the features of some of the tokens, float32 (N, F)."""
        return self._made[[self._place[token] for token in tokens]]
