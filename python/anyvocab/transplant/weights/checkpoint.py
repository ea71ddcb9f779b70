"""A model folder: its configuration, shards and vocabulary tensors, checked and not loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from anyvocab import errors
from anyvocab._safetensors import (
    INDEX,
    SINGLE,
    Entry,
    Header,
    HeaderError,
    Index,
    read_header,
    read_index,
)
from anyvocab._source import read_json
from anyvocab.transplant.weights.config import ModelFacts, read_facts
from anyvocab.transplant.weights.find import VocabularyTensor, find, quantised
from anyvocab.transplant.weights.matrix import Matrix
from anyvocab.transplant.weights.names import is_secondary
from anyvocab.transplant.weights.ties import Tie, find_copies, find_tie

__all__ = ["Checkpoint"]

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_PREFERRED = ("shared.weight", "embed_tokens.weight")


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights, opened without reading them.

    Attributes:
        folder: The model's folder.
        config: What config.json says.
        shards: File name to what the file holds.
        index: The index of the shards; None for a single file.
        tensors: Every tensor with a row for every id, sorted by name.
        tie: Whether input and output matrix are one, and how that is known.
        notes: What is worth knowing and stops nothing.
    """

    folder: Path
    config: Mapping[str, Any] = field(repr=False)
    shards: Mapping[str, Header] = field(repr=False)
    index: Index | None = field(repr=False)
    tensors: tuple[VocabularyTensor, ...]
    tie: Tie
    notes: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        sides: Mapping[str, str] | None = None,
        ties: Literal["declared", "stored"] = "declared",
        values: Literal["check", "trust"] = "check",
    ) -> Checkpoint:
        """Return the model in `folder`.

        Headers are read whole, the data of vocabulary tensors once (to compare copies and to find
        NaN), other data never. No code of the model is run.

        Args:
            folder: A transformers folder with safetensors weights.
            sides: What single tensors are, where their names do not say: tensor name to `input`,
                `output`, `bias` or `other`.
            ties: `declared`: config.json and the matrices must agree about tying. `stored`: the
                matrices decide.
            values: `check` refuses vocabulary tensors with NaN or infinities; `trust` leaves their
                values unread, except to compare copies.

        Raises:
            SourceNotFound: There is no config.json, no weights, or a shard is missing.
            UnsupportedWeights: The weights are pickled or quantised, or it is not clear which
                tensors have a row for every id.
            WeightsFormatError: A file is malformed, or files contradict one another.
            NumericsError: A vocabulary tensor holds a NaN or an infinity.
            InvalidValue: An argument is out of range.
        """
        errors.check_choice("ties", ties, ("declared", "stored"))
        errors.check_choice("values", values, ("check", "trust"))
        place = Path(folder)
        if not (place / "config.json").is_file():
            raise errors.build(
                errors.SourceNotFound,
                "there is no config.json",
                field="folder",
                file=str(place),
                fix="give the folder of a transformers model",
            )
        config = read_json(place / "config.json")
        facts = read_facts(config)
        if facts.quantisation is not None:
            raise errors.build(
                errors.UnsupportedWeights,
                f"the weights are quantised ({facts.quantisation})",
                field="quantization_config",
                file="config.json",
                fix="swap the tokenizer of the unquantised model, then quantise the result",
            )
        shards, index = _read_shards(place)
        entries = _by_name(shards)
        if index is not None:
            _check_index(index, entries)
        packed = quantised(entries)
        if packed:
            file, entry = entries[packed[0]]
            raise errors.build(
                errors.UnsupportedWeights,
                f"{len(packed)} tensors are quantised ({entry.dtype})",
                field=packed[0],
                file=file,
                fix="swap the tokenizer of the unquantised model, then quantise the result",
            )
        found, notes = find(facts, entries, sides or {})
        found.sort(key=_rank)
        found = find_copies(place, found, entries)
        tie = find_tie(facts, found, ties)
        checkpoint = cls(
            place,
            config,
            shards,
            index,
            tuple(sorted(found, key=lambda tensor: tensor.name)),
            tie,
            (*_notes(facts), *notes, *tie.notes),
        )
        if values == "check":
            checkpoint.check_finite()
        return checkpoint

    @property
    def rows(self) -> int:
        """Rows of the vocabulary matrices."""
        return self._main("input").rows

    @property
    def tied(self) -> bool:
        """Whether input and output matrix are one."""
        return self.tie.tied

    def find(self, side: str) -> VocabularyTensor | None:
        """Return the tensor that stands for a side; None when the file has none.

        Copies, per-layer rows and the matrices of multi-token-prediction modules do not.
        """
        own = [t for t in self.tensors if t.side == side and t.vocabulary == "model"]
        own.sort(key=_rank)
        return own[0] if own else None

    def _main(self, side: str) -> VocabularyTensor:
        tensor = self.find(side)
        if tensor is None and side == "output" and self.tie.tied:
            tensor = self.find("input")
        if tensor is None:
            raise errors.build(
                errors.InvalidValue,
                f"this model has no {side} tensor",
                field="side",
                fix="look at `tensors` for those it has",
            )
        return tensor

    def tensor(self, name: str) -> VocabularyTensor:
        """Return the vocabulary tensor called `name`.

        Raises:
            InvalidValue: There is none.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise errors.build(
            errors.InvalidValue, f"there is no vocabulary tensor {name!r}", field="name"
        )

    def entry(self, name: str) -> Entry:
        """Return where a tensor, of any kind, lies in its file."""
        for header in self.shards.values():
            if name in header.entries:
                return header.entries[name]
        raise errors.build(errors.InvalidValue, f"there is no tensor {name!r}", field="name")

    def matrix(self, which: str) -> Matrix:
        """Return the rows of a side, or of the vocabulary tensor of that name.

        The output side of a tied model is its input matrix.

        Raises:
            InvalidValue: There is no such tensor.
            MissingExtra: torch is not installed.
        """
        is_side = which in ("input", "output", "bias")
        tensor = self._main(which) if is_side else self.tensor(which)
        return Matrix(self.folder / tensor.file, tensor, self.entry(tensor.name))

    def check_finite(self) -> None:
        """Read every vocabulary tensor once, copies excepted.

        Raises:
            NumericsError: One holds a NaN or an infinity; its first rows are named.
            MissingExtra: torch is not installed.
        """
        for tensor in self.tensors:
            if tensor.copy_of is None:
                with self.matrix(tensor.name) as matrix:
                    matrix.check_finite()


def _rank(tensor: VocabularyTensor) -> tuple[object, ...]:
    """Order tensors: what stands for its side first."""
    preferred = next(
        (i for i, tail in enumerate(_PREFERRED) if tensor.name.endswith(tail)), len(_PREFERRED)
    )
    return (is_secondary(tensor.name), preferred, tensor.name.count("."), tensor.name)


def _notes(facts: ModelFacts) -> list[str]:
    if not facts.remote_code:
        return []
    return [
        "config.json: auto_map: the model names code of its own; it was not run, and the result "
        "needs the same trust from whoever loads it"
    ]


def _read_shards(folder: Path) -> tuple[dict[str, Header], Index | None]:
    index = None
    if (folder / INDEX).is_file():
        if (folder / SINGLE).is_file():
            raise errors.build(
                errors.WeightsFormatError,
                f"there is {INDEX} as well as {SINGLE}: two models in one folder",
                field="weights",
                file=str(folder),
                fix="move one of them away",
            )
        index = _read_index(folder / INDEX)
        files = sorted({*index.files.values()})
    elif (folder / SINGLE).is_file():
        files = [SINGLE]
    else:
        files = sorted(path.name for path in folder.glob("*.safetensors"))
        if len(files) != 1:
            raise _no_weights(folder, files)
    return {file: _read_shard(folder, file) for file in files}, index


def _no_weights(folder: Path, files: list[str]) -> errors.AnyvocabError:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if files:
        return errors.build(
            errors.SourceNotFound,
            f"{len(files)} safetensors files, and no {INDEX} that says what they are",
            field="weights",
            file=str(folder),
            fix="download the index of the model as well",
        )
    if pickles:
        return errors.build(
            errors.UnsupportedWeights,
            "the weights are pickled, and loading a pickle can run code",
            field="weights",
            file=str(folder / pickles[0]),
            fix="load the model once with transformers, if you trust it, and save it: "
            "save_pretrained writes safetensors",
        )
    return errors.build(
        errors.SourceNotFound,
        "there are no safetensors weights",
        field="weights",
        file=str(folder),
        fix=f"give a folder with {SINGLE}, or with {INDEX} and its shards",
    )


def _read_index(path: Path) -> Index:
    try:
        index = read_index(path)
    except HeaderError as error:
        raise errors.build(
            errors.WeightsFormatError,
            str(error),
            field="index",
            file=str(path),
            fix="download the file again",
        ) from error
    if index.outside:
        raise errors.build(
            errors.WeightsFormatError,
            f"{index.outside[0][:120]!r} lies outside the folder; it was not opened",
            field="weight_map",
            file=str(path),
            fix="do not load this model: a weights index must name files beside it",
        )
    return index


def _read_shard(folder: Path, file: str) -> Header:
    path = folder / file
    try:
        return read_header(path)
    except FileNotFoundError as error:
        raise errors.build(
            errors.SourceNotFound,
            "the index names this file, and it is missing",
            field="weights",
            file=str(path),
            fix="download the model again",
        ) from error
    except HeaderError as error:
        raise errors.build(
            errors.WeightsFormatError,
            str(error),
            field="header",
            file=str(path),
            fix="download the file again",
        ) from error


def _by_name(shards: Mapping[str, Header]) -> dict[str, tuple[str, Entry]]:
    found: dict[str, tuple[str, Entry]] = {}
    for file, header in shards.items():
        for name, entry in header.entries.items():
            if name in found:
                raise errors.build(
                    errors.WeightsFormatError,
                    f"the tensor stands in {found[name][0]} as well as in {file}",
                    field=name,
                    file=file,
                    fix="remove one of them, with its line in the index",
                )
            found[name] = (file, entry)
    return found


def _check_index(index: Index, entries: Mapping[str, tuple[str, Entry]]) -> None:
    for name, file in index.files.items():
        there = entries.get(name)
        if there is None or there[0] != file:
            raise errors.build(
                errors.WeightsFormatError,
                f"{INDEX} places it in {file}; "
                + ("it is nowhere" if there is None else f"it is in {there[0]}"),
                field=name,
                file=file,
                fix="download the index and the shards again, from one revision",
            )
    missing = [name for name in entries if name not in index.files]
    if missing:
        raise errors.build(
            errors.WeightsFormatError,
            f"{INDEX} does not name it",
            field=missing[0],
            file=entries[missing[0]][0],
            fix="download the index and the shards again, from one revision",
        )
