"""What the same content costs in different languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.tokenizer import Text, _bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.tokenizer import Tokenizer

__all__ = ["Fairness", "LanguageCost", "fairness", "gini", "parallel_texts", "unknown_bytes"]

UNKNOWN_SHARE = 0.01  # of a text's bytes: with more, it is not really encoded


@dataclass(frozen=True)
class LanguageCost:
    """What a text costs in one language.

    Attributes:
        language: Its name.
        bytes: Length of the text in it.
        tokens: How many tokens it becomes.
        unknown_bytes: How many bytes of the text became the unknown token.
        premium: Tokens over those of the language with the fewest: 2.0 is twice the price, and
            half the text in the same context. None where over `UNKNOWN_SHARE` of the bytes are
            unknown: few tokens are no merit then.
    """

    language: str
    bytes: int
    tokens: int
    unknown_bytes: int
    premium: float | None

    @property
    def bytes_per_token(self) -> float:
        """Bytes over tokens; 0 without tokens. Not comparable between scripts: see `premium`."""
        return self.bytes / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Fairness:
    """What the same content costs in several languages.

    Attributes:
        languages: In the order that they were given.
        gini: Gini coefficient of the tokens of the languages that have a premium: 0 when all cost
            the same, towards 1 when one language bears all the cost.
    """

    languages: tuple[LanguageCost, ...]
    gini: float

    @property
    def worst(self) -> LanguageCost | None:
        """The language with the highest premium, the first of them; None where none has one."""
        known = [one for one in self.languages if one.premium is not None]
        return max(known, key=lambda one: one.tokens, default=None)

    @property
    def best(self) -> LanguageCost | None:
        """The language with the lowest premium, the first of them; None where none has one."""
        known = [one for one in self.languages if one.premium is not None]
        return min(known, key=lambda one: one.tokens, default=None)

    @property
    def mean_premium(self) -> float | None:
        """The mean of the premiums; 1 when all cost the same, None where there is none."""
        known = [one.premium for one in self.languages if one.premium is not None]
        return sum(known) / len(known) if known else None


def gini(values: Sequence[float]) -> float:
    """Return the Gini coefficient of numbers that are not negative: 0 when all are equal.

    The mean absolute difference of all pairs over twice the mean, an item paired with itself
    included, so that of n items one of which has everything it is `(n - 1) / n`. 0 for nothing.

    >>> gini([1, 1, 1]), gini([0, 0, 0, 8])
    (0.0, 0.75)
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    total = float(ordered.sum())
    if not total:
        return 0.0
    n = len(ordered)
    places = np.arange(1, n + 1, dtype=np.float64)
    # Every difference once: the i-th smallest is the larger one in i - 1 pairs, the smaller in n-i.
    return float(((2 * places - n - 1) * ordered).sum() / (n * total))


def parallel_texts(texts: Mapping[str, Text | Iterable[Text]]) -> dict[str, list[bytes]]:
    """Return language to texts as bytes, as many texts in each.

    Raises:
        InvalidValue: There are fewer than two languages, one has no text, or they have different
            numbers of texts.
    """
    found = {
        str(name): [_bytes(one)] if isinstance(one, str | bytes) else [_bytes(text) for text in one]
        for name, one in texts.items()
    }
    if len(found) < 2:
        raise errors.build(
            errors.InvalidValue,
            f"{len(found)} languages cannot be compared",
            field="parallel",
            fix="give the same text in two languages or more",
        )
    first, count = next((name, len(one)) for name, one in found.items())
    for name, one in found.items():
        if len(one) != count or not any(one):
            raise errors.build(
                errors.InvalidValue,
                f"{name!r} has {len(one)} texts and {first!r} has {count}"
                if any(one)
                else f"{name!r} has no text",
                field="parallel",
                fix="give the same texts in every language, in the same order",
            )
    return found


def fairness(
    tokenizer: Tokenizer, texts: Mapping[str, Sequence[bytes]], *, threads: int | None = None
) -> Fairness:
    """Return what the same texts cost in every language.

    Source: Petrov et al., arXiv:2305.15425: the *premium* of a language is the number of tokens of
    a text in it over that of the same text in another. There the other is English; here it is the
    language that the tokenizer treats best, so premiums are at least 1. The Gini coefficient is the
    measure of parity-aware BPE (Foroutan et al., arXiv:2508.04796), here of whole texts.

    Args:
        tokenizer: The tokenizer; the spelling of a special token is text.
        texts: Language to texts, the same content in all of them.
        threads: Of encoding; all when left out.

    Raises:
        InvalidValue: A language becomes no token at all.
    """
    tokens: dict[str, int] = {}
    lost: dict[str, int] = {}
    for name, several in texts.items():
        ids = tokenizer.encode_batch(several, specials="text", threads=threads).ids
        if not len(ids):
            raise errors.build(
                errors.InvalidValue,
                f"{name!r} becomes no token: the tokenizer drops all of it",
                field="parallel",
                fix="leave the language out",
            )
        tokens[name] = len(ids)
        lost[name] = unknown_bytes(tokenizer, several, ids)
    sizes = {name: sum(map(len, several)) for name, several in texts.items()}
    known = {name: n for name, n in tokens.items() if lost[name] <= UNKNOWN_SHARE * sizes[name]}
    least = min(known.values(), default=0)
    return Fairness(
        languages=tuple(
            LanguageCost(name, sizes[name], n, lost[name], n / least if name in known else None)
            for name, n in tokens.items()
        ),
        gini=gini(list(known.values())),
    )


def unknown_bytes(tokenizer: Tokenizer, texts: Sequence[bytes], ids: NDArray[np.uint32]) -> int:
    """Return how many bytes of texts the unknown token stands for.

    Args:
        tokenizer: The tokenizer.
        texts: The texts.
        ids: Those of all texts; where none is unknown, the texts are not encoded again.
    """
    unknown = np.array(tokenizer.vocabulary.ids_of_role("unk"), dtype=np.uint32)
    if not np.isin(ids, unknown).any():
        return 0
    found = 0
    for one in texts:
        encoding = tokenizer.encode_with_offsets(one, specials="text")
        spans = encoding.offsets[np.isin(encoding.ids, unknown)]
        found += int((spans[:, 1] - spans[:, 0]).sum())
    return found
