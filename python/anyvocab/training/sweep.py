"""Compression for several vocabulary sizes and transition points, from one count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from anyvocab import errors
from anyvocab.tokenizer import Ragged
from anyvocab.training.boundless import learn_lists
from anyvocab.training.bpe import DEFAULT_PATTERN, train_counts
from anyvocab.training.counting import Plan
from anyvocab.training.counts import CountHeader, Counts
from anyvocab.training.options import TrainOptions
from anyvocab.training.sampling import fingerprint
from anyvocab.training.stages import count_both
from anyvocab.training.superwords import (
    Boundless,
    SuperBPE,
    recipe_of,
    tokens_at,
    train_superbpe,
)
from anyvocab.training.watching import Progress

__all__ = ["SweepReport", "SweepRow", "sweep"]

FORMAT_VERSION = 1
HELD_OUT = 0.02  # of the documents of each source
HELD_OUT_BYTES = 4 << 20  # of each source, at most, are encoded
_SEED = 0x5EED  # added to the seed: held-out documents are not drawn as those of limits are


class _Encodes(Protocol):
    def encode_batch(self, texts: Sequence[str | bytes]) -> Ragged: ...


@dataclass(frozen=True)
class SweepRow:
    """What one tokenizer makes of the held-out documents.

    Attributes:
        vocab_size: Tokens.
        transition: Tokens after the first stage; `vocab_size` for an ordinary tokenizer.
        share: The transition as it was asked for; `None` for the crossing of the counts.
        bytes: Bytes of the held-out documents, by source.
        tokens: Their tokens, by source.
    """

    vocab_size: int
    transition: int
    share: float | None
    bytes: Mapping[str, int]
    tokens: Mapping[str, int]

    @property
    def bytes_per_token(self) -> float:
        """Bytes per token of all sources together."""
        return sum(self.bytes.values()) / sum(self.tokens.values())

    def of(self, source: str) -> float:
        """Return bytes per token of a source."""
        return self.bytes[source] / self.tokens[source]

    def to_dict(self) -> dict[str, object]:
        """Return the row as what JSON can hold."""
        return {
            "vocab_size": self.vocab_size,
            "transition": self.transition,
            "share": self.share,
            "bytes_per_token": self.bytes_per_token,
            "sources": {
                name: {
                    "bytes": self.bytes[name],
                    "tokens": self.tokens[name],
                    "bytes_per_token": self.of(name),
                }
                for name in sorted(self.bytes)
            },
        }


@dataclass(frozen=True)
class SweepReport:
    """What a sweep found.

    Attributes:
        recipe: "superbpe" or "boundless".
        rows: One for each size and transition, in the order asked for.
        header: What was learnt from; the held-out documents are not among it.
        held_out: Documents that were encoded, by source.
    """

    recipe: str
    rows: tuple[SweepRow, ...]
    header: CountHeader
    held_out: Mapping[str, int]

    def to_dict(self) -> dict[str, object]:
        """Return the report as what JSON can hold."""
        return {
            "format_version": FORMAT_VERSION,
            "recipe": self.recipe,
            "pattern": self.header.pattern,
            "documents": self.header.documents,
            "bytes": self.header.bytes,
            "sources": {name: one._asdict() for name, one in self.header.sources.items()},
            "held_out_documents": dict(sorted(self.held_out.items())),
            "rows": [row.to_dict() for row in self.rows],
        }


class _HeldOut:
    """Keeps documents chosen by a hash of each out of the counts."""

    def __init__(self, share: float, most: int, seed: int) -> None:
        self._bound = int(share * 2.0**64)
        self._most = most
        self._seed = (seed + _SEED) % (1 << 64)
        self.texts: dict[str, list[bytes]] = {}
        self._sizes: dict[str, int] = {}

    def keep(self, source: str, document: bytes) -> bool:
        """Return whether a document is counted."""
        if not document or fingerprint(document, self._seed)[0] >= self._bound:
            return True
        size = self._sizes.get(source, 0)
        if size + len(document) <= self._most:
            self.texts.setdefault(source, []).append(document)
            self._sizes[source] = size + len(document)
        return False


def sweep(
    corpus: Any,
    *,
    sizes: Sequence[int] = (32_000,),
    transitions: Sequence[float] | None = None,
    recipe: Literal["superbpe", "boundless"] | SuperBPE | Boundless = "superbpe",
    held_out: float = HELD_OUT,
    held_out_bytes: int = HELD_OUT_BYTES,
    options: TrainOptions | None = None,
    plan: Plan | None = None,
    field: str = "text",
    weights: Mapping[str, float] | None = None,
    limit_bytes: int | Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> SweepReport:
    """Return bytes per token for every size and transition, from one count of the corpus.

    Documents that a seeded hash chooses are left out of the count and encoded; a document over
    32 MiB, which is read in blocks, is always counted.

    Args:
        corpus: Whatever :func:`anyvocab.count` takes.
        sizes: Vocabulary sizes.
        transitions: Shares of each size, or numbers of tokens; 1.0 is ordinary BPE. By default
            0.7, 0.8, 0.9 and 1.0, and for `boundless` the crossing of the counts alone.
        recipe: A recipe of two stages, or its config.
        held_out: Share of the documents that is held out.
        held_out_bytes: At most so many bytes of each source are encoded.
        options: What is learnt, but for the size.
        plan: How the corpus is counted.
        field: As the rest, for counting: see :func:`anyvocab.count`.
        weights: How often each document of a source counts.
        limit_bytes: Most bytes of each source.
        progress: Told a stage, how much is done, and of how much.

    Raises:
        InvalidValue: A number is out of range, the recipe has one stage, no document was held out.
        The errors of :func:`anyvocab.train`.

    >>> texts = [f"the cat of house {n} sat on the mat of house {n}" for n in range(300)]
    >>> report = sweep(iter(texts), sizes=[300], transitions=[0.95, 1.0], held_out=0.1)
    >>> super_, plain = report.rows
    >>> super_.bytes_per_token > plain.bytes_per_token
    True
    """
    chosen = recipe_of(recipe)
    if not isinstance(chosen, SuperBPE | Boundless):
        raise errors.build(
            errors.InvalidValue,
            f"{chosen.name} has no transition",
            field="recipe",
            fix='use "superbpe" or "boundless"',
        )
    for name, holds, fix in (
        ("sizes", bool(sizes), "give at least one"),
        ("held_out", 0 < held_out < 1, "use a share over 0 and below 1"),
        ("held_out_bytes", held_out_bytes > 0, "use at least 1"),
    ):
        if not holds:
            raise errors.build(errors.InvalidValue, "out of range", field=name, fix=fix)
    options = options or TrainOptions()
    plan = plan or Plan(pattern=DEFAULT_PATTERN)
    held = _HeldOut(held_out, held_out_bytes, plan.seed)
    words, others = count_both(
        corpus,
        plan,
        chosen,
        keep=held.keep,
        progress=progress,
        field=field,
        weights=weights,
        limit_bytes=limit_bytes,
    )
    if not held.texts:
        raise errors.build(
            errors.InvalidValue,
            f"no document was held out of {words.header.documents}",
            field="held_out",
            fix='raise it, or use documents="line" or smaller files',
        )
    if isinstance(chosen, SuperBPE):
        shares = (0.7, 0.8, 0.9, 1.0) if transitions is None else tuple(transitions)
        rows = _superbpe(words, others, chosen, sizes, shares, options, plan, held, progress)
    else:
        rows = _boundless(words, others, sizes, transitions, options, plan, held, progress)
    documents = {name: len(texts) for name, texts in sorted(held.texts.items())}
    return SweepReport(chosen.name, tuple(rows), words.header, documents)


def _superbpe(
    words: Counts,
    chunks: Counts,
    recipe: SuperBPE,
    sizes: Sequence[int],
    shares: Sequence[float],
    options: TrainOptions,
    plan: Plan,
    held: _HeldOut,
    progress: Progress | None,
) -> list[SweepRow]:
    rows = []
    for size in sizes:
        sized = replace(options, vocab_size=size)
        for share in shares:
            at = replace(recipe, transition=share)
            made = train_superbpe(words, chunks, at, sized, plan, progress)
            transition = size if made.transition is None else made.transition
            rows.append(_row(made.tokenizer, size, transition, share, held))
    return rows


def _boundless(
    words: Counts,
    runs: Counts,
    sizes: Sequence[int],
    transitions: Sequence[float] | None,
    options: TrainOptions,
    plan: Plan,
    held: _HeldOut,
    progress: Progress | None,
) -> list[SweepRow]:
    rows = []
    if transitions is None:
        # One pair of lists gives the crossing of every size.
        most = replace(options, vocab_size=max(sizes))
        lists = learn_lists(words, runs, most, plan, most, progress)
        for size in sizes:
            made = lists.select(size)
            rows.append(_row(made, size, made.transition, None, held))
        return rows
    for size in sizes:
        sized = replace(options, vocab_size=size)
        for share in transitions:
            first = replace(options, vocab_size=min(size, tokens_at(share, size)))
            if first.vocab_size == size:
                plain = train_counts(words, sized, progress).tokenizer
                rows.append(_row(plain, size, size, share, held))
                continue
            made = learn_lists(words, runs, first, plan, sized, progress).select(
                size, crossing=False
            )
            rows.append(_row(made, size, made.transition, share, held))
    return rows


def _row(
    tokenizer: _Encodes, size: int, transition: int, share: float | None, held: _HeldOut
) -> SweepRow:
    return SweepRow(
        vocab_size=size,
        transition=transition,
        share=share,
        bytes={name: sum(map(len, texts)) for name, texts in held.texts.items()},
        tokens={name: len(tokenizer.encode_batch(texts).ids) for name, texts in held.texts.items()},
    )
