"""Ranks: one process or many that train one network, with the same losses and gradients.

Every rank draws the same tokenizer and the same texts from the seed, so nothing of a step is sent
around but numbers: rank r predicts every W-th row from r on, and reads every W-th text from r on.
Rows are gathered with a gradient; losses and gradients are sums over ranks, divided by counts of
the whole step. What a run computes does not depend on the number of ranks but for rounding.
"""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from anyvocab import errors

__all__ = ["World"]

BUCKET = 1 << 23  # numbers of gradients that are summed in one message: 32 MiB in float32


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this is.

    Attributes:
        rank: Which process this is.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def find(cls, device: torch.device | str | None = None) -> World:
        """Return the world that torchrun or `accelerate launch` has started, else one process.

        The process group is made where there is none yet: nccl on GPUs, else gloo. It ends with the
        process.

        Args:
            device: Where to compute; `cuda:LOCAL_RANK` where there are GPUs, else the CPU, when
                left out.

        Raises:
            InvalidValue: The environment variables contradict each other.
        """
        started = dist.is_available() and dist.is_initialized()
        size = dist.get_world_size() if started else _number("WORLD_SIZE", 1)
        rank = dist.get_rank() if started else _number("RANK", 0)
        if not 0 <= rank < size:
            raise errors.build(
                errors.InvalidValue,
                f"is {rank} of {size} processes",
                field="RANK",
                fix="start the run by torchrun, or unset RANK and WORLD_SIZE",
            )
        where = _device(device, _number("LOCAL_RANK", rank if size > 1 else 0))
        if where.type == "cuda":
            _use(where)
        if size > 1 and not started:
            if where.type == "cuda":
                dist.init_process_group("nccl", device_id=where)
            else:
                dist.init_process_group("gloo")
            atexit.register(_end)
        return cls(rank, size, where)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def places(self, count: int) -> Tensor:
        """Return which of `count` rows this rank predicts, int64 (ceil(count / size),).

        Every rank has as many: where the rows do not come out even, some have the last one, too,
        and `gathered` leaves what they make of it out.
        """
        each = -(-count // self.size)
        places = torch.arange(self.rank, each * self.size, self.size, device=self.device)
        return places.clamp_max(count - 1)

    def gathered(self, shard: Tensor, count: int) -> Tensor:
        """Return all rows, (count, ...), of shards (ceil(count / size), ...) laid out by `places`.

        Its gradient is summed over ranks: each gets what all losses say of its rows.
        """
        if self.size == 1:
            return shard
        every: Tensor = _Gather.apply(shard, self, count)  # type: ignore[no-untyped-call]
        return every

    def summed(self, values: Sequence[float]) -> list[float]:
        """Return sums over ranks, in float64."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        found: list[float] = sums.tolist()
        return found

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace gradients by their sums over ranks; every rank gives the same parameters."""
        if self.size == 1:
            return
        for bucket in _buckets([one.grad for one in parameters if one.grad is not None]):
            flat = torch.cat([one.flatten() for one in bucket])
            dist.all_reduce(flat)
            for one, part in zip(bucket, flat.split([one.numel() for one in bucket]), strict=True):
                one.copy_(part.view_as(one))

    def check_same(self, parts: Iterable[Tensor], *, step: int) -> None:
        """Check that all ranks hold the same tensors.

        Raises:
            InvalidValue: They do not: their corpora, tokenizers or options differ.
        """
        if self.size == 1:
            return
        digest = hashlib.sha256()
        for one in parts:
            digest.update(one.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        ours = int.from_bytes(digest.digest()[:7], "big")
        found = [torch.zeros((), dtype=torch.int64, device=self.device) for _ in range(self.size)]
        dist.all_gather(found, torch.tensor(ours, dtype=torch.int64, device=self.device))
        if any(int(one) != ours for one in found):
            raise errors.build(
                errors.InvalidValue,
                f"the ranks do not train on the same tokenizer and texts at step {step}",
                field="corpus",
                fix="give every process the same files, options and version of anyvocab",
            )

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.size > 1:
            self.summed([0.0])


class _Gather(torch.autograd.Function):
    """Rows of all ranks. Backward: the sum over ranks of what each says of this rank's rows."""

    @staticmethod
    def forward(ctx: Any, shard: Tensor, world: World, count: int) -> Tensor:  # type: ignore[override]
        ctx.world, ctx.shape = world, shard.shape
        every = shard.new_empty((world.size, *shard.shape))  # (W, S, ...)
        dist.all_gather(list(every.unbind(0)), shard.contiguous())
        return every.transpose(0, 1).flatten(0, 1)[:count]  # row i is row i // W of rank i % W

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        world: World = ctx.world
        padded = grad.new_zeros((ctx.shape[0] * world.size, *ctx.shape[1:]))
        padded[: len(grad)] = grad
        parts = padded.unflatten(0, (ctx.shape[0], world.size)).transpose(0, 1).contiguous()
        if world.device.type == "cpu":  # gloo of torch 2.6 cannot scatter sums
            dist.all_reduce(parts)
            return parts[world.rank], None, None
        ours = grad.new_empty(ctx.shape)
        dist.reduce_scatter_tensor(ours, parts)
        return ours, None, None


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for one in gradients:
        if bucket and size + one.numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(one)
        size += one.numel()
    if bucket:
        yield bucket


def _number(name: str, otherwise: int) -> int:
    told = os.environ.get(name, "")
    if not told:
        return otherwise
    try:
        return int(told)
    except ValueError as error:
        raise errors.build(
            errors.InvalidValue,
            f"{told!r} is no number",
            field=name,
            fix="start the run by torchrun, or unset it",
        ) from error


def _device(told: torch.device | str | None, local: int) -> torch.device:
    if told is not None:
        try:
            where = torch.device(told)
        except RuntimeError as error:
            raise _unusable(told, error) from error
        if where.type == "cuda" and where.index is None and torch.cuda.is_available():
            return torch.device("cuda", local % torch.cuda.device_count())
        return where
    if torch.cuda.is_available():
        return torch.device("cuda", local % torch.cuda.device_count())
    return torch.device("cpu")


def _use(where: torch.device) -> None:
    """Make a GPU this process's own.

    Raises:
        InvalidValue: It is not there.
    """
    try:
        torch.cuda.set_device(where)
    except (RuntimeError, AssertionError, ValueError) as error:  # torch without CUDA asserts
        raise _unusable(where, error) from error


def _unusable(told: object, error: Exception) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue,
        f"{str(told)!r} cannot be used: {str(error).strip().partition(chr(10))[0]}",
        field="device",
        fix="leave it out to use the CPU",
    )


def _end() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
