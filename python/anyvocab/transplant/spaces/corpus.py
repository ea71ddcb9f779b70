"""The built-in space: source and target tokens by the company they keep in a corpus.

Each text is cut by both tokenizers. What counts as company is the same for both: the source tokens
that begin at or after a token's last byte, and those that end at or before its first. A token of
either vocabulary at the same place of a text so has the same neighbours, and the two vocabularies
lie in one space without any alignment.

What stands before a token and what stands after it are kept apart: a row of the input matrix
decides what follows, a row of the output matrix when the token comes. Spelling is the third part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from anyvocab.transplant.spaces.exact import snap
from anyvocab.transplant.spaces.factor import Sparse, factor, unit
from anyvocab.transplant.spaces.spelling import spelling_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.tokenizer import Tokenizer
    from anyvocab.transplant.context import Progress

__all__ = ["CorpusOptions", "CorpusSpace", "Focus", "Occurrences", "occurrences"]

Focus = Literal["input", "output", "tied"]
BATCH_BYTES = 4 << 20  # of texts that are cut at once
FARTHEST = 64  # bytes between a token and its company; texts lie further apart than this


@dataclass(frozen=True)
class CorpusOptions:
    """How the space is made.

    Attributes:
        window: Neighbours on each side that count; each place is counted apart.
        contexts: How many of the most frequent source tokens count as company.
        width: Numbers for each of the two sides.
        spelling: Numbers for the spelling.
        smoothing: Power of the neighbours' frequencies in the mutual information, at most 1
            (Levy, Goldberg and Dagan 2015).
        prior: Occurrences that the guess from the spelling counts for.
        near: Weight of the side that matters for a matrix: after for input, before for output.
        far: Weight of the other side.
        spelled: Weight of the spelling.
        seed: Of the decompositions.
    """

    window: int = 2
    contexts: int = 2048
    width: int = 64
    spelling: int = 128
    smoothing: float = 0.75
    prior: float = 2.0
    near: float = 1.0
    far: float = 0.5
    spelled: float = 0.8
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Where tokens stand in some texts, the texts far apart.

    Attributes:
        ids: int64[n].
        starts: int64[n], in bytes.
        ends: int64[n], each above its start.
    """

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def occurrences(tokenizer: Tokenizer, texts: Sequence[bytes]) -> Occurrences:
    """Return where the tokens of all texts stand; those without bytes in them are left out."""
    found = [tokenizer.encode_with_offsets(text, specials="text") for text in texts]
    bases = np.cumsum([0, *(len(text) + FARTHEST + 1 for text in texts)])
    ids = [np.zeros(0, np.int64), *(one.ids.astype(np.int64) for one in found)]
    spans = [one.offsets + base for one, base in zip(found, bases, strict=False)]
    places = np.concatenate([np.zeros((0, 2), np.int64), *spans])
    kept = places[:, 1] > places[:, 0]
    return Occurrences(np.concatenate(ids)[kept], places[kept, 0], places[kept, 1])


