"""What baselines that learn from single rewards share: which architectures they hold best."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.samplers import Sampler

__all__ = ["MeanRewardSampler"]


class MeanRewardSampler(Sampler):
    """Hold the architectures of the highest mean reward best, as random search does.

    Evolution and TPE would name the highest single reward. Under the noise of a batch that is
    the luckiest draw; the mean is the kinder answer to compare with.
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        super().__init__(space, rng)
        self._told: list[tuple[Architecture, float]] = []

    def _update(self, architecture: Architecture, reward: float) -> None:
        self._told.append((architecture, reward))

    def candidates(self, count: int) -> tuple[Architecture, ...]:
        """Return the highest mean rewards, ties in the space's order; with none told, draws."""
        if not self._told:
            return super().candidates(count)
        rewards: dict[Architecture, list[float]] = {}
        for architecture, reward in self._told:
            rewards.setdefault(architecture, []).append(reward)
        means = {a: math.fsum(told) / len(told) for a, told in rewards.items()}
        return tuple(sorted(means, key=lambda a: (-means[a], a))[:count])

    def _state(self) -> dict[str, Any]:
        return {"told": [[list(a), reward] for a, reward in self._told]}

    def _load_state(self, state: dict[str, Any]) -> None:
        self._told = [(tuple(a), float(reward)) for a, reward in state["told"]]
