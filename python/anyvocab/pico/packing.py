"""From documents to training windows: chunks, fill-in-the-middle, packing.

An epoch is a function of (documents, tokenizer, context, seed, epoch number), so a resumed run
needs three numbers to find its place. Every epoch cuts and transforms the text anew.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .data import Document
from .fim import FimIds, Order, Parts, cut, write
from .model import IGNORED
from .vocab import Specials

FIM_SHARE = 0.5
MIN_CHUNK_CHARS = 120
CHUNK_CHARS_PER_TOKEN = (0.6, 3.0)  # of the context; a chunk that is too long is halved
MIN_ROOM = 24  # tokens; less room than this at a window's end is padded
TESTS_SHARE = 0.5  # of the library's tests are read in an epoch, others each time
# What a token of a middle, its end included, counts in the loss: a request for a middle is answered
# by middles alone, and a short one is a few tokens among hundreds. Other scored tokens count 1.
MIDDLE_WEIGHT, MIDDLE_TOKENS = 4.0, 64  # the weight at most; the sum of a middle's, where above 1


@dataclass(frozen=True)
class Scored:
    """A token and what predicting it counts, 0 for what the text does not decide."""

    token: int
    weight: float = 1.0
    ends: bool = True  # whether the end of a text is a possible answer here


@dataclass(frozen=True)
class RoleIds:
    """Ids of the control tokens a training sequence holds."""

    bos: int
    eos: int
    pad: int
    fim: FimIds

    @classmethod
    def of(cls, tokenizer: Tokenizer, names: Specials) -> RoleIds:
        """Return the ids `tokenizer` gives to the tokens of `names`."""

        def look(content: str) -> int:
            index = tokenizer.token_to_id(content)
            if index is None:
                raise ValueError(f"the tokenizer has no token {content!r}")
            return int(index)

        fim = FimIds(
            prefix=look(names.fim_prefix),
            suffix=look(names.fim_suffix),
            middle=look(names.fim_middle),
            eos=look(names.eos),
        )
        return cls(bos=look(names.bos), eos=look(names.eos), pad=look(names.pad), fim=fim)


@dataclass(frozen=True)
class Windows:
    """One epoch, each array (n, context).

    Attributes:
        inputs: Ids.
        targets: The ids that follow; what counts 0 is `IGNORED`.
        weights: What each target counts.
        ends: Whether the end of a text is a possible answer. Not around a middle: in SPM prefix and
            middle are one string, and a model that had to give the end a chance before every token
            of the prefix would learn to give it none.
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    ends: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.inputs)


def chunks(text: str, context: int, rng: random.Random) -> list[str]:
    """Return `text` cut at line starts into chunks of random length; joined they are `text`."""
    low, high = (factor * context for factor in CHUNK_CHARS_PER_TOKEN)
    found: list[str] = []
    held: list[str] = []
    size, goal = 0, rng.uniform(low, high)
    for line in text.splitlines(keepends=True):
        held.append(line)
        size += len(line)
        if size >= goal:
            found.append("".join(held))
            held, size, goal = [], 0, rng.uniform(low, high)
    if held:
        found.append("".join(held))
    return found


def _weighted(
    parts: Parts, order: Order, sequence: list[int], tokenizer: Tokenizer, roles: RoleIds
) -> list[Scored]:
    """Return a transformed chunk with what each token counts: its middle and end most."""
    start = sequence.index(roles.fim.middle) + 1
    if order == "spm":  # prefix and middle are one string: the middle's first token ends behind it
        encoding = tokenizer.encode(parts.prefix + parts.middle, add_special_tokens=False)
        start += sum(end <= len(parts.prefix) for _, end in encoding.offsets)
    marks = {roles.fim.prefix, roles.fim.suffix, roles.fim.middle}
    middle = min(MIDDLE_WEIGHT, max(1.0, MIDDLE_TOKENS / (len(sequence) - start)))
    return [
        Scored(token, middle) if at >= start else Scored(token, float(token not in marks), False)
        for at, token in enumerate(sequence)
    ]


