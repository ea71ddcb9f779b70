"""The weights of a model whose tokenizer is swapped: found, read by rows, and written as a stream.

A model is never loaded. `Checkpoint.open` reads headers; `Checkpoint.matrix` gives rows;
`rewrite` writes the shards that change and links the others; `finish` puts the result in its place.
"""

from anyvocab.transplant.weights.checkpoint import Checkpoint
from anyvocab.transplant.weights.find import VocabularyTensor
from anyvocab.transplant.weights.matrix import Matrix, Rows, RowSource
from anyvocab.transplant.weights.ties import Tie
from anyvocab.transplant.weights.writer import Rewritten, finish, rewrite

__all__ = [
    "Checkpoint",
    "Matrix",
    "Rewritten",
    "RowSource",
    "Rows",
    "Tie",
    "VocabularyTensor",
    "finish",
    "rewrite",
]
