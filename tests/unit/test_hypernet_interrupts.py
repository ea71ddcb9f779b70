"""Ctrl-C in a training: at once, but never in the middle of an update."""

from __future__ import annotations

import signal
import threading

import pytest

from anyvocab.hypernet.interrupts import Interrupts


def test_a_process_alone_is_interrupted_where_it_stands() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts(alone=True):
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")


def test_held_code_ends_first() -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), Interrupts(alone=True) as interrupts, interrupts.held():
        signal.raise_signal(signal.SIGINT)
        done = True
    assert done
    assert not interrupts.asked


def test_an_error_in_held_code_is_not_hidden_by_ctrl_c() -> None:
    with pytest.raises(ValueError, match="ours"), Interrupts(alone=True) as interrupts:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("ours")


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

    def work() -> None:
        with Interrupts(alone=True):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
