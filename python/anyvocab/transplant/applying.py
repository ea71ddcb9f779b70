"""From a plan to tensors: what replaces what in a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyvocab import errors
from anyvocab.transplant.plan import Plan, SidePlan, apply
from anyvocab.transplant.weights import Checkpoint, Rows, RowSource, VocabularyTensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NEW_HEAD", "Exchange", "check_apart", "check_free", "exchange", "will_tie"]

NEW_HEAD = "lm_head.weight"
_SCALED_WHEN_TIED = ("t5", "mt5")  # their hidden states are scaled only while matrices are tied


@dataclass(frozen=True)
class Exchange:
    """What changes in a checkpoint.

    Attributes:
        replaced: Tensor name to its new rows.
        dropped: Tensors that the new model does not have.
        added: Tensors that only the new model has.
    """

    replaced: Mapping[str, RowSource]
    dropped: tuple[str, ...] = ()
    added: Mapping[str, RowSource] = field(default_factory=dict)


def check_free(place: Path) -> None:
    """Raise unless a new folder may stand at `place`.

    Raises:
        OutputExists: There is something, and not an empty folder; or a file where a folder above
            it would be.
    """
    above = next((one for one in place.absolute().parents if os.path.lexists(one)), None)
    if above is not None and not above.is_dir():
        raise errors.build(
            errors.OutputExists,
            f"{above} is a file, and no folder can be made in it",
            field="out",
            file=str(place),
            fix="give a path below a folder",
        )
    if os.path.lexists(place) and (not place.is_dir() or any(place.iterdir())):
        raise errors.build(
            errors.OutputExists,
            "there is something already",
            field="out",
            file=str(place),
            fix="give a name that is free, or an empty folder",
        )


def check_apart(place: Path, model: Path) -> None:
    """Raise where a new folder would lie inside the model's own.

    Raises:
        InvalidValue: It would: whatever copies or loads the model would meet two of them.
    """
    if place.resolve().is_relative_to(model.resolve()):
        raise errors.build(
            errors.InvalidValue,
            f"it lies inside the model's folder, {model}",
            field="out",
            file=str(place),
            fix="give a path outside of it: the model stays as it is",
        )


def will_tie(
    checkpoint: Checkpoint, tie: str, *, calibrating: bool = False, two_sided: bool = False
) -> bool:
    """Return whether the new model's matrices are one.

    Args:
        checkpoint: The old model.
        tie: `keep`, `untie`, or `auto`: tied matrices become two where output rows are calibrated,
            since an input row that is fitted to predict is read as something else, and where the
            strategy makes a row for each side.
        calibrating: Whether output rows are calibrated.
        two_sided: Whether the strategy makes a row for each side.

    Raises:
        InvalidValue: `tie` is no choice, or the model cannot be untied.
    """
    if tie not in ("auto", "keep", "untie"):
        raise errors.build(
            errors.InvalidValue,
            f"{tie!r} is no choice",
            field="tie",
            fix='use "auto", "keep" or "untie"',
        )
    if not checkpoint.tied or tie == "keep" or (tie == "auto" and not (calibrating or two_sided)):
        return checkpoint.tied
    kind = str(checkpoint.config.get("model_type", ""))
    headless = checkpoint.find("output") is None and checkpoint.tie.stored == "headless"
    if tie == "auto" and (kind in _SCALED_WHEN_TIED or headless):
        return True
    if kind in _SCALED_WHEN_TIED:
        raise errors.build(
            errors.InvalidValue,
            f"a model of type {kind} scales its hidden states only while its matrices are tied",
            field="tie",
            fix='use tie="keep"',
        )
    if headless:
        raise errors.build(
            errors.InvalidValue,
            "the model has no output matrix",
            field="tie",
            fix='use tie="keep"',
        )
    return False


def exchange(checkpoint: Checkpoint, plan: Plan) -> Exchange:
    """Return the tensors of the new model that differ from the old one's.

    Every tensor with a row for every id is remade from its own old rows: copies of the input
    matrix in other parts of a model like the matrix itself.

    Args:
        checkpoint: The old model.
        plan: The new rows.

    Raises:
        UnsupportedWeights: A table of the vocabulary has a size of its own.
    """
    per_layer = [one for one in checkpoint.tensors if one.vocabulary != "model"]
    if per_layer:
        raise errors.build(
            errors.UnsupportedWeights,
            f"a table with {per_layer[0].rows} rows of its own size",
            field=per_layer[0].name,
            file=per_layer[0].file,
            fix="models with per-layer vocabulary tables cannot be swapped yet",
        )
    replaced: dict[str, RowSource] = {}
    dropped: list[str] = []
    for tensor in checkpoint.tensors:
        if tensor.side == "bias":
            replaced[tensor.name] = _bias(checkpoint, tensor, plan)
            continue
        side = plan.side("output" if tensor.side == "output" else "input")
        replaced[tensor.name] = _rows(checkpoint, tensor.name, side)
    added: dict[str, RowSource] = {}
    untied = checkpoint.tied and not plan.tied
    if untied and checkpoint.find("output") is None and plan.output is not None:
        main = checkpoint.find("input")
        if main is not None:
            added[_head_name(main.name)] = _rows(checkpoint, main.name, plan.output)
    return Exchange(replaced, tuple(dropped), added)


def _head_name(name: str) -> str:
    """Return the name of a head beside an input matrix of this name."""
    return "embed_out.weight" if name.endswith("embed_in.weight") else NEW_HEAD


def _rows(checkpoint: Checkpoint, name: str, side: SidePlan) -> Rows:
    matrix = checkpoint.matrix(name)
    return Rows((len(side), matrix.width), matrix.dtype, lambda: apply(side, matrix))


def _bias(checkpoint: Checkpoint, tensor: VocabularyTensor, plan: Plan) -> Rows:
    from anyvocab.transplant.trial import new_bias

    matrix = checkpoint.matrix(tensor.name)
    shape = tensor.shape_for(len(plan.side("output")))

    def make() -> Iterator[Tensor]:
        old: Any = matrix.chunk(0, matrix.rows).reshape(-1)
        made = new_bias(plan, old).to(matrix.dtype)
        side = plan.side("output")
        same = side.verbatim()
        if side.bias is not None:
            same &= side.bias == 0.0
        if same.any():  # bit for bit, whatever the type
            import torch

            firsts = side.combination.columns[side.combination.indptr[:-1][same]].astype("int64")
            made[torch.from_numpy(same)] = old[torch.from_numpy(firsts)]
        yield made.reshape(shape)

    return Rows(shape, matrix.dtype, make)
