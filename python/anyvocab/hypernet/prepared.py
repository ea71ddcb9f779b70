"""What a run begins with: options that go together, and the network."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING

import torch

from anyvocab import errors
from anyvocab.hypernet.body import positions_of
from anyvocab.hypernet.features import FEATURES
from anyvocab.hypernet.network import NetworkConfig, ResidualHypernet

if TYPE_CHECKING:
    from anyvocab.hypernet.batches import Controls
    from anyvocab.hypernet.body import Body
    from anyvocab.hypernet.options import FitOptions
    from anyvocab.hypernet.parallel import World

__all__ = ["check", "check_window", "digest", "network_config", "network_of"]


def network_config(body: Body, options: FitOptions, languages: tuple[str, ...]) -> NetworkConfig:
    """Return the network's shape for a model."""
    chosen = options.network
    hidden = chosen.hidden or max(64, body.rows.width)
    return NetworkConfig(
        width=body.rows.width,
        tied=body.tied and chosen.sides == "keep",
        bias=body.rows.bias is not None,
        hidden=hidden,
        inner=chosen.inner or 2 * hidden,
        layers=chosen.layers,
        heads=chosen.heads or max(1, hidden // 64),
        max_pieces=chosen.max_pieces,
        surroundings=chosen.surroundings,
        features=len(FEATURES) if chosen.surroundings == "vocabulary" else 0,
        languages=languages if len(languages) > 1 else (),
    )


def network_of(
    given: ResidualHypernet | None, body: Body, options: FitOptions, languages: tuple[str, ...]
) -> ResidualHypernet:
    """Return the network that a run trains; what of it is not trained wants no gradient.

    Args:
        given: What to begin with, which is copied; None for one that predicts the mean.
        body: The model.
        options: The run's.
        languages: Parts of the corpus.
    """
    if given is None:
        network = ResidualHypernet(network_config(body, options, languages))
        network.measure(body.rows.to("cpu"), seed=options.seed)
    else:
        network = copy.deepcopy(given).requires_grad_(True)
    if options.dynamic_share and network.merged is None:
        network = network.with_merged("own")
    elif not options.dynamic_share and network.merged is not None:
        # What it reads would change, and it would not be trained along.
        network = network.with_merged("shared")
    if given is not None and options.dynamic_share == 1 and network.merged is not None:
        # Nothing would hold the rest to what it has learned of vocabularies.
        network.requires_grad_(False)
        network.merged.requires_grad_(True)
    return network


def digest(network: torch.nn.Module) -> str:
    """Return what tells a network from others: a digest of its weights."""
    found = hashlib.sha256()
    for name, one in sorted(network.state_dict().items()):
        found.update(name.encode() + b"\0")
        found.update(one.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def check(options: FitOptions, body: Body, world: World, *, cut: bool, target: bool) -> None:
    """Check that the options go together."""
    if options.texts < world.size * options.accumulate:
        raise errors.build(
            errors.InvalidValue,
            f"{options.texts} texts are too few for {world.size} processes"
            f" with {options.accumulate} parts each",
            field="texts",
            fix=f"give at least {world.size * options.accumulate}",
        )
    if options.alm and body.kind != "causal":
        raise errors.build(
            errors.InvalidValue,
            "a model that sees both sides gives no probability of a chunk of text",
            field="alm",
            fix="leave it out",
        )
    if options.dynamic_share and target:
        raise errors.build(
            errors.InvalidValue,
            "steps on merged batches are about the model's own tokenizer, and there is a target",
            field="dynamic_share",
            fix="leave one of the two out",
        )
    if options.compile == "on" and cut:
        raise errors.build(
            errors.InvalidValue,
            "a model that is cut over processes is not compiled here",
            field="compile",
            fix='give compile="off", or parallel="ddp"',
        )


def check_window(options: FitOptions, body: Body, controls: Controls) -> None:
    """Check that the model has a position for every id of a text."""
    around = len(controls.first) + len(controls.last)
    most = positions_of(body.model)
    if most is not None and options.window + around > most:
        raise errors.build(
            errors.InvalidValue,
            f"{options.window} ids and {around} around them are more than the model has "
            f"positions for, {most}",
            field="window",
            fix=f"give at most {most - around}",
        )
