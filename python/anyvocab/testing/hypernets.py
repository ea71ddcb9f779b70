"""Hypernetworks small enough to run in a test, from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from anyvocab.hypernet import Hypernet
    from anyvocab.hypernet.predict import SourceModel

__all__ = ["tiny_hypernet"]


def tiny_hypernet(
    source: SourceModel,
    *,
    model: str = "",
    weights: Literal["fresh", "drawn"] = "fresh",
    sides: Literal["keep", "both"] = "keep",
    surroundings: Literal["vocabulary", "none"] = "vocabulary",
    languages: tuple[str, ...] = (),
    seed: int = 0,
) -> Hypernet:
    """Return a residual hypernetwork of a few thousand weights for a model.

    Args:
        source: The model.
        model: What its card calls it.
        weights: `fresh`: as before training, when it predicts means; `drawn`: its last layers are
            drawn too, so that rows depend on what they shall depend on.
        sides: `both`: a row for each side, though the model be tied.
        surroundings: Whether it is told of the vocabulary around a token.
        languages: Names of languages.
        seed: Of what is drawn.
    """
    import torch

    from anyvocab.hypernet import Hypernet
    from anyvocab.hypernet.features import FEATURES
    from anyvocab.hypernet.folder import Card
    from anyvocab.hypernet.network import NetworkConfig, ResidualHypernet
    from anyvocab.transplant.files import vocabulary_digest

    config = NetworkConfig(
        width=source.rows.width,
        tied=source.rows.output is None and sides == "keep",
        bias=source.rows.bias is not None,
        hidden=16,
        inner=32,
        layers=1,
        heads=2,
        surroundings=surroundings,
        features=len(FEATURES) if surroundings == "vocabulary" else 0,
        languages=languages,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResidualHypernet(config)
        network.measure(source.rows, seed=seed)
        if weights == "drawn":
            last = [layer for head in network.heads for layer in (head.weigh, head.correct)]
            for layer in (*last, *(() if network.bias is None else (network.bias,))):
                torch.nn.init.normal_(layer.weight, std=0.1)
    digest = vocabulary_digest(source.tokenizer.vocabulary)
    card = Card("residual", config.to_dict(), model, digest, len(source.rows))
    return Hypernet(network.eval(), card)
