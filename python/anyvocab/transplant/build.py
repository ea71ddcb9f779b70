"""From a strategy to a plan: what is copied, what a control token takes, what is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.transplant.dense import Mapped, Predicted
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.plan import Combination, Plan, Shifted, Side, SidePlan
from anyvocab.transplant.strategies import Strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.transplant.context import Context
    from anyvocab.transplant.roles import ControlMap

__all__ = ["Share", "build", "build_side", "padded_rows", "quiet_ids", "shares"]


@dataclass(frozen=True, eq=False)
class Share:
    """Which target ids are made how.

    Attributes:
        copied: Text with the bytes of a source token.
        controls: Control tokens with a counterpart.
        new: Text without one: a strategy makes their rows.
        lost: Control tokens without a counterpart.
        unused: Holes and unused tokens.
    """

    copied: NDArray[np.int64]
    controls: NDArray[np.int64]
    new: NDArray[np.int64]
    lost: NDArray[np.int64]
    unused: NDArray[np.int64]


def shares(context: Context, controls: ControlMap) -> Share:
    """Return how each target id's rows are made. Every id is in one of the five."""
    vocabulary = context.target.vocabulary
    kinds = vocabulary.kinds()
    codes = [vocabulary.kind_code(kind) for kind in ("hole", "unused")]
    unused = np.isin(kinds, codes)
    taken = np.zeros(len(vocabulary), dtype=np.bool_)
    taken[[row.id for row in controls if row.sources]] = True
    unused &= ~taken
    copied = (context.match.source_of >= 0) & ~taken & ~unused
    speaks = np.array([bool(token) for token in context.target_tokens], dtype=np.bool_)
    new = speaks & ~taken & ~unused & ~copied
    # An empty token stands for text and has no bytes: nothing can be made of it either.
    lost = ~(taken | unused | copied | new)
    return Share(*(np.flatnonzero(one) for one in (copied, taken, new, lost, unused)))


def quiet_ids(context: Context, controls: ControlMap, *, tied: bool) -> NDArray[np.int64]:
    """Return target ids whose output row would repeat another's, ascending.

    Equal output rows have equal probabilities, so a byte-fallback token beside the same byte as
    text would take half of its mass, and a begin token half of the end's. The token that the
    tokenizer writes keeps the row. Where one matrix serves both sides only tokens that no text
    makes are quieted, since the others are read.

    Args:
        context: What is known.
        controls: What control tokens take.
        tied: Whether one matrix serves both sides.
    """
    vocabulary = context.target.vocabulary
    kinds, byte_code = vocabulary.kinds(), vocabulary.kind_code("byte")
    quiet: list[int] = [] if tied else list(controls.echoes())
    takers: dict[int, list[int]] = {}
    for id in context.match.matched().tolist():
        takers.setdefault(int(context.match.source_of[id]), []).append(id)
    for ids in takers.values():
        if len(ids) == 1:
            continue
        order = vocabulary.ids_of(context.target_tokens[ids[0]] or b"").tolist()
        keeper = min(ids, key=order.index)  # what the tokenizer writes comes first
        quiet += [id for id in ids if id != keeper and (not tied or kinds[id] == byte_code)]
    return np.unique(np.array(quiet, dtype=np.int64))


