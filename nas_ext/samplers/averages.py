"""Moving averages of the rewards of whole architectures, kept while something else draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.estimation import FloatArray
from nas_ext.samplers.tree import TreeSampler
from nas_ext.samplers.uniform import UniformSampler

__all__ = ["AveragedTreeSampler", "AveragedUniformSampler", "RewardAverages"]


class RewardAverages:
    """Hold e <- decay e + (1 - decay) r of each architecture, from its first reward."""

    def __init__(self, *, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self.values: dict[Architecture, float] = {}

    def add(self, architecture: Architecture, reward: float) -> None:
        """Move the average of an architecture."""
        before = self.values.get(architecture, reward)
        self.values[architecture] = self.decay * before + (1.0 - self.decay) * reward

    def of(self, architectures: Sequence[Architecture]) -> FloatArray:
        """Return the averages, `[N]`; who had no reward stands at the mean of those who had.

        The source does not say where they stand: there they are neither favoured nor lost.
        Raises ValueError when no reward was told.
        """
        if not self.values:
            raise ValueError("a reward must have been told before averages are asked, got none")
        mean = float(np.mean(list(self.values.values())))
        return np.asarray([self.values.get(a, mean) for a in architectures], dtype=np.float64)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages as lists."""
        return {"averages": [[list(a), value] for a, value in self.values.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.values = {tuple(a): float(value) for a, value in state["averages"]}


class AveragedUniformSampler(UniformSampler):
    """Draw uniformly, and ask for rewards to average them."""

    needs_reward: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        averages: RewardAverages,
        **settings: Any,
    ) -> None:
        super().__init__(space, rng, **settings)
        self.averages = averages

    def _update(self, architecture: Architecture, reward: float) -> None:
        super()._update(architecture, reward)
        self.averages.add(architecture, reward)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), **self.averages.state_dict()}

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self.averages.load_state_dict(state)


class AveragedTreeSampler(TreeSampler):
    """Walk down a tree, whose own values began with it, and average rewards from before it too."""

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        averages: RewardAverages,
        **settings: Any,
    ) -> None:
        super().__init__(space, rng, **settings)
        self.averages = averages

    def _update(self, architecture: Architecture, reward: float) -> None:
        super()._update(architecture, reward)
        self.averages.add(architecture, reward)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), **self.averages.state_dict()}

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self.averages.load_state_dict(state)
