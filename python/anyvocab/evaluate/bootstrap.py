"""Intervals of ratios to bytes: a paired bootstrap over blocks of bytes, or over documents.

The texts are cut into blocks of a fixed number of bytes, each document from its start, and blocks
are drawn with replacement, as many as there are, within every domain. Models are compared on the
same draws, so what makes a block hard for all of them cancels in a difference.

What an interval covers: other text of the same domains, cut into blocks that do not depend on each
other. It does not cover other training runs, other domains, or dependence over more than a block.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["METHOD", "MIN_BLOCKS", "Bootstrap", "Interval", "Resampled", "resample"]

METHOD = (
    "percentile bootstrap over blocks of {block} bytes, {resamples} resamples within each domain, "
    "the same draws for all models, seed {seed}"
)
MIN_BLOCKS = 10  # with fewer, a percentile interval says nothing
_AT_ONCE = 1 << 20  # drawn blocks held at once


@dataclass(frozen=True)
class Interval:
    """Where a number lies in all but `1 - level` of the resamples.

    Attributes:
        low: Its lower end.
        high: Its upper end.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        block: Bytes of a block.
        resamples: How often blocks are drawn.
        level: The share of resamples inside an interval.
        seed: Of the draws.
    """

    block: int = 1024
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            InvalidValue: One of them is.
        """
        for name, value, least in (
            ("block", self.block, 1),
            ("resamples", self.resamples, 100),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise errors.build(
                    errors.InvalidValue, f"must be at least {least}, got {value}", field=name
                )
        if not 0 < self.level < 1:
            raise errors.build(
                errors.InvalidValue,
                f"must lie between 0 and 1, got {self.level}",
                field="level",
                fix="0.95 is usual",
            )

    def describe(self) -> str:
        """Return the method in words."""
        return METHOD.format(block=self.block, resamples=self.resamples, seed=self.seed)


@dataclass(frozen=True, eq=False)
class Resampled:
    """Sums over resampled blocks, of nats or of tokens.

    Attributes:
        sums: For every model, float64[models, resamples].
        bytes: float64[resamples].
        blocks: How many blocks were drawn from.
    """

    sums: NDArray[np.float64]
    bytes: NDArray[np.float64]
    blocks: int

    def bits_per_byte(self, model: int, level: float) -> Interval | None:
        """Return the interval of a model's bits per byte; None below `MIN_BLOCKS` blocks."""
        return self._bits(self.sums[model], level)

    def difference(self, model: int, baseline: int, level: float) -> Interval | None:
        """Return the interval of a model's bits per byte less a baseline's, on the same draws."""
        return self._bits(self.sums[model] - self.sums[baseline], level)

    def bytes_per_token(self, model: int) -> NDArray[np.float64]:
        """Return the bytes for each of a model's tokens, where tokens were summed; [resamples]."""
        # A resample may hold nothing but documents that a normalizer drops.
        ratios: NDArray[np.float64] = self.bytes / np.maximum(self.sums[model], 1)
        return ratios

    def interval(self, values: NDArray[np.float64], level: float) -> Interval | None:
        """Return the interval of one value for each resample; None below `MIN_BLOCKS` blocks."""
        if self.blocks < MIN_BLOCKS:
            return None
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high))

    def _bits(self, nats: NDArray[np.float64], level: float) -> Interval | None:
        return self.interval(nats / (math.log(2) * self.bytes), level)

    def __add__(self, other: Resampled) -> Resampled:
        """Return the sums over two domains, each with its own draws."""
        return Resampled(
            self.sums + other.sums, self.bytes + other.bytes, self.blocks + other.blocks
        )


def resample(
    parts: Sequence[NDArray[np.float64]],
    sizes: NDArray[np.int64],
    *,
    domain: str,
    bootstrap: Bootstrap,
) -> Resampled:
    """Return sums over blocks of a domain drawn with replacement.

    The draws depend on the seed and the domain's name only: a model's interval is the same
    whatever it is compared with.

    Args:
        parts: Nats or tokens of every block, float64[blocks] for each model.
        sizes: Bytes of every block, int64[blocks].
        domain: The domain's name.
        bootstrap: How many draws, and their seed.
    """
    count, blocks = bootstrap.resamples, len(sizes)
    generator = np.random.default_rng([bootstrap.seed, zlib.crc32(domain.encode())])
    sums = np.zeros((len(parts), count))
    totals = np.zeros(count)
    step = max(1, _AT_ONCE // max(1, blocks))
    for at in range(0, count, step):
        drawn = generator.integers(0, blocks, size=(min(step, count - at), blocks))
        totals[at : at + step] = sizes[drawn].sum(axis=1)
        for i, one in enumerate(parts):
            sums[i, at : at + step] = one[drawn].sum(axis=1)
    return Resampled(sums, totals, blocks)
