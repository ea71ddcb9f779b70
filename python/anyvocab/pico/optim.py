"""Muon for the matrices, AdamW for the rest, with a state that is a flat table of tensors.

Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon): momentum, then the nearest
semi-orthogonal matrix by a Newton-Schulz iteration. Embeddings, the head and norms take AdamW.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16"]

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the quintic of the reference
NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True)
class OptimConfig:
    """Peak learning rates and the usual constants."""

    matrix_lr: float = 0.03
    embed_lr: float = 0.01
    norm_lr: float = 0.006
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-10
    matrix_decay: float = 0.1
    embed_decay: float = 0.01
    clip: float = 1.0
    precision: Precision = "float32"  # of the Newton-Schulz iteration


def orthogonalise(batch: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the matrices of `batch` (N, R, C), R <= C, with singular values near 1.

    The iteration runs in `dtype`; the interval it reaches is wide enough for bfloat16.
    """
    a, b, c = NEWTON_SCHULZ
    x: Tensor = (batch / (batch.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.to(batch.dtype)


class Optimizer:
    """Both methods over one model; one `step` per update."""

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        self.config = config
        self.steps = 0
        self.matrices: dict[str, nn.Parameter] = {}
        self.others: dict[str, nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            inside = ".layers." in name and parameter.dim() == 2
            (self.matrices if inside else self.others)[name] = parameter
        self.state: dict[str, Tensor] = {}
        for name, parameter in self.matrices.items():
            self.state[f"momentum.{name}"] = torch.zeros_like(parameter)
        for name, parameter in self.others.items():
            self.state[f"first.{name}"] = torch.zeros_like(parameter)
            self.state[f"second.{name}"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, scale: float) -> float:
        """Update every parameter with its rate times `scale`; return the gradient's norm."""
        everything = [*self.matrices.values(), *self.others.values()]
        norm = float(nn.utils.clip_grad_norm_(everything, self.config.clip))
        self.steps += 1
        self._muon(scale)
        self._adamw(scale)
        for parameter in everything:
            parameter.grad = None
        return norm

    def _muon(self, scale: float) -> None:
        config = self.config
        by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
        for name, parameter in self.matrices.items():
            if parameter.grad is None:
                continue
            momentum = self.state[f"momentum.{name}"]
            momentum.lerp_(parameter.grad, 1 - config.momentum)
            update = parameter.grad.lerp(momentum, config.momentum)  # Nesterov
            wide = update if update.shape[0] <= update.shape[1] else update.mT
            by_shape.setdefault((wide.shape[0], wide.shape[1]), []).append((parameter, wide))
        rate = config.matrix_lr * scale
        for group in by_shape.values():
            stacked = torch.stack([wide for _, wide in group])
            updates = orthogonalise(stacked, getattr(torch, config.precision))
            for (parameter, _), update in zip(group, updates, strict=True):
                rows, columns = parameter.shape
                turned = update if rows <= columns else update.mT
                parameter.mul_(1 - rate * config.matrix_decay)
                parameter.add_(turned, alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def _adamw(self, scale: float) -> None:
        config = self.config
        beta1, beta2 = config.betas
        for name, parameter in self.others.items():
            if parameter.grad is None:
                continue
            first, second = self.state[f"first.{name}"], self.state[f"second.{name}"]
            first.lerp_(parameter.grad, 1 - beta1)
            second.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
            matrix = parameter.dim() == 2
            rate = (config.embed_lr if matrix else config.norm_lr) * scale
            if matrix:
                parameter.mul_(1 - rate * config.embed_decay)
            unbiased = (second / (1 - beta2**self.steps)).sqrt_().add_(config.eps)
            parameter.addcdiv_(first / (1 - beta1**self.steps), unbiased, value=-rate)
