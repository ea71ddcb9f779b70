"""A classifier learns to read merged tokens: a task trained with sampled amounts of merging.

Source: Feher et al. 2024, arXiv:2411.18553 (adapters trained with an amount of merging drawn for
each batch). There the amount is one of 30 steps of a table that was measured before; here it is a
share of what the batch can reach, which merging finds directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from anyvocab import errors
from anyvocab.dynamic.labels import IGNORED
from anyvocab.dynamic.task import Examples, logits_and_labels, task_kind

if TYPE_CHECKING:
    from anyvocab.dynamic.model import DynamicModel
    from anyvocab.dynamic.tokenizer import Boundary
    from anyvocab.tokenizer import Specials

__all__ = ["AdaptOptions", "AdaptReport", "MergeRates", "Progress", "adapt"]

Trained = Literal["lora", "full", "head"]
Progress = Callable[[str, int, int], None]
"""Told `adapt`, how many steps are done and how many there are."""

LEARNING_RATES: dict[str, float] = {"lora": 3e-4, "full": 5e-5, "head": 1e-3}


@dataclass(frozen=True)
class MergeRates:
    """How much of the attainable reduction each batch gets, drawn anew for each.

    Attributes:
        kind: `normal`: around `mean`, clipped to `low` and `high`; `uniform`: between these;
            `fixed`: always `mean`.
        mean: See `kind`.
        spread: The standard deviation of `normal`; a sixth, as published, when left out.
        low: The least share.
        high: The greatest.

    >>> rates = MergeRates()
    >>> draws = np.random.default_rng(0)
    >>> [round(rates.draw(draws), 2) for _ in range(3)]
    [0.52, 0.48, 0.61]
    """

    kind: Literal["normal", "uniform", "fixed"] = "normal"
    mean: float = 0.5
    spread: float = 1 / 6
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        errors.check_choice("kind", self.kind, ("normal", "uniform", "fixed"))
        if not 0 <= self.low <= self.high <= 1 or not 0 <= self.mean <= 1:
            raise errors.build(
                errors.InvalidValue,
                f"must be shares, 0 <= low <= high <= 1, got {self.low}, {self.high}; {self.mean}",
                field="rates",
                fix="1 is everything that the boundary lets merge",
            )
        if not self.spread >= 0:
            raise errors.build(
                errors.InvalidValue, f"must be at least 0, got {self.spread}", field="spread"
            )

    def draw(self, draws: np.random.Generator) -> float:
        """Return a share of the attainable reduction."""
        if self.kind == "fixed":
            return self.mean
        if self.kind == "uniform":
            return float(draws.uniform(self.low, self.high))
        return float(np.clip(draws.normal(self.mean, self.spread), self.low, self.high))


@dataclass(frozen=True)
class AdaptOptions:
    """How a classifier is trained.

    The matrix of input embeddings is never trained: rows of new tokens are made from it. A model
    that is trained whole is best loaded in float32, as it is by default: in a shorter type small
    steps vanish.

    Attributes:
        rates: How much each batch merges.
        boundary: As for :meth:`DynamicModel.merge`.
        train: `lora`: adapters on the products of the layers, and the head whole; `full`: all but
            the input embeddings; `head`: the head alone. A pooler belongs to the head.
        epochs: How often every example is read.
        batch_size: Texts of a step.
        lr: The highest learning rate; 3e-4 for adapters, 5e-5 for all, 1e-3 for a head when None.
        warmup: The share of the steps in which it rises; it falls to 0 afterwards.
        weight_decay: Of matrices.
        clip: The gradient's norm is at most this.
        lora_rank: The rank of the adapters; they are scaled by 2.
        lora_dropout: Of what the adapters read.
        specials: As for :meth:`DynamicModel.merge`.
        seed: Of the order, the rates, the adapters and dropout.
    """

    rates: MergeRates = field(default_factory=MergeRates)
    boundary: Boundary = "word"
    train: Trained = "lora"
    epochs: int = 3
    batch_size: int = 32
    lr: float | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    lora_rank: int = 32
    lora_dropout: float = 0.1
    specials: Specials = "parse"
    seed: int = 0

    def __post_init__(self) -> None:
        errors.check_choice("train", self.train, get_args(Trained))
        for name in ("epochs", "batch_size", "lora_rank"):
            if getattr(self, name) < 1:
                raise errors.build(
                    errors.InvalidValue,
                    f"must be at least 1, got {getattr(self, name)}",
                    field=name,
                )


@dataclass(frozen=True, eq=False)
class AdaptReport:
    """What a training did.

    Attributes:
        losses: The loss of each step, nats.
        rates: The share of the attainable reduction that each step asked for.
        reductions: The share of its base tokens that was gone.
        trained: How many numbers were trained.
        seconds: Wall time.
    """

    losses: list[float]
    rates: list[float]
    reductions: list[float]
    trained: int
    seconds: float


def adapt(
    model: DynamicModel,
    examples: Examples,
    options: AdaptOptions | None = None,
    *,
    progress: Progress | None = None,
) -> AdaptReport:
    """Train a classifier on merged batches, in place, and return what was done.

    Afterwards the network is a plain one again, adapters merged into its weights, in evaluation
    mode; save it with `model.network.save_pretrained`. Ctrl-C leaves it so, too, with what it had
    learned until then. torch's own generator is where it was before.

    Args:
        model: A classifier of texts or of tokens; it may be on any device.
        examples: What it is trained on.
        options: How; the defaults when left out.
        progress: Told how far it is.

    Raises:
        InvalidValue: The model is no classifier, the examples do not fit it, or there is nothing to
            put adapters on.
        MissingExtra: peft is not installed, and adapters are asked for.
    """
    import torch
    from torch.nn import functional

    from anyvocab.hypernet.interrupts import Interrupts

    chosen = options or AdaptOptions()
    task_kind(model.network)
    draws = np.random.default_rng(chosen.seed)
    steps = chosen.epochs * -(-len(examples) // chosen.batch_size)
    losses: list[float] = []
    rates: list[float] = []
    reductions: list[float] = []
    begun = time.perf_counter()
    with (
        Interrupts(alone=True) as interrupts,
        _seeded(model, chosen.seed),
        _training(model.network, chosen, interrupts) as parameters,
    ):
        optimizer = torch.optim.AdamW(_groups(parameters, chosen.weight_decay), lr=_peak(chosen))
        for number, part in enumerate(_shuffled(examples, chosen, draws)):
            rate = chosen.rates.draw(draws)
            batch = model.merge(
                part.texts, boundary=chosen.boundary, specials=chosen.specials, attainable=rate
            )
            logits, labels = logits_and_labels(model, batch, part.labels)
            counted = int((labels != IGNORED).sum())
            loss = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
            loss = loss / max(1, counted)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, chosen.clip)
            for group in optimizer.param_groups:
                group["lr"] = _peak(chosen) * _course(number, steps, chosen.warmup)
            with interrupts.held():
                optimizer.step()
            losses.append(float(loss.detach()))
            rates.append(rate)
            reductions.append(batch.reduction)
            if progress is not None:
                progress("adapt", number + 1, steps)
        trained = sum(one.numel() for one in parameters)
    return AdaptReport(losses, rates, reductions, trained, time.perf_counter() - begun)


def _shuffled(
    examples: Examples, options: AdaptOptions, draws: np.random.Generator
) -> Iterator[Examples]:
    for _ in range(options.epochs):
        yield from examples.part(draws.permutation(len(examples))).batches(options.batch_size)


def _peak(options: AdaptOptions) -> float:
    return LEARNING_RATES[options.train] if options.lr is None else options.lr


def _course(step: int, steps: int, warmup: float) -> float:
    """Return the share of the highest learning rate: it rises to 1 and falls towards 0."""
    rise = max(1, round(warmup * steps))
    return min((step + 1) / rise, (steps - step) / max(1, steps - rise + 1))


def _groups(parameters: list[Any], weight_decay: float) -> list[dict[str, Any]]:
    """Return matrices, which decay, and the rest, which does not."""
    matrices = [one for one in parameters if one.dim() > 1]
    others = [one for one in parameters if one.dim() <= 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


@contextmanager
def _seeded(model: DynamicModel, seed: int) -> Iterator[None]:
    """Seed torch for what is inside, and put its generators back."""
    import torch

    device = model.network.get_input_embeddings().weight.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _training(network: Any, options: AdaptOptions, interrupts: Any) -> Iterator[list[Any]]:
    """Make a network ready to be trained, give what is trained, and make it plain again."""
    flags = {name: one.requires_grad for name, one in network.named_parameters()}
    mode = network.training
    try:
        network.requires_grad_(options.train == "full")
        network.get_input_embeddings().weight.requires_grad_(False)
        if options.train == "lora":
            _inject(network, options)
        if options.train != "full":
            for one in _head(network):
                one.requires_grad_(True)
        network.train()
        yield [one for one in network.parameters() if one.requires_grad]
    finally:
        with interrupts.held():
            _merge_adapters(network)
            for name, one in network.named_parameters():
                one.requires_grad_(flags[name])
                one.grad = None
            network.train(mode)


def _head(network: Any) -> list[Any]:
    """Return the parameters outside the body, and those of a pooler in it."""
    body = network.base_model
    inside = {id(one) for one in body.parameters()}
    pooler = getattr(body, "pooler", None)
    found = [one for one in network.parameters() if id(one) not in inside]
    return found + ([] if pooler is None else list(pooler.parameters()))


def _inject(network: Any, options: AdaptOptions) -> None:
    """Put adapters on every product of the layers, in place."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise errors.missing_extra(
            "low-rank adapters need peft, which is not installed",
            field="train",
            extra="hypernet",
            otherwise=', or give train="full"',
        ) from error
    from torch import nn
    from transformers.pytorch_utils import Conv1D  # GPT-2's products: their matrices lie across

    from anyvocab.hypernet.sharding import blocks_of

    inside = {id(one) for block in blocks_of(network.base_model) for one in block.modules()}
    products = {
        name: module
        for name, module in network.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D)
    }
    if not products:
        raise errors.build(
            errors.InvalidValue,
            f"{type(network).__name__} has no layers of linear products for adapters",
            field="train",
            fix='give train="full" or "head"',
        )
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=2 * options.lora_rank,
        lora_dropout=options.lora_dropout,
        target_modules=list(products),
        fan_in_fan_out=all(isinstance(module, Conv1D) for module in products.values()),
    )
    inject_adapter_in_model(config, network)


def _merge_adapters(network: Any) -> None:
    """Add adapters to the weights they adapt and take them away; nothing where there are none."""
    for name, module in list(network.named_modules()):
        if not hasattr(module, "base_layer"):
            continue
        module.merge()
        above, _, last = name.rpartition(".")
        setattr(network.get_submodule(above), last, module.get_base_layer())
    if hasattr(network, "peft_config"):
        del network.peft_config
