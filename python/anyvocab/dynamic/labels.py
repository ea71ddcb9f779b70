"""Labels of words and of spans of bytes, carried to merged tokens and back.

The convention is the usual one of token classification: a word's first token carries its label, all
other tokens are left out of the loss. Merging inside words keeps that: the first base token of a
word is always the first of a merged token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anyvocab import errors
from anyvocab.tokenizer import Text, _bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.dynamic.batch import DynamicBatch

__all__ = [
    "IGNORED",
    "LabelledSpan",
    "TokenLabels",
    "byte_spans",
    "character_spans",
    "found_spans",
    "span_labels",
    "word_labels",
    "word_values",
]

IGNORED = -100
"""What torch's cross-entropy leaves out."""


class LabelledSpan(NamedTuple):
    """A stretch of a text and its label; `end` is one past the last byte (or character)."""

    start: int
    end: int
    label: int


@dataclass(frozen=True, eq=False)
class TokenLabels:
    """Labels of a batch's tokens.

    Attributes:
        values: int64[m]: a label for each merged token, :data:`IGNORED` where it has none.
        lost: Labels that no token carries: of a word without a token of its own, of a span whose
            tokens all belong to an earlier one. Inside words nothing is lost.
    """

    values: NDArray[np.int64]
    lost: int


def word_labels(batch: DynamicBatch, labels: Sequence[Sequence[int]]) -> TokenLabels:
    """Return the labels of tokens from those of words: the first token of a word has the word's.

    Args:
        batch: Merged texts, or lists of words; words are as :attr:`DynamicBatch.words` counts them.
        labels: For each text a label for each word; :data:`IGNORED` for a word that has none.

    Raises:
        InvalidValue: A text has another number of words, or the batch knows no words, or has pairs.

    >>> import anyvocab as av
    >>> dyn = av.DynamicTokenizer("pico:code-4k")
    >>> batch = dyn.merge(["tokenizers tokenize"], boundary="word", max_merges=2)
    >>> len(batch.ids), word_labels(batch, [[3, 4]]).values.tolist()
    (3, [3, 4, -100])
    """
    keys, first, ends = _first_tokens(batch, [len(one) for one in labels])
    flat = np.fromiter((label for one in labels for label in one), np.int64, int(ends[-1]))
    values = np.full(len(batch.ids), IGNORED, dtype=np.int64)
    values[first] = flat[keys]
    carried = int((flat[keys] != IGNORED).sum())
    return TokenLabels(values, int((flat != IGNORED).sum()) - carried)


def word_values(
    batch: DynamicBatch, values: NDArray[Any], counts: Sequence[int], *, missing: Any = IGNORED
) -> list[NDArray[Any]]:
    """Return for each word the value of its first token, a prediction for example.

    Args:
        batch: Merged texts, or lists of words.
        values: A value for each token, [m, ...].
        counts: How many words each text has.
        missing: The value of a word in which no token begins.

    Returns:
        For each text an array [words, ...].

    Raises:
        InvalidValue: As for :func:`word_labels`, or there are more or fewer values than tokens.
    """
    _check_length(values, len(batch.ids), "token")
    keys, first, ends = _first_tokens(batch, counts)
    made = np.full((int(ends[-1]), *values.shape[1:]), missing, dtype=values.dtype)
    made[keys] = values[first]
    return np.split(made, ends[1:-1])


