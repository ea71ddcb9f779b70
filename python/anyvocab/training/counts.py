"""Counted pretokens, and what is known about where they came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyvocab import errors

__all__ = ["FORMAT_VERSION", "CountHeader", "Counts", "SourceTotals"]

FORMAT_VERSION = 1
# Two names of one pattern: their counts go together.
_ALIASES = {"llama3": "cl100k"}


class SourceTotals(NamedTuple):
    """What one source gave.

    Attributes:
        documents: Documents that were counted, whatever their weights.
        bytes: Their bytes, before the normalizer.
        weight: How much each document counts, on average.
        seen_documents: Documents that were there: those that a limit, a weight below 1 or what is
            no UTF-8 left out, too.
        seen_bytes: Their bytes.
    """

    documents: int
    bytes: int
    weight: float
    seen_documents: int = 0
    seen_bytes: int = 0


@dataclass(frozen=True)
class CountHeader:
    """Where counts came from.

    Attributes:
        pattern: The name of a known pattern, a regular expression, or "none".
        normalizer: The name of a normal form, such as "nfc", or `None`.
        documents: Documents that were counted, whatever their weights.
        bytes: Their bytes, before the normalizer.
        pretokens: The sum of all counts: pretokens as often as their documents' weights say.
        sources: What each source gave, by name.
        format_version: Of the shard's format.
    """

    pattern: str
    normalizer: str | None
    documents: int
    bytes: int
    pretokens: int
    sources: Mapping[str, SourceTotals] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the header as JSON with sorted keys."""
        value = {
            "bytes": self.bytes,
            "documents": self.documents,
            "format_version": self.format_version,
            "normalizer": self.normalizer,
            "pattern": self.pattern,
            "pretokens": self.pretokens,
            "sources": {name: one._asdict() for name, one in self.sources.items()},
        }
        return json.dumps(value, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, file: str | None = None) -> CountHeader:
        """Return the header that :meth:`to_json` wrote.

        Raises:
            InvalidValue: It is malformed, or of another version; `file` is named.
        """
        try:
            value = json.loads(text)
            version = value["format_version"]
            if version != FORMAT_VERSION:
                raise errors.build(
                    errors.InvalidValue,
                    f"is {version!r}, this version of anyvocab reads {FORMAT_VERSION}",
                    field="format_version",
                    file=file,
                    fix="count again, or use the version of anyvocab that wrote it",
                )
            normalizer = value["normalizer"]
            return cls(
                pattern=str(value["pattern"]),
                normalizer=None if normalizer is None else str(normalizer),
                documents=int(value["documents"]),
                bytes=int(value["bytes"]),
                pretokens=int(value["pretokens"]),
                sources={
                    str(name): SourceTotals(
                        int(one["documents"]),
                        int(one["bytes"]),
                        float(one["weight"]),
                        int(one.get("seen_documents", 0)),
                        int(one.get("seen_bytes", 0)),
                    )
                    for name, one in value["sources"].items()
                },
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise _malformed(repr(error), file) from None
        except ValueError as error:
            if isinstance(error, errors.AnyvocabError):
                raise
            raise _malformed(str(error), file) from None

    @classmethod
    def merged(
        cls, headers: Iterable[CountHeader], *, names: Iterable[str] | None = None
    ) -> CountHeader:
        """Return the header of counts that are put together; it does not depend on their order.

        Args:
            headers: At least one.
            names: What errors call them: the files they came from.

        Raises:
            InvalidValue: Two of them have different patterns, normalizers or versions, or one
                source has different weights in two of them; both are named.
        """
        pairs = list(zip(headers, names, strict=True)) if names else [(h, "") for h in headers]
        if not pairs:
            raise errors.build(errors.InvalidValue, "there are no counts", field="headers")
        first, first_name = pairs[0]
        sources: dict[str, SourceTotals] = {}
        for header, name in pairs:
            for what in ("pattern", "normalizer", "format_version"):
                ours, theirs = getattr(first, what), getattr(header, what)
                if _ALIASES.get(ours, ours) != _ALIASES.get(theirs, theirs):
                    raise errors.build(
                        errors.InvalidValue,
                        f"{theirs!r}, where {first_name or 'the first'} has {ours!r}",
                        field=what,
                        file=name or None,
                        fix="merge counts that were made in the same way",
                    )
            for source, totals in header.sources.items():
                known = sources.get(source, SourceTotals(0, 0, totals.weight))
                if known.weight != totals.weight:
                    raise errors.build(
                        errors.InvalidValue,
                        f"{totals.weight:g} and {known.weight:g}",
                        field=f"sources.{source}.weight",
                        file=name or None,
                        fix="count a source with one weight, or give its parts names of their own",
                    )
                sources[source] = SourceTotals(
                    totals.documents + known.documents,
                    totals.bytes + known.bytes,
                    totals.weight,
                    totals.seen_documents + known.seen_documents,
                    totals.seen_bytes + known.seen_bytes,
                )
        return cls(
            pattern=min(header.pattern for header, _ in pairs),  # aliases: one for any order
            normalizer=first.normalizer,
            documents=sum(header.documents for header, _ in pairs),
            bytes=sum(header.bytes for header, _ in pairs),
            pretokens=sum(header.pretokens for header, _ in pairs),
            sources=dict(sorted(sources.items())),
        )


def _malformed(found: str, file: str | None) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue,
        f"cannot be read: {found}",
        field="header",
        file=file,
        fix="give a file that `anyvocab count` wrote",
    )


@dataclass(frozen=True, eq=False)
class Counts:
    """Counted pretokens, sorted by bytes, each once.

    Attributes:
        data: All pretokens end to end, uint8.
        offsets: One more than there are pretokens, int64: pretoken i is
            `data[offsets[i]:offsets[i + 1]]`.
        counts: How often each came, as weighted, uint64; each at least 1.
        header: Where they came from.

    >>> from anyvocab.training.counting import count_corpus
    >>> counts = count_corpus([b"to be or not to be"])
    >>> counts.to_dict()
    {b' be': 2, b' not': 1, b' or': 1, b' to': 1, b'to': 1}
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    counts: NDArray[np.uint64]
    header: CountHeader

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Iterate over the pretokens, in order, and their counts."""
        data = self.data.tobytes()
        ends = self.offsets.tolist()
        for start, end, count in zip(ends[:-1], ends[1:], self.counts.tolist(), strict=True):
            yield data[start:end], count

    def to_dict(self) -> dict[bytes, int]:
        """Return the counts by pretoken, in order; for small ones."""
        return dict(self)
