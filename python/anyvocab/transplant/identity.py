"""Which source token a target token is: by bytes and kind, never by spelling or class name.

`▁x`, `Ġx` and a word-initial `x` are the same bytes, and so are `<0x0A>` and `Ċ`. Control tokens
stand for no bytes and are matched by role, in :mod:`anyvocab.transplant.roles`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from anyvocab.tokenizer import Ragged, Tokenizer
from anyvocab.transplant.ragged import ragged, scattered, select, spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.vocabulary import Vocabulary

__all__ = ["Match", "Origin", "decompose", "fewest_tokens", "match", "token_table"]

# Text before a token, so that what a tokenizer adds at a text's start is not the token's. Where
# none of them leaves a boundary behind it, the token is cut by look-up.
_LEADS = (b"\n", b"a", b"0", b".", b"\x00", "\u4e00".encode())


class Origin(IntEnum):
    """How a row of the new vocabulary was made."""

    COPIED = 0  # the same bytes: the source's row, bit for bit
    ROLE = 1  # a control token: the row of the source's token of that role
    MAPPED = 2  # as the caller's map says
    COMPOSED = 3  # a combination of source rows
    PREDICTED = 4  # by a learned map or a network
    FALLBACK = 5  # nothing fits: the mean row
    UNUSED = 6  # a hole or padding: no text makes it, and it should not be sampled
    QUIET = 7  # its source row belongs to a twin: an output row that is hardly ever sampled


@dataclass(frozen=True, eq=False)
class Match:
    """Target ids matched to source ids by bytes.

    Attributes:
        source_of: int32[V_tgt]: the source id with the same bytes, -1 where there is none.
        exact_kind: bool[V_tgt]: whether that id is also of the same kind.
    """

    source_of: NDArray[np.int32]
    exact_kind: NDArray[np.bool_]

    def matched(self) -> NDArray[np.int64]:
        """Return the target ids that have a source id, ascending."""
        return np.flatnonzero(self.source_of >= 0)

    def unmatched(self) -> NDArray[np.int64]:
        """Return the target ids that have none, ascending; control tokens and holes too."""
        return np.flatnonzero(self.source_of < 0)


def token_table(vocabulary: Vocabulary) -> list[bytes | None]:
    """Return the bytes of every id; None for control and unused tokens and for holes."""
    data, offsets = vocabulary.table()
    ends = offsets.tolist()
    silent = set(vocabulary.silent().tolist())
    return [
        None if id in silent else data[ends[id] : ends[id + 1]] for id in range(len(vocabulary))
    ]


def match(source: Vocabulary, target: Vocabulary, *, source_rows: int | None = None) -> Match:
    """Return which source id has the bytes of each target id. O(V log V) once, then O(V).

    Among several source ids with the same bytes one of the target's kind goes first, so a
    byte-fallback token is matched to a byte-fallback token where both exist; after that a token of
    the vocabulary goes before its byte-fallback twin, and a lower id before a higher one. Tokens
    without bytes are matched to nothing.

    Args:
        source: The vocabulary of the model.
        target: The vocabulary it shall have.
        source_rows: Rows of the model's matrices; source ids beyond them are no match.
    """
    limit = len(source) if source_rows is None else min(source_rows, len(source))
    ids, found = target._core.twins_in(source._core, limit)
    source_of = np.full(len(target), -1, dtype=np.int32)
    source_of[ids] = found
    exact = np.zeros(len(target), dtype=np.bool_)
    exact[ids] = source.kinds()[found] == target.kinds()[ids]
    return Match(source_of, exact)


def decompose(
    source: Tokenizer, tokens: Sequence[bytes], *, apart: bool = False, rows: int | None = None
) -> Ragged:
    """Return source ids whose bytes together are each token's, exactly.

    They are what the source tokenizer makes of the bytes: at the start of a text where nothing is
    added or dropped there, else inside a text. Bytes that it cannot keep (a normalizer, a word
    mark) are cut into the fewest tokens of its vocabulary. A row is empty when even that fails:
    some byte has no token.

    Args:
        source: The tokenizer that cuts.
        tokens: Byte strings; they need not be valid UTF-8.
        apart: Whether a token must be cut into more than one piece: what would become of it if it
            were not in the vocabulary. Single bytes and tokens without another cut give an empty
            row.
        rows: Rows of the model's matrices: source ids beyond them are not used.
    """
    places = np.arange(len(tokens))
    parts: list[tuple[NDArray[np.int64], Ragged]] = []
    if not apart and tokens:  # nearly every token of a vocabulary is done here
        batch = source.encode_batch(tokens, specials="text")
        spelt = _spelt(source.vocabulary, batch, tokens, rows)
        parts.append((places[spelt], select(batch, places[spelt])))
        places = places[~spelt]
    if len(places):
        rest = [tokens[i] for i in places.tolist()]
        parts.append((places, ragged(_decompose_each(source, rest, apart, rows))))
    return scattered(len(tokens), parts)


def _spelt(
    vocabulary: Vocabulary, batch: Ragged, tokens: Sequence[bytes], rows: int | None
) -> NDArray[np.bool_]:
    """Return which rows of ids, all with bytes and below `rows`, are their token's bytes, bool[n].

    The comparison of a row's joined bytes with its token, for all rows at once.
    """
    data, offsets = vocabulary.table()
    sizes = np.diff(offsets)
    usable = sizes > 0
    if rows is not None:
        usable[rows:] = False
    wanted = np.fromiter(map(len, tokens), np.int64, len(tokens))
    # sums over rows that may be empty: differences of running sums
    ends = np.concatenate(([0], np.cumsum(sizes[batch.ids])))[batch.offsets]
    unusable = np.concatenate(([0], np.cumsum(~usable[batch.ids])))[batch.offsets]
    alike: NDArray[np.bool_] = (np.diff(ends) == wanted) & (np.diff(unusable) == 0)
    ids = select(batch, np.flatnonzero(alike)).ids
    got = np.frombuffer(data, np.uint8)[spans(offsets[ids], sizes[ids])]
    told = np.frombuffer(b"".join(compress(tokens, alike.tolist())), np.uint8)
    wrong = np.concatenate(([0], np.cumsum(got != told)))
    ends = np.concatenate(([0], np.cumsum(wanted[alike])))
    alike[alike] = np.diff(wrong[ends]) == 0
    return alike


def _decompose_each(
    source: Tokenizer, tokens: Sequence[bytes], apart: bool, rows: int | None
) -> list[list[int]]:
    table = token_table(source.vocabulary)
    if rows is not None and rows < len(table):
        table[rows:] = [None] * (len(table) - rows)
    found: list[list[int] | None] = [None] * len(tokens)
    if not apart:
        _by_leads(source, table, tokens, found)
    index = _best_ids(source.vocabulary, table)
    longest = max(map(len, index), default=0)
    return [
        (fewest_tokens(token, index, longest, whole=not apart) or []) if row is None else row
        for token, row in zip(tokens, found, strict=True)
    ]


def _by_leads(
    source: Tokenizer,
    table: list[bytes | None],
    tokens: Sequence[bytes],
    found: list[list[int] | None],
) -> None:
    # A text's start may have been given a space: ` x` is then what `x` becomes.
    spaced = [i for i, token in enumerate(tokens) if token[:1] == b" "]
    if spaced:
        batch = source.encode_batch([tokens[i][1:] for i in spaced], specials="text")
        for i, row in zip(spaced, batch.to_list(), strict=True):
            found[i] = _tail(row, table, tokens[i], whole=True)
    for lead in _LEADS:
        left = [i for i, one in enumerate(found) if one is None and tokens[i]]
        if not left:
            return
        batch = source.encode_batch([lead + tokens[i] for i in left], specials="text")
        for i, row in zip(left, batch.to_list(), strict=True):
            found[i] = _tail(row, table, tokens[i], whole=False)


def _tail(
    ids: list[int], table: list[bytes | None], token: bytes, *, whole: bool
) -> list[int] | None:
    """Return the last ids whose bytes are `token` (all ids if `whole`), or None."""
    if whole:
        try:
            pieces = [table[id] for id in ids]
            return ids if all(pieces) and b"".join(pieces) == token else None  # type: ignore[arg-type]
        except IndexError:
            return None
    room = len(token)
    for at in range(len(ids) - 1, -1, -1):
        piece = table[ids[at]] if ids[at] < len(table) else None
        if piece is None or not token.endswith(piece, 0, room):
            return None
        room -= len(piece)
        if room == 0:
            return ids[at:]
    return None


def _best_ids(vocabulary: Vocabulary, table: Iterable[bytes | None]) -> dict[bytes, int]:
    """Return bytes to id, tokens of the vocabulary before byte-fallback twins."""
    kinds, byte_code = vocabulary.kinds(), vocabulary.kind_code("byte")
    index: dict[bytes, int] = {}
    for id, token in enumerate(table):
        if token and (
            token not in index or (kinds[index[token]] == byte_code and kinds[id] != byte_code)
        ):
            index[token] = id
    return index


def fewest_tokens(
    token: bytes, index: dict[bytes, int], longest: int, *, whole: bool = True
) -> list[int] | None:
    """Return the fewest ids whose bytes are `token`, the longest first among equals; None: no cut.

    This is not BPE. O(len(token) * longest) look-ups.

    Args:
        token: What to cut.
        index: Bytes to id.
        longest: The length of the longest key of `index`.
        whole: Whether one id for all of it is allowed.
    """
    size = len(token)
    # best[i]: the fewest ids for token[i:], and where the first of them ends
    best: list[tuple[int, int] | None] = [None] * size + [(0, size)]
    for start in range(size - 1, -1, -1):
        for end in range(min(size, start + longest), start, -1):
            rest = best[end]
            if rest is None or (not whole and end - start == size):
                continue
            held = best[start]
            if (held is None or rest[0] + 1 < held[0]) and token[start:end] in index:
                best[start] = (rest[0] + 1, end)
    if not size or best[0] is None:
        return None
    ids, at = [], 0
    while at < size:
        step = best[at]
        if step is None:
            return None
        ids.append(index[token[at : step[1]]])
        at = step[1]
    return ids
