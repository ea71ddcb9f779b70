"""Token backends: the logits after any token context of a growing tree of contexts.

A byte-level model asks for many contexts that share their beginnings. A backend keeps them as a
tree and computes as little as it can; :class:`TokenBackend` states the contract. `TableBackend`
needs only numpy; the others import their engine when they are made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from anyvocab.backends.protocol import Row, TokenBackend

if TYPE_CHECKING:
    from anyvocab.backends.llama_cpp import LlamaCppBackend as LlamaCppBackend
    from anyvocab.backends.table import TableBackend as TableBackend
    from anyvocab.backends.transformers import TransformersBackend as TransformersBackend
    from anyvocab.backends.vllm import VllmBackend as VllmBackend

_MODULE_OF = {
    "LlamaCppBackend": "anyvocab.backends.llama_cpp",
    "TableBackend": "anyvocab.backends.table",
    "TransformersBackend": "anyvocab.backends.transformers",
    "VllmBackend": "anyvocab.backends.vllm",
}

__all__ = [
    "LlamaCppBackend",
    "Row",
    "TableBackend",
    "TokenBackend",
    "TransformersBackend",
    "VllmBackend",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'anyvocab.backends' has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
