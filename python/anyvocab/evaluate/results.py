"""What `evaluate_models` returns: plain numbers, with where they come from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from anyvocab.evaluate.bootstrap import Bootstrap, Interval
    from anyvocab.evaluate.exact import Exactness
    from anyvocab.evaluate.greedy import Greedy
    from anyvocab.evaluate.scoring import Split

__all__ = ["Difference", "DomainScore", "Evaluation", "ModelScore"]

FORMAT_VERSION = 1
_SAMPLES = 3  # continuations written out in a document


@dataclass(frozen=True, eq=False)
class DomainScore:
    """How well a model predicts a domain.

    Attributes:
        name: The domain.
        documents: How many texts it has.
        bytes: Their length.
        left_out: Bytes of its files that a limit left out, for every model the same.
        tokens: How many ids were scored.
        nats: The negative log-probability of all of them, in nats.
        seconds: How long the scoring took, encoding included.
        changed: How many documents the tokenizer does not give back from their tokens.
        unknown: How many ids are the unknown token.
        block_nats: Nats of each block of bytes, float64[blocks], documents one after the other.
        split: The nats in shared and in new tokens, where a model before is given.
        interval: Of the bits per byte; None where there are too few blocks.
    """

    name: str
    documents: int
    bytes: int
    left_out: int
    tokens: int
    nats: float
    seconds: float
    changed: int
    unknown: int
    block_nats: NDArray[np.float64]
    split: Split | None
    interval: Interval | None

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte; lower is better. Comparable between models with different tokenizers."""
        return self.nats / math.log(2) / self.bytes

    @property
    def bytes_per_token(self) -> float:
        """How many bytes an id stands for on average."""
        return self.bytes / self.tokens


