"""`anyvocab eval`: from files to a table, a document, a page, and typed errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anyvocab import pico
from anyvocab.cli import main

pytestmark = pytest.mark.models


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    text = tmp_path / "code.py"
    text.write_text("def f(x):\n    return x + 1\n\n\n" * 4)
    return text


def test_two_models_give_a_table(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "pico:code-4k", "pico:code-2k", "--text", str(code), "--prompts", "1"]
    assert main([*arguments, "--new-tokens", "2"]) == 0
    printed = capsys.readouterr()
    for words in (
        "Bits per byte (lower is better)",
        "Difference to pico:code-4k",
        "Greedy continuations",
        "pico:code-2k: before each text: 1 (post-processor)",
        "percentile bootstrap over blocks of 1024 bytes",
    ):
        assert words in printed.out
    assert "erplexity" not in printed.out
    assert printed.err.splitlines()[:2] == [
        "pico:code-4k: loading ...",
        "pico:code-4k: code.py ...",
    ]


def test_a_copy_of_a_model_is_its_twin_in_a_document_and_a_page(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pico.path("code-2k"), tmp_path / "copy")
    page = tmp_path / "page.html"
    # The shell made two arguments of a pattern: the second is a text, not a model.
    arguments = ["eval", str(tmp_path / "copy"), "--text", str(code), str(code), "--prompts", "0"]
    options = ["--against", "pico:code-2k", "--json", "--html", str(page)]
    assert main([*arguments, *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["against"] == "pico:code-2k"
    assert [one["domain"] for one in document["domains"]] == ["code.py", "code.py (2)"]
    before, after = document["models"]
    assert before["nats"] == after["nats"]
    assert after["exactness"]["largest_difference"] == 0.0
    assert after["new_ids"] == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_row_lost_in_a_swap_is_exit_code_3(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(pico.path("code-2k"), tmp_path / "copy")
    (folder / "model.safetensors").chmod(0o644)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"].roll(1, 0)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    arguments = ["eval", str(folder), "--against", "pico:code-2k", "--text", str(code)]
    assert main([*arguments, "--prompts", "0"]) == 3
    assert "FAULT: all other weights are equal" in capsys.readouterr().out


def test_wrong_input_is_one_line_with_a_fix(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    binary = tmp_path / "weights.bin"
    binary.write_bytes(b"\x00\x01\xff")
    bare = tmp_path / "bare"
    shutil.copytree(pico.path("code-2k"), bare, ignore=shutil.ignore_patterns("*.safetensors"))
    part = shutil.copytree(pico.path("code-2k"), tmp_path / "part")
    (part / "model.safetensors").chmod(0o644)
    weights = load_file(part / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    for model, text, words in (
        ("pico:code-2k", tmp_path / "no.txt", "no such file or folder; give a file"),
        ("pico:code-2k", binary, "a binary file, no text; give a text file"),
        (str(tmp_path / "no"), code, "no such file, folder or model id"),
        (str(bare), code, "transformers cannot load it"),
        (str(part), code, "its weights lack lm_head.weight; download or write"),
    ):
        assert main(["eval", model, "--text", str(text)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert words in errors[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pico:code-4k"], "give a text"),
        (["pico:code-4k", "--text", "x", "--block", "0"], "--block"),
        (["pico:code-4k", "--text", "x", "--prompts", "-1"], "--prompts"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *arguments]) == 2
    assert words in capsys.readouterr().err


def processor_time(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to read times from")
def test_ctrl_c_ends_an_evaluation_within_a_second(tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text("def f(x):\n    return x\n" * 100_000)
    command = [sys.executable, "-m", "anyvocab", "eval", "pico:code-4k", "--text", str(text)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().strip() == b"pico:code-4k: loading ..."
        assert process.stderr.readline().strip() == b"pico:code-4k: long ..."
        time.sleep(0.3)
        before = processor_time(process.pid)
        os.kill(process.pid, signal.SIGINT)
        said = process.stderr.readline()
        # One thread works, so its time is the clock's on a machine that does nothing else; on a
        # loaded one, and tests load it, the clock would say more.
        used = processor_time(process.pid) - before  # a process that ended can still be read
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert said.strip() == b"interrupted"
    assert process.returncode == 130
    assert used < 1.0, f"{used:.2f} s"
