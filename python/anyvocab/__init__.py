"""Tokenizers as bytes: any tokenizer loaded exactly, encoded fast, compared and swapped.

>>> import anyvocab as av
>>> tok = av.Tokenizer.load("pico:code-4k")
>>> tok.decode(tok.encode("def f(x):"))
b'def f(x):'

Importing the package is cheap: a name is imported from its module when it is first used, and
neither torch nor transformers is imported before something needs a model.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyvocab._core import __version__ as __version__
    from anyvocab.bytelm import END as END
    from anyvocab.bytelm.completion import Completion as Completion
    from anyvocab.bytelm.context import Each as Each
    from anyvocab.bytelm.context import Ids as Ids
    from anyvocab.bytelm.ensemble import Ensemble as Ensemble
    from anyvocab.bytelm.infill import Infill as Infill
    from anyvocab.bytelm.infill import infill as infill
    from anyvocab.bytelm.lm import ByteLM as ByteLM
    from anyvocab.bytelm.state import ByteState as ByteState
    from anyvocab.dynamic.batch import DynamicBatch as DynamicBatch
    from anyvocab.dynamic.model import DynamicModel as DynamicModel
    from anyvocab.dynamic.tokenizer import DynamicTokenizer as DynamicTokenizer
    from anyvocab.errors import AnyvocabError as AnyvocabError
    from anyvocab.errors import InternalError as InternalError
    from anyvocab.errors import InvalidValue as InvalidValue
    from anyvocab.errors import LimitExceeded as LimitExceeded
    from anyvocab.errors import MissingExtra as MissingExtra
    from anyvocab.errors import NumericsError as NumericsError
    from anyvocab.errors import OutputExists as OutputExists
    from anyvocab.errors import SourceNotFound as SourceNotFound
    from anyvocab.errors import StorageError as StorageError
    from anyvocab.errors import TokenizerFormatError as TokenizerFormatError
    from anyvocab.errors import UnsupportedHypernet as UnsupportedHypernet
    from anyvocab.errors import UnsupportedTokenizer as UnsupportedTokenizer
    from anyvocab.errors import UnsupportedWeights as UnsupportedWeights
    from anyvocab.errors import VerificationFailed as VerificationFailed
    from anyvocab.errors import WeightsFormatError as WeightsFormatError
    from anyvocab.evaluate import BitsPerByte as BitsPerByte
    from anyvocab.evaluate import Compression as Compression
    from anyvocab.evaluate import Evaluation as Evaluation
    from anyvocab.evaluate import bits_per_byte as bits_per_byte
    from anyvocab.evaluate import compression as compression
    from anyvocab.evaluate import evaluate_models as evaluate_models
    from anyvocab.evaluate.tokenizers import TokenizerComparison as TokenizerComparison
    from anyvocab.evaluate.tokenizers import compare_tokenizers as compare_tokenizers
    from anyvocab.hypernet import Hypernet as Hypernet
    from anyvocab.roles import RoleRecord as RoleRecord
    from anyvocab.tokenizer import Encoding as Encoding
    from anyvocab.tokenizer import IncrementalEncoder as IncrementalEncoder
    from anyvocab.tokenizer import Ragged as Ragged
    from anyvocab.tokenizer import Tokenizer as Tokenizer
    from anyvocab.training.bpe import train as train
    from anyvocab.training.counting import CountReport as CountReport
    from anyvocab.training.counting import count as count
    from anyvocab.training.extend import extend as extend
    from anyvocab.training.shards import merge_shards as merge_shards
    from anyvocab.training.sweep import SweepReport as SweepReport
    from anyvocab.training.sweep import sweep as sweep
    from anyvocab.transplant.compare import Comparison as Comparison
    from anyvocab.transplant.compare import compare_strategies as compare_strategies
    from anyvocab.transplant.heal import HealReport as HealReport
    from anyvocab.transplant.heal import heal as heal
    from anyvocab.transplant.result import SwapReport as SwapReport
    from anyvocab.transplant.swap import swap as swap
    from anyvocab.vocabulary import Vocabulary as Vocabulary

_MODULE_OF = {
    "AnyvocabError": "anyvocab.errors",
    "BitsPerByte": "anyvocab.evaluate",
    "ByteLM": "anyvocab.bytelm.lm",
    "ByteState": "anyvocab.bytelm.state",
    "Comparison": "anyvocab.transplant.compare",
    "Completion": "anyvocab.bytelm.completion",
    "Compression": "anyvocab.evaluate",
    "DynamicBatch": "anyvocab.dynamic.batch",
    "DynamicModel": "anyvocab.dynamic.model",
    "DynamicTokenizer": "anyvocab.dynamic.tokenizer",
    "END": "anyvocab.bytelm",
    "CountReport": "anyvocab.training.counting",
    "Each": "anyvocab.bytelm.context",
    "Encoding": "anyvocab.tokenizer",
    "Ensemble": "anyvocab.bytelm.ensemble",
    "Evaluation": "anyvocab.evaluate",
    "HealReport": "anyvocab.transplant.heal",
    "Hypernet": "anyvocab.hypernet",
    "Ids": "anyvocab.bytelm.context",
    "IncrementalEncoder": "anyvocab.tokenizer",
    "Infill": "anyvocab.bytelm.infill",
    "InternalError": "anyvocab.errors",
    "InvalidValue": "anyvocab.errors",
    "LimitExceeded": "anyvocab.errors",
    "MissingExtra": "anyvocab.errors",
    "NumericsError": "anyvocab.errors",
    "OutputExists": "anyvocab.errors",
    "Ragged": "anyvocab.tokenizer",
    "RoleRecord": "anyvocab.roles",
    "SourceNotFound": "anyvocab.errors",
    "StorageError": "anyvocab.errors",
    "SwapReport": "anyvocab.transplant.result",
    "SweepReport": "anyvocab.training.sweep",
    "Tokenizer": "anyvocab.tokenizer",
    "TokenizerComparison": "anyvocab.evaluate.tokenizers",
    "TokenizerFormatError": "anyvocab.errors",
    "UnsupportedTokenizer": "anyvocab.errors",
    "UnsupportedHypernet": "anyvocab.errors",
    "UnsupportedWeights": "anyvocab.errors",
    "VerificationFailed": "anyvocab.errors",
    "Vocabulary": "anyvocab.vocabulary",
    "WeightsFormatError": "anyvocab.errors",
    "__version__": "anyvocab._core",
    "bits_per_byte": "anyvocab.evaluate",
    "compare_strategies": "anyvocab.transplant.compare",
    "compare_tokenizers": "anyvocab.evaluate.tokenizers",
    "compression": "anyvocab.evaluate",
    "count": "anyvocab.training.counting",
    "evaluate_models": "anyvocab.evaluate",
    "extend": "anyvocab.training.extend",
    "heal": "anyvocab.transplant.heal",
    "infill": "anyvocab.bytelm.infill",
    "merge_shards": "anyvocab.training.shards",
    "swap": "anyvocab.transplant.swap",
    "sweep": "anyvocab.training.sweep",
    "train": "anyvocab.training.bpe",
}

__all__ = [
    "END",
    "AnyvocabError",
    "BitsPerByte",
    "ByteLM",
    "ByteState",
    "Comparison",
    "Completion",
    "Compression",
    "CountReport",
    "DynamicBatch",
    "DynamicModel",
    "DynamicTokenizer",
    "Each",
    "Encoding",
    "Ensemble",
    "Evaluation",
    "HealReport",
    "Hypernet",
    "Ids",
    "IncrementalEncoder",
    "Infill",
    "InternalError",
    "InvalidValue",
    "LimitExceeded",
    "MissingExtra",
    "NumericsError",
    "OutputExists",
    "Ragged",
    "RoleRecord",
    "SourceNotFound",
    "StorageError",
    "SwapReport",
    "SweepReport",
    "Tokenizer",
    "TokenizerComparison",
    "TokenizerFormatError",
    "UnsupportedHypernet",
    "UnsupportedTokenizer",
    "UnsupportedWeights",
    "VerificationFailed",
    "Vocabulary",
    "WeightsFormatError",
    "__version__",
    "bits_per_byte",
    "compare_strategies",
    "compare_tokenizers",
    "compression",
    "count",
    "evaluate_models",
    "extend",
    "heal",
    "infill",
    "merge_shards",
    "swap",
    "sweep",
    "train",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'anyvocab' has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value  # found once: the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
