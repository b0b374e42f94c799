"""Average linkage of points on a line, without their pairs."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.estimation import FloatArray
from nas_ext.tree import BinaryTree

__all__ = ["line_tree"]


def line_tree(
    architectures: Sequence[Architecture], values: Sequence[float] | FloatArray
) -> BinaryTree:
    """Build the tree that average linkage makes of one number for each architecture.

    On a line the two clusters that are nearest are neighbours, and the mean distance between
    their members is the difference of their means: O(N log N) instead of all pairs. Of equally
    near neighbours the smaller ones are joined first, then the leftmost, so that equal values
    make a balanced tree and no chain. The left child has the higher values; a node's height is
    the distance it was joined at. Raises ValueError for values that are not finite, one each.
    """
    points = np.asarray(values, dtype=np.float64)
    if points.shape != (len(architectures),) or not np.isfinite(points).all():
        raise ValueError(
            f"values must be {len(architectures)} finite numbers, got shape {points.shape}"
        )
    order = np.argsort(-points, kind="stable").tolist()
    return BinaryTree(architectures, _joined(order, points))


def _joined(order: Sequence[int], points: FloatArray) -> list[tuple[int, int, float]]:
    """Return the merges of points whose places are given by falling value."""
    count = len(order)
    means = points[order].tolist()
    sizes, names = [1] * count, list(order)
    left, right = list(range(-1, count - 1)), list(range(1, count + 1))
    stamps = [0] * count
    """How often a cluster, known by the place of its first point, was changed."""

    def pair(one: int, two: int) -> tuple[float, int, int, int, int, int]:
        size = sizes[one] + sizes[two]
        return (means[one] - means[two], size, one, stamps[one], two, stamps[two])

    heap = [pair(place, place + 1) for place in range(count - 1)]
    heapq.heapify(heap)
    merges: list[tuple[int, int, float]] = []
    while heap:
        height, size, one, first, two, second = heapq.heappop(heap)
        if (stamps[one], stamps[two]) != (first, second):
            continue  # one of them was joined with its other neighbour since
        merges.append((names[one], names[two], max(height, 0.0)))
        means[one] = (sizes[one] * means[one] + sizes[two] * means[two]) / size
        sizes[one], names[one] = size, count + len(merges) - 1
        stamps[one], stamps[two] = stamps[one] + 1, -1
        right[one] = right[two]
        if right[one] < count:
            left[right[one]] = one
            heapq.heappush(heap, pair(one, right[one]))
        if left[one] >= 0:
            heapq.heappush(heap, pair(left[one], one))
    return merges
