"""Mean cosine distances by the centred identity, against the matrix of pairs in blocks.

Prints a line for each size: name, ratio of the medians, goal, pass or fail; then the relative
errors of both in float32 on near duplicates, against float64. Both sides run in this process, in
turn; give them one thread, as `OMP_NUM_THREADS=1`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nas_ext.density import mean_cosine

COLUMNS = 640
ROUNDS = 3
SIZES = ((6_561, 50.0), (15_625, 150.0))
LARGEST_ERROR = 1e-3


def pairwise(rows: Any) -> Any:
    """Return the mean of 1 - cosine from blocks of the matrix of pairs, in the rows' precision."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    sums = [
        (1 - units[first : first + 1024] @ units.T).sum(axis=1)
        for first in range(0, len(units), 1024)
    ]
    return np.concatenate(sums) / (len(units) - 1)


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the processor seconds that a piece of work takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def speed(count: int, goal: float) -> bool:
    """Measure one size, print its line, and say whether the goal is met."""
    rows = np.random.default_rng(0).normal(size=(count, COLUMNS)).astype(np.float32)
    pairs = [
        (cpu_seconds(lambda: pairwise(rows)), cpu_seconds(lambda: mean_cosine(rows)))
        for _ in range(ROUNDS)
    ]
    slow, fast = (statistics.median(side) for side in zip(*pairs, strict=True))
    verdict = "pass" if slow / fast >= goal else "fail"
    name = f"pairs / centred identity at {count:,} x {COLUMNS}"
    print(f"{name}  {slow / fast:.1f}  {goal:.0f}  {verdict}")
    return bool(slow / fast >= goal)


def accuracy() -> bool:
    """Print the relative errors at a mean distance of 3e-7, and say whether ours is small."""
    rng = np.random.default_rng(1)
    noise = np.sqrt(3e-7) * rng.normal(size=(1_000, COLUMNS))
    rows = (rng.normal(size=COLUMNS) + noise).astype(np.float32)
    units = rows.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    exact = np.asarray([((units - unit) ** 2).sum() / 2 for unit in units]) / (len(units) - 1)
    ours, theirs = (np.abs(f(rows) / exact - 1).max() for f in (mean_cosine, pairwise))
    verdict = "pass" if ours < LARGEST_ERROR else "fail"
    print(f"relative error on near duplicates  {ours:.1e}  {LARGEST_ERROR:.0e}  {verdict}")
    print(f"  the same of pairs in float32  {theirs:.1e}")
    return bool(ours < LARGEST_ERROR)


def main() -> int:
    """Measure, print, and return 0 when every goal is met."""
    met = [speed(count, goal) for count, goal in SIZES]
    met.append(accuracy())
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
