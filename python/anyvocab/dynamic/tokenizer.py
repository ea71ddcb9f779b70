"""Tokens that a batch decides: frequent neighbours merge, within the boundaries that are asked for.

Source: Feher et al. 2024, arXiv:2411.18553 (the batch-level algorithm). The published code asks the
pre-tokenizer about every decoded pair; here a base token knows its pretoken, so no special token
ever merges and bytes that are not UTF-8 are ordinary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np

from anyvocab import _core, errors
from anyvocab.dynamic.batch import DynamicBatch, Merges, NewTokens, Stopped
from anyvocab.tokenizer import Ids, Ragged, Specials, Text, Tokenizer, _bytes, _ids

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_TOKEN_BYTES", "BaseBatch", "Boundary", "DynamicTokenizer"]

Boundary = Literal["pretoken", "word", "sentence", "superword"]
Unreached = Literal["raise", "keep"]

MAX_TOKEN_BYTES = 4096
"""Longest token of a merge unless said otherwise: it bounds the work on one endless pretoken."""

_NO_LIMIT = (1 << 64) - 1


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
    """

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    groups: NDArray[np.uint32]
    later: NDArray[np.uint32] | None = None
    spans: NDArray[np.int64] | None = None
    words: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.offsets) - 1


class _Target(NamedTuple):
    """How many tokens are enough, as the core takes it, and how the caller said it."""

    kind: str
    parts: int
    of: int
    said: str = ""


class DynamicTokenizer:
    """Merges the tokens of batches. Immutable; safe to share between threads.

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
    ) -> BaseBatch:
        """Return the base tokens of texts with the groups inside which they merge.

        For one batch that is merged more than once. Arguments as for :meth:`merge`; a text may hold
        special tokens (`"premise</s></s>hypothesis"`), which keep its parts apart.

        Raises:
            InvalidValue: There is no text, or `boundary` is none of the four.
        """
        if isinstance(texts, str | bytes | bytearray | memoryview):
            raise TypeError("texts must be several texts; for one, give a list of it")
        encoded = [_bytes(text) for text in texts]
        if not encoded:
            raise _no_text("texts")
        ids, offsets, spans, groups, later, words = self._core.base(
            encoded, specials, add_special_tokens, boundary
        )
        return BaseBatch(ids, offsets, groups, later, spans.reshape(-1, 2), words)

    def merge(
        self,
        texts: Iterable[Text],
        *,
        boundary: Boundary = "pretoken",
        transition: int | None = None,
        max_merges: int | None = None,
        reduction: float | None = None,
        attainable: float | None = None,
        target_length: int | None = None,
        min_count: int = 1,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        unreached: Unreached = "raise",
        specials: Specials = "parse",
        add_special_tokens: bool = False,
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
            transition: See `boundary`; needed there, and given nowhere else.
            max_merges: Most merges.
            reduction: Stop at the first merge by which this share of the base tokens is gone: 0.2
                leaves at most 80 % of them. One of the three targets at most.
            attainable: Stop at the first merge by which this share of the reduction that the
                boundary allows is reached: 1.0 is all of it.
            target_length: Stop at the first merge by which the whole batch has no more tokens.
            min_count: Least occurrences of a pair that is merged. The published algorithm has 1.
            max_token_bytes: Longest token that a merge makes, in bytes.
            unreached: What happens when `reduction` or `target_length` is not reached though
                nothing is left to merge: `"raise"`, or `"keep"` what there is.
            specials: As for :meth:`anyvocab.Tokenizer.encode`.
            add_special_tokens: As there.

        Raises:
            InvalidValue: There is no text, an option is out of its range or contradicts another,
                or the target cannot be reached.
        """
        later = _later(boundary, transition)
        target = _target(reduction, attainable, target_length)
        base = self.base_batch(
            texts, boundary=boundary, specials=specials, add_special_tokens=add_special_tokens
        )
        return self._merge(base, later, max_merges, target, min_count, max_token_bytes, unreached)

    def merge_base(
        self,
        base: BaseBatch,
        *,
        transition: int | None = None,
        max_merges: int | None = None,
        reduction: float | None = None,
        attainable: float | None = None,
        target_length: int | None = None,
        min_count: int = 1,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        unreached: Unreached = "raise",
    ) -> DynamicBatch:
        """Return the tokens of a batch after merging; `base` is not changed.

        Arguments as for :meth:`merge`; the transition is needed where `base` has groups for later.

        Raises:
            InvalidValue: As for :meth:`merge`, and for arrays that do not fit each other or an id
                outside the vocabulary.
        """
        if len(base) < 1:
            raise _no_text("base")
        boundary = "pretoken" if base.later is None else "superword"
        return self._merge(
            base,
            _later(boundary, transition),
            max_merges,
            _target(reduction, attainable, target_length),
            min_count,
            max_token_bytes,
            unreached,
        )

    def merge_arrays(
        self,
        ids: Ids,
        offsets: ArrayLike,
        groups: Ids,
        *,
        later: Ids | None = None,
        transition: int | None = None,
        max_merges: int | None = None,
        reduction: float | None = None,
        attainable: float | None = None,
        target_length: int | None = None,
        min_count: int = 1,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        unreached: Unreached = "raise",
    ) -> DynamicBatch:
        """Return the tokens of a batch of ids after merging.

        Args:
            ids: uint32[n]: the base tokens of all texts.
            offsets: int64[B + 1]: text `i` has `ids[offsets[i]:offsets[i + 1]]`.
            groups: uint32[n]: neighbours of one text merge only where these are equal.
            later: uint32[n]: groups that hold after `transition` merges.
            transition: As for :meth:`merge`.
            max_merges: As for :meth:`merge`.
            reduction: As for :meth:`merge`.
            attainable: As for :meth:`merge`.
            target_length: As for :meth:`merge`.
            min_count: As for :meth:`merge`.
            max_token_bytes: As for :meth:`merge`.
            unreached: As for :meth:`merge`.

        Raises:
            InvalidValue: As for :meth:`merge_base`.
        """
        base = BaseBatch(
            _ids(ids),
            np.asarray(offsets, dtype=np.int64),
            _ids(groups),
            None if later is None else _ids(later),
        )
        return self.merge_base(
            base,
            transition=transition,
            max_merges=max_merges,
            reduction=reduction,
            attainable=attainable,
            target_length=target_length,
            min_count=min_count,
            max_token_bytes=max_token_bytes,
            unreached=unreached,
        )

    def _merge(
        self,
        base: BaseBatch,
        transition: int,
        max_merges: int | None,
        target: _Target,
        min_count: int,
        max_token_bytes: int,
        unreached: Unreached,
    ) -> DynamicBatch:
        _at_least(0, max_merges=max_merges)
        _at_least(1, min_count=min_count, max_token_bytes=max_token_bytes)
        if unreached not in ("raise", "keep"):
            raise errors.build(
                errors.InvalidValue,
                f"{unreached!r} is no choice",
                field="unreached",
                fix='use "raise" or "keep"',
            )
        merged = self._core.merge(
            base.ids,
            base.offsets,
            base.groups,
            base.later,
            transition=transition,
            max_merges=_NO_LIMIT if max_merges is None else max_merges,
            target=(target.kind, target.parts, target.of),
            min_count=min(min_count, (1 << 32) - 1),
            max_bytes=max_token_bytes,
        )
        (ids, offsets, starts), new, pieces, merges, stopped, attainable = merged.take()
        if target.said and stopped == "exhausted" and unreached == "raise":
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
        )


