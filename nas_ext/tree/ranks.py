"""Trees of architectures that are ranked by a score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_ext.architecture import Architecture
from nas_ext.tree.nodes import BinaryTree

__all__ = ["caterpillar_tree", "rank_tree"]


def rank_tree(architectures: Sequence[Architecture], accuracies: Sequence[float]) -> BinaryTree:
    """Build the tree of halves: the better half of a node is its left child, and so on down.

    Ties keep the given order. The depth is ceil(log2 N), where the printed "merge the two lowest
    ranks" makes a chain of depth N - 1. Section 4.1, D4-1.
    """
    order = _best_first(architectures, accuracies)
    merges: list[tuple[int, int, float]] = []

    def build(ranked: list[int]) -> int:
        if len(ranked) == 1:
            return ranked[0]
        half = len(ranked) // 2
        left, right = build(ranked[:half]), build(ranked[half:])
        merges.append((left, right, float(len(ranked))))
        return len(architectures) + len(merges) - 1

    build(order)
    return BinaryTree(architectures, merges)


def caterpillar_tree(
    architectures: Sequence[Architecture], accuracies: Sequence[float]
) -> BinaryTree:
    """Build the tree that chapter 4 prints: merge the two nodes of lowest average rank, repeat.

    For study. Rank 1 is the best and ties keep the given order, so that each merge joins all that
    was merged so far with the next architecture: a chain of depth N - 1 with the best at its
    bottom. The average rank of a node is its height. Section 4.1, D4-1.
    """
    order = _best_first(architectures, accuracies)
    merges: list[tuple[int, int, float]] = []
    chain = order[0]
    for place, following in enumerate(order[1:], start=2):
        merges.append((chain, following, (place + 1) / 2))
        chain = len(architectures) + len(merges) - 1
    return BinaryTree(architectures, merges)


def _best_first(architectures: Sequence[Architecture], accuracies: Sequence[float]) -> list[int]:
    """Return the places of the architectures by falling accuracy, ties in the given order."""
    scores = np.asarray(accuracies, dtype=np.float64)
    if scores.shape != (len(architectures),) or not np.isfinite(scores).all():
        raise ValueError(
            f"accuracies must be {len(architectures)} finite numbers, got shape {scores.shape}"
        )
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order
