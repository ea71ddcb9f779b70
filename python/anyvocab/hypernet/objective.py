"""What a step's loss is: texts through the rows and the model, and rows against known rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding

from anyvocab.hypernet.losses import IGNORED, lexical, linear_cross_entropy, linear_logprobs
from anyvocab.hypernet.rows import Rows, SourceRows

if TYPE_CHECKING:
    from anyvocab.hypernet.batches import Batch, Controls
    from anyvocab.hypernet.body import Body

__all__ = [
    "Loss",
    "Table",
    "anchored",
    "distance",
    "lexical_of",
    "objective",
    "table_of",
    "texts_of",
]

Divergence = Callable[[Tensor, Tensor], Tensor]


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
    """What some texts cost.

    Attributes:
        nats: Summed cross-entropy of all targets, with its gradient.
        apart: What the divergence gives, with its gradient; None without one.
    """

    nats: Tensor
    apart: Tensor | None


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


def texts_of(batch: Batch, places: Sequence[int]) -> Batch:
    """Return a batch of some of the texts; a number past the last is a text without targets."""
    real = [one for one in places if one < len(batch.inputs)]
    added = len(places) - len(real)
    parts = [batch.inputs[real], batch.mask[real], batch.targets[real]]
    if added:
        for at, fill in enumerate((0, True, IGNORED)):
            rows = parts[at].new_full((added, batch.inputs.shape[1]), fill)
            parts[at] = torch.cat((parts[at], rows))
    return replace(batch, inputs=parts[0], mask=parts[1], targets=parts[2])


def objective(
    batch: Batch,
    rows: Rows,
    body: Body,
    controls: Controls,
    *,
    divergence: Divergence | None = None,
) -> Loss:
    """Return what the texts of a batch cost.

    Args:
        batch: The texts.
        rows: The rows of the step's tokens.
        body: The model.
        controls: Control tokens of the texts.
        divergence: Given the log-probabilities of all scored targets, (n,), and where they are,
            bool (B, T), makes something else of them.
    """
    table = table_of(rows, body.rows, controls)
    kind = body.rows.input.dtype
    embedded = embedding(batch.inputs, table.input).to(kind)  # (B, T, D)
    states = body.states(embedded, batch.mask if body.kind == "masked" else None)  # (B, T, D)
    wanted = batch.targets != IGNORED  # (B, T)
    if divergence is None:
        flat, target = states.flatten(0, 1), batch.targets.flatten()
        if body.kind == "masked":  # most positions are not scored
            flat, target = states[wanted], batch.targets[wanted]
        nats = linear_cross_entropy(
            flat,
            table.head,
            target,
            bias=table.bias,
            offset=batch.offset,
            shape=body.shape(),
        )
        return Loss(nats, None)
    logprobs = linear_logprobs(
        states[wanted],
        table.head,
        batch.targets[wanted],
        bias=table.bias,
        offset=batch.offset,
        shape=body.shape(),
    )
    return Loss(-logprobs.sum(), divergence(logprobs, wanted))


def lexical_of(batch: Batch, rows: Rows, source: SourceRows) -> Tensor:
    """Return how far rows of tokens that the source has are from its own, averaged over the sides.

    See :func:`anyvocab.hypernet.losses.lexical`.
    """
    if not len(batch.anchors):
        return rows.input.new_zeros(())
    sides = [(rows.input, source.input)]
    if rows.output is not None:
        sides.append((rows.output, source.sides[-1]))
    parts = [lexical(made[batch.anchors], truth[batch.anchor_ids]) for made, truth in sides]
    return torch.stack(parts).mean()


def anchored(batch: Batch, rows: Rows, source: SourceRows) -> Rows:
    """Return rows in which tokens that the source has keep its rows."""

    def put(made: Tensor, truth: Tensor) -> Tensor:
        return made.index_copy(0, batch.anchors, truth[batch.anchor_ids].to(made.dtype))

    return Rows(
        put(rows.input, source.input),
        None if rows.output is None else put(rows.output, source.sides[-1]),
        None if rows.bias is None or source.bias is None else put(rows.bias, source.bias),
    )


def distance(rows: Rows, truth: Rows) -> Tensor:
    """Return how far rows are from others, averaged over the sides; see `lexical`."""
    sides = [(rows.input, truth.input)]
    if rows.output is not None and truth.output is not None:
        sides.append((rows.output, truth.output))
    return torch.stack([lexical(made, known) for made, known in sides]).mean()
