"""One byte-level model made of several, whose vocabularies need not have a token in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.base import ByteModel
from anyvocab.bytelm.completion import Completion
from anyvocab.bytelm.context import Each, to_bytes
from anyvocab.bytelm.state import check_count, pushed_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.bytelm.context import Context

__all__ = ["Ensemble", "EnsembleState", "Rule"]

Rule = Literal["mixture", "bayes", "product", "contrast", "proxy"]

_PROXY = 3  # base, expert, anti-expert


class Ensemble(ByteModel):
    """Several byte-level models as one, by a rule on their next-byte distributions `p_i`.

    - `mixture`: `sum_i w_i p_i`, the same weights at every byte.
    - `bayes`: the same with weights that follow the text: `w_i` times what model `i` gave the text
      so far. A text's probability is `sum_i w_i P_i(text)`.
    - `product`: `prod_i p_i ^ w_i`, renormalised. Weights are `1 / n` each when left out.
    - `contrast` (Li et al., arXiv:2210.15097): two models, `p_0 ^ (1 + strength) / p_1 ^ strength`,
      renormalised over the bytes whose `p_0` is at least `cutoff` times the largest.
    - `proxy` (Liu et al., arXiv:2401.08565): three models, `p_0 (p_1 / p_2) ^ strength`,
      renormalised: a base model, an expert and an anti-expert.

    All are proper: every byte's distribution sums to 1, and a text's log-probability is the sum
    over its bytes. Laws and backends of the members may differ.

    Args:
        members: Byte-level models: :class:`ByteLM` or other ensembles.
        rule: As above.
        weights: For `mixture` and `bayes`, one for each member, which sum to 1 (equal when left
            out); for `product`, exponents.
        strength: For `contrast` and `proxy`.
        cutoff: For `contrast`.

    Raises:
        InvalidValue: Another number of members than the rule takes, or weights that are none.

    Example:
        >>> import anyvocab as av
        >>> pair = [av.ByteLM.load(f"pico:{name}") for name in ("code-4k", "code-2k")]
        >>> both = av.Ensemble(pair)
        >>> both.score(b"import os") > min(lm.score(b"import os") for lm in pair)
        True
    """

    def __init__(
        self,
        members: Sequence[ByteModel],
        *,
        rule: Rule = "mixture",
        weights: Sequence[float] | None = None,
        strength: float = 1.0,
        cutoff: float = 0.1,
    ) -> None:
        self.members = tuple(members)
        self.rule: Rule = rule
        self.strength = strength
        self.cutoff = cutoff
        count = len(self.members)
        wanted = {"contrast": 2, "proxy": _PROXY}.get(rule)
        if rule not in get_args(Rule):
            raise errors.build(
                errors.InvalidValue,
                f"{rule!r} is no choice",
                field="rule",
                fix=", ".join(get_args(Rule)),
            )
        if not count or (wanted is not None and count != wanted):
            what = "at least one member" if wanted is None else f"{wanted} members"
            raise errors.build(
                errors.InvalidValue, f"{rule} takes {what}, got {count}", field="members"
            )
        if weights is not None and wanted is not None:
            raise errors.build(
                errors.InvalidValue,
                f"{rule} takes no weights",
                field="weights",
                fix="use strength",
            )
        if not np.isfinite(strength):
            found = f"must be a finite number, got {strength}"
            raise errors.build(errors.InvalidValue, found, field="strength")
        if not 0 <= cutoff <= 1:
            found = f"must lie in [0, 1], got {cutoff}"
            raise errors.build(errors.InvalidValue, found, field="cutoff")
        self.weights = self._check(weights, count)

    def _check(self, weights: Sequence[float] | None, count: int) -> NDArray[np.float64]:
        chosen = np.full(count, 1 / count) if weights is None else np.array(weights, np.float64)
        proper = self.rule in ("mixture", "bayes")
        good = chosen.shape == (count,) and bool(np.isfinite(chosen).all())
        if good and proper:
            # A sum of n rounded numbers is off by n half-units at most.
            good = bool((chosen >= 0).all()) and abs(float(chosen.sum()) - 1) <= 1e-9
        if not good:
            raise errors.build(
                errors.InvalidValue,
                f"{[] if weights is None else list(weights)} for {count} members",
                field="weights",
                fix="one for each member, none negative, summing to 1"
                if proper
                else "one finite number for each member",
            )
        return chosen

    def with_members(self, members: Sequence[ByteModel]) -> Ensemble:
        """Return an ensemble of other members by the same rule."""
        weighted = self.rule in ("mixture", "bayes", "product")
        return Ensemble(
            members,
            rule=self.rule,
            weights=self.weights.tolist() if weighted else None,
            strength=self.strength,
            cutoff=self.cutoff,
        )

    def __repr__(self) -> str:
        return f"Ensemble({len(self.members)} members, rule={self.rule!r})"

    def _contexts(self, context: Context | Each) -> Sequence[Context | Each]:
        if not isinstance(context, Each):
            return [context] * len(self.members)
        if len(context) != len(self.members):
            raise errors.build(
                errors.InvalidValue,
                f"{len(context)} contexts for {len(self.members)} members",
                field="context",
                fix="give one for each member",
            )
        return context

    def start(self, context: Context | Each = b"") -> EnsembleState:
        """Return the state of a context; `Each([...])` gives every member its own."""
        contexts = self._contexts(context)
        pairs = zip(self.members, contexts, strict=True)
        return EnsembleState(self, [member.start(one) for member, one in pairs])

    def next_byte_logprobs(
        self, text: bytes | str, prefix: Context | Each = b""
    ) -> NDArray[np.float64]:
        """Return the next-byte distributions of all positions of a text, float64[n + 1, 257]."""
        contexts = self._contexts(prefix)
        rows = [
            member.next_byte_logprobs(text, one)
            for member, one in zip(self.members, contexts, strict=True)
        ]
        return self.combine(np.stack(rows), self._history(rows, to_bytes(text)))

    def _history(
        self, rows: Sequence[NDArray[np.float64]], data: bytes
    ) -> NDArray[np.float64] | None:
        """Return what each member gave the text before each position, float64[k, n + 1]."""
        if self.rule != "bayes":
            return None
        at = np.arange(len(data))
        steps = [row[at, np.frombuffer(data, np.uint8)] for row in rows]
        return np.stack([np.concatenate(([0.0], np.cumsum(step))) for step in steps])

    def combine(
        self, rows: NDArray[np.float64], history: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return the members' distributions as one, by the rule.

        Args:
            rows: float64[k, ..., 257], in nats.
            history: For `bayes`: what each member gave the text so far, float64[k, ...], in nats.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.rule in ("mixture", "bayes"):
                weights = np.log(self.weights).reshape(-1, *[1] * (rows.ndim - 1))
                if history is not None:
                    posterior = (
                        np.log(self.weights).reshape(-1, *[1] * (history.ndim - 1)) + history
                    )
                    whole = _log_sum(posterior, axis=0)
                    # Where no member gives the text so far anything, none gives a next byte any.
                    shares = np.where(whole > -np.inf, posterior - whole, -np.inf)
                    weights = shares[..., None]
                mixed: NDArray[np.float64] = _log_sum(rows + weights, axis=0)
                return mixed
            if self.rule == "product":
                exponents = self.weights.reshape(-1, *[1] * (rows.ndim - 1))
                scores = np.where(exponents == 0, 0.0, rows * exponents).sum(axis=0)
            elif self.rule == "contrast":
                strong, weak = rows
                scores = strong + self.strength * (strong - weak)
                edge = strong.max(axis=-1, keepdims=True) + np.log(self.cutoff)
                scores = np.where((strong >= edge) & (strong > -np.inf), scores, -np.inf)
            else:
                base, expert, anti = rows
                scores = base + self.strength * (expert - anti)
                scores = np.where(base > -np.inf, scores, -np.inf)
        # What both sides of a quotient call impossible says nothing for or against it.
        scores = np.where(np.isnan(scores), rows[0], scores)
        scores = np.minimum(scores, np.finfo(np.float64).max)
        total = _log_sum(scores, axis=-1)[..., None]
        # Where nothing is possible the difference would be of two infinities.
        result: NDArray[np.float64] = scores - np.where(total > -np.inf, total, 0.0)
        return result

    def _rows(self, states: Sequence[EnsembleState]) -> list[NDArray[np.float64]]:
        by_member = [
            member._rows([state.members[at] for state in states])
            for at, member in enumerate(self.members)
        ]
        return [
            self.combine(np.stack(rows), state.history)
            for state, *rows in zip(states, *by_member, strict=True)
        ]

    def complete(
        self,
        context: Context | Each = b"",
        *,
        max_new_tokens: int = 128,
        max_bytes: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float | None = None,
        stop: Sequence[bytes | str] = (),
        seed: int = 0,
        heard: Callable[[bytes], None] | None = None,
    ) -> Completion:
        """Return a completion, byte by byte: an ensemble has no tokens of its own.

        Args:
            context: What stands before.
            max_new_tokens: Four bytes are written for each, unless `max_bytes` says how many.
            max_bytes: The most bytes.
            temperature: 0 takes the likeliest byte.
            top_k: How many outcomes are left.
            top_p: The share of probable outcomes that is left.
            min_p: What is less probable than this share of the likeliest outcome is left out.
            stop: Where one of these appears, the text ends before it.
            seed: Of the choices.
            heard: Called with bytes as soon as they are certain not to be cut off again.
        """
        return self.sample(
            context,
            max_bytes=4 * max_new_tokens if max_bytes is None else max_bytes,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            stop=stop,
            seed=seed,
            heard=heard,
        )

    def fit_weights(
        self, texts: Sequence[bytes | str], *, rounds: int = 50
    ) -> tuple[Ensemble, NDArray[np.float64]]:
        """Return the mixture whose weights make texts most probable, and the weights, float64[k].

        Expectation maximisation over the bytes of the texts (over whole texts for `bayes`), which
        finds the maximum: the log-likelihood of a mixture is concave in its weights.

        Args:
            texts: What is fitted; not the texts that the result is judged on.
            rounds: How many rounds.

        Raises:
            InvalidValue: The rule has no weights that sum to 1.
        """
        if self.rule not in ("mixture", "bayes"):
            raise errors.build(
                errors.InvalidValue,
                f"{self.rule} has no mixture weights",
                field="rule",
                fix="mixture or bayes",
            )
        parts = []
        for text in texts:
            data = to_bytes(text)
            at, numbers = np.arange(len(data)), np.frombuffer(data, np.uint8)
            steps = np.stack([m.next_byte_logprobs(data)[at, numbers] for m in self.members])
            parts.append(steps.sum(axis=1, keepdims=True) if self.rule == "bayes" else steps)
        given = np.concatenate(parts, axis=1) if parts else np.zeros((len(self.members), 0))
        given = given[:, np.isfinite(given).any(axis=0)]
        if not given.shape[1]:
            raise errors.build(
                errors.InvalidValue, "hold nothing that has a probability", field="texts"
            )
        weights = np.full(len(self.members), 1 / len(self.members))
        for _ in range(rounds):
            with np.errstate(divide="ignore"):
                joint = given + np.log(weights)[:, None]
            weights = np.exp(joint - _log_sum(joint, axis=0)).mean(axis=1)
        weights /= weights.sum()
        return Ensemble(self.members, rule=self.rule, weights=list(weights)), weights


class EnsembleState:
    """A prefix of bytes in every member; made by :meth:`Ensemble.start`."""

    def __init__(self, ensemble: Ensemble, members: Sequence[Any]) -> None:
        self._ensemble = ensemble
        self.members: list[Any] = list(members)
        self._gains: list[NDArray[np.float64]] = []

    @property
    def text(self) -> bytes:
        """The open text of the first member's context and what was pushed."""
        text: bytes = self.members[0].text
        return text

    @property
    def history(self) -> NDArray[np.float64] | None:
        """What each member gave the pushed bytes, float64[k], for the rule `bayes`; else None."""
        if self._ensemble.rule != "bayes":
            return None
        return np.sum(self._gains, axis=0) if self._gains else np.zeros(len(self.members))

    def push(self, more: bytes | str | int) -> EnsembleState:
        """Append bytes; returns the state itself."""
        data = pushed_bytes(more)
        for byte in data:
            if self._ensemble.rule == "bayes":
                self._gains.append(np.array([m.logprobs()[byte] for m in self.members]))
            for member in self.members:
                member.push(byte)
        return self

    def rollback(self, count: int) -> EnsembleState:
        """Take the last `count` bytes away; returns the state itself.

        Raises:
            InvalidValue: A member has fewer; nothing is taken away then.
        """
        check_count(count)
        self.members = [member.fork().rollback(count) for member in self.members]
        del self._gains[max(0, len(self._gains) - count) :]
        return self

    def fork(self) -> EnsembleState:
        """Return a copy that goes its own way."""
        copy = EnsembleState(self._ensemble, [member.fork() for member in self.members])
        copy._gains = list(self._gains)
        return copy

    def logprobs(self) -> NDArray[np.float64]:
        """Return the log-probabilities of the next byte, float64[257] in nats; END is at 256."""
        rows = np.stack([member.logprobs() for member in self.members])
        return self._ensemble.combine(rows, self.history)


def _log_sum(values: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    top = values.max(axis=axis, keepdims=True)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(values - safe).sum(axis=axis, keepdims=True)) + safe
    result: NDArray[np.float64] = np.squeeze(total, axis=axis)
    return result
