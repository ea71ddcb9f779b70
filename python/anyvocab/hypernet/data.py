"""Texts for training: spans of a corpus, drawn by seed and step alone, so a run can be resumed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anyvocab import errors
from anyvocab.training.corpus import Blocks, sources_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Texts"]

logger = logging.getLogger(__name__)

_LEFT_OUT = 0x9E37  # the stream of the seed that says which documents are held out


@dataclass(frozen=True, eq=False)
class _Part:
    """A named part of the corpus: all its documents end to end."""

    name: str
    data: NDArray[np.uint8]
    ends: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Texts:
    """A corpus in memory, a part of it held out.

    Attributes:
        parts: Named parts: languages, or one.
        held_out: Documents for measuring, at most `held_out_bytes` of them.
        seed: Of every draw.
    """

    parts: tuple[_Part, ...]
    held_out: tuple[bytes, ...]
    seed: int

    @classmethod
    def read(
        cls,
        corpus: Any,
        *,
        field: str = "text",
        seed: int = 0,
        held_out_share: float = 0.02,
        held_out_bytes: int = 1 << 18,
        limit_bytes: int = 1 << 30,
    ) -> Texts:
        """Read a corpus.

        Args:
            corpus: What :func:`anyvocab.count` takes; a mapping names its parts.
            field: The member, column or key that holds a record's text.
            seed: Of what is held out and of every draw.
            held_out_share: Share of the documents that is held out; where there are few documents,
                the end of the longest.
            held_out_bytes: At most so much of them is kept.
            limit_bytes: The corpus is read up to here, in equal shares of its parts; a warning
                says where that left something out.

        Raises:
            SourceNotFound: There is no such corpus.
            InvalidValue: There is no text in it.
        """
        sources = sources_of(corpus, field=field)
        room = max(1, limit_bytes // len(sources))
        rng = np.random.default_rng([seed, _LEFT_OUT])
        parts: list[_Part] = []
        aside: list[bytes] = []
        for source in sources:
            taken = 0
            documents: list[bytes] = []
            for one in source.inputs:
                if taken >= room:
                    break
                for document in one.open():
                    text = b"".join(document) if isinstance(document, Blocks) else document
                    text = text[: room - taken]
                    taken += len(text)
                    if text:
                        documents.append(text)
                    if taken >= room:
                        break
            if taken >= room:
                logger.warning("%s: only its first %d bytes are read", source.name, room)
            if not documents:
                raise errors.build(errors.InvalidValue, "it holds no text", field=source.name)
            kept, hidden = _hold_out(documents, held_out_share, rng)
            aside += hidden
            data = np.frombuffer(b"".join(kept), np.uint8)
            ends = np.cumsum(np.fromiter(map(len, kept), np.int64, len(kept)))
            parts.append(_Part(source.name, data, ends))
        return cls(tuple(parts), tuple(_some(aside, held_out_bytes, rng)), seed)

    @property
    def size(self) -> int:
        """How many bytes are trained on."""
        return sum(len(part.data) for part in self.parts)

    def draw(
        self, step: int, count: int, span: int, *, power: float = 0.3
    ) -> tuple[int, list[bytes]]:
        """Return the number of a part and spans of it, the same for the same seed and step.

        A span begins anywhere, at a character, and ends where its document ends at the latest.

        Args:
            step: Which draw.
            count: How many spans.
            span: The most bytes of one.
            power: A part is drawn in proportion to its bytes to this power.
        """
        rng = np.random.default_rng([self.seed, step])
        sizes = np.array([len(part.data) for part in self.parts], dtype=np.float64) ** power
        number = int(rng.choice(len(self.parts), p=sizes / sizes.sum()))
        part = self.parts[number]
        spans = []
        for start in rng.integers(0, len(part.data), size=count).tolist():
            end = int(part.ends[np.searchsorted(part.ends, start, side="right")])
            stop = min(end, start + span)
            while start < stop - 1 and part.data[start] & 0xC0 == 0x80:  # inside a character
                start += 1
            while stop < end and stop > start + 1 and part.data[stop] & 0xC0 == 0x80:
                stop -= 1
            spans.append(part.data[start:stop].tobytes())
        return number, spans


def _hold_out(
    documents: list[bytes], share: float, rng: np.random.Generator
) -> tuple[list[bytes], list[bytes]]:
    count = int(len(documents) * share)
    if count:
        hidden = set(rng.permutation(len(documents))[:count].tolist())
        return (
            [one for i, one in enumerate(documents) if i not in hidden],
            [documents[i] for i in sorted(hidden)],
        )
    at = max(range(len(documents)), key=lambda i: len(documents[i]))
    cut = len(documents[at]) - int(len(documents[at]) * share)
    kept = [*documents[:at], documents[at][:cut], *documents[at + 1 :]]
    return [one for one in kept if one], [one for one in [documents[at][cut:]] if one]


def _some(documents: list[bytes], size: int, rng: np.random.Generator) -> list[bytes]:
    found, room = [], size
    for at in rng.permutation(len(documents)).tolist():
        if room <= 0:
            break
        found.append(documents[at][:room])
        room -= len(found[-1])
    return found
