"""Fine-tuned variants of a base model take part in the base's transfer to another tokenizer.

Two ways (ZeTT, arXiv:2405.07883). A variant whose base was transferred without training differs
from it in the vocabulary alone: rows that the hypernetwork predicts from the base's matrices go
into the variant. A base that was trained on after its transfer has another body as well: the
variant takes its rows and, times a factor, what training did to its body (task arithmetic). Both
need a variant with the very vocabulary of its base.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from anyvocab import errors
from anyvocab._safetensors import INDEX
from anyvocab.tokenizer import Tokenizer
from anyvocab.transplant import applying
from anyvocab.transplant.files import MANIFEST, vocabulary_digest
from anyvocab.transplant.job import model_folder
from anyvocab.transplant.weights import Checkpoint, Rows, RowSource, finish, rewrite
from anyvocab.transplant.weights.matrix import torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from anyvocab.transplant.result import SwapReport

__all__ = ["FACTOR", "ShiftReport", "shift_body", "transfer_variant"]

FACTOR: Final = 0.5  # of the difference: what the authors' examples use
_FLOATS: Final = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class ShiftReport:
    """What task arithmetic did to a body.

    Attributes:
        out: The new folder.
        factor: Of the difference.
        tensors: How many tensors of the body there are.
        shifted: How many of them changed.
        distance: The length of what was added, over the length of the shifted tensors.
    """

    out: Path
    factor: float
    tensors: int
    shifted: int
    distance: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report, ready for JSON."""
        return {"format_version": 1, **asdict(self), "out": str(self.out)}


def transfer_variant(
    variant: str | os.PathLike[str],
    base: str | os.PathLike[str],
    tokenizer: object,
    out: str | os.PathLike[str],
    *,
    hypernet: str | os.PathLike[str] | None = None,
    transferred: str | os.PathLike[str] | None = None,
    factor: float = FACTOR,
    options: Mapping[str, Any] | None = None,
    **others: Any,
) -> tuple[SwapReport, ShiftReport | None]:
    """Give a fine-tuned model the tokenizer of its base's transfer, and return what was done.

    Args:
        variant: The fine-tuned model.
        base: What it was fine-tuned from, with the same vocabulary.
        tokenizer: The new tokenizer.
        out: The new folder; there must be nothing, or an empty folder.
        hypernet: Of the base; the one shipped with it when left out. Not used with `transferred`.
        transferred: The base with the new tokenizer, trained further: its rows are taken, and the
            difference of its body to the base's is added.
        factor: Of that difference.
        options: Others of the strategy `hypernet`.
        others: Arguments of :func:`anyvocab.swap`.

    Raises:
        InvalidValue: The vocabularies of base and variant differ, `transferred` has another
            tokenizer, or the bodies do not fit.
    """
    from anyvocab.hypernet.folder import find_hypernet
    from anyvocab.transplant.swap import swap

    _check_family(variant, base, "base")
    place = Path(out)
    if transferred is None:
        folder = find_hypernet(model_folder(base) if hypernet is None else hypernet)
        chosen = {**(options or {}), "base": os.fspath(model_folder(base))}
        chosen["hypernet"] = os.fspath(folder)
        return swap(variant, tokenizer, place, strategy="hypernet", options=chosen, **others), None
    _check_family(tokenizer, transferred, "transferred")
    applying.check_free(place)
    before = place.parent / f".{place.name}.unshifted"
    shutil.rmtree(before, ignore_errors=True)
    try:
        report = swap(
            variant,
            tokenizer,
            before,
            strategy="family",
            donor=transferred,
            **{"calibrate": "off", **others},
        )
        return report, shift_body(before, base, transferred, place, factor=factor)
    finally:
        shutil.rmtree(before, ignore_errors=True)


def _check_family(one: object, other: str | os.PathLike[str], field: str) -> None:
    """Raise unless two tokenizers have one vocabulary.

    Raises:
        InvalidValue: They do not.
    """
    digests = {vocabulary_digest(Tokenizer.load(source).vocabulary) for source in (one, other)}
    if len(digests) > 1:
        what = "the variant's" if field == "base" else "the new tokenizer's"
        raise errors.build(
            errors.InvalidValue,
            f"its vocabulary is not {what}",
            field=field,
            file=os.fsdecode(other),
            fix="a variant shares its base's vocabulary, and the transferred base has the new one",
        )


