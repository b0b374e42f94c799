"""What a search trained: how it spread its draws, and whether on the good or the bad ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import Table

__all__ = ["diagnose", "fifths"]


def diagnose(
    table: Table,
    *,
    scores: Mapping[Architecture, float],
    draws: Mapping[Architecture, int],
    law: Mapping[Architecture, float] | None = None,
) -> dict[str, float | None]:
    """Return the numbers of `DIAGNOSTICS` by name; None where there is no such number.

    Correlations are Spearman's, over all architectures of the space; one that was never drawn
    counts as drawn 0 times. None where all of a side are equal, and where nobody counted draws.
    A density-aware method draws the less dense more often, so that `density_to_truth` is minus
    the correlation of its `law` with the truth: positive where the dense ones are the good ones.
    """
    known = list(table.accuracies)
    truth = [table.accuracies[a] for a in known]
    density = None if law is None else _correlation([-law[a] for a in known], truth)
    total = sum(draws.values())
    if not total:
        return {**dict.fromkeys(_OF_DRAWS), "density_to_truth": density}
    counts = [float(draws.get(a, 0)) for a in known]
    top, bottom = fifths(table)
    return {
        "different_drawn": float(sum(count > 0 for count in counts)),
        "largest_share_of_draws": max(counts) / total,
        "draws_to_score": _correlation(counts, [scores[a] for a in known]),
        "draws_to_truth": _correlation(counts, truth),
        "draws_on_true_top_fifth": sum(draws.get(a, 0) for a in top) / total,
        "draws_on_true_bottom_fifth": sum(draws.get(a, 0) for a in bottom) / total,
        "density_to_truth": density,
    }


_OF_DRAWS = (
    *("different_drawn", "largest_share_of_draws", "draws_to_score", "draws_to_truth"),
    *("draws_on_true_top_fifth", "draws_on_true_bottom_fifth"),
)


def fifths(table: Table) -> tuple[frozenset[Architecture], frozenset[Architecture]]:
    """Return the truly best and the truly worst fifth of the architectures.

    A fifth is rounded to whole ones, at least one; ties go to the first in the space's order.
    """
    ordered = sorted(table.accuracies, key=lambda a: -table.accuracies[a])
    count = max(1, round(len(ordered) / 5))
    return frozenset(ordered[:count]), frozenset(ordered[-count:])


def _correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)
