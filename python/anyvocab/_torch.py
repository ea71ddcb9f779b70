"""torch, where it is installed."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from anyvocab import errors

__all__ = ["import_torch", "on_device"]


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


def on_device(module: Any, device: str | None) -> Any:
    """Return a module on a device; where it is when none is named.

    Raises:
        InvalidValue: The device is unknown or not there.
    """
    if device is None:
        return module
    try:
        return module.to(device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise errors.build(
            errors.InvalidValue,
            f"{device!r} cannot be used: {str(error).strip().partition(chr(10))[0]}",
            field="device",
            fix="leave it out to use the CPU",
        ) from error
