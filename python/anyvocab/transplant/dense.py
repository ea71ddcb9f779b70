"""Dense parts of a plan that are made when they are asked for, a few rows at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.plan import Matrix

__all__ = ["Made", "Mapped", "Predicted", "Referred"]


class Made(Protocol):
    """Rows that are made when they are taken."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def take(self, places: NDArray[np.integer[Any]]) -> Tensor:
        """Return some of the rows, float32 (n, D), in the order given."""
        ...


@runtime_checkable
class Referred(Made, Protocol):
    """Rows that a plan holds by naming what makes them."""

    def reference(self) -> Mapping[str, Any]:
        """Return what a strategy's `remade` needs to make them again, ready for JSON.

        `strategy` and `options` name the strategy; the rest is its own.
        """
        ...


@dataclass(frozen=True, eq=False)
class Mapped:
    """Rows of another matrix, mapped: `(row - before) @ weights + after`.

    A large vocabulary's rows are half a gigabyte and more; the map that makes them is a few
    megabytes, so it is what a plan holds and saves.

    Attributes:
        matrix: The donor's, width D_donor.
        ids: int64[m]: its rows.
        before: float32[D_donor].
        weights: float32[D_donor, D].
        after: float32[D].
    """

    matrix: Matrix
    ids: NDArray[np.int64]
    before: NDArray[np.float32]
    weights: NDArray[np.float32]
    after: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def take(self, places: NDArray[np.integer[Any]]) -> Tensor:
        """Return some of the rows, float32 (n, D), in the order given."""
        import torch

        rows = self.matrix.take(self.ids[places]).float()
        rows -= torch.from_numpy(self.before)
        return torch.addmm(torch.from_numpy(self.after), rows, torch.from_numpy(self.weights))


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a strategy makes of `size` tokens, where it can: dense rows.

    Attributes:
        size: How many tokens were asked for.
        places: int64[m]: which of them have a row, ascending.
        rows: m rows.
        bias: float32[m], their output biases, where the model has one and the strategy says.
    """

    size: int
    places: NDArray[np.int64]
    rows: Made
    bias: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of tokens asked for."""
        return self.size

    def has(self) -> NDArray[np.bool_]:
        """Return which tokens have a row, bool[size]."""
        made = np.zeros(self.size, dtype=np.bool_)
        made[self.places] = True
        return made

    def combine(self, matrix: Matrix) -> Tensor:
        """Return all rows, float32 (size, D), NaN where there is none."""
        import torch

        made = torch.full((self.size, matrix.width), torch.nan)
        made[torch.from_numpy(self.places)] = self.rows.take(np.arange(len(self.rows)))
        return made
