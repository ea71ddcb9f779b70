"""What the new model reads: its final hidden states before every token of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab.evaluate.models import first_ids_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.tokenizer import Ragged
    from anyvocab.transplant.context import Context

__all__ = ["States", "head_scale", "read_states", "windows"]

WINDOW = 512  # ids read at once; fewer where the model sees fewer
BATCH = 8  # windows of one forward pass
# Logits are a matrix product in float32, so two ways to compute them differ by about D * eps of
# the sum of the products' magnitudes; ten times that at D = 10,000 is 1e-2 of the largest logit.
SCALE_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class States:
    """Final hidden states and the token that comes next.

    Attributes:
        hidden: float32 (N, D), after the last norm, times what the model multiplies logits by: a
            row's logit is its product with this, plus its bias.
        target: int64 (N,): the target id that follows.
        texts: How many windows of text they were read from.
    """

    hidden: Tensor
    target: Tensor
    texts: int

    def __len__(self) -> int:
        return int(self.target.shape[0])


def windows(encoded: Ragged, size: int, limit: int) -> list[NDArray[np.uint32]]:
    """Return runs of at most `size` ids, `limit` ids in all, spread evenly over the texts.

    Args:
        encoded: Texts as ids.
        size: Ids of a run.
        limit: Ids of all runs; whole runs are left out.
    """
    runs = [row[at : at + size] for row in encoded for at in range(0, len(row), size)]
    total = sum(map(len, runs))
    if total <= limit:
        return runs
    kept = max(1, len(runs) * limit // total)
    return [runs[i] for i in np.linspace(0, len(runs) - 1, kept).astype(np.int64)]


@contextmanager
def _reading(model: Any, rows: Tensor) -> Iterator[None]:
    """Let the model read `rows`; the module stays, since some scale what they look up."""
    import torch

    module = model.get_input_embeddings()
    held, padding = module.weight, getattr(module, "padding_idx", None)
    if padding is not None:
        module.padding_idx = None  # an old id; it matters to gradients only
    module.weight = torch.nn.Parameter(rows.to(held.dtype).to(held.device), requires_grad=False)
    try:
        yield
    finally:
        module.weight = held
        if padding is not None:
            module.padding_idx = padding


def head_scale(model: Any, ids: Sequence[int]) -> float:
    """Return what the model multiplies its logits by; 1.0 for most.

    Raises:
        InvalidValue: Its logits are not a multiple of the output matrix's product with the final
            hidden state (they are capped, for example).
    """
    import torch

    with torch.inference_mode():
        rows = torch.tensor([list(ids)], device=getattr(model, "device", None))
        logits = model(rows).logits[0].double()  # (T, V)
        hidden = model.base_model(rows, use_cache=False).last_hidden_state
        plain = model.get_output_embeddings()(hidden)[0].double()
    scale = float((plain * logits).sum() / (plain * plain).sum())
    apart = float((logits - scale * plain).abs().max())
    if not apart <= SCALE_TOLERANCE * float(logits.abs().max()):
        raise errors.build(
            errors.InvalidValue,
            f"its logits differ from its output matrix's product by up to {apart:.3g}",
            field="model",
            fix='switch calibration off with calibrate="off": a head that is not linear is not '
            "supported",
        )
    return scale


def read_states(context: Context, rows: Tensor, *, tokens: int) -> States:
    """Return the states of the model that reads `rows`, over the corpus in target ids.

    One forward pass of the source model over at most `tokens` ids; nothing of the model is kept
    changed. Each run of text stands behind what the target tokenizer puts before a text.

    Args:
        context: What is known; it holds a model and a corpus.
        rows: The new input matrix, (R, D).
        tokens: Ids to read.

    Raises:
        InvalidValue: There is no model, no corpus, or a head that is not linear.
    """
    import torch

    if context.model is None:
        raise errors.build(
            errors.InvalidValue,
            "there is none, and calibration reads text with it",
            field="model",
            fix='give a model that can be run, or calibrate="off"',
        )
    model = context.model()
    before, _ = first_ids_of(context.target)
    size = min(WINDOW, getattr(model.config, "max_position_embeddings", WINDOW)) - len(before)
    runs = windows(context.encoded("target"), size, tokens)
    old, _ = first_ids_of(context.source)
    probe = [*old, *context.source.encode(context.corpus[0][:256], specials="text").tolist()]
    scale = head_scale(model, probe)
    order = sorted(range(len(runs)), key=lambda i: len(runs[i]))
    hidden: list[Tensor] = []
    target: list[Tensor] = []
    # Without a first id nothing stands before a run's first token: it is read, not predicted.
    lead = max(1, len(before))
    with torch.inference_mode(), _reading(model, rows):
        for at in range(0, len(order), BATCH):
            batch = [[*before, *runs[i].tolist()] for i in order[at : at + BATCH]]
            longest = max(map(len, batch))
            # Padding stands on the right of a causal model: nothing that is kept sees it.
            padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in batch])
            read = padded.to(getattr(model, "device", None))
            states = model.base_model(read, use_cache=False).last_hidden_state.float().cpu()
            for i, ids in enumerate(batch):
                hidden.append(states[i, lead - 1 : len(ids) - 1])  # (n, D)
                target.append(padded[i, lead : len(ids)])
            context.progress("calibration: reading", at + len(batch), len(order))
    # Clones made here are ordinary tensors, not inference ones.
    return States(torch.cat(hidden).clone() * scale, torch.cat(target).clone(), len(runs))
