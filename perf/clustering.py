"""Trees of architectures that are alike, against SciPy's distances and average linkage.

Both sides go from rows to a tree of nodes. The rows are what 3^8 networks might put out: a part
for each option of eight layers, early ones larger, and noise. Memory is what NumPy allocates on
the way, the rows included. Run it as `python -m perf.clustering`, on one thread.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from nas_ext.similarity import encoding_rows
from nas_ext.tree import BinaryTree, Clustering, cluster_rows
from perf._common import Rows, cpu_seconds, interleaved, median_ratio

COLUMNS = 640
ROUNDS = 5
CLUSTERS = 64


def outputs(count: int, layers: int) -> Any:
    """Return `[N, 640]` rows of the first N of 3^layers architectures."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(layers, 3, COLUMNS)) * 0.5 ** (np.arange(layers) / 2)[:, None, None]
    rows = np.empty((count, COLUMNS))
    for first in range(0, count, 1_000):
        numbers = np.arange(first, min(first + 1_000, count))
        rows[numbers] = 0.1 * rng.normal(size=(len(numbers), COLUMNS))
        for part, option in zip(parts, np.unravel_index(numbers, (3,) * layers), strict=True):
            rows[numbers] += part[option]
    return rows


def grow(rows: Any, clustering: Clustering) -> BinaryTree:
    """Return our tree of rows."""
    names = [(i,) for i in range(len(rows))]
    alike = encoding_rows(rows, weights=np.ones(rows.shape[1]))
    return cluster_rows(names, alike, np.random.default_rng(0), clustering=clustering)


def scipys(rows: Any) -> BinaryTree:
    """Return SciPy's tree of rows."""
    merges = linkage(pdist(rows), "average")
    names = [(i,) for i in range(len(rows))]
    return BinaryTree(names, [(int(left), int(right), h) for left, right, h, _ in merges])


def left_over(rows: Any, tree: BinaryTree) -> float:
    """Return the squares within 64 clusters of a tree."""
    table = np.column_stack([np.asarray(tree.merges), np.ones(len(tree.merges))])
    labels = fcluster(table, CLUSTERS, "maxclust")
    groups = [rows[labels == label] for label in np.unique(labels)]
    return float(sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups))


def megabytes(work: Callable[[], object]) -> float:
    """Return the most that was allocated at once, in millions of bytes."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def all_of_nasbench_macro(rows: Rows) -> None:
    """Measure 6,561 architectures: exactly, and by halves."""
    made = outputs(6_561, 8)
    slow, exact, halved = interleaved(
        lambda: scipys(made),
        lambda: grow(made, "exact"),
        lambda: grow(made, "bisecting"),
        rounds=ROUNDS,
    )
    rows.add("pdist + linkage / exact tree at 6,561 x 640", median_ratio(slow, exact), 6)
    rows.add("pdist + linkage / bisected tree at 6,561 x 640", median_ratio(slow, halved), 12)
    theirs, ours, halves = scipys(made), grow(made, "exact"), grow(made, "bisecting")
    errors = [abs(a[2] / b[2] - 1) for a, b in zip(ours.merges, theirs.merges, strict=True)]
    rows.add("relative error of the heights", max(errors), 1e-4, at_most=True)
    share = left_over(made, halves) / left_over(made, theirs)
    rows.add("squares within 64 clusters, bisected / exact", share, 1.05, at_most=True)
    peak = megabytes(lambda: grow(outputs(6_561, 8), "exact"))
    rows.add("MB for the exact tree at 6,561 x 640", peak, 500, at_most=True)


def one_hundred_thousand(rows: Rows) -> None:
    """Measure 100,000 architectures, which only halves can do."""
    seconds = _seconds(outputs(100_000, 11))
    rows.add("CPU seconds for the tree at 100,000 x 640", seconds, 15, at_most=True)
    peak = megabytes(lambda: grow(outputs(100_000, 11), "auto"))
    rows.add("MB for the tree at 100,000 x 640", peak, 2**31 / 1e6, at_most=True)


def _seconds(rows: Any) -> float:
    return cpu_seconds(lambda: grow(rows, "auto"))


def main() -> int:
    """Measure, print, and return 0 when every goal is met."""
    rows = Rows("clustering")
    all_of_nasbench_macro(rows)
    one_hundred_thousand(rows)
    return rows.finish()


if __name__ == "__main__":
    sys.exit(main())
