"""TokenAdapt: a local part from a token's pieces, a global part from its neighbours, blended.

Source: Sharthak et al., arXiv:2505.09738, sections 3.1 to 3.3 and the authors' code. Every formula
is theirs; what is keyed by decoded text there is keyed by bytes here unless `keys="authors"`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anyvocab import errors
from anyvocab.tokenizer import Ragged
from anyvocab.transplant.plan import Combination, Side
from anyvocab.transplant.spaces import (
    SpaceName,
    check_space,
    encoded,
    encoder_of,
    known_sources,
    needs_of_space,
    space_of,
)
from anyvocab.transplant.spaces.exact import BLOCK_NUMBERS, nearest, paired_cosines
from anyvocab.transplant.strategies import strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.tokenizer import Tokenizer
    from anyvocab.transplant.context import Context

__all__ = ["TokenAdapt"]

ADDED = 1e-5  # to every temperature, as the authors do
BLOCK = 8192  # pieces whose vectors are held at once

Vectors = Any  # float32 or float64 in steps, (n, E)


@dataclass(frozen=True, eq=False)
class _Problem:
    """What the formulas need: sizes, pieces and vectors of the new tokens, and the old tokens.

    Attributes:
        sizes: float64[n]: lengths of the new tokens.
        pieces: n rows of source ids.
        piece_sizes: float64[P]: lengths of the pieces, one after another.
        queries: (n, E): vectors of the new tokens; zero where there are none.
        alike: float64[P]: cosine of each piece and its token.
        sources: int64[K]: source ids that may be neighbours.
        keys: (K, E): their vectors.
    """

    sizes: NDArray[np.float64]
    pieces: Ragged
    piece_sizes: NDArray[np.float64]
    queries: Vectors
    alike: NDArray[np.float64]
    sources: NDArray[np.int64]
    keys: Vectors


@strategy("tokenadapt", needs=needs_of_space)
@dataclass(frozen=True)
class TokenAdapt:
    """Pieces weighted by likeness and length, blended with the nearest source tokens (TokenAdapt).

    Attributes:
        weight: Share of the neighbours, in [0, 1].
        tau: Temperature of both parts; 0.3 in the authors' code, 0.6 in some of their runs.
        k: How many neighbours.
        threshold: Neighbours with a lower cosine are left out. The authors found 0 best.
        lengths: Unit of the pieces' share of a token's length.
        keys: `bytes`: a token is its bytes, and its pieces spell them exactly. `authors`: a token
            is what it decodes to by itself, as in the published code, where tokens that are not
            valid UTF-8 collapse; for comparison only.
        space: `corpus` and `spelling` need no encoder. `encoder` is the published one.
    """

    weight: float = 0.3
    tau: float = 0.3
    k: int = 3
    threshold: float = 0.0
    lengths: Literal["bytes", "characters"] = "bytes"
    keys: Literal["bytes", "authors"] = "bytes"
    space: SpaceName = "corpus"

    def __post_init__(self) -> None:
        check_space(self.space)
        for name, sound, rule in (
            ("weight", 0.0 <= self.weight <= 1.0, "in [0, 1]"),
            ("tau", self.tau >= 0.0, "at least 0"),
            ("k", self.k >= 1, "at least 1"),
            ("threshold", -1.0 <= self.threshold <= 1.0, "in [-1, 1]"),
            ("lengths", self.lengths in ("bytes", "characters"), "bytes or characters"),
            ("keys", self.keys in ("bytes", "authors"), "bytes or authors"),
            (
                "keys",
                self.keys == "bytes" or self.space == "encoder",
                'bytes unless space="encoder"',
            ),
        ):
            if not sound:
                raise errors.build(
                    errors.InvalidValue, f"must be {rule}, got {getattr(self, name)}", field=name
                )

    def rows(
        self,
        context: Context,
        side: Side,
        ids: NDArray[np.int64],
        *,
        block_numbers: int = BLOCK_NUMBERS,
    ) -> Combination:
        """Return convex combinations of source rows, the same for both sides in an encoder's space.

        A token without pieces has neighbours only, one without a vector or without a neighbour
        above the threshold pieces only.
        """
        make = self._by_text if self.keys == "authors" else self._by_bytes
        problem = make(context, side, ids)
        return self._local(problem).blend(self._global(problem, block_numbers), self.weight)

    def _local(self, problem: _Problem) -> Combination:
        """Return softmax((softmax(cosine) + length share) / 2 / tau) over each token's pieces."""
        counts = problem.pieces.lengths()
        row = np.repeat(np.arange(len(counts)), counts)
        share = problem.piece_sizes / np.maximum(problem.sizes, 1.0)[row]
        alike = _softmax_of_rows(problem.alike, row, len(counts))
        weights = _softmax_of_rows((alike + share) / 2 / (self.tau + ADDED), row, len(counts))
        return Combination(
            problem.pieces.offsets, problem.pieces.ids.astype(np.int32), weights.astype(np.float32)
        )

    def _global(self, problem: _Problem, block_numbers: int) -> Combination:
        """Return softmax(cosine / tau) over the neighbours, those above the threshold to sum 1."""
        rows = len(problem.sizes)
        known = np.flatnonzero(problem.queries.any(axis=1))
        if not len(known) or not len(problem.sources):
            return Combination.empty(rows)
        found, close = nearest(
            problem.queries[known], problem.keys, self.k, block_numbers=block_numbers
        )
        kept = close >= self.threshold
        # The softmax over all of them and a division by what is left is a softmax over what is
        # left. The best neighbour is the first.
        powers = np.where(kept, np.exp((close - close[:, :1]) / (self.tau + ADDED)), 0.0)
        weights = powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-300)
        made = Combination(
            np.concatenate(([0], np.cumsum(kept.sum(axis=1)))).astype(np.int64),
            problem.sources[found[kept]].astype(np.int32),
            weights[kept].astype(np.float32),
        )
        return Combination.scattered(rows, [(known, made)])

    def _by_bytes(self, context: Context, side: Side, ids: NDArray[np.int64]) -> _Problem:
        space = space_of(context, side, self.space)
        pieces = context.pieces(ids)
        queries = space.target(ids)
        row = np.repeat(np.arange(len(ids)), pieces.lengths())
        own, inverse = np.unique(pieces.ids, return_inverse=True)
        sources = known_sources(context)
        keys = space.source(sources)
        seen = keys.any(axis=1)
        tokens = [context.target_tokens[int(id)] or b"" for id in ids]
        spelled = np.array([self._length(context.source_tokens[int(i)] or b"") for i in own])
        return _Problem(
            np.array([self._length(token) for token in tokens], dtype=np.float64),
            pieces,
            spelled[inverse] if len(own) else np.zeros(0),
            queries,
            _alike(queries, row, space.source(own.astype(np.int64)), inverse),
            sources[seen],
            keys[seen],
        )

    def _by_text(self, context: Context, side: Side, ids: NDArray[np.int64]) -> _Problem:
        """Return the problem as the published code poses it: by what `decode([id])` gives."""
        encoder = encoder_of(context)
        texts = [_decoded(context.target, id) for id in ids.tolist()]
        cut = context.source.encode_batch(texts, specials="parse")
        hidden = {context.target_tokens[int(id)] for id in context.held_out}
        allowed = np.array(
            [
                id
                for id in context.source.vocabulary
                if id < context.source_rows and (context.source_tokens[id] or None) not in hidden
            ],
            dtype=np.int64,
        )
        pieces = _only(cut, allowed)
        row = np.repeat(np.arange(len(ids)), pieces.lengths())
        own, inverse = np.unique(pieces.ids, return_inverse=True)
        piece_texts = [_decoded(context.source, id) for id in own.tolist()]
        queries = encoded(encoder, [text.encode() for text in texts])
        vectors = encoded(encoder, [text.encode() for text in piece_texts])
        keys = encoded(encoder, [_decoded(context.source, id).encode() for id in allowed.tolist()])
        seen = keys.any(axis=1)
        sizes = np.array([self._length(text.encode()) for text in piece_texts])
        return _Problem(
            np.array([self._length(text.encode()) for text in texts], dtype=np.float64),
            pieces,
            sizes[inverse] if len(own) else np.zeros(0),
            queries,
            _alike(queries, row, vectors, inverse),
            allowed[seen],
            keys[seen],
        )

    def _length(self, token: bytes) -> float:
        if self.lengths == "bytes":
            return float(len(token))
        return float(len(token.decode("utf-8", "replace")))


