"""Random tokenizers to train hypernetworks with: Unigram models over the latest texts' substrings.

Each step pushes a batch of texts into a queue and samples a tokenizer from the substrings of the
queue: frequent ones, with noise on their frequencies. Tokens come with their decomposition under
the source tokenizer, which is what a hypernetwork reads. Everything is a function of the batches in
the queue, the seed and the step's number: the same for any number of threads, and after a resume.

Source: Minixhofer et al. 2024, arXiv:2405.07883, algorithm 1. Unlike in its published code,
substrings start and end at characters, counting and encoding cut texts in the same way, and every
draw is seeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from anyvocab import _core, errors
from anyvocab.hypernet.features import around_missing, missing_bytes
from anyvocab.tokenizer import Ragged, Tokenizer
from anyvocab.transplant.identity import decompose, token_table
from anyvocab.transplant.ragged import ragged, scattered, select, spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LogNormal", "Normal", "SampledTokenizer", "SamplerOptions", "TokenizerSampler"]

SMALLEST = 512  # tokens of a vocabulary: 256 bytes, 135 runs of white space, and some to learn


@dataclass(frozen=True)
class Normal:
    """A normal number, moved into a range.

    Attributes:
        mean: Its mean.
        std: Its standard deviation; 0 for always the mean.
        low: No less than this.
        high: No more than this.
    """

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class LogNormal:
    """The exponential of a normal number, moved into a range.

    Attributes:
        median: Its median: the exponential of the normal's mean; above 0.
        sigma: The normal's standard deviation.
        low: No less than this.
        high: No more than this.
    """

    median: float
    sigma: float
    low: float
    high: float


@dataclass(frozen=True)
class SamplerOptions:
    """How tokenizers are sampled.

    Attributes:
        vocab_size: How many tokens: always so many, or drawn for each step. None: for the source's
            size, as :meth:`for_source` has it.
        noise: The standard deviation of the noise on a substring's share of all scores: always
            this, or drawn for each step.
        queue_batches: How many batches the queue holds, the step's own included.
        max_bytes: Longest counted substring, in bytes; at most 15.
        stride: Substrings start at every so many characters of a pretoken; 4 as published.
        ends: Whether they end behind characters alone (so that tokens of well-formed text are
            well-formed) or behind any byte.
        patterns: How texts are cut: known names (`gpt2`, `llama3`, ...), regular expressions, or
            `none`; each step draws one. Substrings are counted under each, so that no token spans
            a cut of the pattern that was drawn.
        whitespace: `runs`: all runs `c2 c1 ... c1` of 2 to 16 spaces, newlines or tabs are tokens
            of the best score, and no other counted substring with two or more of these bytes;
            `none`: like any other substring.
        near_probability: How often a share of the vocabulary, uniform from 0 to 1, is filled with
            the source's own tokens first. Hypernetworks that never meet a vocabulary like their
            source's get worse on such.
        greedy_probability: How often texts are encoded by the longest match at every place.
        max_pieces: Most pieces of a decomposition that are kept.
    """

    vocab_size: int | Normal | LogNormal | None = None
    noise: float | LogNormal = LogNormal(1e-5, 4.0, 0.0, 1e6)
    queue_batches: int = 16
    max_bytes: int = 15
    stride: int = 4
    ends: Literal["characters", "bytes"] = "characters"
    patterns: Sequence[str] = ("gpt2", "llama3")
    whitespace: Literal["runs", "none"] = "runs"
    near_probability: float = 0.25
    greedy_probability: float = 0.0
    max_pieces: int = 8

    def __post_init__(self) -> None:
        """Refuse what the core does not look at; it checks the rest."""
        if self.max_pieces < 1:
            raise errors.build(
                errors.InvalidValue,
                f"must be at least 1, got {self.max_pieces}",
                field="max_pieces",
                fix="8 suits most sources",
            )
        if isinstance(self.patterns, str):
            raise TypeError("patterns must be several, got one; write (pattern,)")

    @classmethod
    def published(cls) -> SamplerOptions:
        """Return the settings of the released hypernetworks: always 32,768 tokens, GPT-2's cuts.

        Substrings end anywhere, as there; what its code gets wrong is not repeated. Their
        decompositions have 7 pieces.
        """
        return cls(
            vocab_size=Normal(32_768, 0.0, 16_384, 32_768),
            stride=4,
            ends="bytes",
            patterns=("gpt2",),
            near_probability=0.0,
            max_pieces=7,
        )

    def for_size(self, vocab_size: int) -> SamplerOptions:
        """Return these options with `vocab_size` for a source of so many tokens, where it is None.

        Lognormal around three quarters of it (sigma 0.5), from 512 to twice as many.
        """
        if self.vocab_size is not None:
            return self
        high = max(2 * vocab_size, SMALLEST)
        drawn = LogNormal(max(0.75 * vocab_size, 1.0), 0.5, SMALLEST, high)
        return replace(self, vocab_size=drawn)

    @classmethod
    def for_source(cls, source: Tokenizer) -> SamplerOptions:
        """Return the defaults for a source tokenizer.

        >>> import anyvocab as av
        >>> SamplerOptions.for_source(av.Tokenizer.load("pico:code-4k")).vocab_size.high
        8192
        """
        return cls().for_size(len(source.vocabulary))


class SampledTokenizer:
    """A tokenizer that was sampled for one step. Made by :class:`TokenizerSampler`.

    A Unigram model over bytes, whose ids are 0, 1, 2, ... in the order of the tokens' bytes. All
    256 bytes are tokens, so any text has ids; their bytes are the text.

    Attributes:
        data: All tokens end to end.
        offsets: int64[N + 1]: where each starts, and the end.
        scores: float64[N], at most 0: the best path through a pretoken has the greatest sum.
        pieces: int32[N, L]: each token's decomposition: ids of the source whose bytes are the
            token's, the first L of them, -1 behind the end. `rows + byte` stands for a byte that
            the source has no token for.
        lengths: int32[N]: how many pieces it has, those cut off included; at least 1.
    """

    def __init__(
        self, core: _core.SampledTokenizer, pieces: NDArray[np.int32], lengths: NDArray[np.int32]
    ) -> None:
        """Use :meth:`TokenizerSampler.step`."""
        self._core = core
        self.data, self.offsets = core.table()
        self.scores: NDArray[np.float64] = core.scores()
        self.pieces, self.lengths = pieces, lengths

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._core)

    def __repr__(self) -> str:
        share = f", {self.source_share:.0%} of the source first" if self.source_share else ""
        cut = f"{self.pattern!r}{', greedy' if self.is_greedy else ''}"
        return f"SampledTokenizer({len(self)} tokens, step {self.step}, {cut}{share})"

    @cached_property
    def tokens(self) -> list[bytes]:
        """The bytes of every id, in their order."""
        return [self.data[start:end] for start, end in pairwise(self.offsets.tolist())]

    @property
    def vocab_size(self) -> int:
        """How many tokens were asked for; there are fewer where the queue has too few."""
        return self._core.vocab_size

    @property
    def noise(self) -> float:
        """The standard deviation of the noise."""
        return self._core.noise

    @property
    def step(self) -> int:
        """The step it was sampled for."""
        return self._core.step

    @property
    def pattern(self) -> str:
        """How it cuts texts."""
        return self._core.pattern

    @property
    def source_share(self) -> float:
        """The share of the vocabulary that the source's tokens came first for."""
        return self._core.source_share

    @property
    def is_greedy(self) -> bool:
        """Whether it takes the longest match instead of the best path."""
        return self._core.is_greedy

    def encode_batch(self, texts: Sequence[bytes], threads: int = 1) -> Ragged:
        """Return the ids of every text; the same for any number of threads.

        Raises:
            InvalidValue: `threads` is not positive.
        """
        return Ragged(*self._core.encode_batch(list(texts), threads))

    def to_json(self) -> bytes:
        """Return a `tokenizer.json` that stock `tokenizers` loads, with the same ids.

        Raises:
            UnsupportedTokenizer: The tokenizer is greedy, which no stock model is.
        """
        return self._core.to_json()


