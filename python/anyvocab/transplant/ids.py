"""Ids of the source said in ids of the target: by role, by row, by bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from anyvocab.report.visible import one_line

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.transplant.roles import ControlMap, ControlRow

__all__ = ["IdTranslator", "fitness"]

_ENDS = frozenset({"eos", "turn_end", "message_end", "fim_end", "sep"})
_NO_ENDS = frozenset({"bos", "pad", "unk", "cls", "mask", "fim_pad", "decoder_start"})
_FILLERS = frozenset({"pad", "unk", "fim_pad"})


@dataclass(frozen=True)
class IdTranslator:
    """Says ids of the source in ids of the target.

    Attributes:
        source: The model's own tokenizer.
        target: The new tokenizer.
        controls: Which rows the target's control tokens take.
        tied: Whether the new model's input and output matrix are one.
    """

    source: Tokenizer
    target: Tokenizer
    controls: ControlMap
    tied: bool = False

    def ends(self, id: int) -> tuple[int, ...]:
        """Return every target id that ends a text because its output row is that of `id`.

        A token that repeats the end's row only to begin or pad is none of them, unless the model
        is tied: then it cannot be quieted, and is sampled as often as the end. Where nobody else
        has the row, whoever keeps it ends texts: some models end a text with what begins the next.
        """
        if not self.is_control(id):
            one = self.one(id)
            return () if one is None else (one,)
        rows = [row for row in self.controls if row.sources == (id,)]
        ends = [r.id for r in rows if _ENDS & set(r.roles) or not _NO_ENDS & set(r.roles)]
        if rows and not ends:
            echoes = self.controls.echoes()
            ends = [row.id for row in rows if row.id not in echoes]
        if self.tied and ends:
            ends += [row.id for row in rows if row.id not in ends]
        return tuple(ends)

    def with_role(self, role: str, id: int) -> int | None:
        """Return the target id that does what `id` does as `role`; None for nobody.

        A token of that role that takes the row of `id`, else any of that role, else one that takes
        the row and is no mere filler.
        """
        theirs = self.target.vocabulary.ids_of_role(role)
        takers = self._takers(id)
        for row in takers:
            if row.id in theirs:
                return row.id
        if theirs:
            return theirs[0]
        useful = [row for row in takers if role in _FILLERS or not _is_filler(row)]
        return useful[0].id if useful else None

    def one(self, id: int) -> int | None:
        """Return the target id that stands for `id`: by its row, a text token by its bytes."""
        if not 0 <= id < len(self.source.vocabulary):
            return None
        takers = self._takers(id)
        if takers:
            return takers[0].id
        token = self.source.vocabulary.token_bytes(id)
        same = self.target.vocabulary.ids_of(token).tolist() if token else []
        return same[0] if same else None

    def text(self, ids: Sequence[int]) -> list[int] | None:
        """Return what says the same as a sequence of ids; None where nothing does exactly.

        Control tokens go one by one, the text between them is encoded anew.
        """
        found: list[int] = []
        pending = b""
        for id in (*ids, None):
            token = None if id is None or self.is_control(id) else self._bytes(id)
            if token is not None:
                pending += token
                continue
            encoded = self._encode(pending)
            if encoded is None:
                return None
            found += encoded
            pending = b""
            if id is not None:
                one = self.one(id)
                if one is None:
                    return None
                found.append(one)
        return found

    def is_control(self, id: int) -> bool:
        """Return whether a source id is a control token: its row is taken, not its bytes."""
        return id in self._old_controls

    def name(self, id: int) -> str:
        """Return a source id and its spelling, for messages."""
        if not 0 <= id < len(self.source.vocabulary):
            return f"{id} (no id of the source)"
        return f"{id} {one_line(self.source.vocabulary.spelling(id) or b'', limit=30)}"

    @cached_property
    def _old_controls(self) -> frozenset[int]:
        vocabulary = self.source.vocabulary
        kinds = (vocabulary.ids_of_kind(kind).tolist() for kind in ("control", "added", "unused"))
        return frozenset(id for ids in kinds for id in ids)

    def _takers(self, id: int) -> list[ControlRow]:
        if not 0 <= id < len(self.source.vocabulary):
            return []
        roles = set(self.source.vocabulary.roles_of(id))
        rows = [self.controls[taker] for taker in self.controls.takers(id)]
        return sorted(rows, key=lambda row: fitness(row, roles))

    def _bytes(self, id: int) -> bytes | None:
        if not 0 <= id < len(self.source.vocabulary):
            return None
        return self.source.vocabulary.token_bytes(id)

    def _encode(self, text: bytes) -> list[int] | None:
        """Return ids whose bytes are `text` exactly: a space put in front by encoding is no part.

        Where the tokenizer puts a space before a text, a text that begins with one is given
        without it.
        """
        vocabulary = self.target.vocabulary
        candidates = (text, text[1:]) if text.startswith(b" ") else (text,)
        for candidate in candidates:
            ids: list[int] = self.target.encode(candidate, specials="text").tolist()
            if b"".join(vocabulary.token_bytes(id) or b"" for id in ids) == text:
                return ids
        return None


def fitness(row: ControlRow, roles: set[str]) -> tuple[bool, int, bool, int]:
    """Return how well a token stands for a source token of these roles; less is better."""
    return row.rule == "family", -len(roles & set(row.roles)), "eos" not in row.roles, row.id


def _is_filler(row: ControlRow) -> bool:
    return bool(row.roles) and set(row.roles) <= _FILLERS
