"""Choosing from a distribution: temperature, then top-k, then top-p, then min-p.

The order is that of transformers. Temperature is applied once, before anything is cut off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.edges import incomplete_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Sampler", "utf8_bytes"]

_CONTINUATIONS = range(0x80, 0xC0)


@dataclass(frozen=True)
class Sampler:
    """How one of several is chosen.

    Attributes:
        temperature: What log-probabilities are divided by; 0 takes the most probable, the first of
            equals.
        top_p: The smallest set of most probable ones that holds this share, after the temperature.
        top_k: How many most probable ones are left; all when None.
        min_p: What is less probable than this share of the most probable one is left out.
        seed: Of the choices.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0
    min_p: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidValue: One of them is.
        """
        checks = (
            (
                "temperature",
                0 <= self.temperature < math.inf,
                "must be 0 (greedy) or a positive number",
            ),
            ("top_p", 0 < self.top_p <= 1, "must lie in (0, 1]"),
            ("top_k", self.top_k is None or self.top_k >= 1, "must be at least 1"),
            ("seed", self.seed >= 0, "must be at least 0"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "must lie in [0, 1]"),
        )
        for field, holds, what in checks:
            if not holds:
                found = f"{what}, got {getattr(self, field)}"
                raise errors.build(errors.InvalidValue, found, field=field)

    def choose(self, logprobs: NDArray[np.float64], generator: np.random.Generator) -> int:
        """Return the position of one of `logprobs`, float64[n] in nats; -inf is never chosen."""
        if self.temperature == 0:
            return int(np.argmax(logprobs))
        possible = np.flatnonzero(logprobs > -np.inf)
        with np.errstate(over="ignore"):
            # Shifted first: divided by a tiny temperature all would be -inf.
            scaled = (logprobs[possible] - logprobs[possible].max()) / self.temperature
        if self.top_k is not None and self.top_k < len(scaled):
            # Of equals at the edge the first ones stay, as in a stable sort.
            edge = np.partition(scaled, -self.top_k)[-self.top_k]
            order = np.flatnonzero(scaled >= edge)
        else:
            order = np.arange(len(scaled))
        order = order[np.argsort(-scaled[order], kind="stable")][: self.top_k]
        weights = np.exp(scaled[order] - scaled[order[0]])
        if self.top_p < 1:
            shares = np.cumsum(weights)
            kept = int(np.searchsorted(shares, self.top_p * shares[-1])) + 1
            order, weights = order[:kept], weights[:kept]
        if self.min_p is not None:
            kept = int(np.count_nonzero(weights >= self.min_p))  # the first weight is 1
            order, weights = order[:kept], weights[:kept]
        shares = np.cumsum(weights)
        at = int(np.searchsorted(shares, generator.random() * shares[-1], side="right"))
        return int(possible[order[min(at, len(order) - 1)]])


def utf8_bytes(text: bytes) -> NDArray[np.bool_]:
    """Return which bytes may follow so that the text can still be UTF-8, bool[257]; END at 256.

    Only the end of `text` matters: bytes before it that are no UTF-8 are left as they are.

    >>> may = utf8_bytes("é".encode()[:1])
    >>> bool(may[0xA9]), bool(may[ord("a")]), bool(may[256])
    (True, False, False)
    """
    may = np.zeros(257, dtype=np.bool_)
    tail = text[len(text) - incomplete_tail(text) :]
    if not tail:
        may[:0x80] = True
        may[0xC2:0xF5] = True
        may[256] = True
        return may
    for byte in _CONTINUATIONS:
        longer = tail + bytes([byte])
        try:
            longer.decode("utf-8")
        except UnicodeDecodeError as error:
            may[byte] = error.reason == "unexpected end of data"
        else:
            may[byte] = True
    return may
