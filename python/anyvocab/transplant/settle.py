"""Deciding on evidence what a strategy leaves open, both sides together and then each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from anyvocab.transplant.build import build
from anyvocab.transplant.plan import SIDES, Plan, Side
from anyvocab.transplant.strategies import Strategy, Undecided

if TYPE_CHECKING:
    from anyvocab.transplant.context import Context
    from anyvocab.transplant.roles import ControlMap

__all__ = ["settle"]


def settle(
    context: Context,
    strategies: Mapping[Side, Strategy],
    *,
    controls: ControlMap,
    rows: int,
    tied: bool,
    score: Callable[[Plan], float] | None,
    asked: bool = True,
) -> tuple[dict[Side, Strategy], tuple[str, ...]]:
    """Return strategies with nothing left to decide, and why, in words.

    Where both sides are open, what suits them together is tried first; from the best of that the
    input side is decided, then the output side. Among equals the plainest wins.

    Args:
        context: What is known.
        strategies: Side to strategy.
        controls: What control tokens take.
        rows: Rows of the new matrices.
        tied: Whether one matrix serves both sides: then the input's strategy is decided alone.
        score: Bits per byte of the model with a plan's rows; None where it is not run or there is
            no text.
        asked: Whether the caller named the strategies: then they may settle without text what they
            leave open; one that was chosen for the caller is taken at its plainest.
    """
    chosen, notes = dict(strategies), []
    sides: tuple[Side, ...] = ("input",) if tied else SIDES
    open_: dict[Side, tuple[Strategy, ...]] = {}
    for side in sides:
        found = chosen[side]
        if not isinstance(found, Undecided):
            continue
        variants = tuple(found.variants(context, side, tied=tied))
        if len(variants) == 1 or (score is None and not asked):
            chosen[side] = variants[0]
        elif score is None:
            chosen[side], why = found.untried(context, side, tied=tied)
            notes.append(f"{side}: {why}" if not tied else why)
        else:
            open_[side], chosen[side] = variants, variants[0]
    if tied:
        chosen["output"] = chosen["input"]
    if score is None:
        return chosen, tuple(notes)
    tries = _Tries(context, chosen, open_, score, controls=controls, rows=rows, tied=tied)
    place = dict.fromkeys(open_, 0)
    counts = {len(variants) for variants in open_.values()}
    if len(open_) > 1 and len(counts) == 1:
        # Sides that fit each other: what is best on one may show only with the other changed, too.
        together = [tries.bits(dict.fromkeys(open_, at)) for at in range(counts.pop())]
        place = dict.fromkeys(open_, together.index(min(together)))
    for side, variants in open_.items():
        bits = [tries.bits({**place, side: at}) for at in range(len(variants))]
        place[side] = bits.index(min(bits))
        told = ", ".join(
            f"{variant} {found:.4f}" for variant, found in zip(variants, bits, strict=True)
        )
        name = "shared tokens" if tied else f"shared tokens, {side}"
        notes.append(f"{name}: {variants[place[side]]}, by bits per byte: {told}")
    return tries.at(place), tuple(notes)


class _Tries:
    """Bits per byte of choices, each tried once."""

    def __init__(
        self,
        context: Context,
        chosen: Mapping[Side, Strategy],
        variants: Mapping[Side, tuple[Strategy, ...]],
        score: Callable[[Plan], float],
        **layout: Any,
    ) -> None:
        self._context, self._chosen, self._variants = context, chosen, variants
        self._score, self._layout = score, layout
        self._known: dict[tuple[int, ...], float] = {}
        sizes = [len(one) for one in variants.values()]
        self._most = sum(sizes) + (max(sizes) - len(sizes) if len(sizes) > 1 else 0)

    def at(self, place: Mapping[Side, int]) -> dict[Side, Strategy]:
        """Return the strategies of a choice."""
        found = dict(self._chosen)
        for side, at in place.items():
            found[side] = self._variants[side][at]
        if self._layout["tied"]:
            found["output"] = found["input"]
        return found

    def bits(self, place: Mapping[Side, int]) -> float:
        """Return the bits per byte of a choice."""
        where = tuple(place[side] for side in self._variants)
        if where not in self._known:
            self._context.progress("shared tokens", len(self._known), self._most)
            plan = build(self._context, strategies=self.at(place), **self._layout)
            self._known[where] = self._score(plan)
        return self._known[where]
