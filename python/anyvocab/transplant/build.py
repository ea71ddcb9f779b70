"""From a strategy to a plan: what is copied, what a control token takes, what is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors
from anyvocab.transplant.dense import Made, Predicted
from anyvocab.transplant.identity import Origin
from anyvocab.transplant.plan import Combination, Plan, Shifted, Side, SidePlan, apply
from anyvocab.transplant.strategies import Strategy, shared_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.transplant.context import Context
    from anyvocab.transplant.roles import ControlMap

BLOCK = 4096  # rows that are made at once for their mean

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

    Copied rows stay bit for bit; a strategy may make rows of shared text tokens, too, wholly or in
    part (:class:`anyvocab.transplant.strategies.TakesShared`): these are no copies any more. A
    control token that takes a sequence has its last row on the input side, because that is what
    the model read last, and its first on the output side, where the sequence begins. What no
    strategy can make, control tokens without a counterpart, padding and what must be quiet are the
    mean of the rows of shared tokens: as an output row it gives a probability of at most one in
    their number, since exp is convex.

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
    quiet = share.new[:0]
    if side == "output" or tied:
        quiet = quiet_ids(context, controls, tied=tied)
    part = shared_part(strategy, side)
    remade = _shared_text(context, share, quiet) if part else share.new[:0]
    asked = np.union1d(share.new, remade)
    made = _Rows.of(context, side, strategy, asked, rows)
    parts += made.parts
    origin[made.ids] = made.origin
    fallen = np.setdiff1d(share.new, made.ids)
    origin[fallen] = Origin.FALLBACK
    remade = np.intersect1d(remade, made.ids)  # what it cannot make stays a copy
    scale = None
    if part < 1.0 and len(remade):
        copies = Combination.single(context.match.source_of[remade])
        if made.origin == Origin.COMPOSED:
            parts.append((remade, copies.blend(made.combination.select(remade), part)))
            if made.amounts is not None:
                made.amounts[remade] *= part
        else:  # part * ((1 - part) / part * copy + dense row): dense rows are not touched
            parts.append((remade, copies.scaled((1.0 - part) / part)))
            scale = np.ones(rows, dtype=np.float32)
            scale[remade] = part
    parts.append((quiet, Combination.empty(len(quiet))))
    origin[quiet] = Origin.QUIET
    directions, amounts = made.directions, made.amounts
    plan = SidePlan(
        origin,
        Combination.scattered(rows, parts),
        made.dense_ids,
        made.dense_rows,
        scale=scale,
        directions=directions,
        amounts=amounts,
    )
    if (side == "output" or tied) and context.bias is not None and made.bias is not None:
        plan = replace(plan, bias=_bias(context, plan, made, remade, part))
    silent = np.flatnonzero((origin == Origin.UNUSED) | (origin == Origin.QUIET))
    plain = np.concatenate((fallen, share.lost, silent))
    if not len(plain):
        return plan
    shared = share.copied[origin[share.copied] != Origin.QUIET]
    mean = _mean_row(context, side, plan, shared, remade)
    once = np.zeros((rows, 1), dtype=np.float32)
    once[plain] = 1.0
    # A direction, not rows: dense rows of a large vocabulary are not copied for a few more.
    if directions is None or amounts is None:
        return replace(plan, directions=mean[None], amounts=once)
    return replace(
        plan,
        directions=np.concatenate((directions, mean[None])),
        amounts=np.concatenate((amounts, once), axis=1),
    )


@dataclass(eq=False)
class _Rows:
    """What a strategy made of the ids that it was asked for.

    Attributes:
        ids: int64[m]: those that it has a row for, ascending.
        origin: How they are made.
        combination: R rows; those of `ids` where they are combinations.
        parts: The same for :meth:`Combination.scattered`.
        dense_ids: int64: rows with a dense part, ascending.
        dense_rows: The dense parts.
        directions: float32[r, D], or None.
        amounts: float32[R, r], or None.
        bias: float32[m], or None.
    """

    ids: NDArray[np.int64]
    origin: Origin
    combination: Combination
    parts: list[tuple[NDArray[np.int64], Combination]]
    dense_ids: NDArray[np.int64]
    dense_rows: NDArray[np.float32] | Made
    directions: NDArray[np.float32] | None = None
    amounts: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls, context: Context, side: Side, strategy: Strategy, asked: NDArray[np.int64], rows: int
    ) -> _Rows:
        none = asked[:0].astype(np.int64)
        nothing = np.zeros((0, context.matrices[side].width), np.float32)
        plain = Combination.empty(rows)
        if not len(asked):
            return cls(none, Origin.COMPOSED, plain, [], none, nothing)
        made = strategy.rows(context, side, asked)
        directions = amounts = None
        if isinstance(made, Shifted):
            directions = made.directions
            amounts = np.zeros((rows, len(directions)), dtype=np.float32)
            has = made.lengths() > 0
            amounts[asked[has]] = made.amounts[has]
            made = made.combination
        if isinstance(made, Combination):
            has = made.lengths() > 0
            ids = asked[has]
            parts = [(ids, made.select(np.flatnonzero(has)))]
            whole = Combination.scattered(rows, parts)
            return cls(ids, Origin.COMPOSED, whole, parts, none, nothing, directions, amounts)
        dense: NDArray[np.float32] | Made
        bias = None
        if isinstance(made, Predicted):
            has, dense, bias = made.has(), made.rows, made.bias
        else:
            numbers = np.ascontiguousarray(made.detach().float().cpu().numpy())
            has = ~np.isnan(numbers).all(axis=1)
            dense = numbers if has.all() else numbers[has]
        ids = asked[has].astype(np.int64)
        # A dense row is all of its row: a shared token's copy goes.
        parts = [(ids, Combination.empty(len(ids)))]
        return cls(ids, Origin.PREDICTED, plain, parts, ids, dense, bias=bias)


def _shared_text(context: Context, share: Share, quiet: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return shared tokens of text, ascending: byte-fallback tokens keep the rows they have."""
    vocabulary = context.target.vocabulary
    kinds = vocabulary.kinds()[share.copied]
    text = share.copied[kinds != vocabulary.kind_code("byte")]
    return np.setdiff1d(text, quiet)


