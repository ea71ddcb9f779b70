"""Rows from the pieces that spell a token: what needs nothing but the source model.

Every weight depends on the pieces' places and lengths only; lengths are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.transplant.plan import Combination, Side
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.tokenizer import Ragged
    from anyvocab.transplant.context import Context

__all__ = ["AdaptiVocab", "Front", "Last", "Length", "Mean"]


def _places(pieces: Ragged) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each piece's place in its row, from 0, and the length of its row."""
    lengths = pieces.lengths()
    place = np.arange(len(pieces.ids)) - np.repeat(pieces.offsets[:-1], lengths)
    return place, np.repeat(lengths, lengths)


def _combination(pieces: Ragged, raw: NDArray[np.float64]) -> Combination:
    """Return the pieces with weights proportional to `raw`, each row summing to 1."""
    lengths = pieces.lengths()
    row = np.repeat(np.arange(len(lengths)), lengths)
    totals = np.bincount(row, weights=raw, minlength=len(lengths))
    return Combination(
        pieces.offsets,
        pieces.ids.astype(np.int32),
        (raw / totals[row]).astype(np.float32),
    )


@strategy("mean")
@dataclass(frozen=True)
class Mean:
    """The mean of the pieces' rows (FVT, Gee et al. 2022; ReTok, arXiv:2410.04335)."""

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Combination:
        """Return the mean of the pieces for either side."""
        pieces = context.pieces(ids)
        return _combination(pieces, np.ones(len(pieces.ids)))


@strategy("length")
@dataclass(frozen=True)
class Length:
    """The mean of the pieces' rows weighted by their length in bytes (WVT, Gee et al. 2022)."""

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Combination:
        """Return the weighted mean for either side."""
        pieces = context.pieces(ids)
        sizes = np.array([len(token or b"") for token in context.source_tokens], dtype=np.float64)
        return _combination(pieces, np.maximum(sizes[pieces.ids], 1.0))


@strategy("last")
@dataclass(frozen=True)
class Last:
    """Input: the last piece's row; output: the first piece's row.

    What follows a token is decided by what the model read last; whether a token comes is decided
    where its first piece comes.
    """

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Combination:
        """Return one row for each id."""
        pieces = context.pieces(ids)
        place, length = _places(pieces)
        chosen = place == (length - 1 if side == "input" else 0)
        indptr = np.concatenate(([0], np.cumsum(pieces.lengths() > 0))).astype(np.int64)
        taken = pieces.ids[chosen].astype(np.int32)
        return Combination(indptr, taken, np.ones(len(taken), np.float32))


@strategy("front")
@dataclass(frozen=True)
class Front:
    """Input: the last piece; output: a mean, each piece `decay` times as heavy as the one before.

    The defaults are those of transplant-vocab (jukofyork).

    Attributes:
        decay: The weight of a piece relative to the one before it, in (0, 1].
    """

    decay: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.decay <= 1.0:
            raise errors.build(
                errors.InvalidValue, f"must be in (0, 1], got {self.decay}", field="decay"
            )

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Combination:
        """Return one piece for the input, a falling mean for the output."""
        if side == "input":
            return Last().rows(context, side, ids)
        pieces = context.pieces(ids)
        place, _ = _places(pieces)
        return _combination(pieces, self.decay ** place.astype(np.float64))


@strategy("adaptivocab")
@dataclass(frozen=True)
class AdaptiVocab:
    """Weights exp(`rate` * place), rising for the input and falling for the output.

    Source: AdaptiVocab, arXiv:2503.19693.

    Attributes:
        rate: How fast the weight changes from piece to piece, in nats; at least 0.
    """

    rate: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate < 50.0:
            raise errors.build(
                errors.InvalidValue, f"must be in [0, 50), got {self.rate}", field="rate"
            )

    def rows(self, context: Context, side: Side, ids: NDArray[np.int64]) -> Combination:
        """Return the weighted mean of the pieces."""
        pieces = context.pieces(ids)
        place, length = _places(pieces)
        # The heaviest piece has weight 1, so long tokens do not overflow.
        distance = length - 1 - place if side == "input" else place
        return _combination(pieces, np.exp(-self.rate * distance))
