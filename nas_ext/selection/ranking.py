"""Rankings by full evaluation: of the whole space, or of so many random architectures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.estimation import PerformanceEstimator
from nas_ext.samplers.base import distinct
from nas_ext.search import Ranked

__all__ = ["distinct_networks", "draw_distinct", "exhaustive", "random_k", "rank"]


def rank(
    estimator: PerformanceEstimator, architectures: Sequence[Architecture]
) -> tuple[Ranked, ...]:
    """Evaluate architectures on the whole validation set, best first, ties in their order.

    Raises ValueError when an accuracy is no finite number, or when there is nothing to rank.
    """
    if not architectures:
        raise ValueError("architectures must be at least one, got none")
    accuracies = estimator.accuracies(architectures)
    if not np.isfinite(accuracies).all():
        raise ValueError("accuracies must be finite, got NaN or infinity")
    order = np.argsort(-accuracies, kind="stable").tolist()
    return tuple(Ranked(architectures[i], float(accuracies[i])) for i in order)


def exhaustive(space: SearchSpace, estimator: PerformanceEstimator) -> tuple[Ranked, ...]:
    """Rank the whole space; ValueError when it is too large to be enumerated. Section 2.1."""
    return rank(estimator, space.enumerate())


def random_k(
    space: SearchSpace, estimator: PerformanceEstimator, *, count: int, rng: np.random.Generator
) -> tuple[Ranked, ...]:
    """Rank `count` different random architectures, or the whole space when it has no more.

    The thesis takes 50 ("one-shot search", section 4.6).
    """
    return rank(estimator, draw_distinct(space, count, rng))


def draw_distinct(
    space: SearchSpace, count: int, rng: np.random.Generator
) -> tuple[Architecture, ...]:
    """Return `count` different architectures, uniformly, or all when there are no more."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if space.size <= count:
        return tuple(space)
    if space.size <= 2**62:
        return tuple(space.at(int(i)) for i in rng.choice(space.size, count, replace=False))
    drawn: tuple[Architecture, ...] = ()
    while len(drawn) < count:  # repetitions are next to impossible in a space of this size
        drawn = distinct((*drawn, *(space.draw(rng) for _ in range(count - len(drawn)))))
    return drawn


def distinct_networks(space: SearchSpace, ranking: Sequence[Ranked]) -> tuple[Ranked, ...]:
    """Keep the first line of each network where several encodings mean the same one.

    In a supernet such encodings have weights and accuracies of their own: a ranking has them all,
    a report names a network once.
    """
    first: dict[Architecture, Ranked] = {}
    for line in ranking:
        first.setdefault(space.canonical(line.architecture), line)
    return tuple(first.values())
