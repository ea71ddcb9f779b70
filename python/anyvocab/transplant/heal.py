"""Healing: training nothing but the new rows of a swapped model, for minutes.

Everything that the swap copied keeps its bits. What the new rows lack after a swap without training
is mostly their place in the model's predictions, and little text teaches them that.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anyvocab import _core, errors
from anyvocab._safetensors import INDEX
from anyvocab.transplant import applying
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.plan import SIDES, Plan, Side
from anyvocab.transplant.weights import Checkpoint, Rows, RowSource, finish, rewrite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["HEALING", "HealReport", "heal", "healing_file", "new_rows"]

HEALING: Final = "anyvocab/healing.json"
FORMAT_VERSION: Final = 1
HELD_OUT_BYTES: Final = 1 << 14  # of held-out text: what a check costs
CHECKS: Final = 6  # of held-out text in a whole run
PATIENCE: Final = 3  # checks without a gain after which training stops
WARM_UP: Final = 10  # steps until the learning rate is whole
_RATE: Final = 0.1  # of the root mean square of a row's numbers: the default learning rate
_IDLE = (Origin.UNUSED, Origin.QUIET)  # no text makes them: training would wake them
_MANIFEST = "swap.json"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class HealReport:
    """What healing did.

    Attributes:
        out: The new folder.
        before: Bits per byte of held-out text before.
        after: The same of the written model.
        held_out: Bytes of that text.
        rows: Side to how many rows were trained.
        steps: Steps that were taken.
        best_step: The step whose rows were kept; 0 where training never helped.
        history: Steps and bits per byte of held-out text there.
        learning_rate: Side to the rate at its highest.
        seconds: How long it took.
    """

    out: Path
    before: float
    after: float
    held_out: int
    rows: Mapping[str, int]
    steps: int
    best_step: int
    history: tuple[tuple[int, float], ...]
    learning_rate: Mapping[str, float]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report, ready for JSON."""
        return {"format_version": FORMAT_VERSION, **asdict(self), "out": str(self.out)}


def new_rows(plan: Plan, side: Side, size: int) -> NDArray[np.int64]:
    """Return the ids whose rows are worth training, ascending: made, and made by some text.

    Args:
        plan: The swap's plan.
        side: Which matrix.
        size: Ids of the vocabulary; rows beyond it are padding.
    """
    rows = plan.side(side)
    ids = np.flatnonzero(~rows.verbatim() & ~np.isin(rows.origin, _IDLE))
    return ids[ids < size]


