"""Numbers that change over the steps of one phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

__all__ = ["Schedule", "check_shares", "linear", "split"]

Schedule: TypeAlias = Callable[[int], float]
"""The value at step 0, 1, ... of a phase."""


def linear(start: float, end: float, steps: int) -> Schedule:
    """Go from `start` at step 0 to `end` at step `steps` - 1, and stay there.

    v(t) = v0 + (v1 - v0) t / (S - 1), over the sampling phase alone. One step has the start value.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")

    def value(step: int) -> float:
        if step < 0:
            raise ValueError(f"step must not be negative, got {step}")
        if steps == 1:
            return start
        return start + (end - start) * min(step, steps - 1) / (steps - 1)

    return value


def check_shares(shares: Sequence[float], phases: int) -> None:
    """Raise ValueError unless there is a positive share for each of so many phases."""
    if len(shares) != phases or not all(0 < share < math.inf for share in shares):
        raise ValueError(f"shares must be {phases} positive numbers, got {list(shares)}")


def split(steps: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Divide a number of steps among phases in proportion to their shares.

    The parts sum to `steps`, each is at least 1, and the largest remainders take what rounding
    leaves over. Raises ValueError with fewer steps than phases or a share that is not positive.
    """
    if not all(share > 0 for share in shares):
        raise ValueError(f"shares must be positive, got {list(shares)}")
    if steps < len(shares):
        raise ValueError(f"steps must be at least 1 for each of {len(shares)} phases, got {steps}")
    exact = [share / sum(shares) * steps for share in shares]
    parts = [max(1, int(part)) for part in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (parts[i] - exact[i], i))
    for index in by_remainder[: max(0, steps - sum(parts))]:
        parts[index] += 1
    while sum(parts) > steps:
        parts[parts.index(max(parts))] -= 1
    return tuple(parts)
