"""A vocabulary: every id's bytes, kind and roles.

Ids without a token (holes), several ids with the same bytes, tokens that are not valid UTF-8,
empty tokens and rows beyond the ids are ordinary cases here: each has its method.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from anyvocab import errors
from anyvocab.roles import Declarations, RoleTable, find_roles, parse_post_processor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from anyvocab import _core

__all__ = ["KINDS", "AddedToken", "Vocabulary"]

KINDS = ("text", "byte", "control", "added", "unused", "hole")
"""text: from the model's vocabulary; byte: a byte-fallback token (`<0x0A>`); control: never made
from text; added: found in the text before the model sees it; unused: declared as such; hole: an id
without a token."""

_TEXT_KINDS = frozenset({"text", "byte", "hole"})


class AddedToken(NamedTuple):
    """A token that is found in the text before the model sees it.

    Attributes:
        id: Its id.
        content: The text that stands for it.
        single_word: Whether it matches whole words only.
        lstrip: Whether it takes white space on its left with it.
        rstrip: Whether it takes white space on its right with it.
        normalized: Whether it is searched in the normalized text.
        special: Whether decoding may leave it out.
    """

    id: int
    content: str
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


class Vocabulary:
    """Every token id's bytes, kind and roles. Immutable.

    Ids are `0..len(vocabulary)`; some may be holes. Made by :attr:`anyvocab.Tokenizer.vocabulary`.

    >>> import anyvocab as av
    >>> vocabulary = av.Tokenizer.load("pico:code-4k").vocabulary
    >>> vocabulary.ids_of(b" self")[0] in vocabulary.ids_with_prefix(b" se")
    True
    """

    def __init__(self, core: _core.Tokenizer, declarations: Declarations) -> None:
        self._tokenizer = core
        self._core = core.vocabulary
        self._declarations = declarations

    def __len__(self) -> int:
        """Return the number of ids, holes included: the largest id + 1."""
        return len(self._core)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ids that have a token."""
        hole = self._code("hole")
        return iter(np.flatnonzero(self._kind_codes != hole).tolist())

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.kind_counts().items())
        return f"Vocabulary({len(self)} ids: {counts})"

    @cached_property
    def _kind_codes(self) -> NDArray[np.uint8]:
        return self._core.kinds()

    @cached_property
    def _kind_names(self) -> list[str]:
        return self._core.kind_names()

    @cached_property
    def _table(self) -> tuple[bytes, NDArray[np.int64]]:
        return self._core.table()

    def _code(self, kind: str) -> int:
        try:
            return self._kind_names.index(kind)
        except ValueError:
            return -1

    def _check(self, id: int) -> int:
        if not 0 <= id < len(self):
            raise errors.build(
                errors.InvalidValue,
                f"{id} is no id of this vocabulary",
                field="id",
                fix=f"ids are 0..{len(self) - 1}",
            )
        return id

    def token_bytes(self, id: int) -> bytes | None:
        """Return the bytes an id stands for in a text; None for control and unused ids and holes.

        Raises:
            InvalidValue: The id is outside `0..len(self)`.
        """
        return self._core.token_bytes(self._check(id))

    def spelling(self, id: int) -> bytes | None:
        """Return the token as its file writes it (`Ġthe`, `▁the`, `<0x0A>`); None for a hole.

        This is not its bytes: two vocabularies are compared by :meth:`token_bytes`.

        Raises:
            InvalidValue: The id is outside `0..len(self)`.
        """
        return self._core.spelling(self._check(id))

    def kind(self, id: int) -> str:
        """Return an id's kind, one of `KINDS`.

        Raises:
            InvalidValue: The id is outside `0..len(self)`.
        """
        return self._core.kind(self._check(id))

    def kinds(self) -> NDArray[np.uint8]:
        """Return every id's kind as a code, uint8[len]; :meth:`kind_code` names the codes."""
        return self._kind_codes

    def kind_code(self, kind: str) -> int:
        """Return the code of a kind in :meth:`kinds`; -1 for a kind that no id can have."""
        return self._code(kind)

    def table(self) -> tuple[bytes, NDArray[np.int64]]:
        """Return the bytes of all ids in one buffer, and int64[len + 1] where each begins.

        Control and unused tokens and holes have none there: :meth:`silent` lists them.
        """
        return self._table

    def silent(self) -> NDArray[np.uint32]:
        """Return the ids that stand for no text (control, unused, holes), ascending."""
        codes = [self._code(kind) for kind in ("control", "unused", "hole")]
        return np.flatnonzero(np.isin(self._kind_codes, codes)).astype(np.uint32)

    def kind_counts(self) -> dict[str, int]:
        """Return how many ids each kind has; kinds without ids are left out."""
        counts = np.bincount(self._kind_codes, minlength=len(self._kind_names)).tolist()
        return {n: count for n, count in zip(self._kind_names, counts, strict=True) if count}

    def ids_of_kind(self, kind: str) -> NDArray[np.uint32]:
        """Return the ids of a kind, ascending.

        Raises:
            InvalidValue: `kind` is not one of `KINDS`.
        """
        if kind not in KINDS and kind not in self._kind_names:
            raise errors.build(
                errors.InvalidValue,
                f"{kind!r} is no kind of token",
                field="kind",
                fix=f"kinds are {', '.join(KINDS)}",
            )
        return np.flatnonzero(self._kind_codes == self._code(kind)).astype(np.uint32)

    def role(self, id: int) -> str | None:
        """Return an id's role from the best source, or None; see :meth:`roles_of` for all.

        Raises:
            InvalidValue: The id is outside `0..len(self)`.
        """
        roles = self.roles.of(self._check(id))
        return roles[0] if roles else None

    def roles_of(self, id: int) -> tuple[str, ...]:
        """Return every role of an id, best source first.

        Raises:
            InvalidValue: The id is outside `0..len(self)`.
        """
        return self.roles.of(self._check(id))

    def ids_of_role(self, role: str) -> tuple[int, ...]:
        """Return the ids of a role, best source first; empty when there is none."""
        return self.roles.ids(role)

    @cached_property
    def roles(self) -> RoleTable:
        """The roles of all ids with the source of each, and the declarations that fit no token."""
        return find_roles(
            len(self),
            self._controls,
            self._declarations,
            find=self._find_spelling,
            declared=self._tokenizer.declared_roles(),
            post_processor=parse_post_processor(self._tokenizer.components()),
        )

    @cached_property
    def _controls(self) -> dict[str, int]:
        """Spelling to id of every token that is not plain text, ascending; the first id stays."""
        names = self._kind_names
        codes = [code for code, name in enumerate(names) if name not in _TEXT_KINDS]
        controls: dict[str, int] = {}
        for id in np.flatnonzero(np.isin(self._kind_codes, codes)).tolist():
            spelling = self._core.spelling(id)
            if spelling is not None:
                controls.setdefault(spelling.decode("utf-8", "replace"), id)
        return controls

    def _find_spelling(self, text: str) -> int | None:
        ids = self._core.ids_of(text.encode("utf-8", "surrogatepass"))
        return int(ids[0]) if len(ids) else None

    def added_tokens(self) -> list[AddedToken]:
        """Return the tokens that are found in the text before the model sees it."""
        return [AddedToken(*fields) for fields in self._core.added_tokens()]

    def ids_of(self, token: bytes) -> NDArray[np.uint32]:
        """Return every id whose bytes are `token`, the preferred one first; empty when none.

        A token of the vocabulary goes before its byte-fallback twin.
        """
        return self._core.ids_of(bytes(token))

    def ids_spelt(self, text: str) -> tuple[int, ...]:
        """Return the ids that a file spells like this: control and added tokens, else text tokens.

        >>> import anyvocab as av
        >>> vocabulary = av.Tokenizer.load("pico:code-4k").vocabulary
        >>> vocabulary.ids_spelt("<|fim_prefix|>") == vocabulary.ids_of_role("fim_prefix")
        True
        """
        control = self._controls.get(text)
        if control is not None:
            return (control,)
        found = self.ids_of(text.encode("utf-8", "surrogatepass"))
        return tuple(int(id) for id in found)

    def ids_with_prefix(self, prefix: bytes) -> NDArray[np.uint32]:
        """Return every id whose bytes begin with `prefix`, by bytes and then by id."""
        return self._core.ids_with_prefix(bytes(prefix))

    def holes(self) -> NDArray[np.uint32]:
        """Return the ids that have no token, ascending."""
        return self.ids_of_kind("hole")

    def padded_rows(self, rows: int) -> range:
        """Return the rows of a model's matrix of `rows` rows that belong to no id."""
        return range(len(self), max(len(self), rows))

    def ids_beyond(self, rows: int) -> range:
        """Return the ids that have no row in a model's matrix of `rows` rows."""
        return range(min(len(self), rows), len(self))

    def lengths(self) -> NDArray[np.int64]:
        """Return the length in bytes of what every id stands for, int64[len]; 0 for nothing."""
        return np.diff(self._table[1])

    def empty(self) -> NDArray[np.uint32]:
        """Return the ids that stand for text and have no bytes, ascending.

        Control and unused ids and holes stand for no text; they are not listed.
        """
        codes = [self._code(kind) for kind in ("text", "byte", "added")]
        stands_for_text = np.isin(self._kind_codes, codes)
        return np.flatnonzero((self.lengths() == 0) & stands_for_text).astype(np.uint32)

    def duplicates(self) -> dict[bytes, tuple[int, ...]]:
        """Return the byte strings that several ids share, each with its ids ascending.

        Empty tokens are left out: see :meth:`empty`. In the order of their first id.
        """
        data, offsets = self._table
        return {
            data[offsets[ids[0]] : offsets[ids[0] + 1]]: tuple(ids)
            for ids in self._core.duplicates()
        }

    def partial_utf8(self) -> NDArray[np.uint32]:
        """Return the ids whose bytes are not valid UTF-8 on their own, ascending."""
        found = []
        for id, token in self._tokens():
            try:
                token.decode("utf-8")
            except UnicodeDecodeError:
                found.append(id)
        return np.array(found, dtype=np.uint32)

    def unreachable(self) -> NDArray[np.uint32]:
        """Return the text ids that the tokenizer does not give back for their own bytes, ascending.

        No text made of the token alone produces it; inside longer texts some of them can occur.
        """
        return self._core.unreachable()

    def _tokens(self) -> Iterator[tuple[int, bytes]]:
        data, offsets = self._table
        ends = offsets.tolist()
        for id in range(len(self)):
            if ends[id] < ends[id + 1]:
                yield id, data[ends[id] : ends[id + 1]]