def shift_body(
    folder: str | os.PathLike[str],
    base: str | os.PathLike[str],
    transferred: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    factor: float = FACTOR,
) -> ShiftReport:
    """Write a model whose body is moved by what training did to its base's body.

    `body + factor * (transferred body - base body)`, in float32, rounded to the stored type once.
    Tensors that training left as they were keep their bits, and so do the vocabulary's. Memory is
    the largest tensor, a few times.

    Args:
        folder: The variant, with its new vocabulary.
        base: The base, as it was.
        transferred: The base with the new vocabulary, trained further.
        out: The new folder; there must be nothing, or an empty folder.
        factor: Of the difference.

    Raises:
        InvalidValue: The bodies have other tensors, shapes or types of numbers, or `factor` is not
            finite.
        OutputExists: There is something at `out`.
    """
    if not math.isfinite(factor):
        raise errors.build(errors.InvalidValue, f"must be finite, got {factor}", field="factor")
    place, source = Path(out), Path(folder)
    applying.check_free(place)
    checkpoint = Checkpoint.open(source)
    relatives = [Checkpoint.open(model_folder(one)) for one in (base, transferred)]
    names = _body(checkpoint)
    for relative, field in zip(relatives, ("base", "transferred"), strict=True):
        _check_body(checkpoint, relative, names, field)
    changed: dict[str, RowSource] = {}
    moved, whole = 0.0, 0.0
    for name in names:
        entry = checkpoint.entry(name)
        if entry.dtype not in _FLOATS:  # a counter or a mask: the variant's own
            continue
        old, new = (_stored(one, name) for one in relatives)
        apart = float((new.double() - old.double()).square().sum())
        if apart and factor:
            rows = _shifted(name, checkpoint, relatives[0], relatives[1], factor)
            changed[name] = Rows(tuple(entry.shape), torch_dtype(entry.dtype), rows)
            moved += factor**2 * apart
            whole += float(_stored(checkpoint, name).double().square().sum())
    staging = place.parent / f".{place.name}.shifting"
    shutil.rmtree(staging, ignore_errors=True)
    rewrite(checkpoint, staging, changed, link="copy")
    report = ShiftReport(
        place, factor, len(names), len(changed), math.sqrt(moved / whole) if whole else 0.0
    )
    _copy_others(checkpoint, source, staging)
    finish(staging, place, manifest=(MANIFEST, _manifest(source, report, base, transferred)))
    return report


def _body(checkpoint: Checkpoint) -> list[str]:
    """Return the names of the tensors that are not the vocabulary's, sorted."""
    vocabulary = {tensor.name for tensor in checkpoint.tensors}
    every = (name for header in checkpoint.shards.values() for name in header.entries)
    return sorted(set(every) - vocabulary)


def _check_body(one: Checkpoint, other: Checkpoint, names: list[str], field: str) -> None:
    theirs = _body(other)
    odd = sorted(set(names) ^ set(theirs))
    if odd:
        found = f"{odd[0]} is in one of the two models only"
    else:
        wrong = [name for name in names if one.entry(name).shape != other.entry(name).shape]
        if not wrong:
            return
        found = f"{wrong[0]} has another shape: {list(other.entry(wrong[0]).shape)}"
    raise errors.build(
        errors.InvalidValue,
        found,
        field=field,
        file=str(other.folder),
        fix="task arithmetic needs models of one family: the same layers in the same shapes",
    )


def _stored(checkpoint: Checkpoint, name: str) -> Any:
    from safetensors import safe_open

    file = next(one for one, header in checkpoint.shards.items() if name in header.entries)
    with safe_open(checkpoint.folder / file, framework="pt") as stored:
        return stored.get_tensor(name)


def _shifted(
    name: str, checkpoint: Checkpoint, base: Checkpoint, transferred: Checkpoint, factor: float
) -> Callable[[], Iterator[Tensor]]:
    """Return what makes a tensor of the new body."""

    def chunks() -> Iterator[Tensor]:
        own = _stored(checkpoint, name)
        shift = _stored(transferred, name).float() - _stored(base, name).float()
        yield (own.float() + factor * shift).to(own.dtype)

    return chunks


def _copy_others(checkpoint: Checkpoint, source: Path, staging: Path) -> None:
    """Copy what is not weights: configurations, the tokenizer, the plan, the card."""
    weights = {*checkpoint.shards, INDEX, MANIFEST}
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_file() and str(name) not in weights:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, staging / name)


def _manifest(
    source: Path,
    report: ShiftReport,
    base: str | os.PathLike[str],
    transferred: str | os.PathLike[str],
) -> bytes:
    """Return the swap's manifest with a word about the body."""
    path = source / MANIFEST
    document = json.loads(path.read_bytes()) if path.is_file() else {}
    found = {name: value for name, value in report.to_dict().items() if name != "out"}
    document["body"] = {
        **found,
        "base": os.fsdecode(base),
        "transferred": os.fsdecode(transferred),
    }
    return (json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()
