"""A merged batch: its tokens, the new ones, and the way back to base tokens and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np

from anyvocab import errors
from anyvocab.tokenizer import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.vocabulary import Vocabulary

__all__ = ["DynamicBatch", "Merge", "Merges", "NewTokens", "Stopped"]

Stopped = Literal["exhausted", "max_merges", "target", "min_count"]

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge of a batch.

    Attributes:
        left: The left token, a base id or a new one.
        right: The right token.
        token: What they became: a new id, or a base id where the bytes are those of a base token.
        count: Occurrences of the pair in the batch at that time, overlapping ones counted.
        replaced: How many of them were replaced.
    """

    left: int
    right: int
    token: int
    count: int
    replaced: int


@dataclass(frozen=True, eq=False)
class Merges:
    """The merges of a batch in order, as columns, uint32[n] each; item `i` is a :class:`Merge`."""

    left: NDArray[np.uint32]
    right: NDArray[np.uint32]
    token: NDArray[np.uint32]
    count: NDArray[np.uint32]
    replaced: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.token)

    def __getitem__(self, index: int) -> Merge:
        columns = (self.left, self.right, self.token, self.count, self.replaced)
        return Merge(*(int(column[index]) for column in columns))

    def __iter__(self) -> Iterator[Merge]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, eq=False)
class NewTokens:
    """The tokens that a batch made, in order: token `k` has the id `first_id + k`.

    Attributes:
        first_id: The id of the first: one more than the largest base id.
        data: Their bytes, end to end.
        offsets: int64[n + 1]: where each begins in `data`, and the end.
        pieces: The base ids each was first made of; their bytes are the token's. A base token that
            a merge made counts as itself.
    """

    first_id: int
    data: bytes
    offsets: NDArray[np.int64]
    pieces: Ragged

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        """Return the bytes of a new token, or those of a slice of them."""
        return self._bytes[index]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._bytes)

    @cached_property
    def _bytes(self) -> list[bytes]:
        return [self.data[start:end] for start, end in pairwise(self.offsets.tolist())]

    @property
    def ids(self) -> NDArray[np.uint32]:
        """Their ids, uint32[n]."""
        return np.arange(self.first_id, self.first_id + len(self), dtype=np.uint32)


@dataclass(frozen=True, eq=False)
class DynamicBatch:
    """A batch after merging. Made by :meth:`DynamicTokenizer.merge`.

    Below, `m` is the number of tokens in all texts and `B` that of texts.

    Attributes:
        ids: uint32[m]: base ids, and new ones from `new_tokens.first_id` on.
        offsets: int64[B + 1]: text `i` has `ids[offsets[i]:offsets[i + 1]]`.
        base: The base tokens.
        starts: int64[m + 1]: token `j` stands for `base.ids[starts[j]:starts[j + 1]]`.
        spans: int64[m, 2]: where each token lies in its text, in bytes; None for a batch that was
            made from arrays. A special token that the tokenizer added has an empty span. For a pair
            or a list of words it is the place in that text of the pair, or in that word.
        words: int32[m]: the word of each token: how many white-space separated words of its text
            end before its first byte that is no white space; -1 for a token without such a byte,
            special tokens of a template among them. Of a list of words, the number in the list.
            None for a batch that was made from arrays.
        new_tokens: The tokens that are in no vocabulary.
        merges: What was merged, in order.
        stopped: Why it ended: `"exhausted"`: no pair was left; `"max_merges"`; `"target"`: the
            length that was asked for was reached; `"min_count"`: the pairs left are too rare.
        attainable: How many tokens fewer there are when everything merges that the boundary lets.
        vocabulary: The vocabulary of the base.
        parts: int8[m]: see :class:`BaseBatch`; a token has the part of its base tokens.
        types: int64[m]: see :class:`BaseBatch`.
    """

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    base: Ragged
    starts: NDArray[np.int64]
    spans: NDArray[np.int64] | None
    words: NDArray[np.int32] | None
    new_tokens: NewTokens
    merges: Merges
    stopped: Stopped
    attainable: int
    vocabulary: Vocabulary
    parts: NDArray[np.int8] | None = None
    types: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        return (
            f"DynamicBatch({len(self)} texts, {len(self.base.ids)} -> {len(self.ids)} tokens, "
            f"{len(self.new_tokens)} new, {len(self.merges)} merges, stopped={self.stopped!r})"
        )

    @property
    def rows(self) -> Ragged:
        """The ids, a row for each text."""
        return Ragged(self.ids, self.offsets)

    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each text, int64[B]."""
        return np.diff(self.offsets)

    def base_lengths(self) -> NDArray[np.int64]:
        """Return the base tokens of each text, int64[B]."""
        return self.base.lengths()

    @property
    def reduction(self) -> float:
        """The share of the base tokens that is gone; 0 for a batch without tokens."""
        return 1 - len(self.ids) / len(self.base.ids) if len(self.base.ids) else 0.0

    @property
    def is_merged(self) -> NDArray[np.bool_]:
        """bool[m]: whether each token stands for more than one base token."""
        return np.diff(self.starts) > 1

    def bytes_of(self, id: int) -> bytes | None:
        """Return the bytes of a token, new or not; None for a special token.

        Raises:
            InvalidValue: No token of this batch has the id.
        """
        if id < self.new_tokens.first_id:
            return self.vocabulary.token_bytes(id)
        if id >= self.new_tokens.first_id + len(self.new_tokens):
            raise errors.build(
                errors.InvalidValue,
                f"{id} is no token of this batch",
                field="id",
                fix=f"ids are 0..{self.new_tokens.first_id + len(self.new_tokens) - 1}",
            )
        return self.new_tokens[id - self.new_tokens.first_id]

    def token_bytes(self) -> list[list[bytes | None]]:
        """Return the bytes of every token of every text; None for special tokens."""
        known = {id: self.bytes_of(id) for id in np.unique(self.ids).tolist()}
        flat = [known[id] for id in self.ids.tolist()]
        return [flat[start:end] for start, end in pairwise(self.offsets.tolist())]

    def from_base(self, values: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Return for each token the value of its first base token, [m, ...].

        This is how labels go along: the first base token's label is the token's.

        Args:
            values: A value for each base token, [base tokens, ...].

        Raises:
            InvalidValue: There are more or fewer.
        """
        _check(values, len(self.base.ids), "base token")
        return values[self.starts[:-1]]

    def to_base(self, values: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Return for each base token the value of the token it is in, [base tokens, ...].

        Args:
            values: A value for each token, [m, ...].

        Raises:
            InvalidValue: There are more or fewer.
        """
        _check(values, len(self.ids), "token")
        return np.repeat(values, np.diff(self.starts), axis=0)


def _check(values: NDArray[Any], expected: int, what: str) -> None:
    if len(values) != expected:
        raise errors.build(
            errors.InvalidValue,
            f"{len(values)} values for {expected} tokens",
            field="values",
            fix=f"give one for each {what} of the batch",
        )
