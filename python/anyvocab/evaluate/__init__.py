"""Scores that can be compared across tokenizers."""

from anyvocab.evaluate.bits import BitsPerByte, bits_per_byte

__all__ = ["BitsPerByte", "bits_per_byte"]
