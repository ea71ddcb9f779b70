"""Texts of several parts as base tokens: pairs, and lists of words; parts never merge."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from anyvocab import errors
from anyvocab.dynamic.base import BaseBatch
from anyvocab.tokenizer import Specials, Text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.dynamic.tokenizer import Boundary, DynamicTokenizer
    from anyvocab.tokenizer import Tokenizer

__all__ = ["Layout", "Reading", "base_of"]

Reading: TypeAlias = Text | tuple[Text, Text] | Sequence[Text]
"""What a model reads: a text, a pair of texts (a tuple), or the words of a text (a list)."""

_TEXT = (str, bytes, bytearray, memoryview)  # the last two are not advertised
_OWN_WORDS = -2  # the words that the text's own white space makes


@dataclass(frozen=True)
class Piece:
    """A place in a template.

    Attributes:
        ids: Of a special token; empty for a text.
        part: Which text stands here, 0 or 1; -1 for a special token.
        type: What the template calls the place: a model's `token_type_ids`.
    """

    ids: tuple[int, ...]
    part: int
    type: int


@dataclass(frozen=True)
class Layout:
    """How a tokenizer puts special tokens around a text and around a pair.

    Attributes:
        single: The places of one text.
        pair: Those of a pair; empty where the tokenizer has no template for pairs.
    """

    single: tuple[Piece, ...]
    pair: tuple[Piece, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, add_special_tokens: bool = True) -> Layout:
        """Return what a tokenizer's post-processor does.

        Args:
            tokenizer: The tokenizer.
            add_special_tokens: Whether its special tokens are wanted. What it says of the order of
                a pair and of its types holds without them, too, as in `tokenizers`.

        >>> import anyvocab as av
        >>> [(piece.ids, piece.part) for piece in Layout.of(av.Tokenizer.load("pico:code-4k")).pair]
        [((4091,), -1), ((), 0), ((4091,), -1), ((), 1)]
        """
        found = _flat(json.loads(tokenizer.components())["post_processor"])
        found = [one for one in found if one["type"] != "ByteLevel"]
        first, second = Piece((), 0, 0), Piece((), 1, 1)
        single, pair = _run(found, [(first,)]), _run(found, [(first,), (second,)])
        if not add_special_tokens:
            single = tuple(piece for piece in single if piece.part >= 0)
            pair = tuple(piece for piece in pair if piece.part >= 0)
        return cls(single, pair)


def base_of(
    dyn: DynamicTokenizer,
    readings: Iterable[Reading],
    *,
    boundary: Boundary = "pretoken",
    specials: Specials = "parse",
    add_special_tokens: bool = False,
) -> BaseBatch:
    """Return the base tokens of texts, pairs of texts and lists of words.

    Each part is encoded alone, as `tokenizers` does, and nothing merges across parts. A word of a
    list gets no space before it but what the tokenizer puts there itself: for a byte-level
    tokenizer without `add_prefix_space`, write the spaces into the words (`["a", " list"]`).

    Args:
        dyn: The tokenizer.
        readings: At least one: a text; a tuple of two texts; or a list of words.
        boundary: As for :meth:`DynamicTokenizer.merge`, inside each part.
        specials: As there.
        add_special_tokens: Whether the post-processor's ids stand around the text or the pair.

    Raises:
        InvalidValue: There is nothing to read, a tuple is no pair, or the tokenizer has no template
            for pairs and one is asked for.
    """
    if isinstance(readings, _TEXT):
        raise TypeError("texts must be several texts; for one, give a list of it")
    given = list(readings)
    if all(isinstance(one, _TEXT) for one in given):
        texts: list[Any] = given
        return dyn.base_batch(
            texts, boundary=boundary, specials=specials, add_special_tokens=add_special_tokens
        )
    layout = Layout.of(dyn.tokenizer, add_special_tokens=add_special_tokens)
    parts: list[Any] = []  # of all texts; each row knows its own by their places
    rows = [_row(reading, layout, parts) for reading in given]
    flat = dyn.base_batch(parts or [b""], boundary=boundary, specials=specials)
    return _laid_out(flat, rows)


@dataclass(frozen=True)
class _Row:
    """A text to be laid out: its template, and for each text in it the places of its parts."""

    template: tuple[Piece, ...]
    parts: tuple[range, ...]
    is_list: bool


def _row(reading: Any, layout: Layout, parts: list[Any]) -> _Row:
    first = len(parts)
    if isinstance(reading, _TEXT):
        parts.append(reading)
        return _Row(layout.single, (range(first, first + 1),), is_list=False)
    if not isinstance(reading, Iterable):
        raise TypeError(
            "a text must be str or bytes, a tuple of two of these or a list of words, got "
            f"{type(reading).__name__}"
        )
    words = list(reading)
    if not isinstance(reading, tuple):
        parts.extend(words)
        return _Row(layout.single, (range(first, len(parts)),), is_list=True)
    if len(words) != 2 or not all(isinstance(one, _TEXT) for one in words):
        raise errors.build(
            errors.InvalidValue,
            f"a tuple of {len(words)} is no pair of texts",
            field="texts",
            fix="give a tuple of two texts, or the words of one text as a list",
        )
    if not layout.pair:
        raise errors.build(
            errors.InvalidValue,
            "the tokenizer's post-processor has no template for a pair",
            field="texts",
            fix="give one text with the special tokens in it: 'premise[SEP]hypothesis'",
        )
    parts.extend(words)
    return _Row(layout.pair, (range(first, first + 1), range(first + 1, first + 2)), is_list=False)


class _Segment(NamedTuple):
    """Tokens that lie side by side in the array that everything is picked from."""

    start: int
    stop: int
    part: int
    type: int
    word: int


def _laid_out(flat: BaseBatch, rows: list[_Row]) -> BaseBatch:
    """Return texts put together from `flat`, whose texts are the parts, and special tokens."""
    placed = list(dict.fromkeys(piece for row in rows for piece in row.template if piece.ids))
    # Special tokens lie behind the flat tokens, so that there is one array to pick from.
    special: dict[Piece, _Segment] = {}
    end = len(flat.ids)
    for piece in placed:
        special[piece] = _Segment(end, end + len(piece.ids), -1, piece.type, -1)
        end += len(piece.ids)
    segments: list[_Segment] = []
    counts = []
    for row in rows:
        before = len(segments)
        for piece in row.template:
            if piece.part < 0:
                segments += [special[piece]] if piece.ids else []
                continue
            for word, place in enumerate(row.parts[piece.part]):
                start, stop = flat.offsets[place : place + 2].tolist()
                number = word if row.is_list else _OWN_WORDS
                segments.append(_Segment(start, stop, piece.part, piece.type, number))
        counts.append(len(segments) - before)
    return _picked(flat, segments, counts, [id for piece in placed for id in piece.ids])


def _picked(
    flat: BaseBatch, segments: list[_Segment], counts: list[int], ids: list[int]
) -> BaseBatch:
    table = np.array(segments, dtype=np.int64).reshape(-1, len(_Segment._fields))
    sizes = table[:, 1] - table[:, 0]
    begins = np.cumsum(sizes) - sizes
    picks = np.arange(sizes.sum()) + np.repeat(table[:, 0] - begins, sizes)
    part, kind, word = (np.repeat(column, sizes) for column in table[:, 2:].T)

    def picked(values: NDArray[Any], behind: NDArray[Any]) -> NDArray[Any]:
        chosen: NDArray[Any] = np.concatenate([values, behind.astype(values.dtype)])[picks]
        return chosen

    def groups(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Number the runs of equal groups; a segment ends one, and so does a special token."""
        found = picked(values, np.arange(len(ids)))
        first = np.ones(len(found), dtype=bool)
        first[1:] = found[1:] != found[:-1]
        first[begins[sizes > 0]] = True
        return (np.cumsum(first) - 1).astype(np.uint32)

    words = None
    if flat.words is not None:
        own = picked(flat.words, np.full(len(ids), -1))
        words = np.where(word == _OWN_WORDS, own, word).astype(np.int32)
    spans = None
    if flat.spans is not None:
        spans = picked(flat.spans, np.zeros((len(ids), 2)))
    texts = np.cumsum([0, *counts])
    return BaseBatch(
        picked(flat.ids, np.asarray(ids)),
        np.append(begins, sizes.sum())[texts].astype(np.int64),
        groups(flat.groups),
        None if flat.later is None else groups(flat.later),
        spans,
        words,
        part.astype(np.int8),
        kind,
    )


