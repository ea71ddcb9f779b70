"""`anyvocab complete`, `score`, `infill`, `ensemble`: what goes where, and that numbers agree."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import anyvocab as av
from anyvocab.cli import main

pytestmark = pytest.mark.models

MODEL = "pico:code-4k"
PROMPT = "def f(x):\n    return "


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(scope="module")
def lm() -> av.ByteLM:
    return av.ByteLM.load(MODEL)


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_stdout_holds_the_completion_and_nothing_else(
    lm: av.ByteLM, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    expected = lm.complete(PROMPT, max_new_tokens=6)
    assert main(["complete", MODEL, PROMPT, "--max-new-tokens", "6"]) == 0
    printed = capsysbinary.readouterr()
    assert printed.out == expected.bytes
    assert b"6 tokens; ended: length" in printed.err


def test_a_prompt_may_come_from_a_file(
    lm: av.ByteLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "head.py"
    file.write_bytes(PROMPT.encode())
    options = ["--bytes", "--max-bytes", "5", "--temperature", "1", "--seed", "3"]
    found = document(capsys, "complete", MODEL, "--file", str(file), *options)
    expected = lm.sample(PROMPT, max_bytes=5, temperature=1.0, seed=3)
    assert found["completion"]["text"] == expected.bytes.decode("utf-8", "backslashreplace")
    # Logits are float32, summed in the order of their batch: some 1e-5 for each of five steps.
    assert found["completion"]["logprob"] == pytest.approx(expected.logprob, abs=1e-4)
    assert found["completion"]["how"] == "bytes"


def test_plain_tokens_are_worse_where_a_prompt_ends_in_a_space(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = document(capsys, "complete", MODEL, PROMPT, "--max-new-tokens", "6", "--compare")
    first, (_, plain) = found["completion"], found["compared"]
    assert plain["how"] == "plain tokens"
    assert first["byte_logprob"] > plain["byte_logprob"]
    assert plain["text"][0].isdigit()  # a digit is the only token behind a lone space


def test_an_explanation_is_a_table_a_document_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "covers.html"
    options = ["--max-new-tokens", "2", "--explain"]
    assert main(["complete", MODEL, PROMPT, *options, "--html", str(page)]) == 0
    out = capsys.readouterr().out
    for words in ("Covers of the prompt", "(ends with the prompt)", "The next byte", "[ x]"):
        assert words in out
    html = page.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "the prompt ends here" in html
    found = document(capsys, "complete", MODEL, PROMPT, *options)["explanation"]
    assert sum(one["share"] for one in found["contexts"]) == pytest.approx(1.0)
    assert found["next_byte"][0]["text"] == "x"


def test_a_score_is_the_models_and_the_sum_of_its_bytes(
    lm: av.ByteLM, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(
        capsys, "score", MODEL, "urn x\n", "--prefix", "def f(x): ret", "--per-byte", "--end"
    )
    expected = lm.score("urn x\n", "def f(x): ret")
    assert found["logprob"] == pytest.approx(expected, abs=1e-9)
    steps = [one["logprob"] for one in found["per_byte"]]
    # float32 logits of other batches differ by some 1e-5 a step.
    assert sum(steps[:-1]) == pytest.approx(expected, abs=1e-3)
    assert sum(steps) == pytest.approx(found["logprob_with_end"], abs=1e-3)
    assert found["bits_per_byte"] == pytest.approx(-expected / (6 * math.log(2)))
    assert found["per_byte"][-1] == {"byte": None, "text": "END", "logprob": steps[-1]}


def test_a_score_is_a_table_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", MODEL, "import os", "--per-byte", "--window", "6"]) == 0
    out = capsys.readouterr().out
    assert "bits per byte" in out
    assert "␣" in out


def test_an_infill_is_the_librarys(
    lm: av.ByteLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "hole.py"
    file.write_text("def area(width, height):\n    return wid<FILL> * height\n")
    found = document(
        capsys, "infill", MODEL, "--file", str(file), "--max-new-tokens", "6", "--compare"
    )
    prefix, suffix = file.read_text().split("<FILL>")
    by_mode = {one["mode"]: one["text"] for one in [found["middle"], *found["compared"]]}
    assert list(by_mode) == ["bytes", "tokens", "healing"]
    for mode, text in by_mode.items():
        expected = av.infill(lm, prefix, suffix, mode=mode, max_new_tokens=6)  # type: ignore[arg-type]
        assert text == expected.bytes.decode()
    assert by_mode["bytes"] == "th"


def test_holes_in_a_folder_are_measured_in_all_modes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text("def f(x):\n    return x + 1\n\n\nimport os\nimport sys\n" * 3)
    arguments = ["infill", MODEL, "--eval", str(tmp_path), "--count", "2", "--max-new-tokens", "4"]
    found = document(capsys, *arguments, "--kinds", "tokens")
    assert {one["mode"] for one in found["scores"]} == {"tokens", "healing", "bytes"}
    assert {one["cases"] for one in found["scores"]} == {2}
    assert main([*arguments, "--kinds", "lines"]) == 0
    assert "Middles filled in exactly" in capsys.readouterr().out


def problems(tmp_path: Path) -> Path:
    file = tmp_path / "problems.jsonl"
    one = {
        "task_id": "SingleLine/0",
        "prompt": "def one(x):\n    return ",
        "suffix": "\n",
        "canonical_solution": "1",
        "test": "def check(one):\n    assert one(0) is not None\n",
        "entry_point": "one",
    }
    file.write_text(json.dumps(one) + "\n")
    return file


def test_nothing_a_model_wrote_is_run_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infill", MODEL, "--eval", str(problems(tmp_path))]) == 1
    assert "--run-code" in capsys.readouterr().err


def test_problems_are_judged_when_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["infill", MODEL, "--eval", str(problems(tmp_path)), "--run-code"]
    found = document(capsys, *arguments, "--max-new-tokens", "3")
    assert [one["mode"] for one in found["pass_at"]] == ["tokens", "healing", "bytes"]


def test_an_ensemble_of_two_vocabularies_is_scored_beside_its_members(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, learn = tmp_path / "a.py", tmp_path / "b.py"
    text.write_text("def f(x):\n    return x + 1\n" * 6)
    learn.write_text("import os\nimport sys\n" * 4)
    arguments = ["ensemble", MODEL, "pico:code-2k", "--text", str(text)]
    found = document(capsys, *arguments, "--fit", str(learn), "--block", "8")
    one, other, both = found["scores"]
    assert sum(found["weights"]) == pytest.approx(1.0)
    assert both["name"] == "ensemble"
    assert both["bits_per_byte"] <= max(one["bits_per_byte"], other["bits_per_byte"])
    assert one["ensemble_less_this"] == pytest.approx(both["bits_per_byte"] - one["bits_per_byte"])
    low, high = one["difference_interval"]
    assert low <= one["ensemble_less_this"] <= high
    assert main([*arguments, "--weights", "0.2,0.8", "--limit", "60"]) == 0
    out = capsys.readouterr().out
    assert "Bits per byte of 54 bytes" in out
    assert "0.800" in out


def test_an_ensemble_goes_on_with_a_prompt(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    pair = [MODEL, "pico:code-2k"]
    assert main(["ensemble", *pair, "--prompt", "import nu", "--max-bytes", "5"]) == 0
    members = [av.ByteLM.load(one) for one in pair]
    expected = av.Ensemble(members).complete("import nu", max_bytes=5)
    assert capsysbinary.readouterr().out == expected.bytes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["complete", MODEL, "x", "--utf8"], "--utf8 is for --bytes"),
        (["complete", MODEL, "x", "--file", __file__], "give one prompt"),
        (["infill", MODEL], "give --prefix and --suffix"),
        (["infill", MODEL, "--prefix", "a", "--file", __file__], "or --file"),
        (["ensemble", MODEL], "give texts to score, or a prompt"),
        (["ensemble", MODEL, "--prompt", "x", "--weights", "a"], "no list of numbers"),
        (["score", MODEL, "x", "--end", "--window", "9"], "--window scores no end"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_text_that_is_too_long_to_score_at_once_names_the_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "long.txt"
    text.write_bytes(b"x y z " * 500)  # 1,500 tokens
    assert main(["score", MODEL, "--file", str(text)]) == 1
    assert "give a --window" in capsys.readouterr().err
    assert main(["score", MODEL, "--file", str(text), "--window", "2900"]) == 1
    assert "give a smaller --window" in capsys.readouterr().err


def test_a_window_that_is_too_long_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "bytes.txt"
    text.write_text("中文" * 150)  # 900 bytes, a token each; the model sees 512
    assert main(["ensemble", MODEL, "--text", str(text), "--window", "1024"]) == 1
    assert "give a smaller --window" in capsys.readouterr().err
    assert main(["ensemble", MODEL, "--text", str(text), "--window", "400"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["complete", MODEL, "x", "--law", "exact"], "local, canonical, marginal"),
        (["score", MODEL, ""], "TEXT: is empty"),
        (["infill", MODEL, "--prefix", "a", "--mode", "magic"], "bytes, tokens, healing"),
        (["infill", MODEL, "--file", __file__], "holds <FILL>"),
        (["ensemble", MODEL, "--prompt", "x", "--rule", "vote"], "mixture, bayes"),
        (["complete", "no/such/model", "x"], "no such"),
    ],
)
def test_wrong_input_is_one_line_with_a_fix(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    (line,) = (one for one in capsys.readouterr().err.splitlines() if one.startswith("error: "))
    assert words in line


def test_an_ensemble_reads_windows_that_every_member_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("\u32e1\u32e2" * 150)  # a token for each byte
    options = ["--text", str(tmp_path / "a.txt")]
    found = document(capsys, "ensemble", MODEL, "pico:code-2k", *options)
    assert found["bytes"] == 900
    assert 256 < found["window_bytes"] < 512
