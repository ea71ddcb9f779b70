"""Rules of the house that no linter knows. Run by `make check`; prints what breaks them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE_LINES = 800  # split a file at this many lines (tests and tables of data may be longer)
FILE_BYTES = 12 << 20  # the weights of a pico model are the largest files there are

# (what, in which files, why)
PATTERNS = [
    (r"\btorch\.load\(", r"\.py$", "checkpoints are safetensors: no pickle is loaded"),
    (r"\bpickle\.loads?\(", r"^python/.*\.py$", "no pickle is loaded"),
    (r"trust_remote_code\s*=\s*True", r"\.py$", "no remote code"),
    (r"\bexcept Exception\b|\bexcept:", r"^python/.*\.py$", "name the exceptions you expect"),
    (r"^\s*print\(", r"^python/.*\.py$", "library code logs; commands use cli/output.py"),
    (r"(/home/|/Users/|/root/|/work/)\w", r"\.(py|rs|toml|md|yml)$|^Makefile$", "a machine's path"),
    (r"<<<<<<< |>>>>>>> ", r".", "a merge left over"),
]


def tracked() -> list[str]:
    """Return the paths that git knows, and new ones it does not ignore."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    return sorted(name for name in listed.decode().split("\0") if name)


def problems(name: str) -> list[str]:
    """Return what is wrong with one file."""
    path = ROOT / name
    if not path.is_file() or name == "tests/check_tree.py":
        return []
    data = path.read_bytes()
    found = []
    if len(data) > FILE_BYTES:
        found.append(f"{name}: {len(data)} bytes, over {FILE_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return found
    if "\0" in text or "/hostile/" in f"/{name}":
        return found
    lines = text.splitlines()
    if re.match(r"(rust|python)/.*(?<!tests)\.(rs|py)$", name) and len(lines) > SOURCE_LINES:
        found.append(f"{name}: {len(lines)} lines; split it at {SOURCE_LINES}")
    for pattern, where, why in PATTERNS:
        if re.search(where, name):
            found += [
                f"{name}:{number}: {why}: {line.strip()[:80]}"
                for number, line in enumerate(lines, 1)
                if re.search(pattern, line)
            ]
    return found


def main() -> int:
    """Print every problem and return 1 when there is one."""
    found = [problem for name in tracked() for problem in problems(name)]
    sys.stdout.writelines(problem + "\n" for problem in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
