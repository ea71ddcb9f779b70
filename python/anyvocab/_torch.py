"""torch, where it is installed."""

from __future__ import annotations

from types import ModuleType

from anyvocab import errors

__all__ = ["import_torch"]


def import_torch() -> ModuleType:
    """Return torch.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise errors.build(
            errors.MissingExtra,
            "torch is not installed, and running a model or writing its weights needs it",
            field="model",
            fix="pip install 'anyvocab[models]'",
        ) from error
    module: ModuleType = torch
    return module
