"""Trees of architectures that are alike: learned from distances, or from the rows behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.cluster.hierarchy import linkage as scipy_linkage

from nas_ext.architecture import Architecture
from nas_ext.bilinear import Bilinear
from nas_ext.estimation import FloatArray
from nas_ext.tree.bisecting import LEAF_SIZE, bisecting_merges
from nas_ext.tree.merging import average_merges, room_for
from nas_ext.tree.nodes import BinaryTree

__all__ = ["EXACT", "Clustering", "Linkage", "cluster_rows", "cluster_tree"]

Linkage: TypeAlias = Literal["average", "complete", "ward"]

Clustering: TypeAlias = Literal["auto", "exact", "bisecting"]
"""Compare all pairs, or halve groups until they are small, or decide that by the number."""

EXACT = 20_000
"""The most architectures whose pairs "auto" compares: 2 GB of them."""

FEW = 1_500
"""Up to here scipy's linkage is faster than whole rows and columns."""


def cluster_tree(
    architectures: Sequence[Architecture], distances: FloatArray, *, method: Linkage = "average"
) -> BinaryTree:
    """Build the learned tree: agglomerative clustering of a condensed `[N (N-1) / 2]` vector.

    The linkage is not named in the source. Average suits divergences, which Ward's criterion
    (for Euclidean distances) does not; single linkage degenerates to a chain and is not offered.
    Section 3.6.
    """
    _check_linkage("method", method)
    count = len(architectures)
    if distances.shape != (count * (count - 1) // 2,):
        raise ValueError(
            f"distances must be the {count * (count - 1) // 2} pairs of {count} architectures, "
            f"got shape {distances.shape}"
        )
    if not (np.isfinite(distances).all() and (distances >= 0).all()):
        raise ValueError("distances must be finite and not negative")
    merges = np.empty((0, 3)) if count == 1 else scipy_linkage(distances, method=method)
    return _tree(architectures, merges)


def cluster_rows(
    architectures: Sequence[Architecture],
    rows: Bilinear,
    rng: np.random.Generator,
    *,
    clustering: Clustering = "auto",
    linkage: Linkage = "average",
    exact_up_to: int = EXACT,
) -> BinaryTree:
    """Build the learned tree from rows, one an architecture, whose products are the distance.

    "exact" compares all pairs, as `cluster_tree` does: O(N^2) time, and memory for N^2 numbers
    of 4 bytes and a quarter more, 8 bytes for other linkages than "average" (above 1,500
    architectures average linkage works in single precision). "bisecting" halves groups by 2-means
    and clusters groups of up to 64 exactly: O(N D log N) time, memory for the rows, and not the
    same tree; only with linkage "average". "auto" is "exact" for up to `exact_up_to`
    architectures and "bisecting" beyond. Which one it was stands in the tree's `origin`, and so
    in the results of a search. `rng` is used by "bisecting" alone. The second way is ours.
    """
    _check_linkage("linkage", linkage)
    count = len(architectures)
    if count != len(rows) or not count:
        raise ValueError(f"rows must be one for each of {count} architectures, got {len(rows)}")
    if clustering not in ("auto", "exact", "bisecting"):
        raise ValueError(f"clustering must be 'auto', 'exact' or 'bisecting', got {clustering!r}")
    if clustering == "auto":
        clustering = "exact" if count <= exact_up_to else "bisecting"
    origin: dict[str, Any] = {"clustering": clustering, "linkage": linkage}
    if clustering == "exact":
        return _tree(architectures, _exact_merges(rows, linkage), origin)
    if linkage != "average":
        raise ValueError(
            f"linkage must be 'average' for {count:,} architectures, which are clustered by "
            f"bisecting, got {linkage!r}"
        )
    merges = bisecting_merges(rows, rng)
    return _tree(architectures, merges, {**origin, "exact_groups_up_to": LEAF_SIZE})


def _exact_merges(rows: Bilinear, linkage: Linkage) -> FloatArray:
    """Return `[N - 1, 3]` merges of all pairs."""
    count = len(rows)
    if count == 1:
        return np.empty((0, 3))
    if linkage != "average" or count <= FEW:
        return np.asarray(scipy_linkage(rows.condensed(), method=linkage))
    room = room_for(count)
    matrix = np.empty((room, room), dtype=np.float32)
    rows.fill(matrix[:count, :count])
    return average_merges(matrix, count)


def _tree(
    architectures: Sequence[Architecture],
    merges: FloatArray,
    origin: dict[str, Any] | None = None,
) -> BinaryTree:
    """Return the tree of `[N - 1, 3]` merges, or more columns."""
    left, right, heights = merges[:, 0].astype(int), merges[:, 1].astype(int), merges[:, 2]
    table = list(zip(left.tolist(), right.tolist(), heights.tolist(), strict=True))
    return BinaryTree(architectures, table, origin=origin)


def _check_linkage(name: str, linkage: str) -> None:
    if linkage not in ("average", "complete", "ward"):
        raise ValueError(f"{name} must be 'average', 'complete' or 'ward', got {linkage!r}")
