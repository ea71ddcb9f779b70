"""Training byte-level BPE: counts in, a tokenizer out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anyvocab import _core, errors
from anyvocab.tokenizer import Tokenizer
from anyvocab.training._memory import available_bytes
from anyvocab.training.counting import COUNTING_BYTES, Plan, count_corpus
from anyvocab.training.counts import CountHeader, Counts
from anyvocab.training.options import (
    Alphabet,
    Parity,
    SpecialTokens,
    TrainOptions,
    Veto,
    special_tokens_of,
)
from anyvocab.training.watching import Progress, watched

__all__ = ["DEFAULT_PATTERN", "Trained", "train", "train_corpus", "train_counts"]

DEFAULT_PATTERN = "llama3"
_SAMPLE = 2048  # pretokens that an export is checked on

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained tokenizer, and how it came about.

    Attributes:
        tokenizer: The tokenizer.
        merges: (left, right, product) of each merge, in the order of the ranks, uint32[n, 3].
        counts: How often each pair occurred when it was merged, uint64[n]; 0 for merges that only
            lead to a seed token.
        stop: "complete" when the vocabulary has the size asked for, "exhausted" when no pair was
            left that is frequent enough.
        headers: Where the counts came from, by language; one without a name for a plain training.
        sample: Texts made of pretokens of the corpus: what an export is checked on.
        chosen_by: With parity, the language that chose each merge; `None` for all together.
        recipe: "supertokens", "superbpe", "boundless", or `None` for tokens within words.
        transition: Where a recipe has two stages: the tokens there were after the first.
    """

    tokenizer: Tokenizer
    merges: NDArray[np.uint32]
    counts: NDArray[np.uint64]
    stop: str
    headers: Mapping[str, CountHeader]
    sample: tuple[str, ...]
    chosen_by: tuple[str | None, ...] | None = None
    recipe: str | None = None
    transition: int | None = None


def train(
    corpus: Any,
    vocab_size: int = 32_000,
    *,
    pattern: str | None = None,
    normalizer: str | None = None,
    min_frequency: int = 2,
    special_tokens: SpecialTokens = (),
    initial_alphabet: Alphabet = "bytes",
    limit_alphabet: int | None = None,
    superwords: object | None = None,
    veto: Veto | None = None,
    seed_tokens: Sequence[str | bytes] = (),
    parity: Parity | None = None,
    max_token_bytes: int | None = None,
    max_token_length: int | None = None,
    field: str = "text",
    documents: Literal["file", "line"] = "file",
    weights: Mapping[str, float] | None = None,
    limit_bytes: int | Mapping[str, int] | None = None,
    invalid: Literal["bytes", "skip", "error"] = "bytes",
    seed: int = 0,
    threads: int | None = None,
    memory_bytes: int | None = None,
    progress: Progress | None = None,
) -> Tokenizer:
    """Return a byte-level BPE tokenizer learnt from a corpus.

    The merges equal those of Hugging Face's `BpeTrainer` on the same pretokens, but for four
    things: counts of pairs are 64 bits wide, no merge ever makes the spelling of a special token
    or a token of more than 32 KiB, and `limit_alphabet` does not leave equals to chance. They do
    not depend on threads, nor on the order of the documents. The first merges of a larger
    vocabulary are those of a smaller one.

    Args:
        corpus: Whatever :func:`anyvocab.count` takes; or :class:`Counts`, counted before; or, with
            `parity`, a mapping from languages to either.
        vocab_size: How many ids, special tokens and alphabet included. A corpus that runs out of
            pairs gives fewer, which is logged.
        pattern: How text is cut: a known name, a regular expression in Oniguruma's syntax, or
            "none". Counts know theirs; otherwise "llama3".
        normalizer: "nfc", "nfd", "nfkc", "nfkd", "lowercase" or `None`. Counts know theirs.
        min_frequency: Pairs that occur less often are not merged.
        special_tokens: They get the first ids; see
            :func:`anyvocab.training.options.special_tokens_of`.
        initial_alphabet: "bytes": all 256 bytes have tokens, so every text can be encoded; "seen":
            those of the corpus; or certain bytes beside those of the corpus.
        limit_alphabet: At most so many bytes, the most frequent ones; the others are lost.
        superwords: A recipe for tokens that cross words: "supertokens", "superbpe", "boundless", or
            a config of :mod:`anyvocab.training.superwords`; `None` for none. For those of two
            stages a corpus that was counted before is a pair of counts: of words, and of what
            :func:`anyvocab.training.superwords.second_pattern` says.
        veto: Tokens that may not be learnt.
        seed_tokens: Texts that must be tokens; each must be one pretoken. Merges for them come
            last, within `vocab_size`.
        parity: Lets the language that is served worst choose.
        max_token_bytes: Longest token.
        max_token_length: `max_token_length` of `tokenizers`, exclusive; instead of
            `max_token_bytes`.
        field: As the rest, for counting: see :func:`anyvocab.count`.
        documents: What a document is.
        weights: How often each document of a source counts.
        limit_bytes: Most bytes of each source.
        invalid: What to do with a document that is not UTF-8.
        seed: Of the hash by which documents are drawn.
        threads: How many threads count.
        memory_bytes: Most memory of the counts while they are counted (1 GiB by default), and then
            of merging (by default what the machine has left). Merging holds all different
            pretokens: what would take more is refused before it begins. That is known for words and
            for "supertokens"; the second stages and `parity` are not asked.
        progress: Told a stage, how much is done, and of how much (0 where unknown).

    Raises:
        InvalidValue: An argument is out of range, `vocab_size` is less than special tokens and
            alphabet, special tokens contradict one another or the alphabet, the corpus is empty,
            merging takes more memory than it may.
        UnsupportedTokenizer: No stock `tokenizer.json` says what was asked for.
        The errors of :func:`anyvocab.count`.

    >>> tok = train([b"low lower lowest slow"] * 2, vocab_size=260)
    >>> tok.vocabulary.token_bytes(258)
    b' low'
    """
    options = TrainOptions(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special_tokens_of(special_tokens),
        initial_alphabet=initial_alphabet,
        limit_alphabet=limit_alphabet,
        veto=veto,
        seed_tokens=tuple(one.encode() if isinstance(one, str) else one for one in seed_tokens),
        max_token_bytes=max_token_bytes,
        max_token_length=max_token_length,
        memory_bytes=memory_bytes,
    )
    plan = Plan(
        pattern=DEFAULT_PATTERN if pattern is None else pattern,
        normalizer=normalizer,
        documents=documents,
        invalid=invalid,
        seed=seed,
        threads=threads,
        memory_bytes=COUNTING_BYTES if memory_bytes is None else memory_bytes,
    )
    for counts in _counted(corpus):
        _check_header(counts.header, pattern, normalizer)
    return train_corpus(
        corpus,
        options,
        plan,
        superwords=superwords,
        parity=parity,
        field=field,
        weights=weights,
        limit_bytes=limit_bytes,
        progress=progress,
    ).tokenizer


