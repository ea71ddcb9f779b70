"""Tokens that a batch decides: frequent neighbours merge, within the boundaries that are asked for.

Source: Feher et al. 2024, arXiv:2411.18553 (the batch-level algorithm). The published code asks the
pre-tokenizer about every decoded pair; here a base token knows its pretoken, so no special token
ever merges and bytes that are not UTF-8 are ordinary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Unpack, cast

import numpy as np

from anyvocab import _core, errors
from anyvocab.dynamic.base import BaseBatch
from anyvocab.dynamic.batch import DynamicBatch, Merges, NewTokens, Stopped
from anyvocab.dynamic.stops import Limits, Stops, Target, limits
from anyvocab.tokenizer import Ids, Ragged, Specials, Text, Tokenizer, _bytes, _ids, _threads

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Boundary", "DynamicTokenizer"]

Boundary = Literal["pretoken", "word", "sentence", "superword"]


class DynamicTokenizer:
    """Merges the tokens of batches. Immutable; safe to share between threads; can be pickled.

    Starting from the tokenizer's own ids, the pair of neighbours that the batch has most often
    becomes one token, again and again. A token is its bytes: different pieces with equal bytes make
    one token, and a merge that gives the bytes of a base token becomes that token. New tokens get
    the ids `len(vocabulary)`, `+ 1`, ... in the order in which they are made, anew in each batch.

    Special tokens and added tokens never merge. Where a tokenizer makes no cuts of its own
    (SentencePiece's BPE and Unigram, RWKV), its pretokens begin at every token that begins with a
    space, and where a run of other ASCII white space (line breaks, tabs) begins or ends.

    >>> import anyvocab as av
    >>> dyn = av.DynamicTokenizer(av.Tokenizer.load("pico:code-4k"))
    >>> batch = dyn.merge(["the tokenizer tokenizes", "a tokenizer"])
    >>> batch.token_bytes()[1]
    [b'a', b' tokenizer']
    """

    def __init__(self, tokenizer: object) -> None:
        """Read a tokenizer's tokens.

        Args:
            tokenizer: A tokenizer, or what :meth:`anyvocab.Tokenizer.load` takes.
        """
        self.tokenizer = Tokenizer.load(tokenizer)
        self._core = _core.DynamicMerger(self.tokenizer._core)

    def __reduce__(self) -> tuple[type[DynamicTokenizer], tuple[Tokenizer]]:
        return DynamicTokenizer, (self.tokenizer,)

    @property
    def first_new_id(self) -> int:
        """The id of a batch's first new token."""
        return len(self.tokenizer.vocabulary)

    def base(
        self, text: Text, *, specials: Specials = "parse", add_special_tokens: bool = False
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the ids of a text and the number of each one's pretoken, uint32[n] each.

        Numbers rise from 0. A special or added token has a number of its own.

        Args:
            text: Text; bytes may be anything.
            specials: As for :meth:`anyvocab.Tokenizer.encode`.
            add_special_tokens: As there.
        """
        base = self.base_batch([text], specials=specials, add_special_tokens=add_special_tokens)
        return base.ids, base.groups

    def base_batch(
        self,
        texts: Iterable[Text],
        *,
        boundary: Boundary = "pretoken",
        specials: Specials = "parse",
        add_special_tokens: bool = False,
        threads: int | None = None,
    ) -> BaseBatch:
        """Return the base tokens of texts with the groups inside which they merge.

        For one batch that is merged more than once. Arguments as for :meth:`merge`; a text may hold
        special tokens (`"premise</s></s>hypothesis"`), which keep its parts apart. The result is
        the same for any number of threads.

        Raises:
            InvalidValue: There is no text, `boundary` is none of the four, or `threads` is not
                positive.
        """
        if isinstance(texts, str | bytes | bytearray | memoryview):
            raise TypeError("texts must be several texts; for one, give a list of it")
        encoded = [_bytes(text) for text in texts]
        if not encoded:
            raise _no_text("texts")
        ids, offsets, spans, groups, later, words = self._core.base(
            encoded, specials, add_special_tokens, boundary, _threads(threads)
        )
        return BaseBatch(ids, offsets, groups, later, spans.reshape(-1, 2), words)

    def merge(
        self,
        texts: Iterable[Text],
        *,
        boundary: Boundary = "pretoken",
        specials: Specials = "parse",
        add_special_tokens: bool = False,
        threads: int | None = None,
        **stops: Unpack[Stops],
    ) -> DynamicBatch:
        """Return the tokens of texts after merging. Without a stop, all that may merge does.

        Args:
            texts: The batch: texts, at least one.
            boundary: What no merge crosses.
                `"pretoken"`: the tokenizer's own cuts.
                `"word"`: white space; every white-space character begins a word, so that
                punctuation joins the word before it.
                `"sentence"`: ends of sentences, by their punctuation and line breaks. This is not
                the published boundary of that name, which keeps words apart.
                `"superword"`: pretokens for the first `transition` merges (fewer when nothing is
                left to merge inside them), then only special tokens and the ends of texts.
            specials: As for :meth:`anyvocab.Tokenizer.encode`.
            add_special_tokens: As there.
            threads: How many threads encode; as many as this process may use when left out.
            stops: See :class:`anyvocab.dynamic.Stops`.

        Raises:
            InvalidValue: There is no text, an option is out of its range or contradicts another,
                or the target cannot be reached.
        """
        chosen = limits(boundary, **stops)
        base = self.base_batch(
            texts,
            boundary=boundary,
            specials=specials,
            add_special_tokens=add_special_tokens,
            threads=threads,
        )
        return self._merge(base, chosen)

    def merge_base(self, base: BaseBatch, **stops: Unpack[Stops]) -> DynamicBatch:
        """Return the tokens of a batch after merging; `base` is not changed.

        Args:
            base: The base tokens; the transition is needed where it has groups for later.
            stops: See :class:`anyvocab.dynamic.Stops`.

        Raises:
            InvalidValue: As for :meth:`merge`, and for arrays that do not fit each other or an id
                outside the vocabulary.
        """
        if len(base) < 1:
            raise _no_text("base")
        return self._merge(base, limits("pretoken" if base.later is None else "superword", **stops))

    def merge_arrays(
        self,
        ids: Ids,
        offsets: ArrayLike,
        groups: Ids,
        *,
        later: Ids | None = None,
        **stops: Unpack[Stops],
    ) -> DynamicBatch:
        """Return the tokens of a batch of ids after merging.

        Args:
            ids: uint32[n]: the base tokens of all texts.
            offsets: int64[B + 1]: text `i` has `ids[offsets[i]:offsets[i + 1]]`.
            groups: uint32[n]: neighbours of one text merge only where these are equal.
            later: uint32[n]: groups that hold after `transition` merges.
            stops: See :class:`anyvocab.dynamic.Stops`.

        Raises:
            InvalidValue: As for :meth:`merge_base`.
        """
        base = BaseBatch(
            _ids(ids),
            np.asarray(offsets, dtype=np.int64),
            _ids(groups),
            None if later is None else _ids(later),
        )
        return self.merge_base(base, **stops)

    def _merge(self, base: BaseBatch, chosen: Limits) -> DynamicBatch:
        target = chosen.target
        merged = self._core.merge(
            base.ids,
            base.offsets,
            base.groups,
            base.later,
            transition=chosen.transition,
            max_merges=chosen.max_merges,
            target=(target.kind, target.parts, target.of),
            min_count=chosen.min_count,
            max_bytes=chosen.max_token_bytes,
        )
        (ids, offsets, starts), new, pieces, merges, stopped, attainable = merged.take()
        if target.said and stopped == "exhausted" and chosen.unreached == "raise":
            raise _unreached(target, len(base.ids), len(ids))
        first, last = starts[:-1], starts[1:] - 1
        spans, words = None, None
        if base.spans is not None:
            spans = np.stack([base.spans[first, 0], base.spans[last, 1]], axis=1)
        if base.words is not None:
            words = _first_words(base.words, first)
        return DynamicBatch(
            ids,
            offsets,
            Ragged(base.ids, base.offsets),
            starts,
            spans,
            words,
            NewTokens(self.first_new_id, *new, Ragged(*pieces)),
            Merges(*merges),
            cast("Stopped", stopped),
            attainable,
            self.tokenizer.vocabulary,
            None if base.parts is None else base.parts[first],
            None if base.types is None else base.types[first],
        )


def _first_words(words: NDArray[np.int32], first: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the first word of each token, int32[m]; base tokens without one do not count."""
    if not len(first):
        return words[:0]
    none = np.iinfo(np.int32).max  # words rise in a text, so the first is the least
    least = np.minimum.reduceat(np.where(words < 0, none, words), first)
    return np.where(least == none, -1, least).astype(np.int32)


def _no_text(field: str) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue, "the batch is empty", field=field, fix="give at least one text"
    )


def _unreached(target: Target, before: int, after: int) -> errors.InvalidValue:
    share = 1 - after / before if before else 0.0
    return errors.build(
        errors.InvalidValue,
        f"{target.said} cannot be reached: with every merge made, {before} tokens become {after}, "
        f"a reduction of {share:.4f}",
        field=target.said.partition("=")[0],
        fix='ask for less, use a wider boundary, attainable=1.0, or unreached="keep"',
    )
