"""Several tokenizers on the same texts: `anyvocab compare`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from anyvocab import errors
from anyvocab.evaluate.bootstrap import MIN_BLOCKS, Bootstrap, Resampled, resample
from anyvocab.evaluate.compare import _domains, _unique
from anyvocab.evaluate.models import _label
from anyvocab.evaluate.scoring import token_ends
from anyvocab.evaluate.tokenizers.boundaries import answer_letters, boundaries, excerpts
from anyvocab.evaluate.tokenizers.cost import ModelShape, encoding_speed, model_cost
from anyvocab.evaluate.tokenizers.fairness import fairness, parallel_texts, unknown_bytes
from anyvocab.evaluate.tokenizers.parts import find_scaffolds
from anyvocab.evaluate.tokenizers.results import (
    DomainText,
    DomainTokens,
    TokenDifference,
    TokenizerComparison,
    TokenizerScore,
)
from anyvocab.evaluate.tokenizers.shapes import shapes_of
from anyvocab.evaluate.tokenizers.usage import unreachable, usage, word_counts
from anyvocab.tokenizer import Text, Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.evaluate.domains import Domain
    from anyvocab.evaluate.tokenizers.boundaries import Boundaries
    from anyvocab.evaluate.tokenizers.cost import EncodingSpeed
    from anyvocab.evaluate.tokenizers.fairness import Fairness
    from anyvocab.evaluate.tokenizers.shapes import Shapes

__all__ = ["compare_tokenizers", "name_of", "open_tokenizers"]

EXCERPTS = 64
EXCERPT_BYTES = 1024

_Counted: TypeAlias = DomainTokens | TokenizerScore

Report = Callable[[str, str, int, int], None]
"""Is told the tokenizer, what is being done, how much of it is done, and of how much."""


def compare_tokenizers(
    tokenizers: Mapping[str, object] | Iterable[object],
    texts: Mapping[str, Iterable[Text]] | Iterable[Text] | Iterable[Domain],
    *,
    parallel: Mapping[str, Text | Iterable[Text]] | None = None,
    bootstrap: Bootstrap | None = None,
    shape: ModelShape | None = None,
    excerpts: int = EXCERPTS,
    passes: int = 3,
    threads: int | None = None,
    progress: Report | None = None,
) -> TokenizerComparison:
    r"""Return how several tokenizers treat the same texts.

    Everything here is about tokens, so nothing of it says how good a model will be: fewer tokens
    are cheaper, not better. For models there is :func:`anyvocab.evaluate_models`.

    Args:
        tokenizers: Anything :meth:`anyvocab.Tokenizer.load` takes, one or more; as a mapping, with
            their names. The first is the one that the others are compared with.
        texts: Texts by domain or language, or texts of one domain.
        parallel: Language to the same content in that language, one text or as many in each: what
            a language costs is measured on them. Nothing is said of fairness when left out.
        bootstrap: How intervals are made; `Bootstrap()` when left out. Documents are drawn; a
            domain with fewer than ten is cut into blocks of `bootstrap.block` bytes, each token in
            the block where it ends.
        shape: The model whose cost is reckoned; `ModelShape()` when left out.
        excerpts: How many excerpts of `EXCERPT_BYTES` bytes, over all domains together, are tried
            for tokens that change when a text goes on; 0 for none.
        passes: How often encoding is timed; 0 for not at all, and then the result depends on
            nothing but the texts.
        threads: Of counting, which is not timed; all when left out.
        progress: Is told the tokenizer, the step, and how much of how much is done.

    Raises:
        InvalidValue: There is no tokenizer or no text, a tokenizer makes no token of a domain, or
            the parallel texts are not parallel.
        AnyvocabError: A tokenizer cannot be loaded.

    >>> import anyvocab as av
    >>> texts = {"code": ["def f(x):\n    return x\n"], "prose": ["It was a dark night."]}
    >>> found = av.compare_tokenizers(["pico:code-4k", "pico:code-2k"], texts, passes=0)
    >>> [one.name for one in found.tokenizers], found["pico:code-4k"].domains[0].bytes
    (['pico:code-4k', 'pico:code-2k'], 23)
    """
    for name, value in (("excerpts", excerpts), ("passes", passes)):
        if value < 0:
            raise errors.build(errors.InvalidValue, f"must be at least 0, got {value}", field=name)
    domains = _domains(texts)
    opened = open_tokenizers(tokenizers)
    languages = None if parallel is None else parallel_texts(parallel)
    judge = _Judge(
        domains=domains,
        languages=languages,
        bootstrap=bootstrap or Bootstrap(),
        shape=shape or ModelShape(),
        samples=_samples(domains, excerpts),
        passes=passes,
        threads=threads,
        progress=progress or _say_nothing,
    )
    judged = [judge.score(name, one) for name, one in opened.items()]
    return judge.finish([score for score, _ in judged], [units for _, units in judged])


def _say_nothing(tokenizer: str, step: str, done: int, total: int) -> None:
    del tokenizer, step, done, total


def open_tokenizers(tokenizers: Mapping[str, object] | Iterable[object]) -> dict[str, Tokenizer]:
    """Return name to tokenizer. A path is called by its last part, other sources as they are.

    Raises:
        InvalidValue: There is none.
        AnyvocabError: One cannot be loaded.
    """
    if isinstance(tokenizers, str | bytes | os.PathLike):
        raise TypeError("tokenizers must be several tokenizers; for one, give [tokenizer]")
    if isinstance(tokenizers, Mapping):
        named = [(str(name), source) for name, source in tokenizers.items()]
    else:
        named = [(name_of(source), source) for source in tokenizers]
    if not named:
        raise errors.build(errors.InvalidValue, "there is no tokenizer", field="tokenizers")
    found: dict[str, Tokenizer] = {}
    for name, source in named:
        found[_unique(name, list(found))] = Tokenizer.load(source)
    return found


def name_of(source: object) -> str:
    """Return what results call a tokenizer: the last part of a path that says something."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        # These names say nothing; the folder's does.
        plain = path.is_file() and path.stem in {"tokenizer", "spiece", "sentencepiece.bpe"}
        return _label(os.fsdecode(path.resolve().parent if plain else source))
    return f"{source.model_type} tokenizer" if isinstance(source, Tokenizer) else "tokenizer"


