"""What `compare_tokenizers` returns: plain numbers, each with what it means."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING

from anyvocab.evaluate.tokenizers.fairness import UNKNOWN_SHARE

if TYPE_CHECKING:
    from anyvocab.evaluate.bootstrap import Bootstrap, Interval
    from anyvocab.evaluate.tokenizers.boundaries import AnswerLetters, Boundaries
    from anyvocab.evaluate.tokenizers.cost import EncodingSpeed, ModelCost, ModelShape
    from anyvocab.evaluate.tokenizers.fairness import Fairness
    from anyvocab.evaluate.tokenizers.parts import Scaffolds
    from anyvocab.evaluate.tokenizers.usage import Unreachable, Usage, WordCounts

__all__ = ["DomainText", "DomainTokens", "TokenDifference", "TokenizerComparison", "TokenizerScore"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class DomainText:
    """Texts of one kind, the same for every tokenizer.

    Attributes:
        name: The domain.
        documents: How many texts it has.
        bytes: Their length.
        left_out: Bytes of its files that a limit left out.
        words: Stretches between white space.
        unit: What intervals draw: `documents`, or `blocks` of bytes where there are few documents.
        units: How many there are to draw from.
    """

    name: str
    documents: int
    bytes: int
    left_out: int
    words: int
    unit: str
    units: int


@dataclass(frozen=True)
class DomainTokens:
    """What a tokenizer makes of a domain.

    Attributes:
        name: The domain.
        bytes: Length of its texts.
        tokens: How many tokens they become, without what a post-processor adds.
        tokens_per_word: Tokens over stretches between white space ("fertility").
        changed: Documents that do not come back from their tokens: a normalizer changed them, so
            that their tokens say less than those of other tokenizers.
        unknown: How many tokens are the unknown token.
        unknown_bytes: How many bytes of the texts they stand for.
        words: Ids and tokens by how many words they touch.
        interval: Of the bytes per token; None where there are too few units to draw.
    """

    name: str
    bytes: int
    tokens: int
    tokens_per_word: float
    changed: int
    unknown: int
    unknown_bytes: int
    words: WordCounts
    interval: Interval | None

    @property
    def bytes_per_token(self) -> float:
        """Total bytes over total tokens: higher is better."""
        return self.bytes / self.tokens

    @property
    def is_encoded(self) -> bool:
        """Whether no more than `UNKNOWN_SHARE` of the bytes became the unknown token.

        Otherwise few tokens are no merit: an unknown token may stand for any length of text.
        """
        return self.unknown_bytes <= UNKNOWN_SHARE * self.bytes


@dataclass(frozen=True)
class TokenizerScore:
    """One tokenizer on all texts.

    Attributes:
        name: The tokenizer.
        model_type: `BPE`, `Unigram`, `WordPiece`, ...
        format: What it was read from.
        ids: How many ids it has.
        domains: What it makes of every domain.
        interval: Of the bytes per token of all domains; None where there are too few units.
        usage: What of its vocabulary the texts use.
        unreachable: Tokens that it does not give for their own text.
        scaffolds: Tokens that are nearly always taken up by longer ones; None without merges.
        letters: The answer-letter test.
        boundaries: How often tokens change when a text goes on; None where it was not tried.
        fairness: What the same content costs in several languages; None without parallel texts.
        speed: How fast it encodes; None where that was not measured.
        cost: What its vocabulary costs in a model.
        notes: What a reader of the numbers must know.
    """

    name: str
    model_type: str
    format: str
    ids: int
    domains: tuple[DomainTokens, ...]
    interval: Interval | None
    usage: Usage
    unreachable: Unreachable
    scaffolds: Scaffolds | None
    letters: tuple[AnswerLetters, ...]
    boundaries: Boundaries | None
    fairness: Fairness | None
    speed: EncodingSpeed | None
    cost: ModelCost
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Length of all texts."""
        return sum(one.bytes for one in self.domains)

    @property
    def tokens(self) -> int:
        """How many tokens all texts become."""
        return sum(one.tokens for one in self.domains)

    @property
    def bytes_per_token(self) -> float:
        """Total bytes over total tokens: every byte counts the same, whatever its domain."""
        return self.bytes / self.tokens

    @property
    def is_encoded(self) -> bool:
        """As :attr:`DomainTokens.is_encoded`, of all texts together."""
        unknown = sum(one.unknown_bytes for one in self.domains)
        return unknown <= UNKNOWN_SHARE * self.bytes