def _bias(
    context: Context, plan: SidePlan, made: _Rows, remade: NDArray[np.int64], part: float
) -> NDArray[np.float32]:
    """Return what is added to the plain output bias so that it is what the strategy says."""
    from anyvocab.transplant.trial import plain_bias

    if context.bias is None or made.bias is None:
        return np.zeros(len(plan), dtype=np.float32)
    old = context.bias.chunk(0, context.bias.rows).float().reshape(-1).numpy()
    wanted = made.bias.astype(np.float64)
    mixed = np.isin(made.ids, remade)
    own = old[context.match.source_of[made.ids[mixed]]]
    wanted[mixed] = part * wanted[mixed] + (1.0 - part) * own
    found = np.zeros(len(plan), dtype=np.float32)
    found[made.ids] = wanted - plain_bias(plan, old)[made.ids]
    return found


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


def _mean_row(
    context: Context,
    side: Side,
    plan: SidePlan,
    shared: NDArray[np.int64],
    remade: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the mean of the rows of shared tokens, as the plan has them."""
    from anyvocab.transplant.strategies.baselines import mean_row

    if len(remade):
        matrix, total = context.matrices[side], np.zeros(context.matrices[side].width)
        for start in range(0, len(remade), BLOCK):
            some = plan.select(remade[start : start + BLOCK])
            for rows in apply(some, matrix):
                total += rows.double().sum(dim=0).numpy()
        return (total / len(remade)).astype(np.float32)
    sources = context.match.source_of[shared]
    row: NDArray[np.float32] = (
        mean_row(context, side, np.unique(sources) if len(sources) else None).float().numpy()
    )
    return row
