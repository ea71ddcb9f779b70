"""What a hypernetwork is told of a token besides its pieces, and the pieces themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from anyvocab.transplant.identity import decompose, token_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.tokenizer import Tokenizer

__all__ = [
    "FEATURES",
    "SurroundingsOf",
    "around_missing",
    "extensions",
    "matrix_of",
    "missing_bytes",
    "pieces_of",
]

FEATURES = (
    "extensions here",  # ln(1 + how many tokens of its vocabulary strictly extend it)
    "extensions there",  # ln(1 + how many tokens of the source vocabulary strictly extend it)
    "bytes",  # ln(its length)
    "vocabulary size",  # ln(tokens of its vocabulary)
    "bytes of a token",  # mean length of them
)


def extensions(tokens: Sequence[bytes], vocabulary: Sequence[bytes]) -> NDArray[np.int64]:
    """Return how many tokens of `vocabulary` begin with each of `tokens` and are longer.

    O((n + V) log(n + V)) comparisons. Equal byte strings of the vocabulary count once.

    >>> extensions([b"a", b"ab", b"x"], [b"a", b"ab", b"abc", b"b"]).tolist()
    [2, 1, 0]
    """
    ordered = sorted(set(vocabulary))
    found = np.zeros(len(tokens), dtype=np.int64)
    order = sorted(range(len(tokens)), key=tokens.__getitem__)
    # One walk over both lists: a stack holds the tokens that the current one begins with.
    stack: list[tuple[bytes, int, int]] = []  # token, its place, tokens of the vocabulary before it
    at = 0
    for place in [*order, -1]:
        token = tokens[place] if place >= 0 else None
        while at < len(ordered) and (token is None or ordered[at] <= token):
            _close(stack, ordered[at], at, found)
            at += 1
        if token is not None:
            _close(stack, token, at, found)
            stack.append((token, place, at))
    while stack:
        _, place, before = stack.pop()
        found[place] = at - before
    return found


def _close(
    stack: list[tuple[bytes, int, int]], token: bytes, at: int, found: NDArray[np.int64]
) -> None:
    while stack and not token.startswith(stack[-1][0]):
        _, place, before = stack.pop()
        found[place] = at - before


class SurroundingsOf:
    """Makes the features of a vocabulary's tokens, for one source.

    Attributes:
        source: The bytes of the source's text tokens, sorted.
    """

    def __init__(self, source: Tokenizer, rows: int | None = None) -> None:
        table = token_table(source.vocabulary)[:rows]
        self.source = sorted({token for token in table if token})
        self._there: dict[bytes, int] = {}

    def __call__(
        self, tokens: Sequence[bytes], vocabulary: Sequence[bytes] | None = None
    ) -> NDArray[np.float32]:
        """Return the features of tokens, float32 (N, F), in the order of `FEATURES`.

        Args:
            tokens: The tokens, none of them empty.
            vocabulary: All text tokens around them; the tokens themselves when left out.
        """
        around = tokens if vocabulary is None else vocabulary
        new = [token for token in tokens if token not in self._there]
        if new:
            if len(self._there) > 1 << 20:  # a long training meets many tokens
                self._there.clear()
                new = list(tokens)
            counts = extensions(new, self.source).tolist()
            self._there.update(zip(new, counts, strict=True))
        sizes = np.fromiter(map(len, tokens), np.float32, len(tokens))
        here = extensions(tokens, around)
        there = np.fromiter((self._there[token] for token in tokens), np.float32, len(tokens))
        distinct = set(around)
        mean = sum(map(len, distinct)) / max(1, len(distinct))
        made = np.empty((len(tokens), len(FEATURES)), dtype=np.float32)
        made[:, 0] = np.log1p(here)
        made[:, 1] = np.log1p(there)
        made[:, 2] = np.log(np.maximum(sizes, 1.0))
        made[:, 3] = np.log(max(1, len(distinct)))
        made[:, 4] = mean
        return made


def missing_bytes(source: Tokenizer, rows: int) -> frozenset[int]:
    """Return the bytes that no token of the source can be a piece for.

    Args:
        source: The model's tokenizer.
        rows: Rows of the model's matrices; ids beyond them are not used.
    """
    alone = decompose(source, [bytes([byte]) for byte in range(256)], rows=rows)
    return frozenset(np.flatnonzero(alone.lengths() == 0).tolist())


def around_missing(
    source: Tokenizer, token: bytes, *, rows: int, missing: frozenset[int]
) -> list[int]:
    """Return the pieces of a token with bytes that the source lacks.

    Such a byte is the piece `rows + byte`; what stands between them is cut as ever.
    """
    pieces: list[int] = []
    start = 0
    for at, byte in enumerate([*token, None]):
        if byte is None or byte in missing:
            if start < at:
                pieces += decompose(source, [token[start:at]], rows=rows)[0].tolist()
            start = at + 1
        if byte is not None and byte in missing:
            pieces.append(rows + byte)
    return pieces


def pieces_of(
    source: Tokenizer, tokens: Sequence[bytes], *, rows: int, apart: bool = False
) -> list[list[int]]:
    """Return the pieces of each token: source ids, `rows + byte` for bytes that the source lacks.

    Args:
        source: The model's tokenizer.
        tokens: Byte strings.
        rows: Rows of the model's matrices.
        apart: Whether a token must be cut into more than one piece, as if it were unknown; where
            no cut does, its pieces are its bytes' own.
    """
    found: list[list[int]] = decompose(source, tokens, apart=apart, rows=rows).to_list()
    missing: frozenset[int] | None = None
    for at, token in enumerate(tokens):
        if found[at]:
            continue
        if not apart:
            missing = missing_bytes(source, rows) if missing is None else missing
            found[at] = around_missing(source, token, rows=rows, missing=missing)
        found[at] = found[at] or [rows + byte for byte in token]
    return found


def matrix_of(pieces: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """Return pieces as int32 (N, L), -1 behind each end, L the longest."""
    longest = max(map(len, pieces), default=0)
    made = np.full((len(pieces), longest), -1, dtype=np.int32)
    for row, one in zip(made, pieces, strict=True):
        row[: len(one)] = one
    return made
