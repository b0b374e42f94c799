"""Intervals, paired tests and average ranks over the searches of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, friedmanchisquare, rankdata, studentized_range, wilcoxon

from nas_ext.compare import Interval, mean_interval
from nas_ext.comparison.metrics import METRICS, NUMBERS, Judged
from nas_ext.estimation import FloatArray

__all__ = [
    "AverageRanks",
    "Contrast",
    "Summary",
    "average_ranks",
    "contrasts",
    "having",
    "summaries",
]

RESAMPLES = 10_000


@dataclass(frozen=True)
class Summary:
    """Hold the means of a competitor's numbers over its seeds, with Student's intervals."""

    competitor: str
    means: Mapping[str, Interval]


@dataclass(frozen=True)
class Contrast:
    """Hold the mean paired difference of a competitor to the reference, seed by seed.

    `low` and `high` are the percentile interval of a bootstrap over the seeds (10,000 resamples);
    `p_value` is Wilcoxon's signed-rank test, two-sided, and `adjusted` the same after Holm's
    correction over all competitors. `significant` says whether `adjusted` is below 0.05.
    """

    competitor: str
    metric: str
    mean: float
    low: float
    high: float
    p_value: float
    adjusted: float
    n: int

    @property
    def significant(self) -> bool:
        """Say whether the difference exceeds the noise of seeds, many being tested."""
        return self.adjusted < 0.05


@dataclass(frozen=True)
class AverageRanks:
    """Hold average ranks over seeds, 1 the best, and how far apart they must be.

    `critical_difference` is Nemenyi's at 0.05; `p_value` Friedman's, of all being equal.
    """

    metric: str
    ranks: Mapping[str, float]
    critical_difference: float
    p_value: float
    n: int


def summaries(judged: Sequence[Judged]) -> list[Summary]:
    """Return the means of every competitor, in the order of their first search.

    A number that a competitor has for fewer than two of its seeds is left out. Raises ValueError
    for a competitor with fewer than two seeds.
    """
    found = []
    for competitor, runs in _grouped(judged).items():
        if len(runs) < 2:
            raise ValueError(f"seeds of {competitor} must be at least 2, got {sorted(runs)}")
        means = {}
        for metric in NUMBERS:
            values = [v for run in runs.values() if (v := run.values[metric.name]) is not None]
            if len(values) > 1:
                means[metric.name] = mean_interval(values)
        found.append(Summary(competitor, means))
    return found


def having(judged: Sequence[Judged], metric: str) -> list[Judged]:
    """Return the searches of the competitors that have a number with every seed."""
    without = {one.competitor for one in judged if one.values[metric] is None}
    return [one for one in judged if one.competitor not in without]


def contrasts(
    judged: Sequence[Judged], *, reference: str, metric: str, seed: int = 0
) -> list[Contrast]:
    """Compare every competitor with the reference on the same seeds.

    `seed` leads the bootstrap. Raises ValueError for an unknown reference and for competitors
    without the reference's seeds.
    """
    runs = _grouped(judged)
    if reference not in runs:
        raise ValueError(f"reference must be one of {sorted(runs)}, got {reference!r}")
    names = [name for name in runs if name != reference]
    table = _table(runs, metric, [reference, *names])
    differences = [table[i + 1] - table[0] for i in range(len(names))]
    p_values = [_wilcoxon(values) for values in differences]
    found = []
    for name, values, p, adjusted in zip(
        names, differences, p_values, _holm(p_values), strict=True
    ):
        low, high = _bootstrap(values, seed)
        found.append(
            Contrast(name, metric, float(values.mean()), low, high, p, adjusted, len(values))
        )
    return found


def average_ranks(judged: Sequence[Judged], *, metric: str) -> AverageRanks:
    """Rank the competitors seed by seed, ties sharing their mean rank.

    Demsar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", with seeds in
    the place of data sets. Raises ValueError for fewer than three competitors, where Friedman's
    test is not defined, and for other seeds.
    """
    runs = _grouped(judged)
    if len(runs) < 3:
        raise ValueError(f"judged must be of at least 3 competitors, got {sorted(runs)}")
    higher = next(m.higher_is_better for m in METRICS if m.name == metric)
    table = _table(runs, metric, list(runs))
    ranks = np.apply_along_axis(rankdata, 0, -table if higher else table)
    k, n = table.shape
    q = float(studentized_range.ppf(0.95, k, np.inf)) / math.sqrt(2)
    constant = bool((np.ptp(ranks, axis=0) == 0).all())
    p_value = 1.0 if constant else float(friedmanchisquare(*table).pvalue)
    return AverageRanks(
        metric=metric,
        ranks=dict(zip(runs, ranks.mean(axis=1).tolist(), strict=True)),
        critical_difference=q * math.sqrt(k * (k + 1) / (6 * n)),
        p_value=p_value,
        n=n,
    )


def _grouped(judged: Sequence[Judged]) -> dict[str, dict[int, Judged]]:
    runs: dict[str, dict[int, Judged]] = {}
    for one in judged:
        if one.seed in runs.setdefault(one.competitor, {}):
            raise ValueError(f"judged must have each seed once, {one.competitor} {one.seed} twice")
        runs[one.competitor][one.seed] = one
    return runs


def _table(
    runs: Mapping[str, Mapping[int, Judged]], metric: str, names: Sequence[str]
) -> FloatArray:
    """Return `[competitors, seeds]` numbers; ValueError unless all have the same seeds."""
    seeds = sorted(runs[names[0]])
    rows = []
    for name in names:
        if sorted(runs[name]) != seeds:
            raise ValueError(f"{name} must have the seeds {seeds}, got {sorted(runs[name])}")
        row = [runs[name][seed].values[metric] for seed in seeds]
        if any(value is None for value in row):
            raise ValueError(f"{name} has no {metric!r}")
        rows.append(row)
    return np.asarray(rows, dtype=np.float64)


def _bootstrap(values: FloatArray, seed: int) -> tuple[float, float]:
    if len(values) < 2:
        raise ValueError(f"seeds must be at least 2 for an interval, got {len(values)}")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    found = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _wilcoxon(values: FloatArray) -> float:
    """Return the p-value of "no difference"; 1 where nothing differs."""
    if not values.any():
        return 1.0
    return float(wilcoxon(values, zero_method="pratt").pvalue)


def _holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down correction (Holm 1979), in the given order."""
    count = len(p_values)
    adjusted, largest = [0.0] * count, 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (count - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
