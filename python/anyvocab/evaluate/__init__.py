"""Scores that can be compared across tokenizers."""

from anyvocab.evaluate.bits import BitsPerByte, bits_per_byte
from anyvocab.evaluate.tokens import Compression, compression

__all__ = ["BitsPerByte", "Compression", "bits_per_byte", "compression"]