def _first_words(words: NDArray[np.int32], first: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the first word of each token, int32[m]; base tokens without one do not count."""
    if not len(first):
        return words[:0]
    none = np.iinfo(np.int32).max  # words rise in a text, so the first is the least
    least = np.minimum.reduceat(np.where(words < 0, none, words), first)
    return np.where(least == none, -1, least).astype(np.int32)


def _later(boundary: str, transition: int | None) -> int:
    if boundary != "superword" and transition is not None:
        raise errors.build(
            errors.InvalidValue,
            f"boundary {boundary!r} has no transition",
            field="transition",
            fix='leave it out, or use boundary="superword"',
        )
    if boundary == "superword" and transition is None:
        raise errors.build(
            errors.InvalidValue,
            "merges across pretokens begin at some merge",
            field="transition",
            fix="say after how many; 0 is at once",
        )
    _at_least(0, transition=transition)
    return transition or 0


def _target(
    reduction: float | None, attainable: float | None, target_length: int | None
) -> _Target:
    given = {
        "reduction": reduction,
        "attainable": attainable,
        "target_length": target_length,
    }
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise errors.build(
            errors.InvalidValue,
            f"{' and '.join(names)} are different targets",
            field=names[1],
            fix="give one of them",
        )
    if target_length is not None:
        _at_least(0, target_length=target_length)
        return _Target("tokens", target_length, 1, f"target_length={target_length}")
    if reduction is not None:
        return _Target("of_base", *_share("reduction", reduction), f"reduction={reduction}")
    if attainable is not None:
        return _Target("of_open", *_share("attainable", attainable))
    return _Target("none", 0, 1)


def _share(field: str, value: float) -> tuple[int, int]:
    """Return a share as numerator and denominator: 0.1 is a tenth, as it is written."""
    if not 0 <= value <= 1:
        raise errors.build(
            errors.InvalidValue,
            f"must be a share, 0 to 1, got {value}",
            field=field,
            fix="20 % is 0.2",
        )
    return Fraction(str(float(value))).limit_denominator(10**15).as_integer_ratio()


def _at_least(least: int, **options: int | None) -> None:
    for field, value in options.items():
        if value is not None and value < least:
            raise errors.build(
                errors.InvalidValue,
                f"must be at least {least}, got {value}",
                field=field,
                fix="leave it out for the default",
            )


def _no_text(field: str) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue, "the batch is empty", field=field, fix="give at least one text"
    )


def _unreached(target: _Target, before: int, after: int) -> errors.InvalidValue:
    share = 1 - after / before if before else 0.0
    return errors.build(
        errors.InvalidValue,
        f"{target.said} cannot be reached: with every merge made, {before} tokens become {after}, "
        f"a reduction of {share:.4f}",
        field=target.said.partition("=")[0],
        fix='ask for less, use a wider boundary, attainable=1.0, or unreached="keep"',
    )
