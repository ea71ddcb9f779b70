"""Scaffold tokens: made on the way to longer tokens, and seldom left standing.

In a BPE, every merged token is made of two others. A token may be made very often and yet hardly
ever be what the encoding ends with, because a longer token takes it up: it holds a row of the model
and learns nothing. PickyBPE (Chizhov et al., arXiv:2409.04599) deletes such tokens in training by
*intersection over self*: the share of a token's occurrences that a merge takes up. Here the
question is put to a finished tokenizer, over all its merges together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.tokenizer import Tokenizer

__all__ = ["Scaffold", "Scaffolds", "find_scaffolds", "merge_parts", "times_made"]

KEPT = 0.1  # of ten occurrences, nine are taken up
LEAST = 100  # how often a token must be made before its share says anything
EXAMPLES = 24


@dataclass(frozen=True)
class Scaffold:
    """A token that longer ones take up.

    Attributes:
        id: Its id.
        token: Its bytes.
        made: How often it is made while the texts are encoded; see :func:`times_made`.
        left: How often it is a token of the encoding.
    """

    id: int
    token: bytes
    made: int
    left: int

    @property
    def kept(self) -> float:
        """The share of its occurrences that are left in the encoding."""
        return self.left / self.made


@dataclass(frozen=True)
class Scaffolds:
    """The scaffold tokens of a tokenizer on some texts.

    Attributes:
        count: How many there are.
        judged: How many merged tokens were made often enough to be judged.
        least: How often that is.
        share: A token is one when at most this share of its occurrences is left.
        examples: Those made most often, most often first.
    """

    count: int
    judged: int
    least: int
    share: float
    examples: tuple[Scaffold, ...]


def merge_parts(tokenizer: Tokenizer) -> NDArray[np.int64] | None:
    """Return the two tokens that every token is merged from, int64[V, 2]; None without merges.

    A token that several merges make has the parts of the merge with the lowest rank, one that no
    merge makes has -1. Only BPE tokenizers have merges; a tokenizer that no `tokenizer.json` can
    express is treated as one without.
    """
    if tokenizer.model_type != "BPE":
        return None
    try:
        model = json.loads(tokenizer.to_json())["model"]
    except errors.UnsupportedTokenizer:
        return None
    ids: dict[str, int] = model["vocab"]
    prefix = model.get("continuing_subword_prefix") or ""
    parts = np.full((len(tokenizer.vocabulary), 2), -1, dtype=np.int64)
    for merge in model["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        id = ids.get(left + right.removeprefix(prefix))
        if id is not None and parts[id, 0] < 0:
            parts[id] = ids[left], ids[right]
    return parts


def times_made(
    counts: NDArray[np.int64], parts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how often every token is made when each token is merged from its parts, int64[V].

    A token is made once for every time it is in the encoding, and once for every time it is a part
    of a token that is made. This follows the merges of the finished tokens, not the steps of the
    encoder: pieces that were merged and whose text then went another way are not seen (merges never
    go back, so in a BPE without look-ahead there are none), and a tokenizer that takes whole words
    from its vocabulary (`ignore_merges`) makes no parts, though it was trained with them.

    Args:
        counts: How often each id is in the encoding, int64[V].
        parts: As :func:`merge_parts` gives them, int64[V, 2].
        sizes: Length of each token in bytes, int64[V]. Parts are shorter than what they make.
    """
    made = counts.astype(np.int64)
    merged = np.flatnonzero(parts[:, 0] >= 0)
    longest_first = merged[np.argsort(-sizes[merged], kind="stable")]
    # All tokens of a length at once: none of them is a part of another.
    edges = np.flatnonzero(np.diff(sizes[longest_first])) + 1
    for same in np.split(longest_first, edges):
        for side in (0, 1):
            part = parts[same, side]
            shorter = sizes[part] < sizes[same]
            np.add.at(made, part[shorter], made[same[shorter]])
    return made


def find_scaffolds(
    tokenizer: Tokenizer, counts: NDArray[np.int64], *, least: int = LEAST, share: float = KEPT
) -> Scaffolds | None:
    """Return the scaffold tokens of a tokenizer; None for one that has no merges.

    A token is one when it is merged from others, is made at least `least` times, and at most
    `share` of these are left. Single bytes and characters, which every text needs, are never.

    Args:
        tokenizer: The tokenizer.
        counts: How often each id is in an encoding of texts, int64[V].
        least: Tokens made less often are not judged.
        share: From 0 to 1.
    """
    parts = merge_parts(tokenizer)
    if parts is None:
        return None
    vocabulary = tokenizer.vocabulary
    made = times_made(counts, parts, vocabulary.lengths())
    judged = (parts[:, 0] >= 0) & (made >= least)
    found = np.flatnonzero(judged & (counts <= share * made))
    first = found[np.lexsort((found, -made[found]))][:EXAMPLES].tolist()
    return Scaffolds(
        count=len(found),
        judged=int(judged.sum()),
        least=least,
        share=share,
        examples=tuple(
            Scaffold(id, vocabulary.token_bytes(id) or b"", int(made[id]), int(counts[id]))
            for id in first
        ),
    )
