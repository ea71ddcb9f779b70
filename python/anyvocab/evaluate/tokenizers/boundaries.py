r"""Prompt boundaries: whether a text's tokens stay what they are when the text goes on.

A model that is prompted with a prefix sees the prefix's own encoding. Where that is not how the
whole text's encoding begins, the model is in a place that it has not been trained on. Superwords
make such places more frequent, and uneven: `" A\n"` may be one token and `" C\n"` two, so that the
letters of a multiple-choice question are read off different tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab.evaluate.tokenizers.shapes import is_word_character

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.tokenizer import Tokenizer

__all__ = [
    "AnswerLetters",
    "Boundaries",
    "Places",
    "Torn",
    "answer_letters",
    "boundaries",
    "excerpts",
]

LETTERS = "ABCD"
PROMPT = b"Answer:"
FOLLOWING = (b"\n", b"\n\n", b".", b")", b", ", b" because")
EXAMPLES = 12
SHOWN = 24  # bytes of an example on either side


@dataclass(frozen=True)
class AnswerLetters:
    r"""The answer-letter test with one following text.

    Attributes:
        following: What stands after the letter.
        kept: The letters L for which the encoding of `Answer: L` is how the encoding of
            `Answer: L` with the following text begins.
        tokens: For each letter the bytes of the tokens from the first that differs from the
            others' prompt on, in the whole text.
    """

    following: bytes
    kept: str
    tokens: tuple[tuple[bytes, ...], ...]

    @property
    def verdict(self) -> str:
        """`kept` for all letters, `changed` for all, or `mixed`: letters are treated unalike."""
        return "kept" if self.kept == LETTERS else "mixed" if self.kept else "changed"


@dataclass(frozen=True)
class Places:
    """Places of one kind at which a prompt could end.

    Attributes:
        count: How many there are.
        torn: At how many of them the encoding of the prefix is not how that of the whole begins.
    """

    count: int
    torn: int

    @property
    def share(self) -> float:
        """The share of places that are torn; 0 without places."""
        return self.torn / self.count if self.count else 0.0

    def __add__(self, other: Places) -> Places:
        """Return the places of both."""
        return Places(self.count + other.count, self.torn + other.torn)


@dataclass(frozen=True)
class Torn:
    """An example of a word's end where the tokens change when the text goes on.

    Attributes:
        before: The end of the prefix.
        after: How the text goes on.
        prefix_tokens: The tokens of the prefix from the first that changes on.
        whole_tokens: The tokens of the whole in their place, up to the end of `after` or further.
    """

    before: bytes
    after: bytes
    prefix_tokens: tuple[bytes, ...]
    whole_tokens: tuple[bytes, ...]


@dataclass(frozen=True)
class Boundaries:
    """How often a text's tokens change when it goes on.

    Every place inside the excerpts is tried, each against the excerpt it is in: the text before
    the place is encoded, the whole excerpt is, and the first must be how the second begins.

    Attributes:
        bytes: Every byte but the first.
        characters: The places between characters: where a prompt of text can end.
        words: The places with a letter, digit or mark on the left and none on the right.
        spaces: The places right after a space that a word follows: prompts with a space too many.
        excerpts: How many excerpts were tried.
        examples: Some ends of words that are torn.
    """

    bytes: Places
    characters: Places
    words: Places
    spaces: Places
    excerpts: int
    examples: tuple[Torn, ...]


def answer_letters(
    tokenizer: Tokenizer, following: Sequence[bytes] = FOLLOWING
) -> tuple[AnswerLetters, ...]:
    r"""Return the answer-letter test, for every following text.

    For the letters A to D, `Answer: L` is encoded alone and with the following text. Scoring or
    reading an answer by its letter's token is sound when the letter's tokens are the same.

    Source: the check in the notebook of SuperBPE (Liu et al., arXiv:2503.13423).

    >>> import anyvocab as av
    >>> tests = answer_letters(av.Tokenizer.load("pico:code-4k"), [b"\n"])
    >>> tests[0].kept
    'ABCD'
    """
    vocabulary = tokenizer.vocabulary
    found = []
    for after in following:
        kept = ""
        wholes = []
        for letter in LETTERS:
            prompt = PROMPT + b" " + letter.encode()
            alone = tokenizer.encode(prompt, specials="text")
            whole = tokenizer.encode(prompt + after, specials="text")
            kept += letter if _begins(whole, alone) else ""
            wholes.append(whole)
        shared = _shared(wholes)
        tokens = tuple(
            tuple(vocabulary.token_bytes(id) or b"" for id in whole[shared:].tolist())
            for whole in wholes
        )
        found.append(AnswerLetters(after, kept, tokens))
    return tuple(found)


def _begins(whole: NDArray[np.uint32], start: NDArray[np.uint32]) -> bool:
    return len(start) <= len(whole) and bool((whole[: len(start)] == start).all())


def _shared(rows: Sequence[NDArray[np.uint32]]) -> int:
    """Return how many leading ids all rows share."""
    shortest = min(map(len, rows))
    for at in range(shortest):
        if len({int(row[at]) for row in rows}) > 1:
            return at
    return shortest


def excerpts(documents: Sequence[bytes], count: int, size: int) -> list[bytes]:
    """Return excerpts of at most `size` bytes, evenly spread over the documents.

    Documents of no more than `count * size` bytes together are taken whole, in pieces. Of more,
    `count` places are taken, even in the documents put end to end; there an excerpt begins after
    the next line feed where one is near, else at the next character. Excerpts never go from one
    document into another and are cut between characters. The same for every tokenizer.
    """
    ends = np.cumsum([len(one) for one in documents], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    if total <= count * size:
        return [piece for document in documents for piece in _pieces(document, size)]
    found: dict[tuple[int, int], bytes] = {}
    for place in (i * total // count for i in range(count)):
        number = int(np.searchsorted(ends, place, side="right"))
        document = documents[number]
        start = place - int(ends[number]) + len(document)
        line = document.find(b"\n", max(0, start - 1), start + size // 2) + 1
        start = line if start and line else _character(document, start)
        piece = document[start : _character(document, start + size)]
        if piece:
            found[number, start] = piece
    return list(found.values())


def _pieces(text: bytes, size: int) -> Iterator[bytes]:
    start = 0
    while start < len(text):
        end = _character(text, start + size)
        yield text[start:end]
        start = end


def _character(text: bytes, at: int) -> int:
    """Return the first place from `at` on that is not inside a character."""
    while at < len(text) and text[at] & 0xC0 == 0x80:
        at += 1
    return min(at, len(text))


def boundaries(tokenizer: Tokenizer, texts: Sequence[bytes]) -> Boundaries:
    """Return how often the tokens of a text change when it goes on.

    The spelling of a special token is text here. O(bytes · tokens) of each text: give excerpts.

    Args:
        tokenizer: The tokenizer.
        texts: Texts, each tried at every place inside it.
    """
    totals = [Places(0, 0)] * 4
    examples: list[Torn] = []
    for text in texts:
        whole = tokenizer.encode(text, specials="text")
        torn = np.fromiter(_torn(tokenizer, text, whole), dtype=np.bool_, count=len(text) - 1)
        kinds = _kinds(text)
        totals = [
            total + Places(int(mask.sum()), int((mask & torn).sum()))
            for total, mask in zip(totals, kinds, strict=True)
        ]
        ends = np.flatnonzero(kinds[2] & torn)
        # One from the middle of each text, so that examples are of different kinds.
        if len(ends) and len(examples) < EXAMPLES:
            examples.append(_example(tokenizer, text, whole, int(ends[len(ends) // 2]) + 1))
    every, characters, words, spaces = totals
    return Boundaries(every, characters, words, spaces, len(texts), tuple(examples))


def _torn(tokenizer: Tokenizer, text: bytes, whole: NDArray[np.uint32]) -> Iterator[bool]:
    encoder = tokenizer.incremental(specials="text")
    for at in range(len(text) - 1):
        encoder.append(text[at : at + 1])
        yield not _begins(whole, encoder.ids())


def _kinds(text: bytes) -> tuple[NDArray[np.bool_], ...]:
    """Return for every place inside a text what kind it is, four times bool[len - 1]."""
    data = np.frombuffer(text, dtype=np.uint8)
    between = (data[1:] & 0xC0) != 0x80
    word = np.zeros(len(text), dtype=np.bool_)
    at = 0
    for character in text.decode("utf-8", "surrogateescape"):
        size = 1 if "\udc80" <= character <= "\udcff" else len(character.encode())
        word[at : at + size] = is_word_character(character)
        at += size
    space = data[:-1] == 0x20
    return np.ones(len(text) - 1, dtype=np.bool_), between, word[:-1] & ~word[1:], space & word[1:]


def _example(tokenizer: Tokenizer, text: bytes, whole: NDArray[np.uint32], place: int) -> Torn:
    prefix = tokenizer.encode(text[:place], specials="text")
    same = _shared([whole, prefix])
    vocabulary = tokenizer.vocabulary
    tail = [vocabulary.token_bytes(id) or b"" for id in prefix[same:].tolist()]
    missing = sum(map(len, tail))
    rest: list[bytes] = []
    size = 0
    for id in whole[same:].tolist():
        rest.append(vocabulary.token_bytes(id) or b"")
        size += len(rest[-1])
        if size > missing:
            break
    start = _character(text, max(0, place - SHOWN))
    return Torn(
        before=text[start:place],
        after=text[place : _character(text, place + SHOWN)],
        prefix_tokens=tuple(tail),
        whole_tokens=tuple(rest),
    )
