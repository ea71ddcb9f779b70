"""Finding the tensors that have a row for every id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn

from anyvocab import errors
from anyvocab._safetensors import BITS, Entry
from anyvocab.transplant.weights.config import ModelFacts
from anyvocab.transplant.weights.names import (
    Guess,
    Side,
    guess,
    hint,
    is_secondary,
    packed_module,
    pattern_of,
)

__all__ = ["FLOATS", "VocabularyTensor", "find", "quantised"]

FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})
SHOWN = 4
_FIX = 'say what it is: sides={"NAME": "input"}, "output", "bias" or "other"'


@dataclass(frozen=True)
class VocabularyTensor:
    """A tensor with a row for every id.

    Attributes:
        name: Its name in the file.
        file: The file that holds it.
        side: What its rows are for: `input`, `output` or `bias`.
        axis: The axis of the ids: 0, or 1 for a bias of shape (1, V).
        rows: Its length along that axis.
        width: Numbers of a row; 1 for a bias.
        dtype: Its type, as the format spells it: `BF16`.
        vocabulary: `model`, or `per_layer` for rows with a vocabulary size of their own.
        copy_of: The tensor whose bytes it repeats; None when it stands for itself.
    """

    name: str
    file: str
    side: Side
    axis: int
    rows: int
    width: int
    dtype: str
    vocabulary: Literal["model", "per_layer"] = "model"
    copy_of: str | None = None

    def shape_for(self, rows: int) -> tuple[int, ...]:
        """Return the shape that this tensor has with another number of rows."""
        if self.side == "bias":
            return (1, rows) if self.axis == 1 else (rows,)
        return (rows, self.width)


@dataclass
class _Finder:
    facts: ModelFacts
    sides: Mapping[str, str]
    entries: Mapping[str, tuple[str, Entry]]
    found: list[VocabularyTensor] = field(default_factory=list)
    unknown: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self, name: str, found: str, fix: str, kind: type[errors.AnyvocabError]) -> NoReturn:
        raise errors.build(kind, found, field=name, fix=fix, file=self.entries[name][0])

    def add(self, entry: Entry, side: Side, *, per_layer: bool = False) -> None:
        name = entry.name
        if entry.dtype not in FLOATS:
            self.refuse(
                name,
                f"a vocabulary tensor of type {entry.dtype}: quantised or packed",
                "use the model's weights in bfloat16, float16 or float32",
                errors.UnsupportedWeights,
            )
        if 0 in entry.shape:
            self.refuse(
                name,
                f"a vocabulary tensor of shape {list(entry.shape)}",
                "download the file again",
                errors.WeightsFormatError,
            )
        axis = len(entry.shape) - 1 if side == "bias" else 0
        self.found.append(
            VocabularyTensor(
                name,
                self.entries[name][0],
                side,
                axis,
                entry.shape[axis],
                1 if side == "bias" else entry.shape[1],
                entry.dtype,
                "per_layer" if per_layer else "model",
            )
        )

    def by_name(self) -> None:
        """Sort every tensor: found by what the caller or its name says, or unknown."""
        for name in sorted(self.entries):
            entry = self.entries[name][1]
            module = packed_module(name)
            if module is not None:
                self.refuse(
                    name,
                    f"a quantiser's tensor: {module} is not stored as plain numbers",
                    "use the model's weights in bfloat16, float16 or float32",
                    errors.UnsupportedWeights,
                )
            said = self.sides.get(name)
            told = guess(name)
            if said == "other":
                continue
            if said is not None:
                side = _side(said)
                if not _has_shape_of(side, entry.shape):
                    self.refuse(
                        name,
                        f"shape {list(entry.shape)} is not one of a tensor of side {said!r}",
                        _FIX,
                        errors.InvalidValue,
                    )
                self.add(entry, side)
            elif told is not None and self._is_believable(told, entry):
                self.add(entry, told.side, per_layer=told.per_layer)
            else:
                self.unknown.append(entry)

    def _is_believable(self, told: Guess, entry: Entry) -> bool:
        if not _has_shape_of(told.side, entry.shape):
            return False
        if told.certain:
            return True
        rows = entry.shape[-1] if told.side == "bias" else entry.shape[0]
        return rows == self.facts.vocab_size and not is_secondary(entry.name)

    def by_shape(self) -> None:
        """Settle the tensors of unknown name that have an axis of the vocabulary's size.

        Where the input matrix is known by name, such an axis is explained by another size of the
        model, or by standing in every layer, or it is ambiguous. Where it is not known, a matrix
        is confirmed by the model's width and by the words in its name.
        """
        size = self.facts.vocab_size
        hits = [
            entry
            for entry in self.unknown
            if size in entry.shape and 0 < len(entry.shape) <= 2 and entry.dtype in FLOATS
        ]
        layers = Counter(pattern_of(entry.name) for entry in hits)
        hits = [entry for entry in hits if layers[pattern_of(entry.name)] == 1]
        known = {t.side for t in self.found if t.vocabulary == "model"}
        if "input" in known:
            heads = [e for e in hits if self._is_matrix(e) and hint(e.name) == "output"]
            if len(heads) == 1 and "output" not in known:
                self.add(heads[0], "output")
                hits.remove(heads[0])
            if hits and size in self.facts.numbers:
                self.notes.append(
                    f"{len(hits)} tensors have an axis of {size} numbers, which is also another "
                    f"size of this model; they are left as they are: {_shown(hits)}"
                )
            elif hits:
                self._ambiguous(hits, "is of no known name, and may have a row for every id")
            return
        if not hits:
            raise errors.build(
                errors.UnsupportedWeights,
                "no tensor has a known name or an axis of the vocabulary's size",
                field=self.facts.vocab_field,
                file="config.json",
                fix=_FIX,
            )
        self._confirm(hits)

    def _is_matrix(self, entry: Entry) -> bool:
        """Whether a tensor has a row for every id, as wide as rows of this model may be."""
        size, widths = self.facts.vocab_size, self.facts.widths
        if len(entry.shape) != 2 or entry.shape[0] != size or entry.shape[1] == size:
            return False
        return not widths or entry.shape[1] in widths

    def _confirm(self, hits: list[Entry]) -> None:
        size, widths = self.facts.vocab_size, self.facts.widths
        matrices = [e for e in hits if len(e.shape) == 2 and 1 not in e.shape]
        for entry in matrices:
            if entry.shape[1] == size and entry.shape[0] in widths - {size}:
                self.refuse(
                    entry.name,
                    f"shape {list(entry.shape)}: its ids lie along the second axis",
                    "store the matrix with a row for every id",
                    errors.UnsupportedWeights,
                )
        likely = [e for e in matrices if self._is_matrix(e)]
        inputs = [e for e in likely if hint(e.name) == "input"]
        outputs = [e for e in likely if hint(e.name) == "output"]
        if len(likely) == 1 and not outputs and size not in self.facts.numbers:
            inputs = likely  # one matrix of the vocabulary's size and the model's width
        if len(inputs) != 1 or len(outputs) > 1 or len(inputs) + len(outputs) != len(likely):
            self._ambiguous(matrices or hits, "may be a vocabulary matrix")
        self.add(inputs[0], "input")
        for entry in outputs:
            self.add(entry, "output")
        rest = [e for e in hits if e not in likely]
        for entry in rest:
            if hint(entry.name) == "bias" and outputs and _shares_module(entry, outputs[0]):
                self.add(entry, "bias")
            elif size not in self.facts.numbers:
                self._ambiguous([entry], "is of no known name, and may have a row for every id")

    def _ambiguous(self, entries: list[Entry], what: str) -> NoReturn:
        self.refuse(
            entries[0].name,
            f"{_shown(entries)}: {what}; vocab_size is {self.facts.vocab_size}",
            _FIX,
            errors.UnsupportedWeights,
        )


def _shares_module(one: Entry, other: Entry) -> bool:
    return one.name.rpartition(".")[0] == other.name.rpartition(".")[0]


def _shown(entries: list[Entry]) -> str:
    text = ", ".join(f"{entry.name} {list(entry.shape)}" for entry in entries[:SHOWN])
    return text + (f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else "")


def _side(said: str) -> Side:
    if said == "input":
        return "input"
    if said == "output":
        return "output"
    if said == "bias":
        return "bias"
    raise errors.build(errors.InvalidValue, f"{said!r} is no side", field="sides", fix=_FIX)


def _has_shape_of(side: Side, shape: tuple[int, ...]) -> bool:
    if side == "bias":
        return len(shape) == 1 or (len(shape) == 2 and shape[0] == 1)
    return len(shape) == 2


def find(
    facts: ModelFacts, entries: Mapping[str, tuple[str, Entry]], sides: Mapping[str, str]
) -> tuple[list[VocabularyTensor], list[str]]:
    """Return every tensor with a row for every id, sorted by name, and what is worth knowing.

    Args:
        facts: What config.json says.
        entries: Tensor name to the file that holds it and its place there.
        sides: What the caller says of single tensors: a side, or `other`.

    Raises:
        UnsupportedWeights: A tensor may have a row for every id and nothing decides it; the ids lie
            along the second axis; a vocabulary tensor is quantised; there is none.
        WeightsFormatError: Their numbers of rows differ, or are not what config.json says.
        InvalidValue: `sides` names no tensor, or no side.
    """
    for name in sides:
        if name not in entries:
            raise errors.build(errors.InvalidValue, f"there is no tensor {name!r}", field="sides")
    finder = _Finder(facts, sides, entries)
    finder.by_name()
    if facts.vocab_size is not None:
        finder.by_shape()
    elif not any(tensor.side == "input" for tensor in finder.found):
        raise errors.build(
            errors.UnsupportedWeights,
            "missing, and no tensor has a known name",
            field="vocab_size",
            file="config.json",
            fix=_FIX,
        )
    finder.found.sort(key=lambda tensor: tensor.name)
    _check_rows(facts, finder.found)
    return finder.found, finder.notes


def _check_rows(facts: ModelFacts, found: list[VocabularyTensor]) -> None:
    wanted = {"model": facts.vocab_size, "per_layer": facts.per_layer_size}
    for tensor in found:
        alike = [one for one in found if one.vocabulary == tensor.vocabulary]
        first = next((one for one in alike if one.side == "input"), alike[0])
        rows = wanted[tensor.vocabulary]
        if tensor.rows != first.rows:
            raise errors.build(
                errors.WeightsFormatError,
                f"{tensor.rows} rows, {first.name} has {first.rows}",
                field=tensor.name,
                file=tensor.file,
                fix="resize the model's matrices to the same number of rows; if one of them "
                "belongs to another vocabulary, leave it alone with "
                f'sides={{"{tensor.name}": "other"}}',
            )
        if rows is not None and tensor.rows != rows:
            said = facts.vocab_field if tensor.vocabulary == "model" else "per-layer size"
            raise errors.build(
                errors.WeightsFormatError,
                f"{tensor.rows} rows, {said} of config.json says {rows}",
                field=tensor.name,
                file=tensor.file,
                fix="make both the same: the model does not load as it is; if this tensor belongs "
                f'to another vocabulary, leave it alone with sides={{"{tensor.name}": "other"}}',
            )


def quantised(entries: Mapping[str, tuple[str, Entry]]) -> list[str]:
    """Return the names of tensors in number formats under 16 bits that only quantisers write."""
    return sorted(
        name
        for name, (_, entry) in entries.items()
        if entry.dtype.startswith("F") and BITS[entry.dtype] < 16
    )
