"""Superwords against what was published."""

from __future__ import annotations

import json
from pathlib import Path

import anyvocab as av
from anyvocab.training.options import Veto
from anyvocab.training.superwords import SuperBPE

TRANSITION = 180_000


def published(fixtures: Path) -> dict[str, object]:
    folder = fixtures / "tokenizers" / "superbpe_180k_200k"
    loaded: dict[str, object] = json.loads((folder / "tokenizer.json").read_text())
    return loaded


def pattern_of(tokenizer: dict[str, object]) -> object:
    pre = tokenizer["pre_tokenizer"]
    return [one for one in pre["pretokenizers"] if one["type"] == "Split"]  # type: ignore[index]


def test_the_pre_tokenizer_is_that_of_the_published_superbpe(fixtures: Path) -> None:
    trained = av.train([b"a b c a b c"] * 2, 400, superwords="superbpe")
    assert pattern_of(json.loads(trained.to_json())) == pattern_of(published(fixtures))


def test_the_published_superwords_keep_to_the_default_rules(fixtures: Path) -> None:
    recipe = SuperBPE()
    veto = Veto(max_words=recipe.max_words, inside=recipe.inside).compiled()
    tokenizer = av.Tokenizer.load(fixtures / "tokenizers" / "superbpe_180k_200k")
    token = tokenizer.vocabulary.token_bytes
    late = [token(i) or b"" for i in range(TRANSITION, len(tokenizer.vocabulary))]
    forbidden = [one for one in late if veto.forbids(one)]
    assert not forbidden
    assert sum(b" " in one.strip() for one in late) > 15_000
