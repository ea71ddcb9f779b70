"""A trained hypernetwork becomes a folder, which says how it came to be."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyvocab.hypernet.folder import Card, save_network

if TYPE_CHECKING:
    from anyvocab.hypernet.fit import Measured, Trainer

__all__ = ["save_fitted"]


def save_fitted(
    trainer: Trainer,
    folder: str | os.PathLike[str],
    *,
    model: str,
    start: Card | None = None,
) -> Path:
    """Write what a trainer has made, in place of what its folder held before.

    All ranks of a run call this together; the leading one writes.

    Args:
        trainer: The trainer.
        folder: Where to.
        model: What the model is called.
        start: Of the network that the run began with; None for one from nothing.
    """
    from anyvocab.hypernet.network import ResidualHypernet
    from anyvocab.hypernet.sharding import whole
    from anyvocab.transplant.files import vocabulary_digest

    progress = trainer.progress
    network = ResidualHypernet(trainer.config)
    network.load_state_dict(
        {name: whole(one) for name, one in trainer.network.state_dict().items()}
    )
    if not trainer.world.leads:
        return Path(folder)
    trained = {
        "corpus": {part.name: len(part.data) for part in trainer.texts.parts},
        "options": json.loads(json.dumps(asdict(trainer.options), default=str)),
        "seconds": round(progress.seconds, 1),
        "steps": progress.step,
        "tokens": progress.tokens,
    }
    if start is not None:
        trained["before"] = _all_of(start)
    card = Card(
        "residual",
        trainer.config.to_dict(),
        model,
        vocabulary_digest(trainer.tokenizer.vocabulary),
        len(trainer.body.rows),
        trained,
        tuple(_known(one) for one in trainer.log.measured),
    )
    return save_network(network, card, folder, existing="replace")


def _window(card: Card) -> int | None:
    """Return how many ids of a text a run read: measurements of different ones do not compare."""
    found: int | None = card.trained.get("options", {}).get("window")
    return found


def _known(measured: Measured) -> dict[str, Any]:
    return {name: value for name, value in asdict(measured).items() if value is not None}


def _all_of(card: Card) -> dict[str, Any]:
    """Return what a network had behind it: its own run and those before it."""
    earlier = card.trained.get("before", {})
    found: dict[str, Any] = {
        name: card.trained.get(name, 0) + earlier.get(name, 0)
        for name in ("seconds", "steps", "tokens")
    }
    if "bits_per_byte" in earlier:
        window = earlier.get("window", _window(card))  # it was not told once, and never changed
        return {**found, "bits_per_byte": earlier["bits_per_byte"], "window": window}
    if card.measured:
        found["bits_per_byte"] = card.measured[0]["bits_per_byte"]  # before any update
        found["window"] = _window(card)
    return found
