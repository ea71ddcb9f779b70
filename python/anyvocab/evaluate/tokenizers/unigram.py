"""How evenly a tokenizer uses its ids: entropies of the distribution of tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RENYI_ORDER", "renyi_efficiency", "renyi_entropy", "shannon_entropy"]

RENYI_ORDER = 2.5
"""The order that agreed best with translation quality in Zouhar et al."""


def shannon_entropy(counts: NDArray[np.int64]) -> float:
    """Return the entropy of a distribution given by counts, in bits.

    Args:
        counts: How often each id occurs, [V]; zeros add nothing.

    >>> shannon_entropy(np.array([1, 1, 2]))
    1.5
    """
    seen = counts[counts > 0]
    if not len(seen):
        return 0.0
    shares = seen / seen.sum()
    return abs(float(-(shares * np.log2(shares)).sum()))  # abs: no -0.0 for a single id


def renyi_entropy(counts: NDArray[np.int64], order: float = RENYI_ORDER) -> float:
    """Return the Rényi entropy of a distribution given by counts, in bits.

    `log2(sum of p ** order) / (1 - order)`; the Shannon entropy at order 1.

    Args:
        counts: How often each id occurs, [V]; zeros add nothing.
        order: At least 0. The higher, the more the most frequent ids decide.

    Raises:
        InvalidValue: `order` is negative.

    >>> renyi_entropy(np.array([5, 5, 5, 5]))
    2.0
    """
    if not order >= 0:
        raise errors.build(errors.InvalidValue, f"must be at least 0, got {order}", field="order")
    if order == 1:
        return shannon_entropy(counts)
    seen = counts[counts > 0]
    if not len(seen):
        return 0.0
    shares = seen / seen.sum()
    return abs(float(np.log2((shares**order).sum()) / (1 - order)))


def renyi_efficiency(
    counts: NDArray[np.int64], ids: int | None = None, order: float = RENYI_ORDER
) -> float:
    """Return the Rényi entropy over the greatest it could be, 0 to 1.

    Source: Zouhar et al., arXiv:2306.16842, who divide by the logarithm of the vocabulary's size.
    Their package `tokenization-scorer` divides by that of the ids that occur; so does this, unless
    `ids` is given. It compares tokenizers on the same text and of like sizes. It is no measure of
    quality of its own: a tokenizer can be changed so that it rises and models get worse (Cognetta
    et al., arXiv:2402.14614).

    Args:
        counts: How often each id occurs, [V].
        ids: How many ids there are to use; as many as occur when left out.
        order: Of the entropy.

    Raises:
        InvalidValue: `order` is negative, or fewer `ids` than occur.
    """
    occurring = int((counts > 0).sum())
    if ids is None:
        ids = occurring
    elif ids < occurring:
        raise errors.build(
            errors.InvalidValue, f"{occurring} ids occur, more than {ids}", field="ids"
        )
    return renyi_entropy(counts, order) / math.log2(ids) if ids > 1 else 0.0
