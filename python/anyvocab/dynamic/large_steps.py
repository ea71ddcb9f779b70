"""What a model with a large vocabulary writes, and how each of its tokens is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.edges import incomplete_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.bytelm.sampling import Sampler
    from anyvocab.dynamic.search import BlockedSearch, RowSearch

__all__ = ["Chooser", "Finish", "Generation", "Step"]

Finish = Literal["end", "length", "context"]


@dataclass(frozen=True)
class Step:
    """One token of a text that is being written.

    Attributes:
        id: It.
        bytes: What it stands for; nothing for an end or another control token.
        logprob: Its log-probability under the model, in nats: before temperature, penalty and cuts,
            and over what `Generation.over` says.
        text: The characters that it completes. Bytes of a character that is not complete yet come
            with the token that completes it; bytes that are no UTF-8 become U+FFFD.
        finish: On the last step, why it is the last: `end`: it is an end id; `length`: so many
            tokens were asked for; `context`: the model has no further position. Else None.
    """

    id: int
    bytes: bytes
    logprob: float
    text: str
    finish: Finish | None = None


@dataclass(frozen=True, eq=False)
class Generation:
    """What a model wrote.

    Attributes:
        ids: The tokens, without the end, uint32[n].
        bytes: Their bytes, one behind the other: exactly what was written.
        logprobs: The log-probability of each token, nats, float64[n].
        end_logprob: That of the end id; None where the text was not ended.
        finish: `end`, `length` or `context`; see :class:`Step`. `length` where nothing was to be
            written.
        over: What probabilities are normalised over: `rows`: all tokens; `candidates`: those
            that an approximate search looked at, and then they are upper bounds.
    """

    ids: NDArray[np.uint32]
    bytes: bytes
    logprobs: NDArray[np.float64]
    end_logprob: float | None
    finish: Finish
    over: Literal["rows", "candidates"]

    @property
    def text(self) -> str:
        """The bytes as text; what is no UTF-8, a cut character too, becomes U+FFFD."""
        return self.bytes.decode("utf-8", "replace")

    @property
    def cut(self) -> int:
        """How many bytes at the end begin a character that the text does not complete."""
        return incomplete_tail(self.bytes)

    @property
    def logprob(self) -> float:
        """Of all tokens, the end included where there is one, in nats."""
        return math.fsum([*self.logprobs.tolist(), self.end_logprob or 0.0])


class Chooser:
    """Chooses one token after another for one text.

    Args:
        exact: The exact search.
        search: The search that tokens are chosen by: `exact`, or an approximate one over its rows.
        sampler: How one is chosen.
        penalty: What the logits of seen ids are divided by where they are positive, and multiplied
            by elsewhere.
    """

    def __init__(
        self, exact: BlockedSearch, search: RowSearch, sampler: Sampler, penalty: float
    ) -> None:
        self._exact = exact
        self._search = search
        self._sampler = sampler
        self._penalty = penalty
        self._generator = np.random.default_rng(sampler.seed)
        self._seen: set[int] = set()

    def see(self, ids: Iterable[int]) -> None:
        """Take note of ids of the context."""
        if self._penalty != 1.0:
            self._seen.update(ids)

    def choose(self, state: Any) -> tuple[int, float]:
        """Return an id behind a final state, (D,), and its log-probability under the model."""
        ids, logits, log_total = self._known(state)
        judged = logits
        if self._seen:
            seen = np.isin(ids, self._seen_ids())
            penalised = np.where(logits > 0, logits / self._penalty, logits * self._penalty)
            judged = np.where(seen, penalised, logits)
        at = self._sampler.choose(judged, self._generator)
        return int(ids[at]), float(logits[at] - log_total)

    def _seen_ids(self) -> NDArray[np.int64]:
        return np.array(sorted(self._seen), dtype=np.int64)

    def _known(self, state: Any) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
        """Return ids, ascending, that hold all that can be chosen, their logits, and the total."""
        search, rows = self._search, self._exact.rows
        wanted = 1 if self._sampler.temperature == 0 else self._sampler.top_k
        if wanted is None and search.candidates is None:
            every = self._exact.logits(state).astype(np.float64)
            peak = float(every.max())
            log_total = peak + math.log(float(np.exp(every - peak).sum()))
            return np.arange(len(every)), every, log_total
        # A penalty moves seen ids alone: of the best `wanted` others none is beyond the place
        # `wanted + seen`, and the seen ones are looked up.
        most = (search.candidates or 1) if wanted is None else wanted
        found = search.top(state[None], most + len(self._seen), total=True)
        if found.log_total is None:
            raise errors.InternalError("a search did not give the total it was asked for")
        there = found.ids[0] >= 0
        ids, logits = found.ids[0][there], found.logits[0][there]
        more = np.setdiff1d(self._seen_ids(), ids)
        if len(more):
            ids = np.concatenate((ids, more))
            logits = np.concatenate((logits, rows.logits(more, state)))
        order = np.argsort(ids)  # of equals the lower id goes first
        return ids[order], logits[order], float(found.log_total[0])
