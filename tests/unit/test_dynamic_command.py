"""`anyvocab dynamic`: what it prints, its document, its page, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import anyvocab as av
from anyvocab.cli import main

CODE = "def tokenize(tokenizer):\n    return tokenizer.tokenize_tokens()\n"
SOURCE = ("--tokenizer", "pico:code-4k")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def languages(tmp_path: Path) -> Path:
    folder = tmp_path / "languages"
    folder.mkdir()
    (folder / "en.txt").write_text("the tokenizer\n\nof tokenizers\n")
    (folder / "de.txt").write_text("der Tokenizer\nder Tokenisierer\n")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["dynamic", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    return cast("dict[str, Any]", json.loads(out))


def test_a_text_is_shown_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, CODE, *SOURCE, "--reduction", "20%")
    assert (code, err) == (0, "given: merging ...\n")
    assert "def│ token│ize│(token│izer│):⏎" in out
    assert re.search(r"def│ tokenize│\(tokenizer│\):⏎", out)
    batch = av.DynamicTokenizer("pico:code-4k").merge([CODE], reduction=0.2)
    assert f"{len(batch.base.ids)}     {len(batch.ids)}" in re.sub(r" +", "     ", out)
    for title in ("Tokens", "Merges that saved most", "New tokens by their uses", "What more"):
        assert title in out


def test_merged_tokens_are_underlined_where_there_is_colour(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    _, out, _ = run(capsys, CODE, *SOURCE)
    assert re.search(r"\x1b\[1;4;[\d;]*m tokenize\x1b", out)
    assert not re.search(r"\x1b\[1;4;[\d;]*mdef\x1b", out)
    assert "Merged tokens are underlined." in out


def test_json_has_a_stable_shape(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, CODE, "x = 1", *SOURCE, "--merges", "3")
    assert list(found) == [
        "format_version", "model", "tokenizer", "boundary", "stops", "batch_size", "all",
        "mean_reduction", "rows", "merges", "new_tokens", "curve", "cache", "seconds", "texts",
        "examples", "judged",
    ]  # fmt: skip
    assert found["format_version"] == 1
    assert found["stops"] == {"max_merges": 3, "min_count": 1, "unreached": "raise"}
    (row,) = found["rows"]
    assert row["name"] == "given"
    assert row["merges"] == found["all"]["merges"] == 3
    assert row["base_tokens"] - row["tokens"] == sum(one["replaced"] for one in found["merges"])
    assert [one["name"] for one in found["texts"]] == ["1: " + CODE[:24] + "⏎    re…", "2: x = 1"]
    first = found["examples"][0]
    assert "".join(first["before"]) == "".join(first["after"]) == CODE
    assert found["judged"] is None


@pytest.mark.parametrize("said", ["25%", "25 %", "0.25", ".25", "25.0%"])
def test_a_share_may_be_written_in_several_ways(
    said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, CODE, *SOURCE, "--reduction", said)
    assert found["stops"]["reduction"] == 0.25
    found = document(capsys, CODE, *SOURCE, "--attainable", said)
    assert found["stops"]["attainable"] == 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reduction", "20"], "--reduction: '20' is more than all; for a per cent, write 20%"),
        (["--reduction", "120%"], "--reduction: '120%' is more than all; a share is at most 100%"),
        (["--attainable", "half"], "--attainable: 'half' is no share; write 20% or 0.2"),
        (["--reduction", "-10%"], "--reduction: '-10%' is no share; write 20% or 0.2"),
        (
            ["--reduction", "99%"],
            "--reduction: --reduction 0.99 cannot be reached: with every merge made, 17 tokens "
            "become 10, a reduction of 0.4118; ask for less, use a wider boundary, "
            "--attainable 1.0, or --unreached keep",
        ),
        (["--length", "1"], "--length: --length 1 cannot be reached"),
        (["--merges", "-1"], "--merges: must be at least 0, got -1"),
        (["--min-count", "0"], "--min-count: must be at least 1, got 0"),
        (
            ["--reduction", "1%", "--length", "9"],
            "--length: --reduction 0.01 and --length 9 are different targets; give one of them",
        ),
        (
            ["--boundary", "line"],
            '--boundary: "line" is no choice; use "pretoken" or "word"',
        ),
        (["--boundary", "superword"], "--transition: merges across pretokens begin at some merge"),
        (
            ["--transition", "3"],
            "--transition: --boundary pretoken has no transition; leave it out, or use "
            "--boundary superword",
        ),
        (["--unreached", "x"], """--unreached: 'x' is no choice; "raise" or "keep\""""),
        (["--batch", "0"], "--batch: must be at least 1, got 0"),
        (["--documents", "page"], "--documents: 'page' is no choice; use file, or line"),
        (["--file", "/no/such"], "/no/such: --file: no such file or folder"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_to_do(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, CODE, *SOURCE, *arguments, "--quiet")
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_texts_without_a_byte_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "", *SOURCE)
    assert (code, err) == (1, "error: TEXT: all texts are empty; give one with text\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x"], "give one: --model MODEL or --tokenizer SOURCE"),
        (["x", *SOURCE, "--model", "y"], "give one: --model MODEL or --tokenizer SOURCE"),
        ([*SOURCE], "give a text, or --file FILES"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_what_cannot_be_reached_may_be_kept(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, CODE, *SOURCE, "--reduction", "99%", "--unreached", "keep")
    assert found["all"]["reduction"] == found["all"]["attainable_reduction"] > 0


def test_a_folder_of_languages_has_a_row_for_each(
    languages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "--file", languages, *SOURCE)
    assert (code, err) == (0, "de: merging ...\nen: merging ...\n")
    assert "mean of the 2 rows: " in out
    found = document(capsys, "--file", languages, *SOURCE, "--documents", "line")
    assert [(row["name"], row["texts"]) for row in found["rows"]] == [("de", 2), ("en", 2)]
    assert [one["name"] for one in found["texts"]] == ["de", "en"]


def test_texts_and_files_go_together(languages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, CODE, "--file", f"given={languages}", *SOURCE)
    assert [(row["name"], row["texts"]) for row in found["rows"]] == [
        ("given", 1),
        ("given (2)", 2),
    ]


def test_quiet_says_nothing_but_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    code, out, err = run(capsys, CODE, *SOURCE, "--quiet", "--html", page)
    assert (code, err) == (0, "")
    assert "Tokens" in out
    assert page.is_file()


class Tags(HTMLParser):
    """Which tags there are, and whether each is closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br", "line", "rect", "polyline", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_well_formed_and_needs_nothing_else(
    languages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "</pre><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[2J\u202e&amp;"
    (languages / "<u>.txt").write_text(evil * 3)
    page = tmp_path / "page.html"
    code, _, err = run(capsys, "--file", languages, *SOURCE, "--attainable", "50%", "--html", page)
    assert code == 0
    assert err.endswith(f"wrote {page}\n")
    whole = page.read_text(encoding="utf-8")
    parsed = Tags()
    parsed.feed(whole)
    assert parsed.open == []
    assert not set(parsed.tags) & {"script", "img", "link", "iframe", "u"}
    assert not {"src", "href", "style", "onerror", "onload"} & parsed.attributes
    assert not re.search(r"url\(|@import|https?://", whole)
    assert "<script>" in parsed.text
    assert "\x1b" not in whole
    assert "\u202e" not in whole
    assert {"polyline", "circle"} <= set(parsed.tags)
    for words in ("reduction 50 % of the attainable one", "Before and after", "fewer tokens"):
        assert words in parsed.text
    assert whole.count('merged" title="id ') > 0


def test_every_boundary_and_stop_is_said_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    for options, words in (
        (["--boundary", "word"], "no merge crosses white space. Everything that may merge did."),
        (["--merges", "1"], "Asked for: at most 1 merge."),
        (["--length", "14"], "Asked for: at most 14 tokens in a batch."),
        (["--min-count", "2"], "Asked for: pairs that occur 2 times or more."),
        (
            ["--boundary", "superword", "--transition", "2", "--reduction", "20%"],
            "Asked for: reduction 20 %, across pretokens after 2 merges.",
        ),
    ):
        assert run(capsys, CODE, *SOURCE, *options, "--html", page)[0] == 0
        assert words in page.read_text(encoding="utf-8")


def test_help_needs_neither_numpy_nor_torch_nor_the_core() -> None:
    code = (
        "import sys, io; from anyvocab.cli import main; out, sys.stdout = sys.stdout, io.StringIO()"
        "; main(['dynamic', '--help']); sys.stdout = out; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "torch", "transformers", "anyvocab._core"}


def test_an_encoder_is_not_scored_and_that_is_said() -> None:
    from anyvocab.dynamic.judged import judge_kinds
    from anyvocab.dynamic.survey import survey

    cache = SimpleNamespace(make=SimpleNamespace(name="mean"))
    found = survey(av.DynamicTokenizer("pico:code-4k"), {"code": [CODE]})
    judged = judge_kinds(
        cast("Any", SimpleNamespace(kind="encoder", cache=cache)), {"code": [CODE]}, found
    )
    assert judged.total is None
    assert judged.notes == ("a model that reads both ways has no bits per byte",)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_ctrl_c_ends_a_long_merge(tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text("".join(f"tokenizer {i * i % 997} of {i}\n" for i in range(400_000)))
    command = [sys.executable, "-m", "anyvocab", "dynamic", "--file", str(text), *SOURCE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline().strip() == b"long: merging ..."
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert err.strip() == b"interrupted"
