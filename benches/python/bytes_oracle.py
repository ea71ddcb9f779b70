"""Canonical next-byte distributions by their definition: every token, encoded again with the rest.

The judge of the byte-level bench where two tools disagree. It knows nothing of merges, patterns or
streams: it asks the tokenizers library to encode texts, and a model for the probabilities of ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

# What may come behind a token, so that it stands in the encoding of some text: nothing, a letter, a
# capital, a digit, punctuation, white space, and letters that make up contractions.
ENDINGS = ("", "a", "A", "1", ".", " ", "\n", " a", "  a", "\na", "é", "s", "re", "ll", "...")
CONTINUATIONS = tuple(bytes([byte]) for byte in range(0x80, 0xC0))


class Oracle:
    """Canonical distributions of one tokenizer under one model.

    Args:
        folder: Where the tokenizer is.
        tokens: The bytes of every token of text.
        logprobs: The model's log-probabilities behind a context, float64[rows].
    """

    def __init__(self, folder: Path, tokens: Sequence[bytes], logprobs: Any) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokens = tokens
        self._logprobs = cache(logprobs)
        self._longest = max(map(len, tokens))

    def row(self, text: bytes, first: int) -> Any:
        """Return the next byte's distribution, float64[256]: END is left out, the rest sums to 1.

        A token may lie over the end of `text` where some longer text, of those tried, is encoded
        with it there. Texts are UTF-8: bytes that cannot follow in UTF-8 have probability 0.
        """
        masses = np.zeros(256)
        for at in range(max(0, len(text) - self._longest), len(text) + 1):
            rest = text[at:]
            over = [
                id
                for id, token in enumerate(self._tokens)
                if len(token) > len(rest) and token.startswith(rest)
            ]
            found = self._contexts(text[:at], over)
            for context, ids in found.items():
                weight = self._weight((first, *context))
                row = np.exp(weight + self._logprobs((first, *context)))
                for id in ids:
                    masses[self._tokens[id][len(rest)]] += row[id]
        return masses / masses.sum()

    def _weight(self, context: tuple[int, ...]) -> float:
        return float(sum(self._logprobs(context[:i])[context[i]] for i in range(1, len(context))))

    def _contexts(self, before: bytes, over: list[int]) -> dict[tuple[int, ...], list[int]]:
        """Return the tokens that stand behind `before` in some encoding, by the tokens before."""
        found: dict[tuple[int, ...], list[int]] = {}
        left = {id: _texts(before + self._tokens[id]) for id in over}
        while left:
            asked = {id: text for id, texts in left.items() if (text := next(texts, None))}
            encodings = self._tokenizer.encode_batch_fast(
                list(asked.values()), add_special_tokens=False
            )
            for id in left.keys() - asked.keys():
                del left[id]
            for id, encoding in zip(asked, encodings, strict=True):
                context = self._stands(encoding.ids, id, len(before))
                if context is not None:
                    found.setdefault(context, []).append(id)
                    del left[id]
        return found

    def _stands(self, ids: list[int], id: int, at: int) -> tuple[int, ...] | None:
        """Return the ids before `id` if it begins `at` bytes into an encoding."""
        length = 0
        for place, one in enumerate(ids):
            if length >= at:
                return tuple(ids[:place]) if length == at and one == id else None
            length += len(self._tokens[one])
        return None


def _texts(data: bytes) -> Iterator[str]:
    """Yield texts that begin with `data`; none where it is not UTF-8.

    Where it breaks off in a character, the texts end with each of up to 64 characters; else with
    each of the endings.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return
    else:
        yield from (text + ending for ending in ENDINGS)
        return
    for first in CONTINUATIONS:
        for rest in range(3):
            try:
                yield (data + first + b"\x80" * rest).decode()
            except UnicodeDecodeError:
                continue
