"""The contexts of a cover model on a backend: who is asked for what, and what is given back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from anyvocab import _core
    from anyvocab.backends import Row, TokenBackend

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
        rounds: Whether what is wanted depends on what was found (the marginal law).
    """

    def __init__(self, core: _core.CoverModel, backend: TokenBackend, *, rounds: bool) -> None:
        self._core = core
        self.backend = backend
        self._rounds = rounds
        self._nodes: dict[int, int] = {}

    def evaluate(self, jobs: Sequence[Job]) -> None:
        """Ask the model for all that is wanted, in as few passes as the backend can."""
        while True:
            feeds: dict[int, list[tuple[Callable[..., None], int]]] = {}
            for job in jobs:
                for id, node in self._wanted(job.core.needed(job.mass_only), job.root):
                    feeds.setdefault(node, []).append((job.core.feed, id))
            if not feeds:
                break
            self._feed(feeds)
            if not self._rounds:
                break
        self._give_back()

    def sweep(self, sweep: _core.Sweep, root: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the distributions of all positions, float64[n + 1, 257]."""
        feeds = {node: [(sweep.feed, id)] for id, node in self._wanted(sweep.needed(), root)}
        self._feed(feeds)
        result = sweep.logprobs()
        self._give_back()
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

    def _feed(self, feeds: dict[int, list[tuple[Callable[..., None], int]]]) -> None:
        for node, row in self.backend.logits(list(feeds)):
            numbers, half = _row(row)
            for feed, id in feeds[node]:
                feed(id, numbers, half=half)

    def _give_back(self) -> None:
        for id in self._core.released().tolist():
            node = self._nodes.pop(id, None)
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