@dataclass(frozen=True)
class TokenDifference:
    """A tokenizer against the first one, on the same bytes and the same draws.

    Attributes:
        tokenizer: The tokenizer.
        baseline: The first one.
        domain: The domain; None for all of them together.
        bytes_per_token: The tokenizer's bytes per token less the baseline's.
        interval: Of that; None where there are too few units to draw.
        tokens: The tokenizer's tokens over the baseline's, less 1: -0.2 is a fifth fewer.
        tokens_interval: Of that.
    """

    tokenizer: str
    baseline: str
    domain: str | None
    bytes_per_token: float
    interval: Interval | None
    tokens: float
    tokens_interval: Interval | None


@dataclass(frozen=True)
class TokenizerComparison:
    """Several tokenizers on the same texts.

    Attributes:
        tokenizers: In the order they were given.
        domains: The texts.
        differences: Of every other tokenizer to the first, for each domain and for all.
        bootstrap: How intervals are made.
        shape: The model whose cost is reckoned.
    """

    tokenizers: tuple[TokenizerScore, ...]
    domains: tuple[DomainText, ...]
    differences: tuple[TokenDifference, ...]
    bootstrap: Bootstrap
    shape: ModelShape

    def __getitem__(self, name: str) -> TokenizerScore:
        """Return a tokenizer's score by its name.

        Raises:
            KeyError: No tokenizer has that name.
        """
        for one in self.tokenizers:
            if one.name == name:
                return one
        raise KeyError(name)

    def policy(self) -> str:
        """Return in words how texts were encoded and intervals made."""
        bootstrap = self.bootstrap
        return (
            "Every document is encoded whole, without what a post-processor adds; the spelling of "
            "a special token in a text is text. Intervals hold "
            f"{bootstrap.level:.0%} of {bootstrap.resamples} resamples of documents with "
            "replacement, within each domain and with the same draws for all tokenizers, seed "
            f"{bootstrap.seed}; a domain of few documents is cut into blocks of {bootstrap.block} "
            "bytes instead."
        )

    def to_dict(self) -> dict[str, object]:
        r"""Return everything as plain data for JSON; numbers are not rounded.

        Bytes become text, with what is no UTF-8 as `\xNN`; intervals become [low, high].
        """
        return {
            "format_version": FORMAT_VERSION,
            "policy": self.policy(),
            "intervals": asdict(self.bootstrap),
            "model_shape": {**asdict(self.shape), "body_parameters": self.shape.body_parameters},
            "domains": [_plain(one) for one in self.domains],
            "tokenizers": [_plain(one) for one in self.tokenizers],
            "differences": [_plain(one) for one in self.differences],
        }

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)


# Numbers that follow from an object's own and that a reader of JSON should not have to work out.
_DERIVED = {
    "TokenizerScore": ("bytes", "tokens", "bytes_per_token", "is_encoded"),
    "DomainTokens": ("bytes_per_token", "is_encoded"),
    "WordCounts": ("shares",),
    "Usage": ("unused", "mean_bytes"),
    "Scaffold": ("kept",),
    "AnswerLetters": ("verdict",),
    "Places": ("share",),
    "LanguageCost": ("bytes_per_token",),
    "Fairness": ("mean_premium",),
    "EncodingSpeed": (
        "megabytes_per_second",
        "megabytes_per_cpu_second",
        "tokens_per_second",
    ),
    "ModelCost": ("flops",),
}


def _plain(value: object) -> object:
    """Return a result as what JSON can write."""
    if is_dataclass(value):
        name = type(value).__name__
        if name == "Interval":
            return [getattr(value, field.name) for field in fields(value)]
        names = [field.name for field in fields(value)] + list(_DERIVED.get(name, ()))
        return {one: _plain(getattr(value, one)) for one in names}
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value
