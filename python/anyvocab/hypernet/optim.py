"""The update: parameters in groups, the learning rate's course, the gradient's norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anyvocab import errors
from anyvocab.hypernet.sharding import is_cut, local

if TYPE_CHECKING:
    from anyvocab.hypernet.options import FitOptions
    from anyvocab.hypernet.parallel import World

__all__ = ["Updates", "rate"]


def rate(options: FitOptions, step: int, done: float) -> float:
    """Return the share of the highest learning rate: a rise over `warmup`, then the schedule.

    Args:
        options: The run's.
        step: Updates so far.
        done: The share of the budget that is spent.
    """
    rise = min(1.0, (step + 1) / max(1, options.warmup))
    if options.schedule == "constant":
        return rise
    left = 1.0 - min(1.0, done)
    if options.schedule == "cosine":
        left = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return rise * (options.final + (1.0 - options.final) * left)


class Updates:
    """Takes steps with gradients that are each rank's own.

    Attributes:
        optimizer: AdamW.
    """

    def __init__(
        self,
        network: Mapping[str, Tensor],
        backbone: Mapping[str, Tensor],
        options: FitOptions,
        world: World,
    ) -> None:
        """Make the optimizer.

        Args:
            network: The network's parameters.
            backbone: Those of the model that are trained beside it.
            options: The run's.
            world: The ranks.
        """
        self.options, self.world = options, world
        groups = _groups(network, options.lr, options.weight_decay)
        groups += _groups(backbone, options.backbone_rate, options.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.95), eps=1e-8)
        self._parameters = [one for group in groups for one in group["params"]]
        self._peaks = [group["lr"] for group in groups]

    @property
    def parameters(self) -> list[Tensor]:
        """Return all parameters, in the order in which the optimizer counts them."""
        return list(self._parameters)

    def clear(self) -> None:
        """Forget gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def reduce(self, scale: float) -> float:
        """Sum the gradients over ranks, clip them and return the norm they had.

        Args:
            scale: What the losses were multiplied by: FSDP2 divides its gradients by the ranks.

        Raises:
            NumericsError: The norm is not finite.
        """
        alone = [one for one in self._parameters if not is_cut(one)]
        self.world.sum_gradients(alone)
        if scale != 1.0:
            for one in alone:
                if one.grad is not None:
                    one.grad.div_(scale)
        norm = self._norm()
        if math.isfinite(norm):
            share = min(1.0, self.options.clip / (norm + 1e-6))
            for one in self._parameters:
                if one.grad is not None and share < 1.0:
                    local(one.grad).mul_(share)
            return norm
        raise errors.build(
            errors.NumericsError,
            f"the gradient's norm is {norm}",
            field="lr",
            fix="a lower learning rate, or dtype float32; the last checkpoint is whole",
        )

    def _norm(self) -> float:
        given = [one.grad for one in self._parameters if one.grad is not None]
        parts = _squares(local(one) for one in given if is_cut(one))
        # Squares of what is cut are summed over ranks; of what is not, every rank has them all.
        cut = self.world.summed([parts])[0] if any(map(is_cut, given)) else 0.0
        return math.sqrt(cut + _squares(one for one in given if not is_cut(one)))

    def take(self, share: float) -> None:
        """Take a step at a share of the highest learning rates."""
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share
        self.optimizer.step()
        self.clear()


def _squares(tensors: Iterable[Tensor]) -> float:
    norms = [torch.linalg.vector_norm(one) for one in tensors]
    return float(torch.stack(norms).double().square().sum()) if norms else 0.0


def _groups(parameters: Mapping[str, Tensor], lr: float, decay: float) -> list[dict[str, Any]]:
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for _, parameter in sorted(parameters.items()):
        (matrices if parameter.dim() == 2 else others).append(parameter)
    return [
        {"params": found, "weight_decay": weight, "lr": lr}
        for found, weight in ((matrices, decay), (others, 0.0))
        if found
    ]
