"""Tokenizers judged by the tokens they make: length, use, stability, fairness, cost.

`compare` puts everything together; `shapes`, `usage`, `unigram`, `parts`, `boundaries`, `fairness`
and `cost` each measure one thing and can be used alone.
"""

from anyvocab.evaluate.tokenizers.boundaries import (
    AnswerLetters,
    Boundaries,
    Places,
    answer_letters,
    boundaries,
)
from anyvocab.evaluate.tokenizers.compare import compare_tokenizers, open_tokenizers
from anyvocab.evaluate.tokenizers.cost import (
    EncodingSpeed,
    ModelCost,
    ModelShape,
    encoding_speed,
    model_cost,
)
from anyvocab.evaluate.tokenizers.fairness import Fairness, LanguageCost, fairness, gini
from anyvocab.evaluate.tokenizers.parts import Scaffold, Scaffolds, find_scaffolds
from anyvocab.evaluate.tokenizers.results import (
    DomainText,
    DomainTokens,
    TokenDifference,
    TokenizerComparison,
    TokenizerScore,
)
from anyvocab.evaluate.tokenizers.unigram import (
    renyi_efficiency,
    renyi_entropy,
    shannon_entropy,
)
from anyvocab.evaluate.tokenizers.usage import Seen, Unreachable, Usage, WordCounts

__all__ = [
    "AnswerLetters",
    "Boundaries",
    "DomainText",
    "DomainTokens",
    "EncodingSpeed",
    "Fairness",
    "LanguageCost",
    "ModelCost",
    "ModelShape",
    "Places",
    "Scaffold",
    "Scaffolds",
    "Seen",
    "TokenDifference",
    "TokenizerComparison",
    "TokenizerScore",
    "Unreachable",
    "Usage",
    "WordCounts",
    "answer_letters",
    "boundaries",
    "compare_tokenizers",
    "encoding_speed",
    "fairness",
    "find_scaffolds",
    "gini",
    "model_cost",
    "open_tokenizers",
    "renyi_efficiency",
    "renyi_entropy",
    "shannon_entropy",
]
