"""Which vocabulary tensors are stored twice, and whether input and output matrix are one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from anyvocab import errors
from anyvocab._safetensors import Entry
from anyvocab.transplant.weights.config import ModelFacts
from anyvocab.transplant.weights.find import VocabularyTensor

__all__ = ["Tie", "find_copies", "find_tie"]

_BLOCK = 1 << 20  # bytes that are compared at once


@dataclass(frozen=True)
class Tie:
    """Whether input and output matrix are one.

    Attributes:
        tied: They are.
        stored: How they lie in the files: `once`, `twice` (with equal bytes), `apart` (with
            different bytes), or `headless`: there is no output matrix at all.
        reason: How that is known, in words.
        notes: What is worth knowing.
    """

    tied: bool
    stored: Literal["once", "twice", "apart", "headless"]
    reason: str
    notes: tuple[str, ...] = ()


def find_copies(
    folder: Path,
    tensors: Iterable[VocabularyTensor],
    entries: Mapping[str, tuple[str, Entry]],
) -> list[VocabularyTensor]:
    """Return the tensors, those that repeat the bytes of an earlier one marked as its copy."""
    found: list[VocabularyTensor] = []
    for tensor in tensors:
        entry = entries[tensor.name][1]
        original = next(
            (
                other.name
                for other in found
                if other.copy_of is None
                and other.dtype == tensor.dtype
                and entries[other.name][1].shape == entry.shape
                and (other.side == "bias") == (tensor.side == "bias")
                and _same_bytes(folder, (tensor.file, entry), entries[other.name])
            ),
            None,
        )
        found.append(tensor if original is None else replace(tensor, copy_of=original))
    return found


def _same_bytes(folder: Path, one: tuple[str, Entry], other: tuple[str, Entry]) -> bool:
    left = (folder / one[0], one[1])
    right = (folder / other[0], other[1])
    with left[0].open("rb") as first, right[0].open("rb") as second:
        first.seek(left[1].start)
        second.seek(right[1].start)
        remaining = left[1].size
        while remaining:
            size = min(_BLOCK, remaining)
            a, b = first.read(size), second.read(size)
            if a != b or not a:
                return False
            remaining -= len(a)
    return True


def find_tie(
    facts: ModelFacts,
    tensors: list[VocabularyTensor],
    ties: Literal["declared", "stored"],
) -> Tie:
    """Return whether the first input and the first output matrix of `tensors` are one.

    Raises:
        WeightsFormatError: config.json says tied and their bytes differ, and `ties` is `declared`.
    """
    mains = [tensor for tensor in tensors if tensor.vocabulary == "model"]
    source = next((tensor for tensor in mains if tensor.side == "input"), None)
    head = next((tensor for tensor in mains if tensor.side == "output"), None)
    said = {value for _, value in facts.ties}
    where = ", ".join(f"{name} is {str(value).lower()}" for name, value in facts.ties)
    notes: list[str] = []
    if len(said) > 1:
        notes.append(f"config.json contradicts itself: {where}; the stored matrices decide")
    if source is None:
        raise errors.build(
            errors.UnsupportedWeights,
            "no matrix turns ids into vectors",
            field="weights",
            fix='say which one does: sides={"NAME": "input"}',
        )
    if head is None:
        if said == {False}:
            return Tie(False, "headless", f"{where}, and no output matrix is stored", tuple(notes))
        because = f"{where}, and" if said == {True} else "config.json does not forbid it, and"
        return Tie(True, "once", f"{because} no output matrix is stored", tuple(notes))
    if (
        source.name == head.copy_of
        or head.name == source.copy_of
        or (head.copy_of is not None and head.copy_of == source.copy_of)
    ):
        if said == {False}:
            # Equal for now: training would move them apart.
            return Tie(
                False,
                "twice",
                f"{where}, although {head.name} equals {source.name} byte for byte",
                tuple(notes),
            )
        return Tie(
            True,
            "twice",
            f"{head.name} equals {source.name} byte for byte" + (f", and {where}" * bool(where)),
            tuple(notes),
        )
    if said == {True}:
        if ties == "declared":
            raise errors.build(
                errors.WeightsFormatError,
                f"{where} in config.json, and it differs from {source.name}",
                field=head.name,
                file=head.file,
                fix="set tie_word_embeddings to false, if the stored head is meant; "
                'ties="stored" does as much without changing the file',
            )
        notes.append(f"config.json: {where}, and {head.name} differs from {source.name}")
    return Tie(
        False, "apart", f"{head.name} is stored and differs from {source.name}", tuple(notes)
    )
