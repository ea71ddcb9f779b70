"""How every token's rows were made, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from anyvocab.transplant.files import TokenOrigin, token_origins
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.plan import Plan

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer
    from anyvocab.transplant.roles import ControlMap

__all__ = ["origin_lines", "token_origins_of"]

SHOWN = 16  # source rows of a combination; the plan's file has them all


def token_origins_of(controls: ControlMap, plan: Plan, size: int) -> Iterator[TokenOrigin]:
    """Yield the origin of every target id, ascending."""
    names = [origin.name.lower() for origin in Origin]
    origins = plan.input.origin.tolist()
    first = plan.input.heaviest(SHOWN)
    second = None if plan.output is None else plan.output.heaviest(SHOWN)
    for id in range(size):
        reason = controls[id].reason if id in controls else ""
        output = () if second is None else second[id]
        yield TokenOrigin(id, names[origins[id]], first[id], output, reason)


def origin_lines(target: Tokenizer, controls: ControlMap, plan: Plan) -> dict[str, bytes]:
    """Return JSON lines by file name: how the rows of every target id were made."""
    size = len(target.vocabulary)
    return token_origins(target, token_origins_of(controls, plan, size))
