"""Ctrl-C in a training: at once, but never in the middle of an update."""

from __future__ import annotations

import signal
import threading

import pytest

from anyvocab.hypernet.interrupts import Interrupts


def work(done: list[str], *, held: bool, fails: bool = False) -> None:
    """Be interrupted in a process that is alone."""
    with Interrupts(alone=True) as interrupts:
        if held:
            with interrupts.held():
                signal.raise_signal(signal.SIGINT)
                done.append("held")
                if fails:
                    raise ValueError("ours")
        else:
            signal.raise_signal(signal.SIGINT)
        done.append("went on")


def test_a_process_alone_is_interrupted_where_it_stands() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work(done, held=False)
    assert not done


def test_held_code_ends_first() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work(done, held=True)
    assert done == ["held"]


def test_an_error_in_held_code_is_not_hidden_by_ctrl_c() -> None:
    with pytest.raises(ValueError, match="ours"):
        work([], held=True, fails=True)


def test_one_of_many_processes_only_takes_note() -> None:
    with Interrupts(alone=False) as interrupts:
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.asked


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_who_heard_signals_before_hears_them_afterwards(before: signal.Handlers) -> None:
    found = signal.signal(signal.SIGINT, before)
    try:
        with Interrupts(alone=True):
            pass
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, found)


def test_other_threads_leave_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def elsewhere() -> None:
        with Interrupts(alone=True):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]
