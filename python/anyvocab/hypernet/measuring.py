"""What a run tells: its losses, and measurements on text that was held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Log", "Measured", "windows"]


@dataclass(frozen=True)
class Measured:
    """A measurement on held-out text under sampled tokenizers that training never sees.

    Attributes:
        step: After how many updates.
        bits_per_byte: Of the predicted rows, over all tokenizers.
        lexical: Distance from the source's rows.
        anchored: Bits per byte where tokens that the source has keep its rows; it tells a transfer
            without text what is better.
        merged: Bits per byte that merging costs behind predicted rows of new tokens, over
            reductions of every size; None in a run without merged batches.
    """

    step: int
    bits_per_byte: float
    lexical: float
    anchored: float | None = None
    merged: float | None = None


@dataclass
class Log:
    """What a run has told: one entry for each logged step, and the measurements."""

    losses: list[float] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)  # of the last step


def windows(documents: tuple[bytes, ...], span: int, count: int) -> list[bytes]:
    """Return up to `count` spans, spread over the documents, each beginning at a character."""
    found = list(_spans(documents, span))
    chosen = [found[i * len(found) // count] for i in range(min(count, len(found)))]
    return list(dict.fromkeys(chosen))


def _spans(documents: tuple[bytes, ...], span: int) -> Iterator[bytes]:
    for document in documents:
        at = 0
        while at < len(document):
            while at < len(document) and document[at] & 0xC0 == 0x80:
                at += 1
            if at < len(document):
                yield document[at : at + span]
            at += span
