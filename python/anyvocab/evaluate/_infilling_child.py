"""Runs one program under limits. Started by `infilling_sandbox`, in a process of its own.

The request is one JSON object on standard input; the answer is two lines on the file descriptor it
names, each with the request's nonce: that the limits hold, and what became of the program. Who
prints, exits or dies says nothing.
"""

import json
import os
import resource
import signal
import sys
from typing import Any

_KEEP_CAPS = 8  # prctl: capabilities outlive a change of user
_NO_NEW_PRIVILEGES = 38  # prctl
_READ_SEARCH = 2  # CAP_DAC_READ_SEARCH: reading what its owner alone may read
_CAPABILITY_VERSION = 0x20080522


def _become(user: int) -> None:
    """Give up root, for whom a limit on processes does not hold."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def _become_reader(user: int) -> None:
    """Give up root, and all of its power but reading: its Python may be readable to it alone."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_KEEP_CAPS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "capabilities cannot be kept")
    _become(user)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    bit = 1 << _READ_SEARCH
    # effective, permitted, inheritable of capabilities 0..31, then of 32..63
    if libc.capset(header, (ctypes.c_uint32 * 6)(bit, bit, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "the capability to read cannot be kept")
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _limit(name: str, value: int) -> None:
    kind = getattr(resource, name, None)
    if kind is not None:
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):
            if name != "RLIMIT_AS":  # macOS has no bound of the address space
                raise


def _confine(request: dict[str, Any]) -> None:
    limits = request["limits"]
    if request["user"] is not None:
        become = _become_reader if request["keep_reading"] else _become
        become(request["user"])
    # A hard second more: the first signal, SIGXCPU, is one that a program can catch.
    seconds = limits["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_FSIZE", limits["file_bytes"])
    _limit("RLIMIT_NOFILE", limits["open_files"])
    _limit("RLIMIT_NPROC", limits["processes"])
    _limit("RLIMIT_AS", limits["memory_bytes"])
    # If nobody is left to stop it: a program that sleeps uses no processor time.
    signal.setitimer(signal.ITIMER_REAL, limits["wall_seconds"] + 2)


def _run(program: str) -> str:
    """Return what becomes of a program: `ok`, or the name of what it raised."""
    space = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        exec(compile(program, "<program>", "exec"), space)  # noqa: S102 (what this file is for)
    except BaseException as error:  # noqa: BLE001 (SystemExit and KeyboardInterrupt are failures)
        return type(error).__name__
    return "ok"


def _main() -> None:
    # Everything is read before the program runs: it finds an empty input, and the nonce is in no
    # name that it shares.
    request = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (the program's)
    nonce, answer = request.pop("nonce"), request["answer"]
    try:
        _confine(request)
    except (OSError, ValueError) as error:
        os.write(answer, f"{nonce} refused {error}\n".encode())
        os._exit(1)
    os.write(answer, f"{nonce} ready\n".encode())
    word = _run(request["program"])
    os.write(answer, f"{nonce} {word}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    _main()
