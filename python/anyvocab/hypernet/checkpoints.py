"""Checkpoints of a training: the network, the optimizer's state, where the run stands."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from anyvocab import _core, errors
from anyvocab.hypernet.sharding import like, whole

if TYPE_CHECKING:
    from anyvocab.hypernet.fit import Trainer

__all__ = ["CHECKPOINT", "Checkpoints", "Progress"]

CHECKPOINT = "checkpoint.safetensors"
FORMAT_VERSION = 1
_META = "anyvocab"
# Options that may change between the parts of a run: they say how long, where and how, not what.
_FREE = (
    "accumulate",
    "checkpoint_seconds",
    "checkpointing",
    "compile",
    "log_every",
    "measure_every",
    "minutes",
    "parallel",
    "steps",
    "tracker",
)


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    tokens: int = 0  # scored targets
    seconds: float = 0.0  # of training


class Checkpoints:
    """A run's checkpoint file.

    Attributes:
        folder: Where it lies.
    """

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self.folder, self._trainer = folder, trainer

    @cached_property
    def identity(self) -> str:
        """What a checkpoint must have been made for: model, corpus, shape and options."""
        trainer = self._trainer
        options = asdict(trainer.options)
        for name in _FREE:
            options.pop(name)
        if not options["dynamic_share"]:  # runs from before there were merged batches go on
            options = {n: v for n, v in options.items() if not n.startswith("dynamic_")}
        found = hashlib.sha256()
        for part in trainer.texts.parts:
            data = hashlib.sha256(part.data.data).digest()
            found.update(part.name.encode() + b"\0" + data)
        for matrix in trainer.body.rows.sides:
            found.update(matrix[:64].float().cpu().numpy().tobytes())
        if trainer.target is not None:
            target = trainer.target.tokenizer
            found.update(target.ids.tobytes() + b"\0".join(target.tokens))
        told = {
            "given": trainer.given,
            "network": trainer.config.to_dict(),
            "options": options,
        }
        found.update(json.dumps(told, sort_keys=True, default=str).encode())
        return found.hexdigest()

    def save(self) -> None:
        """Write the checkpoint: a temporary file, fsync, rename.

        All ranks take part, and the leader writes.
        """
        trainer = self._trainer
        tensors = {f"network.{n}": whole(t) for n, t in trainer.network.state_dict().items()}
        for name, tensor in trainer.backbone.parameters.items():
            tensors[f"backbone.{name}"] = whole(tensor)
        state = trainer.updates.optimizer.state_dict()["state"]
        for at, kept in state.items():
            for name, tensor in kept.items():
                tensors[f"optimizer.{at}.{name}"] = whole(torch.as_tensor(tensor))
        if not trainer.world.leads:
            return
        meta = {
            "anyvocab_version": _core.__version__,
            "format_version": FORMAT_VERSION,
            "identity": self.identity,
            "measured": [asdict(one) for one in trainer.log.measured],
            "progress": asdict(trainer.progress),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / CHECKPOINT
        temporary = target.with_suffix(".tmp")
        packed = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(packed, temporary, metadata={_META: json.dumps(meta, sort_keys=True)})
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)

    def load(self) -> bool:
        """Take the run up where the checkpoint stands; return whether there was one.

        Raises:
            InvalidValue: It belongs to another run, or is no checkpoint.
        """
        file = self.folder / CHECKPOINT
        if not file.is_file():
            return False
        trainer = self._trainer
        try:
            with safe_open(file, framework="pt") as stored:
                meta: dict[str, Any] = json.loads((stored.metadata() or {}).get(_META, "{}"))
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise errors.build(
                errors.InvalidValue,
                f"is no checkpoint: {error}",
                field="out",
                file=str(file),
                fix="move it away to begin anew",
            ) from error
        if meta.get("format_version") != FORMAT_VERSION or meta.get("identity") != self.identity:
            raise errors.build(
                errors.InvalidValue,
                "the checkpoint belongs to another model, corpus or set of options",
                field="out",
                file=str(file),
                fix="give the options it was begun with, or another folder",
            )
        held = trainer.network.state_dict()
        network = {name: like(tensors[f"network.{name}"], one) for name, one in held.items()}
        trainer.network.load_state_dict(network)
        with torch.no_grad():
            for name, parameter in trainer.backbone.parameters.items():
                parameter.copy_(like(tensors[f"backbone.{name}"], parameter))
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, place, key = name.split(".", 2)
                whose = trainer.updates.parameters[int(place)]
                made = like(tensor, whose) if tensor.dim() else tensor
                state.setdefault(int(place), {})[key] = made
        optimizer = trainer.updates.optimizer
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        trainer.progress = Progress(**meta["progress"])
        trainer.restore(meta["measured"])
        return True
