"""What every test may use: tiny tokenizers, the fixture folder, marks by what is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path

import pytest

from anyvocab.testing import tiny_tokenizer

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test uses the network
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A shell's background job ignores Ctrl-C, and so would the processes that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]
    if missing:
        skip = pytest.mark.skip(reason=f"{' and '.join(missing)} missing: install anyvocab[models]")
        for item in items:
            if "models" in item.keywords:
                item.add_marker(skip)


@pytest.fixture
def tiny() -> bytes:
    return json.dumps(tiny_tokenizer()).encode()


@pytest.fixture
def tiny_folder(tmp_path: Path, tiny: bytes) -> Path:
    """A model folder around the tiny tokenizer: configurations, a chat template, no weights."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(tiny)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "SomethingElse",
                "model_max_length": 512,
                "eos_token": "<|end|>",
                "bos_token": {"content": "<|end|>"},
                "chat_template": "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}",
            }
        )
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [260, 0]}))
    return folder


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Return the folder of real tokenizers and texts; the test is skipped where there is none."""
    folder = Path(os.environ.get("ANYVOCAB_FIXTURES", ROOT.parent / "shared" / "fixtures"))
    if not folder.is_dir():
        pytest.skip("no fixtures: set ANYVOCAB_FIXTURES to the folder that holds tokenizers/")
    return folder