class TokenizerSampler:
    r"""Samples a tokenizer for every batch of texts. Not to be shared between threads.

    A call that is interrupted or fails leaves the sampler as it was.

    >>> import anyvocab as av
    >>> source = av.Tokenizer.load("pico:code-4k")
    >>> sampler = TokenizerSampler(source, SamplerOptions(vocab_size=600, noise=0.0), seed=1)
    >>> sampled = sampler.step([b"def f(x):\n    return x + 1\n"] * 8)
    >>> ids = sampled.encode_batch([b"    return x"])[0]
    >>> [sampled.tokens[i] for i in ids]
    [b'   ', b' return', b' x']
    """

    def __init__(
        self,
        source: Tokenizer,
        options: SamplerOptions | None = None,
        *,
        rows: int | None = None,
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        """Make a sampler with an empty queue.

        Args:
            source: The tokenizer of the model: it decomposes tokens, and gives its own to near
                vocabularies.
            options: How tokenizers are sampled.
            rows: Rows of the model's matrices, as many as the source has ids when left out; ids
                beyond them are not used.
            seed: Of everything drawn; 0 to 2^64 - 1.
            threads: How many threads count, choose and encode.

        Raises:
            InvalidValue: An option is out of its range.
        """
        self.source = source
        self.rows = len(source.vocabulary) if rows is None else rows
        usable = min(self.rows, len(source.vocabulary))
        self.options = (options or SamplerOptions()).for_size(usable)
        self.seed, self.threads = seed, threads
        self._missing = missing_bytes(source, self.rows)
        self._core = _core.TokenizerSampler(
            sorted({token for token in token_table(source.vocabulary)[: self.rows] if token}),
            seed=seed,
            threads=threads,
            queue_batches=self.options.queue_batches,
            max_bytes=self.options.max_bytes,
            stride=self.options.stride,
            ends=self.options.ends,
            vocab_size=_given(self.options.vocab_size),
            noise=_given(self.options.noise),
            whitespace=self.options.whitespace,
            patterns=list(self.options.patterns),
            near_probability=self.options.near_probability,
            greedy_probability=self.options.greedy_probability,
        )
        # By slot of the core: whose birth a row belongs to (0: nobody's), the row, its length.
        self._births = np.zeros(0, dtype=np.uint64)
        self._pieces = np.zeros((0, self.options.max_pieces), dtype=np.int32)
        self._lengths = np.zeros(0, dtype=np.int32)

    @property
    def next_step(self) -> int:
        """The number of the next step."""
        return self._core.state()[0]

    def step(self, texts: Sequence[bytes]) -> SampledTokenizer:
        """Push texts, drop the oldest batch when there are too many, and sample.

        The texts' own substrings are in the queue, so the tokenizer suits them, rare ones included.
        """
        return self._with_pieces(self._core.step(list(texts)))

    def peek(self, texts: Sequence[bytes], *, step: int) -> SampledTokenizer:
        """Return what :meth:`step` would if `step` were next; the queue stays as it is."""
        return self._with_pieces(self._core.peek(list(texts), step))

    def replay(self, batches: Sequence[Sequence[bytes]], *, step: int) -> None:
        """Take up where another sampler stood before `step`, without sampling.

        All that a sampler knows is its options and seed, the step's number and the batches in its
        queue: those that :meth:`step` was given last. After this call, with these batches, oldest
        first, the next samples are those of the other sampler.

        Args:
            batches: The last `options.queue_batches` batches before `step`, or all there were;
                older ones are not looked at.
            step: The number of the next step.
        """
        self._core.replay([list(texts) for texts in batches], step)

    def _with_pieces(self, core: _core.SampledTokenizer) -> SampledTokenizer:
        slots, births = core.slots()
        most = int(slots.max()) + 1
        if most > len(self._births):
            self._grow(max(most, 2 * len(self._births)))
        new = np.flatnonzero(self._births[slots] != births)
        if len(new):
            data, offsets = core.table()
            starts, ends = offsets[new].tolist(), offsets[new + 1].tolist()
            tokens = [data[start:end] for start, end in zip(starts, ends, strict=True)]
            self._remember(slots[new], self._decomposed(tokens))
            self._births[slots[new]] = births[new]
        return SampledTokenizer(core, self._pieces[slots], self._lengths[slots])

    def _grow(self, size: int) -> None:
        self._births = np.concatenate((self._births, np.zeros(size - len(self._births), np.uint64)))
        pieces = np.full((size, self.options.max_pieces), -1, dtype=np.int32)
        pieces[: len(self._pieces)] = self._pieces
        self._pieces = pieces
        lengths = np.zeros(size, dtype=np.int32)
        lengths[: len(self._lengths)] = self._lengths
        self._lengths = lengths

    def _remember(self, slots: NDArray[np.uint32], rows: Ragged) -> None:
        lengths = rows.lengths()
        kept = np.minimum(lengths, self.options.max_pieces)
        at = np.repeat(slots, kept)
        column = spans(np.zeros(len(kept), np.int64), kept)
        self._pieces[slots] = -1
        self._pieces[at, column] = rows.ids[spans(rows.offsets[:-1], kept)].astype(np.int32)
        self._lengths[slots] = lengths

    def _decomposed(self, tokens: list[bytes]) -> Ragged:
        """Return each token's pieces: as `decompose` has them, `rows + byte` for missing bytes."""
        found = decompose(self.source, tokens, rows=self.rows)
        empty = np.flatnonzero(found.lengths() == 0)
        if not len(empty):
            return found
        mended = [
            around_missing(self.source, tokens[i], rows=self.rows, missing=self._missing)
            for i in empty.tolist()
        ]
        whole = np.flatnonzero(found.lengths())
        return scattered(len(tokens), [(whole, select(found, whole)), (empty, ragged(mended))])


def _given(number: float | Normal | LogNormal | None) -> tuple[str, float, float, float, float]:
    """Return a distribution as the core takes it: name, two parameters, range."""
    match number:
        case Normal():
            return "normal", number.mean, number.std, number.low, number.high
        case LogNormal():
            return "lognormal", number.median, number.sigma, number.low, number.high
        case None:
            return "fixed", 0.0, 0.0, 0.0, 0.0  # not reached: `for_size` gave one
        case _:
            return "fixed", float(number), 0.0, float(number), float(number)
