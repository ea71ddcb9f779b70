"""How much memory this process may still take."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Return how many bytes can be taken without swapping; `None` where the system does not say.

    That is Linux's `MemAvailable`, or what is left of the limit of this process's control group
    (version 2, as in a container) when that is less.

    Args:
        meminfo: The system's account of its memory.
        cgroup: The folder of the control group.
    """
    found = [_available(meminfo), _left(cgroup)]
    known = [one for one in found if one is not None]
    return min(known, default=None)


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text("ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024  # the unit is always kB
    return None


def _left(cgroup: Path) -> int | None:
    try:
        limit = (cgroup / "memory.max").read_text("ascii").strip()
        used = (cgroup / "memory.current").read_text("ascii").strip()
        stat = (cgroup / "memory.stat").read_text("ascii").splitlines()
    except OSError:
        return None
    if limit == "max":
        return None
    # Pages of files that nobody reads now are given back when memory is wanted.
    cached = sum(int(line.split()[1]) for line in stat if line.startswith("inactive_file "))
    return max(int(limit) - int(used) + cached, 0)