@dataclass(frozen=True, eq=False)
class ModelScore:
    """One model on all domains.

    Attributes:
        name: The model.
        ids: How many ids its tokenizer has.
        new_ids: How many of them the model before has no token for; None without one.
        window: How many ids it saw at once.
        stride: How many ids a further window of a text scored.
        first_ids: What stood before every text.
        first_ids_from: Who says so: `post-processor`, `bos`, `eos`, `caller`.
        domains: A score for each domain.
        interval: Of the bits per byte of all domains; None where there are too few blocks.
        greedy: What it wrote after prompts; None where that was not asked for, or not possible.
        exactness: How far its hidden states are from the model before; None without one.
        notes: What a reader of the numbers must know.
    """

    name: str
    ids: int
    new_ids: int | None
    window: int
    stride: int
    first_ids: tuple[int, ...]
    first_ids_from: str
    domains: tuple[DomainScore, ...]
    interval: Interval | None
    greedy: Greedy | None
    exactness: Exactness | None
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The length of all domains, in bytes."""
        return sum(one.bytes for one in self.domains)

    @property
    def tokens(self) -> int:
        """How many ids were scored."""
        return sum(one.tokens for one in self.domains)

    @property
    def nats(self) -> float:
        """The negative log-probability of all of them, in nats."""
        return math.fsum(one.nats for one in self.domains)

    @property
    def seconds(self) -> float:
        """How long the scoring took, encoding included."""
        return math.fsum(one.seconds for one in self.domains)

    @property
    def bits_per_byte(self) -> float:
        """Total bits over total bytes: every byte counts the same, whatever its domain."""
        return self.nats / math.log(2) / self.bytes

    @property
    def bytes_per_token(self) -> float:
        """Total bytes over total tokens."""
        return self.bytes / self.tokens

    @property
    def split(self) -> Split | None:
        """The nats of all domains in shared and in new tokens; None without a model before."""
        total: Split | None = None
        for one in self.domains:
            if one.split is not None:
                total = one.split if total is None else total + one.split
        return total


@dataclass(frozen=True)
class Difference:
    """A model less the first one, on the same bytes.

    Attributes:
        model: The model.
        baseline: The first one: the model before, where there is one.
        domain: The domain; None for all of them together.
        bits_per_byte: The model's bits per byte less the baseline's.
        interval: From the same draws for both; None where there are too few blocks.
    """

    model: str
    baseline: str
    domain: str | None
    bits_per_byte: float
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Several models on the same bytes.

    Attributes:
        models: In the order they were given, the model before first.
        differences: Of every other model to the first, for each domain and for all.
        bootstrap: How the intervals were made.
        blocks: How many blocks each domain has.
        against: The name of the model before; None without one.
    """

    models: tuple[ModelScore, ...]
    differences: tuple[Difference, ...]
    bootstrap: Bootstrap
    blocks: tuple[int, ...]
    against: str | None

    def __getitem__(self, name: str) -> ModelScore:
        """Return a model's score by its name.

        Raises:
            KeyError: No model has that name.
        """
        for one in self.models:
            if one.name == name:
                return one
        raise KeyError(name)

    def policy(self) -> str:
        """Return in words how texts were scored."""
        return (
            "Every document is scored whole, in overlapping windows, behind the ids that texts "
            "begin with in training; its end is not scored. A special token's spelling in a text "
            "is text. Bits per byte count the nats of the tokenizer's own encoding over the "
            "document's bytes; a token that lies in two blocks is shared between them by its bytes."
        )

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain data for JSON; numbers are not rounded."""
        return {
            "format_version": FORMAT_VERSION,
            "policy": self.policy(),
            "against": self.against,
            "intervals": {"method": self.bootstrap.describe(), **asdict(self.bootstrap)},
            "domains": [
                {
                    "domain": one.name,
                    "documents": one.documents,
                    "bytes": one.bytes,
                    "left_out": one.left_out,
                    "blocks": blocks,
                }
                for one, blocks in zip(self.models[0].domains, self.blocks, strict=True)
            ],
            "models": [_model(one) for one in self.models],
            "differences": [
                {
                    "model": one.model,
                    "baseline": one.baseline,
                    "domain": one.domain,
                    "bits_per_byte": one.bits_per_byte,
                    "interval": _interval(one.interval),
                }
                for one in self.differences
            ],
        }


def _interval(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value  # JSON has no NaN


def _split(split: Split | None) -> dict[str, object] | None:
    if split is None:
        return None
    return {
        **asdict(split),
        "shared_nats_per_byte": _number(split.shared_nats_per_byte),
        "new_nats_per_byte": _number(split.new_nats_per_byte),
    }


def _model(model: ModelScore) -> dict[str, object]:
    return {
        "model": model.name,
        "ids": model.ids,
        "new_ids": model.new_ids,
        "window": model.window,
        "stride": model.stride,
        "first_ids": list(model.first_ids),
        "first_ids_from": model.first_ids_from,
        "bits_per_byte": model.bits_per_byte,
        "interval": _interval(model.interval),
        "bytes": model.bytes,
        "tokens": model.tokens,
        "bytes_per_token": model.bytes_per_token,
        "nats": model.nats,
        "seconds": model.seconds,
        "split": _split(model.split),
        "domains": [
            {
                "domain": one.name,
                "bits_per_byte": one.bits_per_byte,
                "interval": _interval(one.interval),
                "bytes": one.bytes,
                "tokens": one.tokens,
                "bytes_per_token": one.bytes_per_token,
                "nats": one.nats,
                "seconds": one.seconds,
                "documents_changed": one.changed,
                "unknown_tokens": one.unknown,
                "split": _split(one.split),
                "block_nats": one.block_nats.tolist(),
            }
            for one in model.domains
        ],
        "greedy": _greedy(model.greedy),
        "exactness": None if model.exactness is None else asdict(model.exactness),
        "notes": list(model.notes),
    }


def _greedy(greedy: Greedy | None) -> dict[str, object] | None:
    if greedy is None:
        return None
    return {
        "prompts": len(greedy.continuations),
        "budget": greedy.budget,
        "loop_rate": greedy.loop_rate,
        "ended_rate": greedy.ended_rate,
        "utf8_rate": greedy.utf8_rate,
        "new_token_rate": greedy.new_token_rate,
        "tokens": sum(one.tokens for one in greedy.continuations),
        "samples": [
            {
                "prompt": one.prompt.decode("utf-8", "backslashreplace"),
                "output": one.output.decode("utf-8", "backslashreplace"),
                "tokens": one.tokens,
                "ended": one.ended,
                "period": one.period,
                "is_utf8": one.is_utf8,
            }
            for one in greedy.continuations[:_SAMPLES]
        ],
    }
