"""Texts before and after merging: token by token, and their lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyvocab.report.pieces import Cut, Piece, cut_text
from anyvocab.report.visible import one_line

if TYPE_CHECKING:
    from anyvocab import Tokenizer
    from anyvocab.dynamic.batch import DynamicBatch
    from anyvocab.dynamic.survey import Survey

__all__ = ["Lengths", "cut_merged", "cuts_of", "lengths_of"]

_BEYOND = 16 << 10  # bytes after the limit that are cut, too: more than a merged token has

_NAME = 32  # characters of a text that name it


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long a text, or a kind of texts, is.

    Attributes:
        name: What results call it.
        bytes: Its bytes.
        before: Its base tokens.
        after: Its tokens after merging.
        attainable: The share that would be gone if everything merged; None for a single text,
            since texts of a batch merge together.
    """

    name: str
    bytes: int
    before: int
    after: int
    attainable: float | None

    @property
    def left(self) -> float:
        """The share of the base tokens that is left; 1 without tokens."""
        return self.after / self.before if self.before else 1.0

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON knows it."""
        return {
            "name": self.name,
            "bytes": self.bytes,
            "before": self.before,
            "after": self.after,
            "reduction": round(1 - self.left, 6),
        }


def lengths_of(found: Survey, kinds: Mapping[str, Sequence[bytes]]) -> list[Lengths]:
    """Return the lengths of each kind of text; of each text where there is one kind.

    Args:
        found: What a survey said.
        kinds: Its texts.
    """
    if len(found.rows) == 1:
        (row,) = found.rows
        texts = kinds[row.name]
        columns = (row.bytes.tolist(), row.base_lengths.tolist(), row.lengths.tolist())
        several = len(texts) > 1
        return [
            Lengths(_name(i, text) if several else row.name, size, before, after, None)
            for i, (text, size, before, after) in enumerate(zip(texts, *columns, strict=True))
        ]
    return [
        Lengths(
            row.name,
            int(row.bytes.sum()),
            row.base_tokens,
            row.tokens,
            row.attainable_reduction,
        )
        for row in found.rows
    ]


def cuts_of(
    tokenizer: Tokenizer, found: Survey, *, most: int, limit: int
) -> dict[str, tuple[Cut, Cut]]:
    """Return the examples of a survey before and after, by name.

    Args:
        tokenizer: The survey's.
        found: What it said.
        most: How many examples.
        limit: How many bytes of each, about.
    """
    several = len(found.rows) == 1 < len(found.rows[0].lengths)
    return {
        _name(i, one.text) if several else one.name: cut_merged(
            tokenizer, one.text, one.batch, one.row, limit=limit
        )
        for i, one in enumerate(found.examples[:most])
    }


def _name(place: int, text: bytes) -> str:
    """Return what a text of many is called: its number and its start."""
    return f"{place + 1}: {one_line(text, limit=_NAME)}"


def cut_merged(
    tokenizer: Tokenizer, text: bytes, batch: DynamicBatch, row: int, *, limit: int
) -> tuple[Cut, Cut]:
    """Return the same bytes of a text as base tokens and as a batch merged them.

    A merged token's piece says in `merged` what it was made of. The bytes are those of the whole
    text, or of its start, where a token that begins within the limit is whole.

    Args:
        tokenizer: The batch's.
        text: Text `row` of the batch, encoded without what a template adds.
        batch: The batch.
        row: Which of its texts.
        limit: How many bytes of the text are shown, about.
    """
    start = _start_of(text, limit + _BEYOND)
    pieces = cut_text(tokenizer, start).pieces
    base = batch.base[row].tolist()
    begin, end = int(batch.offsets[row]), int(batch.offsets[row + 1])
    ids = batch.ids[begin:end].tolist()
    starts = (batch.starts[begin : end + 1] - batch.starts[begin]).tolist()
    # Where the text was cut off the last tokens may be others than those of the whole.
    at = [i for i, piece in enumerate(pieces) if piece.id is not None]
    same = 0
    while same < min(len(at), len(base)) and pieces[at[same]].id == base[same]:
        same += 1
    before: list[Piece] = []
    after: list[Piece] = []
    shown = 0  # bytes
    position = 0  # among pieces
    for token, id in enumerate(ids):
        first, last = starts[token], starts[token + 1]
        if last > same or shown >= limit:
            break
        some = pieces[position : at[last - 1] + 1]
        position = at[last - 1] + 1
        before += some
        after += _as_merged(some, id, batch) if last - first > 1 else some
        shown += sum(len(piece.text) for piece in some)
    else:
        if len(start) == len(text):  # bytes at the end that no token stands for
            before += pieces[position:]
            after += pieces[position:]
    data = b"".join(piece.text for piece in before)
    return Cut(data, tuple(before)), Cut(data, tuple(after))


def _as_merged(some: tuple[Piece, ...], id: int, batch: DynamicBatch) -> list[Piece]:
    """Return the pieces of some base tokens that became one; bytes before it have none."""
    first = next(i for i, piece in enumerate(some) if piece.id is not None)
    parts = some[first:]
    merged = tuple(piece.token or b"" for piece in parts if piece.id is not None)
    is_new = id >= batch.new_tokens.first_id
    spelling = b"" if is_new else batch.vocabulary.spelling(id) or b""
    text = b"".join(piece.text for piece in parts)
    kind = "new" if is_new else batch.vocabulary.kind(id)
    return [*some[:first], Piece(id, text, batch.bytes_of(id), spelling, kind, merged)]


def _start_of(text: bytes, size: int) -> bytes:
    """Return the first bytes of a text, whole characters of it."""
    if size >= len(text):
        return text
    while size and text[size] & 0xC0 == 0x80:
        size -= 1
    return text[:size]
