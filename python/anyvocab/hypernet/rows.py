"""What goes into a hypernetwork and what comes out: rows of vocabulary matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Rows", "SourceRows"]


@dataclass(frozen=True, eq=False)
class SourceRows:
    """The frozen matrices of the source model.

    Attributes:
        input: (V, D).
        output: (V, D); None where one matrix serves both sides.
        bias: (V,), of the output side; None where the head has none.
    """

    input: Tensor
    output: Tensor | None = None
    bias: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.input.shape[0])

    @property
    def width(self) -> int:
        """How long a row is."""
        return int(self.input.shape[1])

    @property
    def sides(self) -> tuple[Tensor, ...]:
        """The matrices: one where the sides are tied, else the input's and the output's."""
        return (self.input,) if self.output is None else (self.input, self.output)

    def to(self, *args: Any, **kwargs: Any) -> SourceRows:
        """Return them on another device or in another type."""
        return SourceRows(
            self.input.to(*args, **kwargs),
            None if self.output is None else self.output.to(*args, **kwargs),
            None if self.bias is None else self.bias.to(*args, **kwargs),
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """Predicted rows.

    Attributes:
        input: (N, D).
        output: (N, D); None where one matrix serves both sides.
        bias: (N,); None where the head has none.
    """

    input: Tensor
    output: Tensor | None = None
    bias: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.input.shape[0])

    @property
    def parts(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """All three."""
        return self.input, self.output, self.bias

    def each(self, change: Callable[[Tensor], Tensor]) -> Rows:
        """Return the rows with each part changed that is there."""
        return Rows(
            change(self.input),
            None if self.output is None else change(self.output),
            None if self.bias is None else change(self.bias),
        )

    @property
    def head(self) -> Tensor:
        """What the final hidden state is multiplied with: the output rows, else the input's."""
        return self.input if self.output is None else self.output
