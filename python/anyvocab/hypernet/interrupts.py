"""Ctrl-C during a training: heard at once, but never in the middle of an update."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """Hears Ctrl-C while it is entered.

    A single process is interrupted where it stands, but for `held` code, which ends first. Of many
    processes none may leave alone, since the others would wait for it: they only take note, and
    leave together after a step.

    Attributes:
        asked: Whether Ctrl-C was heard and nothing was interrupted yet.
    """

    def __init__(self, *, alone: bool) -> None:
        self.asked = False
        self._alone, self._held = alone, False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        self.asked = False
        found = signal.getsignal(signal.SIGINT)
        # Only the main thread hears signals; where they are ignored they stay so.
        if threading.current_thread() is threading.main_thread() and callable(found):
            self._before = found
            signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._alone and not self._held:
            self._before(number, frame)
        else:
            self.asked = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the code inside end before Ctrl-C is heard."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._alone and self.asked:
            self.asked = False
            raise KeyboardInterrupt
