"""What one search is worth, judged by the ground truth of its space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import Table
from nas_ext.compare import precision_at, rank_correlation, top_correlation
from nas_ext.comparison.diagnostics import diagnose

__all__ = ["DIAGNOSTICS", "METRICS", "NUMBERS", "Judged", "Metric", "judge"]


@dataclass(frozen=True)
class Metric:
    """Say how a number is called, whether more of it is better, and how it is printed.

    Of a diagnosis neither is better: None. A printed number is `scale` times the value, with
    `digits` decimals.
    """

    name: str
    heading: str
    higher_is_better: bool | None
    scale: float = 1.0
    digits: int = 2


METRICS = (
    Metric("tau", "Kendall's tau", True),
    Metric("tau_of_true_top", "tau in the true top 10", True),
    Metric("tau_of_predicted_top", "tau in the predicted top 10", True),
    Metric("precision_at_5", "P@5", True),
    Metric("accuracy", "accuracy of the pick, %", True, 100),
    Metric("regret", "regret, points", False, 100),
    Metric("regret_of_top5", "regret of the best of 5, points", False, 100),
    Metric("regret_of_top10", "regret of the best of 10, points", False, 100),
    Metric("draws_on_true_top", "draws on the true top 5, %", True, 100, 1),
)
"""What a judged search is worth, in the order of tables."""

DIAGNOSTICS = (
    Metric("different_drawn", "different architectures drawn", None, 1, 1),
    Metric("largest_share_of_draws", "largest share of the draws, %", None, 100, 1),
    Metric("draws_to_score", "Spearman: draws and supernet's score", None),
    Metric("draws_to_truth", "Spearman: draws and true accuracy", None),
    Metric("draws_on_true_top_fifth", "draws on the true top fifth, %", None, 100, 1),
    Metric("draws_on_true_bottom_fifth", "draws on the true bottom fifth, %", None, 100, 1),
    Metric("density_to_truth", "Spearman: density and true accuracy", None),
)
"""What a judged search trained, see `nas_ext.comparison.diagnostics`."""

NUMBERS = (*METRICS, *DIAGNOSTICS)
"""All numbers of a judged search."""


@dataclass(frozen=True)
class Judged:
    """Hold the numbers of one search, by the names of `NUMBERS`; None where it has no such number.

    The tau are Kendall's tau-b between the supernet's accuracies and the truth: over all
    architectures, over the truly best ten, and over those predicted to be. `regret` is what the
    pick lacks to the best, as a share; that of the best of k is what the truly best of the k first
    lacks. `draws_on_true_top` is the share of training passes that went to the truly best five.
    """

    competitor: str
    seed: int
    pick: str
    values: Mapping[str, float | None]


def judge(
    table: Table,
    *,
    competitor: str,
    seed: int,
    scores: Mapping[Architecture, float],
    ranking: Sequence[Architecture],
    draws: Mapping[Architecture, int],
    law: Mapping[Architecture, float] | None = None,
) -> Judged:
    """Judge a search by its supernet's `scores` of all architectures, its ranking and its draws.

    `ranking` is the strategy's own final order, best first; where it is shorter than k, the scores
    fill it up to k. `law` are the shares by which a density-aware method drew. Raises ValueError
    unless the scores cover the space.
    """
    if set(scores) != set(table.accuracies):
        raise ValueError(f"scores must cover space {table.space.name!r} exactly")
    if not ranking:
        raise ValueError("ranking must not be empty, got ()")
    truth = [table.accuracies[a] for a in scores]
    guess = list(scores.values())
    rest = sorted(scores, key=lambda a: -scores[a])
    order = list(dict.fromkeys([*ranking, *rest]))
    flat = np.ptp(guess) == 0  # a supernet that learned nothing orders nothing
    ten, five = min(10, len(truth)), min(5, len(truth))
    total = sum(draws.values())
    values: dict[str, float | None] = {
        "tau": 0.0 if flat else rank_correlation(guess, truth),
        "tau_of_true_top": _top(guess, truth, ten, of="truth"),
        "tau_of_predicted_top": _top(guess, truth, ten, of="predicted"),
        "precision_at_5": precision_at(guess, truth, five),
        "accuracy": table.accuracies[order[0]],
        "regret": table.regret(order[0]),
        "regret_of_top5": min(map(table.regret, order[:5])),
        "regret_of_top10": min(map(table.regret, order[:10])),
        "draws_on_true_top": sum(draws.get(a, 0) for a in table.top(5)) / total if total else None,
        **diagnose(table, scores=scores, draws=draws, law=law),
    }
    return Judged(competitor, seed, table.space.describe(order[0]), values)


def _top(guess: Sequence[float], truth: Sequence[float], k: int, *, of: str) -> float:
    """Return tau among the top k, 0 where a side is constant there and orders nothing."""
    side = truth if of == "truth" else guess
    places = np.argsort(-np.asarray(side), kind="stable")[:k]
    if min(np.ptp(np.asarray(guess)[places]), np.ptp(np.asarray(truth)[places])) == 0:
        return 0.0
    return top_correlation(guess, truth, k, of="truth" if of == "truth" else "predicted")
