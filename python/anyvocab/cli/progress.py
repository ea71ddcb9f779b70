"""Progress of long work, on stderr."""

from __future__ import annotations

import sys
import time

from anyvocab.cli.output import Output, printable

__all__ = ["ProgressLine"]

EVERY = 0.2  # seconds between two states of the line


class ProgressLine:
    """One line that is written over on a terminal; elsewhere a line for every stage."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._live = sys.stderr.isatty()
        self._stage = ""
        self._said = self._started = 0.0
        self._width = 0

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say how far a stage is, and a word about it."""
        now = time.monotonic()
        fresh = stage != self._stage
        if fresh:
            self._stage, self._started = stage, now
            if not self._live:
                self._output.progress(printable(f"{stage} ..."))
        if self._live and (fresh or now - self._said >= EVERY or done >= total):
            self._said = now
            spent = now - self._started
            left = f", {spent / done * (total - done):.0f} s left" if spent > 1 and done else ""
            share = f": {done / total:.0%}{left}" if total > 1 else ""
            said = f", {note}" if note else ""
            line = printable(f"{stage}{share}{said}")[:100]
            sys.stderr.write("\r" + line.ljust(self._width))
            sys.stderr.flush()
            self._width = len(line)

    def end(self) -> None:
        """Clear the line."""
        if self._live and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0
