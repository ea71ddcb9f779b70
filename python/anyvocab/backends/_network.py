"""A transformers model as one function: ids, mask, positions and cache in, logits and cache out."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch

from anyvocab import errors

__all__ = ["FORWARD_ERRORS", "Network"]

# What a model raises that cannot do what it is probed for: an argument that it does not take, a
# shape that it does not expect, a path that it has not got.
FORWARD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
_CACHES = ("cache", "past_key_values", "cache_params", "state")  # by release and architecture
_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_seq_len")
Keeps = Literal["positions", "all"]


class Network:
    """The forward pass of one model.

    Args:
        model: A causal language model of transformers.

    Attributes:
        rows: The length of a row of logits; 0 until the first forward pass tells.
        tokens: How many ids the input matrix has rows for.
        limit: The longest context its configuration allows; None where it states none.
        keeps: `positions` when only the logits asked for are computed, `all` when the model
            computes those of every position.
        forwards: How many forward passes ran.

    Raises:
        InvalidValue: It is no decoder-only model.
    """

    def __init__(self, model: Any) -> None:
        config = getattr(model, "config", None)
        if config is None or not callable(getattr(model, "get_input_embeddings", None)):
            raise errors.build(
                errors.InvalidValue,
                f"{type(model).__name__} is no transformers model",
                field="model",
                fix="give a causal language model, or TransformersBackend.load(folder)",
            )
        if getattr(config, "is_encoder_decoder", False):
            raise errors.build(
                errors.InvalidValue,
                "is an encoder-decoder model: it does not predict a text token by token",
                field="model",
                fix="give a causal language model",
            )
        self.model = model
        self.config = config
        parameters = inspect.signature(model.forward).parameters
        self.takes = frozenset(parameters)
        self.cache_name = next((name for name in _CACHES if name in parameters), None)
        self.keeps: Keeps = "positions" if "logits_to_keep" in parameters else "all"
        weight = model.get_input_embeddings().weight
        self.tokens = int(weight.shape[0])
        self.device = weight.device
        self.dtype = model.dtype if model.dtype.is_floating_point else weight.dtype
        text = config.get_text_config(decoder=True)
        named = (getattr(text, name, None) for name in _LIMITS)
        self.limit = next((one for one in named if isinstance(one, int) and one > 0), None)
        self.rows = 0
        self.forwards = 0

    def __call__(
        self,
        ids: Sequence[int],
        keep: Sequence[int],
        *,
        cache: Any = None,
        caching: Literal["on", "off"] = "on",
        mask: Any = None,
        positions: Sequence[int] | None = None,
    ) -> tuple[Any, Any]:
        """Return logits[len(keep), rows] at the places `keep` of `ids`, and the cache.

        Args:
            ids: The ids to read, behind those of the cache.
            keep: Places in `ids`, at least one.
            cache: What earlier passes returned; None to begin.
            caching: `off` when nothing comes after.
            mask: Additive, (1, 1, len(ids), keys), or one per kind of layer; causal when None.
            positions: The position of each id; the model counts when None.
        """
        words: dict[str, Any] = {"use_cache": caching == "on"}
        if cache is not None and self.cache_name is not None:
            words[self.cache_name] = cache
        if mask is not None:
            words["attention_mask"] = mask
        if positions is not None:
            words["position_ids"] = torch.tensor([positions], device=self.device)
        at = torch.tensor(keep, device=self.device)
        if self.keeps == "positions":
            words["logits_to_keep"] = at
        training = self.model.training
        if training:  # dropout would make every answer another one
            self.model.eval()
        try:
            with torch.inference_mode():  # not around a yield: the mode would leak to the caller
                output = self.model(torch.tensor([ids], device=self.device), **words)
                logits = output.logits[0]
                if self.keeps == "all":
                    logits = logits[at.to(logits.device)]
        finally:
            if training:
                self.model.train()
        self.forwards += 1
        if caching == "off":
            return logits, None
        returned = (getattr(output, name, None) for name in _CACHES)
        return logits, next((one for one in returned if one is not None), None)
