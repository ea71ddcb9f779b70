"""Completing a text token by token, behind one cover of its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.bytelm.baselines import generate
from anyvocab.bytelm.completion import Completion
from anyvocab.bytelm.context import first_stop
from anyvocab.bytelm.state import ByteState, Cover

if TYPE_CHECKING:
    from anyvocab.bytelm.context import Context, Each
    from anyvocab.bytelm.lm import ByteLM
    from anyvocab.bytelm.sampling import Sampler

__all__ = ["complete", "cover_of"]


def cover_of(state: ByteState, sampler: Sampler) -> Cover:
    """Return the cover that a completion goes on from: drawn, or the weightiest when greedy.

    Raises:
        InvalidValue: No token sequence spells the state's text.
    """
    if sampler.temperature > 0:
        found = state.pick(float(np.random.default_rng([sampler.seed, 1]).random()))
    else:
        found = max(map(_best, state.covers(1)), key=lambda cover: cover.log_mass, default=None)
    if found is None or found.log_mass == -np.inf:
        raise errors.build(
            errors.InvalidValue,
            "no sequence of tokens spells the text",
            field="context",
            fix='check the text, or use law="marginal"',
        )
    return found


def _best(cover: Cover) -> Cover:
    """Return the weightiest single cover of a context."""
    if not cover.open:
        return cover
    if not cover.tops:
        return Cover(cover.tokens, cover.open, -np.inf, ())
    id, log_mass = cover.tops[0]
    return Cover((*cover.tokens, id), cover.open, log_mass, ())


def complete(
    lm: ByteLM,
    context: Context | Each,
    sampler: Sampler,
    max_new_tokens: int,
    max_bytes: int | None,
    stops: Sequence[bytes],
    heard: Callable[[bytes], None] | None = None,
) -> Completion:
    """Return a completion: see :meth:`ByteLM.complete`."""
    for field, value in (("max_new_tokens", max_new_tokens), ("max_bytes", max_bytes)):
        if value is not None and value < 0:
            found = f"must be at least 0, got {value}"
            raise errors.build(errors.InvalidValue, found, field=field)
    state = lm.start(context)
    cover = cover_of(state, sampler)
    over = b""
    if cover.open:
        token = lm.tokenizer.vocabulary.token_bytes(cover.tokens[-1]) or b""
        over = token[cover.open :]
    share = cover.log_mass - state.log_mass
    say = _Speaker(heard, held=max(map(len, stops), default=1) - 1)
    done = _cut(over, stops, max_bytes)
    if done is not None:
        say(done[0], last=True)
        return Completion(done[0], share, done[1])

    def closed(more: bytes) -> bool:
        whole = over + more
        ended = any(one in whole for one in stops)
        if not ended:
            say(whole if max_bytes is None else whole[:max_bytes])
        return ended

    ids = [*state.root, *cover.tokens]
    node = lm.backend.root(ids)
    # The other covers' contexts go before the model writes: with them behind the cover every pass
    # would need a mask that hides them.
    del state
    lm.contexts.give_back()
    try:
        written = generate(
            lm,
            ids,
            ends=lm.ends,
            barred=lm.barred,
            sampler=sampler,
            max_new_tokens=max_new_tokens,
            max_bytes=None if max_bytes is None else max_bytes - len(over),
            closed=closed,
        )
    finally:
        lm.backend.release(node)
    whole = over + written.bytes
    text, finish = _cut(whole, stops, max_bytes) or (whole, written.finish)
    say(text, last=True)
    return Completion(text, share + written.logprob, finish, len(written.ids))


class _Speaker:
    """Tells what is certain of a growing text: all but an end that a stop string may begin in."""

    def __init__(self, heard: Callable[[bytes], None] | None, *, held: int) -> None:
        self._heard = heard
        self._held = held
        self._said = 0

    def __call__(self, text: bytes, *, last: bool = False) -> None:
        until = len(text) if last else len(text) - self._held
        if self._heard is not None and until > self._said:
            self._heard(text[self._said : until])
            self._said = until


def _cut(text: bytes, stops: Sequence[bytes], max_bytes: int | None) -> tuple[bytes, str] | None:
    """Return the text up to a stop string or the budget, and why; None where it goes on."""
    found = first_stop(text, stops)
    if found is not None and (max_bytes is None or found[1] <= max_bytes):
        return text[: found[0]], "stop"
    if max_bytes is not None and len(text) >= max_bytes:
        return text[:max_bytes], "length"
    return None
