"""Hypertokens by LZW: a sequence of ids defines runs as it goes, and codes stand for them.

Source: zip2zip, arXiv:2506.01084. Unlike merging a batch this works online: a code depends only on
what came before it, so a model can read and write codes token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anyvocab import _core, errors
from anyvocab.tokenizer import Ids, Ragged, Tokenizer, _ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Lzw", "LzwCodes", "LzwDecoder", "LzwEncoder"]


@dataclass(frozen=True, eq=False)
class LzwCodes:
    """A sequence as codes.

    Attributes:
        codes: uint32[n]: ids, and codes from `first_code` on.
        codebook: The ids that code `first_code + k` stands for: row `k`.
    """

    codes: NDArray[np.uint32]
    codebook: Ragged


class LzwEncoder:
    """Turns ids into codes as they come. Not to be shared between threads.

    Made by :meth:`Lzw.encoder`.
    """

    def __init__(self, core: _core.LzwEncoder) -> None:
        self._core = core

    def push(self, ids: Ids) -> NDArray[np.uint32]:
        """Return the codes that are certain after these ids, uint32[k]; some ids may wait.

        Raises:
            InvalidValue: An id is a code; nothing is taken then.
        """
        return self._core.push(_ids(ids), False)

    def finish(self) -> NDArray[np.uint32]:
        """Return the codes of the ids that wait, uint32[0 or 1]; the codebook stays."""
        return self._core.push(np.zeros(0, dtype=np.uint32), True)

    @property
    def codebook(self) -> Ragged:
        """The ids of every code so far, a row each."""
        return Ragged(*self._core.codebook())


class LzwDecoder:
    """Turns codes into ids as they come. Not to be shared between threads.

    Made by :meth:`Lzw.decoder`. Codes may come from a model: one that is not defined yet is read as
    the run before it and that run's first id once more, or after a run of full length as that run
    again; at the start it stands for nothing. :attr:`faults` counts the codes that no encoder would
    have written.
    """

    def __init__(self, core: _core.LzwDecoder) -> None:
        self._core = core

    def push(self, codes: Ids) -> NDArray[np.uint32]:
        """Return the ids of these codes, uint32[k]."""
        return self._core.push(_ids(codes))

    @property
    def faults(self) -> int:
        """How many codes were not defined where they came."""
        return self._core.faults

    @property
    def codebook(self) -> Ragged:
        """The ids of every code so far, a row each. The last run may still wait for its last id."""
        return Ragged(*self._core.codebook())


@dataclass(frozen=True)
class Lzw:
    """What encoder and decoder agree on. Every sequence starts with an empty codebook.

    Attributes:
        first_code: The first code; all ids are below.
        capacity: Most codes of a sequence.
        max_pieces: Longest run of ids of one code.
        disabled: Ids that are in no run: special tokens.

    >>> lzw = Lzw(first_code=10)
    >>> lzw.encode([1, 2, 1, 2, 1, 2]).codes.tolist()
    [1, 2, 10, 10]
    >>> lzw.decode([1, 2, 10, 10]).tolist()
    [1, 2, 1, 2, 1, 2]
    """

    first_code: int
    capacity: int = 2048
    max_pieces: int = 3
    disabled: Sequence[int] = ()

    def __post_init__(self) -> None:
        for field, least in (("first_code", 0), ("capacity", 0), ("max_pieces", 1)):
            value = getattr(self, field)
            if not least <= value < 1 << 32:
                raise errors.build(
                    errors.InvalidValue,
                    f"must be {least} to 2^32 - 1, got {value}",
                    field=field,
                    fix="use a number in that range",
                )
        object.__setattr__(self, "disabled", tuple(_ids(list(self.disabled)).tolist()))
        self.decoder()  # refuses codes beyond 32 bits

    @classmethod
    def for_tokenizer(
        cls, tokenizer: Tokenizer, *, capacity: int = 2048, max_pieces: int = 3
    ) -> Lzw:
        """Return the rules for a tokenizer: codes above its ids, special and added ids in no run.

        >>> import anyvocab as av
        >>> Lzw.for_tokenizer(av.Tokenizer.load("pico:code-4k")).first_code
        4096
        """
        vocabulary = tokenizer.vocabulary
        apart = np.union1d(vocabulary.silent(), vocabulary.ids_of_kind("added"))
        return cls(len(vocabulary), capacity, max_pieces, tuple(apart.tolist()))

    def encoder(self) -> LzwEncoder:
        """Return an encoder at the start of a sequence."""
        rules = (self.first_code, self.capacity, self.max_pieces, list(self.disabled))
        return LzwEncoder(_core.LzwEncoder(*rules))

    def decoder(self) -> LzwDecoder:
        """Return a decoder at the start of a sequence."""
        rules = (self.first_code, self.capacity, self.max_pieces, list(self.disabled))
        return LzwDecoder(_core.LzwDecoder(*rules))

    def encode(self, ids: Ids) -> LzwCodes:
        """Return a whole sequence as codes; :meth:`decode` gives it back.

        Raises:
            InvalidValue: An id is a code.
        """
        encoder = self.encoder()
        return LzwCodes(np.concatenate([encoder.push(ids), encoder.finish()]), encoder.codebook)

    def decode(self, codes: Ids) -> NDArray[np.uint32]:
        """Return the ids of a whole sequence of codes, as :class:`LzwDecoder` reads them."""
        return self.decoder().push(codes)
