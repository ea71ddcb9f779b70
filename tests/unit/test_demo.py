"""`anyvocab demo`, on story models in the place of the embedded ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from anyvocab import pico
from anyvocab.cli import main
from anyvocab.cli.demo import HELD_OUT
from anyvocab.pico.data import HELD_OUT as UNSEEN


@pytest.fixture(autouse=True)
def _models(fixtures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {"code-4k": "stories260K", "code-2k": "aidreams260K"}
    monkeypatch.setattr(pico, "path", lambda name: fixtures / "models" / folders[name])
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_what_is_measured_no_model_has_seen() -> None:
    assert set(HELD_OUT) <= UNSEEN


@pytest.mark.models
def test_the_demo_measures_both_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format_version"] == 1
    assert document["not_measured"] is None
    assert document["held_out"] == list(HELD_OUT)
    for model in document["models"].values():
        assert model["held_out"]["bytes"] > 20_000
        assert 0.5 < model["held_out"]["bits_per_byte"] < 8
        assert len(model["tokens"]) == len(model["token_ids"])
    shown = document["bytes"]
    # The first model joins spaces, and can spell no prompt that has several.
    assert len(shown["prompts"]) == 2
    assert shown["middles"] == []  # these models have no marks to fill in with
    one, other, both = shown["bits_per_byte"].values()
    assert both < max(one, other)


def test_without_torch_the_tokenizers_are_still_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "One piece of code, two vocabularies" in out
    assert "byte strings are a token in both" in out
    assert "not measured: model: torch" in out
    assert "pip install 'anyvocab[models]'" in out
    assert "anyvocab inspect pico:code-4k" in out


def test_without_weights_the_demo_says_how_to_make_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Path:
        raise FileNotFoundError(f"no weights of {name}; train it")

    monkeypatch.setattr(pico, "path", missing)
    assert main(["demo"]) == 1
    assert "train it" in capsys.readouterr().err
