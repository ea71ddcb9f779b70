"""Predicting a step's rows: over ranks, and in chunks whose activations are made anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anyvocab.hypernet.rows import Rows, SourceRows

if TYPE_CHECKING:
    from anyvocab.hypernet.batches import Batch
    from anyvocab.hypernet.merged import MergedBatch
    from anyvocab.hypernet.network import ResidualHypernet, Use
    from anyvocab.hypernet.parallel import World

__all__ = ["Spread", "backward", "leaves_of"]

CHUNK = 512  # rows whose activations exist at once, where they are made anew


class Spread(nn.Module):
    """A network over the ranks of a run.

    It gives all that it predicts of a token as one tensor, because that is what FSDP2 and
    activation checkpointing look for in what a module returns.

    Attributes:
        network: The network.
    """

    def __init__(self, network: ResidualHypernet, source: SourceRows, world: World) -> None:
        super().__init__()
        self.network = network
        self._source, self._world = source, world

    def forward(
        self,
        pieces: Tensor,
        features: Tensor | None,
        language: Tensor | None,
        use: Use = "vocabulary",
    ) -> Tensor:
        """Return each token's rows, side by side, and its bias, (N, k D + b).

        Of merged tokens only what they are read by, (N, D): nothing else of them is asked for.
        """
        rows = self.network(pieces, self._source, features=features, language=language, use=use)
        if use == "merged":
            read: Tensor = rows.input
            return read
        parts = [rows.input]
        if rows.output is not None:
            parts.append(rows.output)
        if rows.bias is not None:
            parts.append(rows.bias[:, None])
        return torch.cat(parts, dim=1)

    def rows(
        self, batch: Batch | MergedBatch, *, anew: bool = False, use: Use = "vocabulary"
    ) -> Rows:
        """Return all rows of a batch; each rank predicts a part of them.

        Args:
            batch: The batch.
            anew: Whether activations are made anew in the backward pass.
            use: Where they stand; of merged tokens there is the row that they are read by alone.
        """
        config, count = self.network.config, len(batch.pieces)
        places = self._world.places(count)
        pieces = batch.pieces[places]
        features = batch.features[places] if config.features else None
        language = torch.full_like(places, batch.language) if config.languages else None
        parts = []
        size = CHUNK if anew and torch.is_grad_enabled() else max(1, len(places))
        for start in range(0, len(places), size):
            some = slice(start, start + size)
            given = (
                pieces[some],
                None if features is None else features[some],
                None if language is None else language[some],
                use,
            )
            if size == CHUNK:
                parts.append(
                    checkpoint(self, *given, use_reentrant=False, preserve_rng_state=False)
                )
            else:
                parts.append(self(*given))
        every = self._world.gathered(torch.cat(parts), count)  # (M, k D + b)
        if use == "merged":
            return Rows(every)
        sides = every.split(config.width, dim=1)
        return Rows(
            sides[0],
            sides[1] if config.sides > 1 else None,
            every[:, -1] if config.bias else None,
        )


def leaves_of(rows: Rows) -> Rows:
    """Return rows that gather a gradient of their own.

    So several losses come before one backward pass through the network.
    """
    return Rows(
        *(
            None if one is None else one.detach().requires_grad_()
            for one in (rows.input, rows.output, rows.bias)
        )
    )


def backward(rows: Rows, leaves: Rows) -> None:
    """Pass the gradient that `leaves` have gathered on to what `rows` were made of."""
    made, grads = [], []
    for one, leaf in (
        (rows.input, leaves.input),
        (rows.output, leaves.output),
        (rows.bias, leaves.bias),
    ):
        if one is not None and leaf is not None:
            made.append(one)
            grads.append(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
    torch.autograd.backward(made, grads)
