"""The three laws by enumeration: what a :class:`~anyvocab.bytelm.ByteLM` has to agree with.

Nothing here is clever. Every cover of a text is listed, with every token that could continue it,
and whether a sequence of ids is canonical is found by encoding texts: a second where the engine
takes a millisecond, for vocabularies of a few hundred tokens and texts of a few bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.backends import TableBackend
    from anyvocab.tokenizer import Specials, Tokenizer

__all__ = ["Enumeration"]

END = 256


class Enumeration:
    """A token-level model as a byte-level one, by the definitions.

    Args:
        backend: Gives the logits; they are rounded to float32, as the engine takes them.
        tokenizer: Whose tokens they are.
        law: `local`, `canonical` or `marginal`.
        root: The ids before the text.
        ends: The ids that end a text.
        forbidden: The ids that cannot occur.
        dropped: The ids that may occur and whose probability is missing.
        spelled: Ids that stand for these bytes and not for their own.
        continuations: Texts that are tried behind a sequence of ids to find one whose encoding
            begins with it: enough of them, or the enumeration is wrong. The empty text will do for
            a tokenizer that does not look ahead.
    """

    def __init__(
        self,
        backend: TableBackend,
        tokenizer: Tokenizer,
        law: str,
        *,
        root: Sequence[int],
        ends: Sequence[int] = (),
        forbidden: Sequence[int] = (),
        dropped: Sequence[int] = (),
        spelled: Mapping[int, bytes] | None = None,
        continuations: Sequence[bytes] = (b"",),
    ) -> None:
        self.law = law
        self._backend = backend
        self._tokenizer = tokenizer
        self._root = tuple(root)
        self._ends = frozenset(ends)
        self._forbidden = frozenset(forbidden)
        self._dropped = frozenset(dropped)
        self._continuations = continuations
        # A spelling in the text is an added token's, as the tokenizer reads its own documents.
        self._specials: Specials = "parse" if spelled else "text"
        vocabulary = tokenizer.vocabulary
        silent = self._ends | self._forbidden | self._dropped
        self._bytes = {
            id: vocabulary.token_bytes(id) or b"" for id in range(backend.rows) if id not in silent
        } | dict(spelled or {})
        self._steps = lru_cache(maxsize=None)(self._all_steps)

    def spell(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of tokens."""
        return b"".join(self._bytes[id] for id in tokens)

    def canonical(self, tokens: tuple[int, ...], *, whole: bool = False) -> bool:
        """Return whether some text's encoding begins with `tokens`; with `whole`, their own's."""
        text = self.spell(tokens)
        for more in (b"",) if whole else self._continuations:
            ids = tuple(self._tokenizer.encode(text + more, specials=self._specials).tolist())
            if (ids if whole else ids[: len(tokens)]) == tokens:
                return True
        return False

    def steps(self, tokens: tuple[int, ...]) -> dict[int, float]:
        """Return the log-probability of each id that may follow, ends and dropped ids included."""
        return self._steps(tokens)

    def _all_steps(self, tokens: tuple[int, ...]) -> dict[int, float]:
        logits = self._backend.row((*self._root, *tokens)).astype(np.float32).astype(np.float64)
        may = {id: float(logits[id]) for id in range(len(logits)) if id not in self._forbidden}
        whole = _log_sum(may.values())
        if self.law != "marginal":
            ended = self.canonical(tokens, whole=True)
            may = {
                id: logit
                for id, logit in may.items()
                if id in self._dropped
                or (ended if id in self._ends else self.canonical((*tokens, id)))
            }
        if self.law == "local":
            whole = _log_sum(may.values())
        return {id: logit - whole for id, logit in may.items()}

    def covers(self, text: bytes) -> Iterator[tuple[tuple[int, ...], float]]:
        """Yield every cover of a text, with its log-probability under the law."""
        found: list[tuple[tuple[int, ...], int, float]] = [((), 0, 0.0)]
        while found:
            tokens, at, log_mass = found.pop()
            if at >= len(text):
                yield tokens, log_mass
                continue
            for id, step in self.steps(tokens).items():
                token = self._bytes.get(id, b"")
                rest = text[at:]
                if token and (token.startswith(rest) or rest.startswith(token)):
                    found.append(((*tokens, id), at + len(token), log_mass + step))

    def log_mass(self, text: bytes) -> float:
        """Return the log of the mass of all covers of a text."""
        return _log_sum(log_mass for _, log_mass in self.covers(text))

    def masses(self, text: bytes) -> NDArray[np.float64]:
        """Return the log mass of each next byte and of the end, float64[257], not normalised."""
        parts: list[list[float]] = [[] for _ in range(END + 1)]
        for tokens, log_mass in self.covers(text):
            over = self.spell(tokens)[len(text) :]
            if over:
                parts[over[0]].append(log_mass)
                continue
            for id, step in self.steps(tokens).items():
                if id in self._ends:
                    parts[END].append(log_mass + step)
                elif self._bytes.get(id):
                    parts[self._bytes[id][0]].append(log_mass + step)
        return np.array([_log_sum(part) for part in parts])

    def logprobs(self, text: bytes) -> NDArray[np.float64]:
        """Return the distribution of the next byte, float64[257], in nats."""
        masses = self.masses(text)
        result: NDArray[np.float64] = masses - _log_sum(masses.tolist())
        return result


def _log_sum(values: object) -> float:
    numbers = np.array(list(values), dtype=np.float64)  # type: ignore[call-overload]
    if not len(numbers) or numbers.max() == -np.inf:
        return -np.inf
    top = float(numbers.max())
    return top + float(np.log(np.exp(numbers - top).sum()))
