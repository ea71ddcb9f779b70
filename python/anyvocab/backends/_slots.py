"""Keys and values in slots: one buffer per layer for every node of every tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import cache_utils

from anyvocab import errors

__all__ = ["SlotCache", "SlotLayer"]

_MIN_SLOTS = 64


class SlotLayer(cache_utils.DynamicLayer):  # type: ignore[misc]  # torch is Any to mypy
    """One layer's keys and values, (1, heads, slots, width), with room to grow.

    `DynamicLayer` copies the whole cache whenever a token is added. This one writes into room that
    is already there, so adding `q` tokens costs O(q), and O(slots) only when the room doubles.
    It keeps every position also for layers that see a window: their mask hides the rest.
    """

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.used = 0
        self.chosen: Any = None  # the slots that the next pass sees, int64 ascending; None for all
        self._room: tuple[Any, Any] | None = None

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Store the states of new tokens; return the chosen old ones followed by the new."""
        start, end = self.used, self.used + key_states.shape[-2]
        keys, values = self._room_for(end, key_states, value_states)
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        self.used = end
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        if self.chosen is None:
            return self.keys, self.values
        chosen = self.chosen.to(keys.device)
        return (
            torch.cat([keys.index_select(2, chosen), key_states], dim=2),
            torch.cat([values.index_select(2, chosen), value_states], dim=2),
        )

    def get_seq_length(self) -> int:
        """Return how many positions the next pass sees behind it."""
        return self.used if self.chosen is None else len(self.chosen)

    def keep(self, slots: Any) -> None:
        """Keep only these slots, int64 ascending, moved together."""
        if self._room is not None and self.used:
            at = slots.to(self._room[0].device)
            keys, values = (one.index_select(2, at) for one in self._room)
            self._room = (keys, values)
            self.keys, self.values = keys, values
        self.used = len(slots)

    def _room_for(self, slots: int, key_states: Any, value_states: Any) -> tuple[Any, Any]:
        """Return buffers for at least `slots` slots."""
        room = self._room
        if room is None or room[0].shape[2] < slots:
            size = max(slots, self.used + max(_MIN_SLOTS, self.used // 2))
            grown = []
            for old, states in zip(room or (None, None), (key_states, value_states), strict=True):
                new = states.new_empty((*states.shape[:2], size, states.shape[3]))
                if old is not None:
                    new[:, :, : self.used] = old[:, :, : self.used]
                grown.append(new)
            room = (grown[0], grown[1])
            self._room = room
            self.device, self.dtype = key_states.device, key_states.dtype
            self.is_initialized = True
        return room


class SlotCache:
    """The slots of all layers of a model, and which of its layers see only a window.

    Args:
        config: The model's configuration.

    Attributes:
        cache: What the model is given.
        windows: For every kind of layer, by its name in the configuration, how many positions it
            sees, itself included; None for all.

    Raises:
        InvalidValue: A layer keeps something else than the keys and values of positions.
    """

    def __init__(self, config: Any) -> None:
        self.cache = cache_utils.DynamicCache(config=config)
        text = config.get_text_config(decoder=True)
        kinds: Sequence[str] = getattr(text, "layer_types", None) or ()
        self.windows: dict[str, int | None] = {}
        self.layers: list[SlotLayer] = []
        plain, sliding = cache_utils.DynamicLayer, cache_utils.DynamicSlidingWindowLayer
        if not self.cache.layers:
            raise _no_slots("the configuration tells no layers")
        for i, layer in enumerate(self.cache.layers):
            window = layer.sliding_window if type(layer) is sliding else None
            kind = kinds[i] if i < len(kinds) else "sliding" if window else "full"
            if type(layer).__name__ == "DummyLayer":  # it reads the keys of another layer
                continue
            if type(layer) not in (plain, sliding) or "chunk" in kind:
                raise _no_slots(f"layer {i} is of kind {kind!r}, kept in a {type(layer).__name__}")
            if self.windows.setdefault(kind, window) != window:
                raise _no_slots(f"layers of kind {kind!r} see windows of different lengths")
            self.cache.layers[i] = slots = SlotLayer()
            self.layers.append(slots)
        if getattr(text, "attention_chunk_size", None) and not kinds:
            raise _no_slots("attention is in chunks")

    def choose(self, slots: Any) -> None:
        """Let the next pass see only these slots, int64 ascending; all of them when None."""
        for layer in self.layers:
            layer.chosen = slots

    def truncate(self, used: int) -> None:
        """Forget all slots from `used` on: the next pass writes over them."""
        for layer in self.layers:
            layer.used = min(layer.used, used)

    def keep(self, slots: Any) -> None:
        """Keep only these slots, int64 ascending, moved together."""
        for layer in self.layers:
            layer.keep(slots)


def _no_slots(found: str) -> errors.AnyvocabError:
    return errors.build(errors.InvalidValue, found, field="model.config")
