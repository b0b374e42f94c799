"""Balancing a mixture of eight supernets: one changed entry, and the whole matrix.

The values are biased: some supernets are better for all architectures, as they are early in a
search. Run it as `python -m perf.mixture`, on one thread.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy.special import logsumexp

from nas_ext.ipf import Balance, balance, divergence
from perf._common import Rows, cpu_seconds, interleaved, median_ratio

MODELS = 8
ROUNDS = 7
CHANGES = 500
COLDEST = 100.0 * MODELS
"""The inverse temperature at the end of a search."""

SINGLE = 100.0
"""The one at which single changes are measured: a temperature of .01."""


def averages(count: int) -> Any:
    """Return `[C, 8]` moving averages of rewards."""
    rng = np.random.default_rng(0)
    return np.clip(0.5 + rng.normal(0, 0.03, MODELS) + rng.normal(0, 0.03, (count, MODELS)), 0, 1)


def by_logsumexp(values: Any, inverse_temperature: float, tolerance: float = 1e-4) -> Any:
    """Return p(m|c) by the textbook form: rows and columns normalised in the log domain."""
    logs = inverse_temperature * values
    while True:
        logs = logs - logsumexp(logs, axis=1, keepdims=True)
        marginal = logsumexp(logs, axis=0) - np.log(len(logs))
        if divergence(np.exp(marginal)) <= tolerance:
            return np.exp(logs)
        logs = logs - marginal


def whole_matrix(rows: Rows) -> None:
    """Measure a solution from nothing."""
    values = averages(6_561)
    ours, theirs = balance(values, COLDEST).probabilities, by_logsumexp(values, COLDEST)
    rows.add("difference of the two solutions", np.abs(ours - theirs).max(), 1e-9, at_most=True)
    slow, fast = interleaved(
        lambda: by_logsumexp(values, COLDEST), lambda: balance(values, COLDEST), rounds=ROUNDS
    )
    rows.add("logsumexp form / ours at 6,561 x 8", median_ratio(slow, fast), 5)
    for count in (36, 6_561, 100_000):
        large = averages(count)
        found = balance(large, COLDEST)
        left = divergence(found.marginal) if np.isfinite(found.probabilities).all() else np.inf
        rows.add(f"divergence at {count:,} x 8, coldest", left, 1e-4, at_most=True)
    seconds = cpu_seconds(lambda: balance(averages(100_000), COLDEST))
    rows.add("CPU seconds from nothing at 100,000 x 8", seconds, 1.0, at_most=True)


def single_changes(rows: Rows) -> None:
    """Measure what one reward costs, fittings that it sets off included."""
    values = averages(6_561)
    kept = Balance(values, SINGLE)
    rng = np.random.default_rng(1)
    shape = (ROUNDS, CHANGES)
    places = rng.integers(6_561, size=shape), rng.integers(MODELS, size=shape)
    rewards = np.clip(rng.normal(0.5, 0.1, shape), 0, 1)
    coming = zip(*(side.tolist() for side in (*places, rewards)), strict=True)

    def changes() -> None:
        for row, model, reward in zip(*next(coming), strict=True):
            kept.set(row, model, 0.95 * float(kept.values[row, model]) + 0.05 * reward)

    slow, fast = interleaved(lambda: balance(values, SINGLE), changes, rounds=ROUNDS)
    once = [seconds / CHANGES for seconds in fast]
    rows.add("whole matrix / one change at 6,561 x 8", median_ratio(slow, once), 30)


def main() -> int:
    """Measure, print, and return 0 when every goal is met."""
    rows = Rows("mixture")
    whole_matrix(rows)
    single_changes(rows)
    return rows.finish()


if __name__ == "__main__":
    sys.exit(main())
