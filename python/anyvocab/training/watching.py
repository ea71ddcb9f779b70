"""Progress of a training that runs in the core."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from anyvocab import _core

__all__ = ["Progress", "watched"]

Progress: TypeAlias = Callable[[str, int, int], None]

EVERY = 0.2  # seconds between two reports


@contextmanager
def watched(
    progress: Progress | None, total: int, *, stage: str = "merging"
) -> Iterator[_core.TrainProgress | None]:
    """Report on a training while the body runs: `progress(stage, merges, total)`.

    The core learns on the calling thread and without the interpreter's lock; the reports come from
    a thread of their own.
    """
    if progress is None:
        yield None
        return
    watch = _core.TrainProgress()
    over = threading.Event()

    def report() -> None:
        progress(stage, 0, total)
        while not over.wait(EVERY):
            progress(stage, min(watch.merges, total), total)

    reporter = threading.Thread(target=report, name="anyvocab-progress", daemon=True)
    reporter.start()
    try:
        yield watch
    finally:
        over.set()
        reporter.join()
