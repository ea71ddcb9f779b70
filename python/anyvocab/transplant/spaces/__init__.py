"""Auxiliary spaces: where a target token has neighbours among source tokens.

- `corpus`: by the company tokens keep and by their spelling; needs texts and nothing else.
- `spelling`: by their spelling alone; needs nothing.
- `encoder`: by a text encoder's vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from anyvocab import errors
from anyvocab.transplant.spaces.corpus import CorpusSpace, Focus
from anyvocab.transplant.spaces.encoder import CachedEncoder, load_encoder
from anyvocab.transplant.spaces.exact import snap
from anyvocab.transplant.spaces.spelling import spelling_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.transplant.context import Context
    from anyvocab.transplant.plan import Side
    from anyvocab.transplant.strategies import Need

__all__ = [
    "Space",
    "SpaceName",
    "check_space",
    "corpus_space",
    "encoded",
    "encoder_of",
    "known_sources",
    "load_encoder",
    "needs_of_space",
    "space_of",
]

SpaceName = Literal["corpus", "spelling", "encoder"]
SPELLING_WIDTH = 128


class Space(Protocol):
    """Vectors of source and target tokens, in the steps of :mod:`anyvocab.transplant.spaces.exact`.

    A row of zeros means that nothing is known of a token.
    """

    def source(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        """Return the vectors of source ids, (n, E)."""
        ...

    def target(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        """Return the vectors of target ids, (n, E)."""
        ...


def check_space(name: str) -> None:
    """Refuse a name that is no space.

    Raises:
        InvalidValue: It is none.
    """
    if name not in get_args(SpaceName):
        raise errors.build(
            errors.InvalidValue,
            f"{name!r} is no space",
            field="space",
            fix=f"spaces are {', '.join(get_args(SpaceName))}",
        )


def needs_of_space(strategy: Any) -> tuple[Need, ...]:
    """Return what the space of a strategy needs of a context."""
    needs: dict[str, tuple[Need, ...]] = {
        "corpus": ("corpus",),
        "encoder": ("encoder",),
        "spelling": (),
    }
    return needs[strategy.space]


def space_of(context: Context, side: Side, name: SpaceName) -> Space:
    """Return a space for the rows of one side; what is expensive is kept on the context.

    Raises:
        InvalidValue: The context lacks the corpus or the encoder.
    """
    if name == "corpus":
        return _Sided(corpus_space(context), "tied" if context.tied else side)
    if name == "encoder":
        return _Encoded(context, encoder_of(context))
    return _Spelled(len(context.source_tokens), _kept(context, "spelling", _spelled))


def corpus_space(context: Context) -> CorpusSpace:
    """Return the built-in space of a context's corpus, made once.

    Raises:
        InvalidValue: There is no corpus.
    """
    if not any(context.corpus):
        raise errors.build(
            errors.InvalidValue,
            "there is none, and the space of this strategy is made from one",
            field="corpus",
            fix='give text files of the model\'s use with --corpus, or set space="spelling"',
        )
    found: CorpusSpace = _kept(context, "corpus", _corpus)
    return found


def known_sources(context: Context) -> NDArray[np.int64]:
    """Return the source ids that rows may be made of: one for each byte string, held out none.

    A token of the vocabulary goes before its byte-fallback twin, then the lower id first.
    """
    kinds, byte = context.source.vocabulary.kinds(), context.source.vocabulary.kind_code("byte")
    hidden = {context.target_tokens[int(id)] for id in context.held_out}
    best: dict[bytes, int] = {}
    for id, token in enumerate(context.source_tokens[: context.source_rows]):
        if token and token not in hidden:
            held = best.setdefault(token, id)
            if kinds[held] == byte and kinds[id] != byte:
                best[token] = id
    return np.array(sorted(best.values()), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Sided:
    space: CorpusSpace
    focus: Focus

    def source(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        return self.space.source(ids, self.focus)

    def target(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        return self.space.target(ids, self.focus)


@dataclass(frozen=True, eq=False)
class _Spelled:
    sources: int
    vectors: NDArray[np.float32]

    def source(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        return snap(self.vectors[np.asarray(ids, dtype=np.int64)])

    def target(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        return snap(self.vectors[np.asarray(ids, dtype=np.int64) + self.sources])


@dataclass(frozen=True, eq=False)
class _Encoded:
    context: Context
    encoder: CachedEncoder

    def source(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        return self._vectors([self.context.source_tokens[int(id)] or b"" for id in ids])

    def target(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        return self._vectors([self.context.target_tokens[int(id)] or b"" for id in ids])

    def _vectors(self, keys: list[bytes]) -> NDArray[np.floating[Any]]:
        return encoded(self.encoder, keys)


def encoded(encoder: CachedEncoder, keys: list[bytes]) -> NDArray[np.floating[Any]]:
    """Return the vectors of byte strings in float64's steps; zero for empty ones."""
    shown = [i for i, key in enumerate(keys) if key]
    vectors = encoder([keys[i] for i in shown])
    rows = np.zeros((len(keys), vectors.shape[1]), dtype=np.float32)
    rows[shown] = vectors
    return snap(rows, precision="float64")


def _kept(context: Context, name: str, make: Callable[[Context], Any]) -> Any:
    """Return what was made of the same tokenizers, corpus and encoder before, or make it."""
    made_of = (context.source, context.target, context.corpus, context.encoder)
    held = context.shared.get(name)
    if held is None or any(old is not new for old, new in zip(held[0], made_of, strict=True)):
        held = context.shared[name] = (made_of, make(context))
    return held[1]


def encoder_of(context: Context) -> CachedEncoder:
    """Return a context's encoder, which then is asked for every byte string once.

    Raises:
        InvalidValue: There is none.
    """
    if context.encoder is None:
        raise errors.build(
            errors.InvalidValue,
            "there is none, and the space of this strategy is made by one",
            field="encoder",
            fix='give an encoder folder, or set space="corpus"',
        )
    if isinstance(context.encoder, CachedEncoder):
        return context.encoder
    given = context.encoder
    found: CachedEncoder = _kept(context, "encoder", lambda _: CachedEncoder(given))
    return found


def _corpus(context: Context) -> CorpusSpace:
    return CorpusSpace.of(
        context.source,
        context.target,
        (context.source_tokens, context.target_tokens),
        context.corpus,
        progress=context.progress,
    )


def _spelled(context: Context) -> NDArray[np.float32]:
    return spelling_vectors([*context.source_tokens, *context.target_tokens], SPELLING_WIDTH)
