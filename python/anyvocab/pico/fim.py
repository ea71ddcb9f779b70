"""Fill-in-the-middle as a transform of text (Bavarian et al., arXiv:2207.14255).

A document is cut at two character positions into prefix, middle and suffix, then written in one
of two orders, each part encoded on its own, so a cut can fall inside a token:

    PSM   <pre> prefix <suf> suffix <mid> middle <eos>
    SPM   <pre> <suf> suffix <mid> prefix middle <eos>

SPM is the paper's second variant, the one StarCoder used: prefix and middle are encoded as one
string, so the model never meets an artificial token boundary between them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Order = Literal["psm", "spm"]
Encode = Callable[[str], list[int]]

SHORT_SPAN = 80  # characters; a quarter of the middles are this short: an argument, a name
MAX_LINES = 3  # most middles are the rest of a line, or that and up to two lines more


@dataclass(frozen=True)
class Parts:
    """A text cut in three; `prefix + middle + suffix` is the text."""

    prefix: str
    middle: str
    suffix: str

    def join(self) -> str:
        """Return the text that was cut."""
        return self.prefix + self.middle + self.suffix


@dataclass(frozen=True)
class FimIds:
    """The ids the transform writes."""

    prefix: int
    suffix: int
    middle: int
    eos: int


def cut(text: str, rng: random.Random) -> Parts:
    """Return `text` cut at two character positions.

    Five eighths of the middles run from any character, or from the first of a line, to the end of
    the line or of one of the next two, because that is what an editor asks for and what ends where
    the reader can see it; a quarter are a uniform span of at most `SHORT_SPAN` characters; an
    eighth lie between two uniform cuts, as in the paper.
    """
    length = len(text)
    draw = rng.random()
    if draw < 0.125:
        start, end = sorted((rng.randint(0, length), rng.randint(0, length)))
    elif draw < 0.375:
        start = rng.randint(0, length)
        end = min(length, start + rng.randint(1, SHORT_SPAN))
    else:
        start = rng.randint(0, length)
        if rng.random() < 0.5:  # a whole line behind its indentation
            start = text.rfind("\n", 0, start) + 1
            start += len(text[start:]) - len(text[start:].lstrip(" "))
        end = start
        for extra in range(rng.choice((1, 1, 1, MAX_LINES - 1, MAX_LINES))):
            found = text.find("\n", end + (extra > 0))
            end = found if found >= 0 else length
    return Parts(text[:start], text[start:end], text[end:])


def write(parts: Parts, order: Order, encode: Encode, ids: FimIds) -> list[int]:
    """Return the ids of `parts` in `order`, closed by `eos`."""
    if order == "psm":
        return [
            ids.prefix,
            *encode(parts.prefix),
            ids.suffix,
            *encode(parts.suffix),
            ids.middle,
            *encode(parts.middle),
            ids.eos,
        ]
    return [
        ids.prefix,
        ids.suffix,
        *encode(parts.suffix),
        ids.middle,
        *encode(parts.prefix + parts.middle),
        ids.eos,
    ]


def prompt(
    prefix: str, suffix: str, encode: Encode, ids: FimIds, *, order: Order = "psm"
) -> list[int]:
    """Return the ids after which a model writes the middle, in `order`."""
    if order == "psm":
        return [ids.prefix, *encode(prefix), ids.suffix, *encode(suffix), ids.middle]
    return [ids.prefix, ids.suffix, *encode(suffix), ids.middle, *encode(prefix)]


def read(sequence: list[int], decode: Callable[[list[int]], str], ids: FimIds) -> str:
    """Return the text that `write` was given, whatever its order: the transform's inverse.

    Raises:
        ValueError: `sequence` is not what `write` returns.
    """
    marks = (ids.prefix, ids.suffix, ids.middle)
    if sequence[:1] != [ids.prefix] or sequence[-1:] != [ids.eos]:
        raise ValueError("the sequence does not begin with the prefix mark and end with eos")
    if any(sequence.count(mark) != 1 for mark in marks):
        raise ValueError("each of the three marks must occur once")
    at_suffix, at_middle = sequence.index(ids.suffix), sequence.index(ids.middle)
    if at_middle < at_suffix:
        raise ValueError("the middle mark stands before the suffix mark")
    prefix = decode(sequence[1:at_suffix])
    suffix = decode(sequence[at_suffix + 1 : at_middle])
    return prefix + decode(sequence[at_middle + 1 : -1]) + suffix
