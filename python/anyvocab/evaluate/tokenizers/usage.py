"""What of a vocabulary a text uses: which ids, how long, how many words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab.evaluate.tokenizers.shapes import MOST_WORDS
from anyvocab.evaluate.tokenizers.unigram import (
    renyi_efficiency,
    renyi_entropy,
    shannon_entropy,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.evaluate.tokenizers.shapes import Shapes
    from anyvocab.vocabulary import Vocabulary

__all__ = ["Seen", "Unreachable", "Usage", "WordCounts", "unreachable", "usage", "word_counts"]

TOP = (10, 100, 1000, 10_000)
EXAMPLES = 24


@dataclass(frozen=True)
class WordCounts:
    """Numbers by how many words a token touches: none, 1, 2, 3, `MOST_WORDS` or more.

    Attributes:
        ids: How many different ids occur, five numbers.
        tokens: How many tokens they are, five numbers.
    """

    ids: tuple[int, ...]
    tokens: tuple[int, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """The tokens' shares, adding up to 1; zeros without tokens."""
        total = sum(self.tokens)
        return tuple(one / total if total else 0.0 for one in self.tokens)


@dataclass(frozen=True)
class Seen:
    """A token and how often it occurs.

    Attributes:
        id: Its id.
        token: Its bytes.
        count: How often it occurs in the texts.
    """

    id: int
    token: bytes
    count: int


@dataclass(frozen=True)
class Usage:
    """What of a vocabulary some texts use.

    Attributes:
        text_ids: Ids that stand for text: those that could occur.
        used: How many of them do.
        top: Pairs (k, share of all tokens that are one of the k most frequent ids).
        vocabulary_words: How many ids touch 0, 1, 2, 3, `MOST_WORDS` or more words; five numbers.
        words: The same of the ids and tokens that occur.
        vocabulary_bytes: Length in bytes to the number of ids, ascending.
        token_bytes: Length in bytes to the number of tokens in the texts, ascending.
        vocabulary_characters: Characters to the number of ids.
        token_characters: Characters to the number of tokens in the texts.
        entropy: Of the distribution of tokens, in bits: a token drawn without its context.
        entropy_per_byte: The same for each byte of text, in bits.
        renyi_entropy: Of order `RENYI_ORDER`, in bits.
        renyi_efficiency: Over the logarithm of `text_ids`; see :func:`renyi_efficiency`.
        renyi_efficiency_used: Over the logarithm of `used`.
        frequent: The most frequent tokens, most frequent first.
    """

    text_ids: int
    used: int
    top: tuple[tuple[int, float], ...]
    vocabulary_words: tuple[int, ...]
    words: WordCounts
    vocabulary_bytes: dict[int, int]
    token_bytes: dict[int, int]
    vocabulary_characters: dict[int, int]
    token_characters: dict[int, int]
    entropy: float
    entropy_per_byte: float
    renyi_entropy: float
    renyi_efficiency: float
    renyi_efficiency_used: float
    frequent: tuple[Seen, ...]

    @property
    def unused(self) -> int:
        """Ids that stand for text and do not occur."""
        return self.text_ids - self.used

    @property
    def mean_bytes(self) -> float:
        """Mean length in bytes of the ids that stand for text; 0 without any."""
        return sum(n * count for n, count in self.vocabulary_bytes.items()) / max(1, self.text_ids)


@dataclass(frozen=True)
class Unreachable:
    """Tokens that the tokenizer does not give for their own text.

    What is tested is what :meth:`anyvocab.Vocabulary.unreachable` says: the token's bytes are
    encoded, alone and between some characters, and the token is not among the ids. A token that
    only a longer text gives is found in the texts, and counted apart.

    Attributes:
        count: How many there are.
        seen: How many of them do occur in the texts, so are reached after all.
        examples: Some that do not occur, by id.
    """

    count: int
    seen: int
    examples: tuple[Seen, ...]


def word_counts(counts: NDArray[np.int64], shapes: Shapes) -> WordCounts:
    """Return ids and tokens by the number of words they touch."""
    seen = counts > 0
    ids = np.bincount(shapes.words[seen], minlength=MOST_WORDS + 1)
    tokens = [int(counts[seen & (shapes.words == n)].sum()) for n in range(MOST_WORDS + 1)]
    return WordCounts(tuple(ids.tolist()), tuple(tokens))


def usage(
    vocabulary: Vocabulary, counts: NDArray[np.int64], shapes: Shapes, text_bytes: int
) -> Usage:
    """Return what of a vocabulary some texts use.

    Args:
        vocabulary: The vocabulary.
        counts: How often each id occurs in them, int64[V].
        shapes: The vocabulary's, from :func:`shapes_of`.
        text_bytes: Length of the texts.
    """
    tokens = int(counts.sum())
    # Ids without text (an unknown token) may occur too; they are used, and not to be used.
    occurring = counts > 0
    text_ids = int(shapes.text.sum())
    order = np.lexsort((np.arange(len(counts)), -counts))
    sums = np.cumsum(counts[order])
    entropy = shannon_entropy(counts)
    return Usage(
        text_ids=text_ids,
        used=int((occurring & shapes.text).sum()),
        top=tuple((k, float(sums[k - 1]) / tokens) for k in TOP if k <= len(counts)),
        vocabulary_words=tuple(
            np.bincount(shapes.words[shapes.text], minlength=MOST_WORDS + 1).tolist()
        ),
        words=word_counts(counts, shapes),
        vocabulary_bytes=_histogram(shapes.bytes[shapes.text]),
        token_bytes=_histogram(shapes.bytes, counts),
        vocabulary_characters=_histogram(shapes.characters[shapes.text]),
        token_characters=_histogram(shapes.characters, counts),
        entropy=entropy,
        entropy_per_byte=entropy * tokens / text_bytes,
        renyi_entropy=renyi_entropy(counts),
        renyi_efficiency=renyi_efficiency(counts, max(text_ids, int(occurring.sum()))),
        renyi_efficiency_used=renyi_efficiency(counts),
        frequent=_seen(vocabulary, counts, order[:EXAMPLES]),
    )


def unreachable(vocabulary: Vocabulary, counts: NDArray[np.int64]) -> Unreachable:
    """Return the tokens that the tokenizer does not give for their own text. O(V) encodings."""
    ids = vocabulary.unreachable()
    never = ids[counts[ids] == 0]
    return Unreachable(
        count=len(ids),
        seen=len(ids) - len(never),
        examples=_seen(vocabulary, counts, never[:EXAMPLES]),
    )


def _histogram(
    lengths: NDArray[np.int64], weights: NDArray[np.int64] | None = None
) -> dict[int, int]:
    """Return length to how many have it, ascending; lengths that none has are left out."""
    sums = np.zeros(int(lengths.max(initial=0)) + 1, dtype=np.int64)
    np.add.at(sums, lengths, 1 if weights is None else weights)
    return {length: count for length, count in enumerate(sums.tolist()) if count}


def _seen(
    vocabulary: Vocabulary, counts: NDArray[np.int64], ids: NDArray[np.integer]
) -> tuple[Seen, ...]:
    return tuple(
        Seen(id, vocabulary.token_bytes(id) or vocabulary.spelling(id) or b"", int(counts[id]))
        for id in ids.tolist()
    )
