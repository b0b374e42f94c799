"""Regularised evolution, step by step."""

from __future__ import annotations

from collections import deque
from itertools import combinations, product
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.benchmarks.mean_rewards import MeanRewardSampler

__all__ = ["EvolutionSampler", "neighbours"]


class EvolutionSampler(MeanRewardSampler):
    """Mutate the best of a tournament, and let the oldest die, not the worst.

    The first `population` draws are uniform; then `tournament` members are drawn with
    replacement, and a uniform neighbour of the one with the highest reward is trained and joins.
    Source: Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search",
    with its population of 100 and sample of 25. Departures: the mutation always changes the
    architecture, and it changes as few choices as the space allows (`neighbours`).
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        population: int = 100,
        tournament: int = 25,
    ) -> None:
        super().__init__(space, rng)
        for name, value in (("population", population), ("tournament", tournament)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.population: deque[tuple[Architecture, float]] = deque(maxlen=population)
        self.size = population
        self.tournament = tournament
        self._near: dict[Architecture, tuple[Architecture, ...]] = {}

    def ask(self) -> tuple[Architecture, ...]:
        if len(self.population) < self.size:
            return (self.space.draw(self.rng),)
        drawn = self.rng.integers(len(self.population), size=self.tournament).tolist()
        parent, _ = max((self.population[i] for i in drawn), key=lambda member: member[1])
        if parent not in self._near:
            self._near[parent] = neighbours(self.space, parent)
        near = self._near[parent]
        return (near[int(self.rng.integers(len(near)))],)

    def _update(self, architecture: Architecture, reward: float) -> None:
        super()._update(architecture, reward)
        self.population.append((architecture, reward))

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self.population = deque(self._told, maxlen=self.size)


def neighbours(space: SearchSpace, architecture: Architecture) -> tuple[Architecture, ...]:
    """Return the other architectures that differ in the fewest choices, in the space's order.

    One choice in a plain product; two where a pooling moves. Raises ValueError in a space of one
    architecture, which has none.
    """
    space.check(architecture)
    for changes in range(1, len(architecture) + 1):
        found = []
        for places in combinations(range(len(architecture)), changes):
            others = [
                [o for o in range(len(space.choices[p].options)) if o != architecture[p]]
                for p in places
            ]
            for options in product(*others):
                changed = list(architecture)
                for place, option in zip(places, options, strict=True):
                    changed[place] = option
                found.append(tuple(changed))
        if existing := sorted(a for a in found if a in space):
            return tuple(existing)
    raise ValueError(f"space {space.name!r} must have another architecture, it has {space.size}")
