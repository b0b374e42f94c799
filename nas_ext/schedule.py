"""Numbers that change over the steps of one phase."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

__all__ = ["Schedule", "check_shares", "check_steps", "linear", "split"]

Schedule: TypeAlias = Callable[[int], float]
"""The value at step 0, 1, ... of a phase."""


def linear(start: float, end: float, steps: int) -> Schedule:
    """Go from `start` at step 0 to `end` at step `steps` - 1, and stay there.

    v(t) = v0 + (v1 - v0) t / (S - 1), over the sampling phase alone. One step has the start value.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps!r}")
    for name, end_of_it in (("start", start), ("end", end)):
        if not _is_real(end_of_it) or not math.isfinite(end_of_it):
            raise ValueError(f"{name} must be a finite number, got {end_of_it!r}")

    def value(step: int) -> float:
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        if steps == 1:
            return start
        return start + (end - start) * min(step, steps - 1) / (steps - 1)

    return value


def check_shares(shares: Sequence[float], phases: int) -> None:
    """Raise ValueError unless there is a positive share for each of so many phases."""
    if not isinstance(shares, list | tuple) or not all(map(_is_real, shares)):
        raise ValueError(f"shares must be {phases} positive numbers, got {shares!r}")
    if len(shares) != phases or not all(0 < share < math.inf for share in shares):
        raise ValueError(f"shares must be {phases} positive numbers, got {list(shares)}")


def _is_real(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return isinstance(value, float) or abs(value) <= sys.float_info.max


def check_steps(steps: int, phases: int) -> None:
    """Raise ValueError for fewer steps than phases."""
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < phases:
        raise ValueError(f"steps must be at least 1 for each of {phases} phases, got {steps!r}")


def split(steps: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Divide a number of steps among phases in proportion to their shares.

    The parts sum to `steps`, each is at least 1, and the largest remainders take what rounding
    leaves over. Raises ValueError with fewer steps than phases or a share that is not positive.
    """
    if not isinstance(shares, list | tuple) or not shares or not all(map(_is_real, shares)):
        raise ValueError(f"shares must be positive numbers, got {shares!r}")
    if not all(0 < share < math.inf for share in shares):
        raise ValueError(f"shares must be positive, got {list(shares)}")
    check_steps(steps, len(shares))
    exact = [share / sum(shares) * steps for share in shares]
    parts = [max(1, int(part)) for part in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (parts[i] - exact[i], i))
    for index in by_remainder[: max(0, steps - sum(parts))]:
        parts[index] += 1
    while sum(parts) > steps:
        parts[parts.index(max(parts))] -= 1
    return tuple(parts)
