"""Whether a ground truth that was measured again agrees with the one before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import Table
from nas_ext.compare import rank_correlation
from nas_ext.references import noise_ceiling

__all__ = ["RULE", "Agreement", "agreement"]

RULE = (
    "no architecture's two means differ by more than its 95 % t-interval allows, Bonferroni's "
    "correction over the architectures, with the variance of seeds pooled over both tables and "
    "all architectures, or the architecture's own where that is larger; and Kendall's tau between "
    "the two tables of means is at least the ceiling, which is that between two single trainings"
)


@dataclass(frozen=True)
class Agreement:
    """Hold what a table says of another one of the same space.

    `identical` is the number of single trainings with the very same accuracy, of `trainings`;
    `largest_difference` of two means is a share; `outside` names the architectures whose means
    differ by more than the noise of seeds; `tau` is between the means, `ceiling` between single
    trainings of the first table, None where nobody knows it. `agrees` is `RULE`.
    """

    identical: int
    trainings: int
    largest_difference: float
    outside: tuple[str, ...]
    tau: float
    ceiling: float | None

    @property
    def agrees(self) -> bool:
        """Say whether the two are the same but for the noise of seeds, by `RULE`."""
        return not self.outside and (self.ceiling is None or self.tau >= self.ceiling)


def agreement(shipped: Table, again: Table, *, confidence: float = 0.95) -> Agreement:
    """Compare two tables of one space by their single trainings.

    Raises ValueError for tables of other spaces, for fewer than two seeds in one of them, and for
    a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if set(shipped.accuracies) != set(again.accuracies):
        raise ValueError(f"tables must be of one space, got {shipped.name!r} and {again.name!r}")
    for table in (shipped, again):
        if min((len(values) for values in table.seeds.values()), default=0) < 2:
            raise ValueError(f"table {table.name!r} must have 2 seeds or more for every network")
    networks = shipped.networks
    pooled, freedom = _pooled(shipped.seeds, again.seeds, networks)
    level = 1 - (1 - confidence) / (2 * len(networks))
    factor = float(student_t.ppf(level, freedom))
    outside, differences = [], []
    for a in networks:
        one, two = shipped.seeds[a], again.seeds[a]
        own = float(np.var(one, ddof=1)), float(np.var(two, ddof=1))
        error = math.sqrt(max(pooled, own[0]) / len(one) + max(pooled, own[1]) / len(two))
        differences.append(abs(float(np.mean(one)) - float(np.mean(two))))
        if differences[-1] > factor * error:
            outside.append(shipped.space.describe(a))
    pairs = [
        (x, y) for a in networks for x, y in zip(shipped.seeds[a], again.seeds[a], strict=False)
    ]
    ceiling = noise_ceiling(shipped)
    return Agreement(
        identical=sum(x == y for x, y in pairs),
        trainings=len(pairs),
        largest_difference=max(differences),
        outside=tuple(outside),
        tau=rank_correlation(
            [shipped.accuracies[a] for a in networks], [again.accuracies[a] for a in networks]
        ),
        ceiling=None if ceiling is None else ceiling.tau,
    )


def _pooled(
    first: Mapping[Architecture, tuple[float, ...]],
    second: Mapping[Architecture, tuple[float, ...]],
    networks: tuple[Architecture, ...],
) -> tuple[float, int]:
    """Return the variance of seeds pooled over both tables, and its degrees of freedom."""
    rows = [np.asarray(table[a]) for table in (first, second) for a in networks]
    freedom = sum(len(row) - 1 for row in rows)
    return math.fsum(float(((row - row.mean()) ** 2).sum()) for row in rows) / freedom, freedom
