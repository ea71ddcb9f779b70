"""Counting a corpus: every source into one counter, and the counter into a shard."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anyvocab import _core, errors
from anyvocab.training import resuming, sampling
from anyvocab.training.corpus import Document, Input, Source, sources_of
from anyvocab.training.counts import CountHeader, Counts, SourceTotals
from anyvocab.training.shards import (
    ShardWriter,
    gather,
    require_pyarrow,
    storage_errors,
    write_batches,
)

__all__ = ["CountReport", "Plan", "count", "count_corpus"]

COUNTING_BYTES = 1 << 30  # most memory of the counts, where nothing else is said
BATCH_BYTES = 8 << 20  # documents are handed to the core so many bytes at a time
BATCH_DOCUMENTS = 1 << 15

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """How a corpus is counted; everything but `threads` and the memory decides about the counts.

    Attributes:
        pattern: A known pattern's name (see `anyvocab count --help`), a regular expression in
            Oniguruma's syntax, or "none": a document is one pretoken.
        normalizer: "nfc", "nfd", "nfkc", "nfkd", "lowercase" or `None`.
        documents: "file": a file, a record or an item is a document. "line": every line of one is,
            with its line feed, as Hugging Face's trainer takes files.
        invalid: What to do with a document that is not UTF-8: "bytes" counts its bytes as they
            are, as the tokenizer will see them; "skip" leaves it out; "error" names it.
        seed: Of the hash by which documents are drawn.
        threads: How many threads count; `None` for all processors.
        memory_bytes: Most memory of the counts; what has to leave it goes to files.
        spill_folder: Where those files are; `None` for the folder of the output, or the system's.
        document_bytes: Most bytes of a document where it has to be held whole, which known patterns
            do not ask for; `None` for 256 MiB.
    """

    pattern: str = "llama3"
    normalizer: str | None = None
    documents: Literal["file", "line"] = "file"
    invalid: Literal["bytes", "skip", "error"] = "bytes"
    seed: int = 0
    threads: int | None = None
    memory_bytes: int = COUNTING_BYTES
    spill_folder: str | os.PathLike[str] | None = None
    document_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no counter could do."""
        for name, choices in (
            ("documents", ("file", "line")),
            ("invalid", ("bytes", "skip", "error")),
        ):
            if getattr(self, name) not in choices:
                raise errors.build(
                    errors.InvalidValue,
                    f"{getattr(self, name)!r} is no choice",
                    field=name,
                    fix=f"use {' or '.join(map(repr, choices))}",
                )
        if not 0 <= self.seed < 1 << 64:
            raise errors.build(
                errors.InvalidValue, f"must be from 0 to 2^64 - 1, got {self.seed}", field="seed"
            )

    @property
    def thread_count(self) -> int:
        """How many threads count."""
        return os.cpu_count() or 1 if self.threads is None else self.threads

    def counter(self, folder: Path) -> _core.Counter:
        """Return a counter that spills into `folder`, or where the plan says."""
        spill = Path(self.spill_folder) if self.spill_folder is not None else folder
        with storage_errors(spill):
            spill.mkdir(parents=True, exist_ok=True)
        return _core.Counter(
            self.pattern,
            normalizer=self.normalizer,
            threads=self.thread_count,
            memory_bytes=self.memory_bytes,
            spill_folder=str(spill),
            invalid="error" if self.invalid == "error" else "bytes",
            documents=self.documents,
            document_bytes=self.document_bytes,
        )

    def header(self, pretokens: int, sources: Mapping[str, SourceTotals]) -> CountHeader:
        """Return the header of counts made by this plan."""
        return CountHeader(
            pattern=self.pattern,
            normalizer=self.normalizer,
            documents=sum(one.documents for one in sources.values()),
            bytes=sum(one.bytes for one in sources.values()),
            pretokens=pretokens,
            sources=dict(sorted(sources.items())),
        )


