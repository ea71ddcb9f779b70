"""Losses that never hold a batch's logits: the head and its gradients, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, nll_loss

__all__ = [
    "IGNORED",
    "alignment",
    "lexical",
    "likelihood_matching",
    "linear_cross_entropy",
    "linear_divergence",
    "linear_logprobs",
]

IGNORED = -100  # a target that is not scored
CHUNK = 1 << 24  # logits that exist at once: 64 MiB in float32
NEVER_SURE = 1e-6  # nats: a probability of 1 is taken for this much less, as ALM's authors do

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
        given = (hidden, weight, bias)
        wanted = [one is not None and one.requires_grad for one in given]
        kept = _empty(given, wanted)
        total = hidden.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            with torch.enable_grad():
                ours = _apart(given, wanted, rows)
                loss = _score(ours[0], ours[1], ours[2], offset, target[rows], shape, "sum")
            total += loss.detach()
            _gather(kept, ours, loss, None, rows)
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


Parts = Sequence[Tensor | None]  # hidden, weight, bias


def _empty(given: Parts, wanted: Sequence[bool]) -> list[Tensor | None]:
    return [
        torch.zeros_like(one, dtype=torch.float32) if want and one is not None else None
        for one, want in zip(given, wanted, strict=True)
    ]


def _apart(given: Parts, wanted: Sequence[bool], rows: slice) -> list[Any]:
    """Return a chunk of the states, the weights and the bias, each a leaf of its own graph."""
    hidden, *others = given
    parts = (None if hidden is None else hidden[rows], *others)
    return [
        None if one is None else one.detach().requires_grad_(want)
        for one, want in zip(parts, wanted, strict=True)
    ]


def _gather(
    kept: Sequence[Tensor | None],
    ours: Parts,
    loss: Tensor,
    grad: Tensor | None,
    rows: slice,
) -> None:
    """Add a chunk's gradients to those that are kept."""
    asked = [one for one in ours if one is not None and one.requires_grad]
    found = iter(torch.autograd.grad(loss, asked, grad) if asked else ())
    for at, one in enumerate(kept):
        if one is not None:
            part = one[rows] if at == 0 else one
            part += next(found)


def _score(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    target: Tensor,
    shape: Shape | None,
    reduction: str,
) -> Tensor:
    logits = (hidden @ weight.to(hidden.dtype).mT).float()  # (C, M)
    if bias is not None:
        logits = logits + bias
    if shape is not None:
        logits = shape(logits)
    if offset is not None:
        logits = logits + offset
    return cross_entropy(logits, target, ignore_index=IGNORED, reduction=reduction)


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


