"""Losses that never hold a batch's logits: the head and its gradients, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["IGNORED", "lexical", "linear_cross_entropy"]

IGNORED = -100  # a target that is not scored
CHUNK = 1 << 24  # logits that exist at once: 64 MiB in float32

Shape = Callable[[Tensor], Tensor]


class _LinearCrossEntropy(torch.autograd.Function):
    """The loss and its gradients in the forward pass: a chunk's logits are made once."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        offset: Tensor | None,
        target: Tensor,
        shape: Shape | None,
        chunk: int,
    ) -> Tensor:
        wanted = [
            hidden.requires_grad,
            weight.requires_grad,
            bias is not None and bias.requires_grad,
        ]
        kept = [
            torch.zeros_like(one, dtype=torch.float32) if want and one is not None else None
            for one, want in zip((hidden, weight, bias), wanted, strict=True)
        ]
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            with torch.enable_grad():
                ours = [
                    None if one is None else one.detach().requires_grad_(want)
                    for one, want in zip((hidden[rows], weight, bias), wanted, strict=True)
                ]
                loss = _sum(ours[0], ours[1], ours[2], offset, target[rows], shape)
                asked = [one for one in ours if one is not None and one.requires_grad]
                found = list(torch.autograd.grad(loss, asked)) if asked else []
            total += loss.detach()
            if wanted[0]:
                kept[0][rows] = found.pop(0)  # type: ignore[index]
            for at in (1, 2):
                if wanted[at]:
                    kept[at] += found.pop(0)  # type: ignore[operator]
        ctx.save_for_backward(*kept)
        ctx.types = [None if one is None else one.dtype for one in (hidden, weight, bias)]
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        found = [
            None if one is None else (one * grad).to(kind)
            for one, kind in zip(ctx.saved_tensors, ctx.types, strict=True)
        ]
        return (*found, None, None, None, None)


def _sum(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    target: Tensor,
    shape: Shape | None,
) -> Tensor:
    logits = (hidden @ weight.to(hidden.dtype).mT).float()  # (C, M)
    if bias is not None:
        logits = logits + bias
    if shape is not None:
        logits = shape(logits)
    if offset is not None:
        logits = logits + offset
    return cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    offset: Tensor | None = None,
    shape: Shape | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Return the summed cross-entropy of `hidden @ weight.T`, nats, without ever holding it whole.

    The products are in `hidden`'s type, sums and the softmax in float32. Gradients are made in
    the forward pass and kept in float32; second derivatives do not exist.

    Args:
        hidden: Final states, (N, D).
        weight: Output rows, (M, D).
        target: int64 (N,): a row of `weight`, or `IGNORED`.
        bias: (M,).
        offset: Added to the logits, (M,), and not trained: what a row that stands for several
            adds, for example.
        shape: What the model does to its logits (a cap, a factor), elementwise.
        chunk: States at a time; as many as `CHUNK` logits when left out.

    >>> hidden, weight = torch.randn(5, 4), torch.randn(7, 4)
    >>> target = torch.tensor([0, 1, 2, 3, -100])
    >>> plain = cross_entropy(hidden @ weight.T, target, reduction="sum")
    >>> bool((linear_cross_entropy(hidden, weight, target, chunk=2) - plain).abs() < 1e-4)
    True
    """
    size = chunk or max(1, CHUNK // max(1, len(weight)))
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, offset, target, shape, size)  # type: ignore[no-untyped-call]
    return loss


def lexical(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared distance of rows from what they are in the source.

    Normed by the mean squared length of the source's rows, so it has no unit: 1 is a row at zero.
    ZeTT's auxiliary loss (arXiv:2405.07883) divides by the mean length instead, which depends on
    the model's scale.

    Args:
        predicted: (N, D).
        truth: (N, D), not trained.
    """
    wanted = truth.detach().float()
    apart = (predicted - wanted).square().sum(dim=1).mean()
    return apart / wanted.square().sum(dim=1).mean().clamp_min(1e-12)
