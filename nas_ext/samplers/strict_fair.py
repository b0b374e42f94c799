"""Strict fairness: every option is trained equally often."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.pooling import IDENTITY, POOL, PoolingSpace
from nas_ext.samplers.base import distinct
from nas_ext.samplers.uniform import UniformSampler

__all__ = ["StrictFairSampler"]


class StrictFairSampler(UniformSampler):
    """Draw the architectures of one step together, so that they use every option equally often.

    On a free product, each choice deals its options in random permutations, and the k-th cards
    are the k-th of m architectures, m the largest number of options. A choice with fewer options
    deals the next permutation when one is used up, and goes on with the rest of it in the next
    step: its counts never differ by more than 1. (The literal padding, which throws that rest
    away, drifts apart.)

    On a pooling space that cannot be had: two poolings stand against seven layers without. There
    the positions are put on a random cycle, and the architectures of a step pool p neighbours
    each: for two poolings the edges of a random Hamiltonian cycle. With n positions that are n
    architectures, and each position is pooled p times a step. Every single architecture is
    uniform over the space in both cases, only their joint law is not.

    Raises ValueError for another space whose choices depend on each other. Section 4.2 (FairNAS).
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        super().__init__(space, rng)
        self.width = self.passes_per_step(space)
        self._dealt: list[list[int]] = [[] for _ in space.choices]

    @staticmethod
    def passes_per_step(space: SearchSpace) -> int:
        """Return how many architectures a step takes; ValueError where that is not defined."""
        if isinstance(space, PoolingSpace):
            return 1 if space.size == 1 else len(space.choices)
        if space.size != math.prod(len(choice.options) for choice in space.choices):
            raise ValueError(
                f"space {space.name!r} must be a free product or a pooling space for strict "
                f"fairness, only {space.size:,} of its products exist"
            )
        return max(len(choice.options) for choice in space.choices)

    def ask(self) -> tuple[Architecture, ...]:
        if isinstance(self.space, PoolingSpace):
            return self._cycle(self.space)
        hands = [self._deal(position) for position in range(len(self.space.choices))]
        return tuple(zip(*hands, strict=True))

    def _cycle(self, space: PoolingSpace) -> tuple[Architecture, ...]:
        positions = len(space.choices)
        cycle = self.rng.permutation(positions).tolist()
        drawn = []
        for first in range(positions):
            pooled = {cycle[(first + k) % positions] for k in range(space.poolings)}
            drawn.append(tuple(POOL if p in pooled else IDENTITY for p in range(positions)))
        return distinct(drawn)

    def _deal(self, position: int) -> list[int]:
        """Return the options of one choice for the architectures of this step."""
        waiting = self._dealt[position]
        while len(waiting) < self.width:
            waiting += self.rng.permutation(len(self.space.choices[position].options)).tolist()
        self._dealt[position] = waiting[self.width :]
        return waiting[: self.width]

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "dealt": [list(row) for row in self._dealt]}

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self._dealt = [[int(option) for option in row] for row in state["dealt"]]
