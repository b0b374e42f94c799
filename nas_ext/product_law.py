"""A law over architectures that is one law per choice, conditioned on what exists."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace

__all__ = ["ProductLaw"]

MOST_STATES = 200_000
"""The most states of a space's rule that are summed over, some seconds' work."""


class ProductLaw:
    """Give each architecture a probability in proportion to the product of its options' weights.

    `log_weights` are logarithms, one for each option of each choice; minus infinity leaves an
    option out. A constant added to a choice changes nothing. The conditioning on the space's rule
    is exact, and the same law that rejection would give: sums run over (position, state), so
    nothing is listed and nothing rejected (of the products of fair coins over 9 layers, 7 % have
    two poolings). Raises ValueError for weights of another shape, NaN, or no architecture left.
    """

    def __init__(self, space: SearchSpace, log_weights: Sequence[Sequence[float]]) -> None:
        wanted = [len(choice.options) for choice in space.choices]
        given = [len(row) for row in log_weights]
        if given != wanted:
            raise ValueError(
                f"log_weights must be {wanted} numbers for space {space.name!r}, got {given}"
            )
        wrong = [v for row in log_weights for v in row if math.isnan(v) or v == math.inf]
        if wrong:
            raise ValueError(f"log_weights must be below infinity, got {wrong[0]}")
        space.check_states(MOST_STATES)
        self.space = space
        self._rows = log_weights
        self._sums: dict[tuple[int, Hashable], float] = {}
        self._maxima: dict[tuple[int, Hashable], float] = {}
        if self._below(0, space.start, self._sums, _log_sum) == -math.inf:
            raise ValueError("log_weights must leave an architecture, got -inf for all")

    def log_probability(self, architecture: Architecture) -> float:
        """Return the logarithm of an architecture's probability."""
        self.space.check(architecture)
        weight = sum(row[option] for row, option in zip(self._rows, architecture, strict=True))
        return weight - self._below(0, self.space.start, self._sums, _log_sum)

    def draw(self, rng: np.random.Generator) -> Architecture:
        """Draw one architecture."""
        return self._walk(self._sums, _log_sum, lambda scores: _pick(scores, rng.random()))

    def mode(self) -> Architecture:
        """Return the most probable architecture, ties to the lowest options."""
        return self._walk(self._maxima, max, lambda scores: scores.index(max(scores)))

    def _walk(
        self,
        known: dict[tuple[int, Hashable], float],
        join: Callable[[list[float]], float],
        choose: Callable[[list[float]], int],
    ) -> Architecture:
        state, chosen = self.space.start, []
        for position, row in enumerate(self._rows):
            following = list(self.space.branches(position, state))
            taken = choose(
                [row[o] + self._below(position + 1, s, known, join) for o, s, _ in following]
            )
            chosen.append(following[taken][0])
            state = following[taken][1]
        return tuple(chosen)

    def _below(
        self,
        position: int,
        state: Hashable,
        known: dict[tuple[int, Hashable], float],
        join: Callable[[list[float]], float],
    ) -> float:
        """Return the joined log weight of all completions of a prefix that ended in a state."""
        if position == len(self._rows):
            return 0.0
        key = (position, state)
        if key not in known:
            known[key] = join(
                [
                    self._rows[position][option] + self._below(position + 1, after, known, join)
                    for option, after, _ in self.space.branches(position, state)
                ]
            )
        return known[key]


def _log_sum(values: list[float]) -> float:
    """Return log(sum(exp(values))) without overflow; minus infinity for nothing but that."""
    highest = max(values)
    if highest == -math.inf:
        return highest
    return highest + math.log(sum(math.exp(value - highest) for value in values))


def _pick(scores: list[float], uniform: float) -> int:
    """Return an index in proportion to exp(scores), by a number drawn from [0, 1)."""
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    left = uniform * sum(weights)
    last = 0
    for index, weight in enumerate(weights):
        if weight > 0.0:
            if left < weight:
                return index
            left -= weight
            last = index
    return last
