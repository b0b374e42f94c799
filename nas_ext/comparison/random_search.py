"""Random search by plain training: what the compute of a supernet buys without one."""

from __future__ import annotations

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.benchmarks import Table
from nas_ext.benchmarks.measured import MeasuredTable
from nas_ext.comparison.diagnostics import fifths
from nas_ext.comparison.metrics import NUMBERS, Judged

__all__ = ["random_search", "trainings_within"]


def trainings_within(table: Table, images: int) -> int:
    """Return how many architectures can be trained alone with so many training images.

    Images, not batches, since a table's batches have a size of their own. At least 1: to take an
    architecture blindly needs no training. Raises ValueError for a table without a manifest.
    """
    each = table.images_per_training if isinstance(table, MeasuredTable) else None
    if each is None:
        raise ValueError(
            f"table {table.name!r} must have the manifest of its trainings for random-search: "
            "without it nobody knows what one costs"
        )
    return max(1, images // each)


def random_search(table: Table, *, competitor: str, seed: int, trainings: int) -> Judged:
    """Train so many networks drawn without replacement, and pick the best of them.

    Nothing is trained: the accuracies are those of one training seed of the table, drawn too.
    What the pick is worth is the mean of the *other* training seeds, so that what it was chosen
    by and what it is judged by share no noise of training (they share the test images). Regret
    is to the same best mean as everybody's, so it can fall below 0 by noise. There is no order
    of all architectures, hence no tau. Raises ValueError for a table with fewer than two seeds.
    """
    columns = min((len(values) for values in table.seeds.values()), default=0)
    if columns < 2:
        raise ValueError(f"table {table.name!r} must have 2 seeds or more, got {columns}")
    if trainings < 1:
        raise ValueError(f"trainings must be at least 1, got {trainings}")
    rng = np.random.default_rng(seed)
    column = int(rng.integers(columns))
    count = min(trainings, len(table.networks))
    chosen = rng.choice(len(table.networks), size=count, replace=False).tolist()
    drawn: list[Architecture] = [table.networks[i] for i in chosen]
    ranking = sorted(drawn, key=lambda a: -table.seeds[a][column])
    worth = {a: float(np.mean(np.delete(table.seeds[a], column))) for a in drawn}
    best, (top, bottom) = table.accuracies[table.best], fifths(table)
    values: dict[str, float | None] = {
        **dict.fromkeys(metric.name for metric in NUMBERS),
        "accuracy": worth[ranking[0]],
        "regret": best - worth[ranking[0]],
        "draws_on_true_top": sum(a in table.top(5) for a in drawn) / count,
        "different_drawn": float(count),
        "largest_share_of_draws": 1 / count,
        "draws_on_true_top_fifth": sum(a in top for a in drawn) / count,
        "draws_on_true_bottom_fifth": sum(a in bottom for a in drawn) / count,
    }
    for k in (5, 10):
        if count >= k:
            values[f"regret_of_top{k}"] = best - max(worth[a] for a in ranking[:k])
    return Judged(competitor, seed, table.space.describe(ranking[0]), values)
