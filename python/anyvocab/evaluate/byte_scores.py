"""Byte-level models and ensembles of them on texts of any length, byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from anyvocab import errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.bytelm.base import ByteModel
    from anyvocab.bytelm.ensemble import Ensemble
    from anyvocab.bytelm.lm import ByteLM

__all__ = [
    "SLACK",
    "WINDOW",
    "blocks",
    "byte_logprobs",
    "ensemble_logprobs",
    "leaves",
    "window_of",
]

WINDOW = 1024
"""Bytes that a model sees at once, when nothing else is asked for."""

# Tokens that are kept free: the covers of a text's end may spell its last token with shorter ones,
# and a text that is cut at its start is encoded with other tokens there.
SLACK: Final = 8


def leaves(model: ByteModel) -> Iterator[ByteLM]:
    """Yield the models that an ensemble is made of, at any depth; of a single model, itself."""
    from anyvocab.bytelm.ensemble import Ensemble
    from anyvocab.bytelm.lm import ByteLM

    if isinstance(model, Ensemble):
        for member in model.members:
            yield from leaves(member)
    elif isinstance(model, ByteLM):
        yield model


def window_of(model: ByteModel, most: int = WINDOW) -> int:
    """Return how many bytes a window may have, up to `most`, so that a model holds any text of it.

    A token has a byte at least, so a window never has more tokens than bytes.
    """
    rooms = [
        one.backend.max_context - len(one.first_ids) - SLACK
        for one in leaves(model)
        if one.backend.max_context is not None
    ]
    return max(2, min([most, *rooms]))


def byte_logprobs(
    model: ByteModel, text: bytes, *, window: int = WINDOW, before: bytes = b""
) -> NDArray[np.float64]:
    """Return the log-probability of every byte of a text, float64[n], in nats.

    A longer text is read in windows that overlap by half, each byte scored once: behind at least
    half a window of what precedes it. A window may begin anywhere, as contexts of bytes may; the
    model takes its start for the start of a text.

    Args:
        model: A byte-level model.
        text: What is scored.
        window: Bytes of a window.
        before: What stands before the text and is not scored.

    Raises:
        InvalidValue: The window has fewer than 2 bytes.
        LimitExceeded: A window has more tokens than the model takes.
    """
    parts = [
        model.next_byte_logprobs(more, head)[np.arange(len(more)), np.frombuffer(more, np.uint8)]
        for head, more in _windows(text, window, before)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def ensemble_logprobs(
    ensemble: Ensemble,
    text: bytes,
    *,
    window: int = WINDOW,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """Return the log-probability of every byte under each member and under the ensemble.

    Members are asked once for both. Under the rule `bayes` the weights follow the whole text, not
    the window.

    Args:
        ensemble: The ensemble.
        text: What is scored.
        window: As for `byte_logprobs`.
        progress: Told after each window how many bytes it had.

    Returns:
        float64[k + 1, n] in nats: the `k` members in their order, then the ensemble.
    """
    count = len(ensemble.members)
    parts: list[NDArray[np.float64]] = []
    gained = np.zeros(count)  # what each member gave the text so far
    for head, more in _windows(text, window, b""):
        at, numbers = np.arange(len(more)), np.frombuffer(more, np.uint8)
        rows = np.stack([one.next_byte_logprobs(more, head)[:-1] for one in ensemble.members])
        steps = rows[:, at, numbers]  # [k, n]
        history = None
        if ensemble.rule == "bayes":
            history = gained[:, None] + np.concatenate(
                [np.zeros((count, 1)), np.cumsum(steps, axis=1)[:, :-1]], axis=1
            )
            gained = gained + steps.sum(axis=1)
        joint = ensemble.combine(rows, history)[at, numbers]
        parts.append(np.vstack([steps, joint]))
        if progress is not None:
            progress(len(more))
    return np.concatenate(parts, axis=1) if parts else np.zeros((count + 1, 0))


def _windows(text: bytes, window: int, before: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield what stands before the scored part of each window, and that part."""
    if window < 2:
        raise errors.build(
            errors.InvalidValue, f"must be at least 2 bytes, got {window}", field="window"
        )
    half = window // 2
    whole = before + text
    at = len(before)
    # The first window is scored up to its end, as far as its text goes; later ones by halves.
    size = max(half, window - at)
    while at < len(whole):
        more = whole[at : at + size]
        head = whole[max(0, at + size - window) : at]
        yield head, more
        at += size
        size = half


def blocks(
    logprobs: Sequence[NDArray[np.float64]], block: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the nats of blocks of documents, and the blocks' bytes, to draw intervals from.

    Args:
        logprobs: For each document, float64[k, n].
        block: Bytes of a block; the last one of a document may be shorter.

    Returns:
        float64[k, blocks] and int64[blocks].
    """
    starts = [np.arange(0, one.shape[1], block) for one in logprobs]
    pairs = [(one, at) for one, at in zip(logprobs, starts, strict=True) if len(at)]
    if not pairs:
        return np.zeros((logprobs[0].shape[0] if logprobs else 0, 0)), np.zeros(0, dtype=np.int64)
    nats = np.concatenate([-np.add.reduceat(one, at, axis=1) for one, at in pairs], axis=1)
    sizes = np.concatenate([np.diff([*at.tolist(), one.shape[1]]) for one, at in pairs])
    return nats, sizes.astype(np.int64)
