"""Programs that a model wrote, run in a process of their own under limits.

What is bounded: processor time, wall-clock time (the whole process group is killed), address space,
the size of a file, open files, and processes: none may be started, so nothing outlives the run. The
program has an empty environment, an empty folder of its own as working directory, an empty standard
input, and Python's standard library and nothing else to import; its output is thrown away.

What is **not** bounded, and needs a container or a virtual machine where it matters: the network;
reading, and writing where the user may write; how many files it leaves. The result is safe from
accidents (printing, `sys.exit(0)`, `os._exit(0)`, killing itself), not from a program that goes
looking for the judge in its own process's memory.

As root, for whom no limit on processes holds, the program runs as the user `nobody`.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from anyvocab import errors

__all__ = ["Outcome", "SandboxLimits", "run_program"]

Status = Literal["passed", "raised", "silent", "timeout"]

_CHILD: Final = Path(__file__).with_name("_infilling_child.py")
_NOBODY: Final = 65534
_ANSWER: Final = 4096  # bytes read of an answer; an honest one has under a hundred


@dataclass(frozen=True)
class SandboxLimits:
    """What a program may use.

    Attributes:
        cpu_seconds: Processor time.
        wall_seconds: Time by the clock, from start to end; Python's own start is some hundredths.
        memory_bytes: Address space, Python's own included. macOS does not hold a program to it.
        file_bytes: The size of one file.
        open_files: How many files are open at once.
        processes: How many processes and threads the user may have when one is started; 0: none
            can be started.
    """

    cpu_seconds: int = 5
    wall_seconds: float = 10.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 1 << 20
    open_files: int = 32
    processes: int = 0

    def __post_init__(self) -> None:
        """Refuse limits under which no program could run.

        Raises:
            InvalidValue: One is too small.
        """
        for name, value, least in (
            ("cpu_seconds", self.cpu_seconds, 1),
            ("wall_seconds", self.wall_seconds, 0.1),
            ("memory_bytes", self.memory_bytes, 1 << 26),
            ("file_bytes", self.file_bytes, 0),
            ("open_files", self.open_files, 8),
            ("processes", self.processes, 0),
        ):
            if value < least:
                raise errors.build(
                    errors.InvalidValue,
                    f"must be at least {least}, got {value}",
                    field=f"limits.{name}",
                )


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        status: `passed`: it ran to its end; `raised`: an exception ended it, `sys.exit` included;
            `silent`: it ended without a word (a signal, a limit, `os._exit`); `timeout`: it was
            killed by the clock.
        detail: The exception's name, or how the process ended.
        seconds: By the clock.
    """

    status: Status
    detail: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the program ran to its end."""
        return self.status == "passed"


def run_program(program: str | bytes, *, limits: SandboxLimits | None = None) -> Outcome:
    """Return what becomes of a Python program, run by this interpreter under `limits`.

    Args:
        program: Its source; bytes that are not UTF-8 are no source, and it fails.
        limits: The defaults of :class:`SandboxLimits` when left out.

    Raises:
        AnyvocabError: There are no such limits here (Windows), or they would not hold.
    """
    limits = SandboxLimits() if limits is None else limits
    user, keep_reading = _user()
    nonce = secrets.token_hex(16)
    text = program if isinstance(program, str) else program.decode("utf-8", "surrogateescape")
    reader, writer = os.pipe()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="anyvocab-", ignore_cleanup_errors=True) as folder,
            tempfile.TemporaryFile() as request,
        ):
            if user is not None:
                os.chown(folder, user, user)
            asked = {
                "nonce": nonce,
                "answer": writer,
                "program": text,
                "limits": asdict(limits),
                "user": user,
                "keep_reading": keep_reading,
            }
            request.write(json.dumps(asked).encode())
            request.seek(0)
            started = time.monotonic()
            code = _wait(folder, request.fileno(), writer, limits)
            seconds = time.monotonic() - started
        os.set_blocking(reader, False)
        try:
            answer = os.read(reader, _ANSWER)
        except BlockingIOError:
            answer = b""
    finally:
        os.close(reader)
        os.close(writer)
    return _outcome(code, answer, nonce, seconds)


def _wait(folder: str, request: int, writer: int, limits: SandboxLimits) -> int | None:
    """Run the child and return its exit status; None when it was killed by the clock."""
    process = subprocess.Popen(  # noqa: S603 (this interpreter, our own script)
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_CHILD)],
        stdin=request,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={},
        pass_fds=(writer,),
        start_new_session=True,
    )
    try:
        return process.wait(limits.wall_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # After a timeout or a Ctrl-C here, and wherever the program may have started others.
        if process.returncode is None or limits.processes:
            with suppress(ProcessLookupError, PermissionError):  # macOS: all of it has ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _outcome(code: int | None, answer: bytes, nonce: str, seconds: float) -> Outcome:
    """Return what an exit status and the child's lines mean; only lines with the nonce are its."""
    lines = [line.partition(" ") for line in answer.decode("utf-8", "replace").splitlines()]
    words = [word for said, _, word in lines if said == nonce]
    if code is None:
        return Outcome("timeout", "killed by the clock", seconds)
    if words[:1] != ["ready"]:
        # Not the program's fault: to count it as failed would be to measure the machine.
        raise errors.build(
            errors.AnyvocabError,
            f"the limits do not hold here ({words[0] if words else f'exit status {code}'})",
            field="sandbox",
            fix="run it as an ordinary user, where limits may be lowered",
        )
    if code == 0 and len(words) == 2:
        return Outcome("passed" if words[1] == "ok" else "raised", words[1], seconds)
    return Outcome("silent", f"exit status {code}" if code >= 0 else _signal_name(-code), seconds)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _user() -> tuple[int | None, bool]:
    """Return whom the program runs as, None for the user himself, and whether reading is kept.

    Raises:
        AnyvocabError: Limits cannot be set, or would not hold.
    """
    if os.name != "posix":
        raise errors.build(
            errors.AnyvocabError,
            "programs are run under POSIX resource limits, which this system does not have",
            field="sandbox",
            fix="run it in Linux or macOS, in a container say",
        )
    if os.geteuid() != 0:
        return None, False
    if _readable_to_all():
        return _NOBODY, False
    if not sys.platform.startswith("linux"):
        raise errors.build(
            errors.AnyvocabError,
            "root's processes cannot be limited, and root's Python is readable to root alone",
            field="sandbox",
            fix="run it as an ordinary user",
        )
    return _NOBODY, True


def _readable_to_all() -> bool:
    """Return whether every user may read the standard library."""
    places = [Path(place) for place in (os.__file__, sys.executable) if place]
    for place in places:
        real = place.resolve()
        if not real.stat().st_mode & 0o004:
            return False
        if any(not parent.stat().st_mode & 0o001 for parent in real.parents):
            return False
    return True
