"""A model read with its own cache of keys and values, from embeddings to final states."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.dynamic.wrapped import positions_of
from anyvocab.evaluate.greedy import CACHES

if TYPE_CHECKING:
    from anyvocab.hypernet.rows import SourceRows

__all__ = ["CachedBody"]

_CACHES: Final = (*CACHES, "cache_params")  # a recurrent model's is a state


class CachedBody:
    """A causal model without its vocabulary, which keeps what it has read.

    Args:
        network: A causal language model of transformers, in evaluation mode.
        probe: Some text of its own ids, at least two: what it does to rows and logits is read off.

    Attributes:
        rows: Its matrices.
        scale: What it multiplies its logits by.
        cap: Its logits are `cap * tanh(logits / cap)`; None: they are not.
        positions: How many positions it was built for; None where it does not say.

    Raises:
        InvalidValue: It takes no embeddings, keeps no cache, or its logits are not linear in its
            final states.
    """

    def __init__(self, network: Any, probe: Sequence[int]) -> None:
        from anyvocab.hypernet.body import Body

        self._network = network
        self._cache_name = _cache_name(network)
        self._body = Body.of(network, probe, kind="causal")
        self.rows: SourceRows = self._body.rows
        self.scale: float = self._body.scale
        self.cap: float | None = self._body.cap
        self.positions = positions_of(network)

    def states(self, embedded: Any) -> Any:
        """Return the final states of rows of the input matrix, (n, D) to (n, D); no cache."""
        with import_torch().inference_mode():
            return self._body.states(embedded[None])[0]

    def read(self, embedded: Any, cache: Any) -> tuple[Any, Any]:
        """Return the final states of rows behind a cache (or None), and the cache with them."""
        with import_torch().inference_mode():
            found = self._network.base_model(
                inputs_embeds=embedded[None] * self._body.reading,
                use_cache=True,
                **{self._cache_name: cache},
            )
        kept = found.get(self._cache_name)
        if kept is None:
            raise errors.build(
                errors.InvalidValue,
                f"{type(self._network).__name__} keeps its cache to itself",
                field="model",
                fix="give a causal language model of transformers that returns its cache",
            )
        return found.last_hidden_state[0], kept


def _cache_name(network: Any) -> str:
    """Return what the model calls its cache of keys and values.

    Raises:
        InvalidValue: It has none.
    """
    names = inspect.signature(network.base_model.forward).parameters
    found = next((name for name in _CACHES if name in names), None)
    if found is None or "inputs_embeds" not in names:
        what = "keeps no cache of keys and values" if found is None else "takes no inputs_embeds"
        raise errors.build(
            errors.InvalidValue,
            f"{type(network).__name__} {what}",
            field="model",
            fix="give a causal language model of transformers that does",
        )
    return found
