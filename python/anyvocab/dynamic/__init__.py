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
    from anyvocab.dynamic.adapt import AdaptOptions as AdaptOptions
    from anyvocab.dynamic.adapt import AdaptReport as AdaptReport
    from anyvocab.dynamic.adapt import MergeRates as MergeRates
    from anyvocab.dynamic.base import BaseBatch as BaseBatch
    from anyvocab.dynamic.batch import DynamicBatch as DynamicBatch
    from anyvocab.dynamic.batch import Merge as Merge
    from anyvocab.dynamic.batch import Merges as Merges
    from anyvocab.dynamic.batch import NewTokens as NewTokens
    from anyvocab.dynamic.embed import DynamicInputs as DynamicInputs
    from anyvocab.dynamic.embed import Embedder as Embedder
    from anyvocab.dynamic.faiss_search import FaissSearch as FaissSearch
    from anyvocab.dynamic.generate import Generated as Generated
    from anyvocab.dynamic.generate import GeneratedBatch as GeneratedBatch
    from anyvocab.dynamic.growing import GrowReport as GrowReport
    from anyvocab.dynamic.growing import grow as grow
    from anyvocab.dynamic.grown import GrownVocabulary as GrownVocabulary
    from anyvocab.dynamic.judge import Judgement as Judgement
    from anyvocab.dynamic.labels import LabelledSpan as LabelledSpan
    from anyvocab.dynamic.labels import TokenLabels as TokenLabels
    from anyvocab.dynamic.large import LargeVocabularyLM as LargeVocabularyLM
    from anyvocab.dynamic.large_steps import Generation as Generation
    from anyvocab.dynamic.large_steps import Step as Step
    from anyvocab.dynamic.longest import LongestPrefix as LongestPrefix
    from anyvocab.dynamic.lzw import Lzw as Lzw
    from anyvocab.dynamic.lzw import LzwCodes as LzwCodes
    from anyvocab.dynamic.lzw import LzwDecoder as LzwDecoder
    from anyvocab.dynamic.lzw import LzwEncoder as LzwEncoder
    from anyvocab.dynamic.model import DynamicModel as DynamicModel
    from anyvocab.dynamic.model import DynamicOutput as DynamicOutput
    from anyvocab.dynamic.output_rows import OutputRows as OutputRows
    from anyvocab.dynamic.rows import HypernetRows as HypernetRows
    from anyvocab.dynamic.rows import MeanRows as MeanRows
    from anyvocab.dynamic.rows import RowCache as RowCache
    from anyvocab.dynamic.rows import RowMaker as RowMaker
    from anyvocab.dynamic.scoring import PrefixScores as PrefixScores
    from anyvocab.dynamic.search import BlockedSearch as BlockedSearch
    from anyvocab.dynamic.search import Found as Found
    from anyvocab.dynamic.search import RowSearch as RowSearch
    from anyvocab.dynamic.search import recall as recall
    from anyvocab.dynamic.stops import Stops as Stops
    from anyvocab.dynamic.task import Examples as Examples
    from anyvocab.dynamic.task import RateScore as RateScore
    from anyvocab.dynamic.tokenizer import DynamicTokenizer as DynamicTokenizer

_MODULE_OF = {
    "AdaptOptions": "anyvocab.dynamic.adapt",
    "AdaptReport": "anyvocab.dynamic.adapt",
    "BaseBatch": "anyvocab.dynamic.base",
    "BlockedSearch": "anyvocab.dynamic.search",
    "DynamicBatch": "anyvocab.dynamic.batch",
    "DynamicInputs": "anyvocab.dynamic.embed",
    "DynamicModel": "anyvocab.dynamic.model",
    "DynamicOutput": "anyvocab.dynamic.model",
    "DynamicTokenizer": "anyvocab.dynamic.tokenizer",
    "Embedder": "anyvocab.dynamic.embed",
    "Examples": "anyvocab.dynamic.task",
    "FaissSearch": "anyvocab.dynamic.faiss_search",
    "Found": "anyvocab.dynamic.search",
    "Generated": "anyvocab.dynamic.generate",
    "GeneratedBatch": "anyvocab.dynamic.generate",
    "Generation": "anyvocab.dynamic.large_steps",
    "GrowReport": "anyvocab.dynamic.growing",
    "GrownVocabulary": "anyvocab.dynamic.grown",
    "HypernetRows": "anyvocab.dynamic.rows",
    "Judgement": "anyvocab.dynamic.judge",
    "LabelledSpan": "anyvocab.dynamic.labels",
    "LargeVocabularyLM": "anyvocab.dynamic.large",
    "LongestPrefix": "anyvocab.dynamic.longest",
    "Lzw": "anyvocab.dynamic.lzw",
    "LzwCodes": "anyvocab.dynamic.lzw",
    "LzwDecoder": "anyvocab.dynamic.lzw",
    "LzwEncoder": "anyvocab.dynamic.lzw",
    "MeanRows": "anyvocab.dynamic.rows",
    "Merge": "anyvocab.dynamic.batch",
    "MergeRates": "anyvocab.dynamic.adapt",
    "Merges": "anyvocab.dynamic.batch",
    "NewTokens": "anyvocab.dynamic.batch",
    "OutputRows": "anyvocab.dynamic.output_rows",
    "PrefixScores": "anyvocab.dynamic.scoring",
    "RateScore": "anyvocab.dynamic.task",
    "RowCache": "anyvocab.dynamic.rows",
    "RowMaker": "anyvocab.dynamic.rows",
    "RowSearch": "anyvocab.dynamic.search",
    "Step": "anyvocab.dynamic.large_steps",
    "Stops": "anyvocab.dynamic.stops",
    "TokenLabels": "anyvocab.dynamic.labels",
    "grow": "anyvocab.dynamic.growing",
    "recall": "anyvocab.dynamic.search",
}

__all__ = [
    "AdaptOptions",
    "AdaptReport",
    "BaseBatch",
    "BlockedSearch",
    "DynamicBatch",
    "DynamicInputs",
    "DynamicModel",
    "DynamicOutput",
    "DynamicTokenizer",
    "Embedder",
    "Examples",
    "FaissSearch",
    "Found",
    "Generated",
    "GeneratedBatch",
    "Generation",
    "GrowReport",
    "GrownVocabulary",
    "HypernetRows",
    "Judgement",
    "LabelledSpan",
    "LargeVocabularyLM",
    "LongestPrefix",
    "Lzw",
    "LzwCodes",
    "LzwDecoder",
    "LzwEncoder",
    "MeanRows",
    "Merge",
    "MergeRates",
    "Merges",
    "NewTokens",
    "OutputRows",
    "PrefixScores",
    "RateScore",
    "RowCache",
    "RowMaker",
    "RowSearch",
    "Step",
    "Stops",
    "TokenLabels",
    "grow",
    "recall",
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
