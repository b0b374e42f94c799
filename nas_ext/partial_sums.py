"""Different sums of integers, and how often each occurs, from rows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Numbers", "Sums", "added", "between", "unit_of", "united"]

Sums: TypeAlias = NDArray[np.int64]
"""`[N]` different integers, rising."""

Numbers: TypeAlias = NDArray[Any]
"""`[N]` exact integers: int64 where they fit, Python's own where they do not."""

SPARSE = 8
"""A range is scanned whole when it has no more than so many places for each sum."""


def between(sums: Sums, low: int, high: int) -> slice:
    """Return where the sums from `low` to `high` stand, both included."""
    first, last = sums.searchsorted([low, high + 1])
    return slice(int(first), int(last))


def united(rows: Sequence[tuple[Sums, int]], unit: int) -> Sums:
    """Return the different sums of all rows, each row moved by its integer.

    What differs must differ by multiples of `unit`.
    """
    rows = [row for row in rows if len(row[0])]
    if not rows:
        return np.zeros(0, dtype=np.int64)
    first, places = _range(rows, unit)
    if places <= SPARSE * sum(len(sums) for sums, _ in rows):
        marks = np.zeros(places, dtype=np.bool_)
        for sums, move in rows:
            marks[(sums + (move - first)) // unit] = True
        return np.flatnonzero(marks) * unit + first
    moved = [sums + move for sums, move in rows]
    while len(moved) > 1:
        moved = [_different(np.concatenate(moved[i : i + 2])) for i in range(0, len(moved), 2)]
    return moved[0]


def added(
    rows: Sequence[tuple[Sums, int, Numbers]], unit: int, dtype: type[Any]
) -> tuple[Sums, Numbers]:
    """Return the same with the numbers of equal sums added up; all of them are positive."""
    rows = [row for row in rows if len(row[0])]
    if not rows:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=dtype)
    first, places = _range([(sums, move) for sums, move, _ in rows], unit)
    if places <= SPARSE * sum(len(sums) for sums, _, _ in rows):
        total = np.zeros(places, dtype=dtype)
        for sums, move, numbers in rows:
            total[(sums + (move - first)) // unit] += numbers  # the sums of one row differ
        found = np.flatnonzero(total)
        return found * unit + first, total[found]
    moved = [(sums + move, numbers.astype(dtype)) for sums, move, numbers in rows]
    while len(moved) > 1:
        moved = [_joined(moved[i : i + 2]) for i in range(0, len(moved), 2)]
    return moved[0]


def _range(rows: Sequence[tuple[Sums, int]], unit: int) -> tuple[int, int]:
    """Return the least sum, and how many places there are from it to the largest."""
    first = min(int(sums[0]) + move for sums, move in rows)
    last = max(int(sums[-1]) + move for sums, move in rows)
    return first, (last - first) // unit + 1


def _different(sums: Sums) -> Sums:
    sums.sort(kind="stable")  # fast on what is sorted in pieces
    return sums[_firsts(sums)]


def _joined(rows: Sequence[tuple[Sums, Numbers]]) -> tuple[Sums, Numbers]:
    sums = np.concatenate([row[0] for row in rows])
    order = np.argsort(sums, kind="stable")
    sums = sums[order]
    firsts = np.flatnonzero(_firsts(sums))
    numbers = np.concatenate([row[1] for row in rows])[order]
    return sums[firsts], np.add.reduceat(numbers, firsts)


def _firsts(sums: Sums) -> NDArray[np.bool_]:
    """Mark the first of each run of equal sums."""
    marks = np.ones(len(sums), dtype=np.bool_)
    marks[1:] = sums[1:] != sums[:-1]
    return marks


def unit_of(rows: Sequence[Sequence[int]]) -> int:
    """Return what the sums of one number from each row differ by multiples of, 1 if by nothing."""
    return math.gcd(*(value - row[0] for row in rows for value in row)) or 1