def _flat(post_processor: Any) -> list[Any]:
    if post_processor is None:
        return []
    if post_processor["type"] != "Sequence":
        return [post_processor]
    return [one for inner in post_processor["processors"] for one in _flat(inner)]


def _run(steps: list[Any], parts: list[tuple[Piece, ...]]) -> tuple[Piece, ...]:
    """Return what post-processors make of one part or two, one after the other.

    What a template writes are parts to the next, as a pair is; a template for three there is none.
    """
    for step in steps:
        if step["type"] != "TemplateProcessing":
            parts = [_around(step, number, part) for number, part in enumerate(parts)]
        elif len(parts) not in (1, 2):
            return ()
        else:
            parts = _fill(step, parts)
    return tuple(piece for part in parts for piece in part)


def _fill(template: Any, parts: list[tuple[Piece, ...]]) -> list[tuple[Piece, ...]]:
    ids = {token: tuple(one["ids"]) for token, one in template["special_tokens"].items()}
    filled = []
    for one in template["single" if len(parts) == 1 else "pair"]:
        place = _piece(one, ids)
        inside = parts[place.part] if place.part >= 0 else (place,)
        filled.append(tuple(replace(piece, type=place.type) for piece in inside))
    return filled


def _around(step: Any, number: int, part: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Return a part within the begin and end of BERT or RoBERTa."""
    begin, end = ((step[side][1],) for side in ("cls", "sep"))
    if step["type"] == "BertProcessing":
        kind = min(number, 1)
        before = () if number else (Piece(begin, -1, 0),)
        return (*before, *part, Piece(end, -1, kind))
    part = tuple(replace(piece, type=0) for piece in part)  # RoBERTa tells no parts apart
    return (Piece(end if number else begin, -1, 0), *part, Piece(end, -1, 0))


def _piece(one: Any, ids: dict[str, tuple[int, ...]]) -> Piece:
    ((kind, body),) = one.items()
    if kind == "SpecialToken":
        return Piece(ids[body["id"]], -1, body["type_id"])
    return Piece((), "AB".index(body["id"]), body["type_id"])
