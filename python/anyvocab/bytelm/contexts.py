"""The contexts of a cover model on a backend: who is asked for what, and what is given back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab import _core
    from anyvocab.backends import Row, TokenBackend
    from anyvocab.bytelm.device import DeviceSums

    _Target: TypeAlias = "_core.CoverState | _core.Sweep"

__all__ = ["Contexts", "Job"]

_ROOT = np.iinfo(np.uint64).max
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """A prefix whose numbers are wanted.

    Attributes:
        core: The prefix.
        root: The ids before it.
        mass_only: Whether its mass will do.
    """

    core: _core.CoverState
    root: tuple[int, ...]
    mass_only: bool = False


class Contexts:
    """Which node of a backend each context of a cover model is.

    Args:
        core: The cover model.
        backend: Who knows the logits.
        rounds: Whether what is wanted depends on what was found (the marginal law, which looks at
            whole rows).
        sums: Where rows are summed: `device`, `host`, or `auto`: on the device where it is no CPU.
    """

    def __init__(
        self,
        core: _core.CoverModel,
        backend: TokenBackend,
        *,
        rounds: bool,
        sums: Literal["auto", "device", "host"] = "auto",
    ) -> None:
        self._core = core
        self.backend = backend
        self._rounds = rounds
        self._sums = "host" if rounds else sums
        self._device: DeviceSums | None = None
        self._nodes: dict[int, int] = {}

    def evaluate(self, jobs: Sequence[Job]) -> None:
        """Ask the model for all that is wanted, in as few passes as the backend can."""
        while True:
            feeds: dict[int, list[tuple[_Target, int]]] = {}
            fed = False
            for job in jobs:
                for id, node in self._wanted(job.core.needed(job.mass_only), job.root):
                    if self._from_kept(job.core, id):
                        fed = True
                    else:
                        feeds.setdefault(node, []).append((job.core, id))
            if not feeds and not fed:
                break
            self._feed(feeds)
            if not self._rounds:
                break
        self.give_back()

    def sweep(self, sweep: _core.Sweep, root: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the distributions of all positions, float64[n + 1, 257]."""
        feeds: dict[int, list[tuple[_Target, int]]] = {}
        for id, node in self._wanted(sweep.needed(), root):
            feeds.setdefault(node, []).append((sweep, id))
        self._feed(feeds)
        result = sweep.logprobs()
        self.give_back()
        return result

    def _wanted(self, needed: Any, root: tuple[int, ...]) -> Iterable[tuple[int, int]]:
        for id, parent, token in zip(*(part.tolist() for part in needed), strict=True):
            node = self._nodes.get(id)
            if node is None:
                if parent == _ROOT:
                    node = self.backend.root(root)
                else:
                    node = self.backend.extend(self._nodes[parent], token)
                self._nodes[id] = node
            yield id, node

    def _feed(self, feeds: dict[int, list[tuple[_Target, int]]]) -> None:
        if not feeds:
            return
        for node, row in self.backend.logits(list(feeds)):
            numbers: NDArray[Any] | None = None
            half = ""
            for target, id in feeds[node]:
                if self._on_device(row) and self._sum(target, id, row):
                    continue
                if numbers is None:
                    numbers, half = _row(row)
                target.feed(id, numbers, half=half)

    def _on_device(self, row: Row) -> bool:
        """Return whether a row is summed where it is."""
        if self._sums == "host" or not hasattr(row, "detach"):
            return False
        return self._sums == "device" or row.device.type != "cpu"

    def _sum(self, target: _Target, id: int, row: Row) -> bool:
        from anyvocab.bytelm.device import DeviceSums

        if self._device is None:
            self._device = DeviceSums(self._core, row.device)
        if not self._device.feed(target, id, row):
            return False
        # A context that ends where the prefix does is wanted again when the next byte is known.
        self._device.keep(id, row)
        return True

    def _from_kept(self, target: _Target, id: int) -> bool:
        row = None if self._device is None else self._device.kept(id)
        return self._device is not None and row is not None and self._device.feed(target, id, row)

    def give_back(self) -> None:
        """Release the nodes of contexts that no prefix needs any more.

        Done after every request; to be called where prefixes end without another one.
        """
        for id in self._core.released().tolist():
            node = self._nodes.pop(id, None)
            if self._device is not None:
                self._device.drop(id)
            if node is not None:
                self.backend.release(node)


def _row(row: Row) -> tuple[NDArray[Any], str]:
    """Return a row as the core takes it: float32, or the bits of a half and its name."""
    if hasattr(row, "detach"):  # a tensor
        import torch

        row = row.detach().cpu().contiguous()
        for dtype, name in ((torch.bfloat16, "bfloat16"), (torch.float16, "float16")):
            if row.dtype == dtype:
                return row.view(torch.int16).numpy().view(np.uint16), name
        row = row.numpy()
    return np.ascontiguousarray(row, dtype=np.float32), ""
