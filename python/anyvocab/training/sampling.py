"""Which documents of a source count, and how often: by a hash of each, never by their order.

A second stage that saw the head of a corpus alone, and so one language alone, is a known way to
ruin a tokenizer; here every document of a source has the same chance, wherever it stands. Copies
of one document have one hash: a weight draws all of them or none.
"""

from __future__ import annotations

import codecs
import hashlib
import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from anyvocab import errors
from anyvocab.training.corpus import BLOCK, Document, Source

__all__ = [
    "Cutoff",
    "Drawer",
    "draw_limit",
    "fingerprint",
    "is_utf8",
    "keep_limit",
    "lines_of",
    "size_of",
]

_SCALE = 2.0**-64


def fingerprint(document: Document, seed: int) -> tuple[int, int]:
    """Return two independent 64-bit hashes of a document: one for limits, one for weights."""
    digest = hashlib.blake2b(digest_size=16, key=seed.to_bytes(8, "big"))
    for block in (document,) if isinstance(document, bytes) else document:
        digest.update(block)
    value = digest.digest()
    return int.from_bytes(value[:8], "big"), int.from_bytes(value[8:], "big")


def size_of(document: Document) -> int:
    """Return a document's bytes."""
    return len(document) if isinstance(document, bytes) else sum(map(len, document))


def lines_of(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield the lines of documents, each with its line feed."""
    for document in documents:
        rest = b""
        for block in (document,) if isinstance(document, bytes) else document:
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest


@dataclass(frozen=True)
class Cutoff:
    """The last document that a limit takes, in the order of hashes.

    Attributes:
        hash: Its hash.
        size: Its bytes.
        equal: How many documents with this hash and size are taken (copies of one another).
    """

    hash: int
    size: int
    equal: int


def draw_limit(documents: Iterable[Document], source: Source, seed: int) -> Cutoff:
    """Return where a source's limit falls.

    Documents are taken in the order of their hashes up to the first that no longer fits; one over
    the whole limit is passed over.

    Raises:
        InvalidValue: None of them fits.
    """
    limit = source.limit_bytes or 0
    sized = ((one, size_of(one)) for one in documents)
    pairs = [(fingerprint(one, seed)[0], size) for one, size in sized if size <= limit]
    hashes = np.array([one[0] for one in pairs], np.uint64)
    sizes = np.array([one[1] for one in pairs], np.int64)
    order = np.lexsort((sizes, hashes))
    taken = int(np.searchsorted(np.cumsum(sizes[order]), limit, side="right"))
    if taken == 0:
        raise _nothing_fits(source)
    last = order[taken - 1]
    same = (hashes[order[:taken]] == hashes[last]) & (sizes[order[:taken]] == sizes[last])
    return Cutoff(int(hashes[last]), int(sizes[last]), int(np.count_nonzero(same)))


def _nothing_fits(source: Source) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue,
        f"no document of source {source.name!r} fits into {source.limit_bytes} bytes",
        field="limit_bytes",
        fix='raise it, or use documents="line"',
    )


class Drawer:
    """Says how often each document of a source counts."""

    def __init__(self, source: Source, seed: int, cutoff: Cutoff | None = None) -> None:
        self._seed = seed
        self._cutoff = cutoff
        self._left = cutoff.equal if cutoff else 0
        self._limit = source.limit_bytes or 0
        self._whole = math.floor(source.weight)
        self._share = source.weight - self._whole

    def weight(self, document: Document) -> int:
        """Return how often `document` counts; 0 for not at all."""
        first, second = fingerprint(document, self._seed)
        if self._cutoff is not None:
            size = size_of(document)
            key, bound = (first, size), (self._cutoff.hash, self._cutoff.size)
            if size > self._limit or key > bound:
                return 0
            if key == bound:
                if self._left == 0:
                    return 0
                self._left -= 1
        return self._whole + (second * _SCALE < self._share)


def keep_limit(documents: Iterable[Document], source: Source, seed: int) -> list[Document]:
    """Return the documents that a limit takes from an iterator, which can be read but once.

    They are those of :func:`draw_limit`; memory is the limit and the longest document.

    Raises:
        InvalidValue: None of them fits.
    """
    limit = source.limit_bytes or 0
    heap: list[tuple[int, int, int, Document]] = []  # largest hash first; the number breaks ties
    bound: tuple[int, int] | None = None  # of what did not fit: nothing behind it is taken
    total = 0
    for number, document in enumerate(documents):
        size = size_of(document)
        key = (fingerprint(document, seed)[0], size)
        if size > limit or (bound is not None and key > bound):
            continue
        heapq.heappush(heap, (-key[0], -size, number, document))
        total += size
        while total > limit:
            hash_, size, _, _ = heapq.heappop(heap)
            total += size
            bound = (-hash_, -size)
    if not heap:
        raise _nothing_fits(source)
    return [entry[3] for entry in heap]


def is_utf8(document: Document) -> bool:
    """Whether a document is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in (document,) if isinstance(document, bytes) else document:
            for start in range(0, len(block), BLOCK):
                decoder.decode(block[start : start + BLOCK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