class _LinearLogprobs(torch.autograd.Function):
    """Log-probabilities of targets; the backward pass makes a chunk's logits a second time."""

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
        ctx.save_for_backward(hidden, weight, bias, offset, target)
        ctx.shape, ctx.chunk = shape, chunk
        found = hidden.new_zeros(len(hidden), dtype=torch.float32)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            found[rows] = -_score(hidden[rows], weight, bias, offset, target[rows], shape, "none")
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        hidden, weight, bias, offset, target = ctx.saved_tensors
        given = (hidden, weight, bias)
        wanted = ctx.needs_input_grad[:3]
        kept = _empty(given, wanted)
        for start in range(0, len(hidden), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            with torch.enable_grad():
                ours = _apart(given, wanted, rows)
                nats = _score(ours[0], ours[1], ours[2], offset, target[rows], ctx.shape, "none")
            _gather(kept, ours, nats, -grad[rows], rows)
        kinds = [None if one is None else one.dtype for one in given]
        return (
            *(None if one is None else one.to(kind) for one, kind in zip(kept, kinds, strict=True)),
            *(None,) * 4,
        )


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    offset: Tensor | None = None,
    shape: Shape | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Return the log-probability of each target under `hidden @ weight.T`, nats, float32 (N,).

    Like :func:`linear_cross_entropy`, which takes the same arguments, it never holds the logits of
    more than `chunk` states; they are made twice, because gradients wait for what the
    log-probabilities are used for. 0 where the target is `IGNORED`.

    >>> hidden, weight = torch.randn(3, 4), torch.randn(7, 4)
    >>> plain = (hidden @ weight.T).log_softmax(dim=1)[torch.arange(3), torch.tensor([6, 0, 2])]
    >>> found = linear_logprobs(hidden, weight, torch.tensor([6, 0, 2]), chunk=2)
    >>> bool((found - plain).abs().max() < 1e-5)
    True
    """
    size = chunk or max(1, CHUNK // max(1, len(weight)))
    found: Tensor = _LinearLogprobs.apply(hidden, weight, bias, offset, target, shape, size)  # type: ignore[no-untyped-call]
    return found


class _LinearDivergence(torch.autograd.Function):
    """The divergence and the states' gradient in the forward pass: no logits are kept."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        other: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        shape: Shape | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kept = torch.zeros_like(hidden, dtype=torch.float32)
        sums = hidden.new_zeros(3, dtype=torch.float32)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            theirs = _logprobs(other[rows], weight, bias, shape)
            with torch.enable_grad():
                leaf = hidden[rows].detach().requires_grad_()
                ours = _logprobs(leaf, weight, bias, shape)
                apart = kl_div(ours, theirs, reduction="sum", log_target=True)
            kept[rows] = torch.autograd.grad(apart, leaf)[0]
            texts = [
                nll_loss(one.detach(), target[rows], reduction="sum") for one in (ours, theirs)
            ]
            sums += torch.stack((apart.detach(), *texts))
        ctx.save_for_backward(kept)
        ctx.kind = hidden.dtype
        apart, nats, plain = sums.unbind()
        ctx.mark_non_differentiable(nats, plain)
        return apart, nats, plain

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:  # type: ignore[override]
        (kept,) = ctx.saved_tensors
        return ((kept * grad).to(ctx.kind), *(None,) * 6)


def _logprobs(hidden: Tensor, weight: Tensor, bias: Tensor | None, shape: Shape | None) -> Tensor:
    logits = (hidden @ weight.to(hidden.dtype).mT).float()  # (C, M)
    if bias is not None:
        logits = logits + bias
    return (logits if shape is None else shape(logits)).log_softmax(dim=-1)


def linear_divergence(
    hidden: Tensor,
    other: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    shape: Shape | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far predictions are from others of the same head, and what a text costs in both.

    Like :func:`linear_cross_entropy` it never holds the logits of more than `chunk` states, and
    only `hidden` gets a gradient: of the divergence.

    Args:
        hidden: Final states, (N, D).
        other: The states whose predictions are wanted, (N, D); not trained.
        weight: Output rows, (M, D); not trained.
        target: int64 (N,): a row of `weight`.
        bias: (M,).
        shape: What the model does to its logits, elementwise.
        chunk: States at a time; as many as `CHUNK` logits when left out.

    Returns:
        Sums over the states in nats: the Kullback-Leibler divergence of the predictions of `hidden`
        from those of `other`, and the cross-entropies of the targets under both.

    >>> hidden, weight = torch.randn(3, 4), torch.randn(7, 4)
    >>> apart, nats, same = linear_divergence(hidden, hidden, weight, torch.tensor([6, 0, 2]))
    >>> float(apart), bool(nats == same)
    (0.0, True)
    """
    size = chunk or max(1, CHUNK // max(1, len(weight)))
    found: tuple[Tensor, Tensor, Tensor] = _LinearDivergence.apply(  # type: ignore[no-untyped-call]
        hidden, other, weight, bias, target, shape, size
    )
    return found


def alignment(
    lengths_a: NDArray[np.int64], lengths_b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return which chunk each token of two tokenizations of one text lies in, and how many.

    A chunk ends wherever both have a token's end: chunks are the smallest pieces of the text that
    are whole tokens in both. Behind the last common end tokens are in no chunk, -1; the two need
    not reach equally far into the text.

    Args:
        lengths_a: Bytes of each token of one of them, int64 (n,).
        lengths_b: Bytes of each token of the other, int64 (m,).

    >>> a, b, count = alignment(np.array([1, 2, 3]), np.array([3, 1, 1]))
    >>> a.tolist(), b.tolist(), count
    ([0, 0, -1], [0, -1, -1], 1)
    """
    ends_a, ends_b = np.cumsum(lengths_a), np.cumsum(lengths_b)
    common = np.intersect1d(ends_a, ends_b)
    common = common[common > 0]
    found = []
    for ends in (ends_a, ends_b):
        chunks = np.searchsorted(common, ends).astype(np.int64)  # the first common end behind it
        chunks[chunks == len(common)] = -1
        found.append(chunks)
    return found[0], found[1], len(common)


def likelihood_matching(teacher: Tensor, student: Tensor, *, temperature: float = 5.0) -> Tensor:
    """Return the summed binary divergence between what two models say of chunks of a text.

    For each chunk the Kullback-Leibler divergence of Bernoulli variables, `exp(student / T)` from
    `exp(teacher / T)`: whether the chunk comes or something else does. This is approximate
    likelihood matching (arXiv:2503.20083, section 3), without its debiasing: that a tokenizer
    forbids what cannot follow a chunk's last token in it is left in both probabilities.

    Args:
        teacher: Log-probabilities of chunks, nats, (K,); not trained.
        student: The same of the model that learns, (K,).
        temperature: T; the paper uses 100 and finds 5 better.

    >>> p = torch.tensor([-1.0, -3.0])
    >>> float(likelihood_matching(p, p))
    0.0
    """
    wanted = (teacher.detach().float() / temperature).clamp_max(-NEVER_SURE)
    found = (student.float() / temperature).clamp_max(-NEVER_SURE)
    come = wanted.exp() * (wanted - found)
    other = -torch.expm1(wanted) * (_log1mexp(wanted) - _log1mexp(found))
    return (come + other).sum()


def _log1mexp(x: Tensor) -> Tensor:
    """Return ln(1 - exp(x)) for x < 0, exact to rounding on both sides of -ln 2."""
    near = x > -0.6931
    # Each branch is given what it can bear: the gradient of an unused infinity is no number.
    close = torch.log(-torch.expm1(torch.where(near, x, -0.5)))
    far = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return torch.where(near, close, far)


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
