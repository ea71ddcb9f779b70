"""FSDP2: parameters cut over ranks, whole only while they are used.

The frozen model is cut a layer at a time. The network is cut as one, because how often its layers
run depends on which tokens a rank has; so its weights are whole during a step, and its gradients
and the optimizer's state are cut.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from anyvocab import errors

if TYPE_CHECKING:
    from anyvocab.hypernet.options import FitOptions
    from anyvocab.hypernet.parallel import World

__all__ = ["blocks_of", "cuts", "is_cut", "like", "local", "shard", "whole"]

CUT_SHARE = 1 / 3  # of a GPU's memory: a model that fills more is cut over the ranks


def cuts(options: FitOptions, model: nn.Module, world: World) -> bool:
    """Whether a run cuts its parameters over the ranks: see `FitOptions.parallel`."""
    if world.size == 1 or options.parallel == "ddp":
        return False
    if options.parallel == "fsdp":
        return True
    if world.device.type != "cuda":
        return False
    held = sum(one.numel() * one.element_size() for one in model.parameters())
    if options.backbone == "full":  # weights, gradients and two moments in float32
        held += 16 * sum(one.numel() for one in model.parameters())
    memory: int = torch.cuda.get_device_properties(world.device).total_memory
    return held > CUT_SHARE * memory


def blocks_of(model: nn.Module) -> Iterator[nn.Module]:
    """Return a model's layers: members of the outermost lists of modules, in order."""
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks_of(child)


def shard(
    model: nn.Module, world: World, *, blocks: Iterable[nn.Module] = (), kept: Iterable[Tensor] = ()
) -> None:
    """Cut a model's parameters over the ranks, in place.

    Args:
        model: The model.
        world: The ranks.
        blocks: Modules of it that are made whole one after the other.
        kept: Parameters that stay whole: others hold them, too, or they are of another type.

    Raises:
        MissingExtra: torch is too old to leave `kept` out, and something is trained.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    options: dict[str, Any] = {"mesh": init_device_mesh(world.device.type, (world.size,))}
    left_out = set(kept)
    if left_out and "ignored_params" in inspect.signature(fully_shard).parameters:
        options["ignored_params"] = left_out
    elif left_out and any(one.requires_grad for one in model.parameters()):
        # What is frozen may be cut with the rest; what is trained has a type of its own.
        raise errors.build(
            errors.MissingExtra,
            f"torch {torch.__version__} cannot leave parameters out",
            field="parallel",
            fix='install torch 2.7 or later, or give parallel="ddp"',
        )
    for block in blocks:
        fully_shard(block, **options)
    fully_shard(model, **options)


def is_cut(tensor: object) -> bool:
    """Whether a tensor is cut over ranks."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """Return what this rank holds of a tensor."""
    return tensor.to_local() if is_cut(tensor) else tensor  # type: ignore[operator]


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor whole and on the CPU; all ranks ask for it together."""
    found = tensor.detach()
    return (found.full_tensor() if is_cut(found) else found).cpu()  # type: ignore[operator]


def like(value: Tensor, model: Tensor) -> Tensor:
    """Return a whole tensor as `model` is: on its device, and cut as it is."""
    if not is_cut(model):
        return value.to(model.device)
    from torch.distributed.tensor import distribute_tensor

    found: Tensor = distribute_tensor(
        value.to(model.device),
        model.device_mesh,  # type: ignore[attr-defined]
        model.placements,  # type: ignore[attr-defined]
    )
    return found