def _first_tokens(
    batch: DynamicBatch, counts: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the words that a token begins in, those tokens, and where each text's words end."""
    if batch.words is None:
        raise _unknown("words")
    if batch.parts is not None and (batch.parts > 0).any():
        raise errors.build(
            errors.InvalidValue,
            "the two texts of a pair count their words each from 0",
            field="batch",
            fix="label single texts or lists of words",
        )
    _check_length(counts, len(batch), "text")
    ends = np.cumsum([0, *counts])
    owner = np.repeat(np.arange(len(batch)), batch.lengths())
    tokens = np.flatnonzero(batch.words >= 0)
    words, owner = batch.words[tokens].astype(np.int64), owner[tokens]
    beyond = np.flatnonzero(words >= np.diff(ends)[owner])
    if len(beyond):
        text, word = int(owner[beyond[0]]), int(words[beyond[0]])
        raise errors.build(
            errors.InvalidValue,
            f"text {text} has a word {word}, and {counts[text]} are counted",
            field="labels",
            fix="give one for each word: of a list its items, of a text what white space separates",
        )
    keys, where = np.unique(ends[owner] + words, return_index=True)
    return keys, tokens[where], ends


def span_labels(
    batch: DynamicBatch, spans: Sequence[Sequence[LabelledSpan]], *, outside: int = 0
) -> TokenLabels:
    """Return the labels of tokens from labelled bytes: a token has that of the first it touches.

    Args:
        batch: Merged texts.
        spans: For each text its labelled spans, in bytes, in any order, without overlap.
        outside: The label of tokens that touch none. A token without bytes, a template's, has
            :data:`IGNORED`.

    Raises:
        InvalidValue: Spans overlap, are empty or those of another number of texts; the batch knows
            no spans, or has texts in parts.

    >>> import anyvocab as av
    >>> batch = av.DynamicTokenizer("pico:code-4k").merge(["def tokenize(text)"], max_merges=2)
    >>> batch.token_bytes()
    [[b'def', b' tokenize', b'(text', b')']]
    >>> span_labels(batch, [[LabelledSpan(4, 12, 1)]]).values.tolist()
    [0, 1, 0, 0]
    """
    _check_length(spans, len(batch), "text")
    values = np.full(len(batch.ids), IGNORED, dtype=np.int64)
    lost = 0
    for row, (text, places) in enumerate(_places(batch)):
        marked = _sorted(spans[row], row)
        if not len(marked):
            values[text] = outside
            continue
        which = np.searchsorted(marked[:, 1], places[:, 0], side="right")
        known = np.minimum(which, len(marked) - 1)
        touches = (which < len(marked)) & (marked[known, 0] < places[:, 1])
        values[text] = np.where(touches, marked[known, 2], outside)
        lost += len(marked) - len(np.unique(known[touches]))
    return TokenLabels(values, lost)


def found_spans(
    batch: DynamicBatch, labels: NDArray[Any], texts: Sequence[Text], *, outside: int = 0
) -> list[list[LabelledSpan]]:
    """Return the labelled bytes that labels of tokens mean, white space at their ends left out.

    Neighbours of one label are one span, since nothing says where one would end.

    Args:
        batch: Merged texts.
        labels: A label for each token, int[m].
        texts: The texts of the batch.
        outside: The label of what is no span; tokens labelled :data:`IGNORED` are none either.

    Raises:
        InvalidValue: As for :func:`span_labels`, or there are more or fewer labels than tokens.
    """
    _check_length(labels, len(batch.ids), "token")
    _check_length(texts, len(batch), "text")
    found = []
    for given, (tokens, places) in zip(texts, _places(batch), strict=True):
        text, label = _bytes(given), labels[tokens]
        edges = np.flatnonzero(label[1:] != label[:-1]) + 1
        spans = []
        for run in np.split(np.arange(len(label)), edges):
            if not len(run) or label[run[0]] in (outside, IGNORED):
                continue
            start, end = int(places[run[0], 0]), int(places[run[-1], 1])
            said = text[start:end]
            start += len(said) - len(said.lstrip())
            end -= len(said) - len(said.rstrip())
            if start < end:
                spans.append(LabelledSpan(start, end, int(label[run[0]])))
        found.append(spans)
    return found


def byte_spans(text: str, spans: Sequence[tuple[int, int, int]]) -> list[LabelledSpan]:
    """Return spans of characters as spans of bytes.

    >>> byte_spans("a naïve", [(2, 7, 1)])
    [LabelledSpan(start=2, end=8, label=1)]
    """
    ends = np.cumsum([0, *(len(_bytes(character)) for character in text)])
    return [_moved(span, ends, len(text)) for span in spans]


def character_spans(text: str, spans: Sequence[tuple[int, int, int]]) -> list[LabelledSpan]:
    """Return spans of bytes as spans of characters; one that cuts a character has all of it.

    >>> character_spans("a naïve", [(2, 8, 1)])
    [LabelledSpan(start=2, end=7, label=1)]
    """
    ends = np.cumsum([0, *(len(_bytes(character)) for character in text)])
    at = np.repeat(np.arange(len(text)), np.diff(ends))
    first = np.append(at, len(text))
    past = np.append(0, at + 1)
    return [
        LabelledSpan(int(first[start]), int(past[end]), label)
        for start, end, label in (_moved(span, np.arange(len(at) + 1), len(at)) for span in spans)
    ]


def _moved(span: tuple[int, int, int], ends: NDArray[Any], size: int) -> LabelledSpan:
    start, end, label = span
    if not 0 <= start <= end <= size:
        raise errors.build(
            errors.InvalidValue,
            f"{start}..{end} does not lie in a text of length {size}",
            field="spans",
        )
    return LabelledSpan(int(ends[start]), int(ends[end]), label)


def _places(batch: DynamicBatch) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return for each text its tokens that have bytes, [t], and where these lie, [t, 2]."""
    if batch.spans is None:
        raise _unknown("spans")
    if batch.parts is not None:
        raise errors.build(
            errors.InvalidValue,
            "texts of several parts have places in each part",
            field="batch",
            fix="merge plain texts, or label words",
        )
    has_bytes = np.flatnonzero(batch.spans[:, 1] > batch.spans[:, 0])
    cuts = np.searchsorted(has_bytes, batch.offsets[1:-1])
    return [(tokens, batch.spans[tokens]) for tokens in np.split(has_bytes, cuts)]


def _sorted(spans: Sequence[LabelledSpan], row: int) -> NDArray[np.int64]:
    marked = np.array(sorted(spans), dtype=np.int64).reshape(-1, 3)
    if (marked[:, 0] >= marked[:, 1]).any() or (marked[1:, 0] < marked[:-1, 1]).any():
        raise errors.build(
            errors.InvalidValue,
            f"text {row} has spans that are empty or overlap",
            field="spans",
            fix="give each byte one label at most",
        )
    return marked


def _check_length(given: Any, expected: int, what: str) -> None:
    if len(given) != expected:
        raise errors.build(
            errors.InvalidValue,
            f"{len(given)} were given for {expected} {what}s",
            field="values" if what == "token" else "labels",
            fix=f"give one for each {what} of the batch",
        )


def _unknown(what: str) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue,
        f"a batch that was made from arrays knows no {what}",
        field="batch",
        fix="merge texts, or carry labels with from_base and to_base",
    )