def train_corpus(
    corpus: Any,
    options: TrainOptions | None = None,
    plan: Plan | None = None,
    *,
    superwords: object | None = None,
    parity: Parity | None = None,
    field: str = "text",
    weights: Mapping[str, float] | None = None,
    limit_bytes: int | Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Return a tokenizer learnt from a corpus, and how it came about; see :func:`train`.

    Args:
        corpus: A corpus or counts, or a mapping from languages to such.
        options: What is learnt.
        plan: How a corpus is counted; counts have been.
        superwords: A recipe.
        parity: How languages take turns.
        field: The member, column or key that holds a record's text.
        weights: How often each document of a source counts.
        limit_bytes: Most bytes of each source.
        progress: Told a stage, how much is done, and of how much.

    Raises:
        The errors of :func:`train`.
    """
    options = TrainOptions() if options is None else options
    plan = Plan(pattern=DEFAULT_PATTERN) if plan is None else plan
    how: dict[str, Any] = {"field": field, "weights": weights, "limit_bytes": limit_bytes}
    _rehearse(options, plan, cuts=superwords is None and not _counted(corpus))
    if superwords is not None:
        # The one place where recipes come in.
        from anyvocab.training.superwords import train_superwords

        if parity is not None:
            raise errors.build(
                errors.InvalidValue,
                "does not go with superwords",
                field="parity",
                fix="leave one of the two out",
            )
        return train_superwords(corpus, superwords, options, plan, how, progress)
    if parity is not None:
        from anyvocab.training.languages import train_languages

        return train_languages(corpus, parity, options, plan, how, progress)
    return train_counts(counts_of(corpus, plan, how, progress), options, progress)


def counts_of(corpus: Any, plan: Plan, how: Mapping[str, Any], progress: Progress | None) -> Counts:
    """Return the counts of a corpus, or the counts that `corpus` is."""
    if isinstance(corpus, Counts):
        return corpus
    return count_corpus(corpus, plan, progress=progress, **how)


def train_counts(
    counts: Counts, options: TrainOptions | None = None, progress: Progress | None = None
) -> Trained:
    """Return a tokenizer learnt from counts, and how it came about.

    Args:
        counts: Counted pretokens.
        options: What is learnt.
        progress: Told "merging", the tokens there are and the tokens asked for.

    Raises:
        The errors of :func:`train`.
    """
    options = TrainOptions() if options is None else options
    return finished(learn_words(counts, options, progress), {"": counts}, options)


def _rehearse(options: TrainOptions, plan: Plan, *, cuts: bool) -> None:
    """Refuse what no corpus makes possible before one is read, by learning from nothing.

    Args:
        options: What will be learnt.
        plan: How a corpus will be counted.
        cuts: Whether the plan's pattern is the tokenizer's.
    """
    merges, _, data, offsets, _ = _core.train_words(
        np.zeros(0, np.uint8),
        np.zeros(1, np.int64),
        np.zeros(0, np.uint64),
        specials=list(options.special_tokens.texts),
        alphabet=options.alphabet,
        limit_alphabet=options.limit_alphabet,
        vocab_size=options.vocab_size,
        min_frequency=options.min_frequency,
    )
    if options.seed_tokens and cuts:
        made = _core.bpe_json(
            data,
            offsets,
            merges,
            specials=list(options.special_tokens.texts),
            pattern=plan.pattern,
            normalizer=plan.normalizer,
        )
        _check_seeds(Tokenizer.load(made), options.seed_tokens)


def learn_words(
    counts: Counts, options: TrainOptions, progress: Progress | None = None
) -> _core._Learnt:
    """Return the merges learnt from counts, and the tokens."""
    if not len(counts):
        raise errors.build(
            errors.InvalidValue, "there are no pretokens", field="corpus", fix="give some text"
        )
    specials = list(options.special_tokens.texts)
    with watched(progress, options.vocab_size) as watch:
        return _core.train_words(
            counts.data,
            counts.offsets,
            counts.counts,
            specials=specials,
            alphabet=options.alphabet,
            limit_alphabet=options.limit_alphabet,
            vocab_size=options.vocab_size,
            min_frequency=options.min_frequency,
            max_token_bytes=options.max_token_bytes,
            max_token_length=options.max_token_length,
            veto=None if options.veto is None else options.veto.compiled(),
            seed_tokens=list(options.seed_tokens),
            memory=available_bytes() if options.memory_bytes is None else options.memory_bytes,
            progress=watch,
        )


def finished(
    learnt: _core._Learnt,
    counts: Mapping[str, Counts],
    options: TrainOptions,
    chosen_by: tuple[str | None, ...] | None = None,
) -> Trained:
    """Return what was learnt as a tokenizer."""
    merges, merge_counts, data, offsets, stop = learnt
    header = next(iter(counts.values())).header
    tokenizer = Tokenizer.load(
        _core.bpe_json(
            data,
            offsets,
            merges,
            specials=list(options.special_tokens.texts),
            pattern=header.pattern,
            normalizer=header.normalizer,
        )
    ).with_declarations(options.special_tokens.declarations())
    _check_seeds(tokenizer, options.seed_tokens)
    if len(offsets) - 1 < options.vocab_size:
        _log.warning(
            "the corpus gave %d tokens, not %d: no other pair occurs %d times",
            len(offsets) - 1,
            options.vocab_size,
            max(options.min_frequency, 1),
        )
    return Trained(
        tokenizer=tokenizer,
        merges=merges,
        counts=merge_counts,
        stop=stop,
        headers={name: one.header for name, one in counts.items()},
        sample=tuple(text for one in counts.values() for text in sample_of(one)),
        chosen_by=chosen_by,
    )


def excerpt(counts: Counts, size: int = _SAMPLE) -> Counts:
    """Return some of the counts, from all over them: what :func:`sample_of` is made of."""
    chosen = np.unique(np.linspace(0, len(counts) - 1, size).astype(np.int64))
    pieces = [counts.data[counts.offsets[i] : counts.offsets[i + 1]] for i in chosen]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in pieces])]).astype(np.int64)
    data = np.concatenate(pieces) if pieces else counts.data[:0].copy()
    return replace(counts, data=data, offsets=offsets, counts=counts.counts[chosen])


def sample_of(counts: Counts, *, pretokens: int = 32) -> list[str]:
    """Return texts made of pretokens from all over the counts; the same for the same counts.

    Bytes that are not UTF-8 are left out.
    """
    some = excerpt(counts)
    data, offsets = some.data.tobytes(), some.offsets
    order = np.random.default_rng(0).permutation(len(some))
    rows = [
        b"".join(data[offsets[i] : offsets[i + 1]] for i in order[start : start + pretokens])
        for start in range(0, len(order), pretokens)
    ]
    return [row.decode("utf-8", "ignore") for row in rows]


def _check_seeds(tokenizer: Tokenizer, seeds: Sequence[bytes]) -> None:
    for seed in seeds:
        pieces = tokenizer.pretokenize(seed)
        if len(pieces) != 1:
            shown = " | ".join(piece.decode("utf-8", "backslashreplace") for piece in pieces)
            raise errors.build(
                errors.InvalidValue,
                f"{seed.decode('utf-8', 'backslashreplace')!r} is cut into {shown}, "
                "so no text gives this token",
                field="seed_tokens",
                fix="give seeds that the pattern and the normalizer leave whole",
            )


def _counted(corpus: object) -> list[Counts]:
    """Return the counts among what was given."""
    given = corpus.values() if isinstance(corpus, Mapping) else [corpus]
    return [one for one in given if isinstance(one, Counts)]


def _check_header(header: CountHeader, pattern: str | None, normalizer: str | None) -> None:
    for name, asked, is_ in (
        ("pattern", pattern, header.pattern),
        ("normalizer", normalizer, header.normalizer),
    ):
        if asked is not None and asked != is_:
            raise errors.build(
                errors.InvalidValue,
                f"{asked!r}, and the counts were made with {is_!r}",
                field=name,
                fix="leave it out, or count again",
            )
