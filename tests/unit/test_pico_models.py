"""The embedded models as they are shipped."""

from __future__ import annotations

import json
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is missing")
pytest.importorskip("tokenizers", reason="tokenizers is missing")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors is missing")

from tokenizers import Tokenizer  # noqa: E402

from anyvocab.pico import names, path  # noqa: E402
from anyvocab.pico.card import render_card  # noqa: E402
from anyvocab.pico.data import load_module  # noqa: E402
from anyvocab.pico.measure import bits_per_byte  # noqa: E402
from anyvocab.pico.model import ModelConfig, PicoLM  # noqa: E402
from anyvocab.pico.packing import RoleIds  # noqa: E402
from anyvocab.pico.vocab import SPECIALS  # noqa: E402

MODELS = [pytest.param(name, id=name) for name in names()]


def metrics_of(name: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((path(name) / "metrics.json").read_text())
    return metrics


def load(name: str) -> tuple[PicoLM, Tokenizer, RoleIds]:
    folder = path(name)
    model = PicoLM(ModelConfig(**metrics_of(name)["model"]))
    tensors = safetensors_torch.load_file(folder / "model.safetensors")
    tied = {"lm_head.weight"} if model.config.tied else set()
    left = model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    assert set(left.missing_keys) == tied
    assert left.unexpected_keys == []
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return model.eval(), tokenizer, RoleIds.of(tokenizer, SPECIALS[name])


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_is_complete_and_small(name: str) -> None:
    folder = path(name)
    config = json.loads((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    roles = RoleIds.of(tokenizer, SPECIALS[name])
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
    assert config["model_type"] == "llama"
    assert config["vocab_size"] == tokenizer.get_vocab_size(with_added_tokens=True)
    for file in (config, json.loads((folder / "generation_config.json").read_text())):
        assert file["bos_token_id"] == roles.bos
        assert file["eos_token_id"] == roles.eos
        assert file["pad_token_id"] == roles.pad
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer_config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer.encode("x = 1").ids[0] == roles.bos


@pytest.mark.parametrize("name", MODELS)
def test_the_card_is_what_the_metrics_say(name: str) -> None:
    folder = path(name)
    assert (folder / "README.md").read_text() == render_card(metrics_of(name), folder.name)


@pytest.mark.parametrize("name", MODELS)
def test_a_held_out_module_scores_near_the_card(name: str) -> None:
    model, tokenizer, roles = load(name)
    document = load_module("heapq")
    score = bits_per_byte(model, tokenizer, roles, [document], model.config.context)
    stated = metrics_of(name)["held_out"]["bits_per_byte"]
    assert abs(score["bits_per_byte"] - stated) < 0.5  # modules differ; a broken model is at 3


@pytest.mark.parametrize("name", MODELS)
def test_the_marks_have_next_to_no_mass_in_plain_text(name: str) -> None:
    model, tokenizer, roles = load(name)
    text = "def add(first, second):\n    return first + second\n"
    ids = torch.tensor([[roles.bos, *tokenizer.encode(text, add_special_tokens=False).ids]])
    with torch.no_grad():
        mass = model(ids)[0, 1:].softmax(dim=-1)
    for mark in (roles.fim.prefix, roles.fim.suffix, roles.fim.middle):
        # never scored as targets, so only the other tokens' gain pushes them down
        assert float(mass[:, mark].max()) < 0.01
