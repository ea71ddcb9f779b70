"""Which source rows each control token of a target takes: by order of the user, role, spelling.

A control token is never cut into text pieces here: what has no counterpart is listed as such, and
what becomes of it is the caller's decision. Text tokens are not looked at; their bytes decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from anyvocab import errors
from anyvocab.transplant.overrides import resolve_overrides

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.vocabulary import Vocabulary

__all__ = ["ControlMap", "ControlRow", "Rule", "map_controls"]

Rule = Literal["override", "role", "spelling", "bytes", "family", "none"]
Side = Literal["input", "output"]

CONTROL_KINDS = ("control", "added", "unused")

# A role that many tokens share says nothing about any one of them.
_SHARED_ROLES = frozenset({"reserved", "sentinel", "additional"})
# In the order in which a token that has several of them is asked: what ends a text matters most,
# what only pads least. Every other role is more specific than these and goes before them.
_GENERAL_ROLES = ("eos", "bos", "cls", "sep", "mask", "decoder_start", "unk", "pad")
# Where the source has no token of a role: the roles whose tokens stand in, nearest first.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "turn_end": ("message_end", "eos"),
    "message_end": ("turn_end", "eos"),
    "turn_start": ("header_start",),
    "header_start": ("turn_start",),
    "tool_call_start": ("tool_calls_start",),
    "tool_call_end": ("tool_calls_end",),
    "tool_calls_start": ("tool_call_start",),
    "tool_calls_end": ("tool_call_end",),
    "fim_end": ("eos",),
    "fim_pad": ("pad",),
    "eos": ("turn_end", "message_end", "sep", "bos"),
    "bos": ("cls", "eos"),
    "cls": ("bos",),
    "sep": ("eos",),
    "decoder_start": ("bos", "pad"),
    "pad": ("eos",),
}


@dataclass(frozen=True, slots=True)
class ControlRow:
    """Where one control token of the target takes its row from.

    Attributes:
        id: The target id.
        spelling: Its spelling.
        roles: Its roles, best source first.
        sources: Source ids; several are a sequence that the one token stands for; empty when there
            is no counterpart.
        rule: Which rule found them.
        reason: The same in words, for reports.
        input_sources: Source ids for the input side where they differ; empty for `sources`. A
            token that begins and ends texts, of a source with two tokens for that, is read as the
            begin and predicted as the end.
    """

    id: int
    spelling: str
    roles: tuple[str, ...]
    sources: tuple[int, ...]
    rule: Rule
    reason: str
    input_sources: tuple[int, ...] = ()

    def sources_on(self, side: Side) -> tuple[int, ...]:
        """Return the source ids for one side of an untied model; a tied one takes `sources`."""
        return self.input_sources or self.sources if side == "input" else self.sources


@dataclass(frozen=True)
class ControlMap:
    """The rows of all control tokens of a target.

    Attributes:
        rows: One per control token, ascending by id.
        unclaimed: Source control tokens that no target token took, ascending.
    """

    rows: tuple[ControlRow, ...]
    unclaimed: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ControlRow]:
        return iter(self.rows)

    def __contains__(self, id: object) -> bool:
        return id in self._by_id

    def __getitem__(self, id: int) -> ControlRow:
        """Return the row of a target id.

        Raises:
            InvalidValue: It is no control token.
        """
        row = self._by_id.get(id)
        if row is None:
            raise errors.build(
                errors.InvalidValue, f"{id} is no control token of the target", field="id"
            )
        return row

    @cached_property
    def _by_id(self) -> dict[int, ControlRow]:
        return {row.id: row for row in self.rows}

    @property
    def missing(self) -> tuple[ControlRow, ...]:
        """The rows without a counterpart: what fills them is the strategy's or the user's word."""
        return tuple(row for row in self.rows if not row.sources)

    def takers(self, source_id: int) -> tuple[int, ...]:
        """Return the target ids whose row on some side is that of `source_id` alone, ascending."""
        return self._takers.get(source_id, ())

    @cached_property
    def _takers(self) -> dict[int, tuple[int, ...]]:
        found: dict[int, list[int]] = {}
        for row in self.rows:
            for sources in {row.sources, row.sources_on("input")}:
                if len(sources) == 1:
                    found.setdefault(sources[0], []).append(row.id)
        return {source: tuple(ids) for source, ids in found.items()}

    def echoes(self) -> dict[int, int]:
        """Return the target ids that repeat another's output row, each with the id that keeps it.

        Equal output rows have equal probabilities: a begin token that repeats the end's row is
        sampled as often as the end and ends nothing. The id that keeps the row is the one whose
        source token has its role and whose role comes first (the end before all others).
        """
        by_sources: dict[tuple[int, ...], list[ControlRow]] = {}
        for row in self.rows:
            if row.sources:
                by_sources.setdefault(row.sources, []).append(row)
        echoes: dict[int, int] = {}
        for rows in by_sources.values():
            keeper = min(rows, key=_keeps)
            echoes |= {row.id: keeper.id for row in rows if row.id != keeper.id}
        return dict(sorted(echoes.items()))


def _keeps(row: ControlRow) -> tuple[bool, int, int, int]:
    rank = min(map(_rank, row.roles), default=len(_GENERAL_ROLES) + 1)
    return row.rule == "family", rank, len(row.roles), row.id


def _rank(role: str) -> int:
    """Return where a role stands among the general ones: the end first, padding last."""
    return _GENERAL_ROLES.index(role) if role in _GENERAL_ROLES else len(_GENERAL_ROLES)


def map_controls(
    source: Tokenizer,
    target: Tokenizer,
    overrides: Mapping[str, str] | None = None,
    *,
    source_rows: int | None = None,
) -> ControlMap:
    r"""Return which source rows every control token of `target` takes.

    The first of these that applies decides:

    1. `overrides`.
    2. A role that both have. Roles that a file declares go before those that only a spelling
       suggests; among equals the same spelling, then the more specific role (what ends a turn
       before what ends a text), then the token that shares the most roles. One source token may
       serve several target tokens.
    3. The same spelling.
    4. For added tokens that stand for text: the same bytes.
    5. A role that stands in for one that the source lacks, see `FAMILIES`.

    The same vocabulary maps every token to itself.

    Args:
        source: The model's own tokenizer, with what its folder declares.
        target: The new tokenizer.
        overrides: NEW to OLD. NEW is a token of the target: its spelling or its id. OLD is a
            spelling or an id of the source, or text that is encoded with control tokens parsed:
            a sequence such as `<|im_start|>user\n`.
        source_rows: Rows of the model's matrices: source ids beyond them give none.

    Raises:
        InvalidValue: An override names no token, and the message lists near ones; or one that has
            no row.

    >>> import anyvocab as av
    >>> new, old = (av.Tokenizer.load(f"pico:code-{size}") for size in ("2k", "4k"))
    >>> controls = map_controls(old, new)
    >>> [(row.spelling, row.sources) for row in controls][1:3]
    [('<s>', (4091,)), ('</s>', (4091,))]
    """
    rows_there = len(source.vocabulary) if source_rows is None else source_rows
    given = resolve_overrides(overrides or {}, source, target, source_rows=rows_there)
    old, new = _Side(source.vocabulary, rows_there), _Side(target.vocabulary)
    same = rows_there >= len(source.vocabulary) and _are_same(source.vocabulary, target.vocabulary)
    matcher = _Matcher(old, new)
    rows = []
    for id in sorted({*new.ids, *given}):
        row = _Draft(id, new.spell(id), new.vocabulary.roles_of(id))
        if id in given:
            text, sources = given[id]
            rows.append(row.done(sources, "override", f"map given: {text}"))
        elif same:
            rows.append(row.done((id,), "spelling", "the same vocabulary"))
        else:
            rows.append(matcher.match(row))
    taken = {id for row in rows for side in (row.sources, row.input_sources) for id in side}
    return ControlMap(tuple(rows), tuple(id for id in old.ids if id not in taken))


def _are_same(source: Vocabulary, target: Vocabulary) -> bool:
    if source is target:
        return True
    if len(source) != len(target) or source.kind_counts() != target.kind_counts():
        return False
    return all(source.spelling(id) == target.spelling(id) for id in range(len(source)))


@dataclass(frozen=True, slots=True)
class _Draft:
    id: int
    spelling: str
    roles: tuple[str, ...]

    def done(
        self,
        sources: tuple[int, ...],
        rule: Rule,
        reason: str,
        input_sources: tuple[int, ...] = (),
    ) -> ControlRow:
        return ControlRow(self.id, self.spelling, self.roles, sources, rule, reason, input_sources)


@dataclass(frozen=True)
class _Side:
    """The control tokens of one vocabulary."""

    vocabulary: Vocabulary
    rows: int | None = None

    def has_row(self, id: int) -> bool:
        return self.rows is None or id < self.rows

    @cached_property
    def ids(self) -> tuple[int, ...]:
        kinds = [self.vocabulary.ids_of_kind(kind).tolist() for kind in CONTROL_KINDS]
        return tuple(sorted(id for ids in kinds for id in ids if self.has_row(id)))

    @cached_property
    def by_role(self) -> dict[str, tuple[int, ...]]:
        roles: dict[str, dict[int, None]] = {}
        for record in self.vocabulary.roles:
            if record.role not in _SHARED_ROLES and self.has_row(record.id):
                roles.setdefault(record.role, {})[record.id] = None
        return {role: tuple(ids) for role, ids in roles.items()}

    @cached_property
    def by_spelling(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for id in self.ids:
            found.setdefault(self.spell(id), id)
        return found

    def spell(self, id: int) -> str:
        return (self.vocabulary.spelling(id) or b"").decode("utf-8", "replace")

    def declared(self, role: str, id: int) -> bool:
        return any(one != "spelling" for one in self.vocabulary.roles.sources(role, id))


class _Matcher:
    """Finds a source token for one target token after the other."""

    def __init__(self, old: _Side, new: _Side) -> None:
        self.old, self.new = old, new

    def match(self, row: _Draft) -> ControlRow:
        return (
            self.by_role(row)
            or self.by_spelling(row)
            or self.by_bytes(row)
            or self.by_family(row)
            or row.done((), "none", self.missing(row))
        )

    def missing(self, row: _Draft) -> str:
        token = self.new.vocabulary.token_bytes(row.id)
        return "no counterpart" if token is None else "no token has its bytes; it stands for text"

    def by_role(self, row: _Draft) -> ControlRow | None:
        pairs = [
            (self.key(row, role, id), role, id)
            for role in row.roles
            for id in self.old.by_role.get(role, ())
        ]
        if not pairs:
            return None
        _, role, id = min(pairs)
        starts = [pair for pair in pairs if pair[1] == "bos"]
        start = min(starts)[2] if role == "eos" and starts else id
        reason = self.reason(row, role, id)
        if start != id:
            reason += f"; read as the source's begin {self.old.spell(start)}"
        return row.done((id,), "role", reason, () if start == id else (start,))

    def key(self, row: _Draft, role: str, id: int) -> tuple[int, ...]:
        same = self.old.spell(id) == row.spelling
        here, there = self.new.declared(role, row.id), self.old.declared(role, id)
        theirs, shared = set(self.old.vocabulary.roles_of(id)), set(row.roles)
        extra, shared = theirs - shared, theirs & shared
        return (
            # A declared role is not given up for a spelling; a guess about the target is.
            0 if same and not here else (not here) + (not there),
            not same,
            role in _GENERAL_ROLES,
            _rank(role),
            -len(shared),
            # What also ends turns is another kind of end; what also begins or pads is not.
            len(extra.difference(_GENERAL_ROLES)),
            self.old.by_role[role].index(id),
        )

    def reason(self, row: _Draft, role: str, id: int) -> str:
        if self.old.spell(id) == row.spelling:
            return f"same spelling and role {role}"
        said = self.new.vocabulary.roles.sources(role, row.id)[0]
        guessed = "" if self.old.declared(role, id) else ", in the source by its spelling only"
        return f"role {role}: {said}{guessed}"

    def by_spelling(self, row: _Draft) -> ControlRow | None:
        id = self.old.by_spelling.get(row.spelling)
        return None if id is None else row.done((id,), "spelling", "same spelling")

    def by_bytes(self, row: _Draft) -> ControlRow | None:
        token = self.new.vocabulary.token_bytes(row.id)
        ids = self.old.vocabulary.ids_of(token).tolist() if token else []
        ids = [id for id in ids if self.old.has_row(id)]
        return row.done((ids[0],), "bytes", "same bytes") if ids else None

    def by_family(self, row: _Draft) -> ControlRow | None:
        for role in sorted(set(row.roles), key=lambda role: (role in _GENERAL_ROLES, _rank(role))):
            for other in FAMILIES.get(role, ()):
                ids = self.old.by_role.get(other, ())
                if ids:
                    id = min(ids, key=lambda id: self.stands_in(other, id))
                    said = f"no {role} in the source: its {other} stands in"
                    return row.done((id,), "family", said)
        return None

    def stands_in(self, role: str, id: int) -> tuple[int, int, int]:
        specific = set(self.old.vocabulary.roles_of(id)).difference(_GENERAL_ROLES)
        return not self.old.declared(role, id), len(specific), self.old.by_role[role].index(id)
