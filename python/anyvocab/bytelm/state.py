"""A byte prefix under a law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.context import to_bytes
from anyvocab.bytelm.contexts import Job

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab import _core
    from anyvocab.bytelm.lm import ByteLM

__all__ = ["ByteState", "Cover", "check_count", "pushed_bytes"]


def pushed_bytes(more: bytes | str | int) -> bytes:
    """Return what is pushed, a number being one byte.

    Raises:
        InvalidValue: The number is no byte.
    """
    if not isinstance(more, int):
        return to_bytes(more)
    if not 0 <= more <= 0xFF:
        found = f"{more} is no byte"
        raise errors.build(errors.InvalidValue, found, field="more", fix="give 0 to 255")
    return bytes([more])


def check_count(count: int) -> None:
    """Refuse a negative number of bytes to take away.

    Raises:
        InvalidValue: It is.
    """
    if count < 0:
        found = f"must be at least 0, got {count}"
        raise errors.build(errors.InvalidValue, found, field="count")


@dataclass(frozen=True)
class Cover:
    """A context of tokens, and the tokens by which it reaches over the end of the prefix.

    Attributes:
        tokens: The ids behind the fixed ones of the context.
        open: How many bytes at the prefix's end they do not reach; 0 where they end with it.
        log_mass: The log-probability of all covers that begin with these tokens and reach the end
            with one more (with none, where `open` is 0), in nats.
        tops: The likeliest tokens that reach over the end, with the log mass of each.
    """

    tokens: tuple[int, ...]
    open: int
    log_mass: float
    tops: tuple[tuple[int, float], ...]


class ByteState:
    r"""A prefix of bytes, and what a :class:`ByteLM` says of the next one.

    Made by :meth:`ByteLM.start`. Pushing asks the model nothing; reading a number does, once.

    >>> import anyvocab as av
    >>> lm = av.ByteLM.load("pico:code-4k")
    >>> state = lm.start(b"def f(x):\n    retu")
    >>> bytes([int(state.logprobs().argmax())])
    b'r'
    >>> state.push(b"rn").text[-6:]
    b'return'
    """

    def __init__(self, lm: ByteLM, core: _core.CoverState, root: tuple[int, ...]) -> None:
        self._lm = lm
        self._core = core
        self._root = root

    @property
    def text(self) -> bytes:
        """The open text of the context and what was pushed."""
        return self._core.text()

    def __len__(self) -> int:
        """Return how many bytes :attr:`text` has."""
        return len(self._core)

    def push(self, more: bytes | str | int) -> ByteState:
        """Append bytes, or one byte given as a number; returns the state itself.

        Any bytes will do. Bytes that no token spells make an impossible prefix: its mass is 0, and
        it can be rolled back. The model is asked nothing, but under the marginal law, where every
        byte decides which contexts are worth a look.
        """
        data = pushed_bytes(more)
        if self._lm.law != "marginal":
            self._core.push(data)
            return self
        for byte in data:
            self._core.push(bytes([byte]))
            self._evaluate()
        return self

    def rollback(self, count: int) -> ByteState:
        """Take the last `count` bytes away; returns the state itself.

        Raises:
            InvalidValue: There are fewer, or `count` is negative.
        """
        check_count(count)
        if self._lm.law == "marginal" and 0 < count <= len(self):
            # Its contexts are not kept: they are found again, byte by byte.
            kept, length = self.text, len(self) - count
            self._core.rollback(len(self))
            self.push(kept[:length])
            return self
        self._core.rollback(count)
        return self

    def fork(self) -> ByteState:
        """Return a copy that goes its own way. Contexts and logits are shared."""
        return ByteState(self._lm, self._core.fork(), self._root)

    def job(self, *, mass_only: bool = False) -> Job:
        """Return what the model has to be asked for this prefix, for `Contexts.evaluate`."""
        return Job(self._core, self._root, mass_only)

    def _evaluate(self, *, mass_only: bool = False) -> None:
        self._lm.contexts.evaluate([self.job(mass_only=mass_only)])

    def logprobs(self) -> NDArray[np.float64]:
        """Return the log-probabilities of the next byte, float64[257] in nats; END is at 256.

        They sum to 1. All are -inf for an impossible prefix.
        """
        self._evaluate()
        self._lm.check_missing(self._core)
        return self._core.logprobs()

    @property
    def log_mass(self) -> float:
        """The log-probability that a text begins with :attr:`text`, given the fixed ids, in nats.

        Under `canonical` a sum of the model's own probabilities, which is not the sum of the
        conditionals; under `marginal` a lower bound by :attr:`missing_mass`.
        """
        self._evaluate(mass_only=True)
        self._lm.check_missing(self._core)
        return self._core.log_mass()

    @property
    def missing_mass(self) -> float:
        """An upper bound on the part of the next byte's probability not accounted for, in 0..1.

        0 under `local` and `canonical`, unless ids are dropped.
        """
        self._evaluate()
        return self._core.missing_mass()

    def covers(self, most: int = 8) -> list[Cover]:
        """Return the covers of the prefix, the weightiest context first.

        Args:
            most: How many of the tokens over the end are listed for each.
        """
        self._evaluate()
        return [
            Cover(tuple(tokens), depth, log_mass, tuple(tops))
            for tokens, depth, log_mass, tops in self._core.covers(most)
        ]

    def pick(self, u: float) -> Cover | None:
        """Return one cover: the one at `u` of the cumulative distribution; `log_mass` is its own.

        With `u` uniform in [0, 1) this draws from the law's distribution of token sequences, given
        the prefix. `tokens` includes the token over the end, if there is one; `open` then says how
        many of its bytes lie before the end. None for an impossible prefix.

        Raises:
            InvalidValue: `u` lies outside [0, 1).
        """
        if not 0 <= u < 1:
            found = f"must lie in [0, 1), got {u}"
            raise errors.build(errors.InvalidValue, found, field="u")
        self._evaluate()
        picked = self._core.pick(u)
        if picked is None:
            return None
        tokens, depth, share = picked
        log_mass = self._core.log_mass() + float(np.log(share))
        return Cover(tuple(tokens.tolist()), depth, log_mass, ())

    @property
    def root(self) -> tuple[int, ...]:
        """The fixed ids of the context."""
        return self._root
