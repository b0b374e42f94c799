"""What every sampler can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from nas_ext.architecture import Architecture, SearchSpace
from nas_ext.estimation import check_reward
from nas_ext.reward_shaping import RelativeReward

__all__ = ["Sampler", "distinct"]


class Sampler(ABC):
    """Say which architectures to train next, and learn from what they were worth.

    A new sampler overrides `ask` and `_update`, and `_state` / `_load_state` if it has state of
    its own. `load_state_dict(state_dict())` restores behaviour, the next draw included: the state
    of the random generator, which the whole search shares, is part of it. `relative` puts every
    reward against the running mean of all before `_update` sees it; a sampler that goes on where
    another ended goes on with its mean.
    """

    needs_reward: ClassVar[bool] = True
    """Whether rewards change anything; when not, nobody computes them."""

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        *,
        relative: RelativeReward | None = None,
    ) -> None:
        self.space = space
        self.rng = rng
        self.relative = relative

    @abstractmethod
    def ask(self) -> tuple[Architecture, ...]:
        """Return the architectures to train on the next batch: one, unless a method takes more."""

    def tell(self, architecture: Architecture, reward: float) -> None:
        """Learn the reward of an architecture, whoever drew it.

        Raises ValueError for a reward outside [0, 1], NaN, or an architecture that does not exist.
        """
        self._check(architecture)
        value = check_reward(reward)
        self._update(architecture, value if self.relative is None else self.relative(value))

    def _check(self, architecture: Architecture) -> None:
        """Raise ValueError for an architecture that the sampler cannot learn about."""
        self.space.check(architecture)

    @abstractmethod
    def _update(self, architecture: Architecture, reward: float) -> None:
        """Take a checked reward, made relative where that is asked for."""

    def candidates(self, count: int) -> tuple[Architecture, ...]:
        """Return up to `count` different architectures worth a full evaluation, best guess first.

        Here the whole space when it is no larger, else uniform draws.
        """
        if self.space.size <= count:
            return tuple(self.space)
        return distinct(self.space.draw(self.rng) for _ in range(count))

    def diagnostics(self) -> dict[str, float]:
        """Return numbers that show whether the sampler does what is meant, by name, if any."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as numbers, strings, lists and dicts."""
        shaping = {} if self.relative is None else {"relative": self.relative.state_dict()}
        return {"rng": self.rng.bit_generator.state, **shaping, **self._state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.rng.bit_generator.state = state["rng"]
        if self.relative is not None:
            self.relative.load_state_dict(state["relative"])
        self._load_state(state)

    def _state(self) -> dict[str, Any]:
        return {}

    def _load_state(self, state: dict[str, Any]) -> None:
        return None


def distinct(architectures: Iterable[Architecture]) -> tuple[Architecture, ...]:
    """Return the architectures without repetitions, in order of first appearance."""
    return tuple(dict.fromkeys(architectures))
