"""Which bytes of a text a model's context holds, and the windows a long text is cut into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from anyvocab import errors
from anyvocab.evaluate.byte_scores import SLACK, leaves

if TYPE_CHECKING:
    from anyvocab.bytelm.base import ByteModel
    from anyvocab.tokenizer import Tokenizer

__all__ = ["Room"]


class Room:
    """How much text a model holds; for an ensemble, what all of its members do.

    Args:
        model: Byte-level models other than :class:`ByteLM` and :class:`Ensemble` hold everything.
        max_length: The most tokens, the model's first ids included; its own limit when left out.

    Raises:
        InvalidValue: The limit leaves no room for text.
    """

    def __init__(self, model: ByteModel, max_length: int | None = None) -> None:
        self._limits: list[tuple[Tokenizer, int]] = []
        for member in leaves(model):
            limits = (max_length, member.backend.max_context)
            known = [limit for limit in limits if limit is not None]
            if not known:
                continue
            room = min(known) - len(member.first_ids) - SLACK
            if room < 2:  # one token of context and one of text
                raise errors.build(
                    errors.InvalidValue,
                    f"{min(known)} tokens hold no text behind the first ids and {SLACK} spare ones",
                    field="max_length",
                    fix=f"give at least {len(member.first_ids) + SLACK + 2}",
                )
            self._limits.append((member.tokenizer, room))

    def behind(self, context: bytes, text: bytes) -> bytes:
        """Return as much of the end of `context` as is held together with `text`."""
        whole = context + text
        start = max((_start(tok, whole, room) for tok, room in self._limits), default=0)
        return context[min(start, len(context)) :]

    def before(self, context: bytes, count: int) -> bytes:
        """Return as much of the end of `context` as leaves `count` tokens free; one at least."""
        rooms = [(tokenizer, max(1, room - count)) for tokenizer, room in self._limits]
        return context[max((_start(tok, context, room) for tok, room in rooms), default=0) :]

    def windows(self, text: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield what stands before and what is scored, so that every byte is scored once."""
        at = 0
        while at < len(text):
            start = 0 if at == 0 else self._half(text, at)
            end = min((_end(tok, text, start, room) for tok, room in self._limits), default=None)
            end = len(text) if end is None else max(end, at + 1)
            if end == len(text):  # the last has all the context that is left
                yield self.behind(text[:at], text[at:]), text[at:]
            else:
                yield text[start:at], text[at:end]
            at = end

    def _half(self, text: bytes, at: int) -> int:
        return max((_start(tok, text[:at], room // 2) for tok, room in self._limits), default=0)


def _start(tokenizer: Tokenizer, text: bytes, count: int) -> int:
    """Return where the last `count` tokens of a text begin."""
    if len(text) <= count:  # a token has a byte at least
        return 0
    offsets = tokenizer.encode_with_offsets(text, specials="text").offsets
    return 0 if len(offsets) <= count else int(offsets[-count, 0])


def _end(tokenizer: Tokenizer, text: bytes, start: int, count: int) -> int:
    """Return where the first `count` tokens of `text[start:]` end."""
    far = start + count * max(1, int(tokenizer.vocabulary.lengths().max()))
    offsets = tokenizer.encode_with_offsets(text[start:far], specials="text").offsets
    return min(far, len(text)) if len(offsets) <= count else start + int(offsets[count - 1, 1])
