"""What tests of this folder share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def runs() -> Iterator[ModuleType]:
    """Return the module that makes tiny trainings of hypernetworks; they run on one thread."""
    torch = pytest.importorskip("torch", reason="torch is missing")
    pytest.importorskip("transformers", reason="transformers is missing")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield sys.modules.get("hypernet_runs") or _loaded()
    torch.set_num_threads(threads)


def _loaded() -> ModuleType:
    file = Path(__file__).with_name("hypernet_runs.py")
    spec = importlib.util.spec_from_file_location("hypernet_runs", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