def padded_rows(size: int, multiple: int) -> int:
    """Return the rows of a matrix for `size` ids: the next multiple.

    Raises:
        InvalidValue: `multiple` is not positive.
    """
    if multiple < 1:
        raise errors.build(
            errors.InvalidValue,
            f"must be at least 1, got {multiple}",
            field="pad_multiple",
            fix="1 adds no rows; 64 or 128 suit GPUs",
        )
    return -(-size // multiple) * multiple


def build_side(
    context: Context,
    side: Side,
    strategy: Strategy,
    *,
    controls: ControlMap,
    rows: int,
    tied: bool = False,
) -> SidePlan:
    """Return the plan of one side.

    Copied rows stay bit for bit. A control token that takes a sequence has its last row on the
    input side, because that is what the model read last, and its first on the output side, where
    the sequence begins. What no strategy can make, control tokens without a counterpart, padding
    and what must be quiet are the mean of the rows that are copied: as an output row it gives a
    probability of at most one in their number, since exp is convex.

    Args:
        context: What is known.
        side: Which matrix.
        strategy: What makes the rows of new text tokens.
        controls: What the rows of control tokens are taken from.
        rows: Rows of the new matrix, at least the number of target ids.
        tied: Whether the matrix serves both sides.
    """
    share = shares(context, controls)
    origin = np.full(rows, Origin.UNUSED, dtype=np.uint8)
    origin[share.copied] = Origin.COPIED
    origin[share.lost] = Origin.FALLBACK
    taken: list[int] = []
    for id in share.controls.tolist():
        row = controls[id]
        sequence = row.sources if tied else row.sources_on(side)
        taken.append(sequence[-1] if side == "input" else sequence[0])
        origin[id] = Origin.MAPPED if row.rule == "override" else Origin.ROLE
    parts = [
        (share.copied, Combination.single(context.match.source_of[share.copied])),
        (share.controls, Combination.single(taken)),
    ]
    empty = share.new[:0]
    dense_ids = empty
    dense_rows: NDArray[np.float32] | Mapped = np.zeros(
        (0, context.matrices[side].width), np.float32
    )
    fallen = share.new
    directions = amounts = None
    if len(share.new):
        made = strategy.rows(context, side, share.new)
        if isinstance(made, Shifted):
            directions = made.directions
            amounts = np.zeros((rows, len(directions)), dtype=np.float32)
            amounts[share.new] = made.amounts
            made = made.combination
        if isinstance(made, Combination):
            has = made.lengths() > 0
            parts.append((share.new[has], made.select(np.flatnonzero(has))))
            origin[share.new[has]] = Origin.COMPOSED
        elif isinstance(made, Predicted):
            has = made.has()
            dense_ids, dense_rows = share.new[has], made.rows
            origin[share.new[has]] = Origin.PREDICTED
        else:
            numbers = np.ascontiguousarray(made.detach().float().cpu().numpy())
            has = ~np.isnan(numbers).all(axis=1)
            dense_ids, dense_rows = share.new[has], numbers if has.all() else numbers[has]
            origin[share.new[has]] = Origin.PREDICTED
        fallen = share.new[~has]
        if amounts is not None:
            amounts[fallen] = 0.0
        origin[fallen] = Origin.FALLBACK
    if side == "output" or tied:
        quiet = quiet_ids(context, controls, tied=tied)
        origin[quiet] = Origin.QUIET
        parts.append((quiet, Combination.empty(len(quiet))))
    silent = np.flatnonzero((origin == Origin.UNUSED) | (origin == Origin.QUIET))
    plain = np.concatenate((fallen, share.lost, silent))
    if len(plain):
        kept = share.copied[origin[share.copied] == Origin.COPIED]
        mean = _mean_row(context, side, context.match.source_of[kept])
        once = np.zeros((rows, 1), dtype=np.float32)
        once[plain] = 1.0
        # A direction, not rows: dense rows of a large vocabulary are not copied for a few more.
        if directions is None or amounts is None:
            directions, amounts = mean[None], once
        else:
            directions = np.concatenate((directions, mean[None]))
            amounts = np.concatenate((amounts, once), axis=1)
    return SidePlan(
        origin,
        Combination.scattered(rows, parts),
        dense_ids.astype(np.int64),
        dense_rows,
        directions=directions,
        amounts=amounts,
    )


def build(
    context: Context,
    *,
    strategies: Mapping[Side, Strategy],
    controls: ControlMap,
    rows: int,
    tied: bool,
) -> Plan:
    """Return the plan of both sides; of the input side alone where one matrix shall serve both.

    Args:
        context: What is known.
        strategies: Side to strategy; the output's is not used when `tied`.
        controls: What the rows of control tokens are taken from.
        rows: Rows of the new matrices.
        tied: Whether the new model's matrices are one.
    """
    given = strategies["input"]
    first = build_side(context, "input", given, controls=controls, rows=rows, tied=tied)
    if tied:
        return Plan(first, None)
    last = strategies["output"]
    return Plan(first, build_side(context, "output", last, controls=controls, rows=rows))


def _mean_row(context: Context, side: Side, sources: NDArray[np.integer]) -> NDArray[np.float32]:
    from anyvocab.transplant.strategies.baselines import mean_row

    row: NDArray[np.float32] = (
        mean_row(context, side, np.unique(sources) if len(sources) else None).float().numpy()
    )
    return row
