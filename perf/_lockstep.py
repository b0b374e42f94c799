"""Two or more loops, each in a process of its own, that take their steps in turn.

A busy machine is slow now and fast a second later. Sides that run one after the other meet other
seconds; here step k of every side is done before step k + 1 of any, and only one side works at a
time. Times are each process's own.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["Turns", "in_turn", "middle_ratio"]


class Turns:
    """Take processor times between two ends of a step; wait for one's turn there, if any."""

    def __init__(self, line: Connection | None = None) -> None:
        self._line = line
        self._began = time.process_time()
        self.seconds: list[float] = []

    def step(self) -> None:
        """End a step, and begin the next one when it is this side's turn."""
        self.seconds.append(time.process_time() - self._began)
        if self._line is not None:
            self._line.send(None)
            self._line.recv()
        self._began = time.process_time()


def in_turn(
    sides: Sequence[Callable[[Turns], object]], steps: int, *, backwards: bool = False
) -> list[list[float]]:
    """Return `[sides, steps]` seconds of loops that each call `Turns.step` so many times."""
    gc.collect()
    context: Any = multiprocessing.get_context("fork")  # what was imported is there
    lines, processes = [], []
    for side in sides:
        here, there = context.Pipe()
        lines.append(here)
        arguments = side, there, tuple(lines)
        processes.append(context.Process(target=_run, args=arguments, daemon=True))
        processes[-1].start()
        there.close()
    for _ in range(steps):
        for line in reversed(lines) if backwards else lines:
            line.send(None)
            line.recv()
    taken = []
    for line, process in zip(lines, processes, strict=True):
        line.send(None)
        taken.append(list(line.recv()))
        process.join()
    return taken


def _run(
    side: Callable[[Turns], object], line: Connection, inherited: Sequence[Connection]
) -> None:
    for end in inherited:
        end.close()  # or no side would notice that whoever gives the turns is gone
    line.recv()
    turns = Turns(line)
    side(turns)
    line.send(turns.seconds)
    line.close()


def middle_ratio(slow: Sequence[Sequence[float]], fast: Sequence[Sequence[float]]) -> float:
    """Return the median over all rounds and steps of the ratio of two sides at the same step."""
    pairs = zip(slow, fast, strict=True)
    ratios = sorted(a / b for one, other in pairs for a, b in zip(one, other, strict=True))
    count = len(ratios)
    return (ratios[(count - 1) // 2] + ratios[count // 2]) / 2
