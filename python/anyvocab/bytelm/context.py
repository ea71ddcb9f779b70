"""What stands before a byte: raw ids, closed texts, and the open text at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from anyvocab import errors

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = [
    "Context",
    "Each",
    "Ids",
    "Prompt",
    "first_stop",
    "read_context",
    "to_bytes",
    "to_stops",
]


class Ids(tuple[int, ...]):
    """Raw token ids in a context: a chat prefix, the marks of a prompt to fill in a middle.

    >>> from anyvocab.bytelm import Ids
    >>> Ids([1, 2])
    Ids([1, 2])
    """

    __slots__ = ()

    def __new__(cls, ids: Iterable[int]) -> Ids:
        """Return `ids`; anything that holds integers will do, a numpy array or a tensor too."""
        return super().__new__(cls, (int(id) for id in ids))

    def __repr__(self) -> str:
        return f"Ids([{', '.join(map(str, self))}])"


Context: TypeAlias = "bytes | str | Ids | Sequence[bytes | str | Ids]"
"""A text, or a row of texts and ids. A text that ids follow is closed: it is encoded as it is. The
text at the end is open: a token may reach beyond it."""


class Each(tuple[Context, ...]):
    """A context for each member of an ensemble: prompts of models that are asked differently."""

    __slots__ = ()

    def __new__(cls, contexts: Iterable[Context]) -> Each:
        """Return the contexts, in the order of the members."""
        return super().__new__(cls, contexts)


@dataclass(frozen=True)
class Prompt:
    """A context as a model takes it.

    Attributes:
        ids: What is fixed: the ids before a text, raw ids, closed texts.
        text: The open text at the end, as bytes.
        first: Whether `text` is the start of a text, where some tokenizers put a space.
    """

    ids: tuple[int, ...]
    text: bytes
    first: bool


def to_bytes(text: bytes | str) -> bytes:
    """Return a text as bytes; lone surrogates are kept as they are.

    Raises:
        InvalidValue: It is neither text nor bytes.
    """
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    if not isinstance(text, bytes | bytearray | memoryview):  # bytes(3) would be three zeros
        raise errors.build(
            errors.InvalidValue,
            f"is of type {type(text).__name__}",
            field="text",
            fix="give str or bytes",
        )
    return bytes(text)


def to_stops(stop: Sequence[bytes | str]) -> list[bytes]:
    """Return stop strings as bytes, empty ones left out.

    Raises:
        InvalidValue: It is one text, whose characters would be taken for stop strings.
    """
    if isinstance(stop, str | bytes):
        found = f"is one text, {stop!r}"
        raise errors.build(errors.InvalidValue, found, field="stop", fix="give a list of texts")
    return [one for one in map(to_bytes, stop) if one]


def first_stop(text: bytes | bytearray, stops: Iterable[bytes]) -> tuple[int, int] | None:
    """Return where the stop string that is complete first begins and ends; the longest of several.

    What writing byte by byte stops at, whatever the steps in which `text` was written.

    >>> first_stop(b"abc", [b"abc", b"b"]), first_stop(b"ab", [b"b", b"ab"])
    ((1, 2), (0, 2))
    """
    found = [(at, at + len(one)) for one in stops if (at := text.find(one)) >= 0]
    return min(found, key=lambda span: (span[1], span[0]), default=None)


def read_context(context: Context, tokenizer: Tokenizer, first_ids: Sequence[int]) -> Prompt:
    """Return a context's fixed ids and its open text.

    A context that begins with text stands behind `first_ids`; one that begins with ids is taken as
    it is; `b""` in front of ids puts `first_ids` there.

    Raises:
        InvalidValue: A part is neither text nor `Ids`.
    """
    if isinstance(context, bytes | str):
        return Prompt(tuple(first_ids), to_bytes(context), first=True)
    if isinstance(context, Ids):
        return Prompt(tuple(context), b"", first=False)
    from anyvocab.bytelm.edges import encode_spelled

    if not isinstance(context, Iterable):
        raise _no_context(context)
    given = list(context)
    parts: list[bytes | Ids] = []
    for part in given:
        if isinstance(part, Ids):
            parts.append(part)
            continue
        if not isinstance(part, bytes | str):
            raise _no_context(part)
        text = to_bytes(part)
        last = parts[-1] if parts else None
        if isinstance(last, bytes):
            parts[-1] = last + text
        elif text:
            parts.append(text)
    end = parts[-1] if parts else b""
    text = b"" if isinstance(end, Ids) else end
    if text:
        parts.pop()
    ids: list[int] = [] if given and isinstance(given[0], Ids) else [*first_ids]
    for at, closed in enumerate(parts):
        if isinstance(closed, Ids):
            ids += closed
        elif at == 0:
            ids += tokenizer.encode(closed, specials="text").tolist()
        else:
            ids += encode_spelled(tokenizer, closed)
    return Prompt(tuple(ids), text, first=not parts)


def _no_context(part: object) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue,
        f"a part is of type {type(part).__name__}",
        field="context",
        fix="give text, bytes, or Ids([...])",
    )
