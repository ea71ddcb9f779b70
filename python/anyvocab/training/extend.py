"""More tokens for a tokenizer that exists."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anyvocab import _core, errors
from anyvocab.tokenizer import Tokenizer
from anyvocab.training.bpe import counts_of, sample_of
from anyvocab.training.counting import Plan
from anyvocab.training.counts import CountHeader, Counts
from anyvocab.training.options import Veto
from anyvocab.training.watching import Progress, watched

__all__ = ["Extended", "extend", "extend_counts", "plan_of"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Extended:
    """An extended tokenizer, and how it came about.

    Attributes:
        tokenizer: The tokenizer.
        first_new_id: New tokens have this id and those above; all below are what they were.
        merges: (left, right, product) of each new merge, in order, uint32[n, 3].
        counts: How often each pair occurred when it was merged, uint64[n].
        stop: "complete", or "exhausted" when no pair was left that is frequent enough.
        header: Where the counts came from.
        sample: Texts made of pretokens of the corpus: what an export is checked on.
    """

    tokenizer: Tokenizer
    first_new_id: int
    merges: NDArray[np.uint32]
    counts: NDArray[np.uint64]
    stop: str
    header: CountHeader
    sample: tuple[str, ...]

    @property
    def new_tokens(self) -> int:
        """How many tokens there are more than before."""
        return len(self.tokenizer.vocabulary) - self.first_new_id


def extend(
    tokenizer: object,
    corpus: Any,
    n: int,
    *,
    min_frequency: int = 2,
    veto: Veto | None = None,
    max_token_bytes: int | None = None,
    field: str = "text",
    documents: Literal["file", "line"] = "file",
    weights: Mapping[str, float] | None = None,
    limit_bytes: int | Mapping[str, int] | None = None,
    invalid: Literal["bytes", "skip", "error"] = "bytes",
    seed: int = 0,
    threads: int | None = None,
    memory_bytes: int = 1 << 30,
    progress: Progress | None = None,
) -> Tokenizer:
    """Return a tokenizer with `n` more tokens, learnt from a corpus.

    Every id of `tokenizer` keeps its bytes and every merge its rank; new ids follow the largest,
    new merges the last. The corpus is cut and encoded as `tokenizer` does, and learning goes on
    from there. A text that no new merge applies to is encoded as before.

    Args:
        tokenizer: A byte-level BPE tokenizer or one with byte fallback whose spaces are `▁`
            (SentencePiece's), or whatever :meth:`Tokenizer.load` takes. The latter makes no cuts:
            new tokens are learnt inside words, a space before them, and inside white space.
        corpus: Whatever :func:`anyvocab.count` takes; or :class:`Counts` made with the same
            pattern and normalizer (see :func:`plan_of`).
        n: How many tokens are added.
        min_frequency: Pairs that occur less often are not merged.
        veto: Tokens that may not be learnt.
        max_token_bytes: Longest token.
        field: As the rest, for counting: see :func:`anyvocab.count`.
        documents: What a document is.
        weights: How often each document of a source counts.
        limit_bytes: Most bytes of each source.
        invalid: What to do with a document that is not UTF-8.
        seed: Of the hash by which documents are drawn.
        threads: How many threads count.
        memory_bytes: Most memory of the counts while they are counted.
        progress: Told a stage, how much is done, and of how much (0 where unknown).

    Raises:
        UnsupportedTokenizer: It is no such BPE, has no token for some byte, or cuts texts in
            a way that training does not know; the message names the part.
        InvalidValue: An argument is out of range, the counts were made in another way, the corpus
            is empty.
        The errors of :func:`anyvocab.count`.

    >>> import anyvocab as av
    >>> tok = av.Tokenizer.load("pico:code-4k")
    >>> more = extend(tok, [b"xylophone xylophone"] * 2, 3)
    >>> len(more.vocabulary) - len(tok.vocabulary)
    3
    """
    tokenizer = Tokenizer.load(tokenizer)
    pattern, normalizer = _core.cuts_of(tokenizer._core)
    plan = Plan(
        pattern=pattern,
        normalizer=normalizer,
        documents=documents,
        invalid=invalid,
        seed=seed,
        threads=threads,
        memory_bytes=memory_bytes,
    )
    how: dict[str, Any] = {"field": field, "weights": weights, "limit_bytes": limit_bytes}
    return extend_counts(
        tokenizer,
        counts_of(corpus, plan, how, progress),
        n,
        min_frequency=min_frequency,
        veto=veto,
        max_token_bytes=max_token_bytes,
        progress=progress,
    ).tokenizer


def plan_of(tokenizer: Tokenizer) -> Plan:
    """Return how a corpus is counted for extending `tokenizer`: its own pattern and normalizer.

    Raises:
        UnsupportedTokenizer: It cannot be extended.

    >>> plan_of(Tokenizer.load("pico:code-4k")).pattern
    'cl100k'
    """
    pattern, normalizer = _core.cuts_of(tokenizer._core)
    return Plan(pattern=pattern, normalizer=normalizer)


def extend_counts(
    tokenizer: Tokenizer,
    counts: Counts,
    n: int,
    *,
    min_frequency: int = 2,
    veto: Veto | None = None,
    max_token_bytes: int | None = None,
    progress: Progress | None = None,
) -> Extended:
    """Return a tokenizer with `n` more tokens learnt from counts, and how it came about.

    Raises:
        The errors of :func:`extend`.
    """
    for name, value, low in (
        ("n", n, 1),
        ("min_frequency", min_frequency, 0),
        ("max_token_bytes", max_token_bytes, 1),
    ):
        if value is not None and value < low:
            raise errors.build(
                errors.InvalidValue,
                f"must be at least {low}, got {value}",
                field=name,
                fix="give a larger number",
            )
    _check_cuts(tokenizer, counts.header)
    if not len(counts):
        raise errors.build(
            errors.InvalidValue, "there are no pretokens", field="corpus", fix="give some text"
        )
    with watched(progress, n) as watch:
        merges, merge_counts, data, offsets, stop = _core.extend_words(
            tokenizer._core,
            counts.data,
            counts.offsets,
            counts.counts,
            tokens=n,
            min_frequency=min_frequency,
            max_token_bytes=max_token_bytes,
            veto=None if veto is None else veto.compiled(),
            progress=watch,
        )
    before = len(tokenizer.vocabulary)
    added = len(offsets) - 1 - before
    if added < n:
        _log.warning("the corpus gave %d new tokens, not %d", added, n)
    json = _core.extended_json(tokenizer._core, data, offsets, merges)
    return Extended(
        tokenizer=Tokenizer.load(json).with_declarations(tokenizer.declarations),
        first_new_id=before,
        merges=merges,
        counts=merge_counts,
        stop=stop,
        header=counts.header,
        sample=tuple(sample_of(counts)),
    )


def _check_cuts(tokenizer: Tokenizer, header: CountHeader) -> None:
    """Refuse counts whose pretokens are not the tokenizer's."""
    pattern, normalizer = _core.cuts_of(tokenizer._core)
    names = {"llama3": "cl100k"}  # two names of one pattern
    for field, own, counted in (
        ("pattern", pattern, header.pattern),
        ("normalizer", normalizer, header.normalizer),
    ):
        if names.get(str(own), own) != names.get(str(counted), counted):
            raise errors.build(
                errors.InvalidValue,
                f"the counts were made with {counted!r}, and the tokenizer cuts with {own!r}",
                field=field,
                fix="count again as the tokenizer cuts",
            )