def _decoded(tokenizer: Tokenizer, id: int) -> str:
    """Return what a token decodes to by itself; control tokens are their spelling."""
    return tokenizer.decode_text([id])


def _only(rows: Ragged, allowed: NDArray[np.int64]) -> Ragged:
    """Return the rows without ids that are not allowed."""
    kept = np.isin(rows.ids, allowed)
    row = np.repeat(np.arange(len(rows)), rows.lengths())[kept]
    counts = np.bincount(row, minlength=len(rows))
    return Ragged(rows.ids[kept], np.concatenate(([0], np.cumsum(counts))).astype(np.int64))


def _alike(
    queries: Vectors, row: NDArray[np.int64], pieces: Vectors, inverse: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the cosine of every piece and its token, float64[P]; 0 where one has no vector."""
    found = np.zeros(len(row))
    if pieces.shape[1] == queries.shape[1]:  # else one of them has no vector at all
        for start in range(0, len(row), BLOCK):
            part = slice(start, start + BLOCK)
            found[part] = paired_cosines(queries[row[part]], pieces[inverse[part]])
    return found


def _softmax_of_rows(
    values: NDArray[np.float64], row: NDArray[np.int64], rows: int
) -> NDArray[np.float64]:
    """Return the softmax of every run of equal `row`, which ascends."""
    highest = np.full(rows, -np.inf)
    np.maximum.at(highest, row, values)
    powers = np.exp(values - highest[row])
    total: NDArray[np.float64] = powers / np.bincount(row, weights=powers, minlength=rows)[row]
    return total
