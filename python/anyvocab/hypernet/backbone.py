"""The model beside the network: frozen, with low-rank adapters, or trained whole."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from anyvocab import errors
from anyvocab.hypernet.sharding import blocks_of, shard, whole

if TYPE_CHECKING:
    from pathlib import Path

    from anyvocab.hypernet.body import Body
    from anyvocab.hypernet.options import FitOptions
    from anyvocab.hypernet.parallel import World

__all__ = ["Backbone", "recompute", "saved_model"]

_ADAPTER = "default"


@dataclass(eq=False)
class Backbone:
    """A model as a training uses it.

    Attributes:
        body: The model, its adapters included.
        teacher: What knows the source's tokenization, for likelihood matching and for merged
            batches: the model as it was; None where nothing asks for it.
        names: Names of the parameters that are trained, sorted.
    """

    body: Body
    teacher: Body | None
    names: tuple[str, ...]

    @classmethod
    def of(cls, body: Body, options: FitOptions) -> Backbone:
        """Return the model with what `options` train of it; the model itself is changed.

        The vocabulary's own matrices are never trained: the network predicts rows in their place.

        Raises:
            MissingExtra: peft is not installed.
            InvalidValue: The adapters find nothing to adapt.
        """
        model: nn.Module = body.model
        model.requires_grad_(False)
        teacher = None
        if options.alm or options.dynamic_share:
            teacher = body
            if options.backbone == "full":
                shared = {id(one): one for one in _vocabulary(model)}
                teacher = replace(body, model=copy.deepcopy(model, shared))
        if options.backbone == "lora":
            _adapt(model, options)
        elif options.backbone == "full":
            kept = {id(one) for one in _vocabulary(model)}
            for parameter in model.parameters():
                if id(parameter) not in kept:
                    # Small steps vanish in half precision.
                    parameter.data = parameter.data.float()
                    parameter.requires_grad_(True)
            if options.dtype == "float32":
                body = replace(body, rows=body.rows.to(torch.float32))
        names = tuple(sorted(n for n, one in model.named_parameters() if one.requires_grad))
        return cls(body, teacher, names)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Return what is trained, by name."""
        every = dict(self.body.model.named_parameters())
        return {name: every[name] for name in self.names}

    def teaching(self) -> Any:
        """Return a context in which the teacher is the model without its adapters."""
        apart = self.teacher is not None and self.teacher.model is not self.body.model
        return nullcontext() if apart or not self.names else _without_adapters(self.body.model)

    def cut(self, world: World) -> None:
        """Cut the parameters over the ranks."""
        both = [self.body.model]
        if self.teacher is not None and self.teacher.model is not self.body.model:
            both.append(self.teacher.model)
        for model in both:
            kept = _vocabulary(model)
            if self.names and any("lora_" in name for name in self.names):
                kept += [one for one in model.parameters() if one.requires_grad]
            inner = model.base_model if self.body.kind == "causal" else model
            shard(inner, world, blocks=list(blocks_of(inner)), kept=kept)


def recompute(model: nn.Module) -> None:
    """Let a model's layers make their activations anew in the backward pass, in place.

    What transformers offers for this works while a model is in training mode, with its dropout.
    """
    for block in blocks_of(model):
        block.forward = functools.partial(_again, block.forward)  # type: ignore[method-assign]


def _again(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # There is no chance in a model that is not in training mode.
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def saved_model(backbone: Backbone, folder: Path | str, dtype: torch.dtype, *, write: bool) -> None:
    """Save the model as a plain folder of transformers, adapters merged into its weights.

    Its vocabulary's matrices are the source's.

    Args:
        backbone: The model.
        folder: Where to.
        dtype: Type of the weights on disk.
        write: Whether this rank writes; all ranks take part.
    """
    state = _merged_state(backbone.body.model)
    if not write:
        return
    model = backbone.body.model
    kind = next(one for one in type(model).__mro__ if not one.__name__.startswith("FSDP"))
    with torch.device("meta"):
        plain = kind(model.config)
    given = {name: one.to(dtype) if one.is_floating_point() else one for name, one in state.items()}
    plain.load_state_dict(given, assign=True)
    plain.tie_weights()
    if getattr(model, "generation_config", None) is not None:
        plain.generation_config = model.generation_config
    with _silent():
        plain.save_pretrained(os.fspath(folder))


@contextmanager
def _silent() -> Iterator[None]:
    from transformers.utils import logging

    had_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # library code prints nothing
    try:
        yield
    finally:
        if had_bar:
            logging.enable_progress_bar()


def _merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights by the names they have without adapters, whole, on the CPU."""
    state = {name: whole(one) for name, one in model.state_dict().items()}
    for name, module in _adapted(model):
        prefix = f"{name}."
        a, b = (state[f"{prefix}lora_{side}.{_ADAPTER}.weight"].float() for side in "AB")
        change = module.scaling[_ADAPTER] * (b @ a)
        if module.fan_in_fan_out:
            change = change.mT
        base = f"{prefix}base_layer.weight"
        state[base] = (state[base].float() + change).to(state[base].dtype)
    return {
        name.replace(".base_layer.", "."): one for name, one in state.items() if "lora_" not in name
    }


def _vocabulary(model: Any) -> list[Tensor]:
    reads, writes = model.get_input_embeddings(), model.get_output_embeddings()
    every = (reads.weight, writes.weight, getattr(writes, "bias", None))
    return [one for one in every if one is not None]


def _adapt(model: nn.Module, options: FitOptions) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise errors.missing_extra(
            "low-rank adapters need peft, which is not installed",
            field="backbone",
            extra="hypernet",
        ) from error
    torch.manual_seed(options.seed)
    names = _linear_names(model)
    if not names:
        raise errors.build(
            errors.InvalidValue,
            "the model has no linear layers that adapters could be put on",
            field="backbone",
            fix='give backbone="full" or "frozen"',
        )
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_rank,
        lora_dropout=0.0,
        target_modules=sorted(names),
        fan_in_fan_out=any(names.values()),
    )
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()


def _linear_names(model: Any) -> dict[str, bool]:
    """Return the names of the layers' products, and whether each is a `Conv1D`, as in GPT-2."""
    from transformers.pytorch_utils import Conv1D

    inside = {id(one) for block in blocks_of(model) for one in block.modules()}
    return {
        name: isinstance(module, Conv1D)
        for name, module in model.named_modules()
        if id(module) in inside and isinstance(module, nn.Linear | Conv1D)
    }


def _adapted(model: nn.Module) -> list[tuple[str, Any]]:
    return [(name, one) for name, one in model.named_modules() if hasattr(one, "base_layer")]


@contextmanager
def _without_adapters(model: nn.Module) -> Iterator[None]:
    adapted = [one for _, one in _adapted(model)]
    for one in adapted:
        one.enable_adapters(False)
    try:
        yield
    finally:
        for one in adapted:
            one.enable_adapters(True)
