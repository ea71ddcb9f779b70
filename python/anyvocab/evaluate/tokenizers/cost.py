"""What a tokenizer costs: seconds of encoding, and the matrices of the model that has it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyvocab import errors

if TYPE_CHECKING:
    from anyvocab.tokenizer import Tokenizer

__all__ = ["EncodingSpeed", "ModelCost", "ModelShape", "encoding_speed", "model_cost"]

SPEED_BYTES = 8 << 20  # bytes of the texts that are timed
MEGABYTE = 1e6


@dataclass(frozen=True)
class EncodingSpeed:
    """How fast texts are encoded on one thread, caches warm.

    Attributes:
        bytes: What a pass encodes.
        tokens: The tokens it gives.
        wall_seconds: Of the fastest pass, by the clock.
        cpu_seconds: Of the pass with the least work of the processor; the better measure on a busy
            machine.
        passes: How many passes were timed, after one that was not.
    """

    bytes: int
    tokens: int
    wall_seconds: float
    cpu_seconds: float
    passes: int

    @property
    def megabytes_per_second(self) -> float:
        """10^6 bytes a second, by the clock."""
        return self.bytes / MEGABYTE / self.wall_seconds

    @property
    def megabytes_per_cpu_second(self) -> float:
        """10^6 bytes a second of the processor's time."""
        return self.bytes / MEGABYTE / self.cpu_seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second, by the clock."""
        return self.tokens / self.wall_seconds


@dataclass(frozen=True)
class ModelShape:
    """The model that a tokenizer is to serve: only its size matters here.

    Attributes:
        width: Of a hidden state.
        layers: How many blocks.
    """

    width: int = 2048
    layers: int = 24

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidValue: One of them is.
        """
        for name, value in (("width", self.width), ("layers", self.layers)):
            if value < 1:
                raise errors.build(
                    errors.InvalidValue, f"must be at least 1, got {value}", field=name
                )

    @property
    def body_parameters(self) -> int:
        """`12 * layers * width^2`: attention and a four times wider MLP, no embedding.

        Source: Kaplan et al., arXiv:2001.08361, section 2.1.
        """
        return 12 * self.layers * self.width**2


@dataclass(frozen=True)
class ModelCost:
    """What a vocabulary adds to a model, and what its tokens save.

    Two operations for each parameter and token in a forward pass; attention over the context and
    looking up the input row are left out. This is arithmetic: it says nothing of how good a model
    will be.

    Attributes:
        rows: Ids, each a row of the input matrix and one of the output matrix.
        row_parameters: Of one of the two matrices.
        body_flops: Of the body for each byte of text.
        output_flops: Of the output matrix for each byte of text.
    """

    rows: int
    row_parameters: int
    body_flops: float
    output_flops: float

    @property
    def flops(self) -> float:
        """Operations of a forward pass for each byte of text."""
        return self.body_flops + self.output_flops


def encoding_speed(
    tokenizer: Tokenizer, documents: Sequence[bytes], *, passes: int = 3, limit: int = SPEED_BYTES
) -> EncodingSpeed:
    """Return how fast documents are encoded on one thread.

    Args:
        tokenizer: The tokenizer.
        documents: Texts; the first of them up to `limit` bytes are taken, at least one.
        passes: How often they are encoded and timed, after once without.
        limit: Bytes of a pass.

    Raises:
        InvalidValue: There is nothing to encode, or `passes` is not positive.
    """
    if passes < 1:
        raise errors.build(errors.InvalidValue, f"must be at least 1, got {passes}", field="passes")
    taken: list[bytes] = []
    size = 0
    for one in documents:
        if taken and size + len(one) > limit:
            break
        taken.append(one)
        size += len(one)
    if not size:
        raise errors.build(errors.InvalidValue, "there is nothing to encode", field="documents")
    tokens = len(tokenizer.encode_batch(taken, specials="text", threads=1).ids)
    walls, works = [], []
    for _ in range(passes):
        wall, work = time.perf_counter(), time.process_time()
        tokenizer.encode_batch(taken, specials="text", threads=1)
        works.append(time.process_time() - work)
        walls.append(time.perf_counter() - wall)
    # A clock may not move during a few bytes.
    tick = time.get_clock_info("process_time").resolution
    return EncodingSpeed(size, tokens, max(min(walls), tick), max(min(works), tick), passes)


def model_cost(rows: int, tokens_per_byte: float, shape: ModelShape) -> ModelCost:
    """Return what a vocabulary of `rows` ids costs in a model of a shape.

    Args:
        rows: Ids of the vocabulary.
        tokens_per_byte: Tokens over bytes of the texts.
        shape: The model.

    >>> cost = model_cost(32_000, 0.25, ModelShape(width=1024, layers=8))
    >>> cost.row_parameters, cost.body_flops, cost.output_flops
    (32768000, 50331648.0, 16384000.0)
    """
    parameters = rows * shape.width
    return ModelCost(
        rows=rows,
        row_parameters=parameters,
        body_flops=2 * shape.body_parameters * tokens_per_byte,
        output_flops=2 * parameters * tokens_per_byte,
    )
