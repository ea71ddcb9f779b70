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
from .fim import FimIds, cut, write
from .model import IGNORED
from .vocab import Specials

FIM_SHARE = 0.5
MIN_CHUNK_CHARS = 120
CHUNK_CHARS_PER_TOKEN = (0.6, 3.0)  # of the context; a chunk that is too long is halved
MIN_ROOM = 24  # tokens; less room than this at a window's end is padded


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
    """One epoch: `inputs` and `targets`, each (n, context); unscored targets are `IGNORED`."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]

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


def _fim_sequences(
    text: str, tokenizer: Tokenizer, roles: RoleIds, room: int, rng: random.Random
) -> list[list[int]]:
    def encode(part: str) -> list[int]:
        return list(tokenizer.encode(part, add_special_tokens=False).ids)

    if len(text) < MIN_CHUNK_CHARS:
        return []
    sequence = write(cut(text, rng), "psm" if rng.random() < 0.5 else "spm", encode, roles.fim)
    if len(sequence) <= room:
        return [sequence]
    half = len(text) // 2
    left = _fim_sequences(text[:half], tokenizer, roles, room, rng)
    return left + _fim_sequences(text[half:], tokenizer, roles, room, rng)


def _sequences(
    documents: Sequence[Document],
    tokenizer: Tokenizer,
    roles: RoleIds,
    context: int,
    rng: random.Random,
) -> tuple[list[list[int]], deque[tuple[int, bool]]]:
    """Return the transformed chunks, and the plain text as a stream of (id, scored)."""
    order = list(documents)
    rng.shuffle(order)
    filled: list[list[int]] = []
    plain: deque[tuple[int, bool]] = deque()
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
                plain.append((roles.bos, False))
                plain.extend((token, True) for token in ids)
                if last and not to_fill:
                    plain.append((roles.eos, True))
                run = []
    rng.shuffle(filled)
    return filled, plain


def _take_plain(plain: deque[tuple[int, bool]], count: int, bos: int) -> list[tuple[int, bool]]:
    """Return at most `count` pairs off the stream, a `bos` first."""
    taken: list[tuple[int, bool]] = []
    if plain and plain[0] != (bos, False):
        taken.append((bos, False))
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
    fill-in-the-middle marks, whose positions are the transform's choice and not the text's.
    """
    rng = random.Random(f"{seed}/{context}/{epoch}")
    filled, plain = _sequences(documents, tokenizer, roles, context, rng)
    marks = {roles.fim.prefix, roles.fim.suffix, roles.fim.middle}
    rows: list[list[tuple[int, bool]]] = []
    while filled or plain:
        parts: list[list[tuple[int, bool]]] = []
        room = context + 1
        while filled and len(filled[-1]) + 1 <= room:
            chunk = [(token, token not in marks) for token in filled.pop()]
            parts.append([(roles.bos, False), *chunk])
            room -= len(parts[-1])
            if len(plain) > room:
                break
        if plain and room >= min(MIN_ROOM, context):
            parts.append(_take_plain(plain, room, roles.bos))
            if rng.random() < 0.5:
                parts.reverse()
        row = [pair for part in parts for pair in part]
        rows.append(row + [(roles.pad, False)] * (context + 1 - len(row)))
    rng.shuffle(rows)
    tokens = np.array([[token for token, _ in row] for row in rows], dtype=np.int64)
    scored = np.array([[flag for _, flag in row] for row in rows], dtype=np.bool_)
    targets = np.where(scored[:, 1:], tokens[:, 1:], IGNORED)
    return Windows(inputs=tokens[:, :-1].copy(), targets=targets)
