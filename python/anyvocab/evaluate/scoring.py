"""Nats of every token: windows over encodings, forward passes, and where each token's bytes lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from anyvocab import errors
from anyvocab._torch import import_torch
from anyvocab.tokenizer import Encoding, Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BATCH",
    "Split",
    "TokenScores",
    "score_windows",
    "sizes_of",
    "token_ends",
    "windows_of",
]

BATCH = 8  # windows of one forward pass
WINDOW_LIMIT = 2048  # ids; models that see more are scored in windows of this, unless asked
LOGITS_LIMIT = 1 << 28  # numbers in the logits of one forward pass: 1 GiB of float32
SCORED_AT_ONCE = 256  # rows of logits in float64

Row: TypeAlias = "Sequence[int] | NDArray[np.uint32]"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Split:
    """A loss divided between the tokens that two vocabularies share and the new ones.

    Both parts together are the whole: nats, bytes and tokens add up to those of the text.

    Attributes:
        shared_nats: Nats of tokens that the other vocabulary has too.
        shared_bytes: Bytes of the text that these tokens stand for.
        shared_tokens: How many they are.
        new_nats: Nats of the other tokens.
        new_bytes: Bytes that those stand for.
        new_tokens: How many they are.
    """

    shared_nats: float
    shared_bytes: int
    shared_tokens: int
    new_nats: float
    new_bytes: int
    new_tokens: int

    @property
    def shared_nats_per_byte(self) -> float:
        """Nats per byte in shared tokens; NaN where there is none."""
        return self.shared_nats / self.shared_bytes if self.shared_bytes else math.nan

    @property
    def new_nats_per_byte(self) -> float:
        """Nats per byte in new tokens; NaN where there is none."""
        return self.new_nats / self.new_bytes if self.new_bytes else math.nan

    def __add__(self, other: Split) -> Split:
        return Split(
            self.shared_nats + other.shared_nats,
            self.shared_bytes + other.shared_bytes,
            self.shared_tokens + other.shared_tokens,
            self.new_nats + other.new_nats,
            self.new_bytes + other.new_bytes,
            self.new_tokens + other.new_tokens,
        )


@dataclass(frozen=True, eq=False)
class TokenScores:
    """What the tokens of one text cost.

    Attributes:
        ids: The tokens, uint32[n].
        nats: The negative log-probability of each, in nats, float64[n].
        ends: Where the bytes of each end in the text, int64[n], never falling; token `i` stands
            for the bytes from `ends[i - 1]` (0 for the first) to `ends[i]`, and the last ends
            where the text does.
    """

    ids: NDArray[np.uint32]
    nats: NDArray[np.float64]
    ends: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many bytes of the text each token stands for, int64[n]; they sum to the text."""
        return np.diff(self.ends, prepend=0)

    def by_block(self, size: int) -> NDArray[np.float64]:
        """Return the nats of every block of `size` bytes, float64[blocks]; the last is shorter.

        A token that lies in several blocks is shared between them by its bytes; a token without
        bytes counts where it stands. The blocks sum to the text's nats.

        Args:
            size: Bytes of a block.

        Raises:
            InvalidValue: `size` is not positive.
        """
        if size < 1:
            raise errors.build(
                errors.InvalidValue, f"must be at least 1, got {size}", field="block"
            )
        total = int(self.ends[-1]) if len(self.ends) else 0
        blocks = np.zeros(-(-total // size), dtype=np.float64)
        if not total:
            return blocks
        lengths = self.lengths
        starts = self.ends - lengths
        first = np.minimum(starts, total - 1) // size
        last = np.maximum(first, (self.ends - 1) // size)
        inside = first == last
        np.add.at(blocks, first[inside], self.nats[inside])
        for i in np.flatnonzero(~inside).tolist():
            edges = np.arange(first[i] + 1, last[i] + 1) * size
            cuts = np.concatenate(([starts[i]], edges, [self.ends[i]]))
            blocks[first[i] : last[i] + 1] += self.nats[i] * np.diff(cuts) / lengths[i]
        return blocks

    def split_by(self, new_ids: Sequence[int] | NDArray[np.integer[Any]]) -> Split:
        """Return how the nats divide between `new_ids` and all other tokens."""
        new = np.isin(self.ids, np.asarray(new_ids, dtype=np.uint32))
        lengths = self.lengths
        return Split(
            math.fsum(self.nats[~new]),
            int(lengths[~new].sum()),
            int((~new).sum()),
            math.fsum(self.nats[new]),
            int(lengths[new].sum()),
            int(new.sum()),
        )


def token_ends(tokenizer: Tokenizer, text: bytes, encoding: Encoding) -> NDArray[np.int64]:
    """Return where the bytes of each token end in `text`, int64[n]: a partition of the text.

    Where the tokens' own bytes spell the text, they decide. Elsewhere (a normalizer, a prefix
    space, unknown tokens) their offsets do: bytes that no token points at go to the next token,
    and tokens that point at the same bytes share them evenly, in order.
    """
    lengths = tokenizer.vocabulary.lengths()[encoding.ids]
    if int(lengths.sum()) == len(text) and tokenizer.decode(encoding.ids) == text:
        return np.cumsum(lengths)
    spans = encoding.offsets.tolist()
    ends: list[int] = []
    done = at = 0
    while at < len(spans):
        stop = at + 1
        while stop < len(spans) and spans[stop] == spans[at]:
            stop += 1
        end = max(done, spans[at][1])
        ends += [done + (end - done) * (j + 1) // (stop - at) for j in range(stop - at)]
        done, at = end, stop
    if ends:
        ends[-1] = len(text)
    return np.array(ends, dtype=np.int64)


def sizes_of(model: Any, window: int | None, stride: int | None) -> tuple[int, int]:
    """Return window and stride in ids; what is left out comes from the model's configuration.

    Raises:
        InvalidValue: One of them is out of range.
    """
    if window is None:
        config = getattr(model, "config", None)
        config = getattr(config, "text_config", config)
        named = (
            getattr(config, name, None)
            for name in ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")
        )
        window = next((one for one in named if isinstance(one, int) and one > 0), WINDOW_LIMIT)
        window = min(window, WINDOW_LIMIT)
    if window < 2:
        raise errors.build(errors.InvalidValue, f"must be at least 2, got {window}", field="window")
    if stride is None:
        stride = max(1, window // 2)
    if not 1 <= stride < window:
        raise errors.build(
            errors.InvalidValue,
            f"must be 1..{window - 1}, got {stride}",
            field="stride",
            fix="leave it out for half a window",
        )
    return window, stride


def windows_of(row: Row, first: int, window: int, stride: int) -> Iterator[tuple[Row, int]]:
    """Yield `(ids, at)`: score the ids from position `at` on. Every id from `first` on, once."""
    scored = first
    while scored < len(row):
        end = min(len(row), max(window, scored + stride))
        start = max(0, end - window)
        yield row[start:end], scored - start
        scored = end


def score_windows(
    model: Any,
    windows: Sequence[tuple[Row, int]],
    *,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> list[NDArray[np.float64]]:
    """Return the nats of the scored ids of every window, in the windows' order.

    Args:
        model: A causal language model: ids (B, T) to logits (B, T, V).
        windows: What :func:`windows_of` yields.
        batch_size: Windows of one forward pass, fewer where the logits would be too large.
        progress: Is told how many ids have been scored, and of how many.

    Raises:
        InvalidValue: `batch_size` is not positive, the model has no logit for an id, or a score
            is not finite.
        MissingExtra: torch is not installed.
    """
    if batch_size < 1:
        raise errors.build(
            errors.InvalidValue, f"must be at least 1, got {batch_size}", field="batch_size"
        )
    torch = import_torch()
    _check_rows(model, windows)
    order = sorted(range(len(windows)), key=lambda i: len(windows[i][0]))  # stable
    scores: list[NDArray[np.float64]] = [np.zeros(0)] * len(windows)
    total = sum(len(ids) - at for ids, at in windows)
    at, width, done = 0, 0, 0
    if progress is not None:
        progress(done, total)
    with torch.inference_mode():
        while at < len(order):
            longest = len(windows[order[min(len(order), at + batch_size) - 1]][0])
            room = LOGITS_LIMIT // (longest * width) if width else 1  # the first pass tells V
            batch = order[at : at + max(1, min(batch_size, room))]
            nats, width = _score(torch, model, [windows[i] for i in batch])
            for i, one in zip(batch, nats, strict=True):
                scores[i] = one
                done += len(one)
            at += len(batch)
            if progress is not None:
                progress(done, total)
    return scores


def _check_rows(model: Any, windows: Sequence[tuple[Row, int]]) -> None:
    """Refuse ids without a row before any time is spent, where the model says how many it has."""
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    weight = getattr(embeddings, "weight", None)
    largest = max((int(max(ids)) for ids, _ in windows if len(ids)), default=-1)
    if weight is not None and largest >= weight.shape[0]:
        raise _no_logit(int(weight.shape[0]), largest)


def _no_logit(size: int, id: int) -> errors.InvalidValue:
    return errors.build(
        errors.InvalidValue,
        f"the model has {size} logits, none for id {id}",
        field="tokenizer",
        fix="give the tokenizer that belongs to the model",
    )


def _score(
    torch: Any, model: Any, batch: Sequence[tuple[Row, int]]
) -> tuple[list[NDArray[np.float64]], int]:
    width = max(len(ids) for ids, _ in batch)
    # Padding stands on the right of a causal model: nothing that is scored sees it.
    padded = np.zeros((len(batch), width), dtype=np.int64)
    for i, (ids, _) in enumerate(batch):
        padded[i, : len(ids)] = ids
    rows = torch.from_numpy(padded).to(getattr(model, "device", None))
    logits = model(rows).logits  # (B, T, V)
    size = int(logits.shape[-1])
    largest = max(int(np.max(ids[first:])) for ids, first in batch)
    if largest >= size:  # what is read and not scored may be rows without a logit
        raise _no_logit(size, largest)
    nats = []
    for row, scores, (ids, first) in zip(rows, logits, batch, strict=True):
        parts = []
        for start in range(first, len(ids), SCORED_AT_ONCE):
            end = min(len(ids), start + SCORED_AT_ONCE)
            given, wanted = scores[start - 1 : end - 1], row[start:end]  # (n, V), (n,)
            loss = torch.nn.functional.cross_entropy(given.double(), wanted, reduction="none")
            parts.append(loss.cpu().numpy())
        one = np.concatenate(parts)
        if not np.isfinite(one).all():
            worst = float(one[~np.isfinite(one)][0])
            raise errors.build(
                errors.InvalidValue,
                f"the score is {worst}: some logits are not finite, or an id has probability 0",
                field="model",
                fix="load the model in float32, and check its weights for NaN",
            )
        nats.append(one)
    return nats, size
