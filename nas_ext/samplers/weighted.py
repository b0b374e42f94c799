"""Sampling from one fixed law over an enumerated space."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.estimation import FloatArray
from nas_ext.samplers.base import Sampler
from nas_ext.samplers.uniform import UniformSampler
from nas_ext.sparsity import perplexity

__all__ = ["WeightedSampler"]

TAKEOVER = 0.5
"""The share of all draws from which one architecture has taken the search over."""


class WeightedSampler(UniformSampler):
    """Draw a ~ p, with `probabilities` `[N]` in the order of the space, whatever the rewards.

    Rewards that are told are averaged as the uniform sampler's are; `previous`, if it is one of
    its kind, hands its own over. Warns when one architecture gets more than half of all draws:
    the law then trains that one alone. Section 5.2, algorithm 5.1.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        probabilities: Sequence[float] | FloatArray,
        previous: Sampler | None = None,
    ) -> None:
        super().__init__(space, rng)
        self._set(probabilities)
        if isinstance(previous, UniformSampler):
            self._told = dict(previous._told)
        largest = int(self.probabilities.argmax())
        if self.probabilities[largest] > max(TAKEOVER, 2 / space.size):
            warnings.warn(
                f"architecture {space.describe(space.at(largest))} gets "
                f"{self.probabilities[largest]:.1%} of all draws, the perplexity is "
                f"{perplexity(self.probabilities):.3f} of the space: "
                "a flatter law would train the others too",
                stacklevel=2,
            )

    def _set(self, probabilities: Sequence[float] | FloatArray) -> None:
        law = np.asarray(probabilities, dtype=np.float64)
        if law.shape != (self.space.size,):
            raise ValueError(
                f"probabilities must be one for each of {self.space.size} architectures, "
                f"got shape {law.shape}"
            )
        if not (law >= 0).all() or not np.isclose(law.sum(), 1.0):
            raise ValueError(f"probabilities must be shares that sum to 1, got sum {law.sum()}")
        self.probabilities = law
        self._below = np.cumsum(law)

    def ask(self) -> tuple[Architecture, ...]:
        # The first whose cumulated share exceeds the draw: never one of probability zero.
        drawn = self.rng.random() * self._below[-1]
        return (self.space.at(int(np.searchsorted(self._below, drawn, side="right"))),)

    def diagnostics(self) -> dict[str, float]:
        """Return perplexity as a share of the space, and the largest and smallest probability."""
        return {
            "perplexity": perplexity(self.probabilities),
            "maximum_share": float(self.probabilities.max()),
            "minimum_share": float(self.probabilities.min()),
        }

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "probabilities": self.probabilities.tolist()}

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self._set(state["probabilities"])
