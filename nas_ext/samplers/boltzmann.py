"""Boltzmann exploration over whole architectures, without a tree."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax

from nas_ext.architecture import Architecture, SearchSpace, below
from nas_ext.estimation import FloatArray
from nas_ext.reward_shaping import RelativeReward
from nas_ext.samplers.base import Sampler
from nas_ext.schedule import Schedule

__all__ = ["BoltzmannSampler"]


class BoltzmannSampler(Sampler):
    """Draw p(a) = softmax(eps_a / T), where eps_a is the moving average of the rewards of a.

    Only what was told has an entry: all others stand at the initial value together, so that a
    draw costs what was visited on a space of any size. `initial` None takes the first reward as
    an entry's value, and those not visited stand at 1. `temperature` None draws uniformly while
    rewards are learned. `after` hands over what another sampler knows. Equation 2.6, section 2.3.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        temperature: Schedule | None,
        decay: float,
        initial: float | None = 1.0,
        after: BoltzmannSampler | None = None,
        relative: RelativeReward | None = None,
    ) -> None:
        super().__init__(space, rng, relative=relative)
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.temperature = temperature
        self.decay = decay
        self.initial = initial
        self.step = 0
        self._known: list[Architecture] = []
        self._row: dict[Architecture, int] = {}
        self._visits: list[int] = []
        self._values = np.empty(64)
        self._places: list[int] = []
        if after is not None:
            self._load_table(after._table())

    def ask(self) -> tuple[Architecture, ...]:
        if self.temperature is None:
            chosen = self.space.draw(self.rng)
        else:
            chosen = self._draw(self.temperature(self.step))
        self.step += 1
        return (chosen,)

    def _log_masses(self, temperature: float) -> FloatArray:
        """Return the scores of all known, and last that of the others together, if any."""
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        scores = self._values[: len(self._known)] / temperature
        if unvisited := self.space.size - len(self._known):
            prior = 1.0 if self.initial is None else self.initial
            scores = np.append(scores, prior / temperature + math.log(unvisited))
        return scores

    def _draw(self, temperature: float) -> Architecture:
        scores = self._log_masses(temperature)
        masses = np.cumsum(np.exp(scores - scores.max()))
        row = int(np.searchsorted(masses, self.rng.random() * masses[-1], side="right"))
        row = min(row, len(masses) - 1)
        if row < len(self._known):
            return self._known[row]
        unvisited = self.space.size - len(self._known)
        return self.space.at(_missing(self._places, below(self.rng, unvisited)))

    def diagnostics(self) -> dict[str, float]:
        """Return how many were visited and, where draws follow values, how sharp their law is.

        Temperature of the last draw, and the largest probability and the perplexity, as a share
        of the space, of the law that this temperature makes of the values as they stand.
        """
        numbers = {"visited": float(len(self._known))}
        if self.temperature is None:
            return numbers
        temperature = self.temperature(max(0, self.step - 1))
        log_masses = log_softmax(self._log_masses(temperature))
        unvisited = self.space.size - len(self._known)
        entries = np.array(log_masses)
        if unvisited:
            entries[-1] -= math.log(unvisited)
        entropy = -float(np.exp(log_masses) @ entries)
        return {
            **numbers,
            "temperature": float(temperature),
            "maximum_share": float(np.exp(entries.max())),
            "perplexity": math.exp(entropy - math.log(self.space.size)),
        }

    def value(self, architecture: Architecture) -> float:
        """Return eps of an architecture; ValueError for one that was never told."""
        if architecture not in self._row:
            raise ValueError(f"architecture must have been told a reward, got {architecture}")
        return float(self._values[self._row[architecture]])

    def _update(self, architecture: Architecture, reward: float) -> None:
        if architecture not in self._row:
            self._add(architecture, 0, reward if self.initial is None else self.initial)
        row = self._row[architecture]
        self._values[row] = self.decay * self._values[row] + (1 - self.decay) * reward
        self._visits[row] += 1

    def _add(self, architecture: Architecture, visits: int, value: float) -> None:
        row = len(self._known)
        if row == len(self._values):
            self._values = np.concatenate([self._values, np.empty(row)])
        self._known.append(architecture)
        self._row[architecture] = row
        self._visits.append(visits)
        self._values[row] = value
        insort(self._places, self.space.index(architecture))

    def candidates(self, count: int) -> tuple[Architecture, ...]:
        """Return the highest values among the visited, ties in the space's order.

        The initial value is taken out first, as in `TreeSampler`. Raises ValueError when no
        reward was told yet.
        """
        if not self._known:
            raise ValueError("a reward must have been told to name candidates, got none")
        return tuple(sorted(self._known, key=lambda a: (-self._unbiased(a), a))[:count])

    def _unbiased(self, architecture: Architecture) -> float:
        value = self.value(architecture)
        if self.initial is None:
            return value
        left = self.decay ** self._visits[self._row[architecture]]
        return (value - left * self.initial) / (1 - left)

    def _table(self) -> list[list[Any]]:
        values = self._values[: len(self._known)].tolist()
        columns = zip(self._known, self._visits, values, strict=True)
        return [[list(architecture), visits, value] for architecture, visits, value in columns]

    def _load_table(self, rows: Sequence[Sequence[Any]]) -> None:
        self._known, self._row, self._visits, self._places = [], {}, [], []
        for architecture, visits, value in rows:
            self._add(tuple(architecture), int(visits), float(value))

    def _state(self) -> dict[str, Any]:
        return {"step": self.step, "values": self._table()}

    def _load_state(self, state: dict[str, Any]) -> None:
        self.step = int(state["step"])
        self._load_table(state["values"])


def _missing(taken: Sequence[int], place: int) -> int:
    """Return the number at a place, from 0, of those that a sorted list does not hold."""
    low, high = 0, len(taken)
    while low < high:
        middle = (low + high) // 2
        if taken[middle] - middle <= place:
            low = middle + 1
        else:
            high = middle
    return place + low
