"""A merged batch as a model takes it: a row of numbers for each token, padded, with its mask."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from anyvocab import errors
from anyvocab.hypernet.body import reading_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from anyvocab.dynamic.batch import DynamicBatch
    from anyvocab.dynamic.rows import RowCache

__all__ = ["DynamicInputs", "Embedder", "Side"]

Side = Literal["left", "right"]
_PROBED = 8  # ids that the check of a model runs on


@dataclass(frozen=True, eq=False)
class DynamicInputs:
    """A batch, embedded. Below, `B` texts, `T` the tokens of the longest, `m` those of all.

    Attributes:
        batch: The tokens.
        inputs_embeds: (B, T, D), in the model's type, on its device; zero where there is none.
        attention_mask: int64 (B, T): 1 where there is a token.
        position_ids: int64 (B, T): 0, 1, ... in each text; 0 where there is no token.
        side: Where the padding is.
    """

    batch: DynamicBatch
    inputs_embeds: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    side: Side

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """int64[m]: where each token is in the padded batch, `row * T + column`."""
        return _places(self.batch.offsets, self.side)

    def ragged(self, values: Tensor) -> Tensor:
        """Return what a model gives for padded tokens, (B, T, ...), without padding, (m, ...)."""
        import torch

        flat = values.reshape(-1, *values.shape[2:])
        return flat[torch.from_numpy(self.places).to(flat.device)]

    def padded(self, values: NDArray[Any], *, fill: Any) -> Tensor:
        """Return a value for each token, [m, ...], as (B, T, ...), for labels for example.

        Args:
            values: The values.
            fill: What stands where there is no token.
        """
        import torch

        rows, columns = self.attention_mask.shape
        made = np.full((rows * columns, *values.shape[1:]), fill, dtype=values.dtype)
        made[self.places] = values
        shaped = made.reshape(rows, columns, *values.shape[1:])
        return torch.from_numpy(shaped).to(self.inputs_embeds.device)


class Embedder:
    """Turns merged batches into a model's inputs.

    Attributes:
        network: The model.
        cache: The rows of new tokens.
        reading: What the model multiplies a row by when it looks it up.
    """

    def __init__(self, network: Any, cache: RowCache, *, base: Tensor | None = None) -> None:
        """Look at a model.

        Args:
            network: A model of transformers, in evaluation mode.
            cache: Makes and keeps the rows of new tokens.
            base: Rows for base tokens, (V, D), in place of the model's own.

        Raises:
            InvalidValue: It takes no `inputs_embeds`, or computes something else from them than
                from ids.
        """
        self.network, self.cache = network, cache
        self._base = base
        self._table = _table_of(network)
        self.reading = reading_of(network, range(min(_PROBED, len(self._table.weight))))

    def rows_of(self, ids: NDArray[np.uint32]) -> Tensor:
        """Return the rows of base tokens, (n, D), as they enter the model."""
        import torch

        where = torch.from_numpy(ids.astype(np.int64)).to(self._table.weight.device)
        if self._base is not None:
            return self._base[where] * self.reading
        found: Tensor = self._table(where)
        return found

    def __call__(self, batch: DynamicBatch, *, side: Side = "right") -> DynamicInputs:
        """Return a batch's inputs, padded to its own longest text.

        Args:
            batch: The tokens.
            side: Where the padding goes.

        Raises:
            InvalidValue: There is no token, or `side` is none of the two.
        """
        import torch

        errors.check_choice("side", side, get_args(Side))
        lengths = batch.lengths()
        columns = int(lengths.max(initial=0))
        if not columns:
            raise errors.build(
                errors.InvalidValue,
                "the batch has no tokens",
                field="batch",
                fix="give at least one text that is not empty",
            )
        weight = self._table.weight
        width = int(weight.shape[1])
        flat = weight.new_zeros(len(batch) * columns, width)
        places = torch.from_numpy(_places(batch.offsets, side)).to(weight.device)
        with torch.no_grad():
            self._fill(batch, flat, places)
        mask = torch.zeros(len(flat), dtype=torch.long, device=weight.device)
        mask[places] = 1
        positions = torch.zeros_like(mask)
        within = np.arange(len(batch.ids)) - np.repeat(batch.offsets[:-1], lengths)
        positions[places] = torch.from_numpy(within).to(weight.device)
        shape = (len(batch), columns)
        return DynamicInputs(
            batch, flat.view(*shape, width), mask.view(shape), positions.view(shape), side
        )

    def of(self, batch: DynamicBatch) -> Tensor:
        """Return the rows of all tokens of a batch, (m, D), as they enter the model."""
        import torch

        weight = self._table.weight
        made = weight.new_empty(len(batch.ids), int(weight.shape[1]))
        with torch.no_grad():
            self._fill(batch, made, torch.arange(len(made), device=weight.device))
        return made

    def _fill(self, batch: DynamicBatch, into: Tensor, places: Tensor) -> None:
        """Write each token's row where `places`, int64 (m,), says; each is written once."""
        import torch

        first = batch.new_tokens.first_id
        fresh = batch.ids >= first
        if not fresh.any():
            into.index_copy_(0, places, self.rows_of(batch.ids).to(into.dtype))
            return
        base = torch.from_numpy(np.flatnonzero(~fresh)).to(places.device)
        into.index_copy_(0, places[base], self.rows_of(batch.ids[~fresh]).to(into.dtype))
        # Only tokens that are left in the batch: one that merged on is never looked up.
        used, which = np.unique(batch.ids[fresh] - first, return_inverse=True)
        rows = self.cache.rows([batch.new_tokens[int(one)] for one in used]).input
        rows = rows.to(into.device, into.dtype)
        if self.reading != 1.0:
            rows = rows * self.reading
        new = torch.from_numpy(np.flatnonzero(fresh)).to(places.device)
        chosen = rows.index_select(0, torch.from_numpy(which).to(into.device))
        into.index_copy_(0, places[new], chosen)


def _places(offsets: NDArray[np.int64], side: Side) -> NDArray[np.int64]:
    lengths = np.diff(offsets)
    columns = lengths.max(initial=0)
    starts = np.arange(len(lengths)) * columns
    if side == "left":
        starts = starts + columns - lengths
    found: NDArray[np.int64] = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return found


def _table_of(network: Any) -> Any:
    """Return a model's input embeddings, if it can do without ids."""
    import torch

    names = inspect.signature(network.forward).parameters
    open_ended = any(one.kind is one.VAR_KEYWORD for one in names.values())
    table = network.get_input_embeddings()
    if "inputs_embeds" not in names and not open_ended:
        raise errors.build(
            errors.InvalidValue,
            f"{type(network).__name__} takes ids only: its forward has no inputs_embeds",
            field="model",
            fix="give a model of transformers that can be called with inputs_embeds=",
        )
    if getattr(table, "weight", None) is None:
        raise errors.build(
            errors.InvalidValue,
            f"{type(network).__name__} has no single matrix of input embeddings",
            field="model",
            fix="give a text model whose get_input_embeddings() is a torch.nn.Embedding",
        )
    found = table(torch.zeros(1, dtype=torch.long, device=table.weight.device))
    if not isinstance(found, torch.Tensor):
        raise errors.build(
            errors.InvalidValue,
            f"{type(network).__name__} looks rows up as a {type(found).__name__}, not as numbers",
            field="model",
            fix="give a model that is not quantised",
        )
    return table
