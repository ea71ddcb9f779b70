"""Numbers of a run for TensorBoard, Weights & Biases and others, through accelerate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyvocab import errors

__all__ = ["Tracker"]

PROJECT = "anyvocab-hypernet"


class Tracker:
    """Passes numbers on, or does nothing where no tracker is asked for.

    Attributes:
        name: What accelerate calls it; None for none.
    """

    def __init__(
        self, name: str | None, *, folder: Path | None, told: Mapping[str, Any], leads: bool = True
    ) -> None:
        """Start a run of the tracker.

        Args:
            name: `tensorboard`, `wandb` or another name that accelerate knows.
            folder: Where trackers that write files may do so.
            told: What the run is: numbers and names.
            leads: Whether this process is the one that tells.

        Raises:
            MissingExtra: accelerate, or the tracker's own package, is not installed.
            InvalidValue: There is no such tracker, or it needs a folder and there is none.
        """
        self.name = name
        self._tracker: Any = None
        if name is None:
            return
        kind = _kind(name)
        options: list[Any] = []
        if kind.requires_logging_directory:
            if folder is None:
                raise errors.build(
                    errors.InvalidValue,
                    f"{name} writes files and the run has no folder",
                    field="tracker",
                    fix="give the run a folder for its checkpoints",
                )
            options.append(str(folder / "logs"))
        from accelerate import PartialState

        PartialState()  # trackers ask it which process they are in
        if not leads:
            return
        try:
            self._tracker = kind(PROJECT, *options)
            if hasattr(self._tracker, "start"):  # before accelerate 1.9 trackers start when made
                self._tracker.start()
        except ImportError as error:
            raise errors.build(
                errors.MissingExtra,
                f"{name} is not installed: {error}",
                field="tracker",
                fix=f"install {name}, or name another tracker",
            ) from error
        self._tracker.store_init_configuration(dict(told))

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Pass numbers on."""
        if self._tracker is not None:
            self._tracker.log(dict(values), step=step)

    def close(self) -> None:
        """End the tracker's run."""
        if self._tracker is not None:
            self._tracker.finish()
            self._tracker = None


def _kind(name: str) -> Any:
    try:
        from accelerate import tracking
    except ImportError as error:
        raise errors.missing_extra(
            "trackers come through accelerate, which is not installed",
            field="tracker",
            extra="hypernet",
        ) from error
    known = tracking.LOGGER_TYPE_TO_CLASS
    if name not in known:
        raise errors.build(
            errors.InvalidValue,
            f"{name!r} is no tracker",
            field="tracker",
            fix=f"one of {', '.join(sorted(map(str, known)))}",
        )
    return known[name]
