"""Tokens that cross words, by three recipes: supertokens, superbpe, boundless."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, cast

import numpy as np

from anyvocab import _core, errors
from anyvocab.training.bpe import Trained, counts_of, finished, learn_words, train_counts
from anyvocab.training.corpus import sources_of
from anyvocab.training.counting import Meter, Plan, check_sources, count_source, cutoff_of
from anyvocab.training.counts import CountHeader, Counts
from anyvocab.training.options import TrainOptions, Veto
from anyvocab.training.shards import gather
from anyvocab.training.watching import Progress, watched

__all__ = [
    "Boundless",
    "Recipe",
    "SuperBPE",
    "Supertokens",
    "count_both",
    "learn_across",
    "recipe_of",
    "second_pattern",
    "train_superwords",
]

_log = logging.getLogger(__name__)

# Defaults that measurements decide.
TRANSITION = 0.9  # tokens after the first stage, as a share of the vocabulary (superbpe)
MAX_WORDS = 4  # of a superbpe token, as published
INSIDE = (": ",)  # no superbpe token holds this, as published
MAX_TOKEN_LENGTH = 30  # of supertokens, as published: exclusive, as `tokenizers` has it
PROBABILITY = 0.5  # that supertokens are cut at a boundary of pretokens
CHUNKS_PATTERN = "superbpe"  # of the second stage

_BATCH = 1 << 18  # chunks are handed to the core so many at a time


@dataclass(frozen=True)
class Supertokens:
    """One stage over chunks that are cut at random; the tokenizer itself cuts nothing.

    The lengths of the chunks are drawn from the published distribution over 4 to 23 characters.
    Its weights sum to 1.100 as published, and are taken as shares of their sum. The cuts of a
    document depend on its bytes and the seed alone. No text is left out, and nothing is put in.

    Source: Sharthak et al. 2025, arXiv:2505.09738.

    Attributes:
        seed: Another seed gives other cuts.
        resamplings: Each document is cut anew so many times, and all chunks count.
        cuts: "characters": anywhere between characters. "graphemes": never between a letter and
            its marks; lengths count such clusters. "pretokens": only between pretokens of the
            word pattern, at each with `probability`.
        probability: See `cuts`.
        max_token_length: Longest token, exclusive, in bytes; `None` for no bound. An explicit bound
            of the training goes before it.
    """

    name: ClassVar[str] = "supertokens"

    seed: int = 0
    resamplings: int = 1
    cuts: Literal["characters", "graphemes", "pretokens"] = "characters"
    probability: float = PROBABILITY
    max_token_length: int | None = MAX_TOKEN_LENGTH

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _check(self.cuts in ("characters", "graphemes", "pretokens"), "cuts", self.cuts, _CUTS)
        _check(0 <= self.seed < 1 << 64, "seed", self.seed, "use 0 to 2^64 - 1")
        _check(self.resamplings >= 1, "resamplings", self.resamplings, "use at least 1")
        _check(0 < self.probability <= 1, "probability", self.probability, "use over 0, up to 1")
        bound = self.max_token_length
        _check(bound is None or bound >= 2, "max_token_length", bound, "use at least 2")

    def pattern(self, words: str) -> str:
        """Return the pattern that counts the chunks; `words` is that of pretokens."""
        rest = f"pretokens:{self.probability!r}:{words}" if self.cuts == "pretokens" else self.cuts
        return f"supertokens:{self.seed}:{self.resamplings}:{rest}"


_CUTS = 'use "characters", "graphemes" or "pretokens"'


@dataclass(frozen=True)
class SuperBPE:
    """Two stages: merges within words up to a transition, then merges across them.

    The second stage goes on from the encoding by the first, on chunks that a wider pattern leaves
    whole, and skips pairs whose token the rules forbid. The tokenizer cuts by the wider pattern, so
    a text is encoded as the second stage saw it.

    Source: Liu et al. 2025, arXiv:2503.13423. Unlike the published trainer, a merge replaces every
    occurrence of its pair at once also where a token arises in two ways.

    Attributes:
        transition: How many tokens there are after the first stage, or, up to 1, which share of the
            vocabulary; 1.0 leaves no second stage, and gives an ordinary tokenizer.
        pattern: How text is cut in the second stage, and by the tokenizer.
        max_words: Most words of a token of the second stage; `None` for no bound.
        inside: Texts that no token of the second stage holds.
    """

    name: ClassVar[str] = "superbpe"

    transition: float = TRANSITION
    pattern: str = CHUNKS_PATTERN
    max_words: int | None = MAX_WORDS
    inside: tuple[str, ...] = INSIDE

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _check(self.transition > 0, "transition", self.transition, _TRANSITION)
        whole = self.transition <= 1 or self.transition == int(self.transition)
        _check(whole, "transition", self.transition, _TRANSITION)
        words = self.max_words
        _check(words is None or words >= 1, "max_words", words, "leave it out for no bound")


_TRANSITION = "use a share of the vocabulary (over 0, up to 1), or a number of tokens"


@dataclass(frozen=True)
class Boundless:
    """Merges across pretokens that are one token each; counts decide how many there are.

    Word merges and supermerges are learnt apart, and the larger count goes first until the
    vocabulary is full; of equal counts the word merge does.

    Source: Schmidt, Tanner, Pinter 2025, arXiv:2504.00178.

    Attributes:
        transition: `None` for the crossing of the counts; else a number of tokens after which
            supermerges alone follow, or a share of the vocabulary.
        export: Supermerges never touch a part of a pretoken, which no `tokenizer.json` says, so
            `anyvocab.train` refuses the recipe; :func:`anyvocab.training.boundless.train_boundless`
            gives the tokenizer itself. With "superbpe" the nearest form that can be said is made:
            all merges in one model that cuts as SuperBPE does. Its ids differ in part.
        pattern: How that form cuts text.
    """

    name: ClassVar[str] = "boundless"

    transition: float | None = None
    export: Literal["superbpe"] | None = None
    pattern: str = CHUNKS_PATTERN

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _check(self.export in (None, "superbpe"), "export", self.export, 'use "superbpe"')
        at = self.transition
        _check(at is None or (at > 0 and (at <= 1 or at == int(at))), "transition", at, _TRANSITION)


Recipe: TypeAlias = Supertokens | SuperBPE | Boundless


def _check(holds: bool, name: str, value: object, fix: str) -> None:
    if not holds:
        raise errors.build(
            errors.InvalidValue, f"got {value!r}", field=f"superwords.{name}", fix=fix
        )


def recipe_of(superwords: object) -> Recipe:
    """Return the config that a name stands for, or the config that it is.

    Raises:
        InvalidValue: There is no such recipe.

    >>> recipe_of("superbpe").max_words
    4
    """
    if isinstance(superwords, Supertokens | SuperBPE | Boundless):
        return superwords
    named: dict[object, Recipe] = {
        "supertokens": Supertokens(),
        "superbpe": SuperBPE(),
        "boundless": Boundless(),
    }
    found = named.get(superwords) if isinstance(superwords, str) else None
    if found is None:
        raise errors.build(
            errors.InvalidValue,
            f"no recipe is called {superwords!r}",
            field="superwords",
            fix=f"use {', '.join(map(repr, named))}, or leave it out for tokens within words",
        )
    return found


def second_pattern(recipe: Recipe, words: str) -> str | None:
    """Return the pattern of what the second stage counts; `None` where there is one stage.

    Args:
        recipe: The recipe.
        words: The pattern of words.
    """
    if isinstance(recipe, SuperBPE):
        return recipe.pattern
    return f"boundless:{words}" if isinstance(recipe, Boundless) else None


def tokens_at(transition: float, vocab_size: int) -> int:
    """Return how many tokens a transition says."""
    return round(transition * vocab_size) if transition <= 1 else int(transition)


def train_superwords(
    corpus: Any,
    superwords: object,
    options: TrainOptions,
    plan: Plan,
    how: Mapping[str, Any],
    progress: Progress | None = None,
) -> Trained:
    """Return a tokenizer learnt by a recipe, and how it came about.

    Args:
        corpus: A corpus, or counts as :func:`anyvocab.train` says.
        superwords: A recipe or its name.
        options: What is learnt.
        plan: How a corpus is counted; its pattern is that of words.
        how: More arguments for counting.
        progress: Told a stage, how much is done, and of how much.

    Raises:
        UnsupportedTokenizer: `Boundless` without `export`.
        The errors of :func:`anyvocab.train`.
    """
    recipe = recipe_of(superwords)
    if isinstance(recipe, Supertokens):
        return _supertokens(corpus, recipe, options, plan, how, progress)
    if options.seed_tokens or options.limit_alphabet is not None:
        raise errors.build(
            errors.InvalidValue,
            f"does not go with {recipe.name}",
            field="seed_tokens" if options.seed_tokens else "limit_alphabet",
            fix="leave it out",
        )
    if isinstance(recipe, Boundless):
        from anyvocab.training.boundless import refuse_export, train_boundless

        if recipe.export is None:
            raise refuse_export()
        made = train_boundless(
            corpus, recipe=recipe, options=options, plan=plan, how=how, progress=progress
        )
        return made.nearest(recipe.pattern)
    words, chunks = both_counts(corpus, recipe, plan, how, progress)
    return train_superbpe(words, chunks, recipe, options, plan, progress)


def _supertokens(
    corpus: Any,
    recipe: Supertokens,
    options: TrainOptions,
    plan: Plan,
    how: Mapping[str, Any],
    progress: Progress | None,
) -> Trained:
    pattern = recipe.pattern(plan.pattern)
    if isinstance(corpus, Counts) and not corpus.header.pattern.startswith("supertokens:"):
        raise errors.build(
            errors.InvalidValue,
            f"the counts were made with {corpus.header.pattern!r}",
            field="pattern",
            fix=f"count with pattern={pattern!r}",
        )
    if options.max_token_bytes is None and options.max_token_length is None:
        options = replace(options, max_token_length=recipe.max_token_length)
    counts = counts_of(corpus, replace(plan, pattern=pattern), how, progress)
    return replace(train_counts(counts, options, progress), recipe=recipe.name)


def train_superbpe(
    words: Counts,
    chunks: Counts,
    recipe: SuperBPE,
    options: TrainOptions,
    plan: Plan,
    progress: Progress | None = None,
) -> Trained:
    """Return a tokenizer of two stages, learnt from counts of the same documents."""
    transition = min(tokens_at(recipe.transition, options.vocab_size), options.vocab_size)
    first = _first_stage(words, options, transition, progress)
    if transition >= options.vocab_size:
        return replace(
            finished(first, {"": words}, options), recipe=recipe.name, transition=transition
        )
    second = learn_across(
        first, chunks, options, plan, unit="chunks", veto=_veto(recipe, options), progress=progress
    )
    merges, counts, data, offsets, stop = second
    together = (
        np.concatenate([first[0], merges]),
        np.concatenate([first[1], counts]),
        data,
        offsets,
        stop,
    )
    trained = finished(together, {"": chunks}, options)
    return replace(trained, recipe=recipe.name, transition=len(first[3]) - 1)


def _first_stage(
    words: Counts, options: TrainOptions, tokens: int, progress: Progress | None
) -> _core._Learnt:
    """Return the first stage; one too small for the alphabet is told by its own name."""
    try:
        return learn_words(words, replace(options, vocab_size=tokens), progress)
    except errors.InvalidValue as error:
        least = len(options.special_tokens.texts) + len(options.alphabet)
        if error.field != "vocab_size" or options.vocab_size < least:
            raise
        raise errors.build(
            errors.InvalidValue,
            f"{tokens} is less than {least}, the special tokens and the alphabet",
            field="superwords.transition",
            fix="raise it, or the size of the vocabulary",
        ) from None


def _veto(recipe: SuperBPE, options: TrainOptions) -> Veto:
    """Return the rules of the recipe and those of the user together."""
    veto = options.veto or Veto()
    bounds = [one for one in (veto.max_words, recipe.max_words) if one is not None]
    return replace(veto, max_words=min(bounds, default=None), inside=(*veto.inside, *recipe.inside))


def learn_across(
    first: _core._Learnt,
    counts: Counts,
    options: TrainOptions,
    plan: Plan,
    *,
    unit: Literal["chunks", "runs"],
    veto: Veto | None,
    max_merges: int | None = None,
    progress: Progress | None = None,
) -> _core._Learnt:
    """Return what the second stage learnt: its merges, and all tokens.

    Args:
        first: What the first stage learnt.
        counts: Chunks, or runs of pretokens.
        options: What is learnt.
        plan: Threads, and the memory of the encoded sequences; more goes to files.
        unit: What is counted.
        veto: Tokens that may not be learnt.
        max_merges: Ends at so many merges, and not at `options.vocab_size`.
        progress: Told "encoding", then "merging".
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
    wanted = options.vocab_size - (len(offsets) - 1) if max_merges is None else max_merges
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
        "%d tokens in %s; cut where two are together under %d times: %d tokens in %d sequences, "
        "%d rounds",
        sequences.positions,
        unit,
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
    expected = second_pattern(recipe, words.header.pattern)
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
    second = second_pattern(recipe, plan.pattern)
    plans = (half, replace(half, pattern=cast(str, second)))
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
