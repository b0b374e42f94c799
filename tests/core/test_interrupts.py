"""Signals that this process sends itself, taken at once or when a step is over."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from nas_ext.interrupts import Interrupted, Interrupts, Stopped, interruptible

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the handlers back, whatever a test did to them."""
    before = {number: signal.getsignal(number) for number in BOTH}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_outside_of_deferred_work_stops_at_once(number: int) -> None:
    with pytest.raises(Interrupted) as stopped, interruptible():
        send(number)
    assert stopped.value.number == number
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_waits_in_deferred_work_and_the_second_stops(number: int) -> None:
    with interruptible() as interrupts:
        interrupts.defer()
        send(number)
        assert interrupts.requested == number  # and the step goes on
        with pytest.raises(Interrupted):
            send(signal.SIGINT)


def test_the_third_signal_kills_as_ever() -> None:
    with interruptible() as interrupts:
        interrupts.defer()
        send(signal.SIGINT)
        with pytest.raises(Interrupted):
            send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_a_waiting_signal_is_raised_where_somebody_asks() -> None:
    with interruptible() as interrupts:
        interrupts.check()
        interrupts.defer()
        send(signal.SIGTERM)
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            interrupts.check()


def test_handlers_that_others_took_meanwhile_are_claimed_again() -> None:
    with interruptible() as interrupts:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interrupts.defer()
        send(signal.SIGTERM)
        assert interrupts.requested == signal.SIGTERM


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as workers do, which leave it to their parent
    with interruptible() as interrupts:
        send(signal.SIGINT)
        interrupts.defer()
        send(signal.SIGINT)
        assert interrupts.requested is None


def test_another_thread_takes_no_signals() -> None:
    found: list[object] = []

    def work() -> None:
        with interruptible() as interrupts:
            interrupts.defer()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_a_forked_process_leaves_ctrl_c_to_its_parent_and_ends_by_sigterm() -> None:
    with interruptible() as interrupts:
        interrupts.defer()
        child = os.fork()
        if child == 0:
            send(signal.SIGINT)
            send(signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        assert interrupts.requested is None


def test_a_stop_has_the_exit_code_of_its_signal() -> None:
    assert Stopped("").exit_code == 130
    assert Stopped("", signal.SIGTERM).exit_code == 143
    assert isinstance(Stopped(""), KeyboardInterrupt)


def test_nobody_has_to_take_signals() -> None:
    interrupts = Interrupts(())
    interrupts.defer()
    interrupts.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