@dataclass(frozen=True)
class CountReport:
    """What `count` did.

    Attributes:
        path: The shard.
        header: Its header: pattern, totals, and what each source gave of what was there.
        unique: Different pretokens.
        seconds: How long it took.
        reused_parts: Parts of the corpus that an interrupted run had counted already.
    """

    path: Path
    header: CountHeader
    unique: int
    seconds: float
    reused_parts: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the report as what JSON can hold."""
        header = self.header
        return {
            "format_version": header.format_version,
            "path": str(self.path),
            "pattern": header.pattern,
            "normalizer": header.normalizer,
            "documents": header.documents,
            "bytes": header.bytes,
            "pretokens": header.pretokens,
            "unique": self.unique,
            "sources": {name: one._asdict() for name, one in header.sources.items()},
            "seconds": self.seconds,
            "reused_parts": self.reused_parts,
        }


def count(
    corpus: Any,
    out: str | os.PathLike[str],
    *,
    pattern: str = "llama3",
    normalizer: str | None = None,
    field: str = "text",
    documents: Literal["file", "line"] = "file",
    weights: Mapping[str, float] | None = None,
    limit_bytes: int | Mapping[str, int] | None = None,
    invalid: Literal["bytes", "skip", "error"] = "bytes",
    seed: int = 0,
    threads: int | None = None,
    memory_bytes: int = COUNTING_BYTES,
    spill_folder: str | os.PathLike[str] | None = None,
    document_bytes: int | None = None,
    resume: bool = False,
    existing: Literal["refuse", "replace"] = "refuse",
    progress: Progress | None = None,
) -> CountReport:
    """Count the pretokens of a corpus into a sorted shard that can be merged with others.

    The counts do not depend on the order of the documents, on threads or on memory. The shard is
    written whole or not at all.

    Args:
        corpus: Paths, texts, tables or a data set, or a mapping from names to such, a source each;
            see :func:`anyvocab.training.corpus.sources_of`.
        out: The Parquet file to write.
        pattern: See :class:`Plan`, as for all of these up to `document_bytes`.
        normalizer: A normal form.
        field: The member, column or key that holds a record's text.
        documents: What a document is.
        weights: How often each document of a source counts, by the source's name. Whole numbers
            are exact; of 1.5, a half of the documents, drawn by hash, counts twice.
        limit_bytes: Most bytes of each source, or by name: documents are drawn by hash, wherever
            they stand. Files are then read twice; iterators are held up to the limit.
        invalid: What to do with a document that is not UTF-8.
        seed: Of the hash.
        threads: How many threads count.
        memory_bytes: Most memory of the counts.
        spill_folder: Where counts go that memory cannot hold.
        document_bytes: Most bytes of a document that has to be held whole.
        resume: Count files part by part into a folder beside `out` (`OUT.parts`), and leave out
            the parts that an interrupted run with the same arguments has counted.
        existing: What to do when `out` exists.
        progress: Told a stage, bytes done and bytes in all (0 where unknown).

    Raises:
        SourceNotFound: A place does not exist.
        OutputExists: `out` exists.
        InvalidValue: An argument is out of range, a record has no text, a source gave nothing.
        LimitExceeded: A document has to be held whole and is too long for that.
        StorageError: A file cannot be read or written: a full disk, say.
        MissingExtra: A kind of file, or the shard, needs the extra `train`.

    >>> import tempfile, anyvocab as av
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = av.count([b"to be or not to be"], folder + "/counts.parquet", threads=1)
    >>> report.header.pretokens, report.unique
    (6, 5)
    """
    plan = Plan(
        pattern=pattern,
        normalizer=normalizer,
        documents=documents,
        invalid=invalid,
        seed=seed,
        threads=threads,
        memory_bytes=memory_bytes,
        spill_folder=spill_folder,
        document_bytes=document_bytes,
    )
    started = time.perf_counter()
    require_pyarrow()  # better said before the work than after it
    path = Path(out)
    if existing == "refuse":
        refuse_existing(path)
    sources = sources_of(corpus, field=field, weights=weights, limit_bytes=limit_bytes)
    if resume:
        header, unique, reused = resuming.count_by_parts(sources, plan, path, field, progress)
        return CountReport(path, header, unique, time.perf_counter() - started, reused)
    header, batches = run(sources, plan, path.parent, progress)
    with ShardWriter(path, header) as writer:
        write_batches(writer, batches)
    return CountReport(path, header, writer.rows, time.perf_counter() - started)


def refuse_existing(path: Path) -> None:
    """Refuse to overwrite a file.

    Raises:
        OutputExists: It exists.
    """
    if path.exists():
        raise errors.build(
            errors.OutputExists,
            "it exists",
            field="out",
            file=str(path),
            fix='write elsewhere, or use existing="replace"',
        )


def count_corpus(
    corpus: Any,
    plan: Plan | None = None,
    *,
    field: str = "text",
    weights: Mapping[str, float] | None = None,
    limit_bytes: int | Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Counts:
    """Return the counts of a corpus in memory; the arguments are those of :func:`count`.

    Raises:
        The errors of :func:`count`, but for those of its output.
    """
    import tempfile

    sources = sources_of(corpus, field=field, weights=weights, limit_bytes=limit_bytes)
    header, batches = run(sources, plan or Plan(), Path(tempfile.gettempdir()), progress)
    return gather(batches, header)


def run(
    sources: Iterable[Source], plan: Plan, folder: Path, progress: Progress | None = None
) -> tuple[CountHeader, _core.CountBatches]:
    """Count all sources with one counter and return what came of it, not yet read."""
    counter = plan.counter(folder)
    chosen = list(sources)
    meter = Meter(progress, chosen)
    totals = {}
    for source in chosen:
        totals[source.name] = count_source(counter, source, plan, cutoff_of(source, plan), meter)
    header = plan.header(counter.totals()[2], totals)
    check_sources(header)
    return header, counter.finish()


def check_sources(header: CountHeader) -> None:
    """Refuse a source that gave nothing: a result would speak of it all the same.

    Raises:
        InvalidValue: There is no text, or none in some source.
    """
    empty = [name for name, one in header.sources.items() if one.bytes == 0]
    if not empty:
        return
    one = header.sources[empty[0]]
    if one.seen_bytes:
        found = f"source {empty[0]!r} gave none of its {one.seen_documents} documents"
        fix = 'raise its weight or its limit, use documents="line", or see to its encoding'
    else:
        found, fix = f"there is no text in source {empty[0]!r}", "leave it out"
    raise errors.build(errors.InvalidValue, found, field="corpus", fix=fix)


class Meter:
    """Says how many bytes of the files have been read."""

    def __init__(self, progress: Progress | None, sources: Iterable[Source]) -> None:
        inputs = [one for source in sources for one in source.inputs]
        known = all(one.size for one in inputs)
        self._total = sum(one.size for one in inputs) if known else 0
        self._done = 0
        self._progress = progress

    def add(self, size: int) -> None:
        """Note so many more bytes."""
        self._done += size
        if self._progress is not None:
            self._progress("counting", self._done, self._total)


def cutoff_of(source: Source, plan: Plan) -> sampling.Cutoff | None:
    """Return where the limit of a source of files falls; reads all of them once."""
    if source.limit_bytes is None or not source.can_be_read_again:
        return None
    return sampling.draw_limit(
        (one for _, one in _documents(source, plan) if _is_wanted(one, plan)), source, plan.seed
    )


def _documents(source: Source, plan: Plan) -> Iterator[tuple[Input, Document]]:
    """Yield the units that are drawn: documents, or lines where each line is one."""
    for one in source.inputs:
        documents = one.open()
        if plan.documents == "line" and source.is_drawn:
            documents = sampling.lines_of(documents)
        for document in documents:
            yield one, document


def _is_wanted(document: Document, plan: Plan) -> bool:
    return plan.invalid != "skip" or sampling.is_utf8(document)


def count_source(
    counter: _core.Counter,
    source: Source,
    plan: Plan,
    cutoff: sampling.Cutoff | None,
    meter: Meter,
) -> SourceTotals:
    """Count a source and return what it gave."""
    before = counter.totals()
    seen_documents = seen_bytes = 0
    drawer = sampling.Drawer(source, plan.seed, cutoff) if source.is_drawn else None
    pairs: Iterable[tuple[Input, Document]] = _documents(source, plan)
    if source.limit_bytes is not None and cutoff is None:
        held = _Seen(document for _, document in pairs if _is_wanted(document, plan))
        kept = sampling.keep_limit(held, source, plan.seed)
        pairs = [(source.inputs[0], document) for document in kept]
        seen_documents, seen_bytes = held.documents, held.bytes
    is_held = seen_documents > 0
    pending = _Pending(counter, plan)
    last: Input | None = None
    for one, document in pairs:
        if last is not None and one is not last:
            meter.add(last.size)
        last = one
        if not is_held:
            seen_documents += 1
        wanted = _is_wanted(document, plan)
        weight = (drawer.weight(document) if drawer else int(source.weight)) if wanted else 0
        if isinstance(document, bytes):
            seen_bytes += 0 if is_held else len(document)
            if weight:
                pending.add(document, weight, one.name)
            continue
        pending.flush()
        for block in document:
            seen_bytes += 0 if is_held else len(block)
            if weight:
                with _named(one.name):
                    counter.feed(block, weight)
        if weight:
            with _named(one.name):
                counter.end_document()
    pending.flush()
    if last is not None:
        meter.add(last.size)
    after = counter.totals()
    documents = after[0] - before[0]
    # Lines that were not drawn one by one are counted where they are cut.
    seen_documents = max(seen_documents, documents) if plan.documents == "line" else seen_documents
    return SourceTotals(documents, after[1] - before[1], source.weight, seen_documents, seen_bytes)


class _Seen:
    """An iterator that knows what went through it."""

    def __init__(self, documents: Iterator[Document]) -> None:
        self._documents = documents
        self.documents = self.bytes = 0

    def __iter__(self) -> Iterator[Document]:
        for document in self._documents:
            self.documents += 1
            self.bytes += sampling.size_of(document)
            yield document


class _Pending:
    """Documents that wait to be handed to the core together."""

    def __init__(self, counter: _core.Counter, plan: Plan) -> None:
        self._counter = counter
        self._plan = plan
        self._by_weight: dict[int, list[bytes]] = {}
        self._names: dict[int, list[str]] = {}
        self._bytes = self._documents = 0

    def add(self, document: bytes, weight: int, name: str) -> None:
        self._by_weight.setdefault(weight, []).append(document)
        self._names.setdefault(weight, []).append(name)
        self._bytes += len(document)
        self._documents += 1
        if self._bytes >= BATCH_BYTES or self._documents >= BATCH_DOCUMENTS:
            self.flush()

    def flush(self) -> None:
        for weight, documents in self._by_weight.items():
            with _named(*self._names[weight]):
                self._counter.add(documents, weight)
        self._by_weight, self._names = {}, {}
        self._bytes = self._documents = 0


_NUMBER = re.compile(r"documents\[(\d+)\]")


class _named:  # noqa: N801 (a context manager, named as a function is)
    """Puts the name of the file into an error of the core about one of the documents."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, (errors.InvalidValue, errors.LimitExceeded)):
            return
        found = _NUMBER.fullmatch(error.file or error.field)
        number = int(found[1]) if found else 0
        if not found and error.field != "document":
            return
        name = self._names[number]
        before = self._names[:number].count(name)
        text = str(error).removeprefix(f"{error.file}: ").removeprefix(f"{error.field}: ")
        raise errors.build(
            type(error),
            text.removesuffix(f"; {error.fix}") if error.fix else text,
            field="document" if not before else f"document {before + 1} of those in hand",
            file=name,
            fix=error.fix,
        ) from None
