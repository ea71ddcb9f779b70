"""What stands before a byte: raw ids, closed texts, and the open text at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from anyvocab import errors

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = ["Context", "Each", "Ids", "Prompt", "read_context", "to_bytes"]


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
    """Return a text as bytes; lone surrogates are kept as they are."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)


def read_context(context: Context, tokenizer: Tokenizer, first_ids: Sequence[int]) -> Prompt:
    """Return a context's fixed ids and its open text.

    A context that begins with text stands behind `first_ids`; one that begins with ids is taken as
    it is.

    Raises:
        InvalidValue: A part is neither text nor `Ids`.
    """
    if isinstance(context, bytes | str):
        return Prompt(tuple(first_ids), to_bytes(context), first=True)
    if isinstance(context, Ids):
        return Prompt(tuple(context), b"", first=False)
    from anyvocab.bytelm.edges import encode_spelled

    parts: list[bytes | Ids] = []
    for part in context:
        if isinstance(part, Ids):
            parts.append(part)
            continue
        if not isinstance(part, bytes | str):
            raise errors.build(
                errors.InvalidValue,
                f"a part is of type {type(part).__name__}",
                field="context",
                fix="give text, bytes, or Ids([...])",
            )
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
    ids: list[int] = [] if parts and isinstance(parts[0], Ids) else [*first_ids]
    for at, closed in enumerate(parts):
        if isinstance(closed, Ids):
            ids += closed
        elif at == 0:
            ids += tokenizer.encode(closed, specials="text").tolist()
        else:
            ids += encode_spelled(tokenizer, closed)
    return Prompt(tuple(ids), text, first=not parts)
