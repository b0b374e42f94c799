"""Mean cosine distances by the centred identity, against the matrix of pairs in blocks.

Prints a line for each goal: name, value, goal, pass or fail. Errors are relative, in float32 on
near duplicates, against float64. Run it as `python -m perf.density`, on one thread.
"""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import numpy as np

from nas_ext.density import mean_cosine
from perf._common import Rows, cpu_seconds, interleaved, median_ratio

COLUMNS = 640
ROUNDS = 5
SIZES = ((6_561, 50.0), (15_625, 150.0))


def pairwise(rows: Any) -> Any:
    """Return the mean of 1 - cosine from blocks of the matrix of pairs, in the rows' precision."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    sums = [
        (1 - units[first : first + 1024] @ units.T).sum(axis=1)
        for first in range(0, len(units), 1024)
    ]
    return np.concatenate(sums) / (len(units) - 1)


def speed(rows: Rows, count: int, goal: float) -> None:
    """Measure one size."""
    made = np.random.default_rng(0).standard_normal((count, COLUMNS), dtype=np.float32)
    slow, fast = interleaved(
        lambda: pairwise(made), lambda: [mean_cosine(made) for _ in range(5)], rounds=ROUNDS
    )
    once = [seconds / 5 for seconds in fast]
    rows.add(f"pairs / centred identity at {count:,} x {COLUMNS}", median_ratio(slow, once), goal)


def one_hundred_thousand(rows: Rows) -> None:
    """Measure time and memory of 100,000 rows."""
    made = np.random.default_rng(0).standard_normal((100_000, COLUMNS), dtype=np.float32)
    seconds = cpu_seconds(lambda: mean_cosine(made))
    rows.add("CPU seconds at 100,000 x 640", seconds, 1.0, at_most=True)
    tracemalloc.start()
    mean_cosine(made)
    extra = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    rows.add("MB beside the rows at 100,000 x 640", extra, 100.0, at_most=True)


def accuracy(rows: Rows) -> None:
    """Measure the errors at a mean distance of 3e-7, and of rows that are 1e-3 apart."""
    rng = np.random.default_rng(1)
    for name, spread in (("at a mean distance of 3e-7", np.sqrt(3e-7)), ("at spread 1e-3", 1e-3)):
        noise = spread * rng.normal(size=(1_000, COLUMNS))
        made = (rng.normal(size=COLUMNS) + noise).astype(np.float32)
        units = made.astype(np.float64)
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        exact = np.asarray([((units - unit) ** 2).sum() / 2 for unit in units]) / (len(units) - 1)
        ours, theirs = (float(np.abs(f(made) / exact - 1).max()) for f in (mean_cosine, pairwise))
        rows.add(f"relative error {name} (pairs: {theirs:.1e})", ours, 1e-3, at_most=True)


def main() -> int:
    """Measure, print, and return 0 when every goal is met."""
    rows = Rows("density")
    for count, goal in SIZES:
        speed(rows, count, goal)
    one_hundred_thousand(rows)
    accuracy(rows)
    return rows.finish()


if __name__ == "__main__":
    sys.exit(main())
