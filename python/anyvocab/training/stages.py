"""The second stage of superwords: its counts, and what is learnt from them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from anyvocab import _core, errors
from anyvocab.training.corpus import sources_of
from anyvocab.training.counting import Meter, Plan, check_sources, count_source, cutoff_of
from anyvocab.training.counts import CountHeader, Counts
from anyvocab.training.options import TrainOptions, Veto
from anyvocab.training.shards import gather
from anyvocab.training.watching import Progress, watched

if TYPE_CHECKING:
    from anyvocab.training.superwords import Boundless, SuperBPE

__all__ = ["Both", "both_counts", "count_both", "encode_across", "learn_across"]

_BATCH = 1 << 18  # chunks are handed to the core so many at a time

_log = logging.getLogger(__name__)


def encode_across(
    first: _core._Learnt,
    counts: Counts,
    plan: Plan,
    *,
    unit: Literal["chunks", "runs"],
    progress: Progress | None = None,
) -> _core.Sequences:
    """Return chunks, or runs of pretokens, as sequences of the first stage's tokens.

    Args:
        first: What the first stage learnt.
        counts: Chunks, or runs of pretokens; not needed once this has returned.
        plan: Threads, and the memory of the encoded sequences; more goes to files.
        unit: What is counted.
        progress: Told "encoding".
    """
    merges, _, data, offsets, _ = first
    sequences = _core.Sequences(
        data,
        offsets,
        merges,
        unit=unit,
        spill_folder=str(plan.spill_folder or tempfile.gettempdir()),
        threads=plan.thread_count,
        memory_bytes=plan.memory_bytes,
    )
    for start in range(0, len(counts), _BATCH):
        end = min(start + _BATCH, len(counts))
        begin, stop = counts.offsets[start], counts.offsets[end]
        sequences.add(
            counts.data[begin:stop],
            counts.offsets[start : end + 1] - begin,
            counts.counts[start:end],
        )
        if progress is not None:
            progress("encoding", end, len(counts))
    return sequences


def learn_across(
    first: _core._Learnt,
    sequences: _core.Sequences,
    options: TrainOptions,
    *,
    veto: Veto | None,
    max_merges: int | None = None,
    progress: Progress | None = None,
) -> _core._Learnt:
    """Return what the second stage learnt: its merges, and all tokens.

    Args:
        first: What the first stage learnt.
        sequences: What :func:`encode_across` made.
        options: What is learnt.
        veto: Tokens that may not be learnt.
        max_merges: Ends at so many merges, and not at `options.vocab_size`.
        progress: Told "merging".
    """
    wanted = options.vocab_size - (len(first[3]) - 1) if max_merges is None else max_merges
    with watched(progress, wanted) as watch:
        learnt, (least, kept, positions, rounds) = sequences.learn(
            vocab_size=None if max_merges is not None else options.vocab_size,
            max_merges=max_merges,
            min_frequency=options.min_frequency,
            max_token_bytes=options.max_token_bytes,
            max_token_length=options.max_token_length,
            veto=None if veto is None or veto.is_empty else veto.compiled(),
            specials=list(options.special_tokens.texts),
            progress=watch,
        )
    _log.info(
        "%d tokens; cut where two are together under %d times: %d tokens in %d sequences, "
        "%d rounds",
        sequences.positions,
        least,
        positions,
        kept,
        rounds,
    )
    return learnt


def both_counts(
    corpus: Any,
    recipe: SuperBPE | Boundless,
    plan: Plan,
    how: Mapping[str, Any],
    progress: Progress | None = None,
) -> tuple[Counts, Counts]:
    """Return the counts of words and those of the second stage, of the same documents.

    Raises:
        InvalidValue: Counts that were given are of one stage only, or of different documents.
    """
    if not _are_counts(corpus):
        return count_both(corpus, plan, recipe, progress=progress, **how)
    pair = (corpus,) if isinstance(corpus, Counts) else tuple(corpus)
    if len(pair) != 2:
        raise errors.build(
            errors.InvalidValue,
            f"{recipe.name} learns in two stages, and these are counts of one",
            field="corpus",
            fix="give (counts of words, counts of the second stage), or the text itself",
        )
    words, others = pair
    expected = recipe.second_pattern(words.header.pattern)
    if others.header.pattern != expected:
        raise errors.build(
            errors.InvalidValue,
            f"the second counts were made with {others.header.pattern!r}, not {expected!r}",
            field="corpus",
            fix="count once more with that pattern",
        )
    _check_same(words.header, others.header)
    return words, others


def _are_counts(corpus: Any) -> bool:
    if isinstance(corpus, Counts):
        return True
    return isinstance(corpus, tuple | list) and any(isinstance(one, Counts) for one in corpus)


def _check_same(words: CountHeader, others: CountHeader) -> None:
    """Refuse a second stage that saw other documents: it would have superwords of these alone."""
    for what in ("documents", "bytes", "normalizer", "sources"):
        first, second = getattr(words, what), getattr(others, what)
        if first != second:
            raise errors.build(
                errors.InvalidValue,
                f"{second!r} in the second stage, and {first!r} in the first",
                field=what,
                fix="count the same documents with the same weights and seed",
            )


class Both:
    """Two counters that are given the same documents; stands for one.

    Args:
        counters: Theirs.
        keep: Says of a document whether it is counted.
    """

    def __init__(
        self, counters: tuple[_core.Counter, ...], keep: Callable[[bytes], bool] | None = None
    ) -> None:
        self._counters = counters
        self._keep = keep

    def add(self, texts: list[bytes], weight: int = 1) -> None:
        """Count documents."""
        kept = texts if self._keep is None else [one for one in texts if self._keep(one)]
        for counter in self._counters:
            counter.add(kept, weight)

    def feed(self, block: bytes, weight: int = 1) -> None:
        """Count a part of a document."""
        for counter in self._counters:
            counter.feed(block, weight)

    def end_document(self) -> None:
        """End a document that came in parts."""
        for counter in self._counters:
            counter.end_document()

    def totals(self) -> tuple[int, int, int]:
        """Return what the first counter counted."""
        return self._counters[0].totals()


def count_both(
    corpus: Any,
    plan: Plan,
    recipe: SuperBPE | Boundless,
    *,
    keep: Callable[[str, bytes], bool] | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> tuple[Counts, Counts]:
    """Return the counts of words and those of the second stage, from one reading of the corpus.

    Both see the same documents as often: what one is drawn from, the other is drawn from too.

    Args:
        corpus: A corpus.
        plan: How words are counted; the two counters share its memory.
        recipe: Says what the second stage counts.
        keep: Says of a source's name and a document whether it is counted.
        progress: Told "counting", bytes done and bytes in all.
        how: `field`, `weights` and `limit_bytes` of :func:`anyvocab.count`.
    """
    half = replace(plan, memory_bytes=plan.memory_bytes // 2)
    plans = (half, replace(half, pattern=recipe.second_pattern(plan.pattern)))
    folder = Path(tempfile.gettempdir())
    counters = tuple(one.counter(folder) for one in plans)
    sources = sources_of(corpus, **how)
    meter = Meter(progress, sources)
    totals = {}
    for source in sources:
        own = None if keep is None else (lambda text, name=source.name: keep(name, text))
        both = cast(_core.Counter, Both(counters, own))
        totals[source.name] = count_source(both, source, plan, cutoff_of(source, plan), meter)
    headers = [
        one.header(counter.totals()[2], totals)
        for one, counter in zip(plans, counters, strict=True)
    ]
    check_sources(headers[0])
    words, others = (
        gather(counter.finish(), header) for counter, header in zip(counters, headers, strict=True)
    )
    return words, others
