"""A tree's warm-up that draws from one fixed law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.estimation import FloatArray
from nas_ext.samplers.tree import TreeSampler
from nas_ext.samplers.weighted import WeightedSampler

__all__ = ["WeightedTreeSampler"]


class WeightedTreeSampler(TreeSampler):
    """Draw leaves a ~ p, with `probabilities` `[N]` in the order of the space, and keep the tree.

    The warm-up of `TreeSampler` with another law than the uniform one; `settings` are its other
    arguments. Rewards are not weighed against the law: the value of a node is a moving average
    over what was drawn below it. Ours: section 5.2's law in algorithm 3.1's warm-up.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        probabilities: Sequence[float] | FloatArray,
        **settings: Any,
    ) -> None:
        super().__init__(space, rng, temperature=None, **settings)
        self._law = WeightedSampler(space, rng, probabilities=probabilities)

    @property
    def probabilities(self) -> FloatArray:
        """Return the law, `[N]`."""
        return self._law.probabilities

    def ask(self) -> tuple[Architecture, ...]:
        self.step += 1
        return self._law.ask()

    def diagnostics(self) -> dict[str, float]:
        """Return what the law says of itself, see `WeightedSampler`."""
        return {**super().diagnostics(), **self._law.diagnostics()}

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "probabilities": self.probabilities.tolist()}

    def _load_state(self, state: dict[str, Any]) -> None:
        super()._load_state(state)
        self._law = WeightedSampler(self.space, self.rng, probabilities=state["probabilities"])
