"""Tokens that cross words, by three recipes: supertokens, superbpe, boundless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from anyvocab import _core, errors
from anyvocab.training.bpe import Trained, counts_of, excerpt, finished, learn_words, train_counts
from anyvocab.training.counting import Plan
from anyvocab.training.counts import Counts
from anyvocab.training.options import TrainOptions, Veto
from anyvocab.training.stages import both_counts, encode_across, learn_across
from anyvocab.training.watching import Progress

__all__ = [
    "Boundless",
    "Recipe",
    "SuperBPE",
    "Supertokens",
    "recipe_of",
    "second_pattern",
    "tokens_at",
    "train_superbpe",
    "train_superwords",
]

# Defaults that measurements decide.
# Tokens after the first stage, as a share of the vocabulary (superbpe). On 147 MB of English, 35
# languages and code, 32,000 and 64,000 tokens: 4.120 and 4.735 bytes a token at 0.8, 4.125 and
# 4.750 at 0.5, 4.090 and 4.683 at 0.9.
TRANSITION = 0.8
MAX_WORDS = 4  # of a superbpe token, as published
INSIDE = (": ",)  # no superbpe token holds this, as published
MAX_TOKEN_LENGTH = 30  # of supertokens, as published: exclusive, as `tokenizers` has it
PROBABILITY = 0.5  # that supertokens are cut at a boundary of pretokens
CHUNKS_PATTERN = "superbpe"  # of the second stage


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

    def second_pattern(self, words: str) -> str:  # noqa: ARG002 (as Boundless has it)
        """Return the pattern that counts the chunks, whatever that of words is."""
        return self.pattern


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

    def second_pattern(self, words: str) -> str:
        """Return the pattern that counts runs of pretokens; `words` is that of pretokens."""
        return f"boundless:{words}"


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
    return None if isinstance(recipe, Supertokens) else recipe.second_pattern(words)


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
    counted = list(both_counts(corpus, recipe, plan, how, progress))
    # Popped, so that nothing here holds the chunks while their sequences are learnt from.
    return train_superbpe(counted.pop(0), counted.pop(0), recipe, options, plan, progress)


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
    sequences = encode_across(first, chunks, plan, unit="chunks", progress=progress)
    shown = excerpt(chunks)
    del words, chunks
    second = learn_across(first, sequences, options, veto=_veto(recipe, options), progress=progress)
    merges, counts, data, offsets, stop = second
    together = (
        np.concatenate([first[0], merges]),
        np.concatenate([first[1], counts]),
        data,
        offsets,
        stop,
    )
    trained = finished(together, {"": shown}, options)
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
