"""HumanEval-Infilling: read, judged by running, and counted as pass@k."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab.evaluate.infilling_problems import (
    Problem,
    judge,
    judge_all,
    pass_at_k,
    read_problems,
)
from anyvocab.evaluate.infilling_sandbox import SandboxLimits

PATIENT = SandboxLimits(wall_seconds=60)
LINE = {
    "task_id": "T/0",
    "prompt": "def f(x):\n",
    "suffix": "    return y\n",
    "canonical_solution": "    y = x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    "entry_point": "f",
}
posix = pytest.mark.skipif(os.name != "posix", reason="the sandbox is for POSIX systems")


def problem() -> Problem:
    return Problem(*LINE.values())


def test_a_program_is_the_file_with_its_middle_and_the_check_of_its_function() -> None:
    assert problem().program("    y = 2\n").decode() == (
        "def f(x):\n    y = 2\n    return y\n\ndef check(candidate):\n"
        "    assert candidate(1) == 2\n\ncheck(f)\n"
    )


@posix
@pytest.mark.parametrize(
    ("middle", "passed"),
    [
        ("    y = x + 1\n", True),
        ("    y = 2\n", True),  # all that the test asks for
        ("    y = x\n", False),
        ("    y = x +\n", False),
        ("    import os; os._exit(0)\n", False),
        ("    import sys; sys.exit(0)\n", False),
        ("    print('passed'); exit()\n", False),
        (b"    y = x + 1  # \xff\n", False),
    ],
)
def test_a_middle_passes_if_its_function_does_what_is_asked(
    middle: str | bytes, passed: bool
) -> None:
    assert judge(problem(), middle, limits=PATIENT).passed is passed


@posix
def test_outcomes_come_in_order_for_any_number_of_workers() -> None:
    middles = ["    y = x + 1\n", "    y = 0\n", "    y = 2\n"]
    for workers in (1, 3):
        found = judge_all([problem()] * 3, middles, limits=PATIENT, workers=workers)
        assert [one.passed for one in found] == [True, False, True]


@posix
@pytest.mark.parametrize("name", ["RandomSpanInfillingLight", "SingleLineInfilling"])
def test_canonical_solutions_of_the_published_data_pass_and_nothing_in_the_hole_fails(
    fixtures: Path, name: str
) -> None:
    problems = read_problems(fixtures / "eval" / f"HumanEval-{name}.jsonl.gz", limit=4)
    assert len(problems) == 4
    solutions = [one.solution for one in problems]
    assert all(one.passed for one in judge_all(problems, solutions, limits=PATIENT, workers=2))
    broken = ["    return (\n"] * 4
    assert not any(one.passed for one in judge_all(problems, broken, limits=PATIENT, workers=2))


def test_all_problems_of_the_published_data_are_read(fixtures: Path) -> None:
    place = fixtures / "eval" / "HumanEval-RandomSpanInfillingLight.jsonl.gz"
    found = read_problems(place)
    assert len(found) == 164
    assert found[1].task_id == "RandomSpanInfillingLight/HumanEval/1/1"
    assert found[1].suffix.startswith("\n        elif c == ')':\n")


def test_plain_and_packed_files_are_read_alike(tmp_path: Path) -> None:
    text = json.dumps(LINE) + "\n\n" + json.dumps({**LINE, "task_id": "T/1"})
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    plain, packed = (read_problems(tmp_path / name) for name in ("a.jsonl", "a.jsonl.gz"))
    assert plain == packed
    assert [one.task_id for one in plain] == ["T/0", "T/1"]
    assert read_problems(tmp_path / "a.jsonl", limit=1) == plain[:1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no problem in it"),
        (b"[1]\n", "line 1: has no text 'task_id'"),
        (json.dumps({**LINE, "test": 3}).encode(), "has no text 'test'"),
        (json.dumps(LINE).encode() + b"\n{", "line 2: no JSON"),
        (b"\x1f\x8bxx", "cannot be unpacked"),
    ],
)
def test_what_is_no_such_data_is_refused_by_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(av.InvalidValue, match=message):
        read_problems(tmp_path / "a.jsonl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(av.SourceNotFound, match=r"nothing\.jsonl"):
        read_problems(tmp_path / "nothing.jsonl")


@pytest.mark.parametrize("samples", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_choices_that_hold_a_pass(samples: int) -> None:
    for passed in range(samples + 1):
        for k in range(1, samples + 1):
            chosen = list(itertools.combinations(range(samples), k))
            share = sum(any(one < passed for one in choice) for choice in chosen) / len(chosen)
            assert pass_at_k(samples, passed, k) == share


def test_pass_at_k_of_many_samples_does_not_overflow() -> None:
    assert pass_at_k(10_000, 1, 5_000) == 0.5


@pytest.mark.parametrize(("samples", "passed", "k"), [(3, 1, 4), (3, 1, 0), (3, 4, 1), (3, -1, 1)])
def test_pass_at_k_of_what_cannot_be_is_refused(samples: int, passed: int, k: int) -> None:
    with pytest.raises(av.InvalidValue):
        pass_at_k(samples, passed, k)
