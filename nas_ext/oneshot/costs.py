"""A supernet whose rewards an expensive architecture gets less of."""

from __future__ import annotations

from typing import Any

from nas_ext.architecture import Architecture
from nas_ext.cost_aware import Cost, SoftConstraint
from nas_ext.oneshot.supernet import Supernet

__all__ = ["CostAwareSupernet"]


class CostAwareSupernet(Supernet):
    """Discount the single-batch rewards, and nothing else: accuracies stay accuracies."""

    def __init__(self, *args: Any, cost: Cost, constraint: SoftConstraint, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cost = cost
        self._constraint = constraint
        self._costs: dict[Architecture, float] = {}

    def reward(self, architecture: Architecture) -> float:
        """Return the discounted reward on the next validation batch."""
        reward = super().reward(architecture)
        if architecture not in self._costs:
            self._costs[architecture] = float(self._cost(architecture))
        return self._constraint(reward, self._costs[architecture])

    def check(self) -> None:
        """Read one validation batch, and ask one cost: before anything is trained."""
        super().check()
        self._constraint(1.0, float(self._cost(self.space.at(0))))
