"""Deciding on evidence what a strategy leaves open, one side after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

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

    The input side is decided first, with the plainest output; then the output side. Among equals
    the plainest wins.

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
    known: dict[tuple[int, ...], float] = {}
    place = dict.fromkeys(open_, 0)
    for side, variants in open_.items():
        for at, variant in enumerate(variants):
            context.progress(f"shared tokens, {side}", at, len(variants))
            tried = {**chosen, side: variant}
            if tied:
                tried["output"] = variant
            where = tuple((place | {side: at}).values())
            if where not in known:
                plan = build(context, strategies=tried, controls=controls, rows=rows, tied=tied)
                known[where] = score(plan)
        bits = [known[tuple((place | {side: at}).values())] for at in range(len(variants))]
        place[side] = bits.index(min(bits))
        chosen[side] = variants[place[side]]
        if tied:
            chosen["output"] = chosen["input"]
        told = ", ".join(
            f"{variant} {found:.4f}" for variant, found in zip(variants, bits, strict=True)
        )
        name = "shared tokens" if tied else f"shared tokens, {side}"
        notes.append(f"{name}: {variants[place[side]]}, by bits per byte: {told}")
    return chosen, tuple(notes)
