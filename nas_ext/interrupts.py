"""Ctrl-C, and the signal by which clusters end a job, at moments where nothing is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Interrupts", "Stopped", "interruptible", "stopped_by_sigterm"]

NOTICE = "Stopping after this step; once more stops at once."


class Interrupted(BaseException):
    """Report a signal inside `interruptible`; no KeyboardInterrupt, which Lightning swallows."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Stopped(KeyboardInterrupt):
    """Say what a command that was stopped leaves, and how to go on; has its exit code."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Interrupts:
    """Take signals: at once, or, while `defer` holds, when whoever works asks for `requested`.

    The first one in deferred work is noted, the second one stops at once, the third kills.
    Processes that were forked here leave Ctrl-C to this one. With `once`, the first one is all:
    for a process that gets it twice, with its whole group and from its parent.
    """

    def __init__(self, signals: tuple[int, ...], *, once: bool = False) -> None:
        self.requested: int | None = None
        self._signals = signals
        self._once = once
        self._deferred = False
        self._process = os.getpid()

    def claim(self) -> None:
        """Become the handler of the signals, whoever took them meanwhile (as Lightning does)."""
        for number in self._signals:
            signal.signal(number, self._take)

    def defer(self) -> None:
        """Let the first signal wait."""
        self._deferred = True
        self.claim()

    def release(self) -> None:
        """Let no signal wait any more."""
        self._deferred = False

    def check(self) -> None:
        """Raise Interrupted where a signal waits."""
        if self.requested is not None:
            raise Interrupted(self.requested)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if self._once and self.requested is not None:
            return
        if self._deferred and self.requested is None:
            self.requested = number
            if not self._once:
                out = sys.__stderr__.fileno() if sys.__stderr__ else 2
                os.write(out, f"\n{NOTICE}\n".encode())
            return
        if self._once:
            self.requested = number
        else:
            for each in self._signals:
                signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Turn Ctrl-C and SIGTERM into `Interrupted` as long as the block lasts.

    Only in the main thread, and only signals that still do what they do by default: whoever
    ignores or handles one keeps it. In a process of `multiprocessing` the first signal counts and
    others do not hurry it: its parent, which kills one that is late, may send a second one.
    """
    found: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        found = {n: was for n, was in usual.items() if signal.getsignal(n) is was}
    interrupts = Interrupts(tuple(found), once=parent_process() is not None)
    try:
        interrupts.claim()
        yield interrupts
    finally:
        for number, was in found.items():
            signal.signal(number, was)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM do as Ctrl-C does, but raise `Stopped`, as long as the block lasts.

    Only in the main thread, and only where SIGTERM still does what it does by default.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:  # forked
            os.kill(os.getpid(), number)
            return
        raise Stopped("stopped; what is finished is kept, the same command goes on", number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
