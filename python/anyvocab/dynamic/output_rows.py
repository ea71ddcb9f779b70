"""An output matrix in several parts, and what a model makes of its products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from anyvocab import errors
from anyvocab._torch import import_torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OutputRows"]

_Values = TypeVar("_Values")
AT_ONCE = 1 << 22  # numbers in float64 that rows are computed in at once


class OutputRows:
    """Output rows, one part below the other, and how logits are made of them.

    The parts are not copied: the rows of a vocabulary of a million lie behind those of the model.

    Attributes:
        parts: Tensors (V_i, D), of float32, bfloat16 or float16, on one device.
        bias: One tensor (V_i,) for each part, float32; None where the head has none.
        scale: What the model multiplies its logits by.
        cap: Its logits are `cap * tanh(logits / cap)`; None: they are not.

    Raises:
        InvalidValue: There is no row, parts do not fit one another, or `scale` or `cap` is not a
            positive number.
    """

    def __init__(
        self,
        parts: Any,
        bias: Any = None,
        *,
        scale: float = 1.0,
        cap: float | None = None,
    ) -> None:
        torch = import_torch()
        single = isinstance(parts, torch.Tensor)
        self.parts: list[Any] = [parts] if single else list(parts)
        biases = [bias] if isinstance(bias, torch.Tensor) else bias
        self.bias: list[Any] | None = None if biases is None else [one.float() for one in biases]
        self.scale, self.cap = scale, cap
        self._check()
        self._starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def _check(self) -> None:
        shapes = [tuple(part.shape) for part in self.parts]
        problem = None
        if any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
            problem = f"parts of the shapes {', '.join(map(str, shapes))} make no matrix"
        elif not sum(shape[0] for shape in shapes) or not shapes[0][1]:
            problem = "there is no row"
        elif any(not part.is_floating_point() for part in self.parts):
            problem = "rows are floating-point numbers"
        elif len({part.device for part in self.parts}) > 1:
            problem = "all parts belong on one device"
        elif self.bias is not None and [tuple(one.shape) for one in self.bias] != [
            shape[:1] for shape in shapes
        ]:
            problem = "a bias has one number for each row of its part"
        if problem is not None:
            raise errors.build(
                errors.InvalidValue,
                problem,
                field="rows",
                fix="give tensors of the shape (rows, width)",
            )
        for name, value in (("scale", self.scale), ("cap", self.cap)):
            if value is not None and not 0 < value < np.inf:
                raise errors.build(
                    errors.InvalidValue, f"must be a positive number, got {value}", field=name
                )

    def __len__(self) -> int:
        """Return the number of rows of all parts."""
        return int(self._starts[-1])

    @property
    def width(self) -> int:
        """How long a row is."""
        return int(self.parts[0].shape[1])

    @property
    def device(self) -> Any:
        """Where the rows are."""
        return self.parts[0].device

    def blocks(self, size: int) -> Iterator[tuple[int, Any, Any]]:
        """Yield the first id, the rows and the bias (or None) of blocks of at most `size` rows."""
        for number, (part, start) in enumerate(
            zip(self.parts, self._starts.tolist(), strict=False)
        ):
            for at in range(0, len(part), size):
                bias = None if self.bias is None else self.bias[number][at : at + size]
                yield start + at, part[at : at + size], bias

    def checked(self, states: Any) -> Any:
        """Return states as float32 (B, D), where the rows are.

        Raises:
            InvalidValue: They have another shape.
            NumericsError: A number is not finite.
        """
        torch = import_torch()
        if states.ndim != 2 or states.shape[1] != self.width:
            raise errors.build(
                errors.InvalidValue,
                f"must have the shape (B, {self.width}), got {tuple(states.shape)}",
                field="states",
                fix="give final hidden states, one a line",
            )
        given = states.detach().to(self.device, torch.float32)
        if not bool(torch.isfinite(given).all()):
            raise errors.build(
                errors.NumericsError,
                "a state holds a NaN or an infinity",
                field="states",
                fix="load the model in float32, and check its weights",
            )
        return given

    def take(self, ids: NDArray[np.int64]) -> Any:
        """Return the rows of `ids`, ascending, as float32 (n, D), where the rows are."""
        torch = import_torch()
        found = torch.empty((len(ids), self.width), device=self.device)
        for part, at, inside in self._split(ids):
            found[at] = self.parts[part][inside].float()
        return found

    def _split(self, ids: NDArray[np.int64]) -> Iterator[tuple[int, Any, Any]]:
        """Yield for each part that has some of `ids`: its number, their places, where they are."""
        torch = import_torch()
        of = np.searchsorted(self._starts, ids, side="right") - 1
        for part in np.unique(of).tolist():
            at = np.flatnonzero(of == part)
            inside = torch.from_numpy(ids[at] - self._starts[part]).to(self.device)
            yield part, torch.from_numpy(at).to(self.device), inside

    def products(self, ids: NDArray[np.int64], state: Any) -> NDArray[np.float64]:
        """Return `row . state + bias` of some rows in float64, (n,).

        Each is summed by itself in one order: equal rows give equal numbers wherever they stand.

        Args:
            ids: int64 (n,).
            state: (D,), or one for each id, (n, D).
        """
        found = np.empty(len(ids), dtype=np.float64)
        given = state.cpu().double().numpy()
        step = max(1, AT_ONCE // self.width)
        for start in range(0, len(ids), step):
            some = slice(start, start + step)
            rows = self.take(ids[some]).cpu().double().numpy()
            rows *= given if given.ndim == 1 else given[some]
            rows.sum(axis=1, out=found[some])
        if self.bias is not None:
            found += self.bias_of(ids)
        return found

    def bias_of(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the bias of some rows, float32 (n,); zeros where the head has none."""
        found = np.zeros(len(ids), dtype=np.float32)
        if self.bias is not None:
            for part, at, inside in self._split(ids):
                found[at.cpu().numpy()] = self.bias[part][inside].cpu().numpy()
        return found

    def logits(self, ids: NDArray[np.int64], state: Any) -> NDArray[np.float64]:
        """Return the logits of some rows in float64, (n,); arguments as for `products`."""
        return self.shaped(self.products(ids, state))

    def shaped(self, products: _Values) -> _Values:
        """Return products as the model's logits: an array or a tensor, as it comes."""
        values: Any = products
        if self.scale != 1.0:
            values = values * self.scale
        if self.cap is not None:
            tanh = np.tanh if isinstance(values, np.ndarray) else import_torch().tanh
            values = self.cap * tanh(values / self.cap)
        made: _Values = values
        return made
