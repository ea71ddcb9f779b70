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
        found = "torch is not installed, and running a model or writing its weights needs it"
        raise errors.missing_extra(found, field="model") from error
    module: ModuleType = torch
    return module
