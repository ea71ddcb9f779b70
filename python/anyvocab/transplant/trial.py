"""A swapped model in memory, for measuring a plan before it is written."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab.transplant.plan import Plan, SidePlan, apply

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.transplant.context import Context

__all__ = ["new_bias", "plain_bias", "try_on"]


def try_on(model: Any, plan: Plan, context: Context) -> Any:
    """Return a copy of `model` (transformers) with the rows of `plan`.

    The body is shared with the original; only the two matrices, and the output bias where there is
    one, are new. Rows have the type of the model's own.

    Raises:
        InvalidValue: The model has no output matrix to exchange.
    """
    import torch

    head = model.get_output_embeddings()
    if head is None:
        raise errors.build(
            errors.InvalidValue, "it has no output matrix", field="model", fix="use a causal model"
        )
    kept = {
        id(parameter): parameter
        for parameter in model.parameters()
        if parameter is not model.get_input_embeddings().weight
        and not any(parameter is one for one in head.parameters())
    }
    changed = copy.deepcopy(model, kept)  # the memo keeps the body where it is
    with torch.no_grad():
        dtype = model.get_input_embeddings().weight.dtype
        rows = torch.cat([one.to(dtype) for one in apply(plan.input, context.matrices["input"])])
        embedding = changed.get_input_embeddings()  # the module stays: some scale what they give
        embedding.weight = torch.nn.Parameter(rows, requires_grad=False)
        embedding.num_embeddings, embedding.padding_idx = len(rows), None
        bias = getattr(head, "bias", None)
        new_head = torch.nn.Linear(rows.shape[1], len(rows), bias=bias is not None, dtype=dtype)
        if plan.output is None:
            new_head.weight = embedding.weight
        else:
            made = list(apply(plan.output, context.matrices["output"]))
            new_head.weight = torch.nn.Parameter(torch.cat([one.to(dtype) for one in made]))
        if bias is not None:
            new_head.bias = torch.nn.Parameter(new_bias(plan, bias).to(dtype))
        changed.set_output_embeddings(new_head)
    changed.config.vocab_size = len(rows)
    changed.config.tie_word_embeddings = plan.tied
    return changed.eval()


def new_bias(plan: Plan, bias: Any) -> Any:
    """Return the output bias of the new rows, float32 (R,).

    A copied row keeps its number bit for bit, a combined one combines the numbers, one of neither
    has their mean; what a calibration found is added.
    """
    import torch

    side = plan.side("output")
    made = plain_bias(side, bias.detach().float().cpu().reshape(-1).numpy())
    if side.bias is not None:
        made = made + side.bias
    return torch.from_numpy(made.astype(np.float32))


def plain_bias(side: SidePlan, bias: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the output bias of the new rows before the plan's own is added, float64 (R,)."""
    parts, old = side.combination, bias.astype(np.float64)
    row = np.repeat(np.arange(len(parts)), parts.lengths())
    weighted = parts.weights * old[parts.columns]
    made = np.bincount(row, weights=weighted, minlength=len(parts)).astype(np.float64)
    made[parts.lengths() == 0] = old.mean()
    return made
