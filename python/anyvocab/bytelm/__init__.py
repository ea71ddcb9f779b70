"""Byte-level language models made of token-level ones, with a law that is stated.

:class:`ByteLM` gives next-byte distributions, scores, samples and completions of any bytes;
:class:`Ensemble` joins models whose vocabularies differ; :func:`infill` fills in a middle.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from anyvocab.bytelm.context import Each, Ids

if TYPE_CHECKING:
    from anyvocab.bytelm.completion import Completion as Completion
    from anyvocab.bytelm.ensemble import Ensemble as Ensemble
    from anyvocab.bytelm.infill import Infill as Infill
    from anyvocab.bytelm.infill import infill as infill
    from anyvocab.bytelm.lm import ByteLM as ByteLM
    from anyvocab.bytelm.state import ByteState as ByteState

_MODULE_OF = {
    "ByteLM": "anyvocab.bytelm.lm",
    "ByteState": "anyvocab.bytelm.state",
    "Completion": "anyvocab.bytelm.completion",
    "Ensemble": "anyvocab.bytelm.ensemble",
    "Infill": "anyvocab.bytelm.infill",
    "infill": "anyvocab.bytelm.infill",
}

END = 256
"""The position of END in a next-byte distribution."""

__all__ = [
    "END",
    "ByteLM",
    "ByteState",
    "Completion",
    "Each",
    "Ensemble",
    "Ids",
    "Infill",
    "infill",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'anyvocab.bytelm' has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
