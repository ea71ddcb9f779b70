"""Where a model wants shorter texts padded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from anyvocab import errors
from anyvocab.dynamic.wrapped import evaluating, kind_of

if TYPE_CHECKING:
    from anyvocab.dynamic.embed import Side

__all__ = ["padding_side"]

# Masked places change sums by rounding alone; a pooled place that is none changes everything.
_TOLERANCE = 2e-2
_SHORT, _LONG = 6, 12  # tokens of the two texts that are compared


def padding_side(network: Any) -> Side:
    """Return the side on which padding leaves the answers of a model alone.

    A model that classifies a text by its last token finds that token by the ids. Given rows it
    takes the last place, which right padding would fill. Some models mix padding into what stands
    beside it, masked or not (FNet, ConvBERT).

    Args:
        network: A model of transformers. A causal one is padded on the right: it reads no padding
            before its text.

    Raises:
        InvalidValue: Padding changes its answers on either side.
    """
    import torch

    from anyvocab.dynamic.embed import Side

    if kind_of(network) == "causal":
        return "right"
    weight = network.get_input_embeddings().weight
    ids = torch.arange(_LONG, device=weight.device) + (len(weight) - _LONG) // 2
    with torch.no_grad(), evaluating(network):
        rows = network.get_input_embeddings()(ids)  # as a lookup gives them, scaled or not
        alone = _answers(network, rows[None, :_SHORT], None, "right")
        for side in ("right", "left"):
            padded = _answers(network, rows, _SHORT, side)
            if float((padded - alone).abs().max()) <= _TOLERANCE * float(alone.abs().max()):
                return side
    raise errors.build(
        errors.InvalidValue,
        f"{type(network).__name__} gives another answer when its text is padded, on the "
        f"{' as on the '.join(get_args(Side))}",
        field="model",
        fix="give it texts of one length together, one text at a time, or take another encoder",
    )


def _answers(network: Any, rows: Any, short: int | None, side: str) -> Any:
    """Return what a model says of `short` rows, padded beside all of them; of rows alone if None.

    Where it says something of every token, that of the text's own.
    """
    import inspect

    import torch

    if short is None:
        mask = torch.ones_like(rows[..., 0], dtype=torch.long)
        return network(inputs_embeds=rows, attention_mask=mask)[0].double()
    at = slice(0, short) if side == "right" else slice(len(rows) - short, len(rows))
    both = torch.stack([torch.zeros_like(rows), rows])
    both[0, at] = rows[:short]
    mask = torch.ones(2, len(rows), dtype=torch.long, device=rows.device)
    mask[0] = 0
    mask[0, at] = 1
    given = {"inputs_embeds": both, "attention_mask": mask}
    if side == "left" and "position_ids" in inspect.signature(network.forward).parameters:
        given["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    said = network(**given)[0][:1].double()
    return said if type(network).__name__.endswith("ForSequenceClassification") else said[:, at]
