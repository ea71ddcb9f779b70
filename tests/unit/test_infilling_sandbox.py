"""Programs under limits: only one that runs to its end passes, and none outlives its run."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

import anyvocab as av
from anyvocab.evaluate import infilling_sandbox
from anyvocab.evaluate.infilling_sandbox import Outcome, SandboxLimits, run_program

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the sandbox is for POSIX systems")

# A busy machine may take seconds to start a process: only where the clock is the point is it short.
PATIENT = SandboxLimits(cpu_seconds=5, wall_seconds=60)
linux = pytest.mark.skipif(sys.platform != "linux", reason="macOS does not bound address space")


def run(program: str, limits: SandboxLimits = PATIENT) -> Outcome:
    return run_program(program, limits=limits)


def test_a_program_that_runs_to_its_end_passes() -> None:
    outcome = run("import math, json, hashlib, fractions\nassert math.comb(4, 2) == 6")
    assert (outcome.status, outcome.passed) == ("passed", True)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("assert 1 == 2", "AssertionError"),
        ("print('passed')\nraise ValueError", "ValueError"),
        ("def f(:", "SyntaxError"),
        ("import sys\nsys.exit(0)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(): f()\nf()", "RecursionError"),
        ("input()", "EOFError"),
        ("import sys\nassert sys.stdin.read() != ''", "AssertionError"),
        ("import os\nos.environ['PATH']", "KeyError"),
        ("import numpy", "ModuleNotFoundError"),
        ("import anyvocab", "ModuleNotFoundError"),
        ("import os\nassert os.listdir('.')", "AssertionError"),
        ("open('big', 'wb').write(bytes(1 << 21))", "OSError"),
        ("files = [open('f%d' % i, 'w') for i in range(100)]", "OSError"),
    ],
)
def test_a_program_that_raises_does_not(program: str, detail: str) -> None:
    outcome = run(program)
    assert (outcome.status, outcome.detail, outcome.passed) == ("raised", detail, False)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("import os\nos._exit(0)", "exit status 0"),
        ("import os\nos._exit(7)", "exit status 7"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
        ("import os, signal\nos.kill(0, signal.SIGKILL)", "SIGKILL"),  # its group: not this one
    ],
)
def test_a_program_that_ends_without_a_word_does_not(program: str, detail: str) -> None:
    outcome = run(program)
    assert (outcome.status, outcome.detail) == ("silent", detail)


def test_what_a_program_writes_to_any_descriptor_is_no_verdict() -> None:
    program = """
import os
for descriptor in range(3, 40):
    try:
        os.write(descriptor, b'0123456789abcdef0123456789abcdef ready\\nx ok\\n')
    except OSError:
        pass
os._exit(0)
"""
    assert run(program).status == "silent"


def test_writing_to_the_answers_descriptor_does_not_hide_a_success() -> None:
    program = "import os\nfor d in range(3, 40):\n try: os.write(d, b'x\\n')\n except OSError: pass"
    assert run(program).passed


def test_an_endless_loop_is_ended_by_its_processor_time() -> None:
    outcome = run("while True: pass", SandboxLimits(cpu_seconds=1, wall_seconds=60))
    assert (outcome.status, outcome.detail) == ("silent", "SIGXCPU")


def test_a_loop_that_catches_that_signal_is_ended_a_second_later() -> None:
    program = "import signal\nsignal.signal(signal.SIGXCPU, lambda *_: None)\nwhile True: pass"
    outcome = run(program, SandboxLimits(cpu_seconds=1, wall_seconds=60))
    assert (outcome.status, outcome.detail) == ("silent", "SIGKILL")


def test_a_program_that_sleeps_is_ended_by_the_clock() -> None:
    started = time.monotonic()
    outcome = run("import time\ntime.sleep(600)", SandboxLimits(wall_seconds=1.5))
    assert outcome.status == "timeout"
    assert time.monotonic() - started < 60


@linux
def test_a_memory_bomb_meets_its_bound() -> None:
    limits = SandboxLimits(wall_seconds=60, memory_bytes=1 << 28)
    outcome = run("held = []\nwhile True: held.append(bytearray(1 << 24))", limits)
    assert (outcome.status, outcome.detail) == ("raised", "MemoryError")


@linux
@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("import os\nwhile True: os.fork()", "BlockingIOError"),
        ("import subprocess\nsubprocess.run(['true'])", "BlockingIOError"),
        ("import threading\nthreading.Thread(target=print).start()", "RuntimeError"),
    ],
)
def test_no_process_and_no_thread_can_be_started(program: str, detail: str) -> None:
    outcome = run(program)
    assert (outcome.status, outcome.detail) == ("raised", detail)


@linux
def test_where_processes_are_allowed_they_end_with_the_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:  # the program may be another user, who has to get here
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    file = tmp_path / "alive"
    program = f"""
import os, time
if os.fork() == 0:
    while True:
        open({str(file)!r}, 'w').close()
        time.sleep(0.05)
while not os.path.exists({str(file)!r}):
    time.sleep(0.01)
"""
    # the bound counts all of a user's processes, and one may have very many
    outcome = run(program, SandboxLimits(wall_seconds=60, processes=1 << 15))
    assert outcome.passed  # it has seen the other one's file
    file.unlink()
    time.sleep(0.5)
    assert not file.exists()


def test_its_folder_is_its_own_and_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = "import os\nopen('x', 'w').write('y')\nassert os.listdir('.') == ['x']"
    assert run(program).passed
    assert run(program).passed  # the first one's file is gone
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_not_root() -> None:
    assert run("import os\nassert os.geteuid() != 0").passed


def test_bytes_that_are_no_utf8_are_no_program() -> None:
    outcome = run_program(b"x = '\xff'", limits=PATIENT)
    assert outcome.status == "raised"


def test_a_long_program_arrives_whole() -> None:
    assert run("x = 1\n" * 20_000 + "assert x == 1").passed


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"cpu_seconds": 0}, "limits.cpu_seconds: must be at least 1"),
        ({"memory_bytes": 1000}, "limits.memory_bytes"),
        ({"open_files": 2}, "limits.open_files"),
        ({"wall_seconds": 0.0}, "limits.wall_seconds"),
    ],
)
def test_limits_under_which_nothing_runs_are_refused(
    limits: dict[str, float], message: str
) -> None:
    with pytest.raises(av.InvalidValue, match=message):
        SandboxLimits(**limits)  # type: ignore[arg-type]


def test_limits_that_do_not_hold_are_the_machines_fault_and_not_the_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = infilling_sandbox._CHILD.with_name("missing.py")
    monkeypatch.setattr(infilling_sandbox, "_CHILD", child)
    with pytest.raises(av.AnyvocabError, match="limits do not hold here"):
        run("x = 1")


def test_another_system_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infilling_sandbox.os, "name", "nt")
    with pytest.raises(av.AnyvocabError, match="POSIX resource limits"):
        infilling_sandbox._user()
