"""Dynamic tokenization: tokens that a batch decides by what it repeats.

>>> import anyvocab as av
>>> dyn = av.DynamicTokenizer(av.Tokenizer.load("pico:code-4k"))
>>> batch = dyn.merge(["the tokenizer tokenizes", "a tokenizer"], max_merges=3)
>>> batch.reduction > 0
True

Nothing here needs torch. A name is imported from its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyvocab.dynamic.batch import DynamicBatch as DynamicBatch
    from anyvocab.dynamic.batch import Merge as Merge
    from anyvocab.dynamic.batch import Merges as Merges
    from anyvocab.dynamic.batch import NewTokens as NewTokens
    from anyvocab.dynamic.lzw import Lzw as Lzw
    from anyvocab.dynamic.lzw import LzwCodes as LzwCodes
    from anyvocab.dynamic.lzw import LzwDecoder as LzwDecoder
    from anyvocab.dynamic.lzw import LzwEncoder as LzwEncoder
    from anyvocab.dynamic.tokenizer import BaseBatch as BaseBatch
    from anyvocab.dynamic.tokenizer import DynamicTokenizer as DynamicTokenizer

_MODULE_OF = {
    "BaseBatch": "anyvocab.dynamic.tokenizer",
    "DynamicBatch": "anyvocab.dynamic.batch",
    "DynamicTokenizer": "anyvocab.dynamic.tokenizer",
    "Lzw": "anyvocab.dynamic.lzw",
    "LzwCodes": "anyvocab.dynamic.lzw",
    "LzwDecoder": "anyvocab.dynamic.lzw",
    "LzwEncoder": "anyvocab.dynamic.lzw",
    "Merge": "anyvocab.dynamic.batch",
    "Merges": "anyvocab.dynamic.batch",
    "NewTokens": "anyvocab.dynamic.batch",
}

__all__ = [
    "BaseBatch",
    "DynamicBatch",
    "DynamicTokenizer",
    "Lzw",
    "LzwCodes",
    "LzwDecoder",
    "LzwEncoder",
    "Merge",
    "Merges",
    "NewTokens",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'anyvocab.dynamic' has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value  # found once: the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