def healing_file(checkpoint: Checkpoint, plan: Plan, size: int) -> dict[str, bytes]:
    """Return `healing.json`: which rows of which modules to train, and which were copied.

    `trainable_token_indices` is what peft's `LoraConfig` takes under that name. Of tied matrices
    the input's module alone is named: peft trains the other with it.

    Args:
        checkpoint: The new model, on disk.
        plan: What it was made by.
        size: Ids of the new vocabulary.
    """
    ids: dict[str, list[int]] = {}
    tensors: dict[str, str] = {}
    copied: dict[str, list[list[int]]] = {}
    for side in ("input",) if plan.tied else SIDES:
        tensor = checkpoint.find(side)
        if tensor is None:
            continue
        tensors[side] = tensor.name
        ids[_module(tensor.name).rpartition(".")[2]] = new_rows(plan, side, size).tolist()
        copied[side] = _ranges(np.flatnonzero(plan.side(side).verbatim()))
    document = {
        "anyvocab_version": _core.__version__,
        "copied": copied,
        "format_version": FORMAT_VERSION,
        "kind": "healing",
        "modules": {side: _module(name) for side, name in tensors.items()},
        "rows": len(plan.input),
        "tied": plan.tied,
        "trainable_token_indices": ids,
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"
    return {HEALING: text.encode()}


def _module(tensor: str) -> str:
    return tensor.removesuffix(".weight")


def _ranges(ids: NDArray[np.int64]) -> list[list[int]]:
    """Return ascending ids as [first, one past the last] pairs."""
    if not len(ids):
        return []
    breaks = np.flatnonzero(np.diff(ids) != 1) + 1
    return [[int(run[0]), int(run[-1]) + 1] for run in np.split(ids, breaks)]


def heal(
    folder: str | os.PathLike[str],
    texts: Iterable[str | os.PathLike[str] | bytes],
    out: str | os.PathLike[str],
    *,
    minutes: float = 5.0,
    steps: int | None = None,
    lr: float | None = None,
    batch_size: int = 8,
    window: int = 256,
    device: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> HealReport:
    """Train the new rows of a swapped model, write the healed model, and return what it did.

    AdamW without decay on the new rows alone; every other number of the model keeps its bits, and
    that is checked in the written files. A fifth of the texts is held out: it says when to stop and
    which rows to keep, so `after` is a little too good; measure on other text what you publish. One
    dense gradient of a vocabulary matrix exists at a time, in float32 as the model is.

    The loss counts shared and new tokens alike. On pico, new ones counted threefold left 0.013 bits
    per byte more (12 steps, one seed), so there is no such option.

    Args:
        folder: What `anyvocab swap` wrote.
        texts: Files and folders, or texts as bytes, of the model's use.
        out: The new folder; there must be nothing, or an empty folder.
        minutes: The most to train, checks included.
        steps: The most steps; where the minutes suffice for them, no clock decides anything.
        lr: The highest learning rate; a tenth of the root mean square of the rows' numbers when
            left out. It falls to nothing towards the end.
        batch_size: Windows of a step.
        window: Ids of a window; as many as the model sees where that is less.
        device: Where it runs (`cuda`); on the CPU when left out.
        seed: For the order of the windows.
        progress: Told `heal`, how much is done and how much there is.

    Raises:
        InvalidValue: The folder says nothing of new rows, or there is too little text.
        OutputExists: There is something at `out`.
        InternalError: A copied row changed in the written model.
    """
    from anyvocab.evaluate import bits_per_byte
    from anyvocab.evaluate.models import first_ids_of, load_model
    from anyvocab.evaluate.scoring import sizes_of
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.transplant.job import split_corpus
    from anyvocab.transplant.train_rows import RowTrainer, windows_of

    began = time.monotonic()
    place, source = Path(out), Path(folder)
    applying.check_free(place)
    ids = _trainable(source)
    corpus = split_corpus(texts)
    judge = _head((text for one in corpus.judge for text in one.documents), HELD_OUT_BYTES)
    if not judge or not corpus.learn:
        raise errors.build(
            errors.InvalidValue,
            "too little to train on and to hold out",
            field="texts",
            fix="give some tens of kilobytes at least",
        )
    tokenizer, checkpoint = Tokenizer.load(source), Checkpoint.open(source)
    first, _ = first_ids_of(tokenizer)
    model = load_model(source, device=device)
    window = min(window, sizes_of(model, None, None)[0])
    trainer = RowTrainer(
        model,
        ids,
        windows_of(tokenizer, corpus.learn, first, window),
        batch_size=batch_size,
        rate=lr,
        share=_RATE,
        seed=seed,
    )

    def measure() -> float:
        found = bits_per_byte(
            model, judge, tokenizer=tokenizer, window=window, stride=window - len(first)
        )
        return found.bits_per_byte

    history = [(0, measure())]
    trainer.keep(0)
    step = checks = 0
    while True:
        late = (time.monotonic() - began) / (60.0 * minutes)
        done = min(1.0, late if steps is None else step / steps)
        if step and (done >= (checks + 1) / CHECKS or late >= 1.0):
            checks = int(done * CHECKS)
            history.append((step, measure()))
            if history[-1][1] < min(bits for _, bits in history[:-1]):
                trainer.keep(step)
        if done >= 1.0 or late >= 1.0 or _is_over(history):
            break
        step += 1
        trainer.step(min(1.0, step / WARM_UP) * (1.0 - done))
        if progress is not None:
            progress("heal", round(100 * done), 100)
    rows = trainer.restore({side: checkpoint.matrix(side).dtype for side in ids})
    report = HealReport(
        place,
        history[0][1],
        measure(),
        sum(map(len, judge)),
        {side: len(some) for side, some in ids.items()},
        step,
        trainer.kept,
        tuple(history),
        trainer.rates,
        time.monotonic() - began,
    )
    _write(checkpoint, source, report, ids, rows)
    return report


def _is_over(history: list[tuple[int, float]]) -> bool:
    """Return whether the last checks brought nothing."""
    bits = [bits for _, bits in history]
    return len(bits) > PATIENCE and min(bits[-PATIENCE:]) >= min(bits[:-PATIENCE])


def _head(texts: Iterable[bytes], size: int) -> list[bytes]:
    """Return texts from the first on, `size` bytes at most."""
    found: list[bytes] = []
    for text in texts:
        if size <= 0:
            break
        found.append(text[:size])
        size -= len(text)
    return found


def _trainable(folder: Path) -> dict[Side, NDArray[np.int64]]:
    """Return side to the ids that `healing.json` says are new."""
    path = folder / HEALING
    try:
        document = json.loads(path.read_bytes())
        named = document["trainable_token_indices"]
        found: dict[Side, NDArray[np.int64]] = {}
        for side in SIDES:
            if side in document["modules"]:
                module = document["modules"][side].rpartition(".")[2]
                found[side] = np.array(named[module], dtype=np.int64)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.build(
            errors.InvalidValue,
            f"it does not say which rows are new ({type(error).__name__})",
            field=HEALING,
            file=str(folder),
            fix="give a folder that `anyvocab swap` wrote",
        ) from error
    return found


def _write(
    checkpoint: Checkpoint,
    source: Path,
    report: HealReport,
    ids: Mapping[Side, NDArray[np.int64]],
    rows: Mapping[Side, Tensor],
) -> None:
    """Write the healed model beside its place, check it, and give it its name."""
    from anyvocab.transplant.verify import compare_rows

    place = report.out
    staging = place.parent / f".{place.name}.healing"
    shutil.rmtree(staging, ignore_errors=True)
    changed: dict[str, RowSource] = {}
    for tensor in checkpoint.tensors:
        side: Side = "output" if tensor.side == "output" and "output" in ids else "input"
        if tensor.side != "bias" and side in rows:
            changed[tensor.name] = _patched(checkpoint, tensor.name, ids[side], rows[side])
    rewrite(checkpoint, staging, changed, link="copy")
    _copy_others(checkpoint, source, staging)
    after = Checkpoint.open(staging)
    kept: dict[str, tuple[Any, Any]] = {
        side: (others, others)
        for side, chosen in ids.items()
        for others in (np.setdiff1d(np.arange(checkpoint.rows), chosen),)
    }
    wrong = [check.found for check in compare_rows(checkpoint, after, kept) if check.ok is False]
    if wrong:
        raise errors.build(errors.InternalError, "; ".join(wrong), field="heal")
    finish(staging, place, manifest=(_MANIFEST, _manifest(source, report)))


def _patched(checkpoint: Checkpoint, name: str, ids: NDArray[np.int64], rows: Tensor) -> Rows:
    matrix = checkpoint.matrix(name)

    def chunks() -> Iterator[Tensor]:
        start = 0
        for chunk in matrix.chunks():
            here = np.flatnonzero((ids >= start) & (ids < start + len(chunk)))
            chunk[ids[here] - start] = rows[here].to(chunk.dtype)
            start += len(chunk)
            yield chunk

    return Rows((matrix.rows, matrix.width), matrix.dtype, chunks)


def _copy_others(checkpoint: Checkpoint, source: Path, staging: Path) -> None:
    """Copy what is not weights: configurations, the tokenizer, the plan, the card."""
    weights = {*checkpoint.shards, INDEX, _MANIFEST}
    extras = source / Path(HEALING).parent
    for path in sorted((*source.iterdir(), *extras.iterdir())):
        name = path.relative_to(source)
        if path.is_file() and str(name) not in weights:
            (staging / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, staging / name)


def _manifest(source: Path, report: HealReport) -> bytes:
    """Return the swap's manifest with a word about healing: the plan is of the rows before it."""
    path = source / _MANIFEST
    document = json.loads(path.read_bytes()) if path.is_file() else {}
    found = report.to_dict()
    document["healed"] = {name: found[name] for name in found if name not in ("out", "seconds")}
    return (json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()
