"""The published algorithm of dynamic tokenization, as an oracle for tests and benches.

Written from the description of the program that Feher et al. 2024 (arXiv:2411.18553) published,
what it gets wrong included: tokens are strings of GPT-2's byte alphabet, every merge counts all
pairs again, and a pair is judged by its decoded text alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from anyvocab.testing import byte_alphabet

__all__ = ["Merged", "as_string", "first_merges", "merge", "validity"]

_BLANKS = frozenset("ĠĊĉ")  # space, line feed, tab
_BYTE_OF = {character: byte for byte, character in enumerate(byte_alphabet())}
_CHARACTER_OF = byte_alphabet()

Validity = Callable[[str, str], bool]


class Merged(NamedTuple):
    """What merging gives.

    Attributes:
        texts: The tokens of each text.
        merges: Left, right and occurrences of each merge.
    """

    texts: list[list[str]]
    merges: list[tuple[str, str, int]]


def as_string(token: bytes) -> str:
    """Return a token in GPT-2's byte alphabet."""
    return "".join(_CHARACTER_OF[byte] for byte in token)


def first_merges(tokenizer_json: bytes, merges: int) -> bytes:
    """Return a byte-level BPE with its first merges alone: a vocabulary that over-segments.

    Args:
        tokenizer_json: Its file; tokens are numbered in the order of their merges, behind 256
            bytes, as GPT-2's are. Its added tokens are left out.
        merges: How many to keep.
    """
    document = json.loads(tokenizer_json)
    model = document["model"]
    model["merges"] = model["merges"][:merges]
    model["vocab"] = {token: id for token, id in model["vocab"].items() if id < 256 + merges}
    return json.dumps(document | {"added_tokens": []}).encode()


def validity(
    boundary: Literal["pretokens", "word", "sentence"],
    *,
    special: Collection[str] = (),
    pretokens: Callable[[str], int] = lambda _: 1,
) -> Validity:
    """Return the test whether a pair may merge; answers are remembered.

    Args:
        boundary: The published boundary of that name.
        special: Special tokens; the boundary `"pretokens"` does not ask about them.
        pretokens: How many pretokens a text has, by the tokenizer's own pre-tokenizer.
    """
    known: dict[tuple[str, str], bool] = {}

    def judge(left: str, right: str) -> bool:
        joint = left + right
        if _BLANKS.intersection(joint[1:]) and (not _BLANKS.issuperset(joint) or joint == "ĊĊ"):
            return False
        try:
            text = bytes(_BYTE_OF[character] for character in joint).decode()
        except UnicodeDecodeError:
            return True
        if boundary == "pretokens":
            return pretokens(text) == 1
        if left in special or right in special:
            return False
        return boundary == "sentence" or len(text.split()) == 1

    def is_valid(left: str, right: str) -> bool:
        answer = known.get((left, right))
        if answer is None:
            answer = known[left, right] = judge(left, right)
        return answer

    return is_valid


def merge(
    texts: Sequence[Sequence[str]], is_valid: Validity, max_merges: int | None = None
) -> Merged:
    """Return the tokens of texts after merging.

    Args:
        texts: The tokens of each text, in GPT-2's byte alphabet.
        is_valid: Whether a pair may merge.
        max_merges: Most merges; without it all are made.
    """
    merged = [list(tokens) for tokens in texts]
    merges: list[tuple[str, str, int]] = []
    while max_merges is None or len(merges) < max_merges:
        counts: dict[tuple[str, str], int] = {}
        for tokens in merged:
            for pair in pairwise(tokens):
                if is_valid(*pair):
                    counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = max(counts, key=counts.__getitem__)  # among equals the one that was seen first
        merged = [_replace(tokens, *best) for tokens in merged]
        merges.append((*best, counts[best]))
    return Merged(merged, merges)


def _replace(tokens: list[str], left: str, right: str) -> list[str]:
    kept: list[str] = []
    at = 0
    while at < len(tokens):
        if tokens[at] == left and at + 1 < len(tokens) and tokens[at + 1] == right:
            kept.append(left + right)
            at += 2
        else:
            kept.append(tokens[at])
            at += 1
    return kept