def _samples(domains: Sequence[Domain], count: int) -> list[bytes]:
    """Return the excerpts of all domains, as many of each."""
    if not count:
        return []
    each = max(1, count // len(domains))
    return [one for domain in domains for one in excerpts(domain.documents, each, EXCERPT_BYTES)][
        : max(count, len(domains))
    ]


@dataclass(frozen=True)
class _Judge:
    domains: Sequence[Domain]
    languages: Mapping[str, Sequence[bytes]] | None
    bootstrap: Bootstrap
    shape: ModelShape
    samples: Sequence[bytes]
    passes: int
    threads: int | None
    progress: Report

    def score(
        self, name: str, tokenizer: Tokenizer
    ) -> tuple[TokenizerScore, list[NDArray[np.int64]]]:
        """Return everything about one tokenizer but the intervals, and each domain's unit counts.

        Intervals of differences need all tokenizers' tokens of every unit.
        """
        vocabulary = tokenizer.vocabulary
        shapes = shapes_of(vocabulary)
        counts = np.zeros(len(vocabulary), dtype=np.int64)
        domains = []
        units = []
        for number, domain in enumerate(self.domains):
            self.progress(name, "counting tokens", number, len(self.domains))
            found, per_unit, occurring = self._domain(tokenizer, domain, shapes, name)
            domains.append(found)
            units.append(per_unit)
            counts += occurring
        size = sum(one.bytes for one in self.domains)
        self.progress(name, "judging the vocabulary", 0, 1)
        documents = [one for domain in self.domains for one in domain.documents]
        score = TokenizerScore(
            name=name,
            model_type=tokenizer.model_type,
            format=tokenizer.format,
            ids=len(vocabulary),
            domains=tuple(domains),
            interval=None,
            usage=usage(vocabulary, counts, shapes, size),
            unreachable=unreachable(vocabulary, counts),
            scaffolds=find_scaffolds(tokenizer, counts),
            letters=answer_letters(tokenizer),
            boundaries=self._boundaries(name, tokenizer),
            fairness=self._fairness(tokenizer),
            speed=self._speed(name, tokenizer, documents),
            cost=model_cost(len(vocabulary), int(counts.sum()) / size, self.shape),
            notes=tuple(_notes(domains, len(documents))),
        )
        return score, units

    def _fairness(self, tokenizer: Tokenizer) -> Fairness | None:
        if self.languages is None:
            return None
        return fairness(tokenizer, self.languages, threads=self.threads)

    def _boundaries(self, name: str, tokenizer: Tokenizer) -> Boundaries | None:
        if not self.samples:
            return None
        self.progress(name, "trying prompt boundaries", 0, 1)
        return boundaries(tokenizer, self.samples)

    def _speed(
        self, name: str, tokenizer: Tokenizer, documents: Sequence[bytes]
    ) -> EncodingSpeed | None:
        if not self.passes:
            return None
        self.progress(name, "timing", 0, 1)
        return encoding_speed(tokenizer, documents, passes=self.passes)

    def _domain(
        self, tokenizer: Tokenizer, domain: Domain, shapes: Shapes, name: str
    ) -> tuple[DomainTokens, NDArray[np.int64], NDArray[np.int64]]:
        """Return a domain's numbers, its tokens by unit, and how often each id occurs in it."""
        rows = tokenizer.encode_batch(domain.documents, specials="text", threads=self.threads)
        tokens = len(rows.ids)
        if not tokens:
            raise errors.build(
                errors.InvalidValue,
                f"{name} makes no token of {domain.name!r}",
                field="texts",
                fix="leave the domain out",
            )
        counts = np.bincount(rows.ids, minlength=len(shapes.bytes)).astype(np.int64)
        unknown = np.array(tokenizer.vocabulary.ids_of_role("unk"), dtype=np.int64)
        words = sum(map(_word_count, domain.documents))
        found = DomainTokens(
            name=domain.name,
            bytes=domain.bytes,
            tokens=tokens,
            tokens_per_word=tokens / max(1, words),
            changed=sum(
                tokenizer.decode(row) != text
                for row, text in zip(rows, domain.documents, strict=True)
            ),
            unknown=int(counts[unknown].sum()),
            unknown_bytes=unknown_bytes(tokenizer, domain.documents, rows.ids),
            words=word_counts(counts, shapes),
            interval=None,
        )
        if _unit(domain) == "documents":
            return found, rows.lengths(), counts
        block = self.bootstrap.block
        per_unit = [_by_block(tokenizer, text, block) for text in domain.documents]
        return found, np.concatenate(per_unit), counts

    def finish(
        self, scores: Sequence[TokenizerScore], units: Sequence[Sequence[NDArray[np.int64]]]
    ) -> TokenizerComparison:
        """Return the comparison, with intervals from draws that all tokenizers share."""
        level = self.bootstrap.level
        drawn = []
        for number, domain in enumerate(self.domains):
            sizes = _unit_sizes(domain, self.bootstrap.block)
            tokens = [one[number].astype(np.float64) for one in units]
            drawn.append(resample(tokens, sizes, domain=domain.name, bootstrap=self.bootstrap))
        whole = drawn[0]
        for one in drawn[1:]:
            whole = whole + one
        finished = []
        differences: list[TokenDifference] = []
        for m, score in enumerate(scores):
            domains = tuple(
                replace(one, interval=draw.interval(draw.bytes_per_token(m), level))
                for one, draw in zip(score.domains, drawn, strict=True)
            )
            interval = whole.interval(whole.bytes_per_token(m), level)
            finished.append(replace(score, domains=domains, interval=interval))
            if m:
                differences += _differences(scores[0], score, m, [*drawn, whole], level)
        return TokenizerComparison(
            tokenizers=tuple(finished),
            domains=tuple(map(_text_of, self.domains, drawn)),
            differences=tuple(differences),
            bootstrap=self.bootstrap,
            shape=self.shape,
        )


def _differences(
    baseline: TokenizerScore,
    score: TokenizerScore,
    number: int,
    drawn: Sequence[Resampled],
    level: float,
) -> Iterator[TokenDifference]:
    """Yield a tokenizer's differences to the first, for each domain and for all.

    Args:
        baseline: The first.
        score: The tokenizer.
        number: Its place in the draws.
        drawn: Of each domain and of all.
        level: Of the intervals.
    """
    pairs = zip(score.domains, baseline.domains, strict=True)
    places: list[tuple[_Counted, _Counted]] = [*pairs, (score, baseline)]
    for (mine, theirs), draw in zip(places, drawn, strict=True):
        gain = draw.bytes_per_token(number) - draw.bytes_per_token(0)
        ratio = draw.sums[number] / np.maximum(draw.sums[0], 1)
        yield TokenDifference(
            tokenizer=score.name,
            baseline=baseline.name,
            domain=mine.name if isinstance(mine, DomainTokens) else None,
            bytes_per_token=mine.bytes_per_token - theirs.bytes_per_token,
            interval=draw.interval(gain, level),
            tokens=mine.tokens / theirs.tokens - 1,
            tokens_interval=draw.interval(ratio - 1, level),
        )


def _unit(domain: Domain) -> str:
    return "documents" if len(domain.documents) >= MIN_BLOCKS else "blocks"


def _unit_sizes(domain: Domain, block: int) -> NDArray[np.int64]:
    """Return the bytes of every unit that intervals draw."""
    if _unit(domain) == "documents":
        return np.array([len(one) for one in domain.documents], dtype=np.int64)
    sizes = [
        min(block, len(one) - start)
        for one in domain.documents
        for start in range(0, len(one), block)
    ]
    return np.array(sizes, dtype=np.int64)


def _by_block(tokenizer: Tokenizer, text: bytes, block: int) -> NDArray[np.int64]:
    """Return how many tokens end in each block of a text, int64[blocks]."""
    encoding = tokenizer.encode_with_offsets(text, specials="text")
    ends = token_ends(tokenizer, text, encoding)
    blocks = -(-len(text) // block)
    # A token that ends before the first byte (of dropped text) belongs to the first block.
    return np.bincount(np.maximum(ends - 1, 0) // block, minlength=blocks).astype(np.int64)


def _text_of(domain: Domain, draw: Resampled) -> DomainText:
    return DomainText(
        name=domain.name,
        documents=len(domain.documents),
        bytes=domain.bytes,
        left_out=domain.left_out,
        words=sum(map(_word_count, domain.documents)),
        unit=_unit(domain),
        units=draw.blocks,
    )


def _word_count(text: bytes) -> int:
    return len(text.decode("utf-8", "replace").split())


def _notes(domains: Sequence[DomainTokens], documents: int) -> list[str]:
    notes = []
    changed = sum(one.changed for one in domains)
    if changed:
        notes.append(
            f"{changed} of {documents} documents do not come back from their tokens: what the "
            "tokenizer dropped or changed needs no token, so its numbers look better than they are"
        )
    lost = sum(one.unknown_bytes for one in domains)
    if lost:
        share = lost / sum(one.bytes for one in domains)
        notes.append(
            f"{lost} bytes ({share:.1%}) become the unknown token, which may stand for any length "
            "of text: where they are many, bytes per token say nothing"
        )
    return notes
