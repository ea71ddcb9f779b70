"""Dynamic tokenization: tokens that a batch decides by what it repeats.

>>> import anyvocab as av
>>> dyn = av.DynamicTokenizer(av.Tokenizer.load("pico:code-4k"))
>>> batch = dyn.merge(["the tokenizer tokenizes", "a tokenizer"], max_merges=3)
>>> batch.reduction > 0
True

Merging needs no torch; models and the rows of new tokens do. A name is imported from its module
when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyvocab.dynamic.base import BaseBatch as BaseBatch
    from anyvocab.dynamic.batch import DynamicBatch as DynamicBatch
    from anyvocab.dynamic.batch import Merge as Merge
    from anyvocab.dynamic.batch import Merges as Merges
    from anyvocab.dynamic.batch import NewTokens as NewTokens
    from anyvocab.dynamic.embed import DynamicInputs as DynamicInputs
    from anyvocab.dynamic.embed import Embedder as Embedder
    from anyvocab.dynamic.lzw import Lzw as Lzw
    from anyvocab.dynamic.lzw import LzwCodes as LzwCodes
    from anyvocab.dynamic.lzw import LzwDecoder as LzwDecoder
    from anyvocab.dynamic.lzw import LzwEncoder as LzwEncoder
    from anyvocab.dynamic.model import DynamicModel as DynamicModel
    from anyvocab.dynamic.model import DynamicOutput as DynamicOutput
    from anyvocab.dynamic.rows import HypernetRows as HypernetRows
    from anyvocab.dynamic.rows import MeanRows as MeanRows
    from anyvocab.dynamic.rows import RowCache as RowCache
    from anyvocab.dynamic.rows import RowMaker as RowMaker
    from anyvocab.dynamic.stops import Stops as Stops
    from anyvocab.dynamic.tokenizer import DynamicTokenizer as DynamicTokenizer

_MODULE_OF = {
    "BaseBatch": "anyvocab.dynamic.base",
    "DynamicBatch": "anyvocab.dynamic.batch",
    "DynamicInputs": "anyvocab.dynamic.embed",
    "DynamicModel": "anyvocab.dynamic.model",
    "DynamicOutput": "anyvocab.dynamic.model",
    "DynamicTokenizer": "anyvocab.dynamic.tokenizer",
    "Embedder": "anyvocab.dynamic.embed",
    "HypernetRows": "anyvocab.dynamic.rows",
    "Lzw": "anyvocab.dynamic.lzw",
    "LzwCodes": "anyvocab.dynamic.lzw",
    "LzwDecoder": "anyvocab.dynamic.lzw",
    "LzwEncoder": "anyvocab.dynamic.lzw",
    "MeanRows": "anyvocab.dynamic.rows",
    "Merge": "anyvocab.dynamic.batch",
    "Merges": "anyvocab.dynamic.batch",
    "NewTokens": "anyvocab.dynamic.batch",
    "RowCache": "anyvocab.dynamic.rows",
    "RowMaker": "anyvocab.dynamic.rows",
    "Stops": "anyvocab.dynamic.stops",
}

__all__ = [
    "BaseBatch",
    "DynamicBatch",
    "DynamicInputs",
    "DynamicModel",
    "DynamicOutput",
    "DynamicTokenizer",
    "Embedder",
    "HypernetRows",
    "Lzw",
    "LzwCodes",
    "LzwDecoder",
    "LzwEncoder",
    "MeanRows",
    "Merge",
    "Merges",
    "NewTokens",
    "RowCache",
    "RowMaker",
    "Stops",
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
