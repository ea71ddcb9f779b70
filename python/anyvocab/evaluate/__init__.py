"""Scores that can be compared across tokenizers."""

from anyvocab.evaluate.bits import BitsPerByte, bits_per_byte
from anyvocab.evaluate.bootstrap import Bootstrap, Interval
from anyvocab.evaluate.compare import Sampling, evaluate_models
from anyvocab.evaluate.domains import Domain, read_domains
from anyvocab.evaluate.exact import Exactness, exactness
from anyvocab.evaluate.greedy import Greedy, continue_greedily
from anyvocab.evaluate.identity import new_ids, shared_ids
from anyvocab.evaluate.models import LoadedModel, load_model, open_model
from anyvocab.evaluate.results import Difference, DomainScore, Evaluation, ModelScore
from anyvocab.evaluate.scoring import Split, TokenScores
from anyvocab.evaluate.tokens import Compression, compression

__all__ = [
    "BitsPerByte",
    "Bootstrap",
    "Compression",
    "Difference",
    "Domain",
    "DomainScore",
    "Evaluation",
    "Exactness",
    "Greedy",
    "Interval",
    "LoadedModel",
    "ModelScore",
    "Sampling",
    "Split",
    "TokenScores",
    "bits_per_byte",
    "compression",
    "continue_greedily",
    "evaluate_models",
    "exactness",
    "load_model",
    "new_ids",
    "open_model",
    "read_domains",
    "shared_ids",
]
