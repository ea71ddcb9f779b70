"""A hand-written Llama forward pass whose parameters carry the names of `LlamaForCausalLM`.

Training with it costs no transformers overhead and its `state_dict` is the checkpoint: the
agreement of the two is measured at export. One file, after litgpt and llama2.c.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOSS_CHUNK = 128  # positions whose float32 logits exist at once: 2 MB of 4096 ids, a core's cache
IGNORED = -100


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a pico model. `rms_eps` and `rope_theta` are Llama's."""

    vocab_size: int
    dim: int = 192
    layers: int = 6
    heads: int = 3
    kv_heads: int = 3
    hidden: int = 512
    context: int = 512
    tied: bool = True
    rms_eps: float = 1e-5
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.heads % self.kv_heads:
            raise ValueError(
                f"dim {self.dim} must be a multiple of heads {self.heads}, "
                f"and heads of kv_heads {self.kv_heads}"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for a checkpoint."""
        return asdict(self)


def rope_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return cos and sin, each (context, head_dim), in the half-rotated layout of transformers."""
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(config.context, dtype=torch.float64), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `x` (B, H, T, head_dim) with its positions rotated in (RoPE, arXiv:2104.09864)."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class _Attend(torch.autograd.Function):
    """Causal attention with its gradient, all products and the weights in one type."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scale, length = q.shape[-1] ** -0.5, q.shape[-2]
        future = q.new_full((length, length), -math.inf).triu(1)
        scores = torch.matmul(q * scale, k.mT).add_(future)  # (B, H, T, T)
        weights = torch.softmax(scores, dim=-1)  # sums in float32 whatever the type
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, weights = ctx.saved_tensors
        grad = grads[0].to(weights.dtype)
        slopes = torch._softmax_backward_data(grad @ v.mT, weights, -1, weights.dtype)
        slopes.mul_(q.shape[-1] ** -0.5)
        return slopes @ k, slopes.mT @ q, weights.mT @ grad


@torch.compiler.disable  # compiled in bfloat16 its gradient is NaN (torch 2.15.0, CPU)
def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return causal attention (B, H, T, head_dim) in the type of `v`.

    Written out, because at these lengths the fused kernel's backward pass, which makes the scores
    again, takes a quarter of a CPU's training time.
    """
    with torch.autocast(v.device.type, enabled=False):
        out: Tensor = _Attend.apply(q.to(v.dtype), k.to(v.dtype), v)
    return out


class Attention(nn.Module):
    """Causal grouped-query attention without biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        kv_dim = config.kv_heads * config.head_dim
        self.config = config
        self.q_proj = nn.Linear(config.dim, config.dim, bias=False)
        self.k_proj = nn.Linear(config.dim, kv_dim, bias=False)
        self.v_proj = nn.Linear(config.dim, kv_dim, bias=False)
        self.o_proj = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, dim = x.shape
        c = self.config
        weight = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        packed = F.linear(x, weight).view(batch, length, -1, c.head_dim).transpose(1, 2)
        sizes = [c.heads, c.kv_heads, c.kv_heads]
        q, k, v = torch.split(packed, sizes, dim=1)  # (B, H, T, head_dim)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if c.kv_heads != c.heads:
            k = k.repeat_interleave(c.heads // c.kv_heads, dim=1)
            v = v.repeat_interleave(c.heads // c.kv_heads, dim=1)
        mixed = attend(q, k, v)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, dim))
        return out


class Mlp(nn.Module):
    """SwiGLU (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.dim, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.dim, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.cat((self.gate_proj.weight, self.up_proj.weight))
        gate, up = F.linear(x, weight).chunk(2, dim=-1)  # (B, T, hidden) each
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


class Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Mlp(config)
        self.input_layernorm = nn.RMSNorm(config.dim, eps=config.rms_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.dim, eps=config.rms_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Trunk(nn.Module):
    """Embedding, blocks and the last norm."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.dim, eps=config.rms_eps)
        cos, sin = rope_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x: Tensor = self.embed_tokens(ids)  # (B, T, dim)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        out: Tensor = self.norm(x)
        return out


class PicoLM(nn.Module):
    """A Llama language model; its `state_dict` loads into `LlamaForCausalLM` as it is."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw the weights: normal of std 1/sqrt(fan in), residual outputs zero."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
            elif name.startswith("model.embed_tokens"):
                parameter.normal_(std=0.02, generator=generator)
            else:
                parameter.normal_(std=1 / math.sqrt(parameter.shape[1]), generator=generator)
        if not self.config.tied:
            self.lm_head.weight.mul_(0.1)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of `ids` (B, T), T at most `context`."""
        out: Tensor = self.lm_head(self.model(ids))
        return out

    def loss(
        self,
        ids: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        barred: tuple[Tensor, int] | None = None,
    ) -> Tensor:
        """Return the summed cross entropy in nats; positions with target `IGNORED` count 0.

        Args:
            ids: (B, T).
            targets: (B, T).
            weights: (B, T), what each position counts; 1 when left out.
            barred: Positions (B, T) at which an id is no possible answer, and that id.
        """
        hidden = self.model(ids).flatten(0, 1)  # (B*T, dim)
        counts = (targets != IGNORED).float() if weights is None else weights
        total = linear_cross_entropy(
            hidden,
            self.lm_head.weight,
            targets.flatten(),
            counts.flatten(),
            barred and (barred[0].flatten(), barred[1]),
        )
        return total


class _LinearCrossEntropy(torch.autograd.Function):
    """Sum of cross entropies of `hidden @ weight.T`, softmax chunk by chunk.

    The gradients are computed in the forward pass, so no logits are made twice (Liger-Kernel,
    arXiv:2410.10989). Under autocast the products are in its type, softmax and sums in float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        counts: Tensor,
        barred: tuple[Tensor, int] | None,
    ) -> Tensor:
        autocast = torch.is_autocast_enabled(hidden.device.type)
        dtype = torch.get_autocast_dtype(hidden.device.type) if autocast else weight.dtype
        rows, matrix = hidden.to(dtype), weight.to(dtype)
        slopes = torch.empty(len(rows), len(matrix), dtype=dtype)  # of the logits, (N, V)
        total = weight.new_zeros(())
        for start in range(0, len(rows), LOSS_CHUNK):
            part = slice(start, start + LOSS_CHUNK)
            target, count = targets[part], counts[part]
            safe = target.masked_fill(target == IGNORED, 0)[:, None]
            logits = (rows[part] @ matrix.t()).float()  # (chunk, V)
            if barred is not None:
                logits[:, barred[1]].masked_fill_(barred[0][part], -math.inf)
            logprobs = torch.log_softmax(logits, dim=-1)
            found = logprobs.gather(1, safe)[:, 0].masked_fill_(count == 0, 0.0)
            total -= (found * count).sum()
            slope = logprobs.exp_()
            slope.scatter_add_(1, safe, slope.new_full(safe.shape, -1.0))
            slopes[part] = slope.mul_(count[:, None])
        ctx.save_for_backward(
            (slopes @ matrix).to(hidden.dtype), (slopes.t() @ rows).to(weight.dtype)
        )
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0], grad_weight * grads[0], None, None, None


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    counts: Tensor,
    barred: tuple[Tensor, int] | None = None,
) -> Tensor:
    """Return the weighted sum of the cross entropies of `hidden @ weight.T`, in nats.

    Args:
        hidden: (N, D).
        weight: (V, D).
        targets: (N,); `IGNORED` where `counts` is 0.
        counts: (N,), what each position counts.
        barred: Positions (N,) at which an id is no possible answer, and that id.
    """
    if torch.is_grad_enabled():
        out: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, counts, barred)
        return out
    total = hidden.new_zeros(())
    for start in range(0, hidden.shape[0], LOSS_CHUNK):
        part = slice(start, start + LOSS_CHUNK)
        logits = hidden[part] @ weight.t()
        if barred is not None:
            logits[:, barred[1]].masked_fill_(barred[0][part], -math.inf)
        each = F.cross_entropy(logits, targets[part], ignore_index=IGNORED, reduction="none")
        total += (each * counts[part]).sum()
    return total
