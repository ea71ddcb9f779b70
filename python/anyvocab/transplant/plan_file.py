"""Plans on disk: one safetensors file, whose metadata says what they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import _core, errors
from anyvocab._save import write_atomically
from anyvocab.transplant.dense import Made, Mapped, Referred
from anyvocab.transplant.plan import Combination, Matrix, Plan, Side, SidePlan

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Remake", "load_plan", "save_plan"]

Remake = Callable[[Side, Mapping[str, Any], "NDArray[np.int64]"], Made]

FORMAT_VERSION = 1
_MAP = ("ids", "before", "weights", "after")
_OPTIONAL = ("scale", "directions", "amounts", "bias")


def save_plan(plan: Plan, path: str | os.PathLike[str], *, belongs_to: dict[str, str]) -> Path:
    """Write a plan and return its path.

    Args:
        plan: The plan.
        path: Where to.
        belongs_to: What it was made for: digests of both vocabularies, say.
    """
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {}
    notes: dict[str, list[str]] = {}
    made: dict[str, Mapping[str, Any]] = {}
    for name, side in (("input", plan.input), ("output", plan.output)):
        if side is None:
            continue
        tensors |= {
            f"{name}.origin": side.origin,
            f"{name}.indptr": side.combination.indptr,
            f"{name}.columns": side.combination.columns,
            f"{name}.weights": side.combination.weights,
            f"{name}.dense_ids": side.dense_ids,
        }
        dense = side.dense_rows
        if isinstance(dense, Mapped):  # the map, not the rows that it makes
            tensors |= {f"{name}.map_{one}": getattr(dense, one) for one in _MAP}
        elif isinstance(dense, np.ndarray):
            tensors[f"{name}.dense_rows"] = dense
        elif isinstance(dense, Referred):
            made[name] = dense.reference()
        else:
            tensors[f"{name}.dense_rows"] = side.dense().numpy()
        for field in _OPTIONAL:
            value = getattr(side, field)
            if value is not None:
                tensors[f"{name}.{field}"] = value
        notes[name] = list(side.notes)
    metadata = {
        "format_version": FORMAT_VERSION,
        "anyvocab_version": _core.__version__,
        "strategy": plan.strategy,
        "belongs_to": belongs_to,
        "notes": notes,
        **({"made": made} if made else {}),
    }
    ready = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    data = save(ready, metadata={"plan": json.dumps(metadata, sort_keys=True)})
    target = Path(path)
    write_atomically(target, data)
    return target


def load_plan(
    path: str | os.PathLike[str],
    *,
    belongs_to: dict[str, str] | None = None,
    donor: Mapping[Side, Matrix] | None = None,
    remake: Remake | None = None,
) -> Plan:
    """Return the plan in a file.

    Args:
        path: Where it is.
        belongs_to: What it must have been made for; not checked when left out.
        donor: Side to the donor's matrix; needed where rows are mapped donor rows.
        remake: Makes rows that the plan only refers to, such as a network's: given the side, the
            reference and the target ids.

    Raises:
        SourceNotFound: There is no such file.
        TokenizerFormatError: It holds no plan, or one of another format.
        InvalidValue: It was made for something else.
    """
    from safetensors import SafetensorError, safe_open

    place = Path(path)
    if not place.is_file():
        raise errors.build(errors.SourceNotFound, "there is no plan", field="plan", file=str(place))
    try:
        with safe_open(place, framework="numpy") as stored:
            text = (stored.metadata() or {}).get("plan", "")
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        metadata = json.loads(text)
        version = metadata["format_version"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise errors.build(
            errors.TokenizerFormatError, f"holds no plan ({error})", field="plan", file=str(place)
        ) from error
    if version != FORMAT_VERSION:
        raise errors.build(
            errors.TokenizerFormatError,
            f"a plan of format {version}, this version reads {FORMAT_VERSION}",
            field="format_version",
            file=str(place),
            fix="make the plan again",
        )
    for key, value in (belongs_to or {}).items():
        if metadata["belongs_to"].get(key) != value:
            raise errors.build(
                errors.InvalidValue,
                f"the plan was made for another {key}",
                field="plan",
                file=str(place),
                fix="make the plan again",
            )
    sides: dict[Side, SidePlan | None] = {"input": None, "output": None}
    for name in sides:
        if f"{name}.origin" not in arrays:
            continue
        sides[name] = SidePlan(
            arrays[f"{name}.origin"],
            Combination(
                arrays[f"{name}.indptr"], arrays[f"{name}.columns"], arrays[f"{name}.weights"]
            ),
            arrays[f"{name}.dense_ids"],
            _dense(arrays, name, donor, place)
            if name not in metadata.get("made", {})
            else _remade(arrays, name, metadata["made"][name], remake, place),
            notes=tuple(metadata["notes"].get(name, ())),
            **{field: arrays.get(f"{name}.{field}") for field in _OPTIONAL},
        )
    first = sides["input"]
    if first is None:
        raise errors.build(
            errors.TokenizerFormatError, "has no input side", field="plan", file=str(place)
        )
    return Plan(first, sides["output"], dict(metadata["strategy"]))


def _remade(
    arrays: Mapping[str, NDArray[Any]],
    name: Side,
    reference: Mapping[str, Any],
    remake: Remake | None,
    place: Path,
) -> Made:
    if remake is None:
        raise errors.build(
            errors.InvalidValue,
            f"its rows are made by the strategy {reference.get('strategy')}, which was not given",
            field="remake",
            file=str(place),
            fix="give what makes them; anyvocab.transplant.planning.remaker makes it of a context",
        )
    return remake(name, reference, arrays[f"{name}.dense_ids"])


def _dense(
    arrays: Mapping[str, NDArray[Any]],
    name: Side,
    donor: Mapping[Side, Matrix] | None,
    place: Path,
) -> NDArray[np.float32] | Mapped:
    if f"{name}.map_ids" not in arrays:
        return arrays[f"{name}.dense_rows"]
    ids, before, weights, after = (arrays[f"{name}.map_{one}"] for one in _MAP)
    if donor is None:
        raise errors.build(
            errors.InvalidValue,
            "its rows are made of a donor's, and there is none",
            field="donor",
            file=str(place),
            fix="give the donor that the plan was made with",
        )
    matrix = donor[name]
    if matrix.width != len(before) or (len(ids) and int(ids.max()) >= matrix.rows):
        raise errors.build(
            errors.InvalidValue,
            f"the plan's donor has rows of {len(before)} numbers, "
            f"this one has {matrix.rows} of {matrix.width}",
            field="donor",
            file=str(place),
            fix="give the donor that the plan was made with",
        )
    return Mapped(matrix, ids, before, weights, after)
