"""What a table says without a search: random choice, counted costs, and the noise of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import Table
from nas_ext.compare import Interval, rank_correlation, rank_correlation_interval

__all__ = ["Ceiling", "interval_values", "noise_ceiling", "references"]

SIMULATIONS = 200
"""Pairs of training seeds that are drawn where none are published."""


@dataclass(frozen=True)
class Ceiling:
    """Say how well one training of every network ranks them as another training does.

    `tau` is Kendall's tau-b between two training seeds, over distinct networks: nobody who sees
    one seed can be expected to rank another better. `simulated` says that the seeds are not
    published, and that tau is the mean over normal draws with the published deviations.
    """

    tau: float
    simulated: bool


def interval_values(value: Interval) -> dict[str, float]:
    """Return an interval as JSON values."""
    return {"mean": value.mean, "low": value.low, "high": value.high, "n": value.n}


def references(truth: Table) -> dict[str, dict[str, Any]]:
    """Return what needs no search: a random choice, the most macs or parameters, and the best.

    The random choice is the expectation over networks, ranked lists drawn without replacement.
    A cost that all networks share is left out. `tau` is Kendall's tau-b of the cost with the
    accuracy over distinct networks, with the bootstrap interval over networks.
    """
    known: dict[str, dict[str, Any]] = {"random choice": _random_choice(truth)}
    accuracies = [truth.accuracies[a] for a in truth.networks]
    for label, costs in (("most macs", truth.macs), ("most parameters", truth.params)):
        values = [float(costs[a]) for a in truth.networks] if costs else []
        if len(set(values)) > 1:
            ranked = sorted(truth.networks, key=lambda a: -costs[a])
            tau = rank_correlation_interval(values, accuracies, resamples=500)
            known[label] = {**_ranked(truth, ranked), "tau": interval_values(tau)}
    return {**known, "best": _ranked(truth, sorted(truth.networks, key=truth.regret))}


def _ranked(truth: Table, ranking: Sequence[Architecture]) -> dict[str, Any]:
    found = ranking[0]
    rank = truth.ranks()[found]
    return {
        "found": truth.space.describe(found),
        "accuracy": truth.accuracies[found],
        "regret": truth.regret(found),
        "regret_of_top5": min(map(truth.regret, ranking[:5])),
        "regret_of_top10": min(map(truth.regret, ranking[:10])),
        "rank": rank,
        "found_in_top5": float(rank <= 5),
    }


def _random_choice(truth: Table) -> dict[str, Any]:
    """Return expectations: E[max of k] sums a_(i) C(i-1, k-1) / C(n, k) over ascending a."""
    ascending = sorted(truth.accuracies[a] for a in truth.networks)
    n, best = len(ascending), ascending[-1]

    def regret(k: int) -> float:
        k = min(k, n)
        weights = (math.comb(i, k - 1) / math.comb(n, k) for i in range(n))
        return best - math.fsum(a * w for a, w in zip(ascending, weights, strict=True))

    ranks = [truth.ranks()[a] for a in truth.networks]
    return {
        "found": None,
        "accuracy": best - regret(1),
        "regret": regret(1),
        "regret_of_top5": regret(5),
        "regret_of_top10": regret(10),
        "rank": math.fsum(ranks) / n,
        "found_in_top5": sum(rank <= 5 for rank in ranks) / n,
    }


def noise_ceiling(truth: Table) -> Ceiling | None:
    """Return the mean tau between two training seeds; None when nothing is known of them."""
    if truth.seeds:
        columns = list(zip(*(truth.seeds[a] for a in truth.networks), strict=True))
        taus = [rank_correlation(one, two) for one, two in combinations(columns, 2)]
        return Ceiling(math.fsum(taus) / len(taus), simulated=False) if taus else None
    if not truth.deviations:
        return None
    means = np.asarray([truth.accuracies[a] for a in truth.networks])
    spread = np.asarray([truth.deviations[a] for a in truth.networks])
    rng = np.random.default_rng(0)
    seeds = rng.normal(means, spread, size=(SIMULATIONS, 2, len(means)))
    taus = [rank_correlation(one.tolist(), two.tolist()) for one, two in seeds]
    return Ceiling(math.fsum(taus) / len(taus), simulated=True)
