"""Rewards that an expensive architecture gets less of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nas_ext.architecture import Architecture
from nas_ext.estimation import FloatArray, PerformanceEstimator, check_reward

__all__ = ["NAMED", "Cost", "CostAware", "SoftConstraint", "constraint_of"]

Cost: TypeAlias = Callable[[Architecture], float]
"""From an architecture to what it costs: macs, parameters, seconds."""

NAMED = ("macs", "parameters")
"""The costs that are known by name: model spaces have closed forms of them."""


@dataclass(frozen=True)
class SoftConstraint:
    """Discount a reward by what its architecture costs above a target.

    The share is reward * min(1, target / cost)^weight, which stays in [0, 1]. Tan et al. 2019
    (MnasNet), equations 2 and 3: ACC (LAT / T)^w, w = alpha up to the target and beta above it.
    Here alpha = 0 and beta = -weight: what is cheaper than the target gains nothing, as in their
    hard constraint (0, -1), and what is dearer loses slowly, as in their soft one (-0.07, -0.07),
    whose own form rewards cheapness and so has values above 1. At 0.07 twice the target costs
    4.7 % of the reward; at 1 half of it.
    """

    target: float
    weight: float = 0.07

    def __post_init__(self) -> None:
        if not 0.0 < self.target < math.inf:
            raise ValueError(f"target must be positive, got {self.target}")
        if not 0.0 <= self.weight < math.inf:
            raise ValueError(f"weight must not be negative, got {self.weight}")

    def __call__(self, reward: float, cost: float) -> float:
        """Return the discounted reward; ValueError for a cost that is negative or no number."""
        if not 0.0 <= cost < math.inf:
            raise ValueError(f"cost must not be negative, got {cost}")
        value = check_reward(reward)
        return value if cost <= self.target else value * (self.target / cost) ** self.weight


def constraint_of(
    cost: Cost | str | None, cost_target: float | None, cost_weight: float
) -> SoftConstraint | None:
    """Return the constraint that the settings of a strategy ask for, None without a cost.

    Raises ValueError for a cost that is neither a function nor known by name, and for a target
    without a cost or the other way round.
    """
    if not (cost is None or callable(cost) or cost in NAMED):
        raise ValueError(f"cost must be one of {list(NAMED)} or a function, got {cost!r}")
    if not 0.0 <= cost_weight < math.inf:
        raise ValueError(f"cost_weight must not be negative, got {cost_weight}")
    if cost is None and cost_target is None:
        return None
    if cost is None:
        raise ValueError(f"cost must be given with a cost_target, got {cost_target}")
    if cost_target is None or not 0.0 < cost_target < math.inf:
        raise ValueError(f"cost_target must be positive with a cost, got {cost_target}")
    return SoftConstraint(cost_target, cost_weight)


class CostAware:
    """Be an estimator whose single-batch rewards are discounted, and nothing else.

    Accuracies stay accuracies: whoever ranks by them sees what the architectures can do.
    """

    def __init__(
        self, estimator: PerformanceEstimator, *, cost: Cost, constraint: SoftConstraint
    ) -> None:
        self.estimator = estimator
        self.cost = cost
        self.constraint = constraint

    def reward(self, architecture: Architecture) -> float:
        """Return the discounted reward on the next batch."""
        return self.constraint(self.estimator.reward(architecture), self.cost(architecture))

    def accuracies(
        self, architectures: Sequence[Architecture], *, batches: int | None = None
    ) -> FloatArray:
        """Return `[N]` shares on the validation set, not discounted."""
        return self.estimator.accuracies(architectures, batches=batches)

    def outputs(self, architectures: Sequence[Architecture]) -> FloatArray:
        """Return `[N, S, C]` logits, as the estimator gives them."""
        return self.estimator.outputs(architectures)

    def reinitialise(self) -> None:
        """Start the estimator's weights again."""
        self.estimator.reinitialise()
