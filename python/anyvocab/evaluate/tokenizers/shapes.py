"""How long every token is, in bytes, characters and words."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.vocabulary import Vocabulary

__all__ = ["MOST_WORDS", "Shapes", "is_word_character", "shapes_of", "words_of"]

MOST_WORDS = 4  # tokens of so many words and of more are counted together
_UNKNOWN = "\ufffd"  # bytes that are a part of a character: nearly always of a letter


@dataclass(frozen=True, eq=False)
class Shapes:
    """The tokens of a vocabulary, measured. All arrays have a number for each id.

    Attributes:
        bytes: Length in bytes, int64[V]; 0 for ids that stand for no text.
        characters: How many characters begin in the token, int64[V]: a part of a character that
            leaves out its first byte counts none.
        words: How many words it touches, at most `MOST_WORDS`, int64[V]; see :func:`words_of`.
        text: Whether an id stands for text and has bytes, bool[V].
    """

    bytes: NDArray[np.int64]
    characters: NDArray[np.int64]
    words: NDArray[np.int64]
    text: NDArray[np.bool_]


@lru_cache(maxsize=1 << 14)
def is_word_character(character: str) -> bool:
    """Return whether a character is a letter, a digit, a mark on one, or a part of a character."""
    return character.isalnum() or character == _UNKNOWN or unicodedata.category(character)[0] == "M"


def words_of(token: bytes) -> int:
    r"""Return how many words a token touches.

    A word is a stretch between white space that has a letter, a digit or a mark; bytes that are
    a part of a character count as one. A piece of a word touches one word; punctuation and white
    space touch none. Scripts that put no white space between words have one word a stretch, so
    for them this says little.

    >>> words_of(b" of the"), words_of(b"ing"), words_of(b", "), words_of(b"\xe6\x97")
    (2, 1, 0, 1)
    """
    text = token.decode("utf-8", "replace")
    return sum(any(map(is_word_character, part)) for part in text.split())


def shapes_of(vocabulary: Vocabulary) -> Shapes:
    """Return how long the tokens of a vocabulary are. O(total bytes of the tokens)."""
    data, offsets = vocabulary.table()
    starts = (np.frombuffer(data, dtype=np.uint8) & 0xC0) != 0x80
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(starts, dtype=np.int64)])
    sizes = np.diff(offsets)
    words = np.zeros(len(sizes), dtype=np.int64)
    ends = offsets.tolist()
    for id in np.flatnonzero(sizes).tolist():
        words[id] = words_of(data[ends[id] : ends[id + 1]])
    return Shapes(
        bytes=sizes,
        characters=before[offsets[1:]] - before[offsets[:-1]],
        words=np.minimum(words, MOST_WORDS),
        text=sizes > 0,
    )
