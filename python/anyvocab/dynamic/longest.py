"""Longest-prefix encoding with a tokenizer's tokens, inside its pretokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anyvocab.tokenizer import Text, Tokenizer, _bytes

__all__ = ["LongestPrefix"]


class LongestPrefix:
    """Encodes by taking the longest token that the rest of a pretoken begins with, again and again.

    This is not BPE, and in general not the canonical encoding. Special and added tokens are found
    first, as the tokenizer finds them; the text between them is cut into its pretokens. It is how
    Feher et al. (arXiv:2411.18553, section 3.3) encode with a vocabulary of a million.

    O(n · m) time for n bytes and tokens of m bytes at most, in the core's trie.

    Args:
        tokenizer: A byte-level tokenizer with a token for every byte.

    >>> import anyvocab as av
    >>> tok = av.Tokenizer.load("pico:code-4k")
    >>> longest = LongestPrefix(tok)
    >>> tok.decode(longest.encode("def tokenize(x):"))
    b'def tokenize(x):'
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        vocabulary = tokenizer.vocabulary
        data, offsets = vocabulary.table()
        ends = offsets.tolist()
        tokens: dict[bytes, int] = {}
        for id in vocabulary.ids_of_kind("text").tolist():
            tokens.setdefault(data[ends[id] : ends[id + 1]], id)
        tokens.pop(b"", None)
        # The trie's own format has no id 0.
        lines = "".join(f"{id + 1} {token!r} {len(token)}\n" for token, id in tokens.items())
        self._trie = Tokenizer.load(lines.encode("ascii"))
        found = np.zeros(len(vocabulary), dtype=np.bool_)
        for kind in ("control", "added", "unused"):
            found[vocabulary.ids_of_kind(kind)] = True
        self._apart = found

    def encode(self, text: Text) -> NDArray[np.uint32]:
        """Return the ids of a text, uint32[n]; special tokens in it are those tokens."""
        data = _bytes(text)
        canonical = self.tokenizer.encode_with_offsets(data)
        apart = self._apart[canonical.ids]
        if not apart.any():
            return self._inside(data)
        parts: list[NDArray[np.uint32]] = []
        at = 0
        for place in np.flatnonzero(apart).tolist():
            start, end = canonical.offsets[place].tolist()
            parts += [self._inside(data[at:start]), canonical.ids[place : place + 1]]
            at = end
        return np.concatenate([*parts, self._inside(data[at:])])

    def _inside(self, text: bytes) -> NDArray[np.uint32]:
        """Return the ids of a text without special tokens."""
        pretokens = self.tokenizer.pretokenize(text)
        ids = self._trie.encode_batch(pretokens, specials="text", threads=1).ids - np.uint32(1)
        return ids.astype(np.uint32)
