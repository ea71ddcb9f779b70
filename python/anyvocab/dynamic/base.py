"""A batch before merging: base tokens, and what may merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BaseBatch"]


@dataclass(frozen=True, eq=False)
class BaseBatch:
    """The base tokens of texts, ready to merge. Made by :meth:`DynamicTokenizer.base_batch`.

    Attributes:
        ids: uint32[n].
        offsets: int64[B + 1]: text `i` has `ids[offsets[i]:offsets[i + 1]]`.
        groups: uint32[n]: neighbours merge only where these are equal.
        later: uint32[n]: the groups after a transition; None where there is none.
        spans: int64[n, 2]: where each token lies in its text, in bytes; None when unknown.
        words: int32[n]: the white-space separated word of each token, -1 for none; None when
            unknown. See :attr:`DynamicBatch.words`.
        parts: int8[n]: which text of a pair each token is of, 0 or 1; -1 for a token of the
            template. None where nothing was put together.
        types: int64[n]: what the tokenizer's template calls its place, a model's
            `token_type_ids`; None where nothing was put together.
    """

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    groups: NDArray[np.uint32]
    later: NDArray[np.uint32] | None = None
    spans: NDArray[np.int64] | None = None
    words: NDArray[np.int32] | None = None
    parts: NDArray[np.int8] | None = None
    types: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.offsets) - 1

    def after(self, first: Sequence[int]) -> BaseBatch:
        """Return the batch with some ids before every text; they never merge.

        This is for what a model wants before a text and its tokenizer does not put there. The ids
        have an empty span at the text's start and belong to no word.

        Args:
            first: The ids, of the vocabulary.
        """
        if not first:
            return self
        size, texts = len(first), len(self)
        places = self.offsets[:-1].repeat(size)
        # No pretoken has these numbers, and no two neighbours have the same.
        apart = np.uint32(0xFFFFFFFF) - np.arange(size, dtype=np.uint32)

        def put(values: NDArray[np.uint32], new: NDArray[np.uint32]) -> NDArray[np.uint32]:
            return np.insert(values, places, np.tile(new, texts))

        return BaseBatch(
            put(self.ids, np.asarray(first, dtype=np.uint32)),
            self.offsets + size * np.arange(texts + 1),
            put(self.groups, apart),
            None if self.later is None else put(self.later, apart),
            None if self.spans is None else np.insert(self.spans, places, 0, axis=0),
            None if self.words is None else np.insert(self.words, places, -1),
            None if self.parts is None else np.insert(self.parts, places, -1),
            None if self.types is None else np.insert(self.types, places, 0),
        )

    def keeping(self, last: int) -> BaseBatch:
        """Return the batch with the last tokens of every text kept: they never merge.

        What a causal model reads last matters most to what comes next.

        Args:
            last: How many base tokens of each text.

        Raises:
            InvalidValue: `last` is negative.
        """
        if last < 0:
            raise errors.build(
                errors.InvalidValue, f"must be at least 0, got {last}", field="keep_last"
            )
        if not last:
            return self
        ends = self.offsets[1:].repeat(self.lengths())
        kept = np.arange(len(self.ids)) >= ends - last
        # No pretoken has these numbers, and no two neighbours have the same.
        apart = np.uint32(1 << 31) + np.arange(len(self.ids), dtype=np.uint32)
        return replace(
            self,
            groups=np.where(kept, apart, self.groups),
            later=None if self.later is None else np.where(kept, apart, self.later),
        )

    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each text, int64[B]."""
        return np.diff(self.offsets)