@dataclass(frozen=True, eq=False)
class CorpusSpace:
    """Vectors of all source and target tokens.

    Rows are source ids, then target ids.

    Attributes:
        before: float32[V_src + V_tgt, width]: what stands before them; unit length or zero.
        after: float32[V_src + V_tgt, width]: what stands after them.
        spelled: float32[V_src + V_tgt, spelling].
        counts: int64[V_src + V_tgt]: how often the corpus shows them.
        sources: V_src.
        options: How it was made.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    spelled: NDArray[np.float32]
    counts: NDArray[np.int64]
    sources: int
    options: CorpusOptions = field(default_factory=CorpusOptions)

    @classmethod
    def of(
        cls,
        source: Tokenizer,
        target: Tokenizer,
        tokens: tuple[Sequence[bytes | None], Sequence[bytes | None]],
        texts: Sequence[bytes],
        *,
        options: CorpusOptions | None = None,
        progress: Progress | None = None,
    ) -> CorpusSpace:
        """Return the space of two vocabularies.

        Deterministic. Tokens that the texts do not show get the company that their spelling
        suggests, by a linear map learned on those that they do show; rare ones a mixture.

        Args:
            source: The model's tokenizer.
            target: The one it shall have.
            tokens: The bytes of every source id and of every target id.
            texts: The corpus.
            options: How to make it.
            progress: Told how many of five steps are done.
        """
        made = options or CorpusOptions()
        steps = iter(range(1, 6))

        def report() -> None:
            if progress is not None:
                progress("corpus space", next(steps), 5)

        spelled = spelling_vectors([*tokens[0], *tokens[1]], made.spelling, seed=made.seed)
        report()
        counter = _Counter(source, target, made)
        for batch in _batches(texts):
            counter.add(batch)
        report()
        sides = []
        for side in (0, 1):
            vectors = unit(
                factor(counter.information(side), made.width, power=0.5, seed=made.seed + side)
            )
            sides.append(_smoothed(vectors, counter.counts, spelled, made.prior))
            report()
        space = cls(sides[0], sides[1], spelled, counter.counts, len(tokens[0]), made)
        report()
        return space

    def source(self, ids: NDArray[np.integer], focus: Focus) -> NDArray[np.float32]:
        """Return the vectors of source ids in steps (:func:`exact.snap`), for one matrix."""
        return self._vectors(np.asarray(ids, dtype=np.int64), focus)

    def target(self, ids: NDArray[np.integer], focus: Focus) -> NDArray[np.float32]:
        """Return the vectors of target ids in steps, for one matrix."""
        return self._vectors(np.asarray(ids, dtype=np.int64) + self.sources, focus)

    def _vectors(self, rows: NDArray[np.int64], focus: Focus) -> NDArray[np.float32]:
        made = self.options
        tied = (made.near + made.far) / 2
        before, after = {
            "input": (made.far, made.near),
            "output": (made.near, made.far),
            "tied": (tied, tied),
        }[focus]
        parts = (
            before * self.before[rows],
            after * self.after[rows],
            made.spelled * self.spelled[rows],
        )
        snapped: NDArray[np.float32] = snap(np.concatenate(parts, axis=1))
        return snapped

    def unseen(self, side: Literal["source", "target"]) -> NDArray[np.int64]:
        """Return the ids with bytes that the corpus does not show: their company is guessed."""
        part = slice(self.sources) if side == "source" else slice(self.sources, None)
        return np.flatnonzero((self.counts[part] == 0) & self.spelled[part].any(axis=1))


class _Counter:
    """Counts who stands beside whom, a batch of texts at a time."""

    def __init__(self, source: Tokenizer, target: Tokenizer, options: CorpusOptions) -> None:
        self.source, self.target, self.options = source, target, options
        self.first = len(source.vocabulary)
        self.size = self.first + len(target.vocabulary)
        self.counts = np.zeros(self.size, dtype=np.int64)
        self.code = np.zeros(0, dtype=np.int64)  # source id to context, -1 for none
        self.contexts = 0
        # For each side and place: pairs as numbers, and how often they come.
        self.pairs: dict[tuple[int, int], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def add(self, texts: Sequence[bytes]) -> None:
        own, other = occurrences(self.source, texts), occurrences(self.target, texts)
        if not len(self.code):
            self._choose(own)
        ids = np.concatenate((own.ids, other.ids + self.first))
        self.counts += np.bincount(ids, minlength=self.size)
        # Offsets of overlapping tokens (two bytes of one character) need not ascend.
        starts, ends = np.maximum.accumulate(own.starts), np.maximum.accumulate(own.ends)
        token_starts = np.concatenate((own.starts, other.starts))
        token_ends = np.concatenate((own.ends, other.ends))
        last_before = np.searchsorted(ends, token_starts, "right") - 1
        first_after = np.searchsorted(starts, token_ends, "left")
        context = self.code[own.ids]
        for place in range(self.options.window):
            for side, near in ((0, last_before - place), (1, first_after + place)):
                there = (near >= 0) & (near < len(context))
                at = np.where(there, near, 0)
                gap = token_starts - ends[at] if side == 0 else starts[at] - token_ends
                kept = there & (gap < FARTHEST) & (context[at] >= 0)
                self._note((side, place), ids[kept] * self.contexts + context[at[kept]])

    def _choose(self, own: Occurrences) -> None:
        frequency = np.bincount(own.ids, minlength=self.first)
        order = np.argsort(-frequency, kind="stable")[: self.options.contexts]
        chosen = order[frequency[order] > 0]
        self.contexts = len(chosen)
        self.code = np.full(self.first, -1, dtype=np.int64)
        self.code[chosen] = np.arange(len(chosen))

    def _note(self, key: tuple[int, int], pairs: NDArray[np.int64]) -> None:
        new, count = np.unique(pairs, return_counts=True)
        if key in self.pairs:
            old, before = self.pairs[key]
            new, where = np.unique(np.concatenate((old, new)), return_inverse=True)
            count = np.bincount(where, weights=np.concatenate((before, count)), minlength=len(new))
        self.pairs[key] = new, count.astype(np.int64)

    def information(self, side: int) -> Sparse:
        """Return the positive pointwise mutual information of tokens and their company."""
        width = max(1, self.contexts)
        rows, columns, counts = [], [], []
        for place in range(self.options.window):
            pairs, count = self.pairs.get((side, place), (np.zeros(0, np.int64),) * 2)
            rows.append(pairs // width)
            columns.append(pairs % width + place * width)
            counts.append(count)
        row, column = np.concatenate(rows), np.concatenate(columns)
        count = np.concatenate(counts).astype(np.float64)
        shape = (self.size, width * self.options.window)
        share = np.bincount(column, count, minlength=shape[1]) ** self.options.smoothing
        share /= max(share.sum(), 1.0)
        total = np.bincount(row, count, minlength=shape[0])
        value = np.log(count / (total[row] * share[column]))
        kept = value > 0
        row, column, value = row[kept], column[kept], value[kept]
        order = np.lexsort((column, row))
        return Sparse(row[order], column[order], value[order].astype(np.float32), shape)


def _batches(texts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the texts in batches that are each a sample of all of them: every n-th text."""
    count = max(1, -(-sum(map(len, texts)) // BATCH_BYTES))
    for first in range(min(count, len(texts))):
        yield texts[first::count]


def _smoothed(
    vectors: NDArray[np.float32],
    counts: NDArray[np.int64],
    spelled: NDArray[np.float32],
    prior: float,
) -> NDArray[np.float32]:
    """Return the vectors mixed with what the spelling suggests, in proportion to what is known."""
    seen = vectors.any(axis=1)
    known = spelled[seen]
    weight = (counts[seen] / (counts[seen] + prior)).astype(np.float32)  # of a token's word
    weighted = known * weight[:, None]
    gram = (weighted.T @ known).astype(np.float64)
    gram[np.diag_indices_from(gram)] += 1.0  # ridge: a token's share, as rows are unit vectors
    learnt = np.linalg.solve(gram, (weighted.T @ vectors[seen]).astype(np.float64))
    guess = unit(spelled @ learnt.astype(np.float32))
    share = np.where(seen, counts / (counts + prior), 0.0).astype(np.float32)[:, None]
    return unit(share * vectors + (1 - share) * guess)
