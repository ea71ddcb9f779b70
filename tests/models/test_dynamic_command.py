"""`anyvocab dynamic --model`: bits per byte and time, before and after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab.cli import main
from anyvocab.dynamic.judged import judge_kinds
from anyvocab.dynamic.survey import survey

pytestmark = pytest.mark.models

CODE = "def tokenize(tokenizer):\n    return tokenizer.tokenize_tokens()\n"
OTHER = "class Reader:\n    def reads(self):\n        return self.readers\n"


@pytest.fixture(scope="module")
def model() -> av.DynamicModel:
    return av.DynamicModel.load("pico:code-2k", rows="mean")


def test_every_kind_is_judged_as_it_is_alone(model: av.DynamicModel) -> None:
    from anyvocab.dynamic.judge import judge

    kinds = {"one": [CODE], "two": [OTHER, OTHER]}
    found = survey(model.tokenizer, kinds, attainable=0.5)
    judged = judge_kinds(model, kinds, found)
    assert list(judged.listed) == ["all", "one", "two"]
    bits = 0.0
    for name, texts in kinds.items():
        alone, one = judge(model, texts, attainable=0.5), judged.by_kind[name]
        # The same operations on the same numbers.
        assert one.base.bits_per_byte == alone.base.bits_per_byte
        assert one.merged.bits_per_byte == alone.merged.bits_per_byte
        bits += one.merged.bits_per_byte * one.merged.scored_bytes
    total = judged.total
    assert total is not None
    assert total.merged.scored_bytes == sum(
        one.merged.scored_bytes for one in judged.by_kind.values()
    )
    assert total.merged.bits_per_byte == pytest.approx(bits / total.merged.scored_bytes, rel=1e-12)


def test_texts_too_short_to_score_leave_the_others_alone(model: av.DynamicModel) -> None:
    kinds = {"short": ["x"], "long": [CODE]}
    judged = judge_kinds(model, kinds, survey(model.tokenizer, kinds))
    assert list(judged.by_kind) == ["long"]
    (note,) = judged.notes
    assert note.startswith("short: texts: no text has a boundary inside")


def test_a_length_of_whole_texts_is_a_reduction_of_contexts(model: av.DynamicModel) -> None:
    kinds = {"code": [CODE * 4]}
    base = model.tokenizer.merge(kinds["code"], max_merges=0)
    found = survey(model.tokenizer, kinds, target_length=len(base.ids) * 4 // 5)
    judgement = judge_kinds(model, kinds, found).by_kind["code"]
    assert judgement.reduction >= found.total.reduction >= 0.2
    assert judgement.merged.context_tokens < judgement.base.context_tokens


def test_the_end_of_a_context_may_be_kept(model: av.DynamicModel) -> None:
    from anyvocab.dynamic.judge import judge

    kinds = {"code": [CODE, OTHER]}
    found = survey(model.tokenizer, kinds)
    kept = judge_kinds(model, kinds, found, keep_last=6).by_kind["code"]
    assert (
        kept.merged.bits_per_byte == judge(model, kinds["code"], keep_last=6).merged.bits_per_byte
    )
    whole = judge_kinds(model, kinds, found).by_kind["code"]
    assert whole.merged.context_tokens < kept.merged.context_tokens < kept.base.context_tokens


def test_the_command_prints_and_draws_what_the_model_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    arguments = ["dynamic", CODE, OTHER, "--model", "pico:code-2k", "--reduction", "10%"]
    options = ["--rows", "mean", "--keep-last", "1", "--html", str(page)]
    assert main([*arguments, *options, "--json"]) == 0
    captured = capsys.readouterr()
    judged = json.loads(captured.out)["judged"]
    assert judged["rows"] == "mean"
    (kind,) = judged["kinds"]
    assert kind["name"] == "given"
    assert kind["base"]["scored_bytes"] == kind["merged"]["scored_bytes"] > 0
    assert captured.err.splitlines()[0] == "pico:code-2k: loading ..."
    whole = page.read_text(encoding="utf-8")
    assert "merged but for its last 1 token or not" in whole
    assert f"{kind['base']['bits_per_byte']:.3f}" in whole
    assert f"{kind['merged']['bits_per_byte']:.3f}" in whole
    assert main([*arguments, *options, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert f"{kind['merged']['bits_per_byte']:.4f}" in captured.out
    assert "rows of new tokens: mean" in captured.out
    assert "the last 1 of a context kept" in captured.out


def test_an_unknown_maker_of_rows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["dynamic", CODE, "--model", "pico:code-2k", "--quiet"]
    assert main([*arguments, "--base-rows", "none"]) == 1
    assert "--base-rows: 'none' is no choice" in capsys.readouterr().err
    assert main([*arguments, "--rows", "/no/such/folder"]) == 1
    assert "/no/such/folder" in capsys.readouterr().err
