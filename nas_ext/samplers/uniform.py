"""Uniform sampling over architectures."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers.base import Sampler

__all__ = ["UniformSampler"]


class UniformSampler(Sampler):
    """Draw a ~ U(S) over architectures, not over the branches of a tree. Equations 2.1, 5.1.

    Where encodings of one network repeat, the law is uniform over encodings, as in the thesis.
    Rewards change no draw; those that are told all the same are averaged, and `candidates` then
    names the highest means, which is random search.
    """

    needs_reward: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        relative: RelativeReward | None = None,
    ) -> None:
        super().__init__(space, rng, relative=relative)
        self._told: dict[Architecture, tuple[int, float]] = {}

    def ask(self) -> tuple[Architecture, ...]:
        return (self.space.draw(self.rng),)

    def _update(self, architecture: Architecture, reward: float) -> None:
        count, mean = self._told.get(architecture, (0, 0.0))
        self._told[architecture] = (count + 1, mean + (reward - mean) / (count + 1))

    def candidates(self, count: int) -> tuple[Architecture, ...]:
        """Return the highest mean rewards, ties in the space's order; with none told, draws."""
        if not self._told:
            return super().candidates(count)
        return tuple(sorted(self._told, key=lambda a: (-self._told[a][1], a))[:count])

    def _state(self) -> dict[str, Any]:
        return {"told": [[list(a), count, mean] for a, (count, mean) in self._told.items()]}

    def _load_state(self, state: dict[str, Any]) -> None:
        self._told = {tuple(a): (int(n), float(mean)) for a, n, mean in state["told"]}
