"""`anyvocab inspect`: facts, tokens, comparisons, languages, pages."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from anyvocab.cli import main


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["inspect", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_facts_are_printed(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, tiny_folder)
    assert (code, err) == (0, "")
    for words in ("Length of tokens", "Scripts of tokens", "Roles", "Longest tokens", "[ hell]"):
        assert words in out
    assert "generation_config.json: eos_token_id" in out
    assert "Ġ" not in out


def test_tokens_are_real_text_between_bars(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, tiny_folder, "--text", "hello hello\n<|end|>é")
    assert code == 0
    assert "hell│o│ hell│o│⏎\n" in out
    assert "│<|end|>│\\xc3│\\xa9" in out
    assert "ids: 258 111 259 111 10 260 195 169" in out


def test_tokens_are_background_colours_on_a_terminal(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, _ = run(capsys, tiny_folder, "--text", "hello")
    assert "│" not in out
    assert "\x1b[" in out
    monkeypatch.setenv("NO_COLOR", "1")
    _, out, _ = run(capsys, tiny_folder, "--text", "hello")
    assert "hell│o" in out


def test_escapes_in_a_text_do_not_reach_the_terminal(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"\x1b[2Jhello\x07\xff")
    code, out, _ = run(capsys, tiny_folder, "--file", file)
    assert code == 0
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "␛" in out
    assert "\\xff" in out


def test_two_tokenizers_stand_side_by_side(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny: bytes
) -> None:
    other = tmp_path / "other.json"
    document = json.loads(tiny)
    document["model"]["merges"] = document["model"]["merges"][:2]
    other.write_text(json.dumps(document))
    code, out, _ = run(capsys, tiny_folder, "--against", other, "--text", "hello\nhell")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["hell│o│⏎", "he│ll│o│⏎"] in lines
    assert ["tiny", "BPE", "262", "4", "2.50"] in lines
    assert ["other.json", "BPE", "262", "6", "1.67"] in lines
    assert "tokens, second to first" in out
    assert "Vietnamese" in out


def test_json_has_a_stable_shape(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "lang").mkdir()
    (tmp_path / "lang" / "x.txt").write_text("hell")
    code, out, err = run(
        capsys, tiny_folder, "--text", "hé", "--against", tiny_folder, "--json",
        "--languages", tmp_path / "lang",
    )  # fmt: skip
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["format_version"] == 1
    assert document["ids"] == 262
    assert document["text"] == {"bytes": 3, "tokens": 3, "bytes_per_token": 1.0}
    assert [(t["id"], t["text"], t["start"], t["end"]) for t in document["tokens"]] == [
        (104, "h", 0, 1),
        (195, "\\xc3", 1, 2),
        (169, "\\xa9", 2, 3),
    ]
    assert document["against"]["tokens"] == document["tokens"]
    assert document["languages"] == [
        {"language": "x", "bytes": 4, "tokens": [1, 1], "bytes_per_token": [4.0, 4.0]}
    ]
    assert {"roles", "problems", "scripts", "lengths", "longest", "kinds"} <= document.keys()


def test_html_is_written_whole(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    code, _, err = run(capsys, tiny_folder, "--text", "<script>hello", "--html", page)
    assert code == 0
    assert err == f"wrote {page}\n"
    html = page.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert html.endswith("</html>\n")
    assert "<script" not in html
    assert "&lt;" in html
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_a_terminal_without_unicode_gets_escapes(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["inspect", str(tiny_folder), "--text", "hello"]) == 0
    assert main(["inspect", str(tiny_folder)]) == 0
    stream.seek(0)
    assert "hell\\u2502o" in stream.read()


def test_lone_surrogates_and_empty_texts_are_no_traceback(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    for text in ("\ud800", ""):
        for more in ([], ["--json"], ["--html", page]):
            assert run(capsys, tiny_folder, "--text", text, *more)[0] == 0


def test_a_wrong_second_source_is_an_error_not_a_traceback(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, tiny_folder, "--against", "/no/such/place")
    assert (code, out) == (1, "")
    assert err.startswith("error: /no/such/place: source: no such file")


def test_wrong_usage_is_exit_code_2(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, tiny_folder, "--text", "x", "--file", __file__)[0] == 2
    assert run(capsys, tiny_folder, "--languages", "/no/such/place")[0] == 2


def test_real_vocabularies_are_described(
    fixtures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, fixtures / "tokenizers" / "gpt2", "--json")
    assert code == 0
    facts = json.loads(out)
    assert (facts["ids"], facts["partial_utf8"], facts["missing_bytes"]) == (50257, 344, 0)
    assert facts["longest"][0]["bytes"] == 128
    assert next(iter(facts["scripts"])) == "Latin"
