"""BoundlessBPE: supermerges over pretokens that are one token each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyvocab import _core, errors
from anyvocab.tokenizer import Ragged
from anyvocab.training.bpe import DEFAULT_PATTERN, Trained, finished, learn_words
from anyvocab.training.counting import Plan
from anyvocab.training.counts import CountHeader, Counts
from anyvocab.training.options import TrainOptions
from anyvocab.training.stages import both_counts, encode_across, learn_across
from anyvocab.training.superwords import Boundless, tokens_at
from anyvocab.training.watching import Progress

__all__ = [
    "BoundlessLists",
    "BoundlessTokenizer",
    "learn_lists",
    "refuse_export",
    "train_boundless",
]


def refuse_export() -> errors.UnsupportedTokenizer:
    """Return the error for a supermerge in a `tokenizer.json`."""
    return errors.build(
        errors.UnsupportedTokenizer,
        "supermerges apply to whole pretokens alone, which no tokenizer.json says",
        field="superwords",
        fix='use Boundless(export="superbpe"), --export-as superbpe, for the nearest form, whose '
        "ids differ in part, or anyvocab.training.boundless.train_boundless for the "
        "tokenizer itself",
    )


@dataclass(frozen=True, eq=False)
class BoundlessLists:
    """Word merges and supermerges, each in the order of its own learning.

    Neither depends on the other beyond the tokens that the words have, so that one pair of lists
    gives the tokenizer of every size up to that of the words.

    Attributes:
        words: (left, right, product) of each word merge, uint32[n, 3].
        word_counts: How often each pair occurred when it was merged, uint64[n].
        supermerges: The same for supermerges.
        supermerge_counts: As `word_counts`.
        data: The bytes of all tokens end to end: special ones (none), alphabet, words, superwords.
        offsets: Token i is `data[offsets[i]:offsets[i + 1]]`.
        word_tokens: How many tokens come before the superwords.
        base: How many come before the words.
        options: What was asked for.
        header: Where the counts of words came from.
        sample_counts: The counts of words.
    """

    words: NDArray[np.uint32]
    word_counts: NDArray[np.uint64]
    supermerges: NDArray[np.uint32]
    supermerge_counts: NDArray[np.uint64]
    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    word_tokens: int
    base: int
    options: TrainOptions
    sample_counts: Counts

    @property
    def header(self) -> CountHeader:
        """Where the counts of words came from."""
        return self.sample_counts.header

    def select(self, vocab_size: int, *, crossing: bool = True) -> BoundlessTokenizer:
        """Return the tokenizer of a size.

        Args:
            vocab_size: How many tokens.
            crossing: Whether the larger count goes first, of equal ones the word merge; else all
                word merges go first.
        """
        words = self.words.tolist()
        supers = self.supermerges.tolist()
        word_counts, super_counts = self.word_counts.tolist(), self.supermerge_counts.tolist()
        size, i, j, word_tokens = self.base, 0, 0, self.base
        new_id: dict[int, int] = {}  # of superwords, numbered from 0
        kept: list[int] = []
        while size < vocab_size and (i < len(words) or j < len(supers)):
            is_word = i < len(words) and (
                not crossing or j == len(supers) or super_counts[j] <= word_counts[i]
            )
            if is_word:
                is_new = words[i][2] >= word_tokens
                word_tokens += is_new
                size += is_new
                i += 1
                continue
            left, right, product = supers[j]
            # Without the crossing, a part may be a word that there is no room for.
            if all(one < word_tokens or one in new_id for one in (left, right)):
                if product >= self.word_tokens and product not in new_id:
                    new_id[product] = len(new_id)
                    size += 1
                kept.append(j)
            j += 1
        return self._made(i, word_tokens, kept, new_id)

    def _made(
        self, words: int, word_tokens: int, kept: list[int], new_id: Mapping[int, int]
    ) -> BoundlessTokenizer:
        number = np.arange(len(self.offsets) - 1, dtype=np.uint32)
        old = np.fromiter(new_id, np.int64, len(new_id))
        number[old] = np.arange(word_tokens, word_tokens + len(old), dtype=np.uint32)
        chosen = np.concatenate([np.arange(word_tokens), old])
        starts, ends = self.offsets[chosen], self.offsets[chosen + 1]
        data = self.data.tobytes()
        parts = [data[start:end] for start, end in zip(starts, ends, strict=True)]
        return BoundlessTokenizer(
            merges=self.words[:words],
            counts=self.word_counts[:words],
            supermerges=number[self.supermerges[kept]].reshape(-1, 3),
            supermerge_counts=self.supermerge_counts[kept],
            data=np.frombuffer(b"".join(parts), np.uint8),
            offsets=np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64),
            transition=word_tokens,
            options=self.options,
            word_counts=self.sample_counts,
        )


class BoundlessTokenizer:
    """A tokenizer with supermerges, which no `tokenizer.json` says.

    It encodes and decodes as the paper says, to be measured; it is a reference, not made for speed.

    >>> texts = [b"of the people, by the people, for the people"] * 3
    >>> made = train_boundless(iter(texts), vocab_size=300)
    >>> made.decode(made.encode("by the people")) == b"by the people"
    True
    >>> b" the people" in [made.token_bytes(i) for i in range(made.transition, len(made))]
    True
    """

    def __init__(
        self,
        *,
        merges: NDArray[np.uint32],
        counts: NDArray[np.uint64],
        supermerges: NDArray[np.uint32],
        supermerge_counts: NDArray[np.uint64],
        data: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        transition: int,
        options: TrainOptions,
        word_counts: Counts,
    ) -> None:
        self.merges = merges
        self.supermerges = supermerges
        self.supermerge_counts = supermerge_counts
        self.transition = transition  # tokens before the superwords
        self._merge_counts = counts
        self._data = data
        self._offsets = offsets
        self._options = options
        self._word_counts = word_counts
        header = word_counts.header
        self._core = _core.BoundlessEncoder(
            data,
            offsets,
            np.ascontiguousarray(merges),
            supermerges,
            pattern=header.pattern,
            normalizer=header.normalizer,
        )

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def token_bytes(self, id: int) -> bytes:
        """Return the bytes of a token; none for a special one."""
        return self._data[self._offsets[id] : self._offsets[id + 1]].tobytes()

    def encode(self, text: str | bytes) -> NDArray[np.uint32]:
        """Return the ids of a text, uint32[n]; special tokens are not looked for."""
        return self.encode_batch([text]).ids

    def encode_batch(self, texts: Sequence[str | bytes]) -> Ragged:
        """Return the ids of texts."""
        ids, offsets = self._core.encode_batch(
            [one.encode() if isinstance(one, str) else one for one in texts]
        )
        return Ragged(ids, offsets)

    def decode(self, ids: Sequence[int] | NDArray[np.uint32]) -> bytes:
        """Return the bytes of ids."""
        return b"".join(self.token_bytes(int(one)) for one in ids)

    def nearest(self, pattern: str) -> Trained:
        """Return the nearest form that a `tokenizer.json` says.

        All merges are one list, words before superwords, and text is cut by `pattern`, wider than
        words. A supermerge may then touch a part of a pretoken, so ids differ in part.
        """
        learnt = (
            np.concatenate([self.merges, self.supermerges]),
            np.concatenate([self._merge_counts, self.supermerge_counts]),
            self._data,
            self._offsets,
            "complete" if len(self) >= self._options.vocab_size else "exhausted",
        )
        header = replace(self._word_counts.header, pattern=pattern)
        trained = finished(learnt, {"": replace(self._word_counts, header=header)}, self._options)
        return replace(trained, recipe="boundless", transition=self.transition)


def train_boundless(
    corpus: Any,
    vocab_size: int = 32_000,
    *,
    recipe: Boundless | None = None,
    options: TrainOptions | None = None,
    plan: Plan | None = None,
    how: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> BoundlessTokenizer:
    """Return a BoundlessBPE tokenizer learnt from a corpus.

    Args:
        corpus: A corpus, or (counts of words, counts with the pattern "boundless:PATTERN").
        vocab_size: How many tokens; `options` goes before it.
        recipe: Where the transition is; by default where the counts cross.
        options: What is learnt.
        plan: How the corpus is counted.
        how: More arguments for counting.
        progress: Told a stage, how much is done, and of how much.

    Raises:
        The errors of :func:`anyvocab.train`.
    """
    recipe = recipe or Boundless()
    options = options or TrainOptions(vocab_size=vocab_size)
    plan = plan or Plan(pattern=DEFAULT_PATTERN)
    words, runs = both_counts(corpus, recipe, plan, how or {}, progress)
    first = options.vocab_size
    if recipe.transition is not None:
        first = min(first, tokens_at(recipe.transition, options.vocab_size))
    lists = learn_lists(words, runs, replace(options, vocab_size=first), plan, options, progress)
    return lists.select(options.vocab_size, crossing=recipe.transition is None)


def learn_lists(
    words: Counts,
    runs: Counts,
    first: TrainOptions,
    plan: Plan,
    options: TrainOptions,
    progress: Progress | None = None,
) -> BoundlessLists:
    """Return word merges up to the size of `first`, and supermerges for that of `options`."""
    learnt = learn_words(words, first, progress)
    merges, counts, _, offsets, _ = learnt
    tokens = len(offsets) - 1
    base = int(merges[:, 2].min(initial=tokens)) if len(merges) else tokens
    base = min(base, tokens)
    second = learn_across(
        learnt,
        encode_across(learnt, runs, plan, unit="runs", progress=progress),
        options,
        veto=options.veto,
        max_merges=options.vocab_size,
        progress=progress,
    )
    return BoundlessLists(
        words=merges,
        word_counts=counts,
        supermerges=second[0],
        supermerge_counts=second[1],
        data=second[2],
        offsets=second[3],
        word_tokens=tokens,
        base=base,
        options=options,
        sample_counts=words,
    )
