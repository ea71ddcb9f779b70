"""How many bytes a token stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyvocab import errors
from anyvocab.tokenizer import Text, Tokenizer, _bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Compression", "compression"]


@dataclass(frozen=True, eq=False)
class Compression:
    """Texts and the tokens they became.

    Attributes:
        bytes: The length of all texts, in bytes.
        tokens: The number of all tokens, without what a post-processor adds.
        text_bytes: The length of each text, int64[n].
        text_tokens: The number of tokens of each text, int64[n].
    """

    bytes: int
    tokens: int
    text_bytes: NDArray[np.int64]
    text_tokens: NDArray[np.int64]

    @property
    def bytes_per_token(self) -> float:
        """Total bytes over total tokens; not the mean of the texts' ratios."""
        return self.bytes / self.tokens


def compression(tokenizer: object, texts: Iterable[Text]) -> Compression:
    """Return how many bytes a token of `tokenizer` stands for on `texts`.

    Args:
        tokenizer: Anything :meth:`anyvocab.Tokenizer.load` takes.
        texts: Texts; empty ones count nothing.

    Raises:
        InvalidValue: There is no token to count.
        AnyvocabError: The tokenizer cannot be loaded.

    >>> import anyvocab as av
    >>> av.compression("pico:code-4k", ["def f(x): return x"]).bytes
    18
    """
    import numpy as np

    if isinstance(texts, str | bytes | bytearray | memoryview):
        raise TypeError("texts must be several texts; for one, give [text]")
    loaded = Tokenizer.load(tokenizer)
    data = [_bytes(text) for text in texts]
    sizes = np.array([len(text) for text in data], dtype=np.int64)
    counts = np.array([loaded.count(text) for text in data], dtype=np.int64)
    if not counts.sum():
        raise errors.build(errors.InvalidValue, "there is no token to count", field="texts")
    return Compression(int(sizes.sum()), int(counts.sum()), sizes, counts)
