"""Strategies: ways to make the rows of tokens that the source model does not have.

A strategy is a frozen dataclass whose fields are its options. It registers itself under a name;
every module of this package is imported when strategies are first asked for, so adding one is
adding a file. Packages can bring more through the entry point group `anyvocab.strategies`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from anyvocab import errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.transplant.context import Context
    from anyvocab.transplant.dense import Made, Predicted
    from anyvocab.transplant.plan import Combination, Shifted, Side

__all__ = [
    "ENTRY_POINTS",
    "Need",
    "Remaking",
    "Strategy",
    "TakesShared",
    "Undecided",
    "make",
    "names",
    "needs_of",
    "options_of",
    "shared_part",
    "strategy",
]

Need = Literal["donor", "corpus", "encoder", "model", "hypernet", "family"]
ENTRY_POINTS = "anyvocab.strategies"


class Strategy(Protocol):
    """Makes rows."""

    def rows(
        self, context: Context, side: Side, ids: NDArray[np.int64]
    ) -> Combination | Shifted | Predicted | Tensor:
        """Return the rows of target ids of one side.

        Args:
            context: What is known.
            side: Which matrix the rows are for.
            ids: Target ids, ascending; none of them stands for nothing.

        Returns:
            A combination of source rows with a row for each id, with multiples of directions added
            or not; or the rows themselves, float32 (n, D), or what makes them. An empty row, or one
            of NaN, means: this strategy has none, and the caller falls back to the mean row.
        """
        ...


@runtime_checkable
class TakesShared(Strategy, Protocol):
    """A strategy that makes rows of shared text tokens, too, where others copy them."""

    def shared_part(self, side: Side) -> float:
        """Return the part of a shared token's row that is the strategy's, 0 to 1.

        The rest is the source's row; 0 copies it bit for bit.
        """
        ...


@runtime_checkable
class Undecided(Strategy, Protocol):
    """A strategy that leaves something to be decided on evidence, side by side."""

    def variants(self, context: Context, side: Side, *, tied: bool) -> Sequence[Strategy]:
        """Return what to choose from, the plainest first; one where nothing is left to decide."""
        ...

    def untried(self, context: Context, side: Side, *, tied: bool) -> tuple[Strategy, str]:
        """Return what to take where no text can be scored, and why, in words."""
        ...


@runtime_checkable
class Remaking(Strategy, Protocol):
    """A strategy whose rows a plan holds by reference (see :class:`..dense.Referred`)."""

    def remade(
        self, context: Context, side: Side, ids: NDArray[np.int64], reference: Mapping[str, Any]
    ) -> Made:
        """Return the rows of a saved plan again.

        Raises:
            InvalidValue: What made them is gone, or has changed.
        """
        ...


def shared_part(strategy: Strategy, side: Side) -> float:
    """Return the part of a shared token's row that a strategy makes; 0 where it copies them."""
    part = strategy.shared_part(side) if isinstance(strategy, TakesShared) else 0.0
    if not 0.0 <= part <= 1.0:
        raise errors.build(errors.InvalidValue, f"must be in [0, 1], got {part}", field="share")
    return part


@dataclasses.dataclass(frozen=True)
class _Entry:
    factory: type[Any]
    needs: tuple[Need, ...] | Callable[[Any], tuple[Need, ...]]
    summary: str


_REGISTRY: dict[str, _Entry] = {}
_Class = TypeVar("_Class", bound=type[Any])


def strategy(
    name: str, *, needs: tuple[Need, ...] | Callable[[Any], tuple[Need, ...]] = ()
) -> Callable[[_Class], _Class]:
    """Register a frozen dataclass as the strategy `name`.

    Args:
        name: As users write it.
        needs: What the context must hold; a function of the strategy where its options decide.
    """

    def register(factory: _Class) -> _Class:
        summary = (factory.__doc__ or "").strip().partition("\n")[0]
        _REGISTRY[name] = _Entry(factory, needs, summary)
        return factory

    return register


@cache
def _loaded() -> Mapping[str, _Entry]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    for point in entry_points(group=ENTRY_POINTS):
        point.load()
    return _REGISTRY


def names() -> dict[str, str]:
    """Return the name of every strategy and what it does, in a line, by name."""
    return {name: entry.summary for name, entry in sorted(_loaded().items())}


def needs_of(name: str, options: Mapping[str, Any] | None = None) -> frozenset[Need]:
    """Return what a strategy with these options needs of its context.

    Raises:
        InvalidValue: There is no such strategy or option.
    """
    needs = _entry(name).needs
    return frozenset(needs(make(name, options)) if callable(needs) else needs)


def options_of(name: str) -> dict[str, Any]:
    """Return a strategy's options with their defaults.

    Raises:
        InvalidValue: There is no such strategy.
    """
    fields = dataclasses.fields(_entry(name).factory)
    return {one.name: one.default for one in fields}


def make(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """Return the strategy `name` with its options set.

    Raises:
        InvalidValue: There is no such strategy or option, or a value is out of its range.
    """
    entry = _entry(name)
    known = options_of(name)
    for key in options or {}:
        if key not in known:
            raise errors.build(
                errors.InvalidValue,
                f"{name} has no option {key!r}",
                field="options",
                fix=f"its options are {', '.join(known) or 'none'}",
            )
    made: Strategy = entry.factory(**dict(options or {}))
    return made


def _entry(name: str) -> _Entry:
    entry = _loaded().get(name)
    if entry is None:
        raise errors.build(
            errors.InvalidValue,
            f"{name!r} is no strategy",
            field="strategy",
            fix=f"strategies are {', '.join(sorted(_loaded()))}",
        )
    return entry
