"""What a step's loss is: a batch through the network and the frozen model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from anyvocab.hypernet.losses import IGNORED, lexical, linear_cross_entropy
from anyvocab.hypernet.rows import Rows, SourceRows

if TYPE_CHECKING:
    from anyvocab.hypernet.batches import Batch, Controls
    from anyvocab.hypernet.body import Body

__all__ = ["Loss", "Table", "objective", "table_of"]

Predict = Callable[["Batch"], Rows]


@dataclass(frozen=True, eq=False)
class Table:
    """The vocabulary of one step: predicted rows, then the source's rows of control tokens.

    Attributes:
        input: (M + C, D).
        head: (M + C, D).
        bias: (M + C,), or None.
    """

    input: Tensor
    head: Tensor
    bias: Tensor | None


@dataclass(frozen=True, eq=False)
class Loss:
    """A batch's loss and its parts.

    Attributes:
        total: What is minimised, with its gradient.
        nats: Summed cross-entropy of all targets.
        lexical: See :func:`anyvocab.hypernet.losses.lexical`, averaged over the sides.
    """

    total: Tensor
    nats: Tensor
    lexical: Tensor


def table_of(rows: Rows, source: SourceRows, controls: Controls) -> Table:
    """Return predicted rows with the rows of control tokens behind them."""
    ids = torch.tensor(controls.ids, dtype=torch.long, device=source.input.device)
    added = [matrix[ids].float() for matrix in source.sides]
    read = torch.cat((rows.input, added[0]))  # (M + C, D)
    head = read if rows.output is None else torch.cat((rows.output, added[-1]))
    bias = rows.bias
    if bias is not None and source.bias is not None:
        bias = torch.cat((bias, source.bias[ids].float()))
    return Table(read, head, bias)


def objective(
    batch: Batch,
    predict: Predict,
    body: Body,
    controls: Controls,
    *,
    lexical_weight: float,
    scored: int | None = None,
    extra: Callable[[Table, Tensor], Tensor] | None = None,
) -> Loss:
    """Return the loss of a batch.

    Args:
        batch: The texts and the rows they need.
        predict: The network.
        body: The frozen model.
        controls: Control tokens of the texts.
        lexical_weight: What the distance from the source's rows weighs.
        scored: Targets that the cross-entropy is averaged over; the batch's when left out.
        extra: Adds to the loss, given the table and the final states (B, T, D).
    """
    rows = predict(batch)
    table = table_of(rows, body.rows, controls)
    kind = body.rows.input.dtype
    embedded = embedding(batch.inputs, table.input).to(kind)  # (B, T, D)
    states = body.states(embedded, batch.mask if body.kind == "masked" else None)  # (B, T, D)
    flat, targets = states.flatten(0, 1), batch.targets.flatten()
    if body.kind == "masked":  # most positions are not scored
        wanted = targets != IGNORED
        flat, targets = flat[wanted], targets[wanted]
    nats = linear_cross_entropy(
        flat,
        table.head,
        targets,
        bias=table.bias,
        offset=batch.offset,
        shape=body.shape(),
    )
    total = nats / max(1, batch.scored if scored is None else scored)
    apart = _lexical(batch, rows, body.rows)
    if lexical_weight and len(batch.anchors):
        total = total + lexical_weight * apart
    if extra is not None:
        total = total + extra(table, states)
    return Loss(total, nats.detach(), apart.detach())


def _lexical(batch: Batch, rows: Rows, source: SourceRows) -> Tensor:
    if not len(batch.anchors):
        return rows.input.new_zeros(())
    sides: list[tuple[Any, Tensor]] = [(rows.input, source.input)]
    if rows.output is not None:
        sides.append((rows.output, source.sides[-1]))
    parts = [lexical(made[batch.anchors], truth[batch.anchor_ids]) for made, truth in sides]
    return torch.stack(parts).mean()