def _fim_sequences(
    text: str, tokenizer: Tokenizer, roles: RoleIds, room: int, rng: random.Random
) -> list[list[Scored]]:
    def encode(part: str) -> list[int]:
        return list(tokenizer.encode(part, add_special_tokens=False).ids)

    if len(text) < MIN_CHUNK_CHARS:
        return []
    parts = cut(text, rng)
    order: Order = "psm" if rng.random() < 0.5 else "spm"
    sequence = write(parts, order, encode, roles.fim)
    if len(sequence) <= room:
        return [_weighted(parts, order, sequence, tokenizer, roles)]
    half = len(text) // 2
    left = _fim_sequences(text[:half], tokenizer, roles, room, rng)
    return left + _fim_sequences(text[half:], tokenizer, roles, room, rng)


def _sequences(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    roles: RoleIds,
    context: int,
    rng: random.Random,
) -> tuple[list[list[Scored]], deque[Scored]]:
    """Return the transformed chunks, and the plain text as a stream."""
    order = [one for one in documents if one.kind != "tests" or rng.random() < TESTS_SHARE]
    rng.shuffle(order)
    filled: list[list[Scored]] = []
    plain: deque[Scored] = deque()
    for document in order:
        pieces = chunks(document.text, context, rng)
        run: list[str] = []
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            to_fill = rng.random() < FIM_SHARE
            if to_fill:
                filled += _fim_sequences(piece, tokenizer, roles, context - 1, rng)
            else:
                run.append(piece)
            if run and (to_fill or last):
                ids = tokenizer.encode("".join(run), add_special_tokens=False).ids
                plain.append(Scored(roles.bos, 0.0))
                plain.extend(Scored(token) for token in ids)
                if last and not to_fill:
                    plain.append(Scored(roles.eos))
                run = []
    rng.shuffle(filled)
    return filled, plain


def _take_plain(plain: deque[Scored], count: int, bos: int) -> list[Scored]:
    """Return at most `count` tokens off the stream, a `bos` first."""
    taken: list[Scored] = []
    if plain and plain[0] != Scored(bos, 0.0):
        taken.append(Scored(bos, 0.0))
    while plain and len(taken) < count:
        taken.append(plain.popleft())
    return taken


def build_epoch(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    roles: RoleIds,
    *,
    context: int,
    seed: int,
    epoch: int,
) -> Windows:
    """Return the windows of one epoch, shuffled.

    A window holds one or more transformed chunks, each whole, and plain text in the room that is
    left; attention is not cut between them. The loss skips the begin marks and the three
    fill-in-the-middle marks, whose positions are the transform's choice and not the text's; a
    middle and its end count more than the text around them.
    """
    rng = random.Random(f"{seed}/{context}/{epoch}")
    filled, plain = _sequences(documents, tokenizer, roles, context, rng)
    rows: list[list[Scored]] = []
    while filled or plain:
        parts: list[list[Scored]] = []
        room = context + 1
        while filled and len(filled[-1]) + 1 <= room:
            parts.append([Scored(roles.bos, 0.0), *filled.pop()])
            room -= len(parts[-1])
            if len(plain) > room:
                break
        if plain and room >= min(MIN_ROOM, context):
            parts.append(_take_plain(plain, room, roles.bos))
            if rng.random() < 0.5:
                parts.reverse()
        row = [one for part in parts for one in part]
        rows.append(row + [Scored(roles.pad, 0.0)] * (context + 1 - len(row)))
    rng.shuffle(rows)
    tokens = np.array([[one.token for one in row] for row in rows], dtype=np.int64)
    weights = np.array([[one.weight for one in row[1:]] for row in rows], dtype=np.float32)
    return Windows(
        inputs=tokens[:, :-1].copy(),
        targets=np.where(weights > 0, tokens[:, 1:], IGNORED),
        weights=weights,
        ends=np.array([[one.ends for one in row[1:]] for row in rows], dtype=np.bool_),
    )
