"""Training for several languages at once: the one that is served worst chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anyvocab import _core, errors
from anyvocab.training.bpe import Trained, counts_of, finished
from anyvocab.training.counting import Plan
from anyvocab.training.counts import Counts
from anyvocab.training.options import Parity, TrainOptions
from anyvocab.training.watching import Progress, watched

__all__ = ["train_languages"]

# What a training of several languages cannot be told.
_UNUSED = ("limit_alphabet", "max_token_length", "seed_tokens")


def train_languages(
    corpus: Any,
    parity: Parity,
    options: TrainOptions,
    plan: Plan,
    how: Mapping[str, Any],
    progress: Progress | None = None,
) -> Trained:
    """Return a tokenizer learnt from several languages, and who chose each merge.

    Args:
        corpus: A mapping from languages to their corpora, or their counts.
        parity: How they take turns.
        options: What is learnt.
        plan: How corpora are counted.
        how: More arguments for counting.
        progress: Told a stage, how much is done, and of how much.

    Raises:
        InvalidValue: `corpus` is no mapping, the languages of `parity` are others, or an option
            does not go with several languages.
        The errors of :func:`anyvocab.train`.
    """
    if not isinstance(corpus, Mapping) or not corpus:
        raise errors.build(
            errors.InvalidValue,
            f"parity needs several languages, got {type(corpus).__name__}",
            field="corpus",
            fix='give a mapping from languages to their texts, such as {"en": [...], "de": [...]}',
        )
    for name in _UNUSED:
        if getattr(options, name):
            raise errors.build(
                errors.InvalidValue,
                "does not go with parity",
                field=name,
                fix="leave one of the two out",
            )
    names = sorted(corpus)
    for what in ("measured", "sizes"):
        given = getattr(parity, what)
        if given is not None and sorted(given) != names:
            raise errors.build(
                errors.InvalidValue,
                f"is for {', '.join(sorted(given))}, and the languages are {', '.join(names)}",
                field=f"parity.{what}",
                fix="give one for each language",
            )
    # Weights and limits are by source, and each language is one.
    shared = {"field": how.get("field", "text")}
    own = {name: counts_of(_of(corpus, name), plan, _how(name, how), progress) for name in names}
    measured = None
    if parity.measured is not None:
        measured = {
            name: counts_of(parity.measured[name], plan, shared, progress) for name in names
        }
    specials = list(options.special_tokens.texts)
    with watched(progress, options.vocab_size) as watch:
        learnt, chosen, _ = _core.train_parity(
            [_arrays(own[name]) for name in names],
            _sizes(names, parity, own),
            measured=None if measured is None else [_arrays(measured[name]) for name in names],
            together=_together(own, names) if parity.global_merges else None,
            global_merges=parity.global_merges,
            window=parity.window,
            share=parity.share,
            specials=specials,
            alphabet=options.alphabet,
            vocab_size=options.vocab_size,
            min_frequency=options.min_frequency,
            max_token_bytes=options.max_token_bytes,
            veto=None if options.veto is None else options.veto.compiled(),
            progress=watch,
        )
    chosen_by = tuple(None if number < 0 else names[number] for number in chosen.tolist())
    return finished(learnt, own, options, chosen_by)


def _of(corpus: Mapping[str, Any], name: str) -> Any:
    """Return one language as a corpus of one source, which keeps its name."""
    one = corpus[name]
    return one if isinstance(one, Counts) else {name: one}


def _how(name: str, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of one language's counting."""
    out = dict(how)
    for what in ("weights", "limit_bytes"):
        given = out.get(what)
        if isinstance(given, Mapping):
            out[what] = {name: given[name]} if name in given else None
    return out


def _arrays(counts: Counts) -> _core._Words:
    return counts.data, counts.offsets, counts.counts


def _sizes(names: list[str], parity: Parity, own: Mapping[str, Counts]) -> list[float]:
    if parity.sizes is not None:
        return [float(parity.sizes[name]) for name in names]
    if parity.measured is not None:
        return [1.0] * len(names)
    return [float(own[name].header.bytes) for name in names]


def _together(own: Mapping[str, Counts], names: list[str]) -> _core._Words:
    """Return the pretokens of all languages; one that several have is there several times."""
    starts = np.cumsum([0, *(len(own[name].data) for name in names)])
    offsets = [own[name].offsets[:-1] + start for name, start in zip(names, starts, strict=False)]
    return (
        np.concatenate([own[name].data for name in names]),
        np.concatenate([*offsets, starts[-1:]]).astype(np.int64),
        np.concatenate([own[name].counts for name in names]),
    )
