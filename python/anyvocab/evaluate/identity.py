"""Which tokens two vocabularies share: by their bytes, never by spelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anyvocab.vocabulary import Vocabulary

__all__ = ["new_ids", "shared_ids"]


def new_ids(target: Vocabulary, source: Vocabulary) -> NDArray[np.uint32]:
    """Return the ids of `target` whose bytes are no token of `source`, ascending.

    Ids that stand for no bytes (control and unused tokens, holes) are not among them.
    """
    known = {token for _, token in source._tokens()}
    found = [id for id, token in target._tokens() if token not in known]
    return np.array(found, dtype=np.uint32)


def shared_ids(source: Vocabulary, target: Vocabulary) -> dict[int, int]:
    """Return the `source` ids whose bytes are a token of `target`, each with that token's id.

    Where several ids of `target` have the bytes, the preferred one is given.
    """
    shared = {}
    for id, token in source._tokens():
        same = target.ids_of(token)
        if len(same):
            shared[id] = int(same[0])
    return shared
