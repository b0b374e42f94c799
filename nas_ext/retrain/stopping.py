"""A polite end: SIGTERM lets the epoch end, and its checkpoint be written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Remember whether the process was asked to end."""

    def __init__(self) -> None:
        self.asked = False


class Stopped(Exception):
    """Leave a training that goes on another time."""


@contextmanager
def stop_on_sigterm() -> Iterator[Stop]:
    """Turn the first SIGTERM into a request; a second one kills as ever.

    Only in the main thread, and only where the program has no handler of its own for it.
    """
    stop = Stop()
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
