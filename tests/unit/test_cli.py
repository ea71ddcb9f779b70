"""The command line: exit codes, where words go, JSON, errors without tracebacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENVIRONMENT = os.environ | {"PYTHONUTF8": "1", "COLUMNS": "100"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anyvocab", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        env=ENVIRONMENT | environment,
        check=False,
    )


def test_help_names_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for name in (
        *("demo", "inspect", "doctor", "count", "complete", "score", "infill", "ensemble"),
        "dynamic",
    ):
        assert name in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "demo",
        "inspect",
        "doctor",
        "count",
        "train",
        "extend",
        "compare",
        "complete",
        "score",
        "infill",
        "ensemble",
        "dynamic",
    ],
)
def test_every_command_has_help_and_json(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout


def test_version_is_the_packages() -> None:
    import anyvocab

    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"anyvocab {anyvocab.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["inspect", "--frobnicate", "x"],
        ["inspect"],
        ["doctor", "x", "--rows", "-1"],
        ["inspect", "x", "--text", "a", "--file", "/no/such/file"],
    ],
)
def test_wrong_usage_is_exit_code_2_and_leaves_stdout_empty(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not done.stdout or arguments == ["inspect"]  # no arguments at all: the help


def test_an_error_is_one_line_with_file_field_and_fix(tmp_path: Path) -> None:
    done = run("inspect", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}: source: the folder holds no tokenizer")
    assert "; a tokenizer is one of tokenizer.json" in line


def test_an_error_with_json_is_a_document_too(tmp_path: Path) -> None:
    done = run("doctor", str(tmp_path / "no"), "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "SourceNotFound"
    assert error["field"] == "source"
    assert error["file"] == str(tmp_path / "no")


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "\\u001b[2J"}}')
    done = run("inspect", str(tmp_path))
    assert done.returncode == 1
    assert "\x1b" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_inspect_describes_the_tiny_tokenizer(tiny_folder: Path) -> None:
    done = run("inspect", str(tiny_folder), "--text", "hello", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["ids"] == 262
    assert {"role": "eos", "id": 260} in [
        {"role": one["role"], "id": one["id"]} for one in facts["roles"]
    ]
    assert done.stderr == ""


def test_tables_are_plain_text_without_a_terminal(tiny_folder: Path) -> None:
    done = run("inspect", str(tiny_folder), NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout


def test_no_color_is_honoured_where_colour_is_forced(tiny_folder: Path) -> None:
    done = run("inspect", str(tiny_folder), NO_COLOR="1", FORCE_COLOR="1")
    assert "\x1b[3" not in done.stdout


def test_doctor_is_exit_code_3_when_a_declared_id_is_no_token(tiny_folder: Path) -> None:
    (tiny_folder / "generation_config.json").write_text('{"eos_token_id": 9999}')
    done = run("doctor", str(tiny_folder), "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert any("9999" in finding["found"] for finding in report["findings"])


def test_doctor_is_exit_code_3_when_rows_are_missing(tiny_folder: Path) -> None:
    assert run("doctor", str(tiny_folder), "--rows", "261").returncode == 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_is_exit_code_130() -> None:
    code = (
        "import sys, time; from anyvocab import tokenizer; from anyvocab.cli import main\n"
        "def wait(*a, **k): print('waiting', file=sys.stderr, flush=True); time.sleep(60)\n"
        "tokenizer.read_source = wait\n"
        "sys.exit(main(['inspect', 'x']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipes")
def test_a_reader_that_goes_away_is_no_traceback(tiny_folder: Path) -> None:
    command = f"'{sys.executable}' -m anyvocab inspect '{tiny_folder}' --json | head -c 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_json_about_a_file_whose_name_is_not_utf8_is_json(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.jsonl"
    Path(os.fsdecode(name)).write_text('{"nope": 1}\n')
    done = run("count", str(tmp_path), "--out", str(tmp_path / "counts.parquet"), "--json")
    assert done.returncode == 1
    assert os.fsencode(json.loads(done.stdout)["error"]["file"]) == name
