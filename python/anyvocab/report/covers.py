"""How the distribution of a prompt's next byte arises: covers, their weights, what each adds.

Plain data; `cover_page` and the command line show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab.bytelm.baselines import context_ids, next_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.bytelm.context import Context
    from anyvocab.bytelm.lm import ByteLM
    from anyvocab.bytelm.state import ByteState, Cover

__all__ = ["CoverContext", "Explanation", "NextByte", "TokenShare", "explain"]

END = 256


@dataclass(frozen=True)
class TokenShare:
    """A token and how much of the probability of the prompt it carries.

    Attributes:
        id: The token.
        bytes: What it spells.
        share: Of the prompt's mass, 0..1; 0 for a token that every cover has.
    """

    id: int
    bytes: bytes
    share: float = 0.0


@dataclass(frozen=True)
class CoverContext:
    """Tokens inside a prompt, and those that reach its end from there.

    Attributes:
        tokens: The tokens behind the fixed ids.
        open: How many bytes at the prompt's end they do not reach; 0: they end with it.
        share: Of the prompt's mass, 0..1: all covers that begin so and need no more than one more
            token.
        tops: The likeliest tokens over the end, each with its share of the prompt's mass.
    """

    tokens: tuple[TokenShare, ...]
    open: int
    share: float
    tops: tuple[TokenShare, ...]


@dataclass(frozen=True)
class NextByte:
    """One outcome of the next byte.

    Attributes:
        byte: 0..255, or 256 for END.
        probability: Of it, given the prompt's bytes.
        parts: What each of the contexts that are listed adds to it, in their order.
        plain: Its probability behind the prompt's own tokens: what plain generation draws from.
    """

    byte: int
    probability: float
    parts: tuple[float, ...]
    plain: float

    @property
    def rest(self) -> float:
        """What contexts that are not listed add, and what belongs to no single one."""
        return max(0.0, self.probability - sum(self.parts))


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a model knows of a prompt's end.

    Attributes:
        text: The prompt's open text.
        law: Of the byte-level model.
        fixed: How many ids stand before the text.
        contexts: The weightiest contexts, weightiest first.
        others: How many more there are, and their share together.
        bytes: The likeliest next bytes, by their probability.
        plain_tokens: The prompt as its tokenizer cuts it.
        plain_share: The share of the prompt's mass that this one encoding has.
        missing: An upper bound on the part of the next byte's probability that is not accounted
            for; 0 unless the law is `marginal` or ids are dropped. Where it is large, the other
            numbers say little.
        distance: Half the sum of the absolute differences between the two distributions of the next
            byte: 0 where plain tokens say the same, 1 where they have nothing in common.
    """

    text: bytes
    law: str
    fixed: int
    contexts: tuple[CoverContext, ...]
    others: tuple[int, float]
    bytes: tuple[NextByte, ...]
    plain_tokens: tuple[TokenShare, ...]
    plain_share: float
    missing: float
    distance: float

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data for JSON; bytes that are not UTF-8 are escaped."""
        return {
            "text": _shown(self.text),
            "law": self.law,
            "contexts": [
                {
                    "tokens": [_token(one) for one in context.tokens],
                    "open_bytes": context.open,
                    "share": context.share,
                    "over_the_end": [{**_token(one), "share": one.share} for one in context.tops],
                }
                for context in self.contexts
            ],
            "missing_mass": self.missing,
            "other_contexts": {"count": self.others[0], "share": self.others[1]},
            "next_byte": [
                {
                    "byte": None if one.byte == END else one.byte,
                    "text": "END" if one.byte == END else _shown(bytes([one.byte])),
                    "probability": one.probability,
                    "by_context": list(one.parts),
                    "plain_probability": one.plain,
                }
                for one in self.bytes
            ],
            "plain": {
                "tokens": [_token(one) for one in self.plain_tokens],
                "share": self.plain_share,
                "distance": self.distance,
            },
        }


def explain(
    lm: ByteLM, context: Context, *, contexts: int = 6, tokens: int = 4, bytes_shown: int = 8
) -> Explanation:
    """Return how the next byte's distribution behind a context arises.

    Args:
        lm: The model.
        context: What stands before.
        contexts: How many contexts are listed.
        tokens: How many tokens over the end are listed for each.
        bytes_shown: How many next bytes are listed; those that plain tokens hold most likely are
            among them.
    """
    state = lm.start(context)
    row = state.logprobs()
    found = [one for one in state.covers(tokens) if one.log_mass > -np.inf]
    listed, others = found[:contexts], found[contexts:]
    mass = state.log_mass
    plain_ids = context_ids(lm, context)
    plain = np.exp(next_bytes(lm, plain_ids, ends=lm.ends))
    own = tuple(plain_ids[len(state.root) :])
    shown = _chosen(row, plain, bytes_shown)
    parts = _parts(lm, state, [one.tokens for one in listed], shown, row)
    return Explanation(
        text=state.text,
        law=lm.law,
        fixed=len(state.root),
        contexts=tuple(_context(lm, one, mass) for one in listed),
        others=(len(others), float(sum(np.exp(one.log_mass - mass) for one in others))),
        bytes=tuple(
            NextByte(byte, float(np.exp(row[byte])), part, float(plain[byte]))
            for byte, part in zip(shown, parts, strict=True)
        ),
        plain_tokens=tuple(_tokens(lm, own)),
        plain_share=float(
            sum(np.exp(one.log_mass - mass) for one in found if not one.open and one.tokens == own)
        ),
        missing=state.missing_mass,
        distance=float(np.abs(np.exp(row) - plain).sum() / 2),
    )


def _chosen(row: NDArray[np.float64], plain: NDArray[np.float64], count: int) -> list[int]:
    """Return outcomes to show: the likeliest, a quarter of them as plain tokens see it."""
    best = np.argsort(-row, kind="stable").tolist()
    theirs = np.argsort(-plain, kind="stable")[: max(1, count // 4)].tolist()
    kept = [*theirs, *(byte for byte in best if byte not in theirs)][:count]
    return sorted(kept, key=best.index)


def _parts(
    lm: ByteLM,
    state: ByteState,
    contexts: Sequence[tuple[int, ...]],
    shown: Sequence[int],
    row: NDArray[np.float64],
) -> list[tuple[float, ...]]:
    """Return what each context adds to the probability of each outcome.

    A byte is pushed and its covers are read: each goes on from a context of the prompt, in which it
    is open by a byte more, or which it closes with one more token. Sums of masses only, so that
    nothing small is lost in a difference.
    """
    pushed = {byte: state.fork().push(byte) for byte in shown if byte != END}
    lm.contexts.evaluate([one.job() for one in pushed.values()])
    place = {tokens: at for at, tokens in enumerate(contexts)}
    found = []
    for byte in shown:
        parts = np.zeros(len(contexts) + 1)  # the last: of contexts that are not listed
        if byte == END:
            # Only a context that ends with the prompt can be followed by it.
            closed = [one.tokens for one in state.covers(0) if not one.open]
            parts[place.get(closed[0], -1) if len(closed) == 1 else -1] = 1.0
        else:
            for one in pushed[byte].covers(0):
                came_from = one.tokens if one.open else one.tokens[:-1]
                parts[place.get(came_from, -1)] += np.exp(one.log_mass - state.log_mass)
        total = float(parts.sum())
        # Under `canonical` masses and conditionals differ by a factor; the parts keep their ratio.
        scale = float(np.exp(row[byte])) / total if total else 0.0
        found.append(tuple(float(part * scale) for part in parts[:-1]))
    return found


def _context(lm: ByteLM, cover: Cover, mass: float) -> CoverContext:
    return CoverContext(
        tokens=tuple(_tokens(lm, cover.tokens)),
        open=cover.open,
        share=float(np.exp(cover.log_mass - mass)),
        tops=tuple(
            TokenShare(id, _bytes(lm, id), float(np.exp(log_mass - mass)))
            for id, log_mass in cover.tops
        ),
    )


def _tokens(lm: ByteLM, ids: Sequence[int]) -> list[TokenShare]:
    return [TokenShare(id, _bytes(lm, id)) for id in ids]


def _bytes(lm: ByteLM, id: int) -> bytes:
    return lm.tokenizer.vocabulary.token_bytes(id) or b""


def _token(one: TokenShare) -> dict[str, Any]:
    return {"id": one.id, "text": _shown(one.bytes)}


def _shown(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
