"""A polite end: SIGTERM lets the epoch end, and its checkpoint be written."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
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

    Only in the main thread, and only where the program has no handler of its own for it. A process
    of `multiprocessing` may get it twice, with its whole group and from its parent: to it, a
    second one says nothing new.
    """
    stop = Stop()
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        if parent_process() is None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _OfStops(logging.Filter):
    """Drop the stack trace, and the line after it, of a trial that was stopped."""

    def __init__(self) -> None:
        super().__init__()
        self._stopped = False

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        of_stop = isinstance(error, Stopped | KeyboardInterrupt)
        after = self._stopped and error is None and " failed with value " in record.getMessage()
        self._stopped = of_stop
        return not (of_stop or after)


@contextmanager
def stops_are_no_failures() -> Iterator[None]:
    """Keep Optuna from reporting trials as failed that were stopped, and go on another time."""
    logger, filter_ = logging.getLogger("optuna.study._optimize"), _OfStops()
    logger.addFilter(filter_)
    try:
        yield
    finally:
        logger.removeFilter(filter_)
